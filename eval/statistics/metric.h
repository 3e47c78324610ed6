// What is known of a metric by its name: which way is better, what its values per item are, and how they become one figure.
#pragma once

#include "core/spread.h"
#include "eval/statistics/stats.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct kv_metric {
    const char *
        name; // as results.csv has it; one that ends in "@" is that of all that begin so; NULL: of every other metric
    const char *label;           // of an axis: what it is, and in what; NULL: its name
    const char *group, *heading; // of its column in a table; NULL: none, its name
    bool lower_is_better;
    bool share;      // of 1, shown in per cent
    bool nats;       // its values are nats: what a system keeps is the base's perplexity over its own
    bool perplexity; // its figure is e to the mean of its values
    bool by_weight;  // its mean weighs items by kv_item.weight
    bool drawn;      // has a panel of its own in pictures, where another metric of the task is the first
    bool whole;      // of all positions: where a system reads them as the base does, nothing is saved
} kv_metric;

// Never NULL: metrics without a row of their own are shares, of which more is better.
const kv_metric *kv_metric_of(const char *name);

// The figure that values[n] come to:
//   mean          Σ value / n
//   by_weight     Σ weight · value / Σ weight      (weights NULL: all alike)
//   perplexity    e^mean, which may be INFINITY
// NAN of no items.
double kv_metric_figure(const kv_metric *metric, const double *values, const double *weights, int64_t n);

// Its 95 % bootstrap interval (eval/statistics/stats.h), of items drawn n_resamples times: of a mean, of e to the mean, of a
// weighted sum over the weights'. NAN and errors as of kv_bootstrap_mean.
kv_status kv_metric_interval(const kv_metric *metric, const double *values, const double *weights, int64_t n,
                             int64_t n_resamples, uint64_t seed, kv_interval *interval, kv_error *err);

// The figure as something of which more is better, to compare and to rank by.
double kv_metric_score(const kv_metric *metric, double figure);

// "higher" or "lower": as files have it.
const char *kv_metric_better(const kv_metric *metric);

// What to multiply a figure by to show it: 100 of shares, which are shown in per cent.
double kv_metric_unit(const kv_metric *metric);

// What an axis of what is kept of it is called, in per cent: "exact match, share of the base's (%)".
enum { KV_METRIC_LABEL = 96 };
char *kv_metric_kept_label(const kv_metric *metric, const char *name, char text[KV_METRIC_LABEL]);

// Figures as tables show them: "57.3 %", "2.331" (nats, bits), "10.29" (a perplexity), "∞"; "-" of NAN. An interval: "51.2-63.0",
// "2.281-2.390", "8.7-∞". A mean over seeds with its standard deviation, where there are two: "57.3 ± 1.1 %".
enum { KV_METRIC_TEXT = 64 };
char *kv_metric_text(const kv_metric *metric, double figure, char text[KV_METRIC_TEXT]);
char *kv_metric_interval_text(const kv_metric *metric, double low, double high, char text[KV_METRIC_TEXT]);
char *kv_metric_spread_text(const kv_metric *metric, kv_spread spread, char text[KV_METRIC_TEXT]);

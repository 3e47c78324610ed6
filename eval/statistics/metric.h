// What is known of a metric by its name: which way is better, what its values per item are, and how they become one figure.
#pragma once

#include <stdbool.h>
#include <stdint.h>

typedef struct kv_metric {
    const char *name;  // as results.csv has it; NULL: of every metric without a row of its own
    const char *label; // of an axis: what it is, and in what; NULL: its name
    bool lower_is_better;
    bool share;      // of 1, shown in per cent
    bool nats;       // its values are nats: what a system keeps is the base's perplexity over its own
    bool perplexity; // its figure is e to the mean of its values
    bool by_weight;  // its mean weighs items by kv_item.weight
} kv_metric;

// Never NULL: metrics without a row of their own are shares, of which more is better.
const kv_metric *kv_metric_of(const char *name);

// The figure that values[n] come to:
//   mean          Σ value / n
//   by_weight     Σ weight · value / Σ weight      (weights NULL: all alike)
//   perplexity    e^mean
// NAN of no items.
double kv_metric_figure(const kv_metric *metric, const double *values, const double *weights, int64_t n);

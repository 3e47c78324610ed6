// A metric of a new kind is a row here; whoever shows, compares or ranks figures asks these rows and no names.
#include "eval/statistics/metric.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const kv_metric metrics[] = {
    {.name = "tail_nll",
     .label = "nats a token",
     .group = "tail",
     .heading = "nats",
     .lower_is_better = true,
     .nats = true},
    {.name = "tail_perplexity",
     .label = "perplexity",
     .group = "tail",
     .heading = "perplexity",
     .lower_is_better = true,
     .nats = true,
     .perplexity = true},
    {.name = "bits_per_byte",
     .label = "bits a byte",
     .group = "tail",
     .heading = "bits a byte",
     .lower_is_better = true,
     .by_weight = true},
    {.name = "whole_nll",
     .label = "nats a token, all positions",
     .group = "whole",
     .heading = "nats",
     .lower_is_better = true,
     .nats = true,
     .drawn = true,
     .whole = true},
    {.name = "whole_perplexity",
     .label = "perplexity, all positions",
     .group = "whole",
     .heading = "perplexity",
     .lower_is_better = true,
     .nats = true,
     .perplexity = true,
     .whole = true},
    {.name = "exact_match", .label = "exact match", .heading = "match", .share = true},
    {.name = "pass@", .share = true, .drawn = true},
};
enum { N_METRICS = sizeof metrics / sizeof *metrics };

static bool is_named(const kv_metric *metric, const char *name) {
    const size_t length = strlen(metric->name);
    if (metric->name[length - 1] == '@') return !strncmp(metric->name, name, length);
    return !strcmp(metric->name, name);
}

const kv_metric *kv_metric_of(const char *name) {
    static const kv_metric any = {.share = true};
    for (int i = 0; i < N_METRICS; i++)
        if (is_named(&metrics[i], name)) return &metrics[i];
    return &any;
}

double kv_metric_figure(const kv_metric *metric, const double *values, const double *weights, int64_t n) {
    double sum = 0, total = 0;
    for (int64_t i = 0; i < n; i++) {
        const double weight = metric->by_weight && weights ? weights[i] : 1;
        sum += weight * values[i];
        total += weight;
    }
    if (n < 1) return NAN;
    return metric->perplexity ? exp(sum / total) : sum / total;
}

static kv_status weighted_interval(const double *values, const double *weights, int64_t n,
                                   int64_t n_resamples, uint64_t seed, kv_interval *interval, kv_error *err) {
    double *weighted = calloc((size_t)n + 1, sizeof *weighted);
    *interval = (kv_interval){NAN, NAN};
    if (!weighted) return kv_fail(err, KV_ERR_MEMORY, "out of memory for %lld weights", (long long)n);
    for (int64_t i = 0; i < n; i++) weighted[i] = weights[i] * values[i];
    kv_status status = kv_bootstrap_ratio(weighted, weights, n, n_resamples, seed, interval, err);
    free(weighted);
    return status;
}

kv_status kv_metric_interval(const kv_metric *metric, const double *values, const double *weights, int64_t n,
                             int64_t n_resamples, uint64_t seed, kv_interval *interval, kv_error *err) {
    if (metric->by_weight && weights)
        return weighted_interval(values, weights, n, n_resamples, seed, interval, err);
    kv_status status = kv_bootstrap_mean(values, n, n_resamples, seed, interval, err);
    if (metric->perplexity) *interval = (kv_interval){exp(interval->low), exp(interval->high)};
    return status;
}

double kv_metric_score(const kv_metric *metric, double figure) {
    return metric->lower_is_better ? -figure : figure;
}

const char *kv_metric_better(const kv_metric *metric) {
    return metric->lower_is_better ? "lower" : "higher";
}

double kv_metric_unit(const kv_metric *metric) {
    return metric->share ? 100 : 1;
}

// ---- Texts ---------------------------------------------------------------------------------------------

char *kv_metric_kept_label(const kv_metric *metric, const char *name, char text[KV_METRIC_LABEL]) {
    if (metric->nats)
        snprintf(text, KV_METRIC_LABEL, "base's perplexity over the system's%s (%%)",
                 metric->whole ? ", all positions" : "");
    else
        snprintf(text, KV_METRIC_LABEL, "%s, %s (%%)", metric->label ? metric->label : name,
                 metric->lower_is_better ? "base's over the system's" : "share of the base's");
    return text;
}

// As many decimals as a difference between systems needs: of perplexities fewer the larger they are.
static void write_number(const kv_metric *metric, double figure, char *text, size_t size) {
    const double shown = kv_metric_unit(metric) * figure;
    const int decimals = metric->share         ? 1
                         : !metric->perplexity ? 3
                         : fabs(shown) < 100   ? 2
                         : fabs(shown) < 1000  ? 1
                                               : 0;
    if (isinf(figure))
        snprintf(text, size, "∞");
    else if (isnan(figure))
        snprintf(text, size, "-");
    else
        snprintf(text, size, fabs(shown) < 1e6 ? "%.*f" : "%.*g", fabs(shown) < 1e6 ? decimals : 3, shown);
}

char *kv_metric_text(const kv_metric *metric, double figure, char text[KV_METRIC_TEXT]) {
    write_number(metric, figure, text, KV_METRIC_TEXT);
    if (metric->share && isfinite(figure)) strcat(text, " %");
    return text;
}

char *kv_metric_spread_text(const kv_metric *metric, kv_spread spread, char text[KV_METRIC_TEXT]) {
    char mean[KV_METRIC_TEXT / 2 - 4], sd[KV_METRIC_TEXT / 2 - 4];
    if (!isfinite(spread.sd)) return kv_metric_text(metric, spread.mean, text);
    write_number(metric, spread.mean, mean, sizeof mean);
    write_number(metric, spread.sd, sd, sizeof sd);
    snprintf(text, KV_METRIC_TEXT, "%s ± %s%s", mean, sd, metric->share ? " %" : "");
    return text;
}

char *kv_metric_interval_text(const kv_metric *metric, double low, double high, char text[KV_METRIC_TEXT]) {
    char ends[2][KV_METRIC_TEXT / 2];
    const bool known = !isnan(low) && !isnan(high);
    write_number(metric, low, ends[0], sizeof ends[0]);
    write_number(metric, high, ends[1], sizeof ends[1]);
    snprintf(text, KV_METRIC_TEXT, "%s%s%s", known ? ends[0] : "-", known ? "-" : "", known ? ends[1] : "");
    return text;
}

// A metric of a new kind is a row here; whoever shows, compares or ranks figures asks these rows and no names.
#include "eval/statistics/metric.h"

#include <math.h>
#include <string.h>

static const kv_metric metrics[] = {
    {.name = "tail_nll", .label = "nats a token", .lower_is_better = true, .nats = true},
    {.name = "tail_perplexity",
     .label = "perplexity",
     .lower_is_better = true,
     .nats = true,
     .perplexity = true},
    {.name = "bits_per_byte", .label = "bits a byte", .lower_is_better = true, .by_weight = true},
    {.name = "whole_nll", .label = "nats a token, all positions", .lower_is_better = true, .nats = true},
    {.name = "whole_perplexity",
     .label = "perplexity, all positions",
     .lower_is_better = true,
     .nats = true,
     .perplexity = true},
    {.name = "exact_match", .label = "exact match", .share = true},
};
enum { N_METRICS = sizeof metrics / sizeof *metrics };

const kv_metric *kv_metric_of(const char *name) {
    static const kv_metric any = {.share = true};
    for (int i = 0; i < N_METRICS; i++)
        if (!strcmp(metrics[i].name, name)) return &metrics[i];
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

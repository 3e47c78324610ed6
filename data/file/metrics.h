// metrics.jsonl of kvtrain, read while it may still be written: a last line that is not ended, or broken, does not count.
//
// Two kinds of lines: {"step", "lr", and of task kvp "lr_aux", ... (the rates of groups of weights), "loss", terms..., "grad_norm", "tokens_per_second",
// "gflops_per_second", "seconds"; of several ranks "waiting", a share of the time} of a training step, and {"step", "validation": {"loss", terms...,
// "key_error", "value_error"}, "validation_seconds", "seconds"} of a pass over held-out text.
#pragma once

#include "core/status.h"

#include <jansson.h>
#include <stdint.h>

typedef struct kv_metrics_column {
    char name[48];
    double *values; // [n], NAN where a line lacks it
} kv_metrics_column;

// Numbers of one kind of line, in the order they came in. Of a list ("key_error") each entry is a column (key_error_0).
typedef struct kv_metrics_table {
    int64_t n, capacity; // lines
    int64_t *steps;      // [n]
    int n_columns;
    kv_metrics_column *columns; // in the order of the first line that has each
    json_t *last;               // the last line; NULL: none
} kv_metrics_table;

typedef struct kv_metrics {
    kv_metrics_table training;
    kv_metrics_table validation; // what is in "validation", and "validation_seconds", "seconds"
    int64_t best;                // line of the lowest validation loss, the first of equal ones; -1: none
} kv_metrics;

// KV_ERR_FORMAT names file and line. Free with kv_metrics_free, also after a failure.
kv_status kv_metrics_read(const char *path, kv_metrics *metrics, kv_error *err);
void kv_metrics_free(kv_metrics *metrics);

// Values of a column [n], NULL where no line has it.
const double *kv_metrics_values(const kv_metrics_table *table, const char *name);
// Its last value and the mean of the last `window` lines that have it; NAN: none.
double kv_metrics_last(const kv_metrics_table *table, const char *name);
double kv_metrics_mean(const kv_metrics_table *table, const char *name, int64_t window);
double kv_metrics_sum(const kv_metrics_table *table, const char *name);

// What a curve found out, from the results of its evaluation: a row for the base, one for an aux alone, one a depth.
#pragma once

#include "eval/results/results.h"

typedef struct kv_curve_row {
    const char *name;
    int64_t n_layers;      // that read the prompt; 0: the base, all of them; -1: the aux
    double reduction;      // of FLOPs up to the first token
    kv_figure tail, whole; // nats
    double way[2];         // of tail and whole, from the aux alone (0) to the base (1); NAN without an aux
    double seconds, spread, time_reduction; // to the first token; NAN: not measured
    double bytes;                           // of the predictor's weights in memory
    double explained[2];                    // of the variance of keys and of values; NAN: not known
} kv_curve_row;

// rows[results->n_systems]: the base's is the first, then, with has_aux, the aux's, then those of depths.
// bytes[n_systems], explained[n_systems].
void kv_curve_rows(const kv_results *results, bool has_aux, const int64_t *depths, const double *bytes,
                   double (*explained)[2], kv_curve_row *rows);

void kv_curve_tables(const kv_curve_row *rows, int64_t n, kv_tables *tables);
kv_status kv_curve_write_csv(const kv_curve_row *rows, int64_t n, const char *path, kv_error *err);
// As JSON, [{…}, …]; NULL when out of memory.
json_t *kv_curve_json(const kv_curve_row *rows, int64_t n);

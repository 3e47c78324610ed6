// How near a system's predicted caches are to the base's own, as one number, and whether what systems keep of their base goes
// with it.
//
// arXiv 2608.03893 reports, over pairs of models, that it does not go with explained variance (r = -0.20) but with the cosine
// of attention outputs (r = +0.57).
#pragma once

#include "eval/results/results.h"
#include "eval/statistics/correlation.h"

// Means over predicted layers (kv_cache_analysis_layer_mean).
typedef enum kv_fidelity {
    KV_FIDELITY_COSINE,    // of attention outputs
    KV_FIDELITY_EXPLAINED, // explained variance, the mean of keys' and values'
    KV_FIDELITY_KEYS,      // of keys, after k_norm
    KV_FIDELITY_VALUES
} kv_fidelity;
enum { KV_FIDELITIES = 4, KV_FIDELITIES_DRAWN = 2 }; // the first of them have a panel in pictures

typedef struct kv_fidelity_kind {
    const char *name;    // in files
    const char *heading; // of columns
    const char *label;   // of an axis
} kv_fidelity_kind;
extern const kv_fidelity_kind kv_fidelity_kinds[KV_FIDELITIES];

// NAN where the system was not looked at.
double kv_fidelity_of(const kv_results *results, int64_t system, kv_fidelity which);

// Whether systems were looked at and also asked something.
bool kv_results_have_fidelity(const kv_results *results);

// The metrics that what is kept is compared by: the first of every task, and those that are drawn beside it.
bool kv_fidelity_compares(const kv_results *results, int64_t task, int metric);

// Of all systems that have both numbers.
typedef struct kv_fidelity_link {
    int64_t n; // of systems
    double pearson, spearman;
    kv_interval interval; // 95 % of pearson
} kv_fidelity_link;
kv_status kv_fidelity_link_of(const kv_results *results, int64_t task, int metric, kv_fidelity which,
                              kv_fidelity_link *link, kv_error *err);

// ---- Files and the terminal ----------------------------------------------------------------------------

// A row for each task and metric; nothing where fewer than 3 systems have both numbers.
void kv_fidelity_tables(const kv_results *results, kv_tables *tables);

// fidelity.csv: a row per system, task, split and metric, what is kept and how near its caches are. correlations.csv: a row
// per task, split, metric and kind. Numbers that could not be had are empty.
kv_status kv_fidelity_write_csv(const kv_results *results, const char *path, kv_error *err);
kv_status kv_fidelity_write_correlations(const kv_results *results, const char *path, kv_error *err);

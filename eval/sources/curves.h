// What was found out about how many layers of an auxiliary model it takes to explain a base's keys and values: as a table, as
// CSV and as a picture.
#pragma once

#include "data/table/table.h"
#include "eval/plot/plot.h"

#include <stdint.h>

// What the regressions read of the aux's layers.
typedef enum kv_source_set {
    KV_SET_KV,    // keys from keys, values from values
    KV_SET_HIDDEN // both from the normed inputs of layers
} kv_source_set;
enum { KV_SOURCE_SETS = 2, KV_SOURCE_COUNTS = 32 };
extern const char *const kv_source_set_names[KV_SOURCE_SETS]; // "kv", "h"

// Keys or values of all layers of the base, from one kind of sources. Explained variances are those of the regressions on the
// first counts[c] layers of order[i], 1 - Σ residual² / Σ (y - mean)², of keys before k_norm: on the text that they were solved
// on, and on text that they never saw (about its own mean).
typedef struct kv_source_curve {
    int32_t *order;         // [n_layers, n_sources] layers of the aux, the one that was taken first first
    double *fit, *held_out; // [n_layers, n_counts]
} kv_source_curve;

typedef struct kv_source_curves {
    int64_t n_layers, n_sources; // of the base; of the aux
    int64_t n_counts, counts[KV_SOURCE_COUNTS];
    bool read[KV_SOURCE_SETS];               // which there are
    kv_source_curve side[KV_SOURCE_SETS][2]; // keys, values
    int64_t tokens, held_out;                // that were read
    double ridge;
    const char *text, *order; // borrowed; order: "ranked", "greedy"
} kv_source_curves;

// Room for the sizes and kinds that are set. false when out of memory; kv_source_curves_free takes it back in any case.
bool kv_source_curves_make(kv_source_curves *curves);
void kv_source_curves_free(kv_source_curves *curves);

// A table for people, and one for programs.
void kv_source_curves_tables(const kv_source_curves *curves, kv_tables *tables);
// sources.csv: a row per kind, keys or values, base layer and count; and sources.svg, .png, .pdf, .gp, .dat: the mean over the layers on
// text that was held out, with the span from the worst layer to the best. note as of kv_plot_draw.
kv_status kv_source_curves_write(const kv_source_curves *curves, const char *dir, char note[KV_PLOT_NOTE],
                                 kv_error *err);

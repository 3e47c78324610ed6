// How far predicted caches are from the base's own, on text both models read: what `analysis` in an
// evaluation's config asks for. Per layer of the base, for keys (after its k_norm, before RoPE) and values,
// with error = predicted - true                                                [paper figures 6 and 7]
// and for what attention makes of them.
#pragma once

#include "core/status.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

enum { KV_ANALYSIS_MAX_BINS = 10000 };

// Of keys, or of values. A number that is not finite among the predicted ones makes those it is part of NAN
// and is counted in no bin.
typedef struct kv_error_figures {
    double *error;     // [n_layers, seq_len] mean |error| over sequences and features, by position
    double *histogram; // [n_layers, bins] counts of errors; the outermost bins hold all beyond them, too
    double *edges;     // [n_layers, bins + 1] rising, symmetric about 0
    // [n_layers] 1 - Σ error² / Σ (true - mean of its feature)², both over tokens and features: what
    // least squares call R², but of this text. Below 0: the mean would be nearer. NAN: nothing varies.
    double *explained;
    double *magnitude; // [n_layers] mean |true|
} kv_error_figures;

typedef struct kv_cache_analysis {
    int64_t n_layers; // of the base; 0: this system was not looked at
    kv_error_figures key, value;
    // [n_layers] mean over tokens and heads of cos(attention output with the predicted cache, with the true
    // one), before the output projection, queries of the base reading its own cache. Files of before it was
    // measured: NAN.
    double *attention_cosine;
    double
        *predicted; // [n_layers] 1, or 0 of a layer whose cache is the base's own (then all of it is exact)
} kv_cache_analysis;

typedef struct kv_analysis {
    char *corpus;                     // path of the text, for people; NULL: there was no analysis
    char hash[17];                    // of its tokens that were read
    int64_t sequences, seq_len, bins; // what was read of it: rows of fixed packing (data/corpus/packing.h)
    kv_cache_analysis *systems;       // [n_systems]
} kv_analysis;

// Room for n_systems, none of them looked at yet; the caller fills in the rest. kv_analysis_free takes it
// back and is happy with zeros.
kv_status kv_analysis_init(kv_analysis *analysis, int64_t n_systems, kv_error *err);
void kv_analysis_free(kv_analysis *analysis, int64_t n_systems);

// Room for one system's arrays, of the sizes that the analysis says, zeroed. kv_cache_analysis_free accepts
// zeros.
kv_status kv_cache_analysis_init(kv_cache_analysis *errors, int64_t n_layers, const kv_analysis *analysis,
                                 kv_error *err);
void kv_cache_analysis_free(kv_cache_analysis *errors);

// The arrays one by one, for whoever stores them: 0 to KV_CACHE_ARRAYS - 1, named as in results.h5
// ("key_error", ...), [n_layers, columns]; columns 0: [n_layers].
enum { KV_CACHE_ARRAYS = 12 };
typedef struct kv_analysis_array {
    const char *name;
    double *values;
    int64_t columns, size; // size: of all of it
    bool counts;           // whole numbers
    bool optional;         // older files have none: `missing` stands for all of it
    double missing;
} kv_analysis_array;
kv_analysis_array kv_cache_analysis_array(const kv_cache_analysis *errors, const kv_analysis *analysis,
                                          int i);

// Mean of n numbers.
double kv_cache_analysis_mean(const double *values, int64_t n);
// Mean over the predicted layers of an array with `columns` numbers of each: an exact layer says nothing about a
// predictor. NAN where there is none.
double kv_cache_analysis_layer_mean(const kv_cache_analysis *errors, const double *values, int64_t columns);
int64_t kv_cache_analysis_n_predicted(const kv_cache_analysis *errors); // how many those are

// Whether two analyses are of the same text, read the same way: only then do they go together.
bool kv_analysis_same(const kv_analysis *a, const kv_analysis *b);

// Copies what `from`, of n_from systems, found: system i becomes system place[i] of `to`. Where `to` has
// something already, or is of other text, it stays as it is. false when out of memory.
bool kv_analysis_merge(kv_analysis *to, int64_t n_to, const kv_analysis *from, int64_t n_from,
                       const int64_t *place);

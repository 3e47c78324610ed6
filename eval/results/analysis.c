// The arrays of an analysis are stored in three places (journal, results.h5, memory); kv_cache_analysis_array
// is the one list of them.
#include "eval/results/analysis.h"

#include <assert.h>
#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

// ---- What there is of each system ----------------------------------------------------------------------

static const struct layout {
    const char *name;
    size_t member; // of kv_cache_analysis
    enum { LAYERS, POSITIONS, BINS, EDGES } columns;
    bool counts, optional;
    double missing;
} layouts[] = {
#define OF_SIDE(side)                                                                                        \
    {#side "_error", offsetof(kv_cache_analysis, side.error), POSITIONS, false, false, 0},                   \
        {#side "_histogram", offsetof(kv_cache_analysis, side.histogram), BINS, true, false, 0},             \
        {#side "_edges", offsetof(kv_cache_analysis, side.edges), EDGES, false, false, 0},                   \
        {#side "_explained", offsetof(kv_cache_analysis, side.explained), LAYERS, false, false, 0}, {        \
#side "_magnitude", offsetof(kv_cache_analysis, side.magnitude), LAYERS, false, false, 0             \
    }
    OF_SIDE(key),
    OF_SIDE(value),
    {"attention_cosine", offsetof(kv_cache_analysis, attention_cosine), LAYERS, false, true, NAN},
    {"predicted", offsetof(kv_cache_analysis, predicted), LAYERS, true, true, 1},
};
static_assert(sizeof layouts / sizeof *layouts == KV_CACHE_ARRAYS, "every array has a row");

static int64_t columns_of(const struct layout *layout, const kv_analysis *analysis) {
    switch (layout->columns) {
    case POSITIONS: return analysis->seq_len;
    case BINS: return analysis->bins;
    case EDGES: return analysis->bins + 1;
    default: return 0;
    }
}

static double **place_of(kv_cache_analysis *errors, int i) {
    return (double **)((char *)errors + layouts[i].member);
}

kv_analysis_array kv_cache_analysis_array(const kv_cache_analysis *errors, const kv_analysis *analysis,
                                          int i) {
    const struct layout *layout = &layouts[i];
    const int64_t columns = columns_of(layout, analysis);
    return (kv_analysis_array){.name = layout->name,
                               .values = *place_of((kv_cache_analysis *)errors, i),
                               .columns = columns,
                               .size = errors->n_layers * (columns ? columns : 1),
                               .counts = layout->counts,
                               .optional = layout->optional,
                               .missing = layout->missing};
}

double kv_cache_analysis_mean(const double *values, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += values[i];
    return n > 0 ? sum / (double)n : NAN;
}

double kv_cache_analysis_layer_mean(const kv_cache_analysis *errors, const double *values, int64_t columns) {
    double sum = 0;
    int64_t n = 0;
    for (int64_t i = 0; i < errors->n_layers; i++) {
        if (errors->predicted[i] == 0) continue;
        sum += kv_cache_analysis_mean(values + i * columns, columns);
        n++;
    }
    return n > 0 ? sum / (double)n : NAN;
}

int64_t kv_cache_analysis_n_predicted(const kv_cache_analysis *errors) {
    int64_t n = 0;
    for (int64_t i = 0; i < errors->n_layers; i++) n += errors->predicted[i] != 0;
    return n;
}

// ---- Memory --------------------------------------------------------------------------------------------

kv_status kv_cache_analysis_init(kv_cache_analysis *errors, int64_t n_layers, const kv_analysis *analysis,
                                 kv_error *err) {
    *errors = (kv_cache_analysis){.n_layers = n_layers};
    bool ok = true;
    for (int i = 0; i < KV_CACHE_ARRAYS && ok; i++) {
        const int64_t size = kv_cache_analysis_array(errors, analysis, i).size;
        double *values = calloc((size_t)size + 1, sizeof *values);
        *place_of(errors, i) = values;
        ok = values != NULL;
    }
    if (ok) return KV_OK;
    kv_cache_analysis_free(errors);
    return kv_fail(err, KV_ERR_MEMORY, "out of memory for the errors of %lld layers", (long long)n_layers);
}

void kv_cache_analysis_free(kv_cache_analysis *errors) {
    for (int i = 0; i < KV_CACHE_ARRAYS; i++) free(*place_of(errors, i));
    *errors = (kv_cache_analysis){0};
}

kv_status kv_analysis_init(kv_analysis *analysis, int64_t n_systems, kv_error *err) {
    *analysis = (kv_analysis){.systems = calloc((size_t)n_systems + 1, sizeof *analysis->systems)};
    return analysis->systems
               ? KV_OK
               : kv_fail(err, KV_ERR_MEMORY, "out of memory for %lld systems", (long long)n_systems);
}

void kv_analysis_free(kv_analysis *analysis, int64_t n_systems) {
    for (int64_t i = 0; analysis->systems && i < n_systems; i++)
        kv_cache_analysis_free(&analysis->systems[i]);
    free(analysis->systems);
    free(analysis->corpus);
    *analysis = (kv_analysis){0};
}

// ---- Several become one --------------------------------------------------------------------------------

bool kv_analysis_same(const kv_analysis *a, const kv_analysis *b) {
    return !strcmp(a->hash, b->hash) && a->sequences == b->sequences && a->seq_len == b->seq_len &&
           a->bins == b->bins;
}

static bool copy_errors(kv_cache_analysis *to, const kv_cache_analysis *from, const kv_analysis *analysis) {
    if (kv_cache_analysis_init(to, from->n_layers, analysis, NULL) != KV_OK) return false;
    for (int i = 0; i < KV_CACHE_ARRAYS; i++) {
        const kv_analysis_array array = kv_cache_analysis_array(from, analysis, i);
        memcpy(*place_of(to, i), array.values, (size_t)array.size * sizeof *array.values);
    }
    return true;
}

bool kv_analysis_merge(kv_analysis *to, int64_t n_to, const kv_analysis *from, int64_t n_from,
                       const int64_t *place) {
    if (!from->corpus || (to->corpus && !kv_analysis_same(to, from))) return true;
    if (!to->corpus) {
        if (kv_analysis_init(to, n_to, NULL) != KV_OK) return false;
        memcpy(to->hash, from->hash, sizeof to->hash);
        to->sequences = from->sequences, to->seq_len = from->seq_len, to->bins = from->bins;
        to->corpus = strdup(from->corpus);
    }
    bool ok = to->corpus != NULL;
    for (int64_t s = 0; s < n_from && ok; s++) {
        kv_cache_analysis *own = &to->systems[place[s]];
        if (from->systems[s].n_layers > 0 && own->n_layers == 0) ok = copy_errors(own, &from->systems[s], to);
    }
    return ok;
}

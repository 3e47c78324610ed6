// Reading with a cache, token by token in double precision, every layer's attention as a whole matrix: what
// pruning is measured against. Written from the description in core/README.md §6, not from infer/.
#pragma once

#include "infer/session/prune.h"
#include "tests/support/numbers/reference_model.h"

typedef struct ref_reader {
    ref_model m;
    int64_t n, capacity;
    int32_t *positions;                    // [capacity]
    int64_t *depth;                        // [capacity] layers gone through
    double *x;                             // [capacity, model_dim] input to layer `depth`
    double *k[REF_LAYERS], *v[REF_LAYERS]; // [capacity, kv_dim]
    // Of the last ref_read.
    bool *active[REF_LAYERS]; // [capacity] tokens of each layer
    int64_t n_active[REF_LAYERS], n_processed[REF_LAYERS];
    int32_t *seen[REF_LAYERS]; // [capacity] how many of the active tokens each of those processed saw
    // [capacity] Σ over the first quarter of the layers and all queries, mean over heads.
    double *mean_importance;
    double *max_importance; // [capacity] from the newest token, the largest of all layers and heads
} ref_reader;

ref_reader ref_reader_make(kv_model *model, int64_t capacity);
void ref_reader_free(ref_reader *r);

// n tokens at `positions` (NULL: the next ones). lazy: as LazyLLM does; NULL: nothing is left out. logits
// [vocab_size] of the newest.
void ref_read(ref_reader *r, const int32_t *ids, const int32_t *positions, int64_t n, const kv_pruning *lazy,
              double *logits);

// flags[n]: the last one, `also_first` or not, and the best others up to `kept`, found one by one.
void ref_keep_best(const double *scores, int64_t n, int64_t kept, bool also_first, bool *flags);

// Speculative Prefill's choice among n tokens, kept >= 2.
void ref_keep_chunks(const double *scores, int64_t n, int64_t window, int64_t chunk, int64_t kept,
                     bool *flags);

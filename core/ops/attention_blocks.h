// What the operators over queries and keys share (attention.c, attention_backward.c, attention_importance.c): which rows
// belong to which sequence and head, keys and queries turned to their positions, and the products of tiles of them,
// which go to the kernels of core/gemm/kernels.h directly: as they lie, or in panels that stay in a cache.
//
// An element of such a product is a sum whose order its length alone decides, so what becomes of a query does not
// depend on the queries it is computed with, nor on threads.
#pragma once

#include "core/gemm/kernels.h"
#include "core/ops.h"

enum {
    KV_STRIP_ROWS =
        24, // of the queries that are masked together, all heads of a KV head: see kv_attention_flops
    KV_KEY_TILE = 128, // keys at a time
};

// L = m + ln l in two parts: rounded to one float, large scores would lose the digits that matter.
struct kv_attention_lse {
    float max, log_sum;
};

// Everything the loops over blocks need to know about the call.
struct kv_attention_geometry {
    kv_attention_args args;
    const kv_kernels *kernels;
    int64_t group, strip; // query heads per KV head; queries per strip
    int64_t q_dim, kv_dim;
    int64_t padded; // head_dim, to whole panels
    const float *q, *k;
    // attention.c and attention_backward.c only
    const float *v;
    struct kv_attention_lse *lse; // [n_heads, lse_stride], or NULL
    int64_t lse_stride;
};

static inline int64_t kv_min64(int64_t a, int64_t b) {
    return a < b ? a : b;
}

// To whole panels; also what keeps the parts of a thread's scratch apart by whole cache lines.
static inline int64_t kv_whole_panels(int64_t n) {
    return (n + KV_PANEL - 1) / KV_PANEL * KV_PANEL;
}

// The next n floats of a thread's scratch, of which *used are taken; of no scratch (NULL) they are only counted.
static inline float *kv_take_floats(float *scratch, int64_t *used, int64_t n) {
    float *taken = scratch ? scratch + *used : NULL;
    *used += kv_whole_panels(n);
    return taken;
}

static inline int64_t kv_queries_per_strip(int64_t group) {
    return KV_STRIP_ROWS / group > 1 ? KV_STRIP_ROWS / group : 1;
}

// How many keys of its sequence the query t of a sequence sees.
static inline int64_t kv_visible_keys(const kv_attention_args *a, const kv_sequence *seq, int64_t t) {
    return a->visible ? a->visible[seq->q_row + t] : seq->k_len - seq->q_len + t + 1;
}

// The rows of queries t0 .. t0 + queries of all heads that share a KV head, stacked: row (t - t0) · group + h is that of
// query t, head h.
struct kv_stacked {
    int64_t sequence, kv_head;
    int64_t t0, queries;
};

// How many of the `width` keys from key j0 on are seen by the query that a stacked row is of.
static inline int64_t kv_seen(const struct kv_attention_geometry *g, const struct kv_stacked *b, int64_t row,
                              int64_t j0, int64_t width) {
    const kv_sequence *seq = &g->args.sequences[b->sequence];
    const int64_t seen = kv_visible_keys(&g->args, seq, b->t0 + row / g->group) - j0;
    return seen < 0 ? 0 : kv_min64(seen, width);
}

// Checks that every position lies in the table of angles. False when one does not, which is noted on the tape.
bool kv_attention_prepare(kv_tape *tape, const kv_attention_args *args, const float *q, const float *k,
                          struct kv_attention_geometry *g);

// Whether there are enough scores to be worth waking other threads for.
bool kv_attention_together(const kv_attention_args *args);

// Keys j0 .. j0 + n of a sequence and KV head, turned, as rows `ld` apart; columns behind head_dim are zero.
void kv_turned_keys(const struct kv_attention_geometry *g, int64_t sequence, int64_t kv_head, int64_t j0,
                    int64_t n, float *rows, int64_t ld);

// n rows of head_dim columns as panels [n / 16, head_dim, 16], the last one filled up with zeros.
void kv_row_panels(const struct kv_attention_geometry *g, const float *rows, int64_t ld, int64_t n,
                   float *panels);

// The turned keys as panels. `rows` has room for 16 rows of head_dim.
void kv_key_panels(const struct kv_attention_geometry *g, int64_t sequence, int64_t kv_head, int64_t j0,
                   int64_t n, float *rows, float *panels);

// First of the keys or values of a sequence and KV head, from key j on; kv_dim floats from one to the next.
static inline const float *kv_cache_rows(const struct kv_attention_geometry *g, const float *cache,
                                         int64_t sequence, int64_t kv_head, int64_t j) {
    return cache + (g->args.sequences[sequence].k_row + j) * g->kv_dim + kv_head * g->args.head_dim;
}

int64_t kv_query_position(const struct kv_attention_geometry *g, const kv_sequence *seq, int64_t t);

// Stacked queries, turned and divided by √d, as rows `ld` apart; columns behind head_dim are zero.
void kv_stack_queries(const struct kv_attention_geometry *g, const struct kv_stacked *b, float *dst,
                      int64_t ld);

// Y[rows, columns] = X · W + beta · Y with X, W and Y as `first` has them of the first tile; columns to whole panels.
void kv_tiles(const kv_kernels *kernels, const kv_tile *first, int64_t rows, int64_t columns);

// scores[rows, n] = stacked queries q[rows, head_dim] times n keys in panels; n to whole panels, rows of scores `ld` apart.
void kv_key_scores(const struct kv_attention_geometry *g, const float *q, int64_t rows, const float *keys,
                   int64_t n, float *scores, int64_t ld);

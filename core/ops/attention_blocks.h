// What the operators over queries and keys share (attention.c, attention_importance.c): which rows belong to
// which sequence and head, keys turned to their positions, and queries stacked in blocks. Not for others.
#pragma once

#include "core/ops.h"

// Of a block of queries, which is what one product has on its left.
enum { KV_STACK_ROWS = 128 };

// L = m + ln l in two parts: rounded to one float, large scores would lose the digits that matter.
struct kv_attention_lse {
    float max, log_sum;
};

// Everything the loops over blocks need to know about the call.
struct kv_attention_geometry {
    kv_attention_args args;
    int64_t group, block; // query heads per KV head; queries per block
    int64_t q_dim, kv_dim;
    const float *q, *k;        // k already turned, same rows as the original
    const int64_t *turned_row; // first row of each sequence in k
    int64_t n_turned;
    // attention.c only
    const float *v;
    struct kv_attention_lse *lse;
    int64_t lse_stride;
};

static inline int64_t kv_min64(int64_t a, int64_t b) {
    return a < b ? a : b;
}

static inline int64_t kv_queries_per_block(int64_t group) {
    return KV_STACK_ROWS / group > 1 ? KV_STACK_ROWS / group : 1;
}

// How many keys of its sequence the query t of a sequence sees.
static inline int64_t kv_visible_keys(const kv_attention_args *a, const kv_sequence *seq, int64_t t) {
    return a->visible ? a->visible[seq->q_row + t] : seq->k_len - seq->q_len + t + 1;
}

// Checks that every position lies in the table of angles (noted on the tape) and turns the keys into the
// tape's arena. False when that failed, with the reason noted.
bool kv_attention_prepare(kv_tape *tape, const kv_attention_args *args, const float *q, const float *k,
                          struct kv_attention_geometry *g);

// First of the turned keys of a sequence from its key j on, for one KV head; kv_dim floats from key to key.
const float *kv_key_rows(const struct kv_attention_geometry *g, int64_t sequence, int64_t j, int64_t kv_head);

int64_t kv_query_position(const struct kv_attention_geometry *g, const kv_sequence *seq, int64_t t);

// dst[queries · group, d] = the queries t0.. of all heads that share a KV head, turned and divided by √d: row
// t · group + h for query t0 + t, head h.
void kv_stack_queries(const struct kv_attention_geometry *g, const kv_sequence *seq, int64_t kv_head,
                      int64_t t0, int64_t queries, float *dst);

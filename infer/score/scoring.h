// Inside scoring: sequences that are scored together, and the sums that logits are folded into. Not for others than the
// files of infer/score/.
#pragma once

#include "core/arena.h"
#include "infer/score/score.h"

// All sequences, and where their sums go.
typedef struct kv_scoring {
    const kv_system *system;
    const int32_t *ids;
    const int64_t *lengths, *n_scored;
    int64_t n_seq;
    double *log_likelihood;
    bool *greedy;           // may be NULL
    double *log_p;          // of each scored token; may be NULL
    int64_t *starts;        // [n_seq] of each sequence in ids
    int64_t *scored_starts; // [n_seq] of each sequence's in log_p
} kv_scoring;

// Checks all of it before anything is computed; fills starts and scored_starts, and sums with zeros.
kv_status kv_score_check(const kv_scoring *scoring, kv_error *err);

// The logsumexp of a row of logits that comes in pieces, and its largest logit.
typedef struct kv_row_sum {
    float max, target;
    double sum;   // Σ e^(z - max)
    int64_t best; // the first of the largest
    bool finite;  // all logits are
} kv_row_sum;

kv_row_sum kv_row_sum_none(void);
// Logits [first, first + n) of the row. target: the token whose logit is wanted.
void kv_row_sum_fold(kv_row_sum *row, const float *logits, int64_t first, int64_t n, int32_t target);

// Sums of rows[m] of logits = hidden[m, dim] · headᵀ, the vocabulary tile by tile. false when out of memory.
bool kv_score_logits(kv_arena *arena, const kv_param *head, const float *hidden, int64_t m,
                     const int32_t *targets, kv_row_sum *rows);

// What one more scored token of sequence s, the `scored`-th of them, adds. KV_ERR_NOT_FINITE where its logits are none.
kv_status kv_score_add(const kv_scoring *scoring, int64_t s, int64_t scored, const kv_row_sum *row,
                       int32_t target, kv_error *err);
kv_status kv_score_not_finite(const kv_scoring *scoring, int64_t s, int64_t scored, kv_error *err);

// The ways of reading. See infer/score/whole.c and behind.c; at_once: all scored tokens of a sequence together.
kv_status kv_score_whole(const kv_scoring *scoring, kv_error *err);
kv_status kv_score_behind(const kv_scoring *scoring, bool at_once, kv_error *err);

// What a system reads and says, in double precision: a model alone, or a base whose first entries are
// predicted.
#pragma once

#include "infer/session/engine.h"
#include "tests/support/numbers/reference_model.h"

typedef struct ref_system {
    const kv_system *system;
    ref_model base, aux;
    ref_params weights;
} ref_system;

ref_system ref_system_copy(const kv_system *system);
void ref_system_free(ref_system *r);

// A sequence of n tokens: the keys and values of the first `predicted` come from the aux (0 without one).
// Where a text is generated that is the prompt but its last token, where it is scored all of it, as in
// training.
typedef struct ref_reading {
    const ref_system *r;
    const int32_t *ids;
    int64_t n, predicted;
    int64_t from; // logits are wanted of the tokens from here on
    bool
        float_angles; // another implementation's: rotary angles are float32 products, so of frequencies that are moved, too
} ref_reading;

// logits[n - from, vocab_size]; the base's cache as it was read, made by ref_cache_make for n tokens (NULL:
// not wanted).
void ref_system_read(const ref_reading *reading, double *logits, ref_cache *cache);

// The same as results of a spread: the logits, then k and v of every layer in turn.
rounding_spread ref_system_spread(const ref_reading *reading);
int64_t ref_system_terms(const ref_system *r, int64_t n); // additions in the longest sum
void ref_system_operands(const ref_system *r, rounding_operands *operands);

// A sequence whose last tokens are scored, as a whole or decoded behind the rest of it.
typedef struct ref_question {
    const ref_system *r;
    const int32_t *ids;
    int64_t n, scored;
    bool decoded;
} ref_question;

// Two results: the log-likelihood, and by how much the worst choice fell behind the best, which is 0 where
// all are greedy.
rounding_spread ref_question_spread(const ref_question *question);

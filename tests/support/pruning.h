// Sessions that prune: models, prompts and policies for the tests of them, and how far rounding may take what
// they say.
#pragma once

#include "infer/session/engine.h"
#include "tests/support/numbers/rounding.h"

#include <stdbool.h>
#include <stdint.h>

enum { VOCABULARY = 61, N_LAYERS = 6, CONTEXT = 96, N_SEQ = 5, N_IDS = 24 + 1 + 40 + 2 + 9, STEPS = 7 };
enum { CAPACITY = 60, N_POLICIES = 6 };

extern const int64_t prune_lengths[N_SEQ];

typedef struct prune_models {
    kv_model *base, *aux;
    int32_t ids[N_IDS];          // the ragged prompts, one after the other
    int32_t next[STEPS * N_SEQ]; // what is decoded after them, step by step
} prune_models;

// Of a test group; its state is a prune_models.
int prune_setup(void **state);
int prune_teardown(void **state);

// One of every kind first, at the kind's own index.
extern const kv_pruning prune_lazy, prune_policies[N_POLICIES];

kv_system prune_system(const prune_models *m, const kv_pruning *pruning);

// With room for CAPACITY tokens a sequence. What goes wrong fails the test.
kv_session *prune_session(const prune_models *m, const kv_pruning *pruning, int64_t n_seq);
void prune_prefill(kv_session *session, const int32_t *ids, const int64_t *n, float *logits);
void prune_decode(kv_session *session, const int32_t *ids, const bool *active, float *logits);

// ---- How far rounding may take them --------------------------------------------------------------------

// A prompt under a policy and what is decoded after it. Logits after the prompt and after every step are its
// results.
typedef struct prune_reading {
    const prune_models *m;
    const kv_pruning *policy;
    const int32_t *ids;
    int64_t n;
    int32_t next[STEPS];
    int n_next;
    // Read token by token in double precision, and the keys and values of all layers are results, too.
    bool exact;
    const int32_t *places;    // of the ids, when exact (NULL: one after the other)
    const kv_pruning *lazily; // when exact
} prune_reading;

rounding_spread prune_spread(const prune_reading *r);

// Where a layer's keys begin among the results of an exact reading; its values follow.
int64_t prune_keys_at(const prune_reading *r, int64_t layer);

// Everything is read: the prompt and all steps of one sequence, whose tokens lie `stride` apart.
rounding_spread prune_none_spread(const prune_models *m, const int32_t *ids, int64_t n, const int32_t *next,
                                  int64_t n_next, int64_t stride);

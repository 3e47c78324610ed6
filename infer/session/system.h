// What answers a prompt: a model alone, base + aux + predictors, or a base that prunes what it reads.
#pragma once

#include "core/api.h"
#include "core/predictor/predictor.h"
#include "infer/session/prune.h"

KV_API_BEGIN

typedef struct kv_system {
    kv_model *base;
    kv_model *aux; // NULL: the base reads its prompt itself; the base: of a prefix (kv_predictor_spec)
    kv_predictor *predictor; // with aux, unless pruning is speculative
    kv_pruning pruning;      // zero: none; not together with a predictor
} kv_system;

// Ids a prompt may have: base and aux may pad their tables differently, and both read it.
int64_t kv_system_vocab_size(const kv_system *system);

// Tokens that one sequence may have, prompt and answer together: as many as fit the base's context and the
// aux's, in which room is left to look ahead. Below 1 where there is none.
int64_t kv_system_context(const kv_system *system);

// KV_OK; KV_ERR_RANGE when sequences of n_tokens do not fit, naming base or aux; KV_ERR_ARGUMENT for pruning
// that makes no sense (kv_pruning_check) and for an aux, predictor and pruning that do not go together;
// KV_ERR_MISMATCH for a predictor of other models.
kv_status kv_system_check(const kv_system *system, int64_t n_tokens, kv_error *err);

KV_API_END

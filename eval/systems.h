// The models behind the rows of an evaluation, loaded once each and checked against one another.
#pragma once

#include "eval/eval_config.h"
#include "infer/cost.h"

typedef struct kv_systems {
    int64_t n;
    kv_system *items; // [n], in the order of the config
    struct kv_loaded_model *models;
    int64_t n_models; // distinct directories
} kv_systems;

// Rows that name the same directory share a model. vocab_size: what the tokenizer gives; every model must
// have it (0: there is no tokenizer). Errors name the config's file, line and key. Free with kv_systems_free
// (accepts NULL); nothing else owns them.
kv_status kv_systems_load(const kv_config *config, const kv_eval_config *eval, int64_t vocab_size,
                          kv_systems **systems, kv_error *err);
void kv_systems_free(kv_systems *systems);

// Tells what row i computes from what any other does: a hash of weights, mapping and pruning policy. Reads
// all weights of a model the first time.
void kv_systems_hash(const kv_systems *systems, int64_t i, char out[17]);

// The shortest context among a system's models, less what a speculative aux looks ahead.
int64_t kv_system_context(const kv_system *system);

// Small random models and pairs for tests of what runs on top of the core.
#pragma once

#include "tests/support/predictors/paper.h"

// 3 layers that differ in heads and width, q/k norm, vocabulary 61, context 64: tiny_base. 2 layers, half as
// wide, same vocabulary: tiny_aux.
kv_model_spec tiny_base(void);
kv_model_spec tiny_aux(void);

// tiny_base with its layers repeated up to n_layers.
kv_model_spec tiny_deep_base(int64_t n_layers);

// Random weights, norms included (so that a forgotten norm shows); fails the test instead of returning NULL.
kv_model *tiny_model(const kv_model_spec *spec, uint64_t seed);
kv_predictor *tiny_predictor(const kv_model_spec *base, const kv_model_spec *aux, uint64_t seed);

// The same with a map of its own (NULL: the one tiny_predictor has) and of any kind.
kv_predictor *tiny_predictor_of(const kv_model_spec *base, const kv_model_spec *aux, const int32_t *mapping,
                                test_kind kind, uint64_t seed);

// Of the base's own first layers, with adapted queries of low rank that add something.
kv_predictor *tiny_prefix_predictor(const kv_model_spec *base, int64_t n_layers, uint64_t seed);

// ids[n] in [0, vocab_size).
void tiny_ids(int32_t *ids, int64_t n, int64_t vocab_size, uint64_t seed);

// A base, an aux and predictors between them; tiny_pair_make takes the shapes above. An aux without
// predictors has NULL there.
typedef struct tiny_pair {
    kv_model *base, *aux;
    kv_predictor *predictor;
} tiny_pair;
tiny_pair tiny_pair_make(void);
// Without predictors: a base of n_layers, both with this context.
tiny_pair tiny_deep_pair_make(int64_t n_layers, int64_t context);
void tiny_pair_free(tiny_pair *pair);

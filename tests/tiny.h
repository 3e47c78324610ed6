// Small random models and pairs for tests of what runs on top of the core.
#pragma once

#include "core/predictor.h"

// 3 layers that differ in heads and width, q/k norm, vocabulary 61, context 64: tiny_base. 2 layers, half as
// wide, same vocabulary: tiny_aux.
kv_model_spec tiny_base(void);
kv_model_spec tiny_aux(void);

// Random weights, norms included (so that a forgotten norm shows); fails the test instead of returning NULL.
kv_model *tiny_model(const kv_model_spec *spec, uint64_t seed);
kv_predictor *tiny_predictor(const kv_model_spec *base, const kv_model_spec *aux, uint64_t seed);

// ids[n] in [0, vocab_size).
void tiny_ids(int32_t *ids, int64_t n, int64_t vocab_size, uint64_t seed);

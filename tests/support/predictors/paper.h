// Predictors as the paper has them and their first two variations, made and looked into by tests.
#pragma once

#include "core/predictor/predictor.h"

// rank of every map, 0: full; aux layers that each map reads, 0 is 1.
typedef struct test_kind {
    int64_t rank, aux_layers;
} test_kind;

// The description of such a predictor; of one without weights; and of one with. spec: static, overwritten by
// the next call.
const kv_predictor_spec *test_spec(const kv_model_spec *base, const kv_model_spec *aux,
                                   const int32_t *mapping, test_kind kind);
kv_status test_create(const kv_model_spec *base, const kv_model_spec *aux, const int32_t *mapping,
                      test_kind kind, kv_predictor **predictor, kv_error *err);
kv_predictor *test_plan(const kv_model_spec *base, const kv_model_spec *aux, const int32_t *mapping,
                        test_kind kind);

// Its parameters, by their names; NULL when there is none of that name.
kv_param *test_named_param(kv_predictor *predictor, const char *name);
// The matrix that makes an output (low rank: the second one), its bias, and the first matrix of a low-rank
// map or NULL.
kv_param *test_weight(const kv_predictor *predictor, kv_side side, int64_t layer);
kv_param *test_bias(const kv_predictor *predictor, kv_side side, int64_t layer);
kv_param *test_down(const kv_predictor *predictor, kv_side side, int64_t layer);
// The first aux layer that a base layer's keys are made of.
int32_t test_layer_read(const kv_predictor *predictor, int64_t layer);
// The aux layers that its keys read, in the order of the map's columns; returns how many.
int64_t test_layers_read(const kv_predictor *predictor, int64_t layer, int32_t layers[KV_MAX_LAYERS]);
// How many aux layers have to be run.
int64_t test_depth(const kv_predictor *predictor);
bool test_is_kind(const kv_predictor *predictor, test_kind kind);

// Taps of an aux's keys and values [n_aux_layers].
kv_taps test_taps(const kv_predictor *predictor, kv_tensor *const *raw_k, kv_tensor *const *v);

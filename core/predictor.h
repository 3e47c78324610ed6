// Predictors: linear maps from the auxiliary model's keys and values to the base model's.
//
//   K̂_i = k_norm_i( Kaux_{j(i)} · Wk_iᵀ + bk_i ),   V̂_i = Vaux_{j(i)} · Wv_iᵀ + bv_i      [paper section 3.2,
//   eq. 3-4]
// with Kaux before the auxiliary model's own k_norm and RoPE, heads concatenated; k_norm_i is the base's
// (skipped when the base has none).
#pragma once

#include "core/model.h"

typedef struct kv_predictor {
    int64_t n_base_layers, n_aux_layers;
    int32_t mapping[KV_MAX_LAYERS]; // base layer i reads aux layer mapping[i]
    kv_param *key_w, *key_b;        // [n_base_layers]: [kv_dim_base_i, kv_dim_aux_j(i)], [1, kv_dim_base_i]
    kv_param *value_w, *value_b;    // likewise
    void *storage;
    float *grads;
} kv_predictor;

// Default map when the aux is a separate, smaller model (KVP-C): with q = n_base div n_aux and r = n_base mod
// n_aux the first r aux layers serve q + 1 consecutive base layers each, the others q.                [paper
// table 1]
void kv_mapping_separate(int64_t n_base, int64_t n_aux, int32_t *mapping);

// Default map when the aux is the base with only layers kept[] (KVP-LP): nearest kept layer at or before i.
void kv_mapping_pruned(int64_t n_base, const int32_t *kept, int64_t n_kept, int32_t *mapping);

// The paper's rule for a pair: the second map where the aux has the shape of the base with every second,
// every fourth or three of four layers kept, the first one otherwise. mapping[base->n_layers].
void kv_mapping_default(const kv_model_spec *base, const kv_model_spec *aux, int32_t *mapping);

// KV_OK, or KV_ERR_ARGUMENT naming the entry of an explicit map that is outside [0, n_aux) or the wrong
// length.
kv_status kv_mapping_check(const int32_t *mapping, int64_t length, int64_t n_base, int64_t n_aux,
                           kv_error *err);

// float32 predictors for a pair, weights zero. On failure *predictor is NULL. Free with kv_predictor_free.
kv_status kv_predictor_create(const kv_model_spec *base, const kv_model_spec *aux, const int32_t *mapping,
                              kv_predictor **predictor, kv_error *err);
void kv_predictor_free(kv_predictor *predictor);

// Normal with std 1/sqrt(fan_in), biases 0.
void kv_predictor_init(kv_predictor *predictor, uint64_t seed);

kv_status kv_predictor_set_trainable(kv_predictor *predictor, bool trainable, kv_error *err);

// key_w, key_b, value_w, value_b of every base layer in order: 4 · n_base_layers. Named "key.0.weight",
// "key.0.bias", "value.0.weight", … Returns their number; fills params[] when not NULL.
int64_t kv_predictor_params(kv_predictor *predictor, kv_param **params);
int64_t kv_predictor_size(const kv_predictor *predictor);

// aux_raw_k[n_aux_layers], aux_v[n_aux_layers]: [tokens, kv_dim_aux]. Fills k[n_base_layers] (after the
// base's k_norm, before RoPE) and v[n_base_layers], [tokens, kv_dim_base]; entries are NULL when the tape
// failed. norms: the base's, see kv_model_key_norms.
void kv_predict(kv_tape *tape, kv_predictor *predictor, const kv_key_norms *norms,
                kv_tensor *const *aux_raw_k, kv_tensor *const *aux_v, kv_tensor **k, kv_tensor **v);

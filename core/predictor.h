// Predictors: linear maps from the auxiliary model's keys and values to the base model's.
//
//   K̂_i = k_norm_i( Kaux_{j(i)} · Wk_iᵀ + bk_i ),   V̂_i = Vaux_{j(i)} · Wv_iᵀ + bv_i
//                                     [paper, section 3.2, eq. 3 and 4; core/README.md §3, eq. 11 and 12]
// with Kaux before the auxiliary model's own k_norm and RoPE, heads concatenated; k_norm_i is the base's
// (skipped when the base has none).
//
// Two variations, which the paper has not (for ablations): a map may read two neighbouring aux layers, Kaux
// being theirs side by side; and it may be of low rank, W = up · down.
#pragma once

#include "core/model.h"

// What the maps of a predictor are like.
typedef struct kv_predictor_kind {
    int64_t rank; // of every map; 0: full
    // How many aux layers each map reads: 1, or 2: j(i) and the next one, at the top the one before. 0 is 1.
    int64_t aux_layers;
} kv_predictor_kind;

typedef struct kv_predictor {
    int64_t n_base_layers, n_aux_layers;
    kv_predictor_kind kind;
    // j(i): base layer i reads aux layer mapping[i], perhaps its neighbour too.
    int32_t mapping[KV_MAX_LAYERS];
    // [n_base_layers] each, for keys: w [kv_dim_base_i, inputs_i] with a full rank, else [kv_dim_base_i,
    // rank] (up) and down [rank, inputs_i]; b [1, kv_dim_base_i]. down is NULL with a full rank.
    kv_param *key_w, *key_b, *key_down;
    kv_param *value_w, *value_b, *value_down; // likewise
    void *storage;
    float *grads;
} kv_predictor;

enum { KV_PREDICTOR_PARAMS = 6 * KV_MAX_LAYERS }; // at most

// The aux layers that base layer i reads, one or two, in the order of the map's input columns. Returns how
// many.
int64_t kv_predictor_inputs(const kv_predictor *predictor, int64_t layer, int32_t inputs[2]);
// Columns of that input: kv_dim of the aux layers it is made of.
int64_t kv_predictor_input_dim(const kv_predictor *predictor, const kv_model_spec *aux, int64_t layer);
// How many aux layers have to be run, the first ones: up to the last one that is read.
int64_t kv_predictor_depth(const kv_predictor *predictor);
// (Those three need no weights: layer counts, mapping and kind are enough.)

// Default map when the aux is a separate, smaller model (KVP-C): with q = n_base div n_aux and r = n_base mod
// n_aux the first r aux layers serve q + 1 consecutive base layers each, the others q.
//                                                             [paper, table 1; core/README.md §3, eq. 13]
void kv_mapping_separate(int64_t n_base, int64_t n_aux, int32_t *mapping);

// Default map when the aux is the base with only layers kept[] (KVP-LP): nearest kept layer at or before i.
//                                                                             [core/README.md §3, eq. 14]
void kv_mapping_pruned(int64_t n_base, const int32_t *kept, int64_t n_kept, int32_t *mapping);

// The aux's layers spread evenly: base layer i reads floor(i · n_aux / n_base). n_aux may be larger.
void kv_mapping_uniform(int64_t n_base, int64_t n_aux, int32_t *mapping);

// Turns a map around: entry j becomes n_aux - 1 - j. The paper's rule read backwards is what an ablation of
// the layer map should do worst with.
void kv_mapping_reverse(int64_t n_base, int64_t n_aux, int32_t *mapping);

// The paper's rule for a pair: the second map where the aux has the shape of the base with every second,
// every fourth or three of four layers kept, the first one otherwise. mapping[base->n_layers].
void kv_mapping_default(const kv_model_spec *base, const kv_model_spec *aux, int32_t *mapping);

// KV_OK, or KV_ERR_ARGUMENT naming the entry of an explicit map that is outside [0, n_aux) or the wrong
// length.
kv_status kv_mapping_check(const int32_t *mapping, int64_t length, int64_t n_base, int64_t n_aux,
                           kv_error *err);

// KV_OK, or KV_ERR_ARGUMENT saying which layer's map cannot be of this kind: a rank above the smaller side of
// a map, a second layer where the aux has one.
kv_status kv_predictor_kind_check(const kv_model_spec *base, const kv_model_spec *aux, const int32_t *mapping,
                                  const kv_predictor_kind *kind, kv_error *err);

// Whether a predictor is of this kind.
bool kv_predictor_is_kind(const kv_predictor *predictor, const kv_predictor_kind *kind);

// float32 predictors for a pair, weights zero: of full rank and one aux layer, or of the kind given. On
// failure *predictor is NULL. Free with kv_predictor_free.
kv_status kv_predictor_create(const kv_model_spec *base, const kv_model_spec *aux, const int32_t *mapping,
                              kv_predictor **predictor, kv_error *err);
kv_status kv_predictor_create_kind(const kv_model_spec *base, const kv_model_spec *aux,
                                   const int32_t *mapping, const kv_predictor_kind *kind,
                                   kv_predictor **predictor, kv_error *err);
void kv_predictor_free(kv_predictor *predictor);

// Normal with std 1/sqrt(fan_in), both factors of a low-rank map (so that their product's outputs are as
// large as a full map's); biases 0.
void kv_predictor_init(kv_predictor *predictor, uint64_t seed);

kv_status kv_predictor_set_trainable(kv_predictor *predictor, bool trainable, kv_error *err);

// All parameters of every base layer in order: "key.0.weight", "key.0.bias", "value.0.weight",
// "value.0.bias", …; with low rank "key.0.down.weight", "key.0.up.weight", "key.0.bias" and so on. Returns
// their number, at most KV_PREDICTOR_PARAMS; fills params[] when not NULL.
int64_t kv_predictor_params(kv_predictor *predictor, kv_param **params);
int64_t kv_predictor_size(const kv_predictor *predictor);
// Their size where only counts, mapping and kind are filled in.
int64_t kv_predictor_planned_size(const kv_predictor *shape, const kv_model_spec *base,
                                  const kv_model_spec *aux);

// aux_raw_k[n_aux_layers], aux_v[n_aux_layers]: [tokens, kv_dim_aux], of the layers that are read. Fills
// k[n_base_layers] (after the base's k_norm, before RoPE) and v[n_base_layers], [tokens, kv_dim_base];
// entries are NULL when the tape failed. norms: the base's, see kv_model_key_norms.
void kv_predict(kv_tape *tape, kv_predictor *predictor, const kv_key_norms *norms,
                kv_tensor *const *aux_raw_k, kv_tensor *const *aux_v, kv_tensor **k, kv_tensor **v);

// A decoder-only transformer described by data: OpenELM, Llama, Qwen and layer-pruned models are one code
// path.
//
//   x = embed[ids]
//   per layer:  h = rmsnorm(x);  q, k, v = h·Wqᵀ, h·Wkᵀ, h·Wvᵀ (+ bias)
//               where qk_norm: q, k = rmsnorm of each head
//               x += attention(q, k, v)·Woᵀ
//               h = rmsnorm(x);  x += (silu(h·Wgateᵀ) ⊙ h·Wupᵀ)·Wdownᵀ
//   logits = rmsnorm(x)·headᵀ
//                                                              [core/README.md §2, eq. 1 to 6]
#pragma once

#include "core/api.h"
#include "core/ops.h"
#include "core/rng.h"

KV_API_BEGIN

enum { KV_MAX_LAYERS = 256, KV_MAX_STOP_IDS = 255 };

typedef struct kv_layer_spec {
    int64_t n_heads, n_kv_heads, ffn_dim;
} kv_layer_spec;

// Scaling of the inverse frequencies. factor 0: none. original_context 0: linear, all of them are divided by
// factor, which is to divide the positions. Otherwise llama3's rule, which all four numbers belong to.
typedef struct kv_rope_spec {
    double theta;
    double factor, low_freq_factor, high_freq_factor, original_context;
} kv_rope_spec;

// Whether the same positions turn by the same angles.
static inline bool kv_same_rope(const kv_rope_spec *a, const kv_rope_spec *b) {
    return a->theta == b->theta && a->factor == b->factor && a->low_freq_factor == b->low_freq_factor &&
           a->high_freq_factor == b->high_freq_factor && a->original_context == b->original_context;
}

typedef struct kv_model_spec {
    char model_type[16]; // "openelm", "llama", "mistral", "qwen2", "qwen3": names and files, never behaviour
    int64_t vocab_size, model_dim, head_dim, n_layers, context_length;
    kv_layer_spec layers[KV_MAX_LAYERS];
    bool qk_norm;   // per-head RMSNorm of queries and keys before RoPE
    bool qkv_bias;  // bias on the q, k and v projections
    bool tied_head; // logits through the embedding table
    float norm_eps;
    kv_rope_spec rope;
    int32_t bos_id, eos_id; // -1: none
    // Further tokens that end an answer, as chat models have them.
    int32_t stop_ids[KV_MAX_STOP_IDS];
    int64_t n_stop_ids;
} kv_model_spec;

// Width of a layer's keys (and values): all its KV heads side by side.
static inline int64_t kv_spec_kv_dim(const kv_model_spec *spec, int64_t layer) {
    return spec->layers[layer].n_kv_heads * spec->head_dim;
}

// Whether a token ends an answer: the spec's eos_id or one of its stop_ids.
static inline bool kv_spec_ends(const kv_model_spec *spec, int32_t id) {
    for (int64_t i = 0; i < spec->n_stop_ids; i++)
        if (spec->stop_ids[i] == id) return true;
    return id >= 0 && id == spec->eos_id;
}

typedef struct kv_layer {
    kv_param attn_norm, q, k, v, q_bias, k_bias, v_bias, q_norm, k_norm, out; // unused ones have data NULL
    kv_param ffn_norm, gate, up, down;
} kv_layer;

typedef struct kv_model {
    kv_model_spec spec;
    kv_param embed;   // [vocab_size, model_dim]
    kv_param norm;    // [1, model_dim]
    kv_param head;    // [vocab_size, model_dim]; when tied its data is NULL: use kv_model_head
    kv_layer *layers; // [n_layers]
    kv_rope *rope;
    void *storage; // what the parameters' data lie in; freed by release(storage)
    void (*release)(void *storage);
    void *packed; // what weights lie in that were views and are in panels now, or NULL
    float *grads; // one block for all trainable parameters' gradients, or NULL
} kv_model;

// KV_OK, or KV_ERR_ARGUMENT naming the field that makes no sense (zero sizes, heads not a multiple of KV
// heads, odd head_dim, too many layers, sizes whose product overflows).
kv_status kv_model_spec_check(const kv_model_spec *spec, kv_error *err);

// max(d, floor((v + d/2) / d) · d), plus d if that is below 0.9 · v; d > 0.
//                                                              [core/README.md §2, eq. 10]
int64_t kv_make_divisible(double v, int64_t d);

// OpenELM's layer-wise scaling: fills spec->layers from model_dim, head_dim and n_layers.
//                                                              [core/README.md §2, eq. 8 and 9]
void kv_openelm_layers(kv_model_spec *spec, int64_t gqa_groups, double q0, double q1, double f0, double f1,
                       int64_t ffn_dim_divisor);

// One of the published shapes of OpenELM, SmolLM2, Llama 3.2, Qwen2.5 and Qwen3: "openelm-270m",
// "llama-3.2-1b" and so on. False when unknown.
bool kv_published_spec(const char *name, kv_model_spec *spec);
// The i-th of their names, from 0 on; NULL behind the last.
const char *kv_published_name(int64_t i);

// The layers kept by pruning: 0.50 every second (0, 2, …), 0.25 every fourth, 0.75 all i with i mod 4 ≠ 3.
// kept[KV_MAX_LAYERS] gets the indices, the count is returned; -1 for any other fraction.
int64_t kv_pruned_layers(int64_t n_layers, double fraction, int32_t *kept);

// Leaves layers kept[n_kept] (ascending) of the spec.
void kv_spec_prune(kv_model_spec *spec, const int32_t *kept, int64_t n_kept);

// A model with all parameters allocated as zeros of `dtype` (owned storage); or, with allocate false, with
// data NULL for a loader to bind. Frozen. On failure *model is NULL. Free with kv_model_free (accepts NULL).
kv_status kv_model_create(const kv_model_spec *spec, kv_dtype dtype, bool allocate, kv_model **model,
                          kv_error *err);
void kv_model_free(kv_model *model);

// Truncated-free normal start: std 1/sqrt(fan_in) for matrices (embedding: 1/sqrt(model_dim)), out and down
// projections divided by sqrt(2 · n_layers), norms 1, biases 0; a pure function of (seed, parameter name).
void kv_model_init(kv_model *model, uint64_t seed);

// A start for models that are only timed, many times faster: the same standard deviations, but uniform, with
// 16 random bits a weight; a pure function of (seed, parameter name), rounded to the stored type. Layer i
// gets what layer origin[i] of a model of n_origin layers would, so that a layer-pruned model agrees with its
// base; origin NULL: its own.
void kv_model_fill_random(kv_model *model, uint64_t seed, const int32_t *origin, int64_t n_origin);

// A model of the given layers of `base`, weights copied as float32. kept ascending.
kv_status kv_model_prune(const kv_model *base, const int32_t *kept, int64_t n_kept, kv_model **model,
                         kv_error *err);

// Brings the matrices of a frozen model into panels, which products read fastest (core/gemm/packed.h): in place, or, of a
// model whose weights are views of a file, in memory of its own, kv_model_pack_bytes of it, each view being handed to let_go
// once it is no longer read. The model computes the same, but cannot be trained, nor differentiated through. False when
// memory ran out; it then computes as before, packed in part.
bool kv_model_pack(kv_model *model, void (*let_go)(const kv_param *view));
int64_t kv_model_pack_bytes(const kv_model *model);

// Gives every parameter a gradient (they must be KV_F32 in owned storage), or takes it away again.
kv_status kv_model_set_trainable(kv_model *model, bool trainable, kv_error *err);

// All parameters that exist (data or size known), in a fixed order: embedding, layers in order, norm, head.
// Returns their number; fills params[] when it is not NULL.
int64_t kv_model_params(kv_model *model, kv_param **params);

// Number of weights; with_embedding false leaves out the embedding and head tables.
int64_t kv_model_size(const kv_model *model, bool with_embedding);

// The table that makes logits: head, or the embedding when tied.
kv_param *kv_model_head(kv_model *model);

// What keys are normalised with: all that predicting a base's cache takes of the base.
typedef struct kv_key_norms {
    kv_param *weight[KV_MAX_LAYERS]; // of each layer, [1, head_dim]; all NULL without q/k norm
    float eps;
} kv_key_norms;

// The model's own weights: valid as long as it.
void kv_model_key_norms(kv_model *model, kv_key_norms *norms);

// ---- Running it ----------------------------------------------------------------------------------------

// What a layer's queries are made with instead of its own projection, all NULL: with that. q [q_dim, model_dim]
// replaces it; up · down, [q_dim, rank] · [rank, model_dim], is added to it. The layer's bias and norm stay.
//                                                            [core/README.md §9; Hu et al. 2021, eq. 3]
typedef struct kv_query_adapter {
    kv_param *q, *down, *up;
} kv_query_adapter;

// What of a layer is handed out.
enum { KV_READ_K = 1, KV_READ_V = 2, KV_READ_H = 4 };

// Takes what a layer has made, NULL where it was not asked for: its keys before k_norm, its values, its normed input. It
// lies in memory that is given back soon after, as is what is made on the tape here.
typedef void kv_made_fn(kv_tape *tape, int64_t layer, kv_tensor *raw_k, kv_tensor *v, kv_tensor *h,
                        void *what);

// Puts a layer's own keys (after k_norm, before RoPE) and values into a cache, and names what is attended to in their
// place, of which the pass's sequences tell the rows. It may do nothing.
typedef void kv_cached_fn(kv_tape *tape, int64_t layer, kv_tensor **k, kv_tensor **v, void *what);

// What a pass over the layers works on and hands out. All pointers are the caller's.
typedef struct kv_pass {
    const kv_sequence *sequences; // within the rows
    int64_t n_sequences;
    int64_t n_layers;                                   // only the first ones; 0: all
    const int32_t *q_positions, *k_positions, *visible; // see kv_attention_args
    // [n_layers] each, or NULL: attention reads these instead of the layer's own keys (after k_norm, before
    // RoPE) and values, whose projections are then not computed.
    kv_tensor **given_k, **given_v;
    const kv_query_adapter *adapters; // [n_layers], or NULL: all layers' own queries
    // Where to leave each layer's keys and values: [n_layers] arrays or NULL. raw_k: before k_norm; k: after.
    // h: the layer's normed input, which they are made of.
    kv_tensor **raw_k, **k, **v, **h;
    // [n_layers]: which of those are wanted of each layer, KV_READ_…; the others' places are not touched. NULL:
    // all of them.
    const uint8_t *reads;
    // Instead of places: called for each layer as soon as that is there, before the layer goes on, with made_for. Only
    // where nobody differentiates.
    kv_made_fn *made;
    void *made_for;
    // Called for each layer that attends, with cached_for: rows that go on from a cache. Only where nobody differentiates.
    kv_cached_fn *cached;
    void *cached_for;
    // Where to leave what layer hidden_layer puts out, which must be one that is run to its end; NULL: nowhere.
    kv_tensor **hidden;
    int64_t hidden_layer;
    // Stop once what is wanted of the last layer exists: what is returned must not be used (but is not NULL).
    bool only_kv;
} kv_pass;

// ids[n] through the layers; the hidden states before the final norm [n, model_dim]. Layers that nobody
// differentiates take the memory of one.
kv_tensor *kv_model_forward(kv_tape *tape, kv_model *model, const int32_t *ids, int64_t n,
                            const kv_pass *pass);

// One layer after the other in the same memory: x, at first the embedded tokens, is overwritten with what
// `run` returns for each layer in turn, of as many rows or fewer, and all else that the layer made is given
// back before the next. run may return x itself (nothing to overwrite), or NULL to end the walk. Nothing may
// be differentiated on the way. False when the tape failed.
typedef kv_tensor *kv_layer_fn(kv_tape *tape, int64_t layer, kv_tensor *x, void *what);
bool kv_walk_layers(kv_tape *tape, int64_t n_layers, kv_tensor *x, kv_layer_fn *run, void *what);

// What layers are made of, for those who keep a cache or prune tokens between (infer/session).
typedef struct kv_layer_kv {
    kv_tensor *raw_k, *k, *v; // raw_k == k without q/k norm
} kv_layer_kv;
kv_tensor *kv_layer_norm_in(kv_tape *tape, kv_model *model, int64_t layer, kv_tensor *x); // h for q, k, v
kv_layer_kv kv_layer_keys_values(kv_tape *tape, kv_model *model, int64_t layer, kv_tensor *h);
kv_layer_kv kv_layer_keys(kv_tape *tape, kv_model *model, int64_t layer, kv_tensor *h); // v NULL
kv_tensor *kv_layer_raw_keys(kv_tape *tape, kv_model *model, int64_t layer, kv_tensor *h);
kv_tensor *kv_layer_values(kv_tape *tape, kv_model *model, int64_t layer, kv_tensor *h);
// After q_norm; of pass->adapters, where there are.
kv_tensor *kv_layer_queries(kv_tape *tape, kv_model *model, int64_t layer, kv_tensor *h, const kv_pass *pass);
// x + attention(q over k, v)·Woᵀ, then + the feed-forward part.
kv_tensor *kv_layer_block(kv_tape *tape, kv_model *model, int64_t layer, kv_tensor *x, kv_tensor *q,
                          kv_tensor *k, kv_tensor *v, const kv_pass *pass);
// The same once attention has been done: mixed is what it gave, [n, n_heads · head_dim].
kv_tensor *kv_layer_mixed(kv_tape *tape, kv_model *model, int64_t layer, kv_tensor *x, kv_tensor *mixed);
// Both: kv_layer_block with h's queries.
kv_tensor *kv_layer_attend(kv_tape *tape, kv_model *model, int64_t layer, kv_tensor *x, kv_tensor *h,
                           kv_tensor *k, kv_tensor *v, const kv_pass *pass);
// What the attention of a pass over one layer works on.
kv_attention_args kv_layer_attention(const kv_model *model, int64_t layer, const kv_pass *pass);

// Final norm: [n, model_dim] → [n, model_dim], what the head is applied to.
kv_tensor *kv_model_final_norm(kv_tape *tape, kv_model *model, kv_tensor *x);

// logits [n, vocab_size] of hidden states before the final norm. For training use kv_lm_loss instead.
kv_tensor *kv_model_logits(kv_tape *tape, kv_model *model, kv_tensor *x);

KV_API_END

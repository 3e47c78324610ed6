#include "core/flops.h"

static uint64_t product(int64_t m, int64_t n, int64_t k) {
    return 2 * (uint64_t)m * (uint64_t)n * (uint64_t)k;
}

static int64_t q_dim(const kv_model_spec *spec, int64_t layer) {
    return spec->layers[layer].n_heads * spec->head_dim;
}

static int64_t kv_dim(const kv_model_spec *spec, int64_t layer) {
    return spec->layers[layer].n_kv_heads * spec->head_dim;
}

// ---- Inference
// ----------------------------------------------------------------------------------------------------

static uint64_t keys_values(const kv_model_spec *spec, int64_t layer, int64_t n) {
    return 2 * product(n, kv_dim(spec, layer), spec->model_dim);
}

static uint64_t attention(const kv_model_spec *spec, int64_t layer, int64_t q_len, int64_t k_len) {
    const kv_layer_spec *l = &spec->layers[layer];
    return kv_attention_flops(l->n_heads, l->n_kv_heads, spec->head_dim, q_len, k_len);
}

// Query and output projections, and the three of the feed-forward part.
static uint64_t other_projections(const kv_model_spec *spec, int64_t layer, int64_t n) {
    return 2 * product(n, q_dim(spec, layer), spec->model_dim) +
           3 * product(n, spec->layers[layer].ffn_dim, spec->model_dim);
}

// A whole layer on n new tokens behind `cached` ones.
static uint64_t layer_flops(const kv_model_spec *spec, int64_t layer, int64_t n, int64_t cached) {
    return keys_values(spec, layer, n) + attention(spec, layer, n, cached + n) +
           other_projections(spec, layer, n);
}

static uint64_t head_flops(const kv_model_spec *spec, int64_t n) {
    return product(n, spec->vocab_size, spec->model_dim);
}

uint64_t kv_flops_prefill(const kv_model_spec *spec, int64_t n) {
    const int64_t last = spec->n_layers - 1;
    uint64_t sum = keys_values(spec, last, n) + attention(spec, last, 1, n) +
                   other_projections(spec, last, 1) + head_flops(spec, 1);
    for (int64_t i = 0; i < last; i++) sum += layer_flops(spec, i, n, 0);
    return sum;
}

static uint64_t predictor_flops(const kv_model_spec *base, const kv_model_spec *aux,
                                const kv_predictor *predictor, int64_t n) {
    uint64_t sum = 0;
    for (int64_t i = 0; i < base->n_layers; i++)
        sum += 2 * product(n, kv_dim(base, i), kv_dim(aux, predictor->mapping[i]));
    return sum;
}

uint64_t kv_flops_kvp_prefill(const kv_model_spec *base, const kv_model_spec *aux,
                              const kv_predictor *predictor, int64_t n) {
    const int64_t front = n - 1, last = aux->n_layers - 1;
    uint64_t sum = kv_flops_decode(base, front);
    if (front < 1) return sum;
    for (int64_t i = 0; i < last; i++) sum += layer_flops(aux, i, front, 0);
    return sum + keys_values(aux, last, front) + predictor_flops(base, aux, predictor, front);
}

uint64_t kv_flops_decode(const kv_model_spec *spec, int64_t cached) {
    uint64_t sum = head_flops(spec, 1);
    for (int64_t i = 0; i < spec->n_layers; i++) sum += layer_flops(spec, i, 1, cached);
    return sum;
}

// ---- Sizes
// --------------------------------------------------------------------------------------------------------

static int64_t layer_size(const kv_model_spec *spec, int64_t layer) {
    const int64_t dim = spec->model_dim, q = q_dim(spec, layer), kv = kv_dim(spec, layer);
    int64_t size = 2 * dim + 2 * q * dim + 2 * kv * dim + 3 * dim * spec->layers[layer].ffn_dim;
    if (spec->qk_norm) size += 2 * spec->head_dim;
    if (spec->qkv_bias) size += q + 2 * kv;
    return size;
}

int64_t kv_spec_size(const kv_model_spec *spec, bool with_embedding) {
    int64_t size = spec->model_dim; // the final norm
    for (int64_t i = 0; i < spec->n_layers; i++) size += layer_size(spec, i);
    if (with_embedding) size += (spec->tied_head ? 1 : 2) * spec->vocab_size * spec->model_dim;
    return size;
}

double kv_paper_reduction(const kv_model_spec *base, const kv_model_spec *smaller) {
    return (double)kv_spec_size(base, true) / (double)kv_spec_size(smaller, true);
}

#include "tests/support/tiny.h"
#include "tests/support/predictors/paper.h"

#include "tests/support/support.h"

#include <stdlib.h>
#include <string.h>

static kv_model_spec tiny_spec(int64_t model_dim, int64_t head_dim, int64_t n_layers) {
    kv_model_spec spec = {.model_type = "openelm",
                          .vocab_size = 61,
                          .model_dim = model_dim,
                          .head_dim = head_dim,
                          .n_layers = n_layers,
                          .context_length = 64,
                          .qk_norm = true,
                          .tied_head = true,
                          .norm_eps = 1e-6f,
                          .rope = {.theta = 10000},
                          .bos_id = 1,
                          .eos_id = 2};
    return spec;
}

kv_model_spec tiny_base(void) {
    kv_model_spec spec = tiny_spec(24, 8, 3);
    spec.layers[0] = (kv_layer_spec){.n_heads = 2, .n_kv_heads = 1, .ffn_dim = 20};
    spec.layers[1] = (kv_layer_spec){.n_heads = 4, .n_kv_heads = 2, .ffn_dim = 32};
    spec.layers[2] = (kv_layer_spec){.n_heads = 4, .n_kv_heads = 1, .ffn_dim = 28};
    return spec;
}

kv_model_spec tiny_aux(void) {
    kv_model_spec spec = tiny_spec(12, 6, 2);
    spec.layers[0] = (kv_layer_spec){.n_heads = 2, .n_kv_heads = 2, .ffn_dim = 10};
    spec.layers[1] = (kv_layer_spec){.n_heads = 2, .n_kv_heads = 1, .ffn_dim = 14};
    return spec;
}

static void disturb(kv_param *param, uint64_t seed) {
    if (!param->data) return;
    float *x = param->data;
    for (int64_t i = 0; i < kv_param_size(param); i++) x[i] += (float)(0.3 * test_value(seed, i));
}

kv_model *tiny_model(const kv_model_spec *spec, uint64_t seed) {
    kv_model *model;
    kv_error err = {0};
    if (kv_model_create(spec, KV_F32, true, &model, &err) != KV_OK) fail_msg("%s", err.message);
    kv_model_init(model, seed);
    for (int64_t i = 0; i < spec->n_layers; i++) {
        kv_layer *l = &model->layers[i];
        kv_param *norms[] = {&l->attn_norm, &l->ffn_norm, &l->q_norm, &l->k_norm};
        for (size_t n = 0; n < sizeof norms / sizeof *norms; n++)
            disturb(norms[n], seed + (uint64_t)i * 4 + n);
    }
    return model;
}

kv_predictor *tiny_predictor_of(const kv_model_spec *base, const kv_model_spec *aux, const int32_t *mapping,
                                test_kind kind, uint64_t seed) {
    int32_t rule[KV_MAX_LAYERS];
    kv_predictor *predictor;
    kv_error err = {0};
    kv_mapping_separate(base->n_layers, aux->n_layers, rule);
    if (test_create(base, aux, mapping ? mapping : rule, kind, &predictor, &err) != KV_OK)
        fail_msg("%s", err.message);
    kv_predictor_init(predictor, NULL, seed, NULL);
    for (int64_t i = 0; i < base->n_layers; i++) {
        disturb(test_bias(predictor, KV_KEYS, i), seed + 2 * (uint64_t)i);
        disturb(test_bias(predictor, KV_VALUES, i), seed + 2 * (uint64_t)i + 1);
    }
    return predictor;
}

kv_predictor *tiny_predictor(const kv_model_spec *base, const kv_model_spec *aux, uint64_t seed) {
    return tiny_predictor_of(base, aux, NULL, (test_kind){0}, seed);
}

kv_predictor *tiny_prefix_predictor(const kv_model_spec *base, int64_t n_layers, uint64_t seed) {
    kv_predictor_spec *spec = test_alloc(1, sizeof *spec);
    kv_predictor *predictor;
    kv_error err = {0};
    kv_predictor_spec_prefix(base, n_layers, spec);
    spec->adapt = KV_ADAPT_LORA, spec->adapt_rank = 3;
    if (kv_predictor_create(base, base, spec, &predictor, &err) != KV_OK) fail_msg("%s", err.message);
    free(spec);
    kv_predictor_init(predictor, NULL, seed, NULL);
    const int64_t n = kv_predictor_params(predictor, NULL);
    kv_param **params = test_alloc(n, sizeof *params);
    kv_predictor_params(predictor, params);
    for (int64_t i = 0; i < n; i++) disturb(params[i], seed + (uint64_t)i);
    free(params);
    return predictor;
}

void tiny_ids(int32_t *ids, int64_t n, int64_t vocab_size, uint64_t seed) {
    for (int64_t i = 0; i < n; i++) ids[i] = (int32_t)test_below(seed, i, vocab_size);
}

kv_model_spec tiny_deep_base(int64_t n_layers) {
    kv_model_spec base = tiny_base();
    for (int64_t i = base.n_layers; i < n_layers; i++) base.layers[i] = base.layers[i - base.n_layers];
    base.n_layers = n_layers;
    return base;
}

tiny_pair tiny_pair_make(void) {
    const kv_model_spec base = tiny_base(), aux = tiny_aux();
    return (tiny_pair){tiny_model(&base, 1), tiny_model(&aux, 2), tiny_predictor(&base, &aux, 3)};
}

tiny_pair tiny_deep_pair_make(int64_t n_layers, int64_t context) {
    kv_model_spec base = tiny_deep_base(n_layers), aux = tiny_aux();
    base.context_length = aux.context_length = context;
    return (tiny_pair){tiny_model(&base, 1), tiny_model(&aux, 2), NULL};
}

void tiny_pair_free(tiny_pair *pair) {
    kv_model_free(pair->base);
    kv_model_free(pair->aux);
    kv_predictor_free(pair->predictor);
}

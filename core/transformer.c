#include "core/model.h"

#include <string.h>

kv_tensor *kv_layer_norm_in(kv_tape *tape, kv_model *model, int64_t layer, kv_tensor *x) {
    return kv_rmsnorm(tape, x, &model->layers[layer].attn_norm, model->spec.norm_eps);
}

static kv_param *optional(kv_param *p) {
    return p->rows > 0 ? p : NULL;
}

kv_layer_kv kv_layer_keys(kv_tape *tape, kv_model *model, int64_t layer, kv_tensor *h) {
    kv_layer *l = &model->layers[layer];
    kv_layer_kv kv = {.raw_k = kv_linear(tape, h, &l->k, optional(&l->k_bias))};
    kv.k = model->spec.qk_norm ? kv_rmsnorm(tape, kv.raw_k, &l->k_norm, model->spec.norm_eps) : kv.raw_k;
    return kv;
}

kv_layer_kv kv_layer_keys_values(kv_tape *tape, kv_model *model, int64_t layer, kv_tensor *h) {
    kv_layer *l = &model->layers[layer];
    kv_layer_kv kv = kv_layer_keys(tape, model, layer, h);
    kv.v = kv_linear(tape, h, &l->v, optional(&l->v_bias));
    return kv;
}

kv_tensor *kv_layer_queries(kv_tape *tape, kv_model *model, int64_t layer, kv_tensor *h) {
    kv_layer *l = &model->layers[layer];
    kv_tensor *q = kv_linear(tape, h, &l->q, optional(&l->q_bias));
    return model->spec.qk_norm ? kv_rmsnorm(tape, q, &l->q_norm, model->spec.norm_eps) : q;
}

kv_attention_args kv_layer_attention(const kv_model *model, int64_t layer, const kv_pass *pass) {
    const kv_model_spec *spec = &model->spec;
    return (kv_attention_args){.n_heads = spec->layers[layer].n_heads,
                               .n_kv_heads = spec->layers[layer].n_kv_heads,
                               .head_dim = spec->head_dim,
                               .rope = model->rope,
                               .segments = pass->segments,
                               .n_segments = pass->n_segments,
                               .q_positions = pass->q_positions,
                               .k_positions = pass->k_positions,
                               .visible = pass->visible};
}

kv_tensor *kv_layer_mix(kv_tape *tape, kv_model *model, int64_t layer, kv_tensor *x, kv_tensor *q,
                        kv_tensor *k, kv_tensor *v, const kv_pass *pass) {
    kv_layer *l = &model->layers[layer];
    const kv_attention_args args = kv_layer_attention(model, layer, pass);
    kv_tensor *mixed = kv_attention(tape, q, k, v, &args);
    x = kv_add(tape, x, kv_linear(tape, mixed, &l->out, NULL));
    kv_tensor *f = kv_rmsnorm(tape, x, &l->ffn_norm, model->spec.norm_eps);
    f = kv_swiglu(tape, kv_linear(tape, f, &l->gate, NULL), kv_linear(tape, f, &l->up, NULL));
    return kv_add(tape, x, kv_linear(tape, f, &l->down, NULL));
}

kv_tensor *kv_layer_attend(kv_tape *tape, kv_model *model, int64_t layer, kv_tensor *x, kv_tensor *h,
                           kv_tensor *k, kv_tensor *v, const kv_pass *pass) {
    return kv_layer_mix(tape, model, layer, x, kv_layer_queries(tape, model, layer, h), k, v, pass);
}

// One layer of a pass: hidden states, and its keys and values (NULL where they were given).
static kv_tensor *run_layer(kv_tape *tape, kv_model *model, int64_t i, kv_tensor *x, const kv_pass *pass,
                            kv_layer_kv *kv) {
    kv_tensor *h = kv_layer_norm_in(tape, model, i, x);
    if (pass->given_k) return kv_layer_attend(tape, model, i, x, h, pass->given_k[i], pass->given_v[i], pass);
    *kv = kv_layer_keys_values(tape, model, i, h);
    if (pass->only_kv && i == model->spec.n_layers - 1) return h;
    return kv_layer_attend(tape, model, i, x, h, kv->k, kv->v, pass);
}

static kv_tensor *reserve(kv_tape *tape, bool wanted, int64_t rows, int64_t cols) {
    return wanted ? kv_tape_tensor(tape, rows, cols) : NULL;
}

static kv_tensor *keep(kv_tensor *place, const kv_tensor *value) {
    if (!place || !value) return NULL;
    memcpy(place->data, value->data, (size_t)(place->rows * place->cols) * sizeof *place->data);
    return place;
}

// A layer nobody will differentiate: all it allocates is given back but for what the pass hands out.
static kv_tensor *run_frozen_layer(kv_tape *tape, kv_model *model, int64_t i, kv_tensor *x,
                                   const kv_pass *pass, kv_layer_kv *kv) {
    int64_t n = x->rows, kv_dim = kv_spec_kv_dim(&model->spec, i);
    kv_arena *arena = kv_tape_arena(tape);
    kv_tensor *y = kv_tape_tensor(tape, n, x->cols);
    kv_layer_kv places = {.raw_k = reserve(tape, pass->raw_k, n, kv_dim),
                          .k = reserve(tape, pass->k, n, kv_dim),
                          .v = reserve(tape, pass->v, n, kv_dim)};
    kv_arena_mark mark = kv_arena_get_mark(arena);
    y = keep(y, run_layer(tape, model, i, x, pass, kv));
    *kv = (kv_layer_kv){keep(places.raw_k, kv->raw_k), keep(places.k, kv->k), keep(places.v, kv->v)};
    kv_arena_release(arena, mark);
    return y;
}

kv_tensor *kv_model_forward(kv_tape *tape, kv_model *model, const int32_t *ids, int64_t n,
                            const kv_pass *pass) {
    if (n > 0 && !pass->q_positions)
        for (int64_t s = 0; s < pass->n_segments; s++)
            if (pass->segments[s].k_len > model->rope->n_positions)
                return kv_tape_fail(tape, KV_ERR_RANGE,
                                    "a sequence of %lld tokens is longer than the context of %lld",
                                    (long long)pass->segments[s].k_len, (long long)model->rope->n_positions);
    kv_tensor *x = kv_embedding(tape, &model->embed, ids, n);
    for (int64_t i = 0; i < model->spec.n_layers && x; i++) {
        kv_tensor *k = pass->given_k ? pass->given_k[i] : NULL, *v = pass->given_v ? pass->given_v[i] : NULL;
        bool wants = kv_tape_wants(tape, (const kv_tensor *const[]){x, k, v}, 3, &model->layers[i].q, NULL);
        kv_layer_kv kv = {0};
        x = (wants ? run_layer : run_frozen_layer)(tape, model, i, x, pass, &kv);
        if (pass->raw_k) pass->raw_k[i] = kv.raw_k;
        if (pass->k) pass->k[i] = kv.k;
        if (pass->v) pass->v[i] = kv.v;
    }
    return x;
}

kv_tensor *kv_model_final_norm(kv_tape *tape, kv_model *model, kv_tensor *x) {
    return kv_rmsnorm(tape, x, &model->norm, model->spec.norm_eps);
}

kv_tensor *kv_model_logits(kv_tape *tape, kv_model *model, kv_tensor *x) {
    return kv_linear(tape, kv_model_final_norm(tape, model, x), kv_model_head(model), NULL);
}

#include "core/model.h"
#include "core/recompute.h"

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
                               .sequences = pass->sequences,
                               .n_sequences = pass->n_sequences,
                               .q_positions = pass->q_positions,
                               .k_positions = pass->k_positions,
                               .visible = pass->visible};
}

kv_tensor *kv_layer_block(kv_tape *tape, kv_model *model, int64_t layer, kv_tensor *x, kv_tensor *q,
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
    return kv_layer_block(tape, model, layer, x, kv_layer_queries(tape, model, layer, h), k, v, pass);
}

// One layer of a pass, as a stage: its inputs, its outputs, and what it needs beside them.
enum { GIVEN_K, GIVEN_V, X };
enum { HIDDEN, RAW_K, K, V };
struct layer_run {
    kv_model *model;
    int64_t layer;
    kv_pass pass; // with sequences of its own once it outlives the pass
};

// The last layer of a pass for the caches alone ends with its keys and values.
static bool ends_early(const kv_pass *pass, const kv_model *model, int64_t layer) {
    return pass->only_kv && layer == model->spec.n_layers - 1;
}

static void run_layer(kv_tape *tape, const void *what, kv_tensor *const *in, kv_tensor **out) {
    const struct layer_run *r = what;
    const kv_pass *pass = &r->pass;
    kv_tensor *h = kv_layer_norm_in(tape, r->model, r->layer, in[X]);
    kv_layer_kv kv = {.k = in[GIVEN_K], .v = in[GIVEN_V]};
    if (!pass->given_k) {
        kv = kv_layer_keys_values(tape, r->model, r->layer, h);
        out[RAW_K] = kv.raw_k, out[K] = kv.k, out[V] = kv.v;
    }
    out[HIDDEN] = ends_early(pass, r->model, r->layer)
                      ? h
                      : kv_layer_attend(tape, r->model, r->layer, in[X], h, kv.k, kv.v, pass);
}

static kv_tensor *reserve(kv_tape *tape, bool wanted, int64_t rows, int64_t cols) {
    return wanted ? kv_tape_tensor(tape, rows, cols) : NULL;
}

// The layer with nothing kept but what the pass hands out: one that nobody will differentiate, or that is run
// again for it. Without a key norm raw_k and k are the same tensor, and have one place.
static bool run_stage(kv_tape *tape, struct layer_run *run, kv_tensor *const *in, bool wants,
                      kv_tensor **out) {
    const kv_pass *pass = &run->pass;
    const kv_model_spec *spec = &run->model->spec;
    const int64_t n = in[X]->rows, kv_dim = kv_spec_kv_dim(spec, run->layer);
    const bool own = !pass->given_k, norm = spec->qk_norm;
    kv_recompute stage = {.run = run_layer, .what = run, .what_size = sizeof *run};
    memcpy(stage.in, in, sizeof stage.in);
    stage.out[HIDDEN] = kv_tape_tensor(tape, n, in[X]->cols);
    stage.out[RAW_K] = reserve(tape, own && (pass->raw_k || (pass->k && !norm)), n, kv_dim);
    stage.out[K] = reserve(tape, own && pass->k && norm, n, kv_dim);
    stage.out[V] = reserve(tape, own && pass->v, n, kv_dim);
    if (!kv_recompute_run(tape, &stage, wants)) return false;
    memcpy(out, stage.out, sizeof stage.out);
    if (!norm) out[K] = out[RAW_K];
    return true;
}

// Layers that are run again in backward outlive the caller's list.
static const kv_sequence *copy_sequences(kv_tape *tape, const kv_pass *pass) {
    const size_t size = (size_t)pass->n_sequences * sizeof *pass->sequences;
    kv_sequence *copy = kv_arena_alloc(kv_tape_arena(tape), size);
    if (!copy) return kv_tape_fail(tape, KV_ERR_MEMORY, "out of memory for a list of sequences");
    if (size > 0) memcpy(copy, pass->sequences, size);
    return copy;
}

kv_tensor *kv_model_forward(kv_tape *tape, kv_model *model, const int32_t *ids, int64_t n,
                            const kv_pass *pass) {
    if (n > 0 && !pass->q_positions)
        for (int64_t s = 0; s < pass->n_sequences; s++)
            if (pass->sequences[s].k_len > model->rope->n_positions)
                return kv_tape_fail(tape, KV_ERR_RANGE,
                                    "a sequence of %lld tokens is longer than the context of %lld",
                                    (long long)pass->sequences[s].k_len, (long long)model->rope->n_positions);
    struct layer_run run = {.model = model, .pass = *pass};
    const bool checkpointing = kv_tape_checkpointing(tape);
    if (checkpointing && !(run.pass.sequences = copy_sequences(tape, pass))) return NULL;
    kv_tensor *x = kv_embedding(tape, &model->embed, ids, n);
    for (int64_t i = 0; i < model->spec.n_layers && x; i++) {
        kv_tensor *in[KV_RECOMPUTE_INPUTS] = {[X] = x}, *out[KV_RECOMPUTE_OUTPUTS] = {0};
        if (pass->given_k) in[GIVEN_K] = pass->given_k[i], in[GIVEN_V] = pass->given_v[i];
        const bool wants = kv_tape_wants(tape, (const kv_tensor *const *)in, 3, &model->layers[i].q, NULL);
        run.layer = i;
        if (wants && (!checkpointing || ends_early(pass, model, i)))
            run_layer(tape, &run, in, out);
        else if (!run_stage(tape, &run, in, wants, out))
            return NULL;
        x = out[HIDDEN];
        if (pass->raw_k) pass->raw_k[i] = out[RAW_K];
        if (pass->k) pass->k[i] = out[K];
        if (pass->v) pass->v[i] = out[V];
    }
    return x;
}

kv_tensor *kv_model_final_norm(kv_tape *tape, kv_model *model, kv_tensor *x) {
    return kv_rmsnorm(tape, x, &model->norm, model->spec.norm_eps);
}

kv_tensor *kv_model_logits(kv_tape *tape, kv_model *model, kv_tensor *x) {
    return kv_linear(tape, kv_model_final_norm(tape, model, x), kv_model_head(model), NULL);
}

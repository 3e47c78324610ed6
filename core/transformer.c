// The layers of a transformer as operators of the tape, and the walks over them.
//                                                                      [core/README.md §2, eq. 1 to 6]
//
// There is one way through the layers, in reused memory (kv_walk_layers): a whole pass takes it up to the
// first layer that somebody differentiates, and inference (infer/session) brings layers of its own. Layers
// that are differentiated leave their records on the tape, or are run again in backward (core/recompute.h).
#include "core/model.h"
#include "core/recompute.h"

#include <assert.h>
#include <string.h>

kv_tensor *kv_layer_norm_in(kv_tape *tape, kv_model *model, int64_t layer, kv_tensor *x) {
    return kv_rmsnorm(tape, x, &model->layers[layer].attn_norm, model->spec.norm_eps);
}

static kv_param *optional(kv_param *p) {
    return p->rows > 0 ? p : NULL;
}

kv_tensor *kv_layer_raw_keys(kv_tape *tape, kv_model *model, int64_t layer, kv_tensor *h) {
    kv_layer *l = &model->layers[layer];
    return kv_linear(tape, h, &l->k, optional(&l->k_bias));
}

kv_layer_kv kv_layer_keys(kv_tape *tape, kv_model *model, int64_t layer, kv_tensor *h) {
    kv_layer *l = &model->layers[layer];
    kv_layer_kv kv = {.raw_k = kv_layer_raw_keys(tape, model, layer, h)};
    kv.k = model->spec.qk_norm ? kv_rmsnorm(tape, kv.raw_k, &l->k_norm, model->spec.norm_eps) : kv.raw_k;
    return kv;
}

kv_tensor *kv_layer_values(kv_tape *tape, kv_model *model, int64_t layer, kv_tensor *h) {
    kv_layer *l = &model->layers[layer];
    return kv_linear(tape, h, &l->v, optional(&l->v_bias));
}

kv_layer_kv kv_layer_keys_values(kv_tape *tape, kv_model *model, int64_t layer, kv_tensor *h) {
    kv_layer *l = &model->layers[layer];
    kv_tensor *y[2];
    kv_linear_many(tape, h, (kv_param *[]){&l->k, &l->v},
                   (kv_param *[]){optional(&l->k_bias), optional(&l->v_bias)}, 2, y);
    kv_layer_kv kv = {.raw_k = y[0], .v = y[1]};
    kv.k = model->spec.qk_norm ? kv_rmsnorm(tape, kv.raw_k, &l->k_norm, model->spec.norm_eps) : kv.raw_k;
    return kv;
}

kv_tensor *kv_layer_queries(kv_tape *tape, kv_model *model, int64_t layer, kv_tensor *h,
                            const kv_pass *pass) {
    static const kv_query_adapter none;
    kv_layer *l = &model->layers[layer];
    const kv_query_adapter *a = pass->adapters ? &pass->adapters[layer] : &none;
    kv_tensor *q = kv_linear(tape, h, a->q ? a->q : &l->q, optional(&l->q_bias));
    if (a->down) q = kv_add(tape, q, kv_linear(tape, kv_linear(tape, h, a->down, NULL), a->up, NULL));
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

kv_tensor *kv_layer_mixed(kv_tape *tape, kv_model *model, int64_t layer, kv_tensor *x, kv_tensor *mixed) {
    kv_layer *l = &model->layers[layer];
    kv_tensor *y[2];
    x = kv_linear_onto(tape, x, mixed, &l->out);
    kv_tensor *f = kv_rmsnorm(tape, x, &l->ffn_norm, model->spec.norm_eps);
    kv_linear_many(tape, f, (kv_param *[]){&l->gate, &l->up}, NULL, 2, y);
    return kv_linear_onto(tape, x, kv_swiglu(tape, y[0], y[1]), &l->down);
}

kv_tensor *kv_layer_block(kv_tape *tape, kv_model *model, int64_t layer, kv_tensor *x, kv_tensor *q,
                          kv_tensor *k, kv_tensor *v, const kv_pass *pass) {
    const kv_attention_args args = kv_layer_attention(model, layer, pass);
    return kv_layer_mixed(tape, model, layer, x, kv_attention(tape, q, k, v, &args));
}

kv_tensor *kv_layer_attend(kv_tape *tape, kv_model *model, int64_t layer, kv_tensor *x, kv_tensor *h,
                           kv_tensor *k, kv_tensor *v, const kv_pass *pass) {
    return kv_layer_block(tape, model, layer, x, kv_layer_queries(tape, model, layer, h, pass), k, v, pass);
}

// ---- Walking over the layers ---------------------------------------------------------------------------

bool kv_walk_layers(kv_tape *tape, int64_t n_layers, kv_tensor *x, kv_layer_fn *run, void *what) {
    kv_arena *arena = kv_tape_arena(tape);
    bool on = x != NULL;
    for (int64_t layer = 0; layer < n_layers && on; layer++) {
        const kv_arena_mark mark = kv_arena_get_mark(arena);
        const kv_tensor *y = run(tape, layer, x, what);
        on = y && kv_tape_status(tape, NULL) == KV_OK;
        if (on && y != x) {
            assert(y->rows <= x->rows && y->cols == x->cols);
            x->rows = y->rows;
            memcpy(x->data, y->data, (size_t)(y->rows * y->cols) * sizeof *y->data);
        }
        kv_arena_release(arena, mark);
    }
    return kv_tape_status(tape, NULL) == KV_OK;
}

// ---- A whole pass --------------------------------------------------------------------------------------

// One layer of a pass, which may be run a second time in backward: its inputs, its outputs, and what it needs
// beside them.
enum { GIVEN_K, GIVEN_V, X };
enum { HIDDEN, RAW_K, K, V, H };
struct layer_run {
    kv_model *model;
    int64_t layer, n_layers;
    int64_t n_plain; // the first ones, which nobody differentiates
    kv_pass pass;    // with sequences of its own once it outlives the pass
};

// What of a layer is wanted: KV_READ_….
static uint8_t wanted(const struct layer_run *run) {
    const kv_pass *pass = &run->pass;
    const bool all = pass->made;
    const uint8_t places = (uint8_t)((all || pass->raw_k || pass->k ? KV_READ_K : 0) |
                                     (all || pass->v ? KV_READ_V : 0) | (all || pass->h ? KV_READ_H : 0));
    return pass->reads ? pass->reads[run->layer] & places : places;
}

// The last layer of a pass for the caches alone ends with what of it is wanted.
static bool ends_early(const struct layer_run *run) {
    return run->pass.only_kv && run->layer == run->n_layers - 1;
}

// What of a layer comes before its attention.
static void make_keys_values(kv_tape *tape, const struct layer_run *r, kv_tensor *const *in,
                             kv_tensor **out) {
    const kv_pass *pass = &r->pass;
    const bool early = ends_early(r);
    kv_tensor *h = kv_layer_norm_in(tape, r->model, r->layer, in[X]);
    out[H] = h, out[K] = in[GIVEN_K], out[V] = in[GIVEN_V];
    if (pass->given_k) return;
    if (!early) {
        const kv_layer_kv kv = kv_layer_keys_values(tape, r->model, r->layer, h);
        out[RAW_K] = kv.raw_k, out[K] = kv.k, out[V] = kv.v;
        return;
    }
    const uint8_t parts = wanted(r);
    if (parts & KV_READ_K) {
        const bool raw = !pass->k; // nobody attends to them
        const kv_layer_kv kv = raw ? (kv_layer_kv){.raw_k = kv_layer_raw_keys(tape, r->model, r->layer, h)}
                                   : kv_layer_keys(tape, r->model, r->layer, h);
        out[RAW_K] = kv.raw_k, out[K] = kv.k;
    }
    if (parts & KV_READ_V) out[V] = kv_layer_values(tape, r->model, r->layer, h);
}

static void attend(kv_tape *tape, const struct layer_run *r, kv_tensor *const *in, kv_tensor **out) {
    out[HIDDEN] = ends_early(r)
                      ? in[X]
                      : kv_layer_attend(tape, r->model, r->layer, in[X], out[H], out[K], out[V], &r->pass);
}

static void run_layer(kv_tape *tape, const void *what, kv_tensor *const *in, kv_tensor **out) {
    make_keys_values(tape, what, in, out);
    attend(tape, what, in, out);
}

static void take_inputs(const struct layer_run *run, kv_tensor *x, kv_tensor **in) {
    const kv_pass *pass = &run->pass;
    in[X] = x;
    in[GIVEN_K] = pass->given_k ? pass->given_k[run->layer] : NULL;
    in[GIVEN_V] = pass->given_v ? pass->given_v[run->layer] : NULL;
}

static void hand_out(const struct layer_run *run, kv_tensor *const *out) {
    const kv_pass *pass = &run->pass;
    const uint8_t parts = pass->made ? 0 : wanted(run);
    if (parts & KV_READ_K && pass->raw_k) pass->raw_k[run->layer] = out[RAW_K];
    if (parts & KV_READ_K && pass->k) pass->k[run->layer] = out[K];
    if (parts & KV_READ_V) pass->v[run->layer] = out[V];
    if (parts & KV_READ_H) pass->h[run->layer] = out[H];
}

static kv_tensor *reserve(kv_tape *tape, bool wanted, int64_t rows, int64_t cols) {
    return wanted ? kv_tape_tensor(tape, rows, cols) : NULL;
}

// Places for what a layer hands out, behind which everything else it makes can be given
// back. Without a key norm raw_k and k are the same tensor, and have one place.
static void reserve_places(kv_tape *tape, const struct layer_run *run, int64_t n, kv_tensor **out) {
    const kv_pass *pass = &run->pass;
    const int64_t kv_dim = kv_spec_kv_dim(&run->model->spec, run->layer);
    const uint8_t parts = pass->made ? 0 : wanted(run);
    const bool keys = !pass->given_k && parts & KV_READ_K, norm = run->model->spec.qk_norm;
    out[RAW_K] = reserve(tape, keys && (pass->raw_k || !norm), n, kv_dim);
    out[K] = reserve(tape, keys && pass->k && norm, n, kv_dim);
    out[V] = reserve(tape, !pass->given_k && parts & KV_READ_V, n, kv_dim);
    out[H] = reserve(tape, parts & KV_READ_H, n, run->model->spec.model_dim);
}

// How many layers nobody differentiates: the first ones, up to where something is trained or a given key is.
static int64_t plain_layers(const kv_tape *tape, const struct layer_run *run, kv_tensor *x) {
    static const kv_query_adapter none;
    struct layer_run r = *run;
    for (r.layer = 0; r.layer < r.n_layers; r.layer++) {
        kv_tensor *in[KV_RECOMPUTE_INPUTS];
        const kv_query_adapter *a = r.pass.adapters ? &r.pass.adapters[r.layer] : &none;
        take_inputs(&r, x, in);
        if (kv_tape_wants(tape, (const kv_tensor *const *)in, 3, &r.model->layers[r.layer].q, NULL)) break;
        if (kv_tape_wants(tape, NULL, 0, a->q, a->down)) break;
    }
    return r.layer;
}

static void copy_rows(kv_tensor *to, const kv_tensor *from) {
    if (to && from) memcpy(to->data, from->data, (size_t)(from->rows * from->cols) * sizeof *from->data);
}

static void fill_places(const struct layer_run *run, kv_tensor *const *out) {
    const kv_pass *pass = &run->pass;
    const uint8_t parts = wanted(run);
    if (parts & KV_READ_K && pass->raw_k) copy_rows(pass->raw_k[run->layer], out[RAW_K]);
    if (parts & KV_READ_K && pass->k) copy_rows(pass->k[run->layer], out[K]);
    if (parts & KV_READ_V) copy_rows(pass->v[run->layer], out[V]);
    if (parts & KV_READ_H) copy_rows(pass->h[run->layer], out[H]);
}

static void call_made(kv_tape *tape, const struct layer_run *run, kv_tensor *const *out) {
    const uint8_t parts = wanted(run);
    if (kv_tape_status(tape, NULL) != KV_OK) return;
    const kv_arena_mark mark = kv_arena_get_mark(kv_tape_arena(tape));
    run->pass.made(tape, run->layer, parts & KV_READ_K ? out[RAW_K] : NULL, parts & KV_READ_V ? out[V] : NULL,
                   parts & KV_READ_H ? out[H] : NULL, run->pass.made_for);
    kv_arena_release(kv_tape_arena(tape), mark);
}

// Whether a plain layer's output is wanted that the next plain layer overwrites.
static bool leaves_copy(const struct layer_run *run) {
    return run->pass.hidden && run->layer == run->pass.hidden_layer && run->layer + 1 < run->n_plain;
}

// A layer of kv_walk_layers.
static kv_tensor *plain_layer(kv_tape *tape, int64_t layer, kv_tensor *x, void *what) {
    struct layer_run *run = what;
    const kv_pass *pass = &run->pass;
    kv_tensor *in[KV_RECOMPUTE_INPUTS], *out[KV_RECOMPUTE_OUTPUTS] = {0};
    run->layer = layer;
    take_inputs(run, x, in);
    make_keys_values(tape, run, in, out);
    if (pass->made)
        call_made(tape, run, out);
    else
        fill_places(run, out);
    if (pass->cached && !ends_early(run) && out[K] && out[V])
        pass->cached(tape, layer, &out[K], &out[V], pass->cached_for);
    attend(tape, run, in, out);
    if (leaves_copy(run)) copy_rows(*pass->hidden, out[HIDDEN]);
    return out[HIDDEN];
}

static bool run_plain(kv_tape *tape, struct layer_run *run, kv_tensor *x) {
    for (run->layer = 0; run->layer < run->n_plain; run->layer++) {
        kv_tensor *out[KV_RECOMPUTE_OUTPUTS];
        reserve_places(tape, run, x->rows, out);
        if (!run->model->spec.qk_norm) out[K] = out[RAW_K];
        hand_out(run, out);
        if (leaves_copy(run)) *run->pass.hidden = kv_tape_tensor(tape, x->rows, x->cols);
    }
    return kv_tape_status(tape, NULL) == KV_OK && kv_walk_layers(tape, run->n_plain, x, plain_layer, run);
}

// What a layer's gradients are of, some of them perhaps not trained or not there.
enum { LAYER_WEIGHTS = sizeof(kv_layer) / sizeof(kv_param), RUN_WEIGHTS = LAYER_WEIGHTS + 3 };
static void list_weights(const struct layer_run *run, kv_param **weights) {
    static const kv_query_adapter none;
    const kv_query_adapter *a = run->pass.adapters ? &run->pass.adapters[run->layer] : &none;
    kv_param *layer = (kv_param *)&run->model->layers[run->layer];
    for (int i = 0; i < LAYER_WEIGHTS; i++) weights[i] = layer + i;
    weights[LAYER_WEIGHTS] = a->q, weights[LAYER_WEIGHTS + 1] = a->down, weights[LAYER_WEIGHTS + 2] = a->up;
}

// A layer that keeps nothing but its input and what it hands out, and is run again in backward.
static bool run_again(kv_tape *tape, struct layer_run *run, kv_tensor *const *in, kv_tensor **out) {
    kv_param *weights[RUN_WEIGHTS];
    list_weights(run, weights);
    kv_recompute region = {.run = run_layer,
                           .what = run,
                           .what_size = sizeof *run,
                           .weights = weights,
                           .n_weights = RUN_WEIGHTS};
    memcpy(region.in, in, sizeof region.in);
    region.out[HIDDEN] = kv_tape_tensor(tape, in[X]->rows, in[X]->cols);
    reserve_places(tape, run, in[X]->rows, region.out);
    if (!kv_recompute_run(tape, &region, true)) return false;
    memcpy(out, region.out, sizeof region.out);
    if (!run->model->spec.qk_norm) out[K] = out[RAW_K];
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

static bool sequences_fit(kv_tape *tape, const kv_model *model, int64_t n, const kv_pass *pass) {
    for (int64_t s = 0; n > 0 && !pass->q_positions && s < pass->n_sequences; s++)
        if (pass->sequences[s].k_len > model->rope->n_positions)
            return kv_tape_fail(tape, KV_ERR_RANGE,
                                "a sequence of %lld tokens is longer than the context of %lld",
                                (long long)pass->sequences[s].k_len, (long long)model->rope->n_positions);
    return true;
}

kv_tensor *kv_model_forward(kv_tape *tape, kv_model *model, const int32_t *ids, int64_t n,
                            const kv_pass *pass) {
    if (!sequences_fit(tape, model, n, pass)) return NULL;
    struct layer_run run = {
        .model = model, .pass = *pass, .n_layers = pass->n_layers ? pass->n_layers : model->spec.n_layers};
    const bool checkpointing = kv_tape_checkpointing(tape);
    if (checkpointing && !(run.pass.sequences = copy_sequences(tape, pass))) return NULL;
    kv_tensor *x = kv_embedding(tape, &model->embed, ids, n);
    run.n_plain = plain_layers(tape, &run, x);
    assert((!pass->made && !pass->cached) || !x || run.n_plain == run.n_layers);
    if (!x || !run_plain(tape, &run, x)) return NULL;
    if (pass->hidden && pass->hidden_layer + 1 == run.n_plain) *pass->hidden = x;
    for (run.layer = run.n_plain; run.layer < run.n_layers && x; run.layer++) {
        kv_tensor *in[KV_RECOMPUTE_INPUTS], *out[KV_RECOMPUTE_OUTPUTS] = {0};
        take_inputs(&run, x, in);
        if (!checkpointing || ends_early(&run))
            run_layer(tape, &run, in, out);
        else if (!run_again(tape, &run, in, out))
            return NULL;
        hand_out(&run, out);
        x = out[HIDDEN];
        if (pass->hidden && run.layer == pass->hidden_layer) *pass->hidden = x;
    }
    return x;
}

kv_tensor *kv_model_final_norm(kv_tape *tape, kv_model *model, kv_tensor *x) {
    return kv_rmsnorm(tape, x, &model->norm, model->spec.norm_eps);
}

kv_tensor *kv_model_logits(kv_tape *tape, kv_model *model, kv_tensor *x) {
    return kv_linear(tape, kv_model_final_norm(tape, model, x), kv_model_head(model), NULL);
}

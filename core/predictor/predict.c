// Reading what maps are made for, and applying them.
#include "core/predictor/predictor.h"

#include <string.h>

// ---- Reading -------------------------------------------------------------------------------------------

bool kv_predictor_reads(const kv_predictor *p, kv_source_kind kind) {
    for (int64_t i = 0; i < p->n_inputs; i++)
        for (int32_t k = 0; k < p->inputs[i].sources->n; k++)
            if (p->inputs[i].sources->at[k].kind == kind) return true;
    return false;
}

void kv_predictor_read_base(kv_tape *tape, const kv_predictor *predictor, kv_model *base, const int32_t *ids,
                            int64_t n, kv_taps *taps) {
    const bool keys = kv_predictor_reads(predictor, KV_SOURCE_OWN_KEYS),
               values = kv_predictor_reads(predictor, KV_SOURCE_OWN_VALUES),
               hidden = kv_predictor_reads(predictor, KV_SOURCE_OWN_HIDDEN);
    taps->ids = ids, taps->n = n;
    if (predictor->tabulated || !kv_predictor_spec_reads_base(&predictor->spec)) return;
    taps->embedding = kv_embedding(tape, &base->embed, ids, n);
    if (!keys && !values && !hidden) return;
    kv_tensor *h = kv_layer_norm_in(tape, base, 0, taps->embedding);
    taps->own_h = hidden ? h : NULL;
    if (keys) taps->own_k = kv_layer_raw_keys(tape, base, 0, h);
    if (values) taps->own_v = kv_layer_values(tape, base, 0, h);
}

kv_tensor *kv_predictor_read(kv_tape *tape, const kv_predictor *predictor, kv_model *base, kv_model *aux,
                             const int32_t *ids, int64_t n, const kv_pass *pass, bool whole, kv_taps *taps) {
    uint8_t bits[KV_MAX_LAYERS];
    kv_pass own = *pass;
    memset(taps, 0, sizeof *taps);
    own.n_layers = kv_predictor_spec_reads(&predictor->spec, bits);
    own.only_kv = !whole;
    if (whole) own.n_layers = aux->spec.n_layers;
    own.raw_k = taps->k, own.v = taps->v, own.h = taps->h, own.k = NULL, own.reads = bits;
    kv_tensor *hidden = NULL;
    if (own.n_layers > 0) hidden = kv_model_forward(tape, aux, ids, n, &own);
    kv_predictor_read_base(tape, predictor, base, ids, n, taps);
    if (own.n_layers > 0) return hidden;
    return taps->embedding ? taps->embedding : kv_tape_tensor(tape, 1, 1);
}

static kv_tensor *tap_of(const kv_taps *taps, kv_source source) {
    switch ((kv_source_kind)source.kind) {
    case KV_SOURCE_KEYS: return taps->k[source.layer];
    case KV_SOURCE_VALUES: return taps->v[source.layer];
    case KV_SOURCE_HIDDEN: return taps->h[source.layer];
    case KV_SOURCE_EMBEDDING: return taps->embedding;
    case KV_SOURCE_OWN_KEYS: return taps->own_k;
    case KV_SOURCE_OWN_VALUES: return taps->own_v;
    case KV_SOURCE_OWN_HIDDEN: return taps->own_h;
    }
    return NULL;
}

kv_tensor *kv_predictor_input_tensor(kv_tape *tape, const kv_predictor_input *input, const kv_taps *taps) {
    kv_tensor *parts[KV_MAX_SOURCES];
    const kv_sources *sources = input->sources;
    for (int32_t k = 0; k < sources->n; k++) parts[k] = tap_of(taps, sources->at[k]);
    return kv_concat(tape, parts, sources->n, input->n_blocks);
}

// ---- Predicting ----------------------------------------------------------------------------------------

// embedded: the rows of predictor->embedding.
static kv_tensor *table_rows(kv_tape *tape, kv_predictor *p, int side, int64_t layer, const kv_taps *taps,
                             kv_tensor *embedded) {
    kv_param *table = &p->outputs[side][layer].table;
    if (p->tabulated || p->spec.outputs[side][layer].table == KV_TABLE_FULL)
        return kv_embedding(tape, table, taps->ids, taps->n);
    return kv_linear(tape, embedded, table, NULL);
}

static kv_tensor *make_output(kv_tape *tape, kv_predictor *p, int side, int64_t layer, const kv_taps *taps,
                              kv_tensor **inputs, kv_tensor *embedded) {
    kv_predictor_output *output = &p->outputs[side][layer];
    if (output->input < 0) return table_rows(tape, p, side, layer, taps, embedded);
    kv_tensor **x = &inputs[output->input];
    if (!*x) *x = kv_predictor_input_tensor(tape, &p->inputs[output->input], taps);
    const kv_map_input input = {.x = *x, .ids = taps->ids};
    kv_tensor *y = output->map.kind->forward(tape, &output->map, &input);
    if (output->table.rows == 0) return y;
    return kv_add(tape, y, table_rows(tape, p, side, layer, taps, embedded));
}

static kv_tensor *embed(kv_tape *tape, kv_predictor *p, const kv_taps *taps) {
    return p->embedding.rows > 0 ? kv_embedding(tape, &p->embedding, taps->ids, taps->n) : NULL;
}

void kv_predict(kv_tape *tape, kv_predictor *predictor, const kv_key_norms *norms, const kv_taps *taps,
                kv_tensor **k, kv_tensor **v) {
    kv_predict_from(tape, predictor, norms, taps, 0, k, v);
}

void kv_predict_from(kv_tape *tape, kv_predictor *predictor, const kv_key_norms *norms, const kv_taps *taps,
                     int64_t first, kv_tensor **k, kv_tensor **v) {
    kv_tensor *inputs[KV_SIDES * KV_MAX_LAYERS] = {0}, *embedded = embed(tape, predictor, taps);
    for (int64_t i = first; i < predictor->spec.n_base_layers; i++) {
        k[i] = make_output(tape, predictor, KV_KEYS, i, taps, inputs, embedded);
        if (norms->weight[i]) k[i] = kv_rmsnorm(tape, k[i], norms->weight[i], norms->eps);
        v[i] = make_output(tape, predictor, KV_VALUES, i, taps, inputs, embedded);
    }
}

kv_tensor *kv_predict_one(kv_tape *tape, kv_predictor *predictor, int side, int64_t layer,
                          const kv_taps *taps) {
    kv_tensor *inputs[KV_SIDES * KV_MAX_LAYERS] = {0};
    return make_output(tape, predictor, side, layer, taps, inputs, embed(tape, predictor, taps));
}

kv_tensor *kv_predict_table(kv_tape *tape, kv_predictor *predictor, int side, int64_t layer,
                            const kv_taps *taps) {
    return table_rows(tape, predictor, side, layer, taps, embed(tape, predictor, taps));
}

// ---- While the aux reads -------------------------------------------------------------------------------
//
//   aux layer 0     k0 v0 h0 ──► outputs that read nothing behind it ──► take     keys or values of a base layer, one
//                    └ kept: what is read further down, too                       output after the other in the same
//   aux layer 1     k1 v1 h1 ──► outputs that read k1, [h0 h1], … ─────► take     memory
//   …               the aux ends with what the last of them reads
//
// Before the first layer come the outputs that depend on the token alone.

struct along {
    kv_predictor *predictor;
    const kv_key_norms *norms;
    kv_entries_fn *take;
    void *what;
    const kv_some_rows *only; // NULL: all
    kv_taps taps, kept;       // kept: places for what is read later than where it is made
    kv_tensor *embedded;
};

int64_t kv_predictor_input_layer(const kv_predictor_input *input) {
    int64_t last = -1;
    for (int32_t k = 0; k < input->sources->n; k++) {
        const kv_source s = input->sources->at[k];
        if (!kv_source_of_token(s) && s.layer > last) last = s.layer;
    }
    return last;
}

static kv_tensor **place_of(kv_taps *taps, kv_source source) {
    switch ((kv_source_kind)source.kind) {
    case KV_SOURCE_KEYS: return &taps->k[source.layer];
    case KV_SOURCE_VALUES: return &taps->v[source.layer];
    default: return &taps->h[source.layer];
    }
}

static void reserve_kept(kv_tape *tape, struct along *a, int64_t n) {
    for (int64_t i = 0; i < a->predictor->n_inputs; i++) {
        const kv_predictor_input *input = &a->predictor->inputs[i];
        const int64_t last = kv_predictor_input_layer(input);
        for (int32_t k = 0; k < input->sources->n; k++) {
            const kv_source s = input->sources->at[k];
            if (kv_source_of_token(s) || s.layer == last) continue;
            kv_tensor **place = place_of(&a->kept, s);
            if (!*place) *place = kv_tape_tensor(tape, n, input->dims[k]);
        }
    }
}

// Sets a tap of this layer, and keeps it if that is asked for.
static void set_tap(kv_tape *tape, const struct along *a, kv_tensor **tap, kv_tensor *kept, kv_tensor *made) {
    if (made && a->only) made = kv_gather_rows(tape, made, a->only->rows, a->only->n);
    *tap = made && kept ? kept : made;
    if (made && kept) memcpy(kept->data, made->data, (size_t)(made->rows * made->cols) * sizeof *made->data);
}

static void make_entries(kv_tape *tape, struct along *a, int side, int64_t layer, kv_tensor **inputs) {
    const kv_arena_mark mark = kv_arena_get_mark(kv_tape_arena(tape));
    kv_tensor *y = make_output(tape, a->predictor, side, layer, &a->taps, inputs, a->embedded);
    if (side == KV_KEYS && a->norms->weight[layer])
        y = kv_rmsnorm(tape, y, a->norms->weight[layer], a->norms->eps);
    if (y) a->take(a->what, side, layer, y);
    kv_arena_release(kv_tape_arena(tape), mark);
}

// Of input `index` of the predictor, put together once; -1: of none.
static void make_all_of(kv_tape *tape, struct along *a, int64_t index) {
    kv_predictor *p = a->predictor;
    kv_tensor *inputs[KV_SIDES * KV_MAX_LAYERS]; // only the one is asked for
    if (index >= 0) inputs[index] = kv_predictor_input_tensor(tape, &p->inputs[index], &a->taps);
    for (int64_t i = 0; i < p->spec.n_base_layers; i++)
        for (int side = 0; side < KV_SIDES; side++)
            if (p->outputs[side][i].input == index) make_entries(tape, a, side, i, inputs);
}

static void make_behind(kv_tape *tape, struct along *a, int64_t layer) {
    for (int64_t i = 0; i < a->predictor->n_inputs; i++) {
        if (kv_predictor_input_layer(&a->predictor->inputs[i]) != layer) continue;
        const kv_arena_mark mark = kv_arena_get_mark(kv_tape_arena(tape));
        make_all_of(tape, a, i);
        kv_arena_release(kv_tape_arena(tape), mark);
    }
}

// A kv_made_fn.
static void made(kv_tape *tape, int64_t layer, kv_tensor *raw_k, kv_tensor *v, kv_tensor *h, void *what) {
    struct along *a = what;
    set_tap(tape, a, &a->taps.k[layer], a->kept.k[layer], raw_k);
    set_tap(tape, a, &a->taps.v[layer], a->kept.v[layer], v);
    set_tap(tape, a, &a->taps.h[layer], a->kept.h[layer], h);
    make_behind(tape, a, layer);
}

bool kv_predict_along(kv_tape *tape, kv_predictor *predictor, const kv_key_norms *norms, kv_model *base,
                      kv_model *aux, const int32_t *ids, int64_t n, const kv_pass *pass,
                      const kv_some_rows *only, kv_entries_fn *take, void *what) {
    struct along a = {.predictor = predictor, .norms = norms, .take = take, .what = what, .only = only};
    const int64_t n_made = only ? only->n : n;
    uint8_t bits[KV_MAX_LAYERS];
    kv_pass own = *pass;
    own.n_layers = kv_predictor_spec_reads(&predictor->spec, bits);
    own.only_kv = true, own.reads = bits;
    own.raw_k = own.k = own.v = own.h = NULL;
    own.made = made, own.made_for = &a;
    kv_predictor_read_base(tape, predictor, base, only ? only->ids : ids, n_made, &a.taps);
    a.embedded = embed(tape, predictor, &a.taps);
    reserve_kept(tape, &a, n_made);
    if (kv_tape_status(tape, NULL) != KV_OK) return false;
    make_all_of(tape, &a, -1);
    make_behind(tape, &a, -1);
    if (own.n_layers > 0) kv_model_forward(tape, aux, ids, n, &own);
    return kv_tape_status(tape, NULL) == KV_OK;
}

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
    if (keys) taps->own_k = kv_layer_keys(tape, base, 0, h).raw_k;
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

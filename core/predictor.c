// Which aux layer each base layer reads, what the maps look like, and their application.
#include "core/predictor.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

void kv_mapping_separate(int64_t n_base, int64_t n_aux, int32_t *mapping) {
    int64_t q = n_base / n_aux, r = n_base % n_aux, i = 0;
    for (int64_t j = 0; j < n_aux; j++)
        for (int64_t c = 0; c < q + (j < r); c++) mapping[i++] = (int32_t)j;
}

void kv_mapping_pruned(int64_t n_base, const int32_t *kept, int64_t n_kept, int32_t *mapping) {
    int64_t j = 0;
    for (int64_t i = 0; i < n_base; i++) {
        while (j + 1 < n_kept && kept[j + 1] <= i) j++;
        mapping[i] = (int32_t)j;
    }
}

void kv_mapping_uniform(int64_t n_base, int64_t n_aux, int32_t *mapping) {
    for (int64_t i = 0; i < n_base; i++) mapping[i] = (int32_t)(i * n_aux / n_base);
}

void kv_mapping_reverse(int64_t n_base, int64_t n_aux, int32_t *mapping) {
    for (int64_t i = 0; i < n_base; i++) mapping[i] = (int32_t)(n_aux - 1 - mapping[i]);
}

static bool is_pruned(const kv_model_spec *base, const kv_model_spec *aux, const int32_t *kept,
                      int64_t n_kept) {
    if (n_kept != aux->n_layers || aux->model_dim != base->model_dim || aux->head_dim != base->head_dim)
        return false;
    for (int64_t i = 0; i < n_kept; i++) {
        const kv_layer_spec *a = &aux->layers[i], *b = &base->layers[kept[i]];
        if (a->n_heads != b->n_heads || a->n_kv_heads != b->n_kv_heads || a->ffn_dim != b->ffn_dim)
            return false;
    }
    return true;
}

void kv_mapping_default(const kv_model_spec *base, const kv_model_spec *aux, int32_t *mapping) {
    static const double fractions[] = {0.75, 0.5, 0.25};
    for (size_t f = 0; f < sizeof fractions / sizeof *fractions; f++) {
        int32_t kept[KV_MAX_LAYERS];
        const int64_t n_kept = kv_pruned_layers(base->n_layers, fractions[f], kept);
        if (!is_pruned(base, aux, kept, n_kept)) continue;
        kv_mapping_pruned(base->n_layers, kept, n_kept, mapping);
        return;
    }
    kv_mapping_separate(base->n_layers, aux->n_layers, mapping);
}

kv_status kv_mapping_check(const int32_t *mapping, int64_t length, int64_t n_base, int64_t n_aux,
                           kv_error *err) {
    if (length != n_base)
        return kv_fail(err, KV_ERR_ARGUMENT,
                       "the layer map has %lld entries, expected one for each of the %lld base layers",
                       (long long)length, (long long)n_base);
    for (int64_t i = 0; i < length; i++)
        if (mapping[i] < 0 || mapping[i] >= n_aux)
            return kv_fail(err, KV_ERR_ARGUMENT,
                           "entry %lld of the layer map is %d, expected an aux layer from 0 to %lld",
                           (long long)i, (int)mapping[i], (long long)n_aux - 1);
    return KV_OK;
}

// ---- Shapes --------------------------------------------------------------------------------------------

static bool reads_two(const kv_predictor *p) {
    return p->kind.aux_layers > 1;
}

static int64_t effective_aux_layers(const kv_predictor_kind *kind) {
    return kind->aux_layers > 1 ? kind->aux_layers : 1;
}

bool kv_predictor_is_kind(const kv_predictor *predictor, const kv_predictor_kind *kind) {
    return predictor->kind.rank == kind->rank &&
           effective_aux_layers(&predictor->kind) == effective_aux_layers(kind);
}

int64_t kv_predictor_inputs(const kv_predictor *predictor, int64_t layer, int32_t inputs[2]) {
    const int32_t j = predictor->mapping[layer];
    inputs[0] = j;
    if (!reads_two(predictor)) return 1;
    inputs[1] = j + 1 < predictor->n_aux_layers ? j + 1 : j - 1;
    return 2;
}

int64_t kv_predictor_input_dim(const kv_predictor *predictor, const kv_model_spec *aux, int64_t layer) {
    int32_t inputs[2];
    const int64_t n = kv_predictor_inputs(predictor, layer, inputs);
    return kv_spec_kv_dim(aux, inputs[0]) + (n > 1 ? kv_spec_kv_dim(aux, inputs[1]) : 0);
}

int64_t kv_predictor_depth(const kv_predictor *predictor) {
    int64_t last = 0;
    for (int64_t i = 0; i < predictor->n_base_layers; i++) {
        int32_t inputs[2];
        const int64_t n = kv_predictor_inputs(predictor, i, inputs);
        for (int64_t k = 0; k < n; k++) last = inputs[k] > last ? inputs[k] : last;
    }
    return last + 1;
}

int64_t kv_predictor_planned_size(const kv_predictor *shape, const kv_model_spec *base,
                                  const kv_model_spec *aux) {
    int64_t size = 0;
    for (int64_t i = 0; i < base->n_layers; i++) {
        const int64_t in = kv_predictor_input_dim(shape, aux, i), out = kv_spec_kv_dim(base, i);
        size += 2 * (out + (shape->kind.rank > 0 ? shape->kind.rank * (in + out) : in * out));
    }
    return size;
}

// A predictor without weights.
static kv_predictor shape_of(const kv_model_spec *base, const kv_model_spec *aux, const int32_t *mapping,
                             const kv_predictor_kind *kind) {
    kv_predictor shape = {.n_base_layers = base->n_layers, .n_aux_layers = aux->n_layers, .kind = *kind};
    for (int64_t i = 0; i < base->n_layers; i++) shape.mapping[i] = mapping[i];
    return shape;
}

kv_status kv_predictor_kind_check(const kv_model_spec *base, const kv_model_spec *aux, const int32_t *mapping,
                                  const kv_predictor_kind *kind, kv_error *err) {
    if (kind->aux_layers < 0 || kind->aux_layers > 2)
        return kv_fail(err, KV_ERR_ARGUMENT, "maps that read %lld aux layers, expected 1 or 2",
                       (long long)kind->aux_layers);
    if (kind->aux_layers == 2 && aux->n_layers < 2)
        return kv_fail(err, KV_ERR_ARGUMENT, "maps that read 2 aux layers, expected 1: the aux has no more");
    const kv_predictor shape = shape_of(base, aux, mapping, kind);
    for (int64_t i = 0; i < base->n_layers; i++) {
        const int64_t in = kv_predictor_input_dim(&shape, aux, i), out = kv_spec_kv_dim(base, i);
        const int64_t most = in < out ? in : out;
        if (kind->rank < 0 || kind->rank > most)
            return kv_fail(err, KV_ERR_ARGUMENT,
                           "rank %lld, expected 0 (full) to %lld: the map of base layer %lld makes %lld "
                           "features of %lld",
                           (long long)kind->rank, (long long)most, (long long)i, (long long)out,
                           (long long)in);
    }
    return KV_OK;
}

// ---- Memory --------------------------------------------------------------------------------------------

static void describe(kv_param *p, const char *kind, int64_t layer, const char *part, int64_t rows,
                     int64_t cols, float **next) {
    *p = (kv_param){.rows = rows, .cols = cols, .dtype = KV_F32, .data = *next, .decay = rows > 1};
    snprintf(p->name, sizeof p->name, "%s.%lld.%s", kind, (long long)layer, part);
    if (*next) *next += rows * cols;
}

// One map; matrices decay even if they have a single row.
static void describe_map(kv_param *w, kv_param *b, kv_param *down, int64_t rank, const char *kind,
                         int64_t layer, int64_t out, int64_t in, float **next) {
    if (rank > 0) {
        describe(down, kind, layer, "down.weight", rank, in, next);
        describe(w, kind, layer, "up.weight", out, rank, next);
        down->decay = true;
    } else {
        describe(w, kind, layer, "weight", out, in, next);
    }
    w->decay = true;
    describe(b, kind, layer, "bias", 1, out, next);
}

static kv_param *down_of(kv_param *downs, int64_t layer) {
    return downs ? &downs[layer] : NULL;
}

static void describe_all(kv_predictor *p, const kv_model_spec *base, const kv_model_spec *aux, float *next) {
    for (int64_t i = 0; i < p->n_base_layers; i++) {
        int64_t out = kv_spec_kv_dim(base, i), in = kv_predictor_input_dim(p, aux, i), rank = p->kind.rank;
        describe_map(&p->key_w[i], &p->key_b[i], down_of(p->key_down, i), rank, "key", i, out, in, &next);
        describe_map(&p->value_w[i], &p->value_b[i], down_of(p->value_down, i), rank, "value", i, out, in,
                     &next);
    }
}

kv_status kv_predictor_create_kind(const kv_model_spec *base, const kv_model_spec *aux,
                                   const int32_t *mapping, const kv_predictor_kind *kind,
                                   kv_predictor **predictor, kv_error *err) {
    *predictor = NULL;
    kv_status status = kv_mapping_check(mapping, base->n_layers, base->n_layers, aux->n_layers, err);
    if (status == KV_OK) status = kv_predictor_kind_check(base, aux, mapping, kind, err);
    if (status != KV_OK) return status;
    kv_predictor *p = calloc(1, sizeof *p);
    if (!p) return kv_fail(err, KV_ERR_MEMORY, "out of memory");
    *p = shape_of(base, aux, mapping, kind);
    const int64_t n = base->n_layers;
    p->key_w = calloc((size_t)n * 6, sizeof *p->key_w);
    if (p->key_w) {
        p->key_b = p->key_w + n, p->value_w = p->key_w + 2 * n, p->value_b = p->key_w + 3 * n;
        if (kind->rank > 0) p->key_down = p->key_w + 4 * n, p->value_down = p->key_w + 5 * n;
        describe_all(p, base, aux, NULL);
        p->storage = calloc((size_t)kv_predictor_size(p), sizeof(float));
    }
    if (!p->storage) {
        kv_predictor_free(p);
        return kv_fail(err, KV_ERR_MEMORY, "out of memory for the predictors");
    }
    describe_all(p, base, aux, p->storage);
    *predictor = p;
    return KV_OK;
}

kv_status kv_predictor_create(const kv_model_spec *base, const kv_model_spec *aux, const int32_t *mapping,
                              kv_predictor **predictor, kv_error *err) {
    return kv_predictor_create_kind(base, aux, mapping, &(kv_predictor_kind){.aux_layers = 1}, predictor,
                                    err);
}

void kv_predictor_free(kv_predictor *predictor) {
    if (!predictor) return;
    free(predictor->storage);
    free(predictor->grads);
    free(predictor->key_w);
    free(predictor);
}

// ---- Parameters ----------------------------------------------------------------------------------------

// Those of one base layer: how many there are.
static int64_t layer_params(const kv_predictor *p, int64_t layer, kv_param *params[6]) {
    int64_t n = 0;
    if (p->key_down) params[n++] = &p->key_down[layer];
    params[n++] = &p->key_w[layer];
    params[n++] = &p->key_b[layer];
    if (p->value_down) params[n++] = &p->value_down[layer];
    params[n++] = &p->value_w[layer];
    params[n++] = &p->value_b[layer];
    return n;
}

int64_t kv_predictor_params(kv_predictor *predictor, kv_param **params) {
    int64_t n = 0;
    for (int64_t i = 0; i < predictor->n_base_layers; i++) {
        kv_param *own[6];
        const int64_t n_own = layer_params(predictor, i, own);
        for (int64_t k = 0; params && k < n_own; k++) params[n + k] = own[k];
        n += n_own;
    }
    return n;
}

int64_t kv_predictor_size(const kv_predictor *predictor) {
    int64_t size = 0;
    for (int64_t i = 0; i < predictor->n_base_layers; i++) {
        kv_param *own[6];
        const int64_t n = layer_params(predictor, i, own);
        for (int64_t k = 0; k < n; k++) size += kv_param_size(own[k]);
    }
    return size;
}

static void init_weight(kv_param *w, uint64_t seed) {
    kv_rng rng = kv_rng_stream(seed, w->name);
    float *data = w->data, std = 1 / sqrtf((float)w->cols);
#pragma omp parallel for schedule(static) if (kv_param_size(w) > 1 << 12)
    for (int64_t j = 0; j < kv_param_size(w); j++) data[j] = std * (float)kv_rng_normal(rng, (uint64_t)j);
}

void kv_predictor_init(kv_predictor *predictor, uint64_t seed) {
    for (int64_t i = 0; i < predictor->n_base_layers; i++) {
        kv_param *own[6];
        const int64_t n = layer_params(predictor, i, own);
        for (int64_t k = 0; k < n; k++)
            if (own[k]->decay) init_weight(own[k], seed); // all but biases
    }
}

kv_status kv_predictor_set_trainable(kv_predictor *predictor, bool trainable, kv_error *err) {
    free(predictor->grads);
    predictor->grads = trainable ? calloc((size_t)kv_predictor_size(predictor), sizeof(float)) : NULL;
    float *next = predictor->grads;
    for (int64_t i = 0; i < predictor->n_base_layers; i++) {
        kv_param *own[6];
        const int64_t n = layer_params(predictor, i, own);
        for (int64_t k = 0; k < n; k++) {
            own[k]->grad = next;
            if (next) next += kv_param_size(own[k]);
        }
    }
    if (trainable && !predictor->grads)
        return kv_fail(err, KV_ERR_MEMORY, "out of memory for the predictors' gradients");
    return KV_OK;
}

// ---- Prediction ----------------------------------------------------------------------------------------

// What the map of a base layer reads of aux[n_aux_layers]. Neighbours are joined once for all that read them:
// joined[] has them by the first of the two.
static kv_tensor *input_of(kv_tape *tape, const kv_predictor *p, int64_t layer, kv_tensor *const *aux,
                           kv_tensor **joined) {
    int32_t j[2];
    if (kv_predictor_inputs(p, layer, j) == 1) return aux[j[0]];
    if (!joined[j[0]]) joined[j[0]] = kv_concat(tape, aux[j[0]], aux[j[1]]);
    return joined[j[0]];
}

static kv_tensor *apply_map(kv_tape *tape, kv_tensor *x, kv_param *down, kv_param *w, kv_param *bias) {
    return kv_linear(tape, down ? kv_linear(tape, x, down, NULL) : x, w, bias);
}

void kv_predict(kv_tape *tape, kv_predictor *predictor, const kv_key_norms *norms,
                kv_tensor *const *aux_raw_k, kv_tensor *const *aux_v, kv_tensor **k, kv_tensor **v) {
    kv_tensor *joined_k[KV_MAX_LAYERS] = {0}, *joined_v[KV_MAX_LAYERS] = {0};
    for (int64_t i = 0; i < predictor->n_base_layers; i++) {
        k[i] = apply_map(tape, input_of(tape, predictor, i, aux_raw_k, joined_k),
                         down_of(predictor->key_down, i), &predictor->key_w[i], &predictor->key_b[i]);
        if (norms->weight[i]) k[i] = kv_rmsnorm(tape, k[i], norms->weight[i], norms->eps);
        v[i] = apply_map(tape, input_of(tape, predictor, i, aux_v, joined_v),
                         down_of(predictor->value_down, i), &predictor->value_w[i], &predictor->value_b[i]);
    }
}

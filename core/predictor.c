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

static void describe(kv_param *p, const char *kind, int64_t layer, const char *part, int64_t rows,
                     int64_t cols, float **next) {
    *p = (kv_param){.rows = rows, .cols = cols, .dtype = KV_F32, .data = *next, .decay = rows > 1};
    snprintf(p->name, sizeof p->name, "%s.%lld.%s", kind, (long long)layer, part);
    if (*next) *next += rows * cols;
}

static void describe_all(kv_predictor *p, const kv_model_spec *base, const kv_model_spec *aux, float *next) {
    for (int64_t i = 0; i < p->n_base_layers; i++) {
        int64_t out = kv_spec_kv_dim(base, i), in = kv_spec_kv_dim(aux, p->mapping[i]);
        describe(&p->key_w[i], "key", i, "weight", out, in, &next);
        describe(&p->key_b[i], "key", i, "bias", 1, out, &next);
        describe(&p->value_w[i], "value", i, "weight", out, in, &next);
        describe(&p->value_b[i], "value", i, "bias", 1, out, &next);
        p->key_w[i].decay = p->value_w[i].decay = true; // also when there is a single output
    }
}

kv_status kv_predictor_create(const kv_model_spec *base, const kv_model_spec *aux, const int32_t *mapping,
                              kv_predictor **predictor, kv_error *err) {
    *predictor = NULL;
    kv_status status = kv_mapping_check(mapping, base->n_layers, base->n_layers, aux->n_layers, err);
    if (status != KV_OK) return status;
    kv_predictor *p = calloc(1, sizeof *p);
    if (!p) return kv_fail(err, KV_ERR_MEMORY, "out of memory");
    int64_t n = base->n_layers;
    p->n_base_layers = n, p->n_aux_layers = aux->n_layers;
    for (int64_t i = 0; i < n; i++) p->mapping[i] = mapping[i];
    p->key_w = calloc((size_t)n * 4, sizeof *p->key_w);
    if (p->key_w) {
        p->key_b = p->key_w + n, p->value_w = p->key_w + 2 * n, p->value_b = p->key_w + 3 * n;
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

void kv_predictor_free(kv_predictor *predictor) {
    if (!predictor) return;
    free(predictor->storage);
    free(predictor->grads);
    free(predictor->key_w);
    free(predictor);
}

int64_t kv_predictor_params(kv_predictor *predictor, kv_param **params) {
    for (int64_t i = 0; params && i < predictor->n_base_layers; i++) {
        *params++ = &predictor->key_w[i];
        *params++ = &predictor->key_b[i];
        *params++ = &predictor->value_w[i];
        *params++ = &predictor->value_b[i];
    }
    return 4 * predictor->n_base_layers;
}

int64_t kv_predictor_size(const kv_predictor *predictor) {
    int64_t size = 0;
    for (int64_t i = 0; i < 4 * predictor->n_base_layers; i++) size += kv_param_size(&predictor->key_w[i]);
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
        init_weight(&predictor->key_w[i], seed);
        init_weight(&predictor->value_w[i], seed);
    }
}

kv_status kv_predictor_set_trainable(kv_predictor *predictor, bool trainable, kv_error *err) {
    free(predictor->grads);
    predictor->grads = trainable ? calloc((size_t)kv_predictor_size(predictor), sizeof(float)) : NULL;
    float *next = predictor->grads;
    for (int64_t i = 0; i < 4 * predictor->n_base_layers; i++) {
        predictor->key_w[i].grad = next;
        if (next) next += kv_param_size(&predictor->key_w[i]);
    }
    if (trainable && !predictor->grads)
        return kv_fail(err, KV_ERR_MEMORY, "out of memory for the predictors' gradients");
    return KV_OK;
}

void kv_predict(kv_tape *tape, kv_predictor *predictor, const kv_key_norms *norms,
                kv_tensor *const *aux_raw_k, kv_tensor *const *aux_v, kv_tensor **k, kv_tensor **v) {
    for (int64_t i = 0; i < predictor->n_base_layers; i++) {
        int32_t j = predictor->mapping[i];
        k[i] = kv_linear(tape, aux_raw_k[j], &predictor->key_w[i], &predictor->key_b[i]);
        if (norms->weight[i]) k[i] = kv_rmsnorm(tape, k[i], norms->weight[i], norms->eps);
        v[i] = kv_linear(tape, aux_v[j], &predictor->value_w[i], &predictor->value_b[i]);
    }
}

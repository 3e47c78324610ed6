// Rules from the number of layers alone.
#include "core/predictor/mapping.h"

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

void kv_layers_near(int32_t j, int64_t n, int64_t n_aux, int32_t *layers) {
    int64_t n_found = 0;
    for (int64_t distance = 0; n_found < n; distance++) {
        if (j + distance < n_aux) layers[n_found++] = (int32_t)(j + distance);
        if (distance > 0 && n_found < n && j >= distance) layers[n_found++] = (int32_t)(j - distance);
    }
}

// Predictors of the first kinds there were, which most tests are content with.
#include "tests/support/predictors/paper.h"

#include "tests/support/support.h"

#include <stdlib.h>
#include <string.h>

const kv_predictor_spec *test_spec(const kv_model_spec *base, const kv_model_spec *aux,
                                   const int32_t *mapping, test_kind kind) {
    static kv_predictor_spec spec;
    kv_predictor_spec_paper(base, aux, mapping, &spec);
    kv_predictor_spec_neighbours(&spec, kind.aux_layers);
    if (kind.rank != 0) kv_predictor_spec_set_map(&spec, &kv_map_low_rank, kind.rank);
    return &spec;
}

kv_status test_create(const kv_model_spec *base, const kv_model_spec *aux, const int32_t *mapping,
                      test_kind kind, kv_predictor **predictor, kv_error *err) {
    return kv_predictor_create(base, aux, test_spec(base, aux, mapping, kind), predictor, err);
}

kv_predictor *test_plan(const kv_model_spec *base, const kv_model_spec *aux, const int32_t *mapping,
                        test_kind kind) {
    kv_predictor *predictor;
    kv_error err = {0};
    if (kv_predictor_plan(base, aux, test_spec(base, aux, mapping, kind), &predictor, &err) != KV_OK)
        fail_msg("%s", err.message);
    return predictor;
}

kv_param *test_named_param(kv_predictor *predictor, const char *name) {
    const int64_t n = kv_predictor_params(predictor, NULL);
    kv_param **params = malloc((size_t)n * sizeof(kv_param *)), *found = NULL;
    assert_non_null(params);
    kv_predictor_params(predictor, params);
    for (int64_t i = 0; i < n; i++)
        if (strcmp(params[i]->name, name) == 0) found = params[i];
    free(params);
    return found;
}

static kv_param *part(const kv_predictor *predictor, kv_side side, int64_t layer, int64_t from_end) {
    kv_map *map = &predictor->outputs[side][layer].map;
    return from_end <= map->n_params ? &map->params[map->n_params - from_end] : NULL;
}

kv_param *test_bias(const kv_predictor *predictor, kv_side side, int64_t layer) {
    return part(predictor, side, layer, 1);
}

kv_param *test_weight(const kv_predictor *predictor, kv_side side, int64_t layer) {
    return part(predictor, side, layer, 2);
}

kv_param *test_down(const kv_predictor *predictor, kv_side side, int64_t layer) {
    return part(predictor, side, layer, 3);
}

int32_t test_layer_read(const kv_predictor *predictor, int64_t layer) {
    return predictor->spec.outputs[KV_KEYS][layer].sources.at[0].layer;
}

int64_t test_layers_read(const kv_predictor *predictor, int64_t layer, int32_t layers[KV_MAX_LAYERS]) {
    const kv_sources *sources = &predictor->spec.outputs[KV_KEYS][layer].sources;
    for (int32_t k = 0; k < sources->n; k++) layers[k] = sources->at[k].layer;
    return sources->n;
}

int64_t test_depth(const kv_predictor *predictor) {
    uint8_t reads[KV_MAX_LAYERS];
    return kv_predictor_spec_reads(&predictor->spec, reads);
}

bool test_is_kind(const kv_predictor *predictor, test_kind kind) {
    const kv_output_spec *output = &predictor->spec.outputs[KV_KEYS][0];
    const kv_map_kind *expected = kind.rank > 0 ? &kv_map_low_rank : &kv_map_linear;
    return output->kind == expected && output->width == kind.rank &&
           output->sources.n == (kind.aux_layers > 1 ? kind.aux_layers : 1);
}

kv_taps test_taps(const kv_predictor *predictor, kv_tensor *const *raw_k, kv_tensor *const *v) {
    kv_taps taps = {0};
    const int64_t depth = test_depth(predictor);
    for (int64_t j = 0; j < depth; j++) taps.k[j] = raw_k[j], taps.v[j] = v[j];
    for (int64_t j = 0; j < depth; j++)
        if (taps.k[j]) taps.n = taps.k[j]->rows;
    return taps;
}

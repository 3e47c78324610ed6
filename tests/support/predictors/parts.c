// The table of everything that a predictor can be made of.
#include "tests/support/predictors/parts.h"

#include "core/predictor/tabulated.h"
#include "tests/support/support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const test_part test_parts[TEST_PARTS] = {
    {.name = "values for keys", .keys = "v1", .values = "k0", .map = "linear"},
    {.name = "hidden states", .keys = "h0 h1", .values = "h1", .map = "linear"},
    {.name = "hidden states and embedding",
     .keys = "h0 h1 embedding",
     .values = "h1 embedding",
     .map = "linear"},
    {.name = "the embedding alone", .keys = "embedding", .values = "embedding", .map = "linear"},
    {.name = "all there is",
     .keys = "k0 k1 v0 v1 h0 h1 embedding",
     .values = "v1 embedding",
     .map = "linear"},
    {.name = "low rank", .keys = "k0 h1", .values = "v0 embedding", .map = "low_rank", .width = 3},
    {.name = "a hidden layer", .keys = "k0 h1", .values = "v0 embedding", .map = "mlp", .width = 3},
    {.name = "a hidden layer and a table",
     .keys = "h1 embedding",
     .values = "own_v",
     .map = "mlp",
     .width = 4,
     .table = 3},
    {.name = "heads matched, a hidden layer",
     .keys = "k0",
     .values = "v0",
     .map = "mlp",
     .width = 2,
     .matched = true},
    {.name = "a table", .keys = "k1", .values = "v1", .map = "linear", .table = KV_TABLE_FULL},
    {.name = "a narrow table", .keys = "h1", .values = "v1", .map = "linear", .table = 5},
    {.name = "low rank and a table",
     .keys = "h1 embedding",
     .values = "v1 own_k",
     .map = "low_rank",
     .width = 3,
     .table = KV_TABLE_FULL},
    {.name = "the base's own first layer",
     .keys = "h0 own_k own_v",
     .values = "embedding own_v",
     .map = "linear",
     .table = 2},
    {.name = "the base's own first input", .keys = "h1 own_h", .values = "v1 own_h", .map = "linear"},
    {.name = "the first layer exact", .keys = "h1", .values = "h1", .map = "linear", .exact_first = true},
    {.name = "heads matched", .keys = "k0", .values = "v0", .map = "linear", .matched = true},
    {.name = "heads matched, low rank",
     .keys = "k0",
     .values = "v0",
     .map = "low_rank",
     .width = 2,
     .matched = true},
    {.name = "a prefix", .prefix = 1},
    {.name = "a longer prefix", .prefix = 2, .table = KV_TABLE_FULL},
    {.name = "a prefix of low rank", .prefix = 1, .map = "low_rank", .width = 4},
    {.name = "queries", .keys = "k1", .values = "v1", .map = "linear", .adapt = KV_ADAPT_QUERIES},
    {.name = "queries of low rank", .keys = "k1", .values = "v1", .map = "linear", .adapt = KV_ADAPT_LORA},
    {.name = "a prefix with queries", .prefix = 2, .adapt = KV_ADAPT_LORA},
};

static void add_sources(kv_sources *sources, const char *names) {
    char text[100], *rest = NULL;
    snprintf(text, sizeof text, "%s", names);
    sources->n = 0;
    for (char *name = strtok_r(text, " ", &rest); name; name = strtok_r(NULL, " ", &rest)) {
        kv_source source;
        assert_true(kv_source_parse(name, &source));
        kv_sources_add(sources, (kv_source_kind)source.kind, source.layer);
    }
}

static void describe(const test_part *part, const kv_model_spec *base, const kv_model_spec *aux,
                     kv_predictor_spec *spec) {
    int32_t mapping[KV_MAX_LAYERS];
    if (part->prefix) {
        kv_predictor_spec_prefix(base, part->prefix, spec);
    } else {
        kv_mapping_separate(base->n_layers, aux->n_layers, mapping);
        kv_predictor_spec_paper(base, aux, mapping, spec);
    }
    for (int64_t i = 0; i < base->n_layers && part->keys; i++) {
        add_sources(&spec->outputs[KV_KEYS][i].sources, part->keys);
        add_sources(&spec->outputs[KV_VALUES][i].sources, part->values);
    }
    for (int side = 0; side < KV_SIDES; side++)
        for (int64_t i = 0; i < base->n_layers; i++) spec->outputs[side][i].matched = part->matched;
    if (part->exact_first) kv_predictor_spec_exact_first(spec);
    if (part->map) kv_predictor_spec_set_map(spec, kv_map_kind_find(part->map), part->width);
    kv_predictor_spec_set_table(spec, part->table);
    spec->adapt = part->adapt;
    spec->adapt_rank = part->adapt == KV_ADAPT_LORA ? 3 : 0;
}

// Tables and everything else that starts at zero get values, too, so that what goes through them shows.
static void disturb(kv_predictor *predictor) {
    const int64_t n = kv_predictor_params(predictor, NULL);
    kv_param **params = test_alloc(n, sizeof *params);
    kv_predictor_params(predictor, params);
    for (int64_t i = 0; i < n; i++) {
        float *data = params[i]->data;
        for (int64_t k = 0; k < kv_param_size(params[i]); k++)
            data[k] += (float)(0.1 * test_value(50 + (uint64_t)i, k));
    }
    free(params);
}

test_made test_part_make_of(const test_part *part, const kv_model_spec *base, const kv_model_spec *aux) {
    kv_model_spec shape = *base;
    kv_error err = {0};
    if (part->matched) // numbers of KV heads with a common divisor
        for (int64_t i = 0; i < shape.n_layers; i++)
            shape.layers[i].n_kv_heads = 2, shape.layers[i].n_heads = 4;
    test_made m = {.base = tiny_model(&shape, 1)};
    if (!part->prefix) m.own_aux = tiny_model(aux, 2);
    m.aux = part->prefix ? m.base : m.own_aux;
    kv_predictor_spec *spec = test_alloc(1, sizeof *spec);
    describe(part, &m.base->spec, &m.aux->spec, spec);
    if (kv_predictor_create(&m.base->spec, &m.aux->spec, spec, &m.predictor, &err) != KV_OK ||
        kv_predictor_init(m.predictor, m.base, 3, &err) != KV_OK)
        fail_msg("%s: %s", part->name, err.message);
    free(spec);
    disturb(m.predictor);
    return m;
}

test_made test_part_make(const test_part *part) {
    const kv_model_spec base = tiny_base(), aux = tiny_aux();
    return test_part_make_of(part, &base, &aux);
}

void test_made_free(test_made *made) {
    kv_predictor_free(made->predictor);
    kv_model_free(made->own_aux);
    kv_model_free(made->base);
}

// ---- Tabulated -----------------------------------------------------------------------------------------

static void fill(kv_param *param, const kv_tensor *rows, kv_dtype dtype) {
    param->dtype = dtype;
    kv_narrow(param->data, rows->data, dtype, rows->rows * rows->cols);
}

kv_predictor *test_tabulated(const test_made *made, kv_dtype dtype) {
    const int64_t n_ids = made->base->spec.vocab_size;
    kv_predictor *p;
    kv_error err = {0};
    if (kv_predictor_create_tabulated(&made->base->spec, &made->aux->spec, &made->predictor->spec, &p,
                                      &err) != KV_OK ||
        kv_predictor_take_rest(p, made->predictor, &err) != KV_OK)
        fail_msg("%s", err.message);
    const int64_t n = kv_predictor_token_tables(p, NULL);
    kv_token_table *tables = test_alloc(n + 1, sizeof *tables);
    int32_t *ids = test_alloc(n_ids, sizeof *ids);
    char *next = p->tables = test_alloc(kv_token_tables_width(p) * n_ids + 1, sizeof(float));
    p->release = free;
    kv_predictor_token_tables(p, tables);
    for (int64_t i = 0; i < n_ids; i++) ids[i] = (int32_t)i;
    kv_tape *tape = kv_tape_create();
    kv_taps taps = {0};
    kv_tape_set_recording(tape, false);
    kv_predictor_read_base(tape, made->predictor, made->base, ids, n_ids, &taps);
    for (int64_t i = 0; i < n; i++) {
        const kv_tensor *rows = kv_token_table_rows(tape, made->predictor, &tables[i], &taps);
        if (!rows) fail_msg("%s: no rows", tables[i].param->name);
        tables[i].param->data = next;
        next += rows->rows * rows->cols * (int64_t)sizeof(float);
        fill(tables[i].param, rows, dtype);
    }
    kv_tape_free(tape);
    free(tables);
    free(ids);
    return p;
}

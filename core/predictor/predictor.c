// A predictor's parts and their parameters: one block of memory, laid out in the order they are listed in.
#include "core/predictor/predictor.h"

#include "core/gemm/packed.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// ---- Shapes --------------------------------------------------------------------------------------------

static int64_t find_input(const kv_predictor *p, const kv_sources *sources, int64_t n_blocks) {
    for (int64_t i = 0; i < p->n_inputs; i++)
        if (p->inputs[i].n_blocks == n_blocks && kv_sources_equal(p->inputs[i].sources, sources)) return i;
    return -1;
}

// What of its sources an output reads: all, or (tabulated) what is not of the token, kept in p->joined.
static const kv_sources *read_sources(kv_predictor *p, const kv_output_spec *output) {
    if (!p->tabulated) return &output->sources;
    kv_sources *left = &p->joined[p->n_inputs];
    *left = output->sources;
    while (left->n > 0 && kv_source_of_token(left->at[left->n - 1])) left->n--;
    return left;
}

static int64_t set_input(kv_predictor *p, const kv_model_spec *base, const kv_model_spec *aux,
                         const kv_output_spec *output, int64_t n_blocks) {
    const kv_sources *sources = read_sources(p, output);
    const int64_t found = find_input(p, sources, n_blocks);
    if (found >= 0 || sources->n == 0) return found;
    int64_t *dims = p->source_dims + p->n_inputs * KV_MAX_SOURCES, sum = 0;
    for (int32_t k = 0; k < sources->n; k++) {
        dims[k] = kv_source_dim(base, aux, sources->at[k]);
        sum += dims[k];
    }
    p->inputs[p->n_inputs] = (kv_predictor_input){sources, n_blocks, sum, dims};
    return p->n_inputs++;
}

static void shape_output(kv_predictor *p, const kv_model_spec *base, const kv_model_spec *aux, int side,
                         int64_t layer) {
    const kv_output_spec *output = &p->spec.outputs[side][layer];
    const int64_t n_blocks = kv_output_blocks(base, aux, layer, output);
    kv_predictor_output *made = &p->outputs[side][layer];
    made->input = set_input(p, base, aux, output, n_blocks);
    made->map.kind = output->kind;
    made->map.shape =
        (kv_map_shape){output->width, n_blocks, made->input < 0 ? 0 : p->inputs[made->input].dim,
                       kv_spec_kv_dim(base, layer)};
}

// "key.3.weight"
static kv_param describe(const char *what, int64_t layer, const char *part, int64_t rows, int64_t cols,
                         bool decay) {
    kv_param p = {.rows = rows, .cols = cols, .dtype = KV_F32, .decay = decay};
    snprintf(p.name, sizeof p.name, "%s.%lld.%s", what, (long long)layer, part);
    return p;
}

static const char *const short_names[KV_SIDES] = {"key", "value"};

// The parameters of one output.
static void describe_output(kv_predictor *p, int64_t vocab_size, int side, int64_t layer) {
    kv_predictor_output *output = &p->outputs[side][layer];
    kv_map_param parts[KV_MAP_PARAMS];
    kv_map *map = &output->map;
    if (output->input < 0) return;
    map->n_params = map->kind->params(&map->shape, parts);
    for (int64_t k = 0; k < map->n_params; k++)
        map->params[k] =
            describe(short_names[side], layer, parts[k].name, parts[k].rows, parts[k].cols, parts[k].matrix);
    if (p->tabulated) return;
    const int64_t table = p->spec.outputs[side][layer].table, dim = map->shape.output_dim;
    if (table == KV_TABLE_FULL)
        output->table = describe(short_names[side], layer, "table", vocab_size, dim, false);
    else if (table > 0)
        output->table = describe(short_names[side], layer, "token.weight", dim, table, true);
    output->table.group = KV_GROUP_TABLES;
}

static kv_param describe_tokens(const kv_model_spec *base, int side, int64_t layer, const char *part,
                                int64_t cols) {
    char name[40];
    snprintf(name, sizeof name, "%s%stable", part ? part : "", part ? "." : "");
    kv_param p = describe(short_names[side], layer, name, base->vocab_size, cols, false);
    p.group = KV_GROUP_TABLES;
    return p;
}

// The tables of one output of a tabulated predictor. What is added to the output as it is shares one; what goes
// on through the map has its own.
static void describe_tables(kv_predictor *p, const kv_model_spec *base, int side, int64_t layer) {
    const kv_output_spec *spec = &p->spec.outputs[side][layer];
    kv_predictor_output *output = &p->outputs[side][layer];
    kv_map_param parts[KV_MAP_PARAMS];
    bool added = spec->table != KV_TABLE_NONE || output->input < 0;
    const bool of_token = kv_source_of_token(spec->sources.at[spec->sources.n - 1]);
    const int64_t n =
        output->input < 0 || !of_token ? 0 : output->map.kind->params(&output->map.shape, parts);
    for (int64_t k = 0; k < n; k++) {
        if (!parts[k].reads_input) continue;
        if (parts[k].to_output)
            added = true;
        else
            output->map.tokens[k] = describe_tokens(base, side, layer, parts[k].name, parts[k].rows);
    }
    if (added) output->table = describe_tokens(base, side, layer, NULL, output->map.shape.output_dim);
}

static void describe_adapter(kv_predictor *p, const kv_model_spec *base, int64_t layer, kv_param **next) {
    const int64_t dim = base->model_dim, q_dim = base->layers[layer].n_heads * base->head_dim;
    kv_query_adapter *adapter = &p->adapters[layer];
    if (!kv_layer_predicted(&p->spec, layer)) return;
    if (p->spec.adapt == KV_ADAPT_QUERIES) {
        adapter->q = (*next)++;
        *adapter->q = describe("query", layer, "weight", q_dim, dim, true);
        adapter->q->group = KV_GROUP_QUERIES;
        return;
    }
    adapter->down = (*next)++, adapter->up = (*next)++;
    *adapter->down = describe("query", layer, "down.weight", p->spec.adapt_rank, dim, true);
    *adapter->up = describe("query", layer, "up.weight", q_dim, p->spec.adapt_rank, true);
    adapter->down->group = adapter->up->group = KV_GROUP_QUERIES;
}

static bool make_parts(kv_predictor *p, const kv_model_spec *base, const kv_model_spec *aux) {
    const size_t n = (size_t)base->n_layers;
    p->inputs = calloc(KV_SIDES * n, sizeof *p->inputs);
    p->source_dims = calloc(KV_SIDES * n * KV_MAX_SOURCES, sizeof *p->source_dims);
    p->joined = p->tabulated ? calloc(KV_SIDES * n + 1, sizeof *p->joined) : NULL;
    if (p->tabulated && !p->joined) return false;
    for (int side = 0; side < KV_SIDES; side++) p->outputs[side] = calloc(n, sizeof *p->outputs[side]);
    if (p->spec.adapt != KV_ADAPT_NONE) {
        p->adapters = calloc(n, sizeof *p->adapters);
        p->adapter_params = calloc(2 * n, sizeof *p->adapter_params);
        if (!p->adapters || !p->adapter_params) return false;
    }
    if (!p->inputs || !p->source_dims || !p->outputs[KV_KEYS] || !p->outputs[KV_VALUES]) return false;
    kv_param *next = p->adapter_params;
    for (int64_t i = 0; i < base->n_layers; i++) {
        for (int side = 0; side < KV_SIDES; side++) {
            shape_output(p, base, aux, side, i);
            describe_output(p, base->vocab_size, side, i);
            if (p->tabulated) describe_tables(p, base, side, i);
        }
        if (p->adapters) describe_adapter(p, base, i, &next);
    }
    const int64_t width = kv_predictor_spec_table_width(&p->spec);
    if (width > 0 && !p->tabulated) {
        p->embedding =
            (kv_param){.rows = base->vocab_size, .cols = width, .dtype = KV_F32, .group = KV_GROUP_TABLES};
        strcpy(p->embedding.name, "token.embedding");
    }
    return true;
}

// ---- Parameters ----------------------------------------------------------------------------------------

static void list(kv_param *param, kv_param **params, int64_t *n) {
    if (!param || param->rows == 0) return;
    if (params) params[*n] = param;
    ++*n;
}

int64_t kv_predictor_params(kv_predictor *predictor, kv_param **params) {
    int64_t n = 0;
    for (int64_t i = 0; i < predictor->spec.n_base_layers; i++)
        for (int side = 0; side < KV_SIDES; side++) {
            kv_predictor_output *output = &predictor->outputs[side][i];
            for (int64_t k = 0; k < output->map.n_params; k++) list(&output->map.params[k], params, &n);
            if (!predictor->tabulated) list(&output->table, params, &n);
        }
    list(&predictor->embedding, params, &n);
    for (int64_t i = 0; predictor->adapters && i < predictor->spec.n_base_layers; i++) {
        list(predictor->adapters[i].q, params, &n);
        list(predictor->adapters[i].down, params, &n);
        list(predictor->adapters[i].up, params, &n);
    }
    return n;
}

// Calls do_it(param, what) for each of them, without a list.
typedef void param_fn(kv_param *param, void *what);
static bool for_all(kv_predictor *p, param_fn *do_it, void *what) {
    const int64_t n = kv_predictor_params(p, NULL);
    kv_param **params = malloc((size_t)(n + 1) * sizeof(kv_param *));
    if (!params) return false;
    kv_predictor_params(p, params);
    for (int64_t i = 0; i < n; i++) do_it(params[i], what);
    free(params);
    return true;
}

int64_t kv_predictor_size(const kv_predictor *predictor) {
    int64_t size = kv_param_size(&predictor->embedding);
    for (int64_t i = 0; i < predictor->spec.n_base_layers; i++) {
        for (int side = 0; side < KV_SIDES; side++) {
            const kv_predictor_output *output = &predictor->outputs[side][i];
            for (int64_t k = 0; k < output->map.n_params; k++) size += kv_param_size(&output->map.params[k]);
            if (!predictor->tabulated) size += kv_param_size(&output->table);
        }
        const kv_query_adapter *adapter = predictor->adapters ? &predictor->adapters[i] : NULL;
        if (adapter && adapter->q) size += kv_param_size(adapter->q);
        if (adapter && adapter->down) size += kv_param_size(adapter->down) + kv_param_size(adapter->up);
    }
    return size;
}

int64_t kv_predictor_table_size(const kv_predictor *predictor) {
    int64_t size = kv_param_size(&predictor->embedding);
    for (int64_t i = 0; i < predictor->spec.n_base_layers; i++)
        for (int side = 0; side < KV_SIDES; side++) size += kv_param_size(&predictor->outputs[side][i].table);
    return size;
}

int64_t kv_predictor_looked_up(const kv_predictor *predictor, int64_t *width) {
    int64_t size = kv_param_size(&predictor->embedding);
    *width = predictor->embedding.rows > 0 ? predictor->embedding.cols : 0;
    for (int64_t i = 0; i < predictor->spec.n_base_layers; i++)
        for (int side = 0; side < KV_SIDES; side++) {
            const kv_param *table = &predictor->outputs[side][i].table;
            if (predictor->spec.outputs[side][i].table != KV_TABLE_FULL || table->rows == 0) continue;
            size += kv_param_size(table);
            *width += table->cols;
        }
    return size;
}

// ---- Memory --------------------------------------------------------------------------------------------

static kv_status plan(const kv_model_spec *base, const kv_model_spec *aux, const kv_predictor_spec *spec,
                      bool tabulated, kv_predictor **predictor, kv_error *err) {
    *predictor = NULL;
    kv_status status = kv_predictor_spec_check(base, aux, spec, err);
    if (status != KV_OK) return status;
    kv_predictor *p = calloc(1, sizeof *p);
    if (p) p->spec = *spec, p->tabulated = tabulated;
    if (!p || !make_parts(p, base, aux)) {
        kv_predictor_free(p);
        return kv_fail(err, KV_ERR_MEMORY, "out of memory for the predictors");
    }
    *predictor = p;
    return KV_OK;
}

kv_status kv_predictor_plan(const kv_model_spec *base, const kv_model_spec *aux,
                            const kv_predictor_spec *spec, kv_predictor **predictor, kv_error *err) {
    return plan(base, aux, spec, false, predictor, err);
}

kv_status kv_predictor_plan_tabulated(const kv_model_spec *base, const kv_model_spec *aux,
                                      const kv_predictor_spec *spec, kv_predictor **predictor,
                                      kv_error *err) {
    kv_predictor *full;
    *predictor = NULL;
    kv_status status = plan(base, aux, spec, false, &full, err);
    if (status == KV_OK) status = plan(base, aux, spec, true, predictor, err);
    if (status == KV_OK) (*predictor)->token_products = kv_flops_predictor_tokens(full, base, 1);
    kv_predictor_free(full);
    return status;
}

static void place(kv_param *param, void *next) {
    float **at = next;
    param->data = *at;
    *at += kv_param_size(param);
}

// Memory for the weights of a plan, zeros. On failure the plan is freed.
static kv_status allocate(kv_predictor *p, kv_predictor **predictor, kv_error *err) {
    *predictor = NULL;
    p->storage = calloc((size_t)kv_predictor_size(p) + 1, sizeof(float));
    float *next = p->storage;
    if (!next || !for_all(p, place, &next)) {
        const double size = (double)kv_predictor_size(p) * sizeof(float);
        kv_predictor_free(p);
        return kv_fail(err, KV_ERR_MEMORY, "out of memory for the predictors (%.1f MB)", size / 1e6);
    }
    *predictor = p;
    return KV_OK;
}

kv_status kv_predictor_create(const kv_model_spec *base, const kv_model_spec *aux,
                              const kv_predictor_spec *spec, kv_predictor **predictor, kv_error *err) {
    kv_predictor *p;
    kv_status status = kv_predictor_plan(base, aux, spec, &p, err);
    *predictor = NULL;
    return status == KV_OK ? allocate(p, predictor, err) : status;
}

kv_status kv_predictor_create_tabulated(const kv_model_spec *base, const kv_model_spec *aux,
                                        const kv_predictor_spec *spec, kv_predictor **predictor,
                                        kv_error *err) {
    kv_predictor *p;
    kv_status status = kv_predictor_plan_tabulated(base, aux, spec, &p, err);
    *predictor = NULL;
    return status == KV_OK ? allocate(p, predictor, err) : status;
}

static void pack(kv_param *param, void *ok) {
    if (param->group != KV_GROUP_TABLES && param->rows > 1) *(bool *)ok = kv_pack(param) && *(bool *)ok;
}

bool kv_predictor_pack(kv_predictor *predictor) {
    bool ok = true;
    return for_all(predictor, pack, &ok) && ok;
}

void kv_predictor_free(kv_predictor *predictor) {
    if (!predictor) return;
    for (int side = 0; side < KV_SIDES; side++) free(predictor->outputs[side]);
    free(predictor->inputs);
    free(predictor->source_dims);
    free(predictor->adapters);
    free(predictor->adapter_params);
    free(predictor->joined);
    free(predictor->storage);
    free(predictor->grads);
    if (predictor->release) predictor->release(predictor->tables);
    free(predictor);
}

// ---- Starting ------------------------------------------------------------------------------------------

static void init_weight(kv_param *w, uint64_t seed) {
    kv_rng rng = kv_rng_stream(seed, w->name);
    float *data = w->data, std = 1 / sqrtf((float)w->cols);
#pragma omp parallel for schedule(static) if (kv_param_size(w) > 1 << 12)
    for (int64_t j = 0; j < kv_param_size(w); j++) data[j] = std * (float)kv_rng_normal(rng, (uint64_t)j);
}

static void init_map(kv_map *map, uint64_t seed) {
    kv_map_param parts[KV_MAP_PARAMS];
    const int64_t n = map->kind->params(&map->shape, parts);
    for (int64_t k = 0; k < n; k++)
        if (parts[k].matrix && !parts[k].zero) init_weight(&map->params[k], seed);
}

kv_status kv_predictor_init(kv_predictor *predictor, const kv_model *base, uint64_t seed, kv_error *err) {
    if (predictor->spec.adapt == KV_ADAPT_QUERIES && !base)
        return kv_fail(err, KV_ERR_ARGUMENT, "adapted queries start from the base's: it has to be at hand");
    for (int64_t i = 0; i < predictor->spec.n_base_layers; i++) {
        for (int side = 0; side < KV_SIDES; side++) init_map(&predictor->outputs[side][i].map, seed);
        kv_query_adapter *adapter = predictor->adapters ? &predictor->adapters[i] : NULL;
        if (adapter && adapter->q)
            kv_param_values(&base->layers[i].q, 0, kv_param_size(adapter->q), adapter->q->data);
        if (adapter && adapter->down) init_weight(adapter->down, seed);
    }
    if (predictor->embedding.rows > 0) init_weight(&predictor->embedding, seed);
    return KV_OK;
}

static void place_grad(kv_param *param, void *next) {
    float **at = next;
    param->grad = *at;
    if (*at) *at += kv_param_size(param);
}

kv_status kv_predictor_set_trainable(kv_predictor *predictor, bool trainable, kv_error *err) {
    if (trainable && predictor->tabulated)
        return kv_fail(err, KV_ERR_ARGUMENT, "a tabulated predictor is not trained: only a whole one is");
    free(predictor->grads);
    predictor->grads = trainable ? calloc((size_t)kv_predictor_size(predictor) + 1, sizeof(float)) : NULL;
    float *next = predictor->grads;
    const bool placed = for_all(predictor, place_grad, &next);
    if (placed && (!trainable || predictor->grads)) return KV_OK;
    return kv_fail(err, KV_ERR_MEMORY, "out of memory for the predictors' gradients");
}

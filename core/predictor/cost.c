// What predictors cost: products, look-ups and memory, added up from the shapes of their parts.
#include "core/flops.h"
#include "core/predictor/predictor.h"

static uint64_t product(int64_t m, int64_t n, int64_t k) {
    return 2 * (uint64_t)m * (uint64_t)n * (uint64_t)k;
}

// ---- The aux -------------------------------------------------------------------------------------------

uint64_t kv_flops_predictor_aux(const kv_predictor *predictor, const kv_model_spec *aux, int64_t n_seq,
                                int64_t n, int64_t cached) {
    uint8_t reads[KV_MAX_LAYERS];
    const int64_t depth = kv_predictor_spec_reads(&predictor->spec, reads), len = n / n_seq;
    if (depth == 0) return 0;
    uint64_t sum = kv_flops_layer_parts(aux, depth - 1, n, reads[depth - 1]);
    for (int64_t i = 0; i < depth - 1; i++) sum += (uint64_t)n_seq * kv_flops_layer(aux, i, len, cached);
    return sum;
}

// ---- Maps ----------------------------------------------------------------------------------------------

// Products of one token with the matrices of an output's map: those that read the input, and the others.
struct products {
    uint64_t first, later, table;
};

static struct products output_products(const kv_predictor *p, int side, int64_t layer) {
    const kv_predictor_output *output = &p->outputs[side][layer];
    kv_map_param parts[KV_MAP_PARAMS];
    struct products sum = {0};
    if (output->input < 0) return sum;
    const int64_t n = output->map.kind->params(&output->map.shape, parts);
    for (int64_t k = 0; k < n; k++) {
        if (!parts[k].matrix) continue;
        const uint64_t own = product(1, parts[k].rows, parts[k].cols);
        if (parts[k].reads_input)
            sum.first += own;
        else
            sum.later += own;
    }
    if (p->spec.outputs[side][layer].table > 0 && !p->tabulated)
        sum.table = product(1, output->table.rows, output->table.cols);
    return sum;
}

static struct products all_products(const kv_predictor *p) {
    struct products sum = {0};
    for (int side = 0; side < KV_SIDES; side++)
        for (int64_t i = 0; i < p->spec.n_base_layers; i++) {
            const struct products own = output_products(p, side, i);
            sum.first += own.first, sum.later += own.later, sum.table += own.table;
        }
    return sum;
}

// The base's own first layer, of one token.
static uint64_t own_products(const kv_predictor *p, const kv_model_spec *base) {
    const int64_t n = kv_predictor_reads(p, KV_SOURCE_OWN_KEYS) + kv_predictor_reads(p, KV_SOURCE_OWN_VALUES);
    return (uint64_t)n * product(1, kv_spec_kv_dim(base, 0), base->model_dim);
}

uint64_t kv_flops_predictor_maps(const kv_predictor *predictor, const kv_model_spec *base, int64_t n) {
    const struct products sum = all_products(predictor);
    return (uint64_t)n * (sum.first + sum.later + sum.table + own_products(predictor, base));
}

uint64_t kv_flops_predictor_step(const kv_predictor *predictor, const kv_model_spec *base, int64_t n,
                                 bool aux_trained) {
    uint64_t sum = own_products(predictor, base);
    for (int side = 0; side < KV_SIDES; side++)
        for (int64_t i = 0; i < predictor->spec.n_base_layers; i++) {
            const kv_predictor_output *output = &predictor->outputs[side][i];
            const struct products own = output_products(predictor, side, i);
            // Forward, the weights' gradients, and that of what they read.
            const bool wanted = aux_trained && kv_sources_of_aux(predictor->inputs[output->input].sources);
            sum += own.first * (wanted ? 3 : 2) + 3 * own.later + 3 * own.table;
        }
    return (uint64_t)n * sum;
}

// Columns of an input that depend on the token alone; they are the last ones.
static int64_t token_columns(const kv_predictor_input *input) {
    int64_t sum = 0;
    for (int32_t k = 0; k < input->sources->n; k++)
        if (kv_source_of_token(input->sources->at[k])) sum += input->dims[k];
    return sum;
}

uint64_t kv_flops_predictor_tokens(const kv_predictor *predictor, const kv_model_spec *base, int64_t n) {
    if (predictor->tabulated) return (uint64_t)n * predictor->token_products;
    uint64_t sum = own_products(predictor, base);
    for (int side = 0; side < KV_SIDES; side++)
        for (int64_t i = 0; i < predictor->spec.n_base_layers; i++) {
            const kv_predictor_input *input = &predictor->inputs[predictor->outputs[side][i].input];
            const struct products own = output_products(predictor, side, i);
            const int64_t cols = token_columns(input);
            sum += own.table + own.first / (uint64_t)input->dim * (uint64_t)cols;
            if (cols == input->dim) sum += own.later;
        }
    return (uint64_t)n * sum;
}

// Columns of the tables that go on through the map.
static int64_t inner_lookups(const kv_map *map) {
    int64_t sum = 0;
    for (int64_t k = 0; k < map->n_params; k++) sum += map->tokens[k].cols;
    return sum;
}

int64_t kv_predictor_lookups(const kv_predictor *predictor, const kv_model_spec *base) {
    int64_t sum = predictor->embedding.cols * (predictor->embedding.rows > 0);
    if (kv_predictor_spec_reads_base(&predictor->spec) && !predictor->tabulated) sum += base->model_dim;
    for (int side = 0; side < KV_SIDES; side++)
        for (int64_t i = 0; i < predictor->spec.n_base_layers; i++) {
            const kv_predictor_output *output = &predictor->outputs[side][i];
            const bool full = predictor->tabulated || predictor->spec.outputs[side][i].table == KV_TABLE_FULL;
            sum += (full ? output->table.cols : 0) + inner_lookups(&output->map);
        }
    return sum;
}

// ---- Queries -------------------------------------------------------------------------------------------

uint64_t kv_flops_predictor_queries(const kv_predictor *predictor, const kv_model_spec *base,
                                    int64_t n_layers, int64_t n) {
    uint64_t sum = 0;
    for (int64_t i = 0; predictor->adapters && i < n_layers; i++) {
        const kv_query_adapter *a = &predictor->adapters[i];
        if (a->down) sum += product(n, a->down->rows, base->model_dim) + product(n, a->up->rows, a->up->cols);
    }
    return sum;
}

// ---- Memory --------------------------------------------------------------------------------------------

// What is of the token alone: of the base, and rows of the tables' embedding.
static double own_floats(const kv_predictor *p, const kv_model_spec *base) {
    double sum = p->embedding.rows > 0 ? (double)p->embedding.cols : 0;
    if (kv_predictor_spec_reads_base(&p->spec) && !p->tabulated)
        sum += (double)base->model_dim *
               (1 + (own_products(p, base) > 0 || kv_predictor_reads(p, KV_SOURCE_OWN_HIDDEN)));
    if (kv_predictor_reads(p, KV_SOURCE_OWN_KEYS)) sum += (double)kv_spec_kv_dim(base, 0);
    if (kv_predictor_reads(p, KV_SOURCE_OWN_VALUES)) sum += (double)kv_spec_kv_dim(base, 0);
    return sum;
}

// What a map makes beside its output, and (*table) a table's row; the sum with that (whose gradient the map's output
// takes over) is as large. 0 where the table's row is the output.
static double between_floats(const kv_predictor_output *output, double *table) {
    const kv_map *map = &output->map;
    *table = 0;
    if (output->input < 0) return 0;
    *table = (double)(output->table.rows > 0 ? map->shape.output_dim : 0) + (double)inner_lookups(map);
    return map->kind->inner ? (double)map->kind->inner(&map->shape) : 0;
}

double kv_predictor_floats(const kv_predictor *predictor, const kv_model_spec *base, bool aux_trained,
                           double *gradients) {
    double values = own_floats(predictor, base), back = 0, table;
    if (predictor->embedding.rows > 0) back += (double)predictor->embedding.cols;
    for (int64_t i = 0; i < predictor->n_inputs; i++) {
        const kv_predictor_input *input = &predictor->inputs[i];
        if (input->sources->n == 1) continue; // handed on as it is
        values += (double)input->dim;
        if (aux_trained && kv_sources_of_aux(input->sources)) back += (double)input->dim;
    }
    for (int side = 0; side < KV_SIDES; side++)
        for (int64_t i = 0; i < predictor->spec.n_base_layers; i++) {
            const double inner = between_floats(&predictor->outputs[side][i], &table);
            values += inner + 2 * table, back += inner + table;
        }
    *gradients = back;
    return values;
}

// Of one output alone, with what goes to `take`.
static double output_floats(const kv_predictor *p, const kv_model_spec *base, int side, int64_t layer) {
    const kv_predictor_output *output = &p->outputs[side][layer];
    double table, kv = (double)kv_spec_kv_dim(base, layer);
    const double inner = between_floats(output, &table);
    return inner + 2 * table +
           (kv_output_exact(&p->spec.outputs[side][layer]) && output->input >= 0 ? 0 : kv) +
           (side == KV_KEYS && base->qk_norm ? kv : 0);
}

double kv_predictor_along_floats(const kv_predictor *predictor, const kv_model_spec *base, int64_t layer) {
    double most = 0;
    for (int side = 0; side < KV_SIDES; side++)
        for (int64_t i = 0; i < predictor->spec.n_base_layers; i++) {
            const int64_t index = predictor->outputs[side][i].input;
            const kv_predictor_input *input = index < 0 ? NULL : &predictor->inputs[index];
            if ((input ? kv_predictor_input_layer(input) : -1) != layer) continue;
            const double joined = input && input->sources->n > 1 ? (double)input->dim : 0,
                         sum = joined + output_floats(predictor, base, side, i);
            most = sum > most ? sum : most;
        }
    return most;
}

double kv_predictor_kept_floats(const kv_predictor *predictor, const kv_model_spec *base) {
    uint8_t kept[KV_MAX_LAYERS] = {0}; // bits of their kinds
    double sum = own_floats(predictor, base);
    for (int64_t i = 0; i < predictor->n_inputs; i++) {
        const kv_predictor_input *input = &predictor->inputs[i];
        const int64_t last = kv_predictor_input_layer(input);
        for (int32_t k = 0; k < input->sources->n; k++) {
            const kv_source s = input->sources->at[k];
            if (kv_source_of_token(s) || s.layer == last || kept[s.layer] & 1 << s.kind) continue;
            kept[s.layer] |= (uint8_t)(1 << s.kind);
            sum += (double)input->dims[k];
        }
    }
    return sum;
}

double kv_predictor_query_floats(const kv_predictor *predictor, const kv_model_spec *base) {
    double sum = 0;
    for (int64_t i = 0; predictor->adapters && i < predictor->spec.n_base_layers; i++) {
        const kv_query_adapter *a = &predictor->adapters[i];
        // The low-rank factors' outputs, and the sum with the base's own queries.
        if (a->down) sum += (double)a->down->rows + 2 * (double)(base->layers[i].n_heads * base->head_dim);
    }
    return sum;
}

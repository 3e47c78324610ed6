// The tables of tabulated predictors: which there are, and what is in them.
#include "core/predictor/tabulated.h"

#include "core/gemm.h"

#include <stdlib.h>
#include <string.h>

// ---- Which -----------------------------------------------------------------------------------------------

static void list(kv_param *param, int side, int64_t layer, int64_t part, kv_token_table *tables, int64_t *n) {
    if (param->rows == 0) return;
    if (tables) tables[*n] = (kv_token_table){param, side, layer, part};
    ++*n;
}

int64_t kv_predictor_token_tables(kv_predictor *tabulated, kv_token_table *tables) {
    int64_t n = 0;
    for (int64_t i = 0; i < tabulated->spec.n_base_layers; i++)
        for (int side = 0; side < KV_SIDES; side++) {
            kv_predictor_output *output = &tabulated->outputs[side][i];
            list(&output->table, side, i, -1, tables, &n);
            for (int64_t k = 0; k < KV_MAP_PARAMS; k++) list(&output->map.tokens[k], side, i, k, tables, &n);
        }
    return n;
}

int64_t kv_token_tables_width(const kv_predictor *tabulated) {
    return kv_predictor_lookups(tabulated, NULL);
}

// ---- What is left ----------------------------------------------------------------------------------------

// A matrix with fewer columns has the first ones of each row.
static void take(kv_param *to, const kv_param *from) {
    for (int64_t r = 0; r < to->rows; r++)
        memcpy((float *)to->data + r * to->cols, (const float *)from->data + r * from->cols,
               (size_t)to->cols * sizeof(float));
}

kv_status kv_predictor_take_rest(kv_predictor *tabulated, kv_predictor *full, kv_error *err) {
    const int64_t n = kv_predictor_params(tabulated, NULL), n_full = kv_predictor_params(full, NULL);
    kv_param **params = calloc((size_t)(n + n_full) + 1, sizeof *params), **all = params + n;
    if (!params) return kv_fail(err, KV_ERR_MEMORY, "out of memory for the predictors");
    kv_predictor_params(tabulated, params);
    kv_predictor_params(full, all);
    int64_t at = 0; // both stand in one order, and what is left has kept its name
    for (int64_t i = 0; i < n; i++) {
        while (strcmp(all[at]->name, params[i]->name) != 0) at++;
        take(params[i], all[at]);
    }
    free(params);
    return KV_OK;
}

// ---- What is in them -------------------------------------------------------------------------------------

// What of an input depends on the token alone, the last of its sources, side by side.
static kv_tensor *token_input(kv_tape *tape, const kv_predictor_input *input, const kv_taps *taps) {
    kv_sources left = {0};
    for (int32_t k = 0; k < input->sources->n; k++)
        if (kv_source_of_token(input->sources->at[k])) left.at[left.n++] = input->sources->at[k];
    const kv_predictor_input of_token = {.sources = &left, .n_blocks = 1};
    return kv_predictor_input_tensor(tape, &of_token, taps);
}

// e · W_eᵀ, of the last columns of W; added to y.
static void add_product(const kv_tensor *e, const kv_param *w, kv_tensor *y) {
    kv_gemm_nt(e->rows, w->rows, e->cols, e->data, e->cols, (const float *)w->data + w->cols - e->cols,
               w->cols, 1, y->data, y->cols);
}

static kv_tensor *zeros(kv_tape *tape, int64_t rows, int64_t cols) {
    kv_tensor *y = kv_tape_tensor(tape, rows, cols);
    if (y) memset(y->data, 0, (size_t)(rows * cols) * sizeof(float));
    return y;
}

// What is added to an output as it is.
static kv_tensor *output_rows(kv_tape *tape, kv_predictor *full, int side, int64_t layer, const kv_tensor *e,
                              const kv_taps *taps) {
    kv_predictor_output *output = &full->outputs[side][layer];
    kv_map_param parts[KV_MAP_PARAMS];
    const int64_t n = e ? output->map.kind->params(&output->map.shape, parts) : 0;
    kv_tensor *y = zeros(tape, taps->n, output->map.shape.output_dim);
    for (int64_t k = 0; y && k < n; k++)
        if (parts[k].to_output) add_product(e, &output->map.params[k], y);
    if (full->spec.outputs[side][layer].table == KV_TABLE_NONE) return y;
    return kv_add(tape, y, kv_predict_table(tape, full, side, layer, taps));
}

kv_tensor *kv_token_table_rows(kv_tape *tape, kv_predictor *full, const kv_token_table *table,
                               const kv_taps *taps) {
    const int side = table->side;
    const int64_t layer = table->layer;
    kv_predictor_output *output = &full->outputs[side][layer];
    const kv_sources *sources = full->inputs[output->input].sources;
    if (!kv_sources_of_aux(sources)) return kv_predict_one(tape, full, side, layer, taps);
    kv_tensor *e = NULL;
    if (kv_source_of_token(sources->at[sources->n - 1])) {
        e = token_input(tape, &full->inputs[output->input], taps);
        if (!e) return NULL;
    }
    if (table->part < 0) return output_rows(tape, full, side, layer, e, taps);
    kv_tensor *y = zeros(tape, taps->n, table->param->cols);
    if (y && e) add_product(e, &output->map.params[table->part], y);
    return y;
}

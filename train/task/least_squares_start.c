// What is read is a pass over the text; here is what comes of it.
//                                                                               [core/README.md §9, eq. 34]
#include "train/task/least_squares_start.h"

#include "data/file/json.h"
#include "data/file/path.h"
#include "data/ranks/ranks.h"
#include "train/config/rates.h"

#include <inttypes.h>
#include <stdlib.h>

// ---- The result ----------------------------------------------------------------------------------------

// The aux layers that are read, in the order of the sources.
static json_t *layers_json(const kv_sources *sources) {
    json_t *layers = json_array();
    for (int32_t k = 0; k < sources->n; k++)
        if (!kv_source_of_token(sources->at[k]))
            json_array_append_new(layers, json_integer(sources->at[k].layer));
    return layers;
}

static kv_status write_json(const kv_train_config *config, const kv_predictor *predictor, int64_t n_tokens,
                            const double *k_r2, const double *v_r2, kv_error *err) {
    char path[PATH_MAX];
    kv_status status = kv_path_join(config->output, "least_squares.json", path, err);
    if (status != KV_OK) return status;
    json_t *layers = json_array(), *keys = json_array(), *values = json_array();
    for (int64_t i = 0; i < predictor->spec.n_base_layers; i++) {
        json_array_append_new(layers, layers_json(&predictor->spec.outputs[KV_KEYS][i].sources));
        json_array_append_new(keys, json_real(k_r2[i]));
        json_array_append_new(values, json_real(v_r2[i]));
    }
    json_t *root = json_pack("{s:I, s:f, s:o, s:o, s:o, s:s}", "tokens", (json_int_t)n_tokens, "ridge",
                             config->predictor.ridge, "aux_layers", layers, "keys", keys, "values", values,
                             "rates", kv_train_scales_rates(config) ? "residual" : "full");
    return kv_json_write(path, root, JSON_INDENT(1) | JSON_REAL_PRECISION(9), err);
}

// "0+1", "0..5", "5 layers": aux layers in few characters.
static void layers_text(const kv_sources *sources, char *text, size_t size) {
    size_t n = 0;
    int32_t n_layers = 0;
    bool row = true;
    text[0] = '\0';
    for (; n_layers < sources->n && !kv_source_of_token(sources->at[n_layers]); n_layers++)
        row = row && sources->at[n_layers].layer == sources->at[0].layer + n_layers;
    if (n_layers > 3 && row)
        snprintf(text, size, "%d..%d", sources->at[0].layer, sources->at[n_layers - 1].layer);
    else if (n_layers > 3)
        snprintf(text, size, "%d layers", n_layers);
    for (int32_t k = 0; k < n_layers && n_layers <= 3 && n < size; k++)
        n += (size_t)snprintf(text + n, size - n, "%s%d", k ? "+" : "", sources->at[k].layer);
}

static void print_result(const kv_predictor *predictor, const double *k_r2, const double *v_r2) {
    fprintf(stderr, "explained variance   base layer  aux layer    keys  values\n");
    for (int64_t i = 0; i < predictor->spec.n_base_layers; i++) {
        char text[32];
        layers_text(&predictor->spec.outputs[KV_KEYS][i].sources, text, sizeof text);
        fprintf(stderr, "                     %10" PRIi64 " %10s  %5.1f %%  %5.1f %%\n", i, text,
                100 * k_r2[i], 100 * v_r2[i]);
    }
}

// ---- Solving -------------------------------------------------------------------------------------------

// Outputs are solved for once, each by one of the ranks, whose weights all take: the same bits on machines of any kind.
int kv_least_squares_solver(kv_side side, int64_t layer, int n_ranks) {
    return (int)((KV_SIDES * layer + (int64_t)side) % n_ranks);
}

static int solver(int side, int64_t layer) {
    return kv_least_squares_solver((kv_side)side, layer, kv_n_ranks());
}

static kv_status solve_own(const kv_train_config *config, const kv_least_squares *sums, kv_layer_range layers,
                           kv_predictor *predictor, double *const r2[KV_SIDES], kv_error *err) {
    kv_status status = KV_OK;
    for (int64_t i = layers.first; i < layers.end && status == KV_OK; i++)
        for (int side = 0; side < KV_SIDES && status == KV_OK; side++) {
            r2[side][i] = 0;
            if (solver(side, i) == kv_rank())
                status = kv_least_squares_solve_one(sums, (kv_side)side, i, config->predictor.ridge,
                                                    predictor, &r2[side][i], err);
        }
    if (status == KV_OK) return KV_OK;
    return kv_fail_within(
        err, status, "least-squares start (predictor.ridge: %g, predictor.least_squares_tokens: %" PRIi64 ")",
        config->predictor.ridge, config->predictor.least_squares_tokens);
}

static void hand_on(kv_param *param, int from) {
    kv_ranks_broadcast(param->data, (size_t)kv_param_size(param) * sizeof(float), from);
}

static void hand_on_layer(const kv_train_config *config, kv_predictor *predictor, int64_t layer) {
    for (int side = 0; side < KV_SIDES; side++) {
        kv_predictor_output *output = &predictor->outputs[side][layer];
        const int from = solver(side, layer);
        for (int64_t k = 0; k < output->map.n_params; k++) hand_on(&output->map.params[k], from);
        if (config->predictor.table_start == KV_TABLE_START_FITTED) hand_on(&output->table, from);
    }
}

static kv_status solve(const kv_train_config *config, const kv_least_squares *sums, kv_layer_range layers,
                       kv_predictor *predictor, double *k_r2, double *v_r2, kv_error *err) {
    double *const r2[KV_SIDES] = {k_r2, v_r2};
    const kv_status status = kv_ranks_agree(solve_own(config, sums, layers, predictor, r2, err), err);
    if (status != KV_OK) return status;
    for (int side = 0; side < KV_SIDES; side++)
        kv_ranks_sum(r2[side] + layers.first, layers.end - layers.first);
    for (int64_t i = layers.first; i < layers.end; i++) hand_on_layer(config, predictor, i);
    return KV_OK;
}

// ---- The start -----------------------------------------------------------------------------------------

static kv_status add(void *sums, kv_tape *tape, const kv_taps *taps, kv_tensor *const *base_raw_k,
                     kv_tensor *const *base_v, const uint8_t *keep, kv_error *err) {
    return kv_least_squares_add(sums, tape, taps, base_raw_k, base_v, keep, err);
}

static bool visit(void *sums, kv_sums_fn *fn, void *what) {
    return kv_least_squares_visit(sums, fn, what);
}

static void tell_tokens(void *sums, int64_t n_tokens) {
    kv_least_squares_tell_tokens(sums, n_tokens);
}

kv_layer_range kv_least_squares_layers(const kv_predictor *predictor, int64_t n_passes, int64_t pass) {
    const int64_t n = predictor->spec.n_base_layers, prefix = predictor->spec.prefix_layers,
                  rest = n - prefix;
    return (kv_layer_range){pass == 0 ? 0 : prefix + pass * rest / n_passes,
                            prefix + (pass + 1) * rest / n_passes};
}

static kv_start_pass pass_of(const kv_start_args *args, const kv_predictor *predictor, kv_layer_range layers,
                             const char *title) {
    return (kv_start_pass){.title = title,
                           .reads = predictor,
                           .n_tokens = args->config->predictor.least_squares_tokens,
                           .add = add,
                           .visit = visit,
                           .tell_tokens = tell_tokens,
                           .flops = kv_flops_least_squares_part(predictor, layers, kv_start_rows(args))};
}

// One of the passes: sums of a share of the layers, and what comes of them.
static kv_status fit(const kv_start_args *args, int64_t i, kv_predictor *predictor, int64_t *n_tokens,
                     double *k_r2, double *v_r2, kv_error *err) {
    const int64_t n_passes = args->config->predictor.least_squares_passes;
    const kv_layer_range layers = kv_least_squares_layers(predictor, n_passes, i);
    char title[64] = "least squares";
    if (n_passes > 1)
        snprintf(title, sizeof title, "least squares, pass %" PRIi64 " of %" PRIi64, i + 1, n_passes);
    kv_start_pass pass = pass_of(args, predictor, layers, title);
    kv_least_squares *sums;
    kv_status status = kv_least_squares_create_part(predictor, layers, &sums, err);
    if (status == KV_OK && args->config->predictor.table_start == KV_TABLE_START_FITTED)
        status = kv_least_squares_tables(sums, predictor, err);
    pass.sums = sums;
    status = kv_ranks_agree(status, err);
    if (status == KV_OK) status = kv_start_read(args, &pass, n_tokens, err);
    if (status == KV_OK) status = solve(args->config, sums, layers, predictor, k_r2, v_r2, err);
    kv_least_squares_free(sums);
    return status;
}

kv_status kv_least_squares_start(const kv_start_args *args, kv_predictor *predictor, kv_error *err) {
    double k_r2[KV_MAX_LAYERS], v_r2[KV_MAX_LAYERS];
    int64_t n_tokens = 0;
    kv_status status = KV_OK;
    for (int64_t i = 0; i < args->config->predictor.least_squares_passes && status == KV_OK; i++)
        status = fit(args, i, predictor, &n_tokens, k_r2, v_r2, err);
    if (status != KV_OK) return status;
    print_result(predictor, k_r2, v_r2);
    if (kv_rank_leads()) status = write_json(args->config, predictor, n_tokens, k_r2, v_r2, err);
    return kv_ranks_agree(status, err);
}

double kv_least_squares_flops(const kv_start_args *args, const kv_predictor *shape) {
    const int64_t n_passes = args->config->predictor.least_squares_passes;
    double flops = 0;
    for (int64_t i = 0; i < n_passes; i++) {
        const kv_start_pass pass = pass_of(args, shape, kv_least_squares_layers(shape, n_passes, i), "");
        flops += kv_start_flops(args, &pass);
    }
    return flops;
}

// The fit is read back from the file that it left, so that a run which goes on finds the very same numbers.
#include "train/task/start_rates.h"

#include "data/file/json.h"
#include "data/ranks/ranks.h"
#include "train/config/rates.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

struct fit {
    double key[KV_MAX_LAYERS], value[KV_MAX_LAYERS]; // explained variance
    bool known;
};

static kv_status read_fit(const char *output, int64_t n_layers, struct fit *fit, kv_error *err) {
    kv_json_file file = {0};
    kv_status status = kv_json_open(output, "least_squares.json", &file, err);
    fit->known = status == KV_OK && kv_json_has(&file, "rates");
    if (fit->known) status = kv_json_reals(&file, "keys", n_layers, -1e300, 2, fit->key, err);
    if (fit->known && status == KV_OK)
        status = kv_json_reals(&file, "values", n_layers, -1e300, 2, fit->value, err);
    kv_json_close(&file);
    return status;
}

static double unexplained(double r2) {
    return fmin(fmax(1 - r2, 0), 1);
}

static double scale_of(double unexplained_variance) {
    return fmin(fmax(sqrt(2 * unexplained_variance), KV_LEAST_RATE), 1);
}

static double aux_scale(const struct fit *fit, int64_t n_layers) {
    double sum = 0;
    for (int64_t i = 0; i < n_layers; i++) sum += unexplained(fit->key[i]) + unexplained(fit->value[i]);
    return scale_of(sum / (2 * (double)n_layers));
}

// The map that a parameter belongs to has its side and layer in the name: "key.3.weight".
static double map_scale(const kv_param *param, const struct fit *fit, int64_t n_layers) {
    const bool key = strncmp(param->name, "key.", 4) == 0;
    const char *number = strchr(param->name, '.');
    const long long layer = number ? strtoll(number + 1, NULL, 10) : n_layers;
    if (layer < 0 || layer >= n_layers) return 1;
    return scale_of(unexplained(key ? fit->key[layer] : fit->value[layer]));
}

static void print_scales(const kv_task *task) {
    double low = 1, high = 0, aux = 0;
    for (int64_t i = 0; i < task->n_params; i++) {
        const double scale = task->rate_scales[i];
        if (task->params[i]->group == KV_GROUP_MAPS) low = fmin(low, scale), high = fmax(high, scale);
        if (task->params[i]->group == KV_GROUP_MODEL) aux = scale;
    }
    const kv_steps_config *s = &task->config->train;
    fprintf(stderr, "rates                by what the fit left unexplained: maps %.3g to %.3g", low * s->lr,
            high * s->lr);
    if (aux > 0) fprintf(stderr, ", aux %.3g", aux * s->lr_aux);
    fprintf(stderr, " at most; warm-up of %" PRIi64 " steps\n", s->warmup_steps);
}

static kv_status set_scales(kv_task *task, const struct fit *fit, int64_t n_layers, kv_error *err) {
    free(task->rate_scales);
    task->rate_scales = malloc((size_t)task->n_params * sizeof *task->rate_scales);
    if (!task->rate_scales) return kv_fail(err, KV_ERR_MEMORY, "out of memory");
    for (int64_t i = 0; i < task->n_params; i++) {
        const kv_param *param = task->params[i];
        task->rate_scales[i] = param->group == KV_GROUP_MAPS    ? map_scale(param, fit, n_layers)
                               : param->group == KV_GROUP_MODEL ? aux_scale(fit, n_layers)
                                                                : 1;
    }
    return KV_OK;
}

kv_status kv_start_rates_read(kv_task *task, int64_t n_base_layers, kv_error *err) {
    const kv_train_config *config = task->config;
    struct fit fit;
    if (!kv_train_scales_rates(config)) return KV_OK;
    const kv_status status = read_fit(config->output, n_base_layers, &fit, err);
    return status == KV_OK && fit.known ? set_scales(task, &fit, n_base_layers, err) : status;
}

// Rank 0 has just written the file, which others may not see yet.
kv_status kv_start_rates(kv_task *task, int64_t n_base_layers, kv_error *err) {
    const kv_train_config *config = task->config;
    struct fit fit = {0};
    if (!kv_train_scales_rates(config)) return KV_OK;
    kv_status status = kv_rank_leads() ? read_fit(config->output, n_base_layers, &fit, err) : KV_OK;
    status = kv_ranks_agree(status, err);
    if (status != KV_OK) return status;
    kv_ranks_broadcast(&fit, sizeof fit, 0);
    status = kv_ranks_agree(set_scales(task, &fit, n_base_layers, err), err);
    if (status == KV_OK) print_scales(task);
    return status;
}

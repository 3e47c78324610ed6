// How weights start: normal for models that are trained, uniform for those that are only timed, a billion of
// them in seconds. What a parameter is called says how large it starts.
#include "core/model.h"

#include "core/text.h"

#include <math.h>
#include <stdio.h>

// The standard deviation that a parameter starts with: 0 for norms and biases, which are all `constant`.
static double start_of(const char *name, int64_t cols, int64_t n_layers, float *constant) {
    *constant = kv_ends_with(name, "norm") ? 1 : 0;
    if (*constant == 1 || kv_ends_with(name, "_bias")) return 0;
    const double std = 1 / sqrt((double)cols);
    const bool ends_block = kv_ends_with(name, ".out") || kv_ends_with(name, ".down");
    return ends_block ? std / sqrt(2.0 * (double)n_layers) : std;
}

enum { MAX_PARAMS = 3 + KV_MAX_LAYERS * sizeof(kv_layer) / sizeof(kv_param) };

// ---- Normal --------------------------------------------------------------------------------------------

static void init_param(kv_param *p, int64_t n_layers, uint64_t seed) {
    float constant;
    const double std = start_of(p->name, p->cols, n_layers, &constant);
    const kv_rng rng = kv_rng_stream(seed, p->name);
    const size_t element = kv_dtype_size(p->dtype);
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < p->rows; i++) {
        enum { NORMAL_PIECE = 256 };
        float values[NORMAL_PIECE];
        for (int64_t j = 0; j < p->cols; j += NORMAL_PIECE) {
            const int64_t n = p->cols - j < NORMAL_PIECE ? p->cols - j : NORMAL_PIECE, at = i * p->cols + j;
            for (int64_t c = 0; c < n; c++)
                values[c] = std > 0 ? (float)(std * kv_rng_normal(rng, (uint64_t)(at + c))) : constant;
            kv_narrow((char *)p->data + (size_t)at * element, values, p->dtype, n);
        }
    }
}

void kv_model_init(kv_model *model, uint64_t seed) {
    kv_param *params[MAX_PARAMS];
    const int64_t n = kv_model_params(model, params);
    for (int64_t i = 0; i < n; i++) init_param(params[i], model->spec.n_layers, seed);
}

// ---- Uniform -------------------------------------------------------------------------------------------

// A weight takes 16 bits of a random block, so a block makes 8.
enum { PER_BLOCK = 8, PIECE = 2048 };

// The name a parameter had in the model that the layers come from.
static void origin_name(const kv_param *param, const int32_t *origin, char name[KV_NAME_MAX]) {
    long long layer;
    int rest = 0;
    snprintf(name, KV_NAME_MAX, "%s", param->name);
    if (origin && sscanf(param->name, "layers.%lld.%n", &layer, &rest) == 1 && rest > 0)
        snprintf(name, KV_NAME_MAX, "layers.%d.%s", (int)origin[layer], param->name + rest);
}

// values[n], n a multiple of 8: element 8b + 2w + h is half h (low first) of word w of block first + b, as a
// number from -scale / 2 to scale / 2.
static void fill_piece(kv_rng rng, uint64_t first, float scale, float *restrict values, int64_t n) {
    uint32_t words[PIECE / 2];
    const float step = scale * 0x1p-16f, middle = 32767.5f;
    kv_rng_blocks(rng, first, n / PER_BLOCK, words);
    for (int64_t i = 0; i < n / 2; i++) {
        values[2 * i] = ((float)(int32_t)(words[i] & 0xffff) - middle) * step;
        values[2 * i + 1] = ((float)(int32_t)(words[i] >> 16) - middle) * step;
    }
}

// A uniform distribution of width w has the standard deviation w / sqrt(12).
static void fill_random(kv_param *param, const char *name, int64_t n_layers, uint64_t seed) {
    float constant;
    const double std = start_of(name, param->cols, n_layers, &constant);
    const kv_rng rng = kv_rng_stream(seed, name);
    const float scale = (float)(std * sqrt(12));
    const int64_t size = kv_param_size(param);
    const size_t element = kv_dtype_size(param->dtype);
#pragma omp parallel for schedule(static) if (size > 1 << 14)
    for (int64_t at = 0; at < size; at += PIECE) {
        float values[PIECE];
        const int64_t n = size - at < PIECE ? size - at : PIECE;
        if (std > 0)
            fill_piece(rng, (uint64_t)(at / PER_BLOCK), scale, values,
                       (n + PER_BLOCK - 1) / PER_BLOCK * PER_BLOCK);
        else
            for (int64_t i = 0; i < n; i++) values[i] = constant;
        kv_narrow((char *)param->data + (size_t)at * element, values, param->dtype, n);
    }
}

void kv_model_fill_random(kv_model *model, uint64_t seed, const int32_t *origin, int64_t n_origin) {
    kv_param *params[MAX_PARAMS];
    const int64_t n = kv_model_params(model, params), n_layers = origin ? n_origin : model->spec.n_layers;
    for (int64_t i = 0; i < n; i++) {
        char name[KV_NAME_MAX];
        origin_name(params[i], origin, name);
        fill_random(params[i], name, n_layers, seed);
    }
}

// Shapes without weights: what makes sense, OpenELM's scaling rule, published models, layers left out.
#include "core/model.h"

#include <math.h>
#include <string.h>

static kv_status bad(kv_error *err, const char *field, int64_t value, const char *expected) {
    return kv_fail(err, KV_ERR_ARGUMENT, "%s is %lld, expected %s", field, (long long)value, expected);
}

// Sizes above this cannot be meant; keeping below it also keeps every product of two of them within int64.
static const int64_t SIZE_LIMIT = (int64_t)1 << 24;

static kv_status check_layer(const kv_model_spec *spec, int64_t i, kv_error *err) {
    const kv_layer_spec *l = &spec->layers[i];
    if (l->n_heads <= 0 || l->n_heads > SIZE_LIMIT / spec->head_dim)
        return kv_fail(err, KV_ERR_ARGUMENT, "layer %lld: n_heads is %lld, expected at least 1", (long long)i,
                       (long long)l->n_heads);
    if (l->n_kv_heads <= 0 || l->n_heads % l->n_kv_heads != 0)
        return kv_fail(err, KV_ERR_ARGUMENT,
                       "layer %lld: n_kv_heads is %lld, expected a divisor of the %lld heads", (long long)i,
                       (long long)l->n_kv_heads, (long long)l->n_heads);
    if (l->ffn_dim <= 0 || l->ffn_dim > SIZE_LIMIT)
        return kv_fail(err, KV_ERR_ARGUMENT, "layer %lld: ffn_dim is %lld, expected 1 to %lld", (long long)i,
                       (long long)l->ffn_dim, (long long)SIZE_LIMIT);
    return KV_OK;
}

static kv_status check_rope(const kv_rope_spec *rope, kv_error *err) {
    if (!(rope->theta > 0)) return kv_fail(err, KV_ERR_ARGUMENT, "the RoPE theta must be above 0");
    if (rope->factor == 0) return KV_OK;
    const bool linear =
        rope->low_freq_factor == 0 && rope->high_freq_factor == 0 && rope->original_context == 0;
    if (rope->factor > 0 && linear) return KV_OK;
    if (rope->factor > 0 && rope->low_freq_factor > 0 && rope->high_freq_factor > rope->low_freq_factor &&
        rope->original_context > 0)
        return KV_OK;
    return kv_fail(
        err, KV_ERR_ARGUMENT,
        "RoPE scaling by %g with frequency factors %g and %g of a context of %g, expected positive "
        "numbers, the second frequency factor above the first",
        rope->factor, rope->low_freq_factor, rope->high_freq_factor, rope->original_context);
}

kv_status kv_model_spec_check(const kv_model_spec *spec, kv_error *err) {
    if (spec->vocab_size <= 0 || spec->vocab_size > SIZE_LIMIT)
        return bad(err, "vocab_size", spec->vocab_size, "1 to 16777216");
    if (spec->model_dim <= 0 || spec->model_dim > SIZE_LIMIT)
        return bad(err, "model_dim", spec->model_dim, "1 to 16777216");
    if (spec->head_dim <= 0 || spec->head_dim % 2 || spec->head_dim > 4096)
        return bad(err, "head_dim", spec->head_dim, "an even number from 2 to 4096");
    if (spec->n_layers <= 0 || spec->n_layers > KV_MAX_LAYERS)
        return bad(err, "n_layers", spec->n_layers, "1 to 256");
    if (spec->context_length <= 0 || spec->context_length > SIZE_LIMIT)
        return bad(err, "context_length", spec->context_length, "1 to 16777216");
    if (!(spec->norm_eps > 0)) return kv_fail(err, KV_ERR_ARGUMENT, "norm_eps must be above 0");
    kv_status status = check_rope(&spec->rope, err);
    if (status != KV_OK) return status;
    for (int64_t i = 0; i < spec->n_layers; i++) {
        status = check_layer(spec, i, err);
        if (status != KV_OK) return status;
    }
    return KV_OK;
}

int64_t kv_make_divisible(double v, int64_t d) {
    int64_t rounded = ((int64_t)(v + (double)d / 2)) / d * d;
    if (rounded < d) rounded = d;
    return (double)rounded < 0.9 * v ? rounded + d : rounded;
}

// round(·, 2) of the i-th of n values spaced evenly from a to b.
static double spaced(double a, double b, int64_t i, int64_t n) {
    double x = n > 1 ? a + (b - a) * (double)i / (double)(n - 1) : a;
    return rint(x * 100) / 100;
}

void kv_openelm_layers(kv_model_spec *spec, int64_t gqa_groups, double q0, double q1, double f0, double f1,
                       int64_t ffn_dim_divisor) {
    for (int64_t i = 0; i < spec->n_layers; i++) {
        kv_layer_spec *l = &spec->layers[i];
        double model_dim = (double)spec->model_dim;
        int64_t q_dim =
            kv_make_divisible(model_dim * spaced(q0, q1, i, spec->n_layers), spec->head_dim * gqa_groups);
        l->n_heads = q_dim / spec->head_dim;
        l->n_kv_heads = l->n_heads / gqa_groups;
        l->ffn_dim = kv_make_divisible(spaced(f0, f1, i, spec->n_layers) * model_dim, ffn_dim_divisor);
    }
}

// ---- Published shapes ----------------------------------------------------------------------------------

// What the models of a family share.
static const kv_model_spec openelm = {.model_type = "openelm",
                                      .vocab_size = 32000,
                                      .context_length = 2048,
                                      .qk_norm = true,
                                      .tied_head = true,
                                      .norm_eps = 1e-6f,
                                      .rope = {.theta = 10000},
                                      .bos_id = 1,
                                      .eos_id = 2};
static const kv_model_spec smollm2 = {.model_type = "llama",
                                      .vocab_size = 49152,
                                      .context_length = 8192,
                                      .tied_head = true,
                                      .norm_eps = 1e-5f,
                                      .rope = {.theta = 100000}};
static const kv_model_spec llama32 = {.model_type = "llama",
                                      .vocab_size = 128256,
                                      .context_length = 131072,
                                      .tied_head = true,
                                      .norm_eps = 1e-5f,
                                      .rope = {.theta = 500000,
                                               .factor = 32,
                                               .low_freq_factor = 1,
                                               .high_freq_factor = 4,
                                               .original_context = 8192},
                                      .bos_id = 128000,
                                      .eos_id = 128001};
// Rows of the table beyond the tokenizer's pieces are padding.
static const kv_model_spec qwen25 = {.model_type = "qwen2",
                                     .vocab_size = 151936,
                                     .context_length = 32768,
                                     .qkv_bias = true,
                                     .tied_head = true,
                                     .norm_eps = 1e-6f,
                                     .rope = {.theta = 1000000},
                                     .bos_id = 151643,
                                     .eos_id = 151643};
static const kv_model_spec qwen3 = {.model_type = "qwen3",
                                    .vocab_size = 151936,
                                    .context_length = 40960,
                                    .qk_norm = true,
                                    .tied_head = true,
                                    .norm_eps = 1e-6f,
                                    .rope = {.theta = 1000000},
                                    .bos_id = 151643,
                                    .eos_id = 151645};

// From the config.json each was published with. n_heads 0: OpenELM's layer-wise scaling.
static const struct {
    const char *name;
    const kv_model_spec *family;
    int64_t n_layers, model_dim, head_dim, n_heads, n_kv_heads, ffn_dim;
    double theta;           // 0: the family's
    int64_t context_length; // 0: the family's
} published[] = {{"openelm-270m", &openelm, 16, 1280, 64, 0, 0, 0, 0, 0},
                 {"openelm-450m", &openelm, 20, 1536, 64, 0, 0, 0, 0, 0},
                 {"openelm-1.1b", &openelm, 28, 2048, 64, 0, 0, 0, 0, 0},
                 {"openelm-3b", &openelm, 36, 3072, 128, 0, 0, 0, 0, 0},
                 {"smollm2-135m", &smollm2, 30, 576, 64, 9, 3, 1536, 0, 0},
                 {"smollm2-360m", &smollm2, 32, 960, 64, 15, 5, 2560, 0, 0},
                 {"smollm2-1.7b", &smollm2, 24, 2048, 64, 32, 32, 8192, 130000, 0},
                 {"llama-3.2-1b", &llama32, 16, 2048, 64, 32, 8, 8192, 0, 0},
                 {"llama-3.2-3b", &llama32, 28, 3072, 128, 24, 8, 8192, 0, 0},
                 {"qwen2.5-0.5b", &qwen25, 24, 896, 64, 14, 2, 4864, 0, 0},
                 {"qwen2.5-1.5b", &qwen25, 28, 1536, 128, 12, 2, 8960, 0, 131072},
                 {"qwen2.5-3b", &qwen25, 36, 2048, 128, 16, 2, 11008, 0, 0},
                 {"qwen3-0.6b", &qwen3, 28, 1024, 128, 16, 8, 3072, 0, 0},
                 {"qwen3-1.7b", &qwen3, 28, 2048, 128, 16, 8, 6144, 0, 0},
                 {"qwen3-4b", &qwen3, 36, 2560, 128, 32, 8, 9728, 0, 0}};
enum { N_PUBLISHED = sizeof published / sizeof *published };

const char *kv_published_name(int64_t i) {
    return i >= 0 && i < N_PUBLISHED ? published[i].name : NULL;
}

bool kv_published_spec(const char *name, kv_model_spec *spec) {
    size_t i = 0;
    while (i < N_PUBLISHED && strcmp(name, published[i].name)) i++;
    if (i == N_PUBLISHED) return false;
    *spec = *published[i].family;
    spec->n_layers = published[i].n_layers;
    spec->model_dim = published[i].model_dim;
    spec->head_dim = published[i].head_dim;
    if (published[i].theta > 0) spec->rope.theta = published[i].theta;
    if (published[i].context_length > 0) spec->context_length = published[i].context_length;
    if (published[i].n_heads == 0)
        kv_openelm_layers(spec, 4, 0.5, 1.0, 0.5, 4.0, 256);
    else
        for (int64_t l = 0; l < spec->n_layers; l++)
            spec->layers[l] =
                (kv_layer_spec){published[i].n_heads, published[i].n_kv_heads, published[i].ffn_dim};
    return true;
}

// ---- Layer pruning -------------------------------------------------------------------------------------

int64_t kv_pruned_layers(int64_t n_layers, double fraction, int32_t *kept) {
    int64_t n = 0;
    for (int64_t i = 0; i < n_layers && i < KV_MAX_LAYERS; i++) {
        bool keep;
        if (fraction == 0.5)
            keep = i % 2 == 0;
        else if (fraction == 0.25)
            keep = i % 4 == 0;
        else if (fraction == 0.75)
            keep = i % 4 != 3;
        else
            return -1;
        if (keep) kept[n++] = (int32_t)i;
    }
    return n;
}

void kv_spec_prune(kv_model_spec *spec, const int32_t *kept, int64_t n_kept) {
    for (int64_t i = 0; i < n_kept; i++) spec->layers[i] = spec->layers[kept[i]];
    memset(spec->layers + n_kept, 0, (size_t)(KV_MAX_LAYERS - n_kept) * sizeof *spec->layers);
    spec->n_layers = n_kept;
}

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
    if (!(spec->rope.theta > 0)) return kv_fail(err, KV_ERR_ARGUMENT, "the RoPE theta must be above 0");
    for (int64_t i = 0; i < spec->n_layers; i++) {
        kv_status status = check_layer(spec, i, err);
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

static const struct {
    const char *name;
    int64_t n_layers, model_dim, head_dim;
} published[] = {{"openelm-270m", 16, 1280, 64},
                 {"openelm-450m", 20, 1536, 64},
                 {"openelm-1.1b", 28, 2048, 64},
                 {"openelm-3b", 36, 3072, 128}};
enum { N_PUBLISHED = sizeof published / sizeof *published };

const char *kv_published_name(int64_t i) {
    return i >= 0 && i < N_PUBLISHED ? published[i].name : NULL;
}

bool kv_published_spec(const char *name, kv_model_spec *spec) {
    for (size_t i = 0; i < N_PUBLISHED; i++) {
        if (strcmp(name, published[i].name)) continue;
        *spec = (kv_model_spec){.model_type = "openelm",
                                .vocab_size = 32000,
                                .model_dim = published[i].model_dim,
                                .head_dim = published[i].head_dim,
                                .n_layers = published[i].n_layers,
                                .context_length = 2048,
                                .qk_norm = true,
                                .tied_head = true,
                                .norm_eps = 1e-6f,
                                .rope = {.theta = 10000},
                                .bos_id = 1,
                                .eos_id = 2};
        kv_openelm_layers(spec, 4, 0.5, 1.0, 0.5, 4.0, 256);
        return true;
    }
    return false;
}

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

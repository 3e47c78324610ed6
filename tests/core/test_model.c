// The transformer described by data: shapes, parameters, and its outputs and gradients against double
// precision.
#include "core/flops.h"
#include "core/gemm.h"
#include "tests/support/numbers/reference_model.h"
#include "tests/support/numbers/rounding.h"
#include "tests/support/support.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static kv_model *model_of(const kv_model_spec *spec, kv_dtype dtype, bool allocate) {
    kv_model *model;
    kv_error err = {0};
    if (kv_model_create(spec, dtype, allocate, &model, &err) != KV_OK) fail_msg("%s", err.message);
    return model;
}

// ---- Specs ---------------------------------------------------------------------------------------------

// The numbers of parameters the models' pages give. Qwen3's files of 0.6B and 1.7B store the tied head a
// second time, which their pages count and we do not.
static void test_published_sizes(void **state) {
    (void)state;
    const struct {
        const char *name, *type;
        int64_t size, n_layers, model_dim, head_dim, context_length, theta;
    } published[] = {{"openelm-270m", "openelm", 271527168, 16, 1280, 64, 2048, 10000},
                     {"openelm-450m", "openelm", 457179136, 20, 1536, 64, 2048, 10000},
                     {"openelm-1.1b", "openelm", 1079891456, 28, 2048, 64, 2048, 10000},
                     {"openelm-3b", "openelm", 3036647424, 36, 3072, 128, 2048, 10000},
                     {"smollm2-135m", "llama", 134515008, 30, 576, 64, 8192, 100000},
                     {"smollm2-360m", "llama", 361821120, 32, 960, 64, 8192, 100000},
                     {"smollm2-1.7b", "llama", 1711376384, 24, 2048, 64, 8192, 130000},
                     {"llama-3.2-1b", "llama", 1235814400, 16, 2048, 64, 131072, 500000},
                     {"llama-3.2-3b", "llama", 3212749824, 28, 3072, 128, 131072, 500000},
                     {"qwen2.5-0.5b", "qwen2", 494032768, 24, 896, 64, 32768, 1000000},
                     {"qwen2.5-1.5b", "qwen2", 1543714304, 28, 1536, 128, 131072, 1000000},
                     {"qwen2.5-3b", "qwen2", 3085938688, 36, 2048, 128, 32768, 1000000},
                     {"qwen3-0.6b", "qwen3", 751632384 - 151936 * 1024, 28, 1024, 128, 40960, 1000000},
                     {"qwen3-1.7b", "qwen3", 2031739904 - 151936 * 2048, 28, 2048, 128, 40960, 1000000},
                     {"qwen3-4b", "qwen3", 4022468096, 36, 2560, 128, 40960, 1000000}};
    enum { N = sizeof published / sizeof *published };
    assert_null(kv_published_name(-1));
    assert_null(kv_published_name(N));
    for (int i = 0; i < N; i++) {
        kv_model_spec spec;
        kv_error err = {0};
        assert_string_equal(kv_published_name(i), published[i].name);
        assert_true(kv_published_spec(published[i].name, &spec));
        assert_int_equal(kv_model_spec_check(&spec, &err), KV_OK);
        assert_string_equal(spec.model_type, published[i].type);
        assert_int_equal(spec.n_layers, published[i].n_layers);
        assert_int_equal(spec.model_dim, published[i].model_dim);
        assert_int_equal(spec.head_dim, published[i].head_dim);
        assert_int_equal(spec.context_length, published[i].context_length);
        assert_true(spec.rope.theta == (double)published[i].theta);
        const bool qwen2 = !strcmp(spec.model_type, "qwen2"), llama = !strcmp(spec.model_type, "llama");
        assert_true(spec.tied_head && spec.qkv_bias == qwen2 && spec.qk_norm == !(qwen2 || llama));
        assert_int_equal(kv_spec_size(&spec, true), published[i].size);
        kv_model *model = model_of(&spec, KV_BF16, false);
        assert_int_equal(kv_model_size(model, true), published[i].size);
        assert_int_equal(kv_model_size(model, false), published[i].size - spec.vocab_size * spec.model_dim);
        kv_model_free(model);
    }
    kv_model_spec spec;
    assert_false(kv_published_spec("openelm-7b", &spec));
    assert_false(kv_published_spec("", &spec));
}

// The per-layer sizes in the published config.json of OpenELM-270M.
static void test_layer_wise_scaling(void **state) {
    (void)state;
    const int heads[] = {12, 12, 12, 12, 12, 16, 16, 16, 16, 16, 16, 16, 20, 20, 20, 20};
    const double multipliers[] = {0.5,  0.73, 0.97, 1.2,  1.43, 1.67, 1.9,  2.13,
                                  2.37, 2.6,  2.83, 3.07, 3.3,  3.53, 3.77, 4.0};
    kv_model_spec spec;
    assert_true(kv_published_spec("openelm-270m", &spec));
    for (int i = 0; i < 16; i++) {
        assert_int_equal(spec.layers[i].n_heads, heads[i]);
        assert_int_equal(spec.layers[i].n_kv_heads, heads[i] / 4);
        const double exact = multipliers[i] * 1280;
        assert_int_equal(spec.layers[i].ffn_dim % 256, 0);
        assert_true(fabs((double)spec.layers[i].ffn_dim - exact) <= 128 || spec.layers[i].ffn_dim >= exact);
    }
    assert_int_equal(spec.layers[0].ffn_dim, 768); // 640 rounds to 512 or 768; half up gives 768
    assert_int_equal(spec.layers[15].ffn_dim, 5120);
    // A single layer takes the first end of the range.
    kv_model_spec one = {.model_dim = 1280, .head_dim = 64, .n_layers = 1};
    kv_openelm_layers(&one, 4, 0.5, 1.0, 0.5, 4.0, 256);
    assert_int_equal(one.layers[0].n_heads, 12);
    assert_int_equal(one.layers[0].ffn_dim, 768);
}

static kv_model_spec plain_spec(void) {
    kv_model_spec spec = {.model_type = "llama",
                          .vocab_size = 23,
                          .model_dim = 10,
                          .head_dim = 4,
                          .n_layers = 2,
                          .context_length = 64,
                          .norm_eps = 1e-5f,
                          .rope = {.theta = 10000},
                          .bos_id = 1,
                          .eos_id = 2};
    spec.layers[0] = (kv_layer_spec){.n_heads = 2, .n_kv_heads = 2, .ffn_dim = 14};
    spec.layers[1] = spec.layers[0];
    return spec;
}

static void expect_bad_spec(kv_model_spec spec, const char *field) {
    kv_error err = {0};
    kv_model *model = (kv_model *)1;
    assert_int_equal(kv_model_spec_check(&spec, &err), KV_ERR_ARGUMENT);
    if (!strstr(err.message, field)) fail_msg("does not name %s: %s", field, err.message);
    assert_int_equal(kv_model_create(&spec, KV_F32, true, &model, &err), KV_ERR_ARGUMENT);
    assert_null(model);
}

static void test_bad_specs_are_named(void **state) {
    (void)state;
    const int64_t absurd[] = {0, -1, INT64_MIN, INT64_MAX, (int64_t)1 << 62};
    kv_error err = {0};
    kv_model_spec good = plain_spec(), spec;
    assert_int_equal(kv_model_spec_check(&good, &err), KV_OK);
    for (int i = 0; i < 5; i++) {
        expect_bad_spec((spec = good, spec.vocab_size = absurd[i], spec), "vocab_size");
        expect_bad_spec((spec = good, spec.model_dim = absurd[i], spec), "model_dim");
        expect_bad_spec((spec = good, spec.head_dim = absurd[i], spec), "head_dim");
        expect_bad_spec((spec = good, spec.n_layers = absurd[i], spec), "n_layers");
        expect_bad_spec((spec = good, spec.context_length = absurd[i], spec), "context_length");
        expect_bad_spec((spec = good, spec.layers[1].n_heads = absurd[i], spec), "n_heads");
        expect_bad_spec((spec = good, spec.layers[1].n_kv_heads = absurd[i], spec), "n_kv_heads");
        expect_bad_spec((spec = good, spec.layers[1].ffn_dim = absurd[i], spec), "ffn_dim");
    }
    expect_bad_spec((spec = good, spec.head_dim = 5, spec), "head_dim");
    expect_bad_spec((spec = good, spec.n_layers = KV_MAX_LAYERS + 1, spec), "n_layers");
    expect_bad_spec((spec = good, spec.layers[0].n_heads = 3, spec), "n_kv_heads");
    expect_bad_spec((spec = good, spec.norm_eps = NAN, spec), "norm_eps");
    expect_bad_spec((spec = good, spec.rope.theta = -3, spec), "theta");
    // Llama 3's scaling needs all its numbers, and they divide by the difference of two.
    const kv_rope_spec scaled = {
        .theta = 1e4, .factor = 8, .low_freq_factor = 1, .high_freq_factor = 4, .original_context = 32};
    spec = good, spec.rope = scaled;
    assert_int_equal(kv_model_spec_check(&spec, &err), KV_OK);
    expect_bad_spec((spec.rope = scaled, spec.rope.factor = -8, spec), "RoPE scaling");
    expect_bad_spec((spec.rope = scaled, spec.rope.high_freq_factor = 1, spec), "RoPE scaling");
    expect_bad_spec((spec.rope = scaled, spec.rope.original_context = NAN, spec), "RoPE scaling");
    expect_bad_spec((spec.rope = scaled, spec.rope.original_context = 0, spec), "RoPE scaling by 8");
    expect_bad_spec((spec.rope = scaled, spec.rope.low_freq_factor = 0, spec), "RoPE scaling by 8");
    // Linear scaling has none but its factor.
    spec = good, spec.rope.factor = 8;
    assert_int_equal(kv_model_spec_check(&spec, &err), KV_OK);
    expect_bad_spec((spec = good, spec.rope.factor = -8, spec), "RoPE scaling by -8");
    expect_bad_spec((spec = good, spec.rope.factor = NAN, spec), "RoPE scaling");
    // Each size fits, their product does not: refused, not wrapped around.
    spec = good;
    spec.vocab_size = spec.model_dim = 1 << 24;
    kv_model *model = NULL;
    assert_int_not_equal(kv_model_create(&spec, KV_F32, true, &model, &err), KV_OK);
    assert_null(model);
}

static void test_pruned_layers(void **state) {
    (void)state;
    int32_t kept[KV_MAX_LAYERS];
    assert_int_equal(kv_pruned_layers(7, 0.5, kept), 4);
    assert_memory_equal(kept, ((int32_t[]){0, 2, 4, 6}), 16);
    assert_int_equal(kv_pruned_layers(28, 0.5, kept), 14);
    assert_int_equal(kept[13], 26);
    assert_int_equal(kv_pruned_layers(9, 0.25, kept), 3);
    assert_memory_equal(kept, ((int32_t[]){0, 4, 8}), 12);
    assert_int_equal(kv_pruned_layers(9, 0.75, kept), 7);
    assert_memory_equal(kept, ((int32_t[]){0, 1, 2, 4, 5, 6, 8}), 28);
    const double others[] = {0, 1, 0.3, -0.5, NAN};
    for (int i = 0; i < 5; i++) assert_int_equal(kv_pruned_layers(9, others[i], kept), -1);
}

// ---- Parameters ----------------------------------------------------------------------------------------

static void test_parameters_are_listed_once_and_in_order(void **state) {
    (void)state;
    kv_model_spec spec = plain_spec();
    spec.qkv_bias = spec.qk_norm = true;
    kv_model *model = model_of(&spec, KV_F32, true);
    kv_param *params[64];
    const int64_t n = kv_model_params(model, NULL);
    assert_int_equal(n, 1 + 2 * 14 + 2);
    assert_int_equal(kv_model_params(model, params), n);
    assert_ptr_equal(params[0], &model->embed);
    assert_ptr_equal(params[n - 1], &model->head);
    assert_ptr_equal(params[n - 2], &model->norm);
    int64_t size = 0;
    for (int64_t i = 0; i < n; i++) {
        size += kv_param_size(params[i]);
        assert_non_null(params[i]->data);
        assert_false(kv_param_trainable(params[i]));
        assert_int_equal(params[i]->decay, params[i]->rows > 1); // matrices yes, norms and biases no
        for (int64_t j = 0; j < i; j++) assert_string_not_equal(params[i]->name, params[j]->name);
        for (int64_t e = 0; e < kv_param_size(params[i]); e++)
            assert_true(((float *)params[i]->data)[e] == 0);
    }
    assert_int_equal(size, kv_model_size(model, true));
    assert_int_equal(size, kv_spec_size(&spec, true));
    assert_ptr_equal(kv_model_head(model), &model->head);
    kv_model_free(model);
    kv_model_free(NULL);
    spec.tied_head = true;
    spec.qkv_bias = spec.qk_norm = false;
    model = model_of(&spec, KV_F32, true);
    assert_ptr_equal(kv_model_head(model), &model->embed);
    assert_int_equal(kv_model_params(model, NULL), 1 + 2 * 9 + 1);
    assert_null(model->layers[0].q_bias.data);
    assert_null(model->layers[0].q_norm.data);
    kv_model_free(model);
}

static double spread(const kv_param *p) {
    double squares = 0;
    for (int64_t i = 0; i < kv_param_size(p); i++)
        squares += (double)((float *)p->data)[i] * (double)((float *)p->data)[i];
    return sqrt(squares / (double)kv_param_size(p));
}

// kurtosis: 3 of normal numbers, 1.8 of those spread evenly.
static void expect_spread(const kv_param *p, double std, double kurtosis) {
    rounding_expect(p->name, spread(p) / std, 1, chance_of_deviation(kurtosis, (double)kv_param_size(p)));
}

static void test_initial_weights(void **state) {
    (void)state;
    kv_model_spec spec = plain_spec();
    spec.model_dim = 120, spec.vocab_size = 300, spec.qkv_bias = spec.qk_norm = true;
    spec.layers[0].ffn_dim = 210;
    kv_model *a = model_of(&spec, KV_F32, true), *b = model_of(&spec, KV_F32, true);
    kv_model_init(a, 5);
    kv_model_init(b, 5);
    kv_param *pa[64], *pb[64];
    const int64_t n = kv_model_params(a, pa);
    kv_model_params(b, pb);
    for (int64_t i = 0; i < n; i++)
        assert_memory_equal(pa[i]->data, pb[i]->data, (size_t)kv_param_size(pa[i]) * sizeof(float));
    expect_spread(&a->embed, 1 / sqrt(120), 3);
    expect_spread(&a->layers[0].gate, 1 / sqrt(120), 3);
    expect_spread(&a->layers[0].down, 1 / (sqrt(210) * sqrt(2 * 2)), 3);
    expect_spread(&a->layers[0].out, 1 / (sqrt(8) * sqrt(2 * 2)), 3);
    for (int i = 0; i < 120; i++) assert_true(((float *)a->layers[1].ffn_norm.data)[i] == 1);
    for (int i = 0; i < 4; i++) assert_true(((float *)a->layers[1].k_norm.data)[i] == 1);
    for (int i = 0; i < 8; i++) assert_true(((float *)a->layers[1].k_bias.data)[i] == 0);
    assert_memory_not_equal(a->layers[0].q.data, a->layers[1].q.data, 64);
    kv_model_init(b, 6);
    assert_memory_not_equal(a->layers[0].q.data, b->layers[0].q.data, 64);
    kv_model_free(a);
    kv_model_free(b);
}

// The definition: 16 bits of a block for a weight, low halves first, spread evenly over a width of
// sqrt(12) standard deviations.
static double random_weight(uint64_t seed, const char *name, double std, int64_t i) {
    uint32_t words[4];
    kv_rng_block(kv_rng_stream(seed, name), (uint64_t)i / 8, words);
    const uint32_t half = words[i % 8 / 2] >> 16 * (i % 2) & 0xffff;
    return std * sqrt(12) * ((double)half - 32767.5) / 65536;
}

static void expect_random(const kv_param *p, uint64_t seed, double std) {
    for (int64_t i = 0; i < kv_param_size(p); i++)
        // The width and the product are rounded.
        expect_float(p->name, (double)((float *)p->data)[i], random_weight(seed, p->name, std, i), 3,
                     std * sqrt(3));
}

static void test_random_fill(void **state) {
    (void)state;
    kv_model_spec spec = plain_spec();
    spec.model_dim = 124, spec.vocab_size = 301, spec.qkv_bias = spec.qk_norm = true;
    spec.layers[0].ffn_dim = 211;
    kv_model *a = model_of(&spec, KV_F32, true);
    kv_model_fill_random(a, 5, NULL, 0);
    expect_random(&a->embed, 5, 1 / sqrt(124));
    expect_random(&a->layers[1].gate, 5, 1 / sqrt(124));
    expect_random(&a->layers[0].down, 5, 1 / sqrt(211) / sqrt(2 * 2));
    expect_random(&a->layers[1].out, 5, 1 / sqrt((double)a->layers[1].out.cols) / sqrt(2 * 2));
    expect_spread(&a->embed, 1 / sqrt(124), 1.8);
    for (int i = 0; i < 124; i++) assert_true(((float *)a->layers[1].ffn_norm.data)[i] == 1);
    for (int i = 0; i < 124; i++) assert_true(((float *)a->norm.data)[i] == 1);
    for (int i = 0; i < 4; i++) assert_true(((float *)a->layers[1].k_norm.data)[i] == 1);
    for (int i = 0; i < 8; i++) assert_true(((float *)a->layers[1].k_bias.data)[i] == 0);
    // Stored in 16 bits: the same, rounded.
    kv_model *narrow = model_of(&spec, KV_BF16, true);
    kv_model_fill_random(narrow, 5, NULL, 0);
    for (int64_t i = 0; i < kv_param_size(&a->embed); i++)
        assert_int_equal(((uint16_t *)narrow->embed.data)[i],
                         test_half_nearest(KV_BF16, (double)((float *)a->embed.data)[i]));
    kv_model_fill_random(narrow, 6, NULL, 0);
    uint16_t first[8];
    kv_narrow(first, a->embed.data, KV_BF16, 8);
    assert_memory_not_equal(narrow->embed.data, first, sizeof first);
    kv_model_free(a);
    kv_model_free(narrow);
}

// Pruned after filling or filled after pruning: the same weights.
static void test_random_fill_of_a_part(void **state) {
    (void)state;
    kv_model_spec spec = plain_spec();
    spec.n_layers = 12; // names of one digit and of two
    for (int64_t i = 1; i < 12; i++) spec.layers[i] = spec.layers[0];
    static const int32_t kept[3] = {0, 7, 11};
    kv_error err = {0};
    kv_model *whole = model_of(&spec, KV_F32, true), *pruned;
    kv_model_fill_random(whole, 9, NULL, 0);
    assert_int_equal(kv_model_prune(whole, kept, 3, &pruned, &err), KV_OK);
    kv_spec_prune(&spec, kept, 3);
    assert_int_equal(spec.n_layers, 3);
    assert_int_equal(spec.layers[3].n_heads, 0);
    kv_model *filled = model_of(&spec, KV_F32, true);
    kv_model_fill_random(filled, 9, kept, 12);
    kv_param *pa[64], *pb[64];
    const int64_t n = kv_model_params(pruned, pa);
    assert_int_equal(kv_model_params(filled, pb), n);
    for (int64_t i = 0; i < n; i++)
        assert_memory_equal(pa[i]->data, pb[i]->data, (size_t)kv_param_size(pa[i]) * sizeof(float));
    kv_model_free(whole);
    kv_model_free(pruned);
    kv_model_free(filled);
}

static void test_trainable_and_frozen(void **state) {
    (void)state;
    const kv_model_spec spec = plain_spec();
    kv_error err = {0};
    kv_param *params[64];
    kv_model *model = model_of(&spec, KV_F32, true);
    const int64_t n = kv_model_params(model, params);
    for (int round = 0; round < 2; round++) {
        assert_int_equal(kv_model_set_trainable(model, true, &err), KV_OK);
        for (int64_t i = 0; i < n; i++)
            for (int64_t e = 0; e < kv_param_size(params[i]); e++) assert_true(params[i]->grad[e] == 0);
        for (int64_t i = 0; i < n; i++) assert_int_equal(params[i]->group, KV_GROUP_MODEL);
        assert_int_equal(kv_model_set_trainable(model, false, &err), KV_OK);
        for (int64_t i = 0; i < n; i++) assert_null(params[i]->grad);
    }
    kv_model_free(model);
    model = model_of(&spec, KV_BF16, true);
    assert_int_equal(kv_model_set_trainable(model, true, &err), KV_ERR_ARGUMENT);
    for (int64_t i = 0; i < kv_model_params(model, params); i++) assert_null(params[i]->grad);
    kv_model_free(model);
}

static void test_pruning_copies_layers(void **state) {
    (void)state;
    kv_model_spec spec = plain_spec();
    spec.n_layers = 4;
    for (int i = 0; i < 4; i++)
        spec.layers[i] = (kv_layer_spec){.n_heads = i + 1, .n_kv_heads = 1, .ffn_dim = 6 + i};
    for (kv_dtype dtype = KV_F32; dtype <= KV_F16; dtype++) {
        kv_model *base = ref_random_model(&spec, dtype, 3), *pruned;
        kv_error err = {0};
        assert_int_equal(kv_model_prune(base, (int32_t[]){0, 3}, 2, &pruned, &err), KV_OK);
        assert_int_equal(pruned->spec.n_layers, 2);
        assert_int_equal(pruned->spec.layers[1].n_heads, 4);
        const kv_param *pairs[][2] = {{&pruned->embed, &base->embed},
                                      {&pruned->head, &base->head},
                                      {&pruned->norm, &base->norm},
                                      {&pruned->layers[0].q, &base->layers[0].q},
                                      {&pruned->layers[1].q, &base->layers[3].q},
                                      {&pruned->layers[1].ffn_norm, &base->layers[3].ffn_norm},
                                      {&pruned->layers[1].down, &base->layers[3].down}};
        for (int i = 0; i < 7; i++) {
            double *copy = numeric_param_doubles(pairs[i][0]), *original = numeric_param_doubles(pairs[i][1]);
            assert_int_equal(pairs[i][0]->dtype, KV_F32);
            assert_memory_equal(copy, original, (size_t)kv_param_size(pairs[i][1]) * sizeof(double));
            free(copy);
            free(original);
        }
        assert_int_equal(kv_model_set_trainable(pruned, true, &err), KV_OK);
        kv_model_free(pruned);
        assert_int_equal(kv_model_prune(base, (int32_t[]){0, 4}, 2, &pruned, &err), KV_ERR_ARGUMENT);
        assert_null(pruned);
        assert_int_equal(kv_model_prune(base, (int32_t[]){-1}, 1, &pruned, &err), KV_ERR_ARGUMENT);
        assert_int_equal(kv_model_prune(base, NULL, 0, &pruned, &err), KV_ERR_ARGUMENT);
        kv_model_free(base);
    }
}

// ---- Panels --------------------------------------------------------------------------------------------

static kv_model_spec wide_spec(void) {
    kv_model_spec spec = plain_spec();
    spec.model_dim = 48, spec.vocab_size = 64, spec.head_dim = 8, spec.tied_head = true;
    for (int i = 0; i < spec.n_layers; i++)
        spec.layers[i] = (kv_layer_spec){.n_heads = 4, .n_kv_heads = 2, .ffn_dim = 33 + 15 * (i % 2)};
    return spec;
}

static float *logits_of(kv_model *model, const int32_t *ids, int64_t n) {
    kv_tape *tape = kv_tape_create();
    const kv_sequence sequence = {0, n, 0, n};
    const kv_pass pass = {.sequences = &sequence, .n_sequences = 1};
    kv_tape_set_recording(tape, false);
    const kv_tensor *y = kv_model_logits(tape, model, kv_model_forward(tape, model, ids, n, &pass));
    assert_non_null(y);
    float *copy = test_alloc(y->rows * y->cols, sizeof *copy);
    memcpy(copy, y->data, (size_t)(y->rows * y->cols) * sizeof *copy);
    kv_tape_free(tape);
    return copy;
}

// A model in panels gives the same bits, one of its layers the same copies, and is not trained.
static void test_packing_changes_no_bit(void **state) {
    (void)state;
    const kv_model_spec spec = wide_spec();
    const int32_t ids[] = {5, 63, 0, 17, 5};
    for (kv_dtype dtype = KV_F32; dtype <= KV_F16; dtype++) {
        kv_model *model = ref_random_model(&spec, dtype, 3), *before, *after;
        kv_error err = {0};
        kv_gemm_batch_invariant(true);
        float *plain = logits_of(model, ids, 5), *one = logits_of(model, ids, 1);
        assert_int_equal(kv_model_prune(model, (int32_t[]){1}, 1, &before, &err), KV_OK);
        assert_int_equal(kv_model_pack_bytes(model), 0); // in place
        assert_true(kv_model_pack(model, NULL));
        assert_int_equal(model->embed.layout, KV_IN_PANELS);
        assert_int_equal(model->layers[0].q.layout, KV_IN_PANELS);
        assert_int_equal(model->layers[0].up.layout, KV_IN_ROWS); // 33 rows
        assert_int_equal(model->layers[0].attn_norm.layout, KV_IN_ROWS);
        float *packed = logits_of(model, ids, 5), *packed_one = logits_of(model, ids, 1);
        assert_memory_equal(packed, plain, 5 * 64 * sizeof *plain);
        assert_memory_equal(packed_one, one, 64 * sizeof *one);
        kv_gemm_batch_invariant(false);
        assert_int_equal(kv_model_prune(model, (int32_t[]){1}, 1, &after, &err), KV_OK);
        kv_param *a[64], *b[64];
        const int64_t n = kv_model_params(before, a);
        assert_int_equal(kv_model_params(after, b), n);
        for (int64_t i = 0; i < n; i++)
            assert_memory_equal(a[i]->data, b[i]->data, (size_t)kv_param_size(a[i]) * sizeof(float));
        assert_int_equal(kv_model_set_trainable(model, true, &err), KV_ERR_ARGUMENT);
        if (dtype == KV_F32 && !strstr(err.message, "panels")) fail_msg("%s", err.message);
        float *memory[] = {plain, one, packed, packed_one};
        for (int i = 0; i < 4; i++) free(memory[i]);
        kv_model_free(model);
        kv_model_free(before);
        kv_model_free(after);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_published_sizes),
        cmocka_unit_test(test_layer_wise_scaling),
        cmocka_unit_test(test_bad_specs_are_named),
        cmocka_unit_test(test_pruned_layers),
        cmocka_unit_test(test_parameters_are_listed_once_and_in_order),
        cmocka_unit_test(test_initial_weights),
        cmocka_unit_test(test_random_fill),
        cmocka_unit_test(test_random_fill_of_a_part),
        cmocka_unit_test(test_trainable_and_frozen),
        cmocka_unit_test(test_pruning_copies_layers),
        cmocka_unit_test(test_packing_changes_no_bit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

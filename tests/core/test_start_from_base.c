// The start of maps from the base's own projections: of the layer that a prefix leads to the predicted cache is the
// base's own; of those above it is their projection of the same state; kinds of maps take of it what they can; what
// has no such start is refused.
#include "core/predictor/start_from_base.h"
#include "tests/support/numbers/rounding.h"
#include "tests/support/support.h"
#include "tests/support/tiny.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { N_SEQ = 2, SEQ_LEN = 9, TOKENS = N_SEQ * SEQ_LEN, LAYERS = 3 };

static int32_t ids[TOKENS];
static const kv_sequence sequences[N_SEQ] = {{0, SEQ_LEN, 0, SEQ_LEN}, {SEQ_LEN, SEQ_LEN, SEQ_LEN, SEQ_LEN}};

// A base, with biases of its own where `bias`, in a type that its weights are stored in.
static kv_model *make_base(bool bias, kv_dtype dtype) {
    kv_model_spec spec = tiny_base();
    spec.qkv_bias = bias;
    kv_model *wide = tiny_model(&spec, 1), *model = wide;
    for (int64_t i = 0; bias && i < spec.n_layers; i++) {
        kv_param *biases[] = {&wide->layers[i].k_bias, &wide->layers[i].v_bias};
        for (int b = 0; b < 2; b++)
            for (int64_t c = 0; c < kv_param_size(biases[b]); c++)
                ((float *)biases[b]->data)[c] = (float)(0.3 * test_value(70 + (uint64_t)b, c));
    }
    if (dtype == KV_F32) return wide;
    kv_error err = {0};
    if (kv_model_create(&spec, dtype, true, &model, &err) != KV_OK) fail_msg("%s", err.message);
    const int64_t n = kv_model_params(wide, NULL);
    kv_param **from = test_alloc(n, sizeof *from), **to = test_alloc(n, sizeof *to);
    kv_model_params(wide, from), kv_model_params(model, to);
    for (int64_t p = 0; p < n; p++) kv_narrow(to[p]->data, from[p]->data, to[p]->dtype, kv_param_size(to[p]));
    free(from), free(to);
    kv_model_free(wide);
    return model;
}

// Maps of all layers from `prefix` on from hidden state h_read.
static kv_predictor *make_predictor(const kv_model *base, int64_t prefix, int64_t read,
                                    const kv_map_kind *kind, int64_t width) {
    kv_predictor_spec *spec = test_alloc(1, sizeof *spec);
    kv_predictor *predictor;
    kv_error err = {0};
    kv_predictor_spec_prefix(&base->spec, prefix, spec);
    for (int side = 0; side < KV_SIDES; side++)
        for (int64_t i = prefix; i < base->spec.n_layers; i++)
            spec->outputs[side][i].sources.at[0].layer = (uint8_t)read;
    kv_predictor_spec_set_map(spec, kind, width);
    if (kv_predictor_create(&base->spec, &base->spec, spec, &predictor, &err) != KV_OK ||
        kv_predictor_init(predictor, base, 3, &err) != KV_OK ||
        kv_start_from_base(predictor, base, &err) != KV_OK)
        fail_msg("%s", err.message);
    free(spec);
    return predictor;
}

static double wide(const kv_param *param, int64_t i) {
    float x;
    kv_widen(&x, (const char *)param->data + i * (int64_t)(param->dtype == KV_F32 ? 4 : 2), param->dtype, 1);
    return (double)x;
}

// What layer `layer` makes of the state that h_read is the normed form of, in double; *size: of the sum's terms.
static double projected(const kv_model *base, int side, int64_t layer, int64_t read, const float *h,
                        int64_t o, double *size) {
    const kv_layer *own = &base->layers[layer], *there = &base->layers[read];
    const kv_param *w = side == KV_KEYS ? &own->k : &own->v,
                   *b = side == KV_KEYS ? &own->k_bias : &own->v_bias;
    double sum = b->data ? wide(b, o) : 0;
    *size = fabs(sum);
    for (int64_t c = 0; c < w->cols; c++) {
        const double term =
            wide(w, o * w->cols + c) * wide(&own->attn_norm, c) / wide(&there->attn_norm, c) * (double)h[c];
        sum += term, *size += fabs(term);
    }
    return sum;
}

// The predicted values, and keys before their norm, of all layers against projections; and those of the layer whose
// state is read against what the base itself makes.
static void expect_start(const char *what, kv_model *base, int64_t prefix, int64_t read,
                         const kv_map_kind *kind, int64_t width, double n_roundings) {
    static const kv_key_norms none;
    kv_predictor *predictor = make_predictor(base, prefix, read, kind, width);
    kv_tape *tape = kv_tape_create();
    kv_tensor *made[KV_SIDES][LAYERS], *own[KV_SIDES][LAYERS];
    kv_pass pass = {.sequences = sequences, .n_sequences = N_SEQ};
    kv_taps taps;
    kv_predictor_read(tape, predictor, base, base, ids, TOKENS, &pass, false, &taps);
    kv_predict(tape, predictor, &none, &taps, made[KV_KEYS], made[KV_VALUES]);
    pass.raw_k = own[KV_KEYS], pass.v = own[KV_VALUES];
    kv_model_forward(tape, base, ids, TOKENS, &pass);
    for (int64_t i = prefix; i < LAYERS; i++)
        for (int side = 0; side < KV_SIDES; side++)
            for (int64_t t = 0; t < TOKENS; t++)
                for (int64_t o = 0; o < made[side][i]->cols; o++) {
                    const float *h = taps.h[read]->data + t * base->spec.model_dim;
                    double size;
                    const double expected = projected(base, side, i, read, h, o, &size);
                    const double n = (double)base->spec.model_dim + n_roundings;
                    const int64_t at = t * made[side][i]->cols + o;
                    expect_float(what, (double)made[side][i]->data[at], expected, n, size);
                    if (i == read)
                        expect_float(what, (double)made[side][i]->data[at], (double)own[side][i]->data[at],
                                     2 * n, size);
                }
    kv_tape_free(tape);
    kv_predictor_free(predictor);
}

static void test_projections(void **state) {
    (void)state;
    for (int bias = 0; bias < 2; bias++)
        for (int narrow = 0; narrow < 2; narrow++) {
            kv_model *base = make_base(bias, narrow ? KV_BF16 : KV_F32);
            for (int64_t prefix = 1; prefix < LAYERS; prefix++)
                for (int64_t read = 0; read <= prefix; read++)
                    expect_start("linear", base, prefix, read, &kv_map_linear, 0, 4);
            kv_model_free(base);
        }
}

// A map of two matrices that is as wide as its output can be all of it, and is, but for the rounding of its factors; a
// hidden layer adds nothing yet.
static void test_other_kinds(void **state) {
    (void)state;
    kv_model *base = make_base(true, KV_F32);
    const int64_t dim = kv_spec_kv_dim(&base->spec, 2);
    expect_start("low rank", base, 2, 2, &kv_map_low_rank, dim, 40);
    expect_start("mlp", base, 1, 1, kv_map_kind_find("mlp"), 3, 5);
    kv_model_free(base);
}

// Of a lower rank it is the nearest to the whole: its directions are singular ones of W, the largest first.
static void test_low_rank_is_nearest(void **state) {
    (void)state;
    enum { RANK = 3 };
    kv_model *base = make_base(false, KV_F32);
    kv_predictor *full = make_predictor(base, 2, 2, &kv_map_linear, 0),
                 *low = make_predictor(base, 2, 2, &kv_map_low_rank, RANK);
    const kv_param *w = test_weight(full, KV_VALUES, 2), *up = test_weight(low, KV_VALUES, 2);
    const int64_t in = w->cols, out = w->rows;
    double before = INFINITY, squares = 0, *x = test_alloc(in, sizeof *x), *y = test_alloc(out, sizeof *y);
    for (int64_t i = 0; i < in * out; i++) squares += wide(w, i) * wide(w, i);
    for (int64_t r = 0; r < RANK; r++) {
        double value = 0;
        for (int64_t c = 0; c < in; c++) {
            x[c] = 0;
            for (int64_t o = 0; o < out; o++) x[c] += wide(w, o * in + c) * wide(up, o * RANK + r);
        }
        for (int64_t o = 0; o < out; o++) {
            y[o] = 0;
            for (int64_t c = 0; c < in; c++) y[o] += wide(w, o * in + c) * x[c];
            value += y[o] * wide(up, o * RANK + r);
        }
        for (int64_t o = 0; o < out; o++)
            expect_float("a singular direction", y[o], value * wide(up, o * RANK + r), 4, squares);
        assert_true(value > 0 && value < before);
        before = value;
    }
    free(x), free(y);
    kv_predictor_free(full);
    kv_predictor_free(low);
    kv_model_free(base);
}

static void refuse(const char *expected, void (*spoil)(kv_predictor_spec *spec)) {
    const kv_model_spec base = tiny_base();
    kv_predictor_spec *spec = test_alloc(1, sizeof *spec);
    kv_error err = {0};
    kv_predictor_spec_prefix(&base, 1, spec);
    assert_int_equal(kv_start_from_base_check(spec, &err), KV_OK);
    spoil(spec);
    assert_int_equal(kv_start_from_base_check(spec, &err), KV_ERR_ARGUMENT);
    if (!strstr(err.message, expected)) fail_msg("expected %s\nfound    %s", expected, err.message);
    free(spec);
}

static void no_prefix(kv_predictor_spec *spec) {
    spec->prefix_layers = 0;
}
static void two_sources(kv_predictor_spec *spec) {
    kv_sources_add(&spec->outputs[KV_VALUES][2].sources, KV_SOURCE_HIDDEN, 0);
}
static void values_read(kv_predictor_spec *spec) {
    spec->outputs[KV_KEYS][1].sources.at[0] = (kv_source){KV_SOURCE_VALUES, 0};
}

static void test_refusals(void **state) {
    (void)state;
    refuse("found an aux of its own, expected the base's own first layers", no_prefix);
    refuse("the values of base layer 2 read h1 and others, expected one hidden state", two_sources);
    refuse("the keys of base layer 1 read v0, expected one hidden state", values_read);
}

static int setup(void **state) {
    (void)state;
    tiny_ids(ids, TOKENS, 61, 4);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_projections),
        cmocka_unit_test(test_other_kinds),
        cmocka_unit_test(test_low_rank_is_nearest),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}

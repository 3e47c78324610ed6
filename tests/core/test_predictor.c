// Which aux layer each base layer reads, the predictors' own parameters, and their closed-form start.
#include "core/predictor/least_squares.h"
#include "tests/support/numbers/numeric.h"
#include "tests/support/numbers/reference.h"
#include "tests/support/predictors/paper.h"
#include "tests/support/support.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// ---- Maps ----------------------------------------------------------------------------------------------

static void expect_map(const int32_t *map, const int32_t *expected, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        if (map[i] != expected[i])
            fail_msg("base layer %lld reads %d, expected %d", (long long)i, (int)map[i], (int)expected[i]);
}

static void test_separate_maps(void **state) {
    (void)state;
    int32_t map[KV_MAX_LAYERS];
    kv_mapping_separate(28, 20, map); // 1.1B from 450M
    const int32_t from_450m[28] = {0, 0, 1, 1, 2,  2,  3,  3,  4,  4,  5,  5,  6,  6,
                                   7, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19};
    expect_map(map, from_450m, 28);
    kv_mapping_separate(28, 16, map); // 1.1B from 270M
    for (int i = 0; i < 28; i++) assert_int_equal(map[i], i < 24 ? i / 2 : 12 + (i - 24));
    kv_mapping_separate(7, 3, map); // q = 2, r = 1
    expect_map(map, (int32_t[]){0, 0, 0, 1, 1, 2, 2}, 7);
    kv_mapping_separate(4, 4, map);
    expect_map(map, (int32_t[]){0, 1, 2, 3}, 4);
    kv_mapping_separate(3, 1, map);
    expect_map(map, (int32_t[]){0, 0, 0}, 3);
    // For every pair: rises by at most one, starts at 0, ends at the last aux layer.
    for (int64_t n_base = 1; n_base <= 40; n_base++)
        for (int64_t n_aux = 1; n_aux <= n_base; n_aux++) {
            kv_mapping_separate(n_base, n_aux, map);
            assert_int_equal(map[0], 0);
            assert_int_equal(map[n_base - 1], n_aux - 1);
            for (int64_t i = 1; i < n_base; i++) assert_in_range(map[i] - map[i - 1], 0, 1);
        }
}

static void test_pruned_maps(void **state) {
    (void)state;
    int32_t map[KV_MAX_LAYERS];
    kv_mapping_pruned(6, (int32_t[]){0, 2, 4}, 3, map);
    expect_map(map, (int32_t[]){0, 0, 1, 1, 2, 2}, 6);
    kv_mapping_pruned(9, (int32_t[]){0, 1, 2, 4, 5, 6, 8}, 7, map);
    expect_map(map, (int32_t[]){0, 1, 2, 2, 3, 4, 5, 5, 6}, 9);
    kv_mapping_pruned(9, (int32_t[]){0, 4, 8}, 3, map);
    expect_map(map, (int32_t[]){0, 0, 0, 0, 1, 1, 1, 1, 2}, 9);
}

static void test_uniform_maps(void **state) {
    (void)state;
    int32_t map[KV_MAX_LAYERS], paper[KV_MAX_LAYERS];
    kv_mapping_uniform(28, 20, map); // the paper's rule has 0 0 1 1 2 2 3 3 … 7 7 8 9 10 …
    const int32_t from_450m[28] = {0,  0,  1,  2,  2,  3,  4,  5,  5,  6,  7,  7,  8,  9,
                                   10, 10, 11, 12, 12, 13, 14, 15, 15, 16, 17, 17, 18, 19};
    expect_map(map, from_450m, 28);
    kv_mapping_uniform(3, 5, map); // layers may be left out
    expect_map(map, (int32_t[]){0, 1, 3}, 3);
    // Where one divides the other it is the paper's rule.
    for (int64_t n_aux = 1; n_aux <= 8; n_aux++)
        for (int64_t times = 1; times <= 4; times++) {
            kv_mapping_uniform(n_aux * times, n_aux, map);
            kv_mapping_separate(n_aux * times, n_aux, paper);
            expect_map(map, paper, n_aux * times);
        }
}

static void test_reversed_maps(void **state) {
    (void)state;
    int32_t map[KV_MAX_LAYERS];
    kv_mapping_separate(7, 3, map);
    kv_mapping_reverse(7, 3, map);
    expect_map(map, (int32_t[]){2, 2, 2, 1, 1, 0, 0}, 7);
    kv_mapping_pruned(6, (int32_t[]){0, 1, 2, 4, 5}, 5, map);
    kv_mapping_reverse(6, 5, map);
    expect_map(map, (int32_t[]){4, 3, 2, 2, 1, 0}, 6);
}

static void test_explicit_maps_are_checked(void **state) {
    (void)state;
    kv_error err = {0};
    assert_int_equal(kv_mapping_check((int32_t[]){2, 0, 0, 1}, 4, 4, 3, &err), KV_OK);
    assert_int_equal(kv_mapping_check((int32_t[]){0, 0, 3, 1}, 4, 4, 3, &err), KV_ERR_ARGUMENT);
    assert_non_null(strstr(err.message, "2")); // the entry
    assert_non_null(strstr(err.message, "3")); // what it is
    assert_int_equal(kv_mapping_check((int32_t[]){0, -7, 0, 1}, 4, 4, 3, &err), KV_ERR_ARGUMENT);
    assert_non_null(strstr(err.message, "-7"));
    assert_int_equal(kv_mapping_check((int32_t[]){0, 0, 1}, 3, 4, 3, &err), KV_ERR_ARGUMENT);
    assert_non_null(strstr(err.message, "3"));
    assert_non_null(strstr(err.message, "4"));
    assert_int_equal(kv_mapping_check((int32_t[]){0, 0, 1, 1, 1}, 5, 4, 3, &err), KV_ERR_ARGUMENT);
    assert_int_equal(kv_mapping_check(NULL, 0, 4, 3, &err), KV_ERR_ARGUMENT);
    assert_int_equal(kv_mapping_check((int32_t[]){5}, 1, 1, 3, NULL), KV_ERR_ARGUMENT);
}

// ---- Parameters ----------------------------------------------------------------------------------------

static kv_model_spec spec_of(int64_t head_dim, int64_t n_layers, const int64_t *kv_heads, bool qk_norm) {
    kv_model_spec spec = {.vocab_size = 11,
                          .model_dim = 8,
                          .head_dim = head_dim,
                          .n_layers = n_layers,
                          .context_length = 16,
                          .qk_norm = qk_norm,
                          .tied_head = true,
                          .norm_eps = 1e-6f,
                          .rope = {.theta = 10000}};
    for (int64_t i = 0; i < n_layers; i++)
        spec.layers[i] = (kv_layer_spec){.n_heads = kv_heads[i] * 2, .n_kv_heads = kv_heads[i], .ffn_dim = 8};
    return spec;
}

static const int32_t map_of_three[3] = {1, 0, 1};

// Base layers of 1, 2 and 1 KV heads of 4; aux layers of 1 and 3 KV heads of 2.
static kv_predictor *predictor_of_three(kv_model_spec *base, kv_model_spec *aux) {
    *base = spec_of(4, 3, (int64_t[]){1, 2, 1}, true);
    *aux = spec_of(2, 2, (int64_t[]){1, 3}, true);
    kv_predictor *predictor;
    kv_error err = {0};
    if (test_create(base, aux, map_of_three, (test_kind){0}, &predictor, &err) != KV_OK)
        fail_msg("%s", err.message);
    return predictor;
}

// The pruned map for what has the shape of a pruned base, the other one for all else.
static void test_default_maps(void **state) {
    (void)state;
    kv_model_spec base = spec_of(4, 8, (int64_t[]){1, 2, 3, 4, 5, 6, 7, 8}, true), aux = base;
    int32_t kept[KV_MAX_LAYERS], map[KV_MAX_LAYERS], expected[KV_MAX_LAYERS];
    static const double fractions[] = {0.75, 0.5, 0.25};
    for (int f = 0; f < 3; f++) {
        const int64_t n = kv_pruned_layers(8, fractions[f], kept);
        aux = base;
        kv_spec_prune(&aux, kept, n);
        kv_mapping_pruned(8, kept, n, expected);
        kv_mapping_default(&base, &aux, map);
        expect_map(map, expected, 8);
    }
    expect_map(map, (int32_t[]){0, 0, 0, 0, 1, 1, 1, 1}, 8);
    // Layers 0, 1, 2, 4, 5, 6 again, but not quite.
    const int64_t n = kv_pruned_layers(8, 0.75, kept);
    for (int change = 0; change < 5; change++) {
        aux = base;
        kv_spec_prune(&aux, kept, n);
        if (change == 0) aux.layers[5].ffn_dim++;
        if (change == 1) aux.layers[0].n_heads++;
        if (change == 2) aux.layers[2].n_kv_heads++;
        if (change == 3) aux.head_dim += 2;
        if (change == 4) aux.model_dim++;
        kv_mapping_default(&base, &aux, map);
        expect_map(map, (int32_t[]){0, 0, 1, 1, 2, 3, 4, 5}, 8);
    }
    kv_mapping_default(&base, &base, map);
    expect_map(map, (int32_t[]){0, 1, 2, 3, 4, 5, 6, 7}, 8);
}

static void test_predictor_parameters(void **state) {
    (void)state;
    kv_model_spec base, aux;
    kv_error err = {0};
    kv_predictor *predictor = predictor_of_three(&base, &aux);
    kv_param *params[12];
    assert_int_equal(kv_predictor_params(predictor, NULL), 12);
    kv_predictor_params(predictor, params);
    const int64_t in[3] = {6, 2, 6}, out[3] = {4, 8, 4};
    int64_t size = 0;
    for (int i = 0; i < 3; i++) {
        kv_param *own[4] = {test_weight(predictor, KV_KEYS, i), test_bias(predictor, KV_KEYS, i),
                            test_weight(predictor, KV_VALUES, i), test_bias(predictor, KV_VALUES, i)};
        const char *const kinds[4] = {"key", "key", "value", "value"};
        for (int j = 0; j < 4; j++) {
            char name[32];
            snprintf(name, sizeof name, "%s.%d.%s", kinds[j], i, j % 2 ? "bias" : "weight");
            assert_ptr_equal(params[4 * i + j], own[j]);
            assert_string_equal(own[j]->name, name);
            assert_int_equal(own[j]->rows, j % 2 ? 1 : out[i]);
            assert_int_equal(own[j]->cols, j % 2 ? out[i] : in[i]);
            assert_int_equal(own[j]->decay, j % 2 == 0);
            size += kv_param_size(own[j]);
        }
    }
    assert_int_equal(kv_predictor_size(predictor), size);
    kv_predictor_init(predictor, NULL, 4, NULL);
    for (int i = 0; i < 4; i++) assert_true(((float *)test_bias(predictor, KV_KEYS, 0)->data)[i] == 0);
    assert_memory_not_equal(test_weight(predictor, KV_KEYS, 0)->data,
                            test_weight(predictor, KV_VALUES, 0)->data, 16);
    for (int round = 0; round < 2; round++) {
        assert_int_equal(kv_predictor_set_trainable(predictor, true, &err), KV_OK);
        for (int i = 0; i < 12; i++) assert_non_null(params[i]->grad);
        assert_int_equal(kv_predictor_set_trainable(predictor, false, &err), KV_OK);
        for (int i = 0; i < 12; i++) assert_null(params[i]->grad);
    }
    kv_predictor_free(predictor);
    kv_predictor_free(NULL);
    assert_int_equal(test_create(&base, &aux, (int32_t[]){0, 2, 1}, (test_kind){0}, &predictor, &err),
                     KV_ERR_ARGUMENT);
    assert_null(predictor);
}

// ---- Least squares -------------------------------------------------------------------------------------

enum { SAMPLES = 60 };

// One base layer of 4 features that reads an aux layer of 6.
typedef struct regression {
    kv_model_spec base, aux;
    kv_predictor *predictor;
    kv_tape *tape;
    kv_tensor *x, *y, *other_x, *other_y; // keys and values
} regression;

static regression regression_make(void) {
    regression r = {.base = spec_of(4, 1, (int64_t[]){1}, true), .aux = spec_of(2, 1, (int64_t[]){3}, false)};
    kv_error err = {0};
    if (test_create(&r.base, &r.aux, (int32_t[]){0}, (test_kind){0}, &r.predictor, &err) != KV_OK)
        fail_msg("%s", err.message);
    r.tape = kv_tape_create();
    kv_tensor **all[4] = {&r.x, &r.y, &r.other_x, &r.other_y};
    for (int i = 0; i < 4; i++) {
        *all[i] = kv_tape_tensor(r.tape, SAMPLES, i % 2 ? 4 : 6);
        test_fill((*all[i])->data, SAMPLES * (*all[i])->cols, 10 + (uint64_t)i, 1);
    }
    return r;
}

static void regression_free(regression *r) {
    kv_predictor_free(r->predictor);
    kv_tape_free(r->tape);
}

// Rows [from, from + n) of a tensor as a tensor.
static kv_tensor *rows_of(kv_tape *tape, kv_tensor *x, int64_t from, int64_t n) {
    return kv_tape_view(tape, x->data + from * x->cols, n, x->cols);
}

// Adds the samples in batches of at most `batch`, solves.
static kv_status solve(regression *r, int64_t n, int64_t batch, const uint8_t *keep, double ridge,
                       double *k_r2, double *v_r2, kv_error *err) {
    kv_least_squares *ls;
    if (kv_least_squares_create(r->predictor, &ls, err) != KV_OK) fail_msg("%s", err->message);
    for (int64_t from = 0; from < n; from += batch) {
        const int64_t rows = from + batch < n ? batch : n - from;
        kv_tensor *x = rows_of(r->tape, r->x, from, rows), *y = rows_of(r->tape, r->y, from, rows);
        kv_tensor *other_x = rows_of(r->tape, r->other_x, from, rows);
        kv_tensor *other_y = rows_of(r->tape, r->other_y, from, rows);
        const kv_taps taps = test_taps(r->predictor, &x, &other_x);
        const kv_status status =
            kv_least_squares_add(ls, r->tape, &taps, &y, &other_y, keep ? keep + from : NULL, err);
        if (status != KV_OK) fail_msg("%s", err->message);
    }
    const kv_status status = kv_least_squares_solve(ls, ridge, r->predictor, k_r2, v_r2, err);
    kv_least_squares_free(ls);
    return status;
}

// Gauss-Jordan with pivoting on A[n, n + m]; the solution ends up in the last m columns.
static void eliminate(double *a, int n, int m) {
    const int width = n + m;
    for (int c = 0; c < n; c++) {
        int pivot = c;
        for (int i = c + 1; i < n; i++)
            if (fabs(a[i * width + c]) > fabs(a[pivot * width + c])) pivot = i;
        for (int j = 0; j < width; j++) {
            const double kept = a[c * width + j];
            a[c * width + j] = a[pivot * width + j];
            a[pivot * width + j] = kept;
        }
        for (int i = 0; i < n; i++) {
            const double factor = i == c ? 0 : a[i * width + c] / a[c * width + c];
            for (int j = c; j < width; j++) a[i * width + j] -= factor * a[c * width + j];
        }
        for (int j = width - 1; j >= c; j--) a[c * width + j] /= a[c * width + c];
    }
}

// argmin Σ |W x + b - y|² + ridge · mean(diag XᵀX) · |W|² over the kept rows (NULL: all), and its explained
// variance.
static double solve_directly(const kv_tensor *x, const kv_tensor *y, const uint8_t *keep, double ridge,
                             double *w, double *bias) {
    enum { IN = 6, OUT = 4, N = IN + 1, WIDTH = N + OUT };
    double a[N * WIDTH] = {0}, mean[OUT] = {0}, diagonal = 0, residual = 0, total = 0, n = 0;
    for (int t = 0; t < SAMPLES; t++) {
        if (keep && !keep[t]) continue;
        double row[WIDTH];
        for (int i = 0; i < WIDTH; i++)
            row[i] = i < IN ? (double)x->data[t * IN + i] : i == IN ? 1 : (double)y->data[t * OUT + i - N];
        for (int i = 0; i < N; i++)
            for (int j = 0; j < WIDTH; j++) a[i * WIDTH + j] += row[i] * row[j];
        for (int o = 0; o < OUT; o++) mean[o] += row[N + o];
        n++;
    }
    for (int i = 0; i < IN; i++) diagonal += a[i * WIDTH + i] / IN;
    for (int i = 0; i < IN; i++) a[i * WIDTH + i] += ridge * diagonal;
    eliminate(a, N, OUT);
    for (int o = 0; o < OUT; o++) {
        for (int i = 0; i < IN; i++) w[o * IN + i] = a[i * WIDTH + N + o];
        bias[o] = a[IN * WIDTH + N + o];
    }
    for (int t = 0; t < SAMPLES; t++)
        for (int o = 0; (!keep || keep[t]) && o < OUT; o++) {
            const double target = (double)y->data[t * OUT + o];
            double error = bias[o] - target;
            for (int i = 0; i < IN; i++) error += w[o * IN + i] * (double)x->data[t * IN + i];
            residual += error * error;
            total += (target - mean[o] / n) * (target - mean[o] / n);
        }
    return 1 - residual / total;
}

// The map from x to y [weights, biases, explained variance], and how far float32 x and y may be from giving
// it: the sums are in double precision, but what goes in and what comes out is not.
typedef struct direct {
    const kv_tensor *x, *y;
    const uint8_t *keep;
    double ridge;
    rounding_spread spread;
} direct;

enum { MAP_BIAS = 24, MAP_R2 = MAP_BIAS + 4, MAP_RESULTS };

static void direct_results(const void *context, double *results) {
    const direct *d = context;
    results[MAP_R2] = solve_directly(d->x, d->y, d->keep, d->ridge, results, results + MAP_BIAS);
}

static direct direct_of(const kv_tensor *x, const kv_tensor *y, const uint8_t *keep, double ridge) {
    direct d = {.x = x, .y = y, .keep = keep, .ridge = ridge};
    rounding_operands operands = {0};
    rounding_add_floats(&operands, x->data, x->rows * x->cols);
    rounding_add_floats(&operands, y->data, y->rows * y->cols);
    d.spread = rounding_measure(&operands, 0, direct_results, &d, MAP_RESULTS);
    rounding_operands_free(&operands);
    return d;
}

// Against the direct solution, and against a map [4, 6] that is known to be behind the data (NULL: none).
static void expect_map_of(const direct *d, const float *w, const float *bias, const double *known_w,
                          const double *known_bias, const double *r2) {
    rounding_compare("weights of the map", w, &d->spread, 0, MAP_BIAS);
    rounding_compare("biases of the map", bias, &d->spread, MAP_BIAS, 4);
    rounding_compare_one("explained variance", *r2, &d->spread, MAP_R2);
    for (int i = 0; known_w && i < MAP_R2; i++)
        rounding_expect("known map", i < MAP_BIAS ? (double)w[i] : (double)bias[i - MAP_BIAS],
                        i < MAP_BIAS ? known_w[i] : known_bias[i - MAP_BIAS], d->spread.allowed[i]);
}

static void test_least_squares_recovers_a_linear_map(void **state) {
    (void)state;
    regression r = regression_make();
    double w[2][4 * 6], bias[2][4];
    for (int kind = 0; kind < 2; kind++) {
        for (int i = 0; i < 24; i++) w[kind][i] = test_value(40 + (uint64_t)kind, i);
        for (int i = 0; i < 4; i++) bias[kind][i] = 3 * test_value(50 + (uint64_t)kind, i);
        double *x = numeric_doubles((kind ? r.other_x : r.x)->data, SAMPLES * 6), y[SAMPLES * 4];
        ref_linear(SAMPLES, 4, 6, x, w[kind], bias[kind], y);
        for (int i = 0; i < SAMPLES * 4; i++) (kind ? r.other_y : r.y)->data[i] = (float)y[i];
        free(x);
    }
    kv_error err = {0};
    double k_r2, v_r2;
    direct key = direct_of(r.x, r.y, NULL, 0), value = direct_of(r.other_x, r.other_y, NULL, 0);
    for (int64_t batch = 7; batch <= SAMPLES; batch += 53) {
        kv_predictor_init(r.predictor, NULL, 1, NULL);
        if (solve(&r, SAMPLES, batch, NULL, 0, &k_r2, &v_r2, &err) != KV_OK) fail_msg("%s", err.message);
        expect_map_of(&key, test_weight(r.predictor, KV_KEYS, 0)->data,
                      test_bias(r.predictor, KV_KEYS, 0)->data, w[0], bias[0], &k_r2);
        expect_map_of(&value, test_weight(r.predictor, KV_VALUES, 0)->data,
                      test_bias(r.predictor, KV_VALUES, 0)->data, w[1], bias[1], &v_r2);
    }
    rounding_spread_free(&key.spread);
    rounding_spread_free(&value.spread);
    regression_free(&r);
}

static void test_least_squares_matches_a_direct_solution(void **state) {
    (void)state;
    const double ridges[] = {0, 1e-3, 0.5};
    kv_error err = {0};
    uint8_t keep[SAMPLES];
    for (int i = 0; i < SAMPLES; i++) keep[i] = i % 4 != 1;
    regression r = regression_make();
    for (int i = 0; i < SAMPLES * 6; i++) r.x->data[i] += 2 + (float)(i % 6); // far from centred
    for (int i = 0; i < SAMPLES * 4; i++) r.y->data[i] -= 5;
    for (int i = 0; i < 6; i++) r.x->data[1 * 6 + i] = NAN; // a row that is left out
    for (int k = 0; k < 3; k++) {
        double k_r2, v_r2;
        if (solve(&r, SAMPLES, 17, keep, ridges[k], &k_r2, &v_r2, &err) != KV_OK) fail_msg("%s", err.message);
        direct key = direct_of(r.x, r.y, keep, ridges[k]),
               value = direct_of(r.other_x, r.other_y, keep, ridges[k]);
        expect_map_of(&key, test_weight(r.predictor, KV_KEYS, 0)->data,
                      test_bias(r.predictor, KV_KEYS, 0)->data, NULL, NULL, &k_r2);
        expect_map_of(&value, test_weight(r.predictor, KV_VALUES, 0)->data,
                      test_bias(r.predictor, KV_VALUES, 0)->data, NULL, NULL, &v_r2);
        rounding_spread_free(&key.spread);
        rounding_spread_free(&value.spread);
    }
    assert_int_equal(solve(&r, SAMPLES, SAMPLES, keep, 1e-3, NULL, NULL, &err), KV_OK);
    regression_free(&r);
}

static void test_least_squares_refuses_too_few_tokens(void **state) {
    (void)state;
    regression r = regression_make();
    kv_error err = {0};
    double k_r2, v_r2;
    assert_int_not_equal(solve(&r, 5, 5, NULL, 0, &k_r2, &v_r2, &err), KV_OK);
    assert_true(strlen(err.message) > 10);
    assert_int_equal(solve(&r, 5, 5, NULL, 1e-3, &k_r2, &v_r2, &err), KV_OK); // the ridge makes it solvable
    for (int i = 0; i < 24; i++)
        assert_true(isfinite(((float *)test_weight(r.predictor, KV_KEYS, 0)->data)[i]));
    regression_free(&r);
}

// Three base layers on two aux layers, keys and values.
typedef struct several {
    kv_model_spec base, aux;
    kv_predictor *predictor;
    kv_tensor *x[2][2], *y[2][3]; // [keys, values][layer]
    double w[2][3][64], bias[2][3][8];
    kv_tape *tape;
} several;

static const int64_t several_in[2] = {2, 6}, several_out[3] = {4, 8, 4};

static int64_t several_size(int layer) {
    return several_out[layer] * several_in[map_of_three[layer]];
}

static void several_make(several *s, kv_tape *tape) {
    s->tape = tape;
    s->predictor = predictor_of_three(&s->base, &s->aux);
    for (int kind = 0; kind < 2; kind++) {
        for (int j = 0; j < 2; j++) {
            s->x[kind][j] = kv_tape_tensor(tape, SAMPLES, several_in[j]);
            test_fill(s->x[kind][j]->data, SAMPLES * several_in[j], 60 + (uint64_t)(2 * kind + j), 1);
        }
        for (int i = 0; i < 3; i++) {
            const int64_t from = map_of_three[i], out = several_out[i];
            for (int64_t e = 0; e < several_size(i); e++)
                s->w[kind][i][e] = test_value(70 + (uint64_t)(3 * kind + i), e);
            for (int64_t e = 0; e < out; e++)
                s->bias[kind][i][e] = test_value(80 + (uint64_t)(3 * kind + i), e);
            double *wide = numeric_doubles(s->x[kind][from]->data, SAMPLES * several_in[from]),
                   result[SAMPLES * 8];
            ref_linear(SAMPLES, out, several_in[from], wide, s->w[kind][i], s->bias[kind][i], result);
            s->y[kind][i] = kv_tape_tensor(tape, SAMPLES, out);
            for (int64_t e = 0; e < SAMPLES * out; e++) s->y[kind][i]->data[e] = (float)result[e];
            free(wide);
        }
    }
}

// Weights, biases and explained variance of every map, keys and values in turn.
static void several_results(const void *context, double *results) {
    const several *s = context;
    kv_least_squares *ls;
    kv_error err = {0};
    double r2[2][3];
    const kv_taps taps = test_taps(s->predictor, s->x[0], s->x[1]);
    assert_int_equal(kv_least_squares_create(s->predictor, &ls, &err), KV_OK);
    assert_int_equal(kv_least_squares_add(ls, s->tape, &taps, s->y[0], s->y[1], NULL, &err), KV_OK);
    if (kv_least_squares_solve(ls, 0, s->predictor, r2[0], r2[1], &err) != KV_OK) fail_msg("%s", err.message);
    kv_least_squares_free(ls);
    for (int i = 0; i < 3; i++)
        for (int kind = 0; kind < 2; kind++) {
            const kv_param *w =
                kind ? test_weight(s->predictor, KV_VALUES, i) : test_weight(s->predictor, KV_KEYS, i);
            const kv_param *b =
                kind ? test_bias(s->predictor, KV_VALUES, i) : test_bias(s->predictor, KV_KEYS, i);
            for (int64_t e = 0; e < several_size(i); e++) *results++ = (double)((float *)w->data)[e];
            for (int64_t e = 0; e < several_out[i]; e++) *results++ = (double)((float *)b->data)[e];
            *results++ = r2[kind][i];
        }
}

// Several layers that read one aux layer each get their own map, and 16-bit rounding plays no part.
static void test_least_squares_of_several_layers(void **state) {
    (void)state;
    static several s;
    kv_tape *tape = kv_tape_create();
    several_make(&s, tape);
    rounding_operands operands = {0};
    int64_t n = 0, at = 0;
    for (int kind = 0; kind < 2; kind++) {
        for (int j = 0; j < 2; j++)
            rounding_add_floats(&operands, s.x[kind][j]->data, SAMPLES * several_in[j]);
        for (int i = 0; i < 3; i++) {
            rounding_add_floats(&operands, s.y[kind][i]->data, SAMPLES * several_out[i]);
            n += several_size(i) + several_out[i] + 1;
        }
    }
    rounding_spread found = rounding_measure(&operands, 0, several_results, &s, n);
    for (int i = 0; i < 3; i++)
        for (int kind = 0; kind < 2; kind++) {
            for (int64_t e = 0; e < several_size(i); e++, at++)
                rounding_compare_one("weight", s.w[kind][i][e], &found, at);
            for (int64_t e = 0; e < several_out[i]; e++, at++)
                rounding_compare_one("bias", s.bias[kind][i][e], &found, at);
            rounding_compare_one("explained variance", 1, &found, at++);
        }
    kv_least_squares_free(NULL);
    rounding_operands_free(&operands);
    rounding_spread_free(&found);
    kv_tape_free(tape);
    kv_predictor_free(s.predictor);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_separate_maps),
        cmocka_unit_test(test_pruned_maps),
        cmocka_unit_test(test_uniform_maps),
        cmocka_unit_test(test_reversed_maps),
        cmocka_unit_test(test_default_maps),
        cmocka_unit_test(test_explicit_maps_are_checked),
        cmocka_unit_test(test_predictor_parameters),
        cmocka_unit_test(test_least_squares_recovers_a_linear_map),
        cmocka_unit_test(test_least_squares_matches_a_direct_solution),
        cmocka_unit_test(test_least_squares_refuses_too_few_tokens),
        cmocka_unit_test(test_least_squares_of_several_layers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

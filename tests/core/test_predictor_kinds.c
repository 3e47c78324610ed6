// Predictors of low rank and from two neighbouring aux layers: what they are made of, which ones are refused,
// and their least-squares start, which must be the best map of its rank.
#include "core/predictor/least_squares.h"
#include "tests/support/numbers/numeric.h"
#include "tests/support/predictors/paper.h"
#include "tests/support/support.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { N_AUX = 3, SAMPLES = 70, ROUNDS = 400 };

// Aux layers of 8, 4 and 6 features; base layers of 6 and 10.
static const int64_t aux_dims[N_AUX] = {8, 4, 6}, base_dims[2] = {6, 10};

static kv_model_spec spec_of(int64_t n_layers, const int64_t *kv_dims) {
    kv_model_spec spec = {.vocab_size = 11,
                          .model_dim = 8,
                          .head_dim = 2,
                          .n_layers = n_layers,
                          .context_length = 16,
                          .tied_head = true,
                          .norm_eps = 1e-6f,
                          .rope = {.theta = 10000}};
    for (int64_t i = 0; i < n_layers; i++)
        spec.layers[i] =
            (kv_layer_spec){.n_heads = kv_dims[i] / 2, .n_kv_heads = kv_dims[i] / 2, .ffn_dim = 8};
    return spec;
}

static kv_predictor *make(const int32_t *mapping, test_kind kind) {
    const kv_model_spec base = spec_of(2, base_dims), aux = spec_of(N_AUX, aux_dims);
    kv_predictor *predictor;
    kv_error err = {0};
    if (test_create(&base, &aux, mapping, kind, &predictor, &err) != KV_OK) fail_msg("%s", err.message);
    return predictor;
}

// ---- Shapes --------------------------------------------------------------------------------------------

static kv_predictor *shape_of(const int32_t *mapping, int64_t aux_layers) {
    const kv_model_spec base = spec_of(2, base_dims), aux = spec_of(N_AUX, aux_dims);
    return test_plan(&base, &aux, mapping, (test_kind){0, aux_layers});
}

static void test_which_layers_are_read(void **state) {
    (void)state;
    int32_t inputs[KV_MAX_LAYERS];
    kv_predictor *shape = shape_of((int32_t[]){0, 1}, 1);
    assert_int_equal(test_layers_read(shape, 1, inputs), 1);
    assert_int_equal(inputs[0], 1);
    assert_int_equal(shape->outputs[KV_KEYS][1].map.shape.input_dim, 4);
    assert_int_equal(test_depth(shape), 2); // the third is read by none
    kv_predictor_free(shape);
    shape = shape_of((int32_t[]){0, 2}, 2);
    assert_int_equal(test_layers_read(shape, 0, inputs), 2);
    assert_true(inputs[0] == 0 && inputs[1] == 1);
    assert_int_equal(shape->outputs[KV_VALUES][0].map.shape.input_dim, 12);
    assert_int_equal(test_depth(shape), 3);
    assert_int_equal(test_layers_read(shape, 1, inputs), 2); // nothing above: the one below, behind it
    assert_true(inputs[0] == 2 && inputs[1] == 1);
    kv_predictor_free(shape);
    shape = shape_of((int32_t[]){0, 0}, 2);
    assert_int_equal(test_depth(shape), 2);
    assert_int_equal(shape->n_inputs, 2); // what both layers read is put together once, for keys and values
    kv_predictor_free(shape);
    shape = shape_of((int32_t[]){1, 1}, 3);
    assert_int_equal(test_layers_read(shape, 0, inputs), 3);
    assert_true(inputs[0] == 1 && inputs[1] == 2 && inputs[2] == 0);
    kv_predictor_free(shape);
}

static void test_parameters(void **state) {
    (void)state;
    static const struct {
        test_kind kind;
        int64_t n, in;
    } cases[] = {{{0, 1}, 4, 6}, {{0, 2}, 4, 10}, {{3, 1}, 6, 6}, {{3, 2}, 6, 10}};
    const kv_model_spec base = spec_of(2, base_dims), aux = spec_of(N_AUX, aux_dims);
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        const int64_t rank = cases[c].kind.rank, in = cases[c].in;
        kv_predictor *p = make((int32_t[]){1, 2}, cases[c].kind);
        kv_param *params[16];
        assert_int_equal(kv_predictor_params(p, params), 2 * cases[c].n);
        kv_param **last = params + cases[c].n; // of the second base layer: 10 features
        if (rank > 0) {
            assert_string_equal(last[0]->name, "key.1.down.weight");
            assert_string_equal(last[1]->name, "key.1.up.weight");
            assert_string_equal(last[2]->name, "key.1.bias");
            assert_string_equal(last[3]->name, "value.1.down.weight");
            assert_ptr_equal(last[3], test_down(p, KV_VALUES, 1));
            assert_true(last[0]->rows == rank && last[0]->cols == in && last[0]->decay);
            assert_true(last[1]->rows == 10 && last[1]->cols == rank && last[1]->decay);
            assert_false(last[2]->decay);
        } else {
            assert_string_equal(last[2]->name, "value.1.weight");
            assert_true(last[2]->rows == 10 && last[2]->cols == in && last[2]->decay);
            assert_null(test_down(p, KV_KEYS, 1));
        }
        const int64_t size = kv_predictor_size(p);
        kv_predictor *shape = test_plan(&base, &aux, (int32_t[]){1, 2}, cases[c].kind);
        assert_int_equal(kv_predictor_size(shape), size);
        kv_predictor_free(shape);
        int64_t sum = 0;
        for (int64_t i = 0; i < 2 * cases[c].n; i++) sum += kv_param_size(params[i]);
        assert_int_equal(sum, size);
        // Gradients lie side by side and are as many.
        kv_error err = {0};
        assert_int_equal(kv_predictor_set_trainable(p, true, &err), KV_OK);
        for (int64_t i = 0, at = 0; i < 2 * cases[c].n; at += kv_param_size(params[i++]))
            assert_ptr_equal(params[i]->grad, p->grads + at);
        kv_predictor_free(p);
    }
}

// Outputs of a random start are about as large whatever the kind: for inputs of variance 1, of variance 1.
static void test_random_start(void **state) {
    (void)state;
    enum { WIDE = 200 };
    const kv_model_spec base = spec_of(1, (int64_t[]){WIDE}), aux = spec_of(2, (int64_t[]){WIDE, WIDE});
    static const test_kind kinds[] = {{0, 1}, {0, 2}, {60, 1}, {60, 2}};
    for (int c = 0; c < 4; c++) {
        kv_predictor *p;
        kv_error err = {0};
        assert_int_equal(test_create(&base, &aux, (int32_t[]){0}, kinds[c], &p, &err), KV_OK);
        kv_predictor_init(p, NULL, 3, NULL);
        kv_tape *tape = kv_tape_create();
        kv_tensor *x[2] = {kv_tape_tensor(tape, 20, WIDE), kv_tape_tensor(tape, 20, WIDE)}, *k, *v;
        for (int j = 0; j < 2; j++) test_fill(x[j]->data, 20 * WIDE, 5 + (uint64_t)j, sqrt(3));
        const kv_taps taps = test_taps(p, x, x);
        kv_predict(tape, p, &(kv_key_norms){0}, &taps, &k, &v);
        double square = 0;
        for (int i = 0; i < 20 * WIDE; i++) square += (double)(k->data[i] * k->data[i]) / (20 * WIDE);
        if (!(square > 0.7 && square < 1.4)) fail_msg("kind %d: variance %g", c, square);
        for (int i = 0; i < WIDE; i++) assert_true(((float *)test_bias(p, KV_KEYS, 0)->data)[i] == 0);
        kv_tape_free(tape);
        kv_predictor_free(p);
    }
}

static void expect_refused(const kv_model_spec *aux, test_kind kind, const char *message) {
    const kv_model_spec base = spec_of(2, base_dims);
    const int32_t mapping[2] = {0, aux->n_layers > 1 ? 1 : 0};
    kv_predictor *predictor;
    kv_error err = {0};
    assert_int_equal(test_create(&base, aux, mapping, kind, &predictor, &err), KV_ERR_ARGUMENT);
    assert_null(predictor);
    if (!strstr(err.message, message)) fail_msg("expected %s\nfound    %s", message, err.message);
}

static void test_refused_kinds(void **state) {
    (void)state;
    const kv_model_spec aux = spec_of(N_AUX, aux_dims);
    expect_refused(&aux, (test_kind){5, 1},
                   "the keys of base layer 1: rank 5, expected 1 to 4: the map makes 10 features of 4");
    expect_refused(&aux, (test_kind){7, 2},
                   "the keys of base layer 0: rank 7, expected 1 to 6: the map makes");
    expect_refused(&aux, (test_kind){-1, 1}, "rank -1");
    kv_predictor_free(make((int32_t[]){0, 1}, (test_kind){4, 1})); // as much as there can be
    kv_predictor_free(make((int32_t[]){0, 1}, (test_kind){6, 2}));
}

// ---- Least squares -------------------------------------------------------------------------------------

// Keys and values of all layers. y is noisy and far from centred, as is x.
struct samples {
    kv_tape *tape;
    kv_tensor *aux[2][N_AUX], *base[2][2];
};

static struct samples samples_make(void) {
    struct samples s = {.tape = kv_tape_create()};
    for (int kind = 0; kind < 2; kind++) {
        for (int j = 0; j < N_AUX; j++) {
            kv_tensor *x = s.aux[kind][j] = kv_tape_tensor(s.tape, SAMPLES, aux_dims[j]);
            test_fill(x->data, SAMPLES * x->cols, 10 + (uint64_t)(3 * kind + j), 1);
            for (int64_t i = 0; i < SAMPLES * x->cols; i++) x->data[i] += 2 - (float)(i % x->cols);
        }
        for (int i = 0; i < 2; i++) {
            kv_tensor *y = s.base[kind][i] = kv_tape_tensor(s.tape, SAMPLES, base_dims[i]);
            test_fill(y->data, SAMPLES * y->cols, 20 + (uint64_t)(2 * kind + i), 0.5);
            for (int64_t t = 0; t < SAMPLES; t++)
                for (int64_t o = 0; o < y->cols; o++) {
                    float *at = y->data + t * y->cols + o;
                    *at += 3 + (float)o; // and something of every aux layer
                    for (int j = 0; j < N_AUX; j++)
                        for (int64_t c = 0; c < aux_dims[j]; c++)
                            *at += (float)test_value(30 + (uint64_t)(6 * kind + 3 * i + j), o * 8 + c) *
                                   s.aux[kind][j]->data[t * aux_dims[j] + c];
                }
        }
    }
    return s;
}

static void solve(const struct samples *s, double ridge, kv_predictor *p, double r2[2][2]) {
    kv_least_squares *ls;
    kv_error err = {0};
    if (kv_least_squares_create(p, &ls, &err) != KV_OK) fail_msg("%s", err.message);
    for (int64_t from = 0; from < SAMPLES; from += 32) {
        kv_tensor *x[2][N_AUX], *y[2][2];
        const int64_t n = from + 32 < SAMPLES ? 32 : SAMPLES - from;
        for (int kind = 0; kind < 2; kind++) {
            for (int j = 0; j < N_AUX; j++)
                x[kind][j] =
                    kv_tape_view(s->tape, s->aux[kind][j]->data + from * aux_dims[j], n, aux_dims[j]);
            for (int i = 0; i < 2; i++)
                y[kind][i] =
                    kv_tape_view(s->tape, s->base[kind][i]->data + from * base_dims[i], n, base_dims[i]);
        }
        const kv_taps taps = test_taps(p, x[0], x[1]);
        if (kv_least_squares_add(ls, s->tape, &taps, y[0], y[1], NULL, &err) != KV_OK)
            fail_msg("%s", err.message);
    }
    if (kv_least_squares_solve(ls, ridge, p, r2[0], r2[1], &err) != KV_OK) fail_msg("%s", err.message);
    kv_least_squares_free(ls);
}

// One regression of the samples: inputs side by side in doubles, and the map a predictor has for it.
struct map {
    int64_t in, out;
    double x[SAMPLES * 16], y[SAMPLES * 16];
    double w[16 * 16], bias[16]; // w [out, in]
    double sizes[16 * 16];       // of w: what is added up in each
};

static void take_map(const struct samples *s, const kv_predictor *p, int kind, int64_t layer, struct map *m) {
    int32_t inputs[KV_MAX_LAYERS];
    const int64_t n = test_layers_read(p, layer, inputs);
    const kv_param *w = kind ? test_weight(p, KV_VALUES, layer) : test_weight(p, KV_KEYS, layer);
    const kv_param *down = kind ? test_down(p, KV_VALUES, layer) : test_down(p, KV_KEYS, layer);
    const kv_param *b = kind ? test_bias(p, KV_VALUES, layer) : test_bias(p, KV_KEYS, layer);
    m->out = base_dims[layer];
    m->in = aux_dims[inputs[0]] + (n > 1 ? aux_dims[inputs[1]] : 0);
    for (int64_t t = 0; t < SAMPLES; t++) {
        for (int64_t c = 0; c < m->in; c++) {
            const bool second = c >= aux_dims[inputs[0]];
            const int64_t j = inputs[second], col = second ? c - aux_dims[inputs[0]] : c;
            m->x[t * m->in + c] = (double)s->aux[kind][j]->data[t * aux_dims[j] + col];
        }
        for (int64_t o = 0; o < m->out; o++)
            m->y[t * m->out + o] = (double)s->base[kind][layer]->data[t * m->out + o];
    }
    for (int64_t o = 0; o < m->out; o++) {
        m->bias[o] = (double)((float *)b->data)[o];
        for (int64_t c = 0; c < m->in; c++) {
            double sum = 0, sizes = 0;
            if (!down) sum = (double)((float *)w->data)[o * m->in + c], sizes = fabs(sum);
            for (int64_t r = 0; down && r < down->rows; r++) {
                const double product = (double)((float *)w->data)[o * down->rows + r] *
                                       (double)((float *)down->data)[r * m->in + c];
                sum += product, sizes += fabs(product);
            }
            m->w[o * m->in + c] = sum, m->sizes[o * m->in + c] = sizes;
        }
    }
}

// Σ |y - W x - b|²
static double residual(const struct map *m) {
    double sum = 0;
    for (int64_t t = 0; t < SAMPLES; t++)
        for (int64_t o = 0; o < m->out; o++) {
            double error = m->bias[o] - m->y[t * m->out + o];
            for (int64_t c = 0; c < m->in; c++) error += m->w[o * m->in + c] * m->x[t * m->in + c];
            sum += error * error;
        }
    return sum;
}

// The weights come out of sums in double precision and are then rounded, twice where two factors make one.
// What that does to an output, and with it to the residual: to first order, and what is left at the optimum,
// where the first order is 0.
static void rounding_of_residual(const struct map *m, double *first, double *second) {
    *first = *second = 0;
    for (int64_t t = 0; t < SAMPLES; t++)
        for (int64_t o = 0; o < m->out; o++) {
            double error = m->bias[o] - m->y[t * m->out + o], sizes = fabs(m->bias[o]);
            for (int64_t c = 0; c < m->in; c++) {
                error += m->w[o * m->in + c] * m->x[t * m->in + c];
                sizes += m->sizes[o * m->in + c] * fabs(m->x[t * m->in + c]);
            }
            *first += 2 * fabs(error) * rounding_bound(2, sizes);
            *second += pow(rounding_bound(2, sizes), 2);
        }
}

// Sums of squares in double precision over all samples, of which their variance is a small part.
static double rounding_of_r2(const struct map *m, double variance) {
    double squares = 0;
    for (int64_t i = 0; i < SAMPLES * m->out; i++) squares += m->y[i] * m->y[i];
    return rounding_bound_double(SAMPLES * (double)(m->in + 1), squares / variance);
}

static double variance(const struct map *m) {
    double sum = 0;
    for (int64_t o = 0; o < m->out; o++) {
        double mean = 0;
        for (int64_t t = 0; t < SAMPLES; t++) mean += m->y[t * m->out + o] / SAMPLES;
        for (int64_t t = 0; t < SAMPLES; t++) sum += pow(m->y[t * m->out + o] - mean, 2);
    }
    return sum;
}

// What least squares makes as small as it can.
static double penalty_factor(const struct map *m, double ridge) {
    double square = 0;
    for (int64_t i = 0; i < SAMPLES * m->in; i++) square += m->x[i] * m->x[i];
    return ridge * square / (double)m->in;
}

static double cost(const struct map *m, double ridge) {
    double square = 0;
    for (int64_t i = 0; i < m->out * m->in; i++) square += m->w[i] * m->w[i];
    return residual(m) + penalty_factor(m, ridge) * square;
}

// x with A[n, n] x = b[n, m] in place of b; Gauss-Jordan.
static void eliminate(int64_t n, int64_t m, double *a, double *b) {
    for (int64_t c = 0; c < n; c++) {
        int64_t pivot = c;
        for (int64_t i = c + 1; i < n; i++)
            if (fabs(a[i * n + c]) > fabs(a[pivot * n + c])) pivot = i;
        for (int64_t j = 0; j < n + m; j++) {
            double *from = j < n ? &a[c * n + j] : &b[c * m + j - n];
            double *to = j < n ? &a[pivot * n + j] : &b[pivot * m + j - n];
            const double kept = *from;
            *from = *to, *to = kept;
        }
        for (int64_t i = 0; i < n; i++) {
            const double factor = i == c ? 0 : a[i * n + c] / a[c * n + c];
            for (int64_t j = 0; j < n; j++) a[i * n + j] -= factor * a[c * n + j];
            for (int64_t j = 0; j < m; j++) b[i * m + j] -= factor * b[c * m + j];
        }
    }
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < m; j++) b[i * m + j] /= a[i * n + i];
}

// The least cost of rank `rank`, by brute force: one factor after the other is solved for with the other
// held, from a random start, until nothing moves. (Rows sqrt(ridge) · I with targets 0 are the penalty; means
// are taken out, which the bias would do.)
static double least_cost(const struct map *m, int64_t rank, double ridge, int rounds) {
    enum { ROWS = SAMPLES + 16 };
    static double x[ROWS * 16], y[ROWS * 16], z[ROWS * 16], gram[16 * 16], up[16 * 16], down[16 * 16], t[256];
    const int64_t in = m->in, out = m->out, rows = SAMPLES + in;
    memset(x, 0, sizeof x), memset(y, 0, sizeof y);
    for (int64_t c = 0; c < in + out; c++) {
        const bool is_y = c >= in;
        const int64_t width = is_y ? out : in, col = is_y ? c - in : c;
        const double *from = is_y ? m->y : m->x;
        double *to = is_y ? y : x, mean = 0;
        for (int64_t i = 0; i < SAMPLES; i++) mean += from[i * width + col] / SAMPLES;
        for (int64_t i = 0; i < SAMPLES; i++) to[i * width + col] = from[i * width + col] - mean;
    }
    for (int64_t c = 0; c < in; c++) x[(SAMPLES + c) * in + c] = sqrt(penalty_factor(m, ridge));
    for (int64_t i = 0; i < rank * in; i++) down[i] = test_value(77, i);
    for (int round = 0; round < rounds; round++) {
        // up: y on z = x·downᵀ
        memset(z, 0, sizeof z), memset(gram, 0, sizeof gram), memset(up, 0, sizeof up); // up [rank, out]
        for (int64_t i = 0; i < rows; i++)
            for (int64_t r = 0; r < rank; r++)
                for (int64_t c = 0; c < in; c++) z[i * rank + r] += x[i * in + c] * down[r * in + c];
        for (int64_t i = 0; i < rows; i++)
            for (int64_t r = 0; r < rank; r++) {
                for (int64_t q = 0; q < rank; q++) gram[r * rank + q] += z[i * rank + r] * z[i * rank + q];
                for (int64_t o = 0; o < out; o++) up[r * out + o] += z[i * rank + r] * y[i * out + o];
            }
        eliminate(rank, out, gram, up);
        // down: the part of y that up spans, on x
        memset(gram, 0, sizeof gram), memset(t, 0, sizeof t); // t [in, rank]
        for (int64_t i = 0; i < rows; i++)
            for (int64_t c = 0; c < in; c++) {
                for (int64_t d = 0; d < in; d++) gram[c * in + d] += x[i * in + c] * x[i * in + d];
                for (int64_t r = 0; r < rank; r++)
                    for (int64_t o = 0; o < out; o++)
                        t[c * rank + r] += x[i * in + c] * y[i * out + o] * up[r * out + o];
            }
        eliminate(in, rank, gram, t);
        double square[16 * 16] = {0}, columns[16 * 16];
        for (int64_t r = 0; r < rank; r++)
            for (int64_t q = 0; q < rank; q++)
                for (int64_t o = 0; o < out; o++) square[r * rank + q] += up[r * out + o] * up[q * out + o];
        for (int64_t r = 0; r < rank; r++)
            for (int64_t c = 0; c < in; c++) columns[r * in + c] = t[c * rank + r];
        eliminate(rank, in, square, columns);
        memcpy(down, columns, (size_t)(rank * in) * sizeof *down);
    }
    double sum = 0;
    for (int64_t i = 0; i < rows; i++)
        for (int64_t o = 0; o < out; o++) {
            double error = y[i * out + o];
            for (int64_t c = 0; c < in; c++)
                for (int64_t r = 0; r < rank; r++)
                    error -= x[i * in + c] * down[r * in + c] * up[r * out + o];
            sum += error * error;
        }
    return sum;
}

// Ranks, inputs and ridges: nothing of that rank does better, and the variance that is said to be explained
// is what the residuals of the written weights leave.
static void test_low_rank_is_the_best_of_its_rank(void **state) {
    (void)state;
    struct samples s = samples_make();
    static const double ridges[] = {0, 0.03};
    static const test_kind kinds[] = {{1, 1}, {3, 1}, {2, 2}, {5, 2}};
    struct map m;
    for (int c = 0; c < 8; c++) {
        const test_kind kind = kinds[c / 2];
        const double ridge = ridges[c % 2];
        kv_predictor *p = make((int32_t[]){0, 2}, kind);
        double r2[2][2];
        solve(&s, ridge, p, r2);
        for (int side = 0; side < 2; side++)
            for (int64_t layer = 0; layer < 2; layer++) {
                take_map(&s, p, side, layer, &m);
                // What brute force may still gain is less than what the second half of its rounds did.
                const double early = least_cost(&m, kind.rank, ridge, ROUNDS / 2);
                const double best = least_cost(&m, kind.rank, ridge, ROUNDS), whole = variance(&m);
                double first, second;
                rounding_of_residual(&m, &first, &second);
                rounding_expect("cost, beside brute force", cost(&m, ridge), best,
                                early - best + second +
                                    rounding_bound_double(SAMPLES * (double)(m.in + 1), best));
                rounding_expect("explained variance", r2[side][layer], 1 - residual(&m) / whole,
                                (first + second) / whole + rounding_of_r2(&m, whole));
            }
        kv_predictor_free(p);
    }
    kv_tape_free(s.tape);
}

// Weights, biases and explained variance of all maps, one after the other.
struct solution {
    const struct samples *s;
    kv_predictor *p;
    double ridge;
};

static void solution_results(const void *context, double *results) {
    const struct solution *solution = context;
    static struct map m;
    double r2[2][2];
    solve(solution->s, solution->ridge, solution->p, r2);
    for (int side = 0; side < 2; side++)
        for (int64_t layer = 0; layer < 2; layer++) {
            take_map(solution->s, solution->p, side, layer, &m);
            for (int64_t i = 0; i < m.out * m.in; i++) *results++ = m.w[i];
            for (int64_t o = 0; o < m.out; o++) *results++ = m.bias[o];
            *results++ = r2[side][layer];
        }
}

static rounding_spread solution_spread(const struct samples *s, kv_predictor *p, double ridge) {
    const struct solution solution = {s, p, ridge};
    rounding_operands operands = {0};
    int64_t n = 0;
    for (int kind = 0; kind < 2; kind++) {
        for (int j = 0; j < N_AUX; j++)
            rounding_add_floats(&operands, s->aux[kind][j]->data, SAMPLES * aux_dims[j]);
        for (int i = 0; i < 2; i++) {
            int32_t inputs[KV_MAX_LAYERS];
            int64_t in = 0;
            for (int64_t k = test_layers_read(p, i, inputs) - 1; k >= 0; k--) in += aux_dims[inputs[k]];
            rounding_add_floats(&operands, s->base[kind][i]->data, SAMPLES * base_dims[i]);
            n += base_dims[i] * (in + 1) + 1;
        }
    }
    rounding_spread spread = rounding_measure(&operands, 0, solution_results, &solution, n);
    rounding_operands_free(&operands);
    return spread;
}

// The largest rank there is leaves the full solution, with fewer inputs than outputs and with more: of the
// second layer's 10 features of 6 inputs only one of two layers' maps has room.
static void test_largest_rank_is_the_full_solution(void **state) {
    (void)state;
    struct samples s = samples_make();
    const test_kind full[] = {{0, 1}, {0, 2}}, low[] = {{6, 1}, {6, 2}};
    for (int c = 0; c < 2; c++) {
        kv_predictor *p = make((int32_t[]){0, 2}, full[c]), *q = make((int32_t[]){0, 2}, low[c]);
        rounding_spread a = solution_spread(&s, p, 0.01), b = solution_spread(&s, q, 0.01);
        const int64_t first = base_dims[0] * ((c ? 12 : 8) + 1) + 1, second = a.n / 2 - first;
        assert_int_equal(a.n, b.n);
        for (int64_t i = 0; i < a.n; i++) {
            const bool is_second = i % (first + second) >= first;
            if (c == 1 && is_second) continue; // 6 of 8, 10 of 6; 6 of 12
            rounding_expect("full and largest rank", b.expected[i], a.expected[i],
                            a.allowed[i] + b.allowed[i]);
        }
        rounding_spread_free(&a);
        rounding_spread_free(&b);
        kv_predictor_free(p);
        kv_predictor_free(q);
    }
    kv_tape_free(s.tape);
}

static void test_explained_variance_grows_with_rank(void **state) {
    (void)state;
    struct samples s = samples_make();
    double last[2][2] = {{0}};
    for (int64_t rank = 1; rank <= 6; rank++) {
        double r2[2][2];
        kv_predictor *p = make((int32_t[]){0, 2}, (test_kind){rank, 1});
        solve(&s, 1e-3, p, r2);
        for (int side = 0; side < 2; side++)
            for (int layer = 0; layer < 2; layer++) {
                assert_true(r2[side][layer] > last[side][layer] && r2[side][layer] < 1);
                last[side][layer] = r2[side][layer];
            }
        kv_predictor_free(p);
    }
    kv_tape_free(s.tape);
}

// A target that both layers make is found exactly, whichever comes first, and not by one of them alone.
static void test_two_layers_are_both_used(void **state) {
    (void)state;
    struct samples s = samples_make();
    const int32_t mapping[2] = {0, 2}; // 0 and 1; 2 and, below it, 1
    struct map m;
    for (int kind = 0; kind < 2; kind++)
        for (int i = 0; i < 2; i++)
            for (int64_t t = 0; t < SAMPLES; t++)
                for (int64_t o = 0; o < base_dims[i]; o++) {
                    const int j = mapping[i];
                    s.base[kind][i]->data[t * base_dims[i] + o] =
                        (float)(o + 1) * s.aux[kind][j]->data[t * aux_dims[j]] -
                        s.aux[kind][1]->data[t * aux_dims[1] + 3] + 7;
                }
    double one[2][2];
    kv_predictor *p = make(mapping, (test_kind){0, 1}), *q = make(mapping, (test_kind){0, 2});
    solve(&s, 0, p, one);
    rounding_spread two = solution_spread(&s, q, 0);
    int64_t at = 0;
    for (int side = 0; side < 2; side++)
        for (int64_t layer = 0; layer < 2; layer++) {
            assert_true(one[side][layer] < 0.999);
            take_map(&s, q, side, layer, &m);
            const int64_t first = aux_dims[mapping[layer]];
            for (int64_t o = 0; o < m.out; o++)
                for (int64_t c = 0; c < m.in; c++)
                    rounding_compare_one("weight",
                                         c == 0           ? (double)(o + 1)
                                         : c == first + 3 ? -1
                                                          : 0,
                                         &two, at++);
            for (int64_t o = 0; o < m.out; o++) rounding_compare_one("bias", 7, &two, at++);
            rounding_compare_one("explained variance", 1, &two, at++);
        }
    rounding_spread_free(&two);
    kv_predictor_free(p);
    kv_predictor_free(q);
    kv_tape_free(s.tape);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_which_layers_are_read),
        cmocka_unit_test(test_parameters),
        cmocka_unit_test(test_random_start),
        cmocka_unit_test(test_refused_kinds),
        cmocka_unit_test(test_low_rank_is_the_best_of_its_rank),
        cmocka_unit_test(test_largest_rank_is_the_full_solution),
        cmocka_unit_test(test_explained_variance_grows_with_rank),
        cmocka_unit_test(test_two_layers_are_both_used),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "tests/support/numeric.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

// ---- A scalar of known gradient ------------------------------------------------------------------------

double numeric_dot_weight(int tensor, int64_t element) {
    double value = test_value(7000 + (uint64_t)tensor, element);
    return value < 0 ? value - 0.5 : value + 0.5;
}

static void dot_backward(kv_tape *tape, const kv_record *record) {
    const double incoming = (double)record->out->grad[0], again = *(const double *)record->saved;
    for (int t = 0; t < KV_RECORD_INPUTS; t++) {
        kv_tensor *x = record->in[t];
        if (!x || !x->wants_grad) continue;
        float beta;
        float *grad = kv_tape_grad(tape, x, &beta);
        assert_non_null(grad);
        for (int64_t i = 0; i < x->rows * x->cols; i++) {
            float own = (float)(incoming * (t == 0 ? 1 : again) * numeric_dot_weight(t, i));
            grad[i] = beta == 0 ? own : beta * grad[i] + own;
        }
    }
}

kv_tensor *numeric_dot(kv_tape *tape, kv_tensor *const *x, int n, double again) {
    assert_in_range(n, 1, KV_RECORD_INPUTS);
    kv_tensor *out = kv_tape_tensor(tape, 1, 1);
    assert_non_null(out);
    double sum = 0;
    for (int t = 0; t < n; t++)
        for (int64_t i = 0; x[t] && i < x[t]->rows * x[t]->cols; i++)
            sum += (t == 0 ? 1 : again) * numeric_dot_weight(t, i) * (double)x[t]->data[i];
    out->data[0] = (float)sum;
    if (!kv_tape_wants(tape, (const kv_tensor *const *)x, n, NULL, NULL)) return out;
    kv_record *record = kv_tape_record(tape, dot_backward, out, sizeof again);
    assert_non_null(record);
    *(double *)record->saved = again;
    for (int t = 0; t < n; t++) record->in[t] = x[t];
    return out;
}

// ---- Differences ---------------------------------------------------------------------------------------

static const double step = 1e-5;

static double direction_sign(int64_t i) {
    return test_value(4711, i) < 0 ? -1 : 1;
}

numeric_slopes numeric_differentiate(double *x, int64_t n, int64_t max_probes, numeric_loss_fn *loss,
                                     const void *context) {
    numeric_slopes s = {.n = n, .n_probes = n < max_probes ? n : max_probes};
    s.index = test_alloc(s.n_probes, sizeof *s.index);
    s.slope = test_alloc(s.n_probes, sizeof *s.slope);
    double squares = 0;
    for (int64_t p = 0; p < s.n_probes; p++) {
        // First, last, and one at random out of each equal part in between.
        int64_t from = p * n / s.n_probes, width = (p + 1) * n / s.n_probes - from;
        int64_t i = p == 0 ? 0 : p == s.n_probes - 1 ? n - 1 : from + test_below(99, p, width);
        const double kept = x[i];
        x[i] = kept + step;
        const double above = loss(context);
        x[i] = kept - step;
        const double below = loss(context);
        x[i] = kept;
        s.index[p] = i;
        s.slope[p] = (above - below) / (2 * step);
        squares += s.slope[p] * s.slope[p];
    }
    s.rms = sqrt(squares / (double)s.n_probes);

    double *kept = test_alloc(n, sizeof *kept);
    memcpy(kept, x, (size_t)n * sizeof *kept);
    const double length = step / sqrt((double)n);
    for (int64_t i = 0; i < n; i++) x[i] = kept[i] + length * direction_sign(i);
    const double above = loss(context);
    for (int64_t i = 0; i < n; i++) x[i] = kept[i] - length * direction_sign(i);
    s.along = (above - loss(context)) / (2 * length);
    memcpy(x, kept, (size_t)n * sizeof *kept);
    free(kept);
    return s;
}

void numeric_slopes_free(numeric_slopes *slopes) {
    free(slopes->index);
    free(slopes->slope);
    *slopes = (numeric_slopes){0};
}

void numeric_compare_gradient(const char *name, const char *leaf, const float *gradient,
                              const numeric_slopes *slopes, double factor, double overall) {
    const double tolerance = 1e-4, least = 1e-7;
    const double typical = fmax(slopes->rms, 1e-2 * overall);
    for (int64_t p = 0; p < slopes->n_probes; p++) {
        const double expected = factor * slopes->slope[p], found = (double)gradient[slopes->index[p]];
        const double allowed = tolerance * fmax(fabs(expected), factor * typical) + least;
        if (!(fabs(found - expected) <= allowed))
            fail_msg("%s: gradient of %s[%lld] is %.9g, expected %.9g (allowed difference %.2g)", name, leaf,
                     (long long)slopes->index[p], found, expected, allowed);
    }
    double along = 0;
    for (int64_t i = 0; i < slopes->n; i++) along += direction_sign(i) * (double)gradient[i];
    const double expected = factor * slopes->along, spread = typical * sqrt((double)slopes->n);
    const double allowed = tolerance * fmax(fabs(expected), factor * spread) + least;
    if (!(fabs(along - expected) <= allowed))
        fail_msg(
            "%s: gradient of %s along a random direction is %.9g, expected %.9g (allowed difference %.2g)",
            name, leaf, along, expected, allowed);
}

void numeric_compare(const char *name, const float *x, const double *expected, int64_t n, double tolerance) {
    double squares = 0;
    for (int64_t i = 0; i < n; i++) squares += expected[i] * expected[i];
    const double rms = sqrt(squares / (double)(n > 0 ? n : 1));
    for (int64_t i = 0; i < n; i++) {
        const double allowed = tolerance * fmax(fabs(expected[i]), rms) + 1e-7;
        if (!(fabs((double)x[i] - expected[i]) <= allowed))
            fail_msg("%s: element %lld is %.9g, expected %.9g (allowed difference %.2g)", name, (long long)i,
                     (double)x[i], expected[i], allowed);
    }
}

double *numeric_doubles(const float *x, int64_t n) {
    double *copy = test_alloc(n, sizeof *copy);
    for (int64_t i = 0; i < n; i++) copy[i] = (double)x[i];
    return copy;
}

double *numeric_param_doubles(const kv_param *param) {
    const int64_t n = kv_param_size(param);
    if (param->dtype == KV_F32) return numeric_doubles(param->data, n);
    double *copy = test_alloc(n, sizeof *copy);
    for (int64_t i = 0; i < n; i++)
        copy[i] = test_half_value(param->dtype, ((const uint16_t *)param->data)[i]);
    return copy;
}

// ---- One operator --------------------------------------------------------------------------------------

typedef struct bench {
    const numeric_case *check;
    int n_leaves;
    double *value[NUMERIC_LEAVES]; // what the leaves hold, exactly
    kv_param param[NUMERIC_LEAVES];
    numeric_slopes slopes[NUMERIC_LEAVES];
    double overall;
    double *out;
} bench;

static double bench_loss(const void *context) {
    const bench *b = context;
    const numeric_case *check = b->check;
    check->reference((const double *const *)b->value, check->context, b->out);
    double sum = 0;
    for (int64_t i = 0; i < check->out_rows * check->out_cols; i++)
        sum += numeric_dot_weight(0, i) * b->out[i];
    return sum;
}

static void bench_fill(bench *b, int leaf) {
    const numeric_leaf *l = &b->check->leaves[leaf];
    const int64_t n = l->rows * l->cols;
    const double scale = l->scale != 0 ? l->scale : 1;
    b->value[leaf] = test_alloc(n, sizeof(double));
    if (l->kind == NUMERIC_PARAM)
        b->param[leaf] = test_param(l->name, l->rows, l->cols, l->dtype, !l->frozen);
    for (int64_t i = 0; i < n; i++) {
        double value = l->offset + scale * test_value(100 + (uint64_t)leaf, i);
        if (l->whole) value = round(value);
        if (l->kind == NUMERIC_PARAM && l->dtype != KV_F32) {
            uint16_t bits = test_half_nearest(l->dtype, value);
            ((uint16_t *)b->param[leaf].data)[i] = bits;
            value = test_half_value(l->dtype, bits);
        } else if (l->kind == NUMERIC_PARAM) {
            ((float *)b->param[leaf].data)[i] = (float)value;
        }
        b->value[leaf][i] = (double)(float)value;
    }
}

static void bench_open(bench *b, const numeric_case *check) {
    *b = (bench){.check = check};
    b->out = test_alloc(check->out_rows * check->out_cols, sizeof(double));
    while (b->n_leaves < NUMERIC_LEAVES && check->leaves[b->n_leaves].rows > 0) bench_fill(b, b->n_leaves++);
    if (check->forward_only) return;
    double squares = 0, n = 0;
    for (int i = 0; i < b->n_leaves; i++) {
        const numeric_leaf *l = &check->leaves[i];
        if (l->frozen) continue;
        b->slopes[i] = numeric_differentiate(b->value[i], l->rows * l->cols,
                                             check->max_probes ? check->max_probes : 60, bench_loss, b);
        squares += b->slopes[i].rms * b->slopes[i].rms * (double)(l->rows * l->cols);
        n += (double)(l->rows * l->cols);
    }
    b->overall = n > 0 ? sqrt(squares / n) : 0;
}

static void bench_close(bench *b) {
    for (int i = 0; i < b->n_leaves; i++) {
        free(b->value[i]);
        numeric_slopes_free(&b->slopes[i]);
        if (b->param[i].data) test_param_free(&b->param[i]);
    }
    free(b->out);
}

// Puts the leaves on the tape and runs the operator; tensors not frozen want a gradient.
static kv_tensor *bench_run(bench *b, kv_tape *tape, numeric_operand *in) {
    for (int i = 0; i < b->n_leaves; i++) {
        const numeric_leaf *l = &b->check->leaves[i];
        in[i] = (numeric_operand){.param = l->kind == NUMERIC_PARAM ? &b->param[i] : NULL};
        if (l->kind == NUMERIC_PARAM) continue;
        kv_tensor *x = in[i].tensor = kv_tape_tensor(tape, l->rows, l->cols);
        assert_non_null(x);
        x->wants_grad = !l->frozen;
        for (int64_t e = 0; e < l->rows * l->cols; e++) x->data[e] = (float)b->value[i][e];
    }
    kv_tensor *out = b->check->run(tape, in, b->check->context);
    kv_error err = {0};
    if (kv_tape_status(tape, &err) != KV_OK) fail_msg("%s: %s", b->check->name, err.message);
    assert_non_null(out);
    assert_int_equal(out->rows, b->check->out_rows);
    assert_int_equal(out->cols, b->check->out_cols);
    return out;
}

static void compare_gradients(bench *b, const numeric_operand *in, bool used_again, int round) {
    for (int i = 0, place = 1; i < b->n_leaves; i++) {
        const numeric_leaf *l = &b->check->leaves[i];
        float *gradient = l->kind == NUMERIC_PARAM ? b->param[i].grad : in[i].tensor->grad;
        if (l->frozen) {
            if (gradient) fail_msg("%s: %s is frozen but got a gradient", b->check->name, l->name);
            continue;
        }
        if (!gradient) fail_msg("%s: %s got no gradient", b->check->name, l->name);
        if (l->kind == NUMERIC_TENSOR && used_again) {
            for (int64_t e = 0; e < l->rows * l->cols; e++)

                gradient[e] -= (float)(b->overall * numeric_dot_weight(place, e));
            place++;
        }
        numeric_compare_gradient(b->check->name, l->name, gradient, &b->slopes[i],
                                 l->kind == NUMERIC_PARAM ? round : 1, b->overall);
    }
}

// The round'th backward pass on these leaves, round counting from 1.
static void check_backward(bench *b, kv_tape *tape, bool used_again, int round) {
    numeric_operand in[NUMERIC_LEAVES];
    kv_tape_reset(tape);
    kv_tensor *summed[KV_RECORD_INPUTS] = {bench_run(b, tape, in)};
    int n = 1;
    for (int i = 0; used_again && i < b->n_leaves; i++)
        if (in[i].tensor && in[i].tensor->wants_grad) {
            assert_in_range(n, 1, KV_RECORD_INPUTS - 1);
            summed[n++] = in[i].tensor;
        }
    kv_error err = {0};
    if (kv_tape_backward(tape, numeric_dot(tape, summed, n, b->overall), &err) != KV_OK)
        fail_msg("%s: backward: %s", b->check->name, err.message);
    compare_gradients(b, in, used_again, round);
}

static void check_forward(bench *b, kv_tape *tape) {
    const int64_t n = b->check->out_rows * b->check->out_cols;
    numeric_operand in[NUMERIC_LEAVES];
    float *recorded = test_alloc(n, sizeof *recorded);
    b->check->reference((const double *const *)b->value, b->check->context, b->out);
    kv_tensor *out = bench_run(b, tape, in);
    numeric_compare(b->check->name, out->data, b->out, n, 1e-5);
    memcpy(recorded, out->data, (size_t)n * sizeof *recorded);

    kv_tape_reset(tape);
    assert_true(kv_tape_set_recording(tape, false));
    out = bench_run(b, tape, in);
    assert_false(out->wants_grad);
    assert_memory_equal(out->data, recorded, (size_t)n * sizeof *recorded);
    assert_false(kv_tape_set_recording(tape, true));
    free(recorded);
}

void numeric_check(const numeric_case *check) {
    bench b;
    bench_open(&b, check);
    kv_tape *tape = kv_tape_create();
    assert_non_null(tape);
    check_forward(&b, tape);
    bool any = false;
    for (int i = 0; i < b.n_leaves; i++) any |= !check->leaves[i].frozen;
    if (any && !check->forward_only) {
        check_backward(&b, tape, false, 1);
        check_backward(&b, tape, true, 2);
    }
    kv_tape_free(tape);
    bench_close(&b);
}

#include "tests/support/numbers/numeric.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// ---- A scalar of known gradient ------------------------------------------------------------------------

// Weights of the first tensor in place of numeric_dot_weight's, while a check moves them; NULL: none.
static const double *moved_weights;

double numeric_dot_weight(int tensor, int64_t element) {
    if (tensor == 0 && moved_weights) return moved_weights[element];
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

// (f(x + h·d) - f(x - h·d)) / 2h along d = e_i, or along the signs when i < 0. *noise: what rounding of a
// loss that is a sum of n terms makes of it.
static double difference(double *x, const double *kept, int64_t n, int64_t i, double h, numeric_loss_fn *loss,
                         const void *context, double *noise) {
    double at[2];
    for (int side = 0; side < 2; side++) {
        const double to = side ? -h : h;
        if (i >= 0)
            x[i] = kept[i] + to;
        else
            for (int64_t e = 0; e < n; e++) x[e] = kept[e] + to * direction_sign(e);
        at[side] = loss(context);
    }
    if (i >= 0)
        x[i] = kept[i];
    else
        memcpy(x, kept, (size_t)n * sizeof *x);
    *noise = sqrt((double)n) * ROUNDING_DOUBLE * fmax(fabs(at[0]), fabs(at[1])) / h;
    return (at[0] - at[1]) / (2 * h);
}

numeric_slopes numeric_differentiate(double *x, int64_t n, int64_t max_probes, numeric_loss_fn *loss,
                                     const void *context) {
    numeric_slopes s = {.n = n, .n_probes = n < max_probes ? n : max_probes};
    double *kept = test_alloc(n, sizeof *kept), squares = 0, noise = 0, less, bent = 0;
    s.index = test_alloc(s.n_probes, sizeof *s.index);
    s.slope = test_alloc(s.n_probes, sizeof *s.slope);
    s.unsure = test_alloc(s.n_probes, sizeof *s.unsure);
    memcpy(kept, x, (size_t)n * sizeof *kept);
    for (int64_t p = 0; p < s.n_probes; p++) {
        // First, last, and one at random out of each equal part in between.
        int64_t from = p * n / s.n_probes, width = (p + 1) * n / s.n_probes - from;
        int64_t i = p == 0 ? 0 : p == s.n_probes - 1 ? n - 1 : from + test_below(99, p, width);
        s.index[p] = i;
        s.slope[p] = difference(x, kept, n, i, step, loss, context, &noise);
        s.unsure[p] = noise;
        squares += s.slope[p] * s.slope[p];
        if (p % 4) continue; // some tell for all
        bent = fmax(bent, fabs(s.slope[p] - difference(x, kept, n, i, 2 * step, loss, context, &less)));
    }
    for (int64_t p = 0; p < s.n_probes; p++) s.unsure[p] += 2 * bent;
    s.rms = sqrt(squares / (double)s.n_probes);
    const double length = step / sqrt((double)n);
    s.along = difference(x, kept, n, -1, length, loss, context, &noise);
    s.along_unsure = fabs(s.along - difference(x, kept, n, -1, 2 * length, loss, context, &less)) + noise;
    free(kept);
    return s;
}

void numeric_slopes_free(numeric_slopes *slopes) {
    free(slopes->index);
    free(slopes->slope);
    free(slopes->unsure);
    *slopes = (numeric_slopes){0};
}

static double along_direction(const float *gradient, int64_t n) {
    double along = 0;
    for (int64_t i = 0; i < n; i++) along += direction_sign(i) * (double)gradient[i];
    return along;
}

double *numeric_gradient_results(const float *gradient, int64_t n, double *results) {
    for (int64_t i = 0; i < n; i++) results[i] = (double)gradient[i];
    results[n] = along_direction(gradient, n);
    return results + n + 1;
}

int64_t numeric_allow_sums(rounding_spread *spread, int64_t from, int64_t n) {
    spread->allowed[from + n] += sqrt((double)n) * rounding_allow_sums(spread, from, n);
    return from + n + 1;
}

// Accumulating `factor` of them rounds each partial sum; adding and taking away rounds both.
void numeric_compare_gradient(const char *name, const char *leaf, const float *gradient,
                              const numeric_slopes *slopes, double factor, const rounding_spread *spread,
                              int64_t from, const double *added) {
    char what[256];
    double rounded = 0;
    assert_true(from >= 0 && from + slopes->n < spread->n);
    for (int64_t i = 0; i < slopes->n; i++)
        rounded += rounding_bound(2, added ? fabs((double)gradient[i]) + added[i] : 0);
    for (int64_t p = 0; p < slopes->n_probes; p++) {
        const int64_t i = slopes->index[p];
        const double own = factor * (spread->allowed[from + i] + slopes->unsure[p]);
        const double sum = added ? rounding_bound(2, fabs((double)gradient[i]) + added[i]) : 0;
        snprintf(what, sizeof what, "%s: gradient of %s[%lld]", name, leaf, (long long)i);
        rounding_expect(what, (double)gradient[i], factor * slopes->slope[p], own + sum);
    }
    snprintf(what, sizeof what, "%s: gradient of %s along a random direction", name, leaf);
    rounding_expect(what, along_direction(gradient, slopes->n), factor * slopes->along,
                    factor * (spread->allowed[from + slopes->n] + slopes->along_unsure) + rounded);
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
    kv_param wide[NUMERIC_LEAVES]; // the same in float32, to be moved
    double *dot; // the weights of the scalar, of which gradients are sums, too: moved like operands
    numeric_slopes slopes[NUMERIC_LEAVES];
    rounding_spread spread; // of the gradients, one leaf after the other
    double overall;
    kv_tape *tape;
    double *out;
} bench;

static int64_t leaf_size(const bench *b, int leaf) {
    return b->check->leaves[leaf].rows * b->check->leaves[leaf].cols;
}

static void run_reference(const void *context, double *results) {
    const bench *b = context;
    b->check->reference((const double *const *)b->value, b->check->context, results);
}

static double bench_loss(const void *context) {
    const bench *b = context;
    const numeric_case *check = b->check;
    run_reference(b, b->out);
    double sum = 0;
    for (int64_t i = 0; i < check->out_rows * check->out_cols; i++)
        sum += numeric_dot_weight(0, i) * b->out[i];
    return sum;
}

static void bench_fill(bench *b, int leaf) {
    const numeric_leaf *l = &b->check->leaves[leaf];
    const int64_t n = leaf_size(b, leaf);
    const double scale = l->scale != 0 ? l->scale : 1;
    b->value[leaf] = test_alloc(n, sizeof(double));
    if (l->kind == NUMERIC_PARAM) {
        b->param[leaf] = test_param(l->name, l->rows, l->cols, l->dtype, !l->frozen);
        b->wide[leaf] = test_param(l->name, l->rows, l->cols, KV_F32, !l->frozen);
    }
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
        if (l->kind == NUMERIC_PARAM) ((float *)b->wide[leaf].data)[i] = (float)value;
    }
}

// Puts the leaves on the tape and runs the operator; tensors not frozen want a gradient.
static kv_tensor *bench_run(const bench *b, const kv_param *params, numeric_operand *in) {
    for (int i = 0; i < b->n_leaves; i++) {
        const numeric_leaf *l = &b->check->leaves[i];
        in[i] =
            (numeric_operand){.param = l->kind == NUMERIC_PARAM ? (kv_param *)(uintptr_t)&params[i] : NULL};
        if (l->kind == NUMERIC_PARAM) continue;
        kv_tensor *x = in[i].tensor = kv_tape_tensor(b->tape, l->rows, l->cols);
        assert_non_null(x);
        x->wants_grad = !l->frozen;
        for (int64_t e = 0; e < leaf_size(b, i); e++) x->data[e] = (float)b->value[i][e];
    }
    kv_tensor *out = b->check->run(b->tape, in, b->check->context);
    kv_error err = {0};
    if (kv_tape_status(b->tape, &err) != KV_OK) fail_msg("%s: %s", b->check->name, err.message);
    assert_non_null(out);
    assert_int_equal(out->rows, b->check->out_rows);
    assert_int_equal(out->cols, b->check->out_cols);
    return out;
}

static void bench_backward(const bench *b, kv_tensor *const *summed, int n) {
    kv_error err = {0};
    if (kv_tape_backward(b->tape, numeric_dot(b->tape, summed, n, b->overall), &err) != KV_OK)
        fail_msg("%s: backward: %s", b->check->name, err.message);
}

// Gradients of all leaves that want one, by the operator itself, with weights in float32.
static void run_gradients(const void *context, double *results) {
    const bench *b = context;
    numeric_operand in[NUMERIC_LEAVES];
    kv_tape_reset(b->tape);
    moved_weights = b->dot;
    for (int i = 0; i < b->n_leaves; i++)
        if (b->wide[i].grad) memset(b->wide[i].grad, 0, (size_t)leaf_size(b, i) * sizeof(float));
    kv_tensor *out = bench_run(b, b->wide, in);
    bench_backward(b, &out, 1);
    for (int i = 0; i < b->n_leaves; i++) {
        if (b->check->leaves[i].frozen) continue;
        const float *gradient = in[i].tensor ? in[i].tensor->grad : b->wide[i].grad;
        results = numeric_gradient_results(gradient, leaf_size(b, i), results);
    }
    moved_weights = NULL;
}

// Products of whole numbers of moderate size are exact. What is rounded is what is done with them: operands
// are moved so little that the products change as numbers of size 1 would by rounding.
static double part_of(const numeric_case *check, int leaf) {
    const numeric_leaf *l = &check->leaves[leaf];
    return l->whole ? 1 / (l->scale * l->scale * (double)l->cols) : 1;
}

static rounding_operands operands_of(const bench *b, bool floats) {
    rounding_operands o = {0};
    for (int i = 0; i < b->n_leaves; i++) {
        if (floats && b->check->leaves[i].kind == NUMERIC_PARAM)
            rounding_add_floats(&o, b->wide[i].data, leaf_size(b, i));
        else
            rounding_add(&o, b->value[i], leaf_size(b, i));
        o.of[i].part = part_of(b->check, i);
    }
    for (int64_t i = 0; b->check->also && i < b->check->also->n; i++) {
        const struct rounding_operand *also = &b->check->also->of[i];
        if (also->wide) rounding_add(&o, also->wide, also->n);
        if (also->narrow) rounding_add_floats(&o, also->narrow, also->n);
    }
    return o;
}

static void measure_gradients(bench *b) {
    int64_t n = 0;
    for (int i = 0; i < b->n_leaves; i++)
        if (!b->check->leaves[i].frozen) n += leaf_size(b, i) + 1;
    rounding_operands operands = operands_of(b, true);
    const int64_t n_out = b->check->out_rows * b->check->out_cols;
    b->dot = test_alloc(n_out, sizeof *b->dot);
    for (int64_t i = 0; i < n_out; i++) b->dot[i] = numeric_dot_weight(0, i);
    rounding_add(&operands, b->dot, n_out);
    b->spread = rounding_measure(&operands, b->check->terms, run_gradients, b, n);
    int64_t from = 0;
    for (int i = 0; i < b->n_leaves; i++)
        if (!b->check->leaves[i].frozen) from = numeric_allow_sums(&b->spread, from, leaf_size(b, i));
    rounding_operands_free(&operands);
}

static void bench_open(bench *b, const numeric_case *check) {
    *b = (bench){.check = check, .tape = kv_tape_create()};
    assert_non_null(b->tape);
    b->out = test_alloc(check->out_rows * check->out_cols, sizeof(double));
    while (b->n_leaves < NUMERIC_LEAVES && check->leaves[b->n_leaves].rows > 0) bench_fill(b, b->n_leaves++);
    if (check->forward_only) return;
    double squares = 0, n = 0;
    for (int i = 0; i < b->n_leaves; i++) {
        const numeric_leaf *l = &check->leaves[i];
        if (l->frozen) continue;
        b->slopes[i] = numeric_differentiate(b->value[i], leaf_size(b, i),
                                             check->max_probes ? check->max_probes : 60, bench_loss, b);
        squares += b->slopes[i].rms * b->slopes[i].rms * (double)leaf_size(b, i);
        n += (double)leaf_size(b, i);
    }
    b->overall = n > 0 ? sqrt(squares / n) : 0;
    if (n > 0) measure_gradients(b);
}

static void bench_close(bench *b) {
    for (int i = 0; i < b->n_leaves; i++) {
        free(b->value[i]);
        numeric_slopes_free(&b->slopes[i]);
        if (b->param[i].data) test_param_free(&b->param[i]);
        if (b->wide[i].data) test_param_free(&b->wide[i]);
    }
    rounding_spread_free(&b->spread);
    kv_tape_free(b->tape);
    free(b->out);
    free(b->dot);
}

static void compare_gradients(bench *b, const numeric_operand *in, bool used_again, int round) {
    int64_t from = 0;
    for (int i = 0, place = 1; i < b->n_leaves; i++) {
        const numeric_leaf *l = &b->check->leaves[i];
        float *gradient = l->kind == NUMERIC_PARAM ? b->param[i].grad : in[i].tensor->grad;
        if (l->frozen) {
            if (gradient) fail_msg("%s: %s is frozen but got a gradient", b->check->name, l->name);
            continue;
        }
        if (!gradient) fail_msg("%s: %s got no gradient", b->check->name, l->name);
        double *added = NULL;
        if (l->kind == NUMERIC_TENSOR && used_again) {
            added = test_alloc(leaf_size(b, i), sizeof *added);
            for (int64_t e = 0; e < leaf_size(b, i); e++) {
                const double own = b->overall * numeric_dot_weight(place, e);
                gradient[e] -= (float)own;
                added[e] = 2 * fabs(own);
            }
            place++;
        }
        numeric_compare_gradient(b->check->name, l->name, gradient, &b->slopes[i],
                                 l->kind == NUMERIC_PARAM ? round : 1, &b->spread, from, added);
        from += leaf_size(b, i) + 1;
        free(added);
    }
}

// The round'th backward pass on these leaves, round counting from 1.
static void check_backward(bench *b, bool used_again, int round) {
    numeric_operand in[NUMERIC_LEAVES];
    kv_tape_reset(b->tape);
    kv_tensor *summed[KV_RECORD_INPUTS] = {bench_run(b, b->param, in)};
    int n = 1;
    for (int i = 0; used_again && i < b->n_leaves; i++)
        if (in[i].tensor && in[i].tensor->wants_grad) {
            assert_in_range(n, 1, KV_RECORD_INPUTS - 1);
            summed[n++] = in[i].tensor;
        }
    bench_backward(b, summed, n);
    compare_gradients(b, in, used_again, round);
}

static void check_forward(bench *b) {
    const int64_t n = b->check->out_rows * b->check->out_cols;
    numeric_operand in[NUMERIC_LEAVES];
    float *recorded = test_alloc(n, sizeof *recorded);
    rounding_operands operands = operands_of(b, false);
    rounding_spread spread = rounding_measure(&operands, b->check->terms, run_reference, b, n);
    for (int64_t i = 0; i < n; i++) spread.allowed[i] += b->check->between;
    kv_tensor *out = bench_run(b, b->param, in);
    rounding_compare(b->check->name, out->data, &spread, 0, n);
    memcpy(recorded, out->data, (size_t)n * sizeof *recorded);
    rounding_operands_free(&operands);
    rounding_spread_free(&spread);

    kv_tape_reset(b->tape);
    assert_true(kv_tape_set_recording(b->tape, false));
    out = bench_run(b, b->param, in);
    assert_false(out->wants_grad);
    assert_memory_equal(out->data, recorded, (size_t)n * sizeof *recorded);
    assert_false(kv_tape_set_recording(b->tape, true));
    free(recorded);
}

void numeric_check(const numeric_case *check) {
    bench b;
    bench_open(&b, check);
    kv_tape_reset(b.tape);
    check_forward(&b);
    bool any = false;
    for (int i = 0; i < b.n_leaves; i++) any |= !check->leaves[i].frozen;
    if (any && !check->forward_only) {
        check_backward(&b, false, 1);
        check_backward(&b, true, 2);
    }
    bench_close(&b);
}

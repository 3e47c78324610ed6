// Every small operator against its double-precision loop (see numeric.h), and the rules they all share.
#include "core/ops.h"
#include "tests/numeric.h"
#include "tests/reference.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { COUNT_MAX = 512 };

// ---- linear
// --------------------------------------------------------------------------------------------------------

typedef struct linear_shape {
    int64_t m, in, out;
    bool bias, fixed_x, fixed_w, fixed_bias;
    kv_dtype dtype;
} linear_shape;

static kv_tensor *linear_run(kv_tape *tape, const numeric_operand *in, const void *context) {
    const linear_shape *s = context;
    return kv_linear(tape, in[0].tensor, in[1].param, s->bias ? in[2].param : NULL);
}

static void linear_reference(const double *const *in, const void *context, double *out) {
    const linear_shape *s = context;
    ref_linear(s->m, s->out, s->in, in[0], in[1], s->bias ? in[2] : NULL, out);
}

static void check_linear(linear_shape s) {
    char name[96];
    snprintf(name, sizeof name, "linear m %d in %d out %d dtype %d", (int)s.m, (int)s.in, (int)s.out,
             (int)s.dtype);
    numeric_check(&(numeric_case){
        .name = name,
        .leaves = {{"x", NUMERIC_TENSOR, s.m, s.in, .frozen = s.fixed_x},
                   {"w", NUMERIC_PARAM, s.out, s.in, .frozen = s.fixed_w, .dtype = s.dtype},
                   {"bias", NUMERIC_PARAM, s.bias ? 1 : 0, s.out, .frozen = s.fixed_bias}},
        .out_rows = s.m,
        .out_cols = s.out,
        .run = linear_run,
        .reference = linear_reference,
        .context = &s,
    });
}

static void test_linear_shapes(void **state) {
    (void)state;
    check_linear((linear_shape){.m = 1, .in = 1, .out = 1, .bias = true});
    check_linear((linear_shape){.m = 1, .in = 7, .out = 3});
    check_linear((linear_shape){.m = 3, .in = 5, .out = 7, .bias = true});
    check_linear((linear_shape){.m = 65, .in = 33, .out = 129, .bias = true});
    check_linear((linear_shape){.m = 300, .in = 17, .out = 5});
}

static void test_linear_frozen(void **state) {
    (void)state;
    for (int mask = 0; mask < 8; mask++)
        check_linear((linear_shape){.m = 4,
                                    .in = 6,
                                    .out = 5,
                                    .bias = true,
                                    .fixed_x = mask & 1,
                                    .fixed_w = mask & 2,
                                    .fixed_bias = mask & 4});
}

static void test_linear_half_weights(void **state) {
    (void)state;
    for (kv_dtype dtype = KV_BF16; dtype <= KV_F16; dtype++) {
        check_linear((linear_shape){.m = 1, .in = 3, .out = 1, .fixed_w = true, .dtype = dtype});
        check_linear(
            (linear_shape){.m = 5, .in = 31, .out = 9, .bias = true, .fixed_w = true, .dtype = dtype});
        // Larger than one panel of widened weights is likely to be.
        check_linear((linear_shape){.m = 2, .in = 515, .out = 1031, .fixed_w = true, .dtype = dtype});
    }
}

// ---- embedding
// -----------------------------------------------------------------------------------------------------

typedef struct lookup {
    const int32_t *ids;
    const int64_t *rows;
    int64_t n, dim;
} lookup;

static kv_tensor *embedding_run(kv_tape *tape, const numeric_operand *in, const void *context) {
    const lookup *l = context;
    return kv_embedding(tape, in[0].param, l->ids, l->n);
}

static void embedding_reference(const double *const *in, const void *context, double *out) {
    const lookup *l = context;
    for (int64_t i = 0; i < l->n; i++)
        memcpy(out + i * l->dim, in[0] + l->ids[i] * l->dim, (size_t)l->dim * sizeof *out);
}

static void check_embedding(const char *name, const lookup *l, int64_t vocabulary, bool frozen,
                            kv_dtype dtype) {
    numeric_check(&(numeric_case){
        .name = name,
        .leaves = {{"table", NUMERIC_PARAM, vocabulary, l->dim, .frozen = frozen, .dtype = dtype}},
        .out_rows = l->n,
        .out_cols = l->dim,
        .run = embedding_run,
        .reference = embedding_reference,
        .context = l,
    });
}

static void test_embedding(void **state) {
    (void)state;
    const int32_t repeated[] = {4, 0, 4, 4, 6, 1, 0};
    check_embedding("embedding", &(lookup){.ids = repeated, .n = 7, .dim = 5}, 7, false, KV_F32);
    check_embedding("embedding, one id", &(lookup){.ids = repeated + 3, .n = 1, .dim = 1}, 7, false, KV_F32);
    check_embedding("embedding, bf16", &(lookup){.ids = repeated, .n = 7, .dim = 9}, 7, true, KV_BF16);
    check_embedding("embedding, f16", &(lookup){.ids = repeated, .n = 7, .dim = 9}, 7, true, KV_F16);
    int32_t many[COUNT_MAX];
    for (int i = 0; i < COUNT_MAX; i++) many[i] = (int32_t)test_below(5, i, 11);
    check_embedding("embedding, many", &(lookup){.ids = many, .n = COUNT_MAX, .dim = 6}, 11, false, KV_F32);
}

static void test_embedding_out_of_range(void **state) {
    (void)state;
    const int32_t wrong[] = {-1, 7, INT32_MAX, INT32_MIN};
    kv_param table = test_param("embed", 7, 3, KV_F32, true);
    kv_tape *tape = kv_tape_create();
    for (int w = 0; w < 4; w++) {
        int32_t ids[40] = {0};
        ids[37] = wrong[w];
        assert_null(kv_embedding(tape, &table, ids, 40));
        kv_error err = {0};
        assert_int_equal(kv_tape_status(tape, &err), KV_ERR_RANGE);
        assert_int_equal(err.code, KV_ERR_RANGE);
        char value[16];
        snprintf(value, sizeof value, "%d", wrong[w]);
        if (!strstr(err.message, "37") || !strstr(err.message, value) || !strstr(err.message, "7"))
            fail_msg("names neither index 37 nor id %s nor the size 7: %s", value, err.message);
        kv_tape_reset(tape);
    }
    kv_tape_free(tape);
    test_param_free(&table);
}

// ---- rmsnorm
// -------------------------------------------------------------------------------------------------------

typedef struct norm_shape {
    int64_t m, groups, width;
    float eps;
} norm_shape;

static kv_tensor *rmsnorm_run(kv_tape *tape, const numeric_operand *in, const void *context) {
    return kv_rmsnorm(tape, in[0].tensor, in[1].param, ((const norm_shape *)context)->eps);
}

static void rmsnorm_reference(const double *const *in, const void *context, double *out) {
    const norm_shape *s = context;
    ref_rmsnorm(s->m, s->groups, s->width, in[0], in[1], (double)s->eps, out);
}

static void check_rmsnorm(norm_shape s, bool fixed_x, bool fixed_w, kv_dtype dtype, double scale) {
    char name[96];
    snprintf(name, sizeof name, "rmsnorm m %d groups %d width %d scale %g", (int)s.m, (int)s.groups,
             (int)s.width, scale);
    numeric_check(&(numeric_case){
        .name = name,
        .leaves = {{"x", NUMERIC_TENSOR, s.m, s.groups * s.width, .frozen = fixed_x, .scale = scale},
                   {"w", NUMERIC_PARAM, 1, s.width, .frozen = fixed_w, .dtype = dtype, .offset = 0.3}},
        .out_rows = s.m,
        .out_cols = s.groups * s.width,
        .run = rmsnorm_run,
        .reference = rmsnorm_reference,
        .context = &s,
    });
}

static void test_rmsnorm(void **state) {
    (void)state;
    check_rmsnorm((norm_shape){1, 1, 1, 0.5f}, false, false, KV_F32, 1);
    check_rmsnorm((norm_shape){1, 1, 13, 1e-6f}, false, false, KV_F32, 1);
    check_rmsnorm((norm_shape){7, 1, 96, 1e-6f}, false, false, KV_F32, 3);
    check_rmsnorm((norm_shape){5, 3, 6, 1e-6f}, false, false, KV_F32, 1);
    check_rmsnorm((norm_shape){131, 4, 12, 1e-5f}, false, false, KV_F32, 1);
    check_rmsnorm((norm_shape){5, 3, 6, 1e-2f}, true, false, KV_F32, 0.1);
    check_rmsnorm((norm_shape){5, 3, 6, 1e-6f}, false, true, KV_F32, 1);
    check_rmsnorm((norm_shape){5, 3, 6, 1e-6f}, true, true, KV_F32, 1);
    check_rmsnorm((norm_shape){3, 2, 10, 1e-6f}, false, true, KV_BF16, 1);
    check_rmsnorm((norm_shape){3, 2, 10, 1e-6f}, false, true, KV_F16, 1);
    check_rmsnorm((norm_shape){3, 2, 10, 1e-6f}, false, false, KV_F32, 1000);
}

static void test_rmsnorm_of_zeros(void **state) {
    (void)state;
    kv_param w = test_param("w", 1, 4, KV_F32, true);
    for (int i = 0; i < 4; i++) ((float *)w.data)[i] = 2;
    kv_tape *tape = kv_tape_create();
    kv_tensor *x = kv_tape_tensor(tape, 1, 4);
    memset(x->data, 0, 4 * sizeof(float));
    x->wants_grad = true;
    kv_tensor *y = kv_rmsnorm(tape, x, &w, 1e-6f);
    assert_int_equal(kv_tape_backward(tape, numeric_dot(tape, &y, 1, 0), NULL), KV_OK);
    for (int i = 0; i < 4; i++) {
        assert_true(y->data[i] == 0);
        // dy/dx = w / sqrt(eps) = 2000
        assert_float_equal(x->grad[i] / (float)numeric_dot_weight(0, i), 2000, 0.05);
        assert_true(w.grad[i] == 0);
    }
    kv_tape_free(tape);
    test_param_free(&w);
}

// ---- swiglu, add, gather_rows
// --------------------------------------------------------------------------------------

static kv_tensor *swiglu_run(kv_tape *tape, const numeric_operand *in, const void *context) {
    (void)context;
    return kv_swiglu(tape, in[0].tensor, in[1].tensor);
}

static void swiglu_reference(const double *const *in, const void *context, double *out) {
    ref_swiglu(*(const int64_t *)context, in[0], in[1], out);
}

static void test_swiglu(void **state) {
    (void)state;
    const int64_t shapes[][2] = {{1, 1}, {3, 7}, {65, 33}};
    for (int s = 0; s < 3; s++)
        for (int frozen = 0; frozen < 4; frozen++) {
            const int64_t rows = shapes[s][0], cols = shapes[s][1], n = rows * cols;
            numeric_check(&(numeric_case){
                .name = "swiglu",
                .leaves = {{"gate", NUMERIC_TENSOR, rows, cols, .frozen = frozen & 1, .scale = 6},
                           {"up", NUMERIC_TENSOR, rows, cols, .frozen = frozen & 2}},
                .out_rows = rows,
                .out_cols = cols,
                .run = swiglu_run,
                .reference = swiglu_reference,
                .context = &n,
            });
        }
}

// e^-a overflows float32 below -88: silu must come out as 0 there, not as NaN.
static void test_swiglu_far_out(void **state) {
    (void)state;
    const float far[] = {-1e30f, -1000, -89, 89, 1000, 1e30f};
    kv_tape *tape = kv_tape_create();
    kv_tensor *gate = kv_tape_tensor(tape, 1, 6), *up = kv_tape_tensor(tape, 1, 6);
    for (int i = 0; i < 6; i++) gate->data[i] = far[i], up->data[i] = 1;
    gate->wants_grad = up->wants_grad = true;
    kv_tensor *y = kv_swiglu(tape, gate, up);
    assert_int_equal(kv_tape_backward(tape, numeric_dot(tape, &y, 1, 0), NULL), KV_OK);
    for (int i = 0; i < 6; i++) {
        const float expected = far[i] > 0 ? far[i] : 0, c = (float)numeric_dot_weight(0, i);
        assert_float_equal(y->data[i] / fmaxf(1, expected), expected > 0, 1e-6);
        assert_float_equal(gate->grad[i], far[i] > 0 ? c : 0, 1e-6);
        assert_float_equal(up->grad[i] / fmaxf(1, expected), expected > 0 ? c : 0, 1e-6);
    }
    kv_tape_free(tape);
}

static kv_tensor *add_run(kv_tape *tape, const numeric_operand *in, const void *context) {
    (void)context;
    return kv_add(tape, in[0].tensor, in[1].tensor);
}

static void add_reference(const double *const *in, const void *context, double *out) {
    for (int64_t i = 0; i < *(const int64_t *)context; i++) out[i] = in[0][i] + in[1][i];
}

static kv_tensor *twice_run(kv_tape *tape, const numeric_operand *in, const void *context) {
    (void)context;
    return kv_add(tape, in[0].tensor, in[0].tensor);
}

static void twice_reference(const double *const *in, const void *context, double *out) {
    for (int64_t i = 0; i < *(const int64_t *)context; i++) out[i] = 2 * in[0][i];
}

static void test_add(void **state) {
    (void)state;
    const int64_t n = 3 * 35;
    for (int frozen = 0; frozen < 4; frozen++)
        numeric_check(&(numeric_case){
            .name = "add",
            .leaves = {{"a", NUMERIC_TENSOR, 3, 35, .frozen = frozen & 1},
                       {"b", NUMERIC_TENSOR, 3, 35, .frozen = frozen & 2}},
            .out_rows = 3,
            .out_cols = 35,
            .run = add_run,
            .reference = add_reference,
            .context = &n,
        });
    numeric_check(&(numeric_case){
        .name = "add of a tensor to itself",
        .leaves = {{"a", NUMERIC_TENSOR, 3, 35}},
        .out_rows = 3,
        .out_cols = 35,
        .run = twice_run,
        .reference = twice_reference,
        .context = &n,
    });
}

static kv_tensor *gather_run(kv_tape *tape, const numeric_operand *in, const void *context) {
    const lookup *l = context;
    return kv_gather_rows(tape, in[0].tensor, l->rows, l->n);
}

static void gather_reference(const double *const *in, const void *context, double *out) {
    const lookup *l = context;
    for (int64_t i = 0; i < l->n; i++)
        memcpy(out + i * l->dim, in[0] + l->rows[i] * l->dim, (size_t)l->dim * sizeof *out);
}

static void check_gather(const char *name, const lookup *l, int64_t rows) {
    numeric_check(&(numeric_case){
        .name = name,
        .leaves = {{"x", NUMERIC_TENSOR, rows, l->dim}},
        .out_rows = l->n,
        .out_cols = l->dim,
        .run = gather_run,
        .reference = gather_reference,
        .context = l,
    });
}

static void test_gather_rows(void **state) {
    (void)state;
    const int64_t last[] = {4};
    const int64_t repeated[] = {2, 2, 0, 4, 2, 1}; // row 3 is never read: its gradient is 0
    int64_t many[COUNT_MAX];
    for (int i = 0; i < COUNT_MAX; i++) many[i] = test_below(6, i, 37);
    check_gather("gather, one row", &(lookup){.rows = last, .n = 1, .dim = 3}, 5);
    check_gather("gather, repeats", &(lookup){.rows = repeated, .n = 6, .dim = 7}, 5);
    check_gather("gather, more rows than there are", &(lookup){.rows = many, .n = COUNT_MAX, .dim = 5}, 37);
}

// ---- weighted_sum, l1_loss
// -----------------------------------------------------------------------------------------

static const float sum_weights[3] = {0.5f, -3.0f, 2.0f};

static kv_tensor *sum_run(kv_tape *tape, const numeric_operand *in, const void *context) {
    kv_tensor *x[3] = {in[0].tensor, NULL, in[1].tensor};
    if (*(const int *)context) x[1] = in[0].tensor; // one scalar in two places
    return kv_weighted_sum(tape, x, sum_weights, 3);
}

static void sum_reference(const double *const *in, const void *context, double *out) {
    out[0] = 0.5 * in[0][0] + 2.0 * in[1][0];
    if (*(const int *)context) out[0] -= 3.0 * in[0][0];
}

static void test_weighted_sum(void **state) {
    (void)state;
    for (int repeated = 0; repeated < 2; repeated++)
        for (int frozen = 0; frozen < 4; frozen++)
            numeric_check(&(numeric_case){
                .name = "weighted sum",
                .leaves = {{"a", NUMERIC_TENSOR, 1, 1, .frozen = frozen & 1},
                           {"b", NUMERIC_TENSOR, 1, 1, .frozen = frozen & 2}},
                .out_rows = 1,
                .out_cols = 1,
                .run = sum_run,
                .reference = sum_reference,
                .context = &repeated,
            });
}

// More terms than a record has places for inputs.
static void test_weighted_sum_of_many(void **state) {
    (void)state;
    enum { TERMS = 61 };
    kv_tape *tape = kv_tape_create();
    kv_tensor *x[TERMS];
    float weights[TERMS];
    double expected = 0;
    for (int i = 0; i < TERMS; i++) {
        weights[i] = (float)(i % 7) - 2;
        x[i] = i % 5 == 3 ? NULL : kv_tape_tensor(tape, 1, 1);
        if (!x[i]) continue;
        x[i]->data[0] = (float)i;
        x[i]->wants_grad = i % 2;
        expected += (double)weights[i] * i;
    }
    kv_tensor *y = kv_weighted_sum(tape, x, weights, TERMS);
    assert_float_equal(y->data[0], expected, 1e-4 * fabs(expected));
    assert_int_equal(kv_tape_backward(tape, y, NULL), KV_OK);
    for (int i = 0; i < TERMS; i++)
        if (x[i] && i % 2)
            assert_float_equal(x[i]->grad[0], weights[i], 1e-6);
        else if (x[i])
            assert_null(x[i]->grad);
    kv_tape_free(tape);
}

typedef struct l1_shape {
    int64_t m, cols;
    const uint8_t *keep;
    double n_kept;
} l1_shape;

static kv_tensor *l1_run(kv_tape *tape, const numeric_operand *in, const void *context) {
    const l1_shape *s = context;
    return kv_l1_loss(tape, in[0].tensor, in[1].tensor, s->keep, s->n_kept);
}

static void l1_reference(const double *const *in, const void *context, double *out) {
    const l1_shape *s = context;
    out[0] = ref_l1_loss(s->m, s->cols, in[0], in[1], s->keep, s->n_kept);
}

static void check_l1(const char *name, l1_shape s) {
    numeric_check(&(numeric_case){
        .name = name,
        .leaves = {{"x", NUMERIC_TENSOR, s.m, s.cols},
                   {"target", NUMERIC_TENSOR, s.m, s.cols, .frozen = true}},
        .out_rows = 1,
        .out_cols = 1,
        .run = l1_run,
        .reference = l1_reference,
        .context = &s,
    });
}

static void test_l1_loss(void **state) {
    (void)state;
    const uint8_t some[7] = {1, 0, 1, 1, 0, 0, 1}, none[7] = {0};
    uint8_t many[COUNT_MAX];
    for (int i = 0; i < COUNT_MAX; i++) many[i] = (uint8_t)(i % 3 != 1);
    check_l1("l1, one element", (l1_shape){1, 1, some, 1});
    check_l1("l1, masked rows", (l1_shape){7, 5, some, 4});
    check_l1("l1, part of a larger step", (l1_shape){7, 5, some, 31});
    check_l1("l1, nothing kept here", (l1_shape){7, 5, none, 31});
    check_l1("l1, many rows", (l1_shape){COUNT_MAX, 33, many, 341});
}

// A target that itself depends on trainable weights still gets none; left-out rows may hold anything.
static void test_l1_loss_target_and_left_out_rows(void **state) {
    (void)state;
    const uint8_t keep[3] = {1, 0, 1};
    kv_tape *tape = kv_tape_create();
    kv_tensor *x = kv_tape_tensor(tape, 3, 2), *target = kv_tape_tensor(tape, 3, 2);
    test_fill(x->data, 6, 1, 1);
    test_fill(target->data, 6, 2, 1);
    x->data[2] = target->data[3] = NAN;
    x->wants_grad = target->wants_grad = true;
    kv_tensor *loss = kv_l1_loss(tape, x, target, keep, 2);
    assert_true(isfinite(loss->data[0]));
    assert_int_equal(kv_tape_backward(tape, loss, NULL), KV_OK);
    assert_null(target->grad);
    for (int i = 0; i < 6; i++) {
        const float sign = x->data[i] > target->data[i] ? 1.0f : -1.0f;
        assert_true(x->grad[i] == (i / 2 == 1 ? 0 : sign / 4));
    }
    kv_tape_free(tape);
}

// ---- Rules all operators share
// -------------------------------------------------------------------------------------

// y = linear(x) + x, and the same weight at work in two places.
static kv_tensor *reuse_run(kv_tape *tape, const numeric_operand *in, const void *context) {
    (void)context;
    kv_tensor *h = kv_add(tape, in[0].tensor, kv_linear(tape, in[0].tensor, in[1].param, in[2].param));
    h = kv_rmsnorm(tape, h, in[3].param, 1e-6f);
    return kv_add(tape, kv_swiglu(tape, h, in[0].tensor), kv_linear(tape, h, in[1].param, in[2].param));
}

static void reuse_reference(const double *const *in, const void *context, double *out) {
    const int64_t m = *(const int64_t *)context, dim = 6, n = m * dim;
    double *h = test_alloc(n, sizeof *h), *gated = test_alloc(n, sizeof *gated);
    ref_linear(m, dim, dim, in[0], in[1], in[2], h);
    for (int64_t i = 0; i < n; i++) h[i] += in[0][i];
    ref_rmsnorm(m, 1, dim, h, in[3], 1e-6, h);
    ref_swiglu(n, h, in[0], gated);
    ref_linear(m, dim, dim, h, in[1], in[2], out);
    for (int64_t i = 0; i < n; i++) out[i] += gated[i];
    free(h);
    free(gated);
}

static void test_gradients_accumulate_over_uses(void **state) {
    (void)state;
    const int64_t m = 5;
    for (int frozen = 0; frozen < 2; frozen++)
        numeric_check(&(numeric_case){
            .name = "a tensor and a weight used twice",
            .leaves = {{"x", NUMERIC_TENSOR, m, 6},
                       {"w", NUMERIC_PARAM, 6, 6, .frozen = frozen},
                       {"bias", NUMERIC_PARAM, 1, 6, .frozen = frozen},
                       {"norm", NUMERIC_PARAM, 1, 6, .frozen = frozen}},
            .out_rows = m,
            .out_cols = 6,
            .run = reuse_run,
            .reference = reuse_reference,
            .context = &m,
        });
}

// Two halves of a batch, backward after each, leave the gradient of the whole batch.
static void test_micro_batches_add(void **state) {
    (void)state;
    kv_param table = test_param("table", 9, 4, KV_F32, true), w = test_param("w", 3, 4, KV_F32, true);
    test_fill(table.data, 36, 1, 1);
    test_fill(w.data, 12, 2, 1);
    const int32_t ids[6] = {1, 5, 1, 8, 0, 5};
    const uint8_t keep[6] = {1, 1, 0, 1, 1, 1};
    float whole[48], target[18];
    test_fill(target, 18, 3, 2);
    kv_tape *tape = kv_tape_create();
    for (int n_parts = 1; n_parts <= 3; n_parts++) {
        memset(table.grad, 0, 36 * sizeof(float));
        memset(w.grad, 0, 12 * sizeof(float));
        const int rows = 6 / n_parts;
        for (int part = 0; part < n_parts; part++) {
            kv_tape_reset(tape);
            kv_tensor *x = kv_linear(tape, kv_embedding(tape, &table, ids + part * rows, rows), &w, NULL);
            kv_tensor *wanted = kv_tape_view(tape, target + part * rows * 3, rows, 3);
            kv_tensor *loss = kv_l1_loss(tape, x, wanted, keep + part * rows, 5);
            assert_int_equal(kv_tape_backward(tape, loss, NULL), KV_OK);
        }
        for (int i = 0; i < 48; i++) {
            const float grad = i < 36 ? table.grad[i] : w.grad[i - 36];
            if (n_parts == 1) whole[i] = grad;
            assert_float_equal(grad, whole[i], 1e-6);
        }
    }
    kv_tape_free(tape);
    test_param_free(&table);
    test_param_free(&w);
}

static void test_failure_is_sticky(void **state) {
    (void)state;
    kv_param table = test_param("table", 3, 2, KV_F32, true), w = test_param("w", 2, 2, KV_F32, true);
    kv_param norm = test_param("norm", 1, 2, KV_F32, true);
    const int32_t bad[2] = {0, 3}, worse[1] = {-9};
    const int64_t rows[1] = {0};
    const uint8_t keep[2] = {1, 1};
    kv_tape *tape = kv_tape_create();
    kv_tensor *good = kv_embedding(tape, &table, (const int32_t[]){1, 2}, 2);
    kv_tensor *none = kv_embedding(tape, &table, bad, 2);
    assert_non_null(good);
    assert_null(none);
    assert_null(kv_linear(tape, none, &w, NULL));
    assert_null(kv_rmsnorm(tape, none, &norm, 1e-6f));
    assert_null(kv_add(tape, good, none));
    assert_null(kv_add(tape, none, good));
    assert_null(kv_swiglu(tape, good, none));
    assert_null(kv_swiglu(tape, none, good));
    assert_null(kv_gather_rows(tape, none, rows, 1));
    assert_null(kv_l1_loss(tape, none, good, keep, 2));
    assert_null(kv_embedding(tape, &table, worse, 1));
    kv_error status = {0}, err = {0};
    assert_int_equal(kv_tape_status(tape, &status), KV_ERR_RANGE);
    assert_non_null(strstr(status.message, "3"));
    assert_null(strstr(status.message, "-9")); // the first error stays
    assert_int_equal(kv_tape_backward(tape, none, &err), KV_ERR_RANGE);
    assert_string_equal(err.message, status.message);
    kv_tape_reset(tape);
    assert_int_equal(kv_tape_status(tape, &err), KV_OK);
    assert_non_null(kv_embedding(tape, &table, (const int32_t[]){1}, 1));
    kv_tape_free(tape);
    test_param_free(&table);
    test_param_free(&w);
    test_param_free(&norm);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_linear_shapes),
        cmocka_unit_test(test_linear_frozen),
        cmocka_unit_test(test_linear_half_weights),
        cmocka_unit_test(test_embedding),
        cmocka_unit_test(test_embedding_out_of_range),
        cmocka_unit_test(test_rmsnorm),
        cmocka_unit_test(test_rmsnorm_of_zeros),
        cmocka_unit_test(test_swiglu),
        cmocka_unit_test(test_swiglu_far_out),
        cmocka_unit_test(test_add),
        cmocka_unit_test(test_gather_rows),
        cmocka_unit_test(test_weighted_sum),
        cmocka_unit_test(test_weighted_sum_of_many),
        cmocka_unit_test(test_l1_loss),
        cmocka_unit_test(test_l1_loss_target_and_left_out_rows),
        cmocka_unit_test(test_gradients_accumulate_over_uses),
        cmocka_unit_test(test_micro_batches_add),
        cmocka_unit_test(test_failure_is_sticky),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

// Every small operator against its double-precision loop (see numeric.h).
#include "core/ops.h"
#include "tests/support/numbers/numeric.h"
#include "tests/support/numbers/reference.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { COUNT_MAX = 512 };

static int64_t larger(int64_t a, int64_t b) {
    return a > b ? a : b;
}

// ---- embedding -----------------------------------------------------------------------------------------

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
        .terms = l->n,
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

// ---- rmsnorm -------------------------------------------------------------------------------------------

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
        .terms = larger(s.width, s.m * s.groups),
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
        // dy/dx = w / sqrt(eps) = 2000: a root, a quotient and three products, of a 1e-6 that is a float
        const double expected = 2 / sqrt((double)1e-6f) * numeric_dot_weight(0, i);
        expect_float("gradient at 0", (double)x->grad[i], expected, 6, expected);
        assert_true(w.grad[i] == 0);
    }
    kv_tape_free(tape);
    test_param_free(&w);
}

// ---- silu, swiglu, add, gather_rows --------------------------------------------------------------------

static kv_tensor *silu_run(kv_tape *tape, const numeric_operand *in, const void *context) {
    (void)context;
    return kv_silu(tape, in[0].tensor);
}

static void silu_reference(const double *const *in, const void *context, double *out) {
    for (int64_t i = 0; i < *(const int64_t *)context; i++) out[i] = in[0][i] / (1 + exp(-in[0][i]));
}

static void test_silu(void **state) {
    (void)state;
    const int64_t shapes[][2] = {{1, 1}, {3, 7}, {65, 130}};
    for (int s = 0; s < 3; s++) {
        const int64_t rows = shapes[s][0], cols = shapes[s][1], n = rows * cols;
        numeric_check(&(numeric_case){
            .name = "silu",
            .leaves = {{"x", NUMERIC_TENSOR, rows, cols, .scale = 6}},
            .out_rows = rows,
            .out_cols = cols,
            .run = silu_run,
            .reference = silu_reference,
            .context = &n,
        });
    }
}

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
        // e^a is cut off at a = -88, which leaves |a| e^-88 of what should be less; the rest is a few
        // operations.
        const double a = (double)far[i], silu = a > 0 ? a : 0, c = numeric_dot_weight(0, i),
                     left = 1.01 * fabs(a) * exp(-88);
        rounding_expect("silu", (double)y->data[i], silu, rounding_bound(6, silu) + left);
        rounding_expect("its gradient", (double)gate->grad[i], a > 0 ? c : 0,
                        rounding_bound(8, a > 0 ? c : 0) + left * fabs(c));
        rounding_expect("up's gradient", (double)up->grad[i], silu * c,
                        rounding_bound(7, silu * c) + left * fabs(c));
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
        .leaves = {{"a", NUMERIC_TENSOR, 3, 35, .frozen = false}},
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
        .leaves = {{"x", NUMERIC_TENSOR, rows, l->dim, .frozen = false}},
        .out_rows = l->n,
        .out_cols = l->dim,
        .run = gather_run,
        .reference = gather_reference,
        .context = l,
        .terms = l->n,
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

// ---- concat --------------------------------------------------------------------------------------------

static kv_tensor *concat_run(kv_tape *tape, const numeric_operand *in, const void *context) {
    (void)context;
    return kv_concat(tape, (kv_tensor *const[]){in[0].tensor, in[1].tensor}, 2, 1);
}

// context: rows, columns of both.
static void concat_reference(const double *const *in, const void *context, double *out) {
    const int64_t *shape = context, width = shape[1] + shape[2];
    for (int64_t i = 0; i < shape[0]; i++)
        for (int64_t j = 0; j < width; j++)
            out[i * width + j] = j < shape[1] ? in[0][i * shape[1] + j] : in[1][i * shape[2] + j - shape[1]];
}

static void test_concat(void **state) {
    (void)state;
    const int64_t shapes[][3] = {{1, 1, 1}, {3, 2, 5}, {70, 130, 128}};
    for (int s = 0; s < 3; s++)
        for (int frozen = 0; frozen < 4; frozen++)
            numeric_check(&(numeric_case){
                .name = "concat",
                .leaves = {{"a", NUMERIC_TENSOR, shapes[s][0], shapes[s][1], .frozen = frozen & 1},
                           {"b", NUMERIC_TENSOR, shapes[s][0], shapes[s][2], .frozen = frozen & 2}},
                .out_rows = shapes[s][0],
                .out_cols = shapes[s][1] + shapes[s][2],
                .run = concat_run,
                .reference = concat_reference,
                .context = shapes[s],
            });
}

// ---- Rotation ------------------------------------------------------------------------------------------

static void test_rope_turn(void **state) {
    (void)state;
    const int64_t dim = 6;
    const double inv_freq[3] = {1, 0.1, 0.003};
    kv_rope *rope = kv_rope_create(dim, 500, inv_freq);
    assert_non_null(rope);
    for (int64_t position = 0; position < 500; position += 71) {
        float x[6], turned[6], back[6];
        test_fill(x, 6, (uint64_t)position, 1);
        kv_rope_turn(rope, position, false, x, turned);
        for (int i = 0; i < 3; i++) {
            const double c = cos((double)position * inv_freq[i]), s = sin((double)position * inv_freq[i]);
            const double a = (double)x[i], b = (double)x[i + 3];
            // Each a rounded cosine or sine, a product and a sum.
            expect_float("turned", (double)turned[i], a * c - b * s, 3, fabs(a * c) + fabs(b * s));
            expect_float("turned", (double)turned[i + 3], b * c + a * s, 3, fabs(b * c) + fabs(a * s));
        }
        kv_rope_turn(rope, position, true, turned, back);
        for (int i = 0; i < 6; i++) // twice as much, of numbers no larger than the two that are turned
            expect_float("turned back", (double)back[i], (double)x[i], 6,
                         fabs((double)x[i % 3]) + fabs((double)x[i % 3 + 3]));
        kv_rope_turn(rope, position, false, x, x); // in place
        assert_memory_equal(x, turned, sizeof x);
    }
    kv_rope_free(rope);
    kv_rope_free(NULL);
}

// A long context costs what is used of it, and what is added later is what would have been there at once.
static void test_rope_reach(void **state) {
    (void)state;
    enum { LONG = 131072, HALF = 4 };
    const double inv_freq[HALF] = {1, 0.1, 0.003, 0.00001};
    const int64_t reached[] = {1, 4096, 4097, 20000, 20000, 100, LONG - 1, LONG};
    kv_rope *rope = kv_rope_create(2 * HALF, LONG, inv_freq);
    assert_non_null(rope);
    assert_true(rope->n_ready < LONG / 16);
    for (size_t r = 0; r < sizeof reached / sizeof *reached; r++) {
        const int64_t before = rope->n_ready;
        assert_true(kv_rope_reach(rope, reached[r]));
        assert_true(rope->n_ready >= reached[r] && rope->n_ready >= before && rope->n_ready <= LONG);
        assert_true(reached[r] <= before ? rope->n_ready == before : true);
        for (int64_t i = 0; i < HALF; i++)
            for (int64_t p = reached[r] - 1; p >= 0; p -= 997) {
                const double angle = (double)p * inv_freq[i];
                assert_true(rope->cos[p * HALF + i] == (float)cos(angle));
                assert_true(rope->sin[p * HALF + i] == (float)sin(angle));
            }
    }
    kv_rope_free(rope);
    rope = kv_rope_create(2 * HALF, 77, inv_freq);
    assert_non_null(rope);
    assert_int_equal(rope->n_ready, 77);
    kv_rope_free(rope);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_embedding),      cmocka_unit_test(test_embedding_out_of_range),
        cmocka_unit_test(test_rmsnorm),        cmocka_unit_test(test_rmsnorm_of_zeros),
        cmocka_unit_test(test_silu),           cmocka_unit_test(test_swiglu),
        cmocka_unit_test(test_swiglu_far_out), cmocka_unit_test(test_add),
        cmocka_unit_test(test_gather_rows),    cmocka_unit_test(test_concat),
        cmocka_unit_test(test_rope_turn),      cmocka_unit_test(test_rope_reach),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

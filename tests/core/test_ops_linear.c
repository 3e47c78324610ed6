// Products with weights, of one, of several that read the same, and onto a residual, against double-precision loops.
#include "core/ops.h"
#include "tests/support/numbers/numeric.h"
#include "tests/support/numbers/reference.h"

#include <stdio.h>
#include <string.h>

static int64_t larger(int64_t a, int64_t b) {
    return a > b ? a : b;
}

// ---- One weight ----------------------------------------------------------------------------------------

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
        .terms = larger(s.m, larger(s.in, s.out)),
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

// ---- Several weights -----------------------------------------------------------------------------------

enum { MANY_IN = 7, MANY_ROWS = 5 };
static const int64_t many_out[] = {4, 9, 3};

// Outputs side by side; `used` says which of them anybody reads. The first has a bias, fixed with the second weight.
typedef struct many_shape {
    bool used[3], fixed[3], fixed_x;
} many_shape;

static kv_tensor *many_run(kv_tape *tape, const numeric_operand *in, const void *context) {
    const many_shape *s = context;
    kv_tensor *y[3], *used[3];
    int n = 0;
    if (!kv_linear_many(tape, in[0].tensor, (kv_param *[]){in[1].param, in[2].param, in[3].param},
                        (kv_param *[]){in[4].param, NULL, NULL}, 3, y))
        return NULL;
    for (int i = 0; i < 3; i++)
        if (s->used[i]) used[n++] = y[i];
    return kv_concat(tape, used, n, 1);
}

static int64_t many_width(const many_shape *s) {
    int64_t width = 0;
    for (int i = 0; i < 3; i++) width += s->used[i] ? many_out[i] : 0;
    return width;
}

static bool many_trains(const many_shape *s) {
    bool trains = !s->fixed_x || (s->used[0] && !s->fixed[1]);
    for (int i = 0; i < 3; i++) trains = trains || (s->used[i] && !s->fixed[i]);
    return trains;
}

static void many_reference(const double *const *in, const void *context, double *out) {
    const many_shape *s = context;
    const int64_t width = many_width(s);
    int64_t first = 0;
    for (int i = 0; i < 3; i++) {
        double y[MANY_ROWS * 9];
        if (!s->used[i]) continue;
        ref_linear(MANY_ROWS, many_out[i], MANY_IN, in[0], in[1 + i], i == 0 ? in[4] : NULL, y);
        for (int64_t r = 0; r < MANY_ROWS; r++)
            memcpy(out + r * width + first, y + r * many_out[i], (size_t)many_out[i] * sizeof *out);
        first += many_out[i];
    }
}

static void test_many(void **state) {
    (void)state;
    for (int mask = 0; mask < 7 * 16; mask++) {
        const int used = mask % 7 + 1, fixed = mask / 7;
        const many_shape s = {.used = {used & 1, used & 2, used & 4},
                              .fixed = {fixed & 1, fixed & 2, fixed & 4},
                              .fixed_x = fixed & 8};
        char name[64];
        snprintf(name, sizeof name, "several weights, used %d, fixed %d", used, fixed);
        numeric_check(&(numeric_case){
            .name = name,
            .leaves = {{"x", NUMERIC_TENSOR, MANY_ROWS, MANY_IN, .frozen = s.fixed_x},
                       {"w0", NUMERIC_PARAM, many_out[0], MANY_IN, .frozen = s.fixed[0]},
                       {"w1", NUMERIC_PARAM, many_out[1], MANY_IN, .frozen = s.fixed[1]},
                       {"w2", NUMERIC_PARAM, many_out[2], MANY_IN, .frozen = s.fixed[2]},
                       {"bias", NUMERIC_PARAM, 1, many_out[0], .frozen = s.fixed[1]}},
            .out_rows = MANY_ROWS,
            .out_cols = many_width(&s),
            .run = many_run,
            .reference = many_reference,
            .context = &s,
            .terms = 16,
            .forward_only = !many_trains(&s),
        });
    }
}

// Each output is what a product of its own would be, bit by bit; only what is trained wants a gradient.
static void test_many_are_each_alone(void **state) {
    (void)state;
    kv_param w[3];
    kv_tensor *y[3];
    kv_tape *tape = kv_tape_create();
    kv_tensor *x = kv_tape_tensor(tape, MANY_ROWS, MANY_IN);
    test_fill(x->data, MANY_ROWS * MANY_IN, 3, 1);
    for (int i = 0; i < 3; i++) w[i] = test_param("w", many_out[i], MANY_IN, KV_F32, i == 1);
    for (int wants = 0; wants < 2; wants++) {
        x->wants_grad = wants;
        assert_true(kv_linear_many(tape, x, (kv_param *[]){&w[0], &w[1], &w[2]}, NULL, 3, y));
        for (int i = 0; i < 3; i++) {
            const kv_tensor *alone = kv_linear(tape, x, &w[i], NULL);
            assert_true(y[i]->wants_grad == alone->wants_grad);
            assert_memory_equal(y[i]->data, alone->data, (size_t)(MANY_ROWS * many_out[i]) * sizeof(float));
        }
    }
    assert_false(kv_linear_many(tape, NULL, (kv_param *[]){&w[0]}, NULL, 1, y));
    assert_null(y[0]);
    for (int i = 0; i < 3; i++) test_param_free(&w[i]);
    kv_tape_free(tape);
}

// ---- Onto a residual -----------------------------------------------------------------------------------

typedef struct onto_shape {
    int64_t m, in, out;
    bool fixed_residual, fixed_x, fixed_w, again; // again: the residual is read a second time
} onto_shape;

static kv_tensor *onto_run(kv_tape *tape, const numeric_operand *in, const void *context) {
    const onto_shape *s = context;
    kv_tensor *y = kv_linear_onto(tape, in[0].tensor, in[1].tensor, in[2].param);
    return s->again ? kv_add(tape, in[0].tensor, y) : y;
}

static void onto_reference(const double *const *in, const void *context, double *out) {
    const onto_shape *s = context;
    ref_linear(s->m, s->out, s->in, in[1], in[2], NULL, out);
    for (int64_t i = 0; i < s->m * s->out; i++) out[i] += (s->again ? 2 : 1) * in[0][i];
}

static void test_onto(void **state) {
    (void)state;
    for (int mask = 0; mask < 32; mask++) {
        const onto_shape s = {.m = mask < 16 ? 1 : 6,
                              .in = 5,
                              .out = 18,
                              .fixed_residual = mask & 1,
                              .fixed_x = mask & 2,
                              .fixed_w = mask & 4,
                              .again = mask & 8};
        numeric_check(&(numeric_case){
            .name = "onto a residual",
            .leaves = {{"residual", NUMERIC_TENSOR, s.m, s.out, .frozen = s.fixed_residual},
                       {"x", NUMERIC_TENSOR, s.m, s.in, .frozen = s.fixed_x},
                       {"w", NUMERIC_PARAM, s.out, s.in, .frozen = s.fixed_w}},
            .out_rows = s.m,
            .out_cols = s.out,
            .run = onto_run,
            .reference = onto_reference,
            .context = &s,
            .terms = 18,
            .forward_only = (mask & 7) == 7,
        });
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_linear_shapes),       cmocka_unit_test(test_linear_frozen),
        cmocka_unit_test(test_linear_half_weights), cmocka_unit_test(test_many),
        cmocka_unit_test(test_many_are_each_alone), cmocka_unit_test(test_onto),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

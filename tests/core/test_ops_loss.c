// The small scalar operators against double precision: weighted sums, the masked L1 and mean of squares.
#include "core/ops.h"
#include "tests/support/numbers/numeric.h"
#include "tests/support/numbers/reference.h"

#include <math.h>

enum { COUNT_MAX = 512 };

// ---- weighted_sum, l1_loss -----------------------------------------------------------------------------

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
    double expected = 0, size = 0;
    for (int i = 0; i < TERMS; i++) {
        weights[i] = (float)(i % 7) - 2;
        x[i] = i % 5 == 3 ? NULL : kv_tape_tensor(tape, 1, 1);
        if (!x[i]) continue;
        x[i]->data[0] = (float)i;
        x[i]->wants_grad = i % 2;
        expected += (double)weights[i] * i;
        size += fabs((double)weights[i] * i);
    }
    kv_tensor *y = kv_weighted_sum(tape, x, weights, TERMS);
    expect_float("weighted sum", (double)y->data[0], expected, TERMS, size);
    assert_int_equal(kv_tape_backward(tape, y, NULL), KV_OK);
    for (int i = 0; i < TERMS; i++)
        if (x[i] && i % 2)
            assert_true(x[i]->grad[0] == weights[i]); // times 1
        else if (x[i])
            assert_null(x[i]->grad);
    kv_tape_free(tape);
}

typedef struct l1_shape {
    int64_t m, cols;
    const uint8_t *keep;
    double n_kept;
    bool squares; // mse_loss
} l1_shape;

static kv_tensor *l1_run(kv_tape *tape, const numeric_operand *in, const void *context) {
    const l1_shape *s = context;
    return (s->squares ? kv_mse_loss : kv_l1_loss)(tape, in[0].tensor, in[1].tensor, s->keep, s->n_kept);
}

static void l1_reference(const double *const *in, const void *context, double *out) {
    const l1_shape *s = context;
    out[0] = (s->squares ? ref_mse_loss : ref_l1_loss)(s->m, s->cols, in[0], in[1], s->keep, s->n_kept);
}

static void check_l1(const char *name, l1_shape s) {
    numeric_check(&(numeric_case){
        .name = name,
        .leaves = {{"x", NUMERIC_TENSOR, s.m, s.cols, .frozen = false},
                   {"target", NUMERIC_TENSOR, s.m, s.cols, .frozen = true}},
        .out_rows = 1,
        .out_cols = 1,
        .run = l1_run,
        .reference = l1_reference,
        .context = &s,
        .terms = s.cols,
    });
}

static void test_l1_and_mse_loss(void **state) {
    (void)state;
    const uint8_t some[7] = {1, 0, 1, 1, 0, 0, 1}, none[7] = {0};
    uint8_t many[COUNT_MAX];
    for (int i = 0; i < COUNT_MAX; i++) many[i] = (uint8_t)(i % 3 != 1);
    for (int squares = 0; squares < 2; squares++) {
        check_l1("one element", (l1_shape){1, 1, some, 1, squares});
        check_l1("masked rows", (l1_shape){7, 5, some, 4, squares});
        check_l1("part of a larger step", (l1_shape){7, 5, some, 31, squares});
        check_l1("nothing kept here", (l1_shape){7, 5, none, 31, squares});
        check_l1("many rows", (l1_shape){COUNT_MAX, 33, many, 341, squares});
    }
}

// A target that itself depends on trainable weights still gets none; left-out rows may hold anything.
static void test_target_and_left_out_rows(void **state) {
    (void)state;
    const uint8_t keep[3] = {1, 0, 1};
    for (int squares = 0; squares < 2; squares++) {
        kv_tape *tape = kv_tape_create();
        kv_tensor *x = kv_tape_tensor(tape, 3, 2), *target = kv_tape_tensor(tape, 3, 2);
        test_fill(x->data, 6, 1, 1);
        test_fill(target->data, 6, 2, 1);
        x->data[2] = target->data[3] = NAN;
        x->data[3] = INFINITY;
        x->wants_grad = target->wants_grad = true;
        kv_tensor *loss = (squares ? kv_mse_loss : kv_l1_loss)(tape, x, target, keep, 2);
        assert_true(isfinite(loss->data[0]));
        assert_int_equal(kv_tape_backward(tape, loss, NULL), KV_OK);
        assert_null(target->grad);
        for (int i = 0; i < 6; i++) {
            const float away = x->data[i] - target->data[i], slope = squares ? 2 * away : away > 0 ? 1 : -1;
            assert_true(x->grad[i] == (i / 2 == 1 ? 0 : slope / 4));
        }
        kv_tape_free(tape);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_weighted_sum),
        cmocka_unit_test(test_weighted_sum_of_many),
        cmocka_unit_test(test_l1_and_mse_loss),
        cmocka_unit_test(test_target_and_left_out_rows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

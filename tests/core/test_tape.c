// What all operators and the tape promise together: gradients add up, failure is sticky, recording can be
// off.
#include "core/ops.h"
#include "tests/support/numbers/numeric.h"
#include "tests/support/numbers/reference.h"

#include <stdlib.h>
#include <string.h>

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
            .leaves = {{"x", NUMERIC_TENSOR, m, 6, .frozen = false},
                       {"w", NUMERIC_PARAM, 6, 6, .frozen = frozen},
                       {"bias", NUMERIC_PARAM, 1, 6, .frozen = frozen},
                       {"norm", NUMERIC_PARAM, 1, 6, .frozen = frozen}},
            .out_rows = m,
            .out_cols = 6,
            .run = reuse_run,
            .reference = reuse_reference,
            .context = &m,
            .terms = 12, // 6 columns, two uses
        });
}

// Gradients of a small step in so many parts.
struct parts {
    int n;
    kv_tape *tape;
    kv_param table, w;
    float target[18];
};

enum { PARTS_RESULTS = 36 + 1 + 12 + 1 };

static void parts_results(const void *context, double *results) {
    const struct parts *p = context;
    static const int32_t ids[6] = {1, 5, 1, 8, 0, 5};
    static const uint8_t keep[6] = {1, 1, 0, 1, 1, 1};
    kv_param table = p->table, w = p->w;
    memset(table.grad, 0, 36 * sizeof(float));
    memset(w.grad, 0, 12 * sizeof(float));
    const int rows = 6 / p->n;
    for (int part = 0; part < p->n; part++) {
        kv_tape_reset(p->tape);
        kv_tensor *x = kv_linear(p->tape, kv_embedding(p->tape, &table, ids + part * rows, rows), &w, NULL);
        kv_tensor *wanted = kv_tape_view(p->tape, (float *)(uintptr_t)p->target + part * rows * 3, rows, 3);
        kv_tensor *loss = kv_l1_loss(p->tape, x, wanted, keep + part * rows, 5);
        assert_int_equal(kv_tape_backward(p->tape, loss, NULL), KV_OK);
    }
    numeric_gradient_results(w.grad, 12, numeric_gradient_results(table.grad, 36, results));
}

// Parts of a batch, backward after each, leave the gradient of the whole batch.
static void test_micro_batches_add(void **state) {
    (void)state;
    struct parts p = {1,
                      kv_tape_create(),
                      test_param("table", 9, 4, KV_F32, true),
                      test_param("w", 3, 4, KV_F32, true),
                      {0}};
    kv_param *params[] = {&p.table, &p.w};
    rounding_operands operands = {0};
    double found[PARTS_RESULTS];
    test_fill(p.table.data, 36, 1, 1);
    test_fill(p.w.data, 12, 2, 1);
    test_fill(p.target, 18, 3, 2);
    rounding_add_params(&operands, params, 2);
    rounding_spread spread = rounding_measure(&operands, 6, parts_results, &p, PARTS_RESULTS);
    numeric_allow_sums(&spread, numeric_allow_sums(&spread, 0, 36), 12);
    for (p.n = 2; p.n <= 3; p.n++) {
        parts_results(&p, found);
        rounding_compare_results("gradients in parts", found, spread.expected, &spread);
    }
    rounding_operands_free(&operands);
    rounding_spread_free(&spread);
    kv_tape_free(p.tape);
    test_param_free(&p.table);
    test_param_free(&p.w);
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
        cmocka_unit_test(test_gradients_accumulate_over_uses),
        cmocka_unit_test(test_micro_batches_add),
        cmocka_unit_test(test_failure_is_sticky),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

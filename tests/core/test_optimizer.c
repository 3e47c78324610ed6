// AdamW step by step against double precision, each group at its rate, clipping, and the corners of the learning-rate schedule.
#include "core/optimizer.h"
#include "tests/support/numbers/adamw.h"
#include "tests/support/numbers/rounding.h"
#include "tests/support/support.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { STEPS = 12 };

static void check_adamw(kv_adamw_args args, double grad_size) {
    const int64_t shapes[3][2] = {{5, 7}, {1, 9}, {300, 70}};
    kv_param param[3], *params[3];
    adamw_twin twins[3];
    for (int p = 0; p < 3; p++) {
        param[p] = test_param("w", shapes[p][0], shapes[p][1], KV_F32, true);
        param[p].decay = p != 1;
        param[p].group = (kv_group)(KV_N_GROUPS - 1 - p);
        params[p] = &param[p];
        test_fill(param[p].data, kv_param_size(&param[p]), 10 + (uint64_t)p, 1);
        twins[p] = adamw_twin_make(param[p].data, kv_param_size(&param[p]));
    }
    kv_adamw *optimizer;
    kv_error err = {0};
    assert_int_equal(kv_adamw_create(params, 3, &args, &optimizer, &err), KV_OK);
    assert_int_equal(optimizer->step, 0);
    for (int step = 1; step <= STEPS; step++) {
        const double scale = step % 3 == 0 ? 0.25 : 1;
        kv_rates rates;
        for (int group = 0; group < KV_N_GROUPS; group++) rates.of[group] = (1 + group) * 1e-2 / step;
        for (int p = 0; p < 3; p++) {
            test_fill(param[p].grad, twins[p].n, 100 * (uint64_t)step + (uint64_t)p, grad_size);
            param[p].grad[0] = 0; // a weight that never gets a gradient: 0 / (0 + eps)
            adamw_twin_step(&twins[p], param[p].grad, NULL, &args, param[p].decay, rates.of[param[p].group],
                            scale, step);
        }
        kv_adamw_step(optimizer, rates, scale);
        assert_int_equal(optimizer->step, step);
        for (int p = 0; p < 3; p++)
            for (int64_t i = 0; i < twins[p].n; i++) {
                assert_true(isfinite(twins[p].p_off[i]));
                rounding_expect("weight", (double)((float *)param[p].data)[i], twins[p].p[i],
                                twins[p].p_off[i]);
            }
    }
    kv_adamw_free(optimizer);
    for (int p = 0; p < 3; p++) {
        test_param_free(&param[p]);
        adamw_twin_free(&twins[p]);
    }
}

static void test_adamw(void **state) {
    (void)state;
    check_adamw((kv_adamw_args){.beta1 = 0.9f, .beta2 = 0.95f, .eps = 1e-8f, .weight_decay = 0.1f}, 1);
    check_adamw((kv_adamw_args){.beta1 = 0.9f, .beta2 = 0.999f, .eps = 1e-8f, .weight_decay = 0}, 1e-3);
    check_adamw((kv_adamw_args){.beta1 = 0, .beta2 = 0.9f, .eps = 1e-3f, .weight_decay = 0.5f}, 1e-2);
}

static void test_one_rate_for_all(void **state) {
    (void)state;
    const kv_rates rates = kv_same_rate(0.25);
    for (int group = 0; group < KV_N_GROUPS; group++) assert_true(rates.of[group] == 0.25);
}

static void test_adamw_refuses_frozen_parameters(void **state) {
    (void)state;
    kv_param free_one = test_param("free", 2, 2, KV_F32, true),
             frozen = test_param("frozen", 2, 2, KV_F32, false);
    kv_adamw *optimizer = NULL;
    kv_error err = {0};
    const kv_adamw_args args = {.beta1 = 0.9f, .beta2 = 0.95f, .eps = 1e-8f};
    assert_int_equal(kv_adamw_create((kv_param *[]){&free_one, &frozen}, 2, &args, &optimizer, &err),
                     KV_ERR_ARGUMENT);
    assert_null(optimizer);
    assert_non_null(strstr(err.message, "frozen"));
    kv_adamw_free(NULL);
    test_param_free(&free_one);
    test_param_free(&frozen);
}

static void test_grad_norm_and_clip(void **state) {
    (void)state;
    kv_param a = test_param("a", 40, 50, KV_F32, true), b = test_param("b", 1, 3, KV_F32, true);
    kv_param *params[] = {&a, &b};
    double squares = 0;
    test_fill(a.grad, 2000, 1, 1);
    test_fill(b.grad, 3, 2, 1e3);
    for (int i = 0; i < 2000; i++) squares += (double)a.grad[i] * (double)a.grad[i];
    for (int i = 0; i < 3; i++) squares += (double)b.grad[i] * (double)b.grad[i];
    const double norm = kv_grad_norm(params, 2);
    expect_double("norm", norm, sqrt(squares), 2003,
                  norm); // squares are positive: their sum's error is part of it
    assert_true(kv_grad_norm(params, 2) == norm);
    assert_true(kv_clip_scale(norm, 0) == 1);
    assert_true(kv_clip_scale(0.5, 1) == 1);
    assert_true(kv_clip_scale(0, 1) == 1);
    // PyTorch divides by norm + 1e-6; both are at most the bound.
    assert_true(kv_clip_scale(4, 1) * 4 <= 1 + rounding_bound_double(3, 1));
    expect_double("clipped", kv_clip_scale(4, 1) * 4, 4 / (4 + 1e-6), 3, 1);
    expect_double("clipped", kv_clip_scale(norm, 2) * norm, 2 * norm / (norm + 1e-6), 3, 2);
    kv_grad_zero(params, 2);
    assert_true(kv_grad_norm(params, 2) == 0);
    // Squares beyond float32, and none lost.
    a.grad[7] = 1e30f;
    expect_double("norm", kv_grad_norm(params, 2), (double)1e30f, 3, 1e30);
    test_param_free(&a);
    test_param_free(&b);
}

// A dozen operations in double precision, of numbers up to the peak.
static void expect_rate(const kv_schedule *s, int64_t step, double expected) {
    expect_double("learning rate", kv_schedule_at(s, step), expected, 12, s->peak);
}

static void test_schedule_corners(void **state) {
    (void)state;
    const kv_schedule s = {
        .peak = 1e-3, .warmup_init = 1e-6, .end = 1e-4, .warmup_steps = 100, .total_steps = 1100};
    expect_rate(&s, 0, 1e-6);
    expect_rate(&s, 50, (1e-6 + 1e-3) / 2);
    expect_rate(&s, 99, 1e-6 + 0.99 * (1e-3 - 1e-6));
    expect_rate(&s, 100, 1e-3);
    expect_rate(&s, 350, 1e-4 + 9e-4 * (1 + cos(acos(-1.0) / 4)) / 2);
    expect_rate(&s, 600, (1e-3 + 1e-4) / 2);
    expect_rate(&s, 1100, 1e-4);
    expect_rate(&s, 1000000, 1e-4);
    for (int64_t i = 1; i < 1200; i++) {
        const double before = kv_schedule_at(&s, i - 1), now = kv_schedule_at(&s, i);
        assert_true(i <= 100 ? now > before : now <= before);
    }
}

static void test_schedule_without_parts(void **state) {
    (void)state;
    const kv_schedule no_warmup = {
        .peak = 2, .warmup_init = 1, .end = 1, .warmup_steps = 0, .total_steps = 10};
    expect_rate(&no_warmup, 0, 2);
    expect_rate(&no_warmup, 10, 1);
    const kv_schedule only_warmup = {
        .peak = 2, .warmup_init = 1, .end = 0.5, .warmup_steps = 10, .total_steps = 10};
    expect_rate(&only_warmup, 5, 1.5);
    assert_true(isfinite(kv_schedule_at(&only_warmup, 10)));
    expect_rate(&only_warmup, 11, 0.5);
    const kv_schedule nothing = {.peak = 2, .end = 2};
    expect_rate(&nothing, 0, 2);
    expect_rate(&nothing, 3, 2);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_adamw),
        cmocka_unit_test(test_one_rate_for_all),
        cmocka_unit_test(test_adamw_refuses_frozen_parameters),
        cmocka_unit_test(test_grad_norm_and_clip),
        cmocka_unit_test(test_schedule_corners),
        cmocka_unit_test(test_schedule_without_parts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

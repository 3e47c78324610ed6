// AdamW step by step against double precision, clipping, and the corners of the learning-rate schedule.
#include "core/optimizer.h"
#include "tests/support/support.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { STEPS = 12 };

// What AdamW keeps of one parameter, in double.           [Loshchilov & Hutter 2019, algorithm 2]
typedef struct twin {
    int64_t n;
    double *p, *m, *v;
} twin;

static void twin_step(twin *t, const float *grad, const kv_adamw_args *a, bool decay, double lr, double scale,
                      int step) {
    const double b1 = (double)a->beta1, b2 = (double)a->beta2;
    for (int64_t i = 0; i < t->n; i++) {
        const double g = scale * (double)grad[i];
        t->m[i] = b1 * t->m[i] + (1 - b1) * g;
        t->v[i] = b2 * t->v[i] + (1 - b2) * g * g;
        const double m = t->m[i] / (1 - pow(b1, step)), v = t->v[i] / (1 - pow(b2, step));
        const double shrink = decay ? lr * (double)a->weight_decay * t->p[i] : 0;
        t->p[i] -= shrink + lr * m / (sqrt(v) + (double)a->eps);
    }
}

static void check_adamw(kv_adamw_args args, double grad_size) {
    const int64_t shapes[3][2] = {{5, 7}, {1, 9}, {300, 70}};
    kv_param param[3], *params[3];
    twin twins[3];
    for (int p = 0; p < 3; p++) {
        param[p] = test_param("w", shapes[p][0], shapes[p][1], KV_F32, true);
        param[p].decay = p != 1;
        params[p] = &param[p];
        const int64_t n = kv_param_size(&param[p]);
        test_fill(param[p].data, n, 10 + (uint64_t)p, 1);
        twins[p] = (twin){n, test_alloc(n, 8), test_alloc(n, 8), test_alloc(n, 8)};
        for (int64_t i = 0; i < n; i++) twins[p].p[i] = (double)((float *)param[p].data)[i];
    }
    kv_adamw *optimizer;
    kv_error err = {0};
    assert_int_equal(kv_adamw_create(params, 3, &args, &optimizer, &err), KV_OK);
    assert_int_equal(optimizer->step, 0);
    for (int step = 1; step <= STEPS; step++) {
        const double lr = 1e-2 / step, scale = step % 3 == 0 ? 0.25 : 1;
        for (int p = 0; p < 3; p++) {
            test_fill(param[p].grad, twins[p].n, 100 * (uint64_t)step + (uint64_t)p, grad_size);
            param[p].grad[0] = 0; // a weight that never gets a gradient: 0 / (0 + eps)
            twin_step(&twins[p], param[p].grad, &args, param[p].decay, lr, scale, step);
        }
        kv_adamw_step(optimizer, lr, scale);
        assert_int_equal(optimizer->step, step);
        for (int p = 0; p < 3; p++)
            for (int64_t i = 0; i < twins[p].n; i++)
                // Updates are of size lr; each leaves a rounding of the weight (6e-8) and of itself.
                assert_float_equal(((float *)param[p].data)[i], twins[p].p[i], 1.5e-7 * step + 1e-5 * 1e-2);
    }
    kv_adamw_free(optimizer);
    for (int p = 0; p < 3; p++) {
        test_param_free(&param[p]);
        free(twins[p].p);
        free(twins[p].m);
        free(twins[p].v);
    }
}

static void test_adamw(void **state) {
    (void)state;
    check_adamw((kv_adamw_args){.beta1 = 0.9f, .beta2 = 0.95f, .eps = 1e-8f, .weight_decay = 0.1f}, 1);
    check_adamw((kv_adamw_args){.beta1 = 0.9f, .beta2 = 0.999f, .eps = 1e-8f, .weight_decay = 0}, 1e-3);
    check_adamw((kv_adamw_args){.beta1 = 0, .beta2 = 0.9f, .eps = 1e-3f, .weight_decay = 0.5f}, 1e-2);
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
    assert_float_equal(norm, sqrt(squares), 1e-9 * norm);
    assert_true(kv_grad_norm(params, 2) == norm);
    assert_true(kv_clip_scale(norm, 0) == 1);
    assert_true(kv_clip_scale(0.5, 1) == 1);
    assert_true(kv_clip_scale(0, 1) == 1);
    // PyTorch divides by norm + 1e-6; both are at most the bound.
    assert_true(kv_clip_scale(4, 1) * 4 <= 1 + 1e-12);
    assert_float_equal(kv_clip_scale(4, 1) * 4, 1, 1e-6);
    assert_float_equal(kv_clip_scale(norm, 2) * norm, 2, 1e-6);
    kv_grad_zero(params, 2);
    assert_true(kv_grad_norm(params, 2) == 0);
    // Squares beyond float32, and none lost.
    a.grad[7] = 1e30f;
    assert_float_equal(kv_grad_norm(params, 2) / 1e30, 1, 1e-6);
    test_param_free(&a);
    test_param_free(&b);
}

static void test_schedule_corners(void **state) {
    (void)state;
    const kv_schedule s = {
        .peak = 1e-3, .warmup_init = 1e-6, .end = 1e-4, .warmup_steps = 100, .total_steps = 1100};
    assert_float_equal(kv_schedule_at(&s, 0), 1e-6, 1e-12);
    assert_float_equal(kv_schedule_at(&s, 50), (1e-6 + 1e-3) / 2, 1e-9);
    assert_float_equal(kv_schedule_at(&s, 99), 1e-6 + 0.99 * (1e-3 - 1e-6), 1e-12);
    assert_float_equal(kv_schedule_at(&s, 100), 1e-3, 1e-12);
    assert_float_equal(kv_schedule_at(&s, 350), 1e-4 + 9e-4 * (1 + cos(acos(-1.0) / 4)) / 2, 1e-9);
    assert_float_equal(kv_schedule_at(&s, 600), (1e-3 + 1e-4) / 2, 1e-9);
    assert_float_equal(kv_schedule_at(&s, 1100), 1e-4, 1e-12);
    assert_float_equal(kv_schedule_at(&s, 1000000), 1e-4, 1e-12);
    for (int64_t i = 1; i < 1200; i++) {
        const double before = kv_schedule_at(&s, i - 1), now = kv_schedule_at(&s, i);
        assert_true(i <= 100 ? now > before : now <= before);
    }
}

static void test_schedule_without_parts(void **state) {
    (void)state;
    const kv_schedule no_warmup = {
        .peak = 2, .warmup_init = 1, .end = 1, .warmup_steps = 0, .total_steps = 10};
    assert_float_equal(kv_schedule_at(&no_warmup, 0), 2, 1e-12);
    assert_float_equal(kv_schedule_at(&no_warmup, 10), 1, 1e-12);
    const kv_schedule only_warmup = {
        .peak = 2, .warmup_init = 1, .end = 0.5, .warmup_steps = 10, .total_steps = 10};
    assert_float_equal(kv_schedule_at(&only_warmup, 5), 1.5, 1e-12);
    assert_true(isfinite(kv_schedule_at(&only_warmup, 10)));
    assert_float_equal(kv_schedule_at(&only_warmup, 11), 0.5, 1e-12);
    const kv_schedule nothing = {.peak = 2, .end = 2};
    assert_float_equal(kv_schedule_at(&nothing, 0), 2, 1e-12);
    assert_float_equal(kv_schedule_at(&nothing, 3), 2, 1e-12);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_adamw),
        cmocka_unit_test(test_adamw_refuses_frozen_parameters),
        cmocka_unit_test(test_grad_norm_and_clip),
        cmocka_unit_test(test_schedule_corners),
        cmocka_unit_test(test_schedule_without_parts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

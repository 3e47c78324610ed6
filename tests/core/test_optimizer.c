// AdamW step by step against double precision, each group at its rate, whole and in parts; clipping, and the corners of the
// learning-rate schedule.
#include "core/optimizer.h"
#include "tests/support/numbers/adamw.h"
#include "tests/support/numbers/rounding.h"
#include "tests/support/support.h"

#include <math.h>
#include <omp.h>
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

// ---- In parts ------------------------------------------------------------------------------------------

enum { N_PARAMS = 4, MAX_PARTS = 4, MAX_SPANS = 64 };

// Sizes that no vector divides; enough for several threads. The same whenever it is made.
struct model {
    kv_param param[N_PARAMS], *params[N_PARAMS];
};

static void make_model(struct model *model) {
    const int64_t shapes[N_PARAMS][2] = {{3, 11}, {251, 67}, {1, 1}, {37, 29}};
    for (int p = 0; p < N_PARAMS; p++) {
        kv_param *param = model->params[p] = &model->param[p];
        *param = test_param("w", shapes[p][0], shapes[p][1], KV_F32, true);
        param->decay = p != 0;
        param->group = (kv_group)(p % KV_N_GROUPS);
        test_fill(param->data, kv_param_size(param), 20 + (uint64_t)p, 1);
    }
}

static void fill_grads(const struct model *model, int step) {
    for (int p = 0; p < N_PARAMS; p++)
        test_fill(model->param[p].grad, kv_param_size(&model->param[p]), 100 * (uint64_t)step + (uint64_t)p,
                  1);
}

static void free_model(struct model *model) {
    for (int p = 0; p < N_PARAMS; p++) test_param_free(&model->param[p]);
}

static int64_t model_size(const struct model *model) {
    int64_t size = 0;
    for (int p = 0; p < N_PARAMS; p++) size += kv_param_size(&model->param[p]);
    return size;
}

// The spans of [begin, end) of all elements end to end, behind those that are there.
static int64_t add_spans(const struct model *model, int64_t begin, int64_t end, kv_param_span *spans,
                         int64_t n) {
    int64_t first = 0;
    for (int p = 0; p < N_PARAMS; p++) {
        const int64_t size = kv_param_size(&model->param[p]);
        const int64_t from = begin > first ? begin - first : 0, to = end - first < size ? end - first : size;
        assert_true(n < MAX_SPANS);
        if (from < to) spans[n++] = (kv_param_span){p, from, to};
        first += size;
    }
    return n;
}

// Part `part` of n_parts: of each bucket that is `bucket` elements long a piece, cut where it falls.
static int64_t cut(const struct model *model, int64_t bucket, int part, int n_parts, kv_param_span *spans) {
    const int64_t size = model_size(model);
    int64_t n = 0;
    for (int64_t begin = 0; begin < size; begin += bucket) {
        const int64_t length = begin + bucket < size ? bucket : size - begin;
        n = add_spans(model, begin + length * part / n_parts, begin + length * (part + 1) / n_parts, spans,
                      n);
    }
    return n;
}

static kv_adamw *start(struct model *model, const kv_param_span *spans, int64_t n_spans) {
    const kv_adamw_args args = {.beta1 = 0.9f, .beta2 = 0.95f, .eps = 1e-8f, .weight_decay = 0.1f};
    kv_adamw *optimizer;
    kv_error err = {0};
    const kv_status status =
        spans ? kv_adamw_create_part(model->params, N_PARAMS, &args, spans, n_spans, &optimizer, &err)
              : kv_adamw_create(model->params, N_PARAMS, &args, &optimizer, &err);
    assert_int_equal(status, KV_OK);
    for (int p = 0; p < N_PARAMS; p++) optimizer->scales[p] = 1 + 0.5 * p;
    return optimizer;
}

static void take_steps(kv_adamw *optimizer, const struct model *model) {
    for (int step = 1; step <= STEPS; step++) {
        kv_rates rates;
        for (int group = 0; group < KV_N_GROUPS; group++) rates.of[group] = (1 + group) * 1e-2 / step;
        fill_grads(model, step);
        kv_adamw_step(optimizer, rates, 0.3);
    }
}

// The part's elements and moments are the whole's, bit by bit; all others are as they were.
static void expect_part(const struct model *part, const kv_adamw *o, const struct model *whole,
                        const kv_adamw *all, const struct model *before) {
    int64_t span = 0;
    for (int p = 0; p < N_PARAMS; p++) {
        const float *now = part->param[p].data, *then = before->param[p].data, *end = whole->param[p].data;
        for (int64_t i = 0; i < kv_param_size(&part->param[p]); i++) {
            while (span < o->n_spans &&
                   (o->spans[span].param < p || (o->spans[span].param == p && o->spans[span].end <= i)))
                span++;
            const kv_param_span s = span < o->n_spans ? o->spans[span] : (kv_param_span){.param = N_PARAMS};
            const bool own = s.param == p && s.begin <= i;
            if (memcmp(&now[i], own ? &end[i] : &then[i], sizeof *now) != 0)
                fail_msg("parameter %d, element %lld: %g, expected %g of %s", p, (long long)i, (double)now[i],
                         own ? (double)end[i] : (double)then[i], own ? "the whole" : "before");
            if (!own) continue;
            assert_memory_equal(&o->m[span][i - s.begin], &all->m[p][i], sizeof(float));
            assert_memory_equal(&o->v[span][i - s.begin], &all->v[p][i], sizeof(float));
        }
    }
}

static void check_parts(int n_parts, int64_t bucket) {
    struct model whole, before;
    make_model(&whole);
    make_model(&before);
    kv_adamw *all = start(&whole, NULL, 0);
    take_steps(all, &whole);
    int64_t owned = 0;
    for (int part = 0; part < n_parts; part++) {
        kv_param_span spans[MAX_SPANS];
        struct model own;
        make_model(&own);
        const int64_t n = cut(&own, bucket, part, n_parts, spans);
        kv_adamw *o = start(&own, spans, n);
        take_steps(o, &own);
        assert_int_equal(o->step, STEPS);
        expect_part(&own, o, &whole, all, &before);
        for (int64_t i = 0; i < n; i++) owned += spans[i].end - spans[i].begin;
        kv_adamw_free(o);
        free_model(&own);
    }
    assert_int_equal(owned, model_size(&whole));
    kv_adamw_free(all);
    free_model(&whole);
    free_model(&before);
}

static void test_parts_are_rows_of_the_whole(void **state) {
    (void)state;
    for (int n_parts = 1; n_parts <= MAX_PARTS; n_parts++) {
        check_parts(n_parts, 1 << 20); // one bucket, and so one run of elements for each
        check_parts(n_parts, 5003);
        check_parts(n_parts, 2000);
    }
}

// Threads share out the work, and no bit depends on how many there are.
static void test_parts_by_threads(void **state) {
    (void)state;
    const int threads = omp_get_max_threads();
    double squares[2];
    for (int i = 0; i < 2; i++) {
        struct model model;
        kv_param_span spans[MAX_SPANS];
        make_model(&model);
        const int64_t n = add_spans(&model, 5, model_size(&model) - 3, spans, 0);
        fill_grads(&model, 1);
        omp_set_num_threads(i == 0 ? 1 : 3);
        squares[i] = kv_grad_squares_of(model.params, spans, n);
        check_parts(2, 5003);
        free_model(&model);
    }
    omp_set_num_threads(threads);
    assert_true(squares[0] == squares[1] && squares[0] > 0);
}

static void test_a_part_may_be_empty(void **state) {
    (void)state;
    struct model model, before;
    make_model(&model);
    make_model(&before);
    const kv_param_span nothing = {1, 5, 5};
    for (int64_t n = 0; n < 2; n++) {
        kv_adamw *o = start(&model, &nothing, n);
        take_steps(o, &model);
        for (int p = 0; p < N_PARAMS; p++)
            assert_memory_equal(model.param[p].data, before.param[p].data,
                                (size_t)kv_param_size(&model.param[p]) * sizeof(float));
        assert_true(kv_grad_squares_of(model.params, &nothing, n) == 0);
        kv_adamw_free(o);
    }
    free_model(&model);
    free_model(&before);
}

static void test_spans_are_checked(void **state) {
    (void)state;
    struct model model;
    make_model(&model);
    const kv_param_span wrong[][2] = {{{0, 0, 10}, {N_PARAMS, 0, 1}}, {{0, 0, 10}, {-1, 0, 1}},
                                      {{0, 0, 10}, {1, -1, 1}},       {{0, 0, 10}, {1, 2, 1}},
                                      {{0, 0, 10}, {0, 10, 34}},      {{1, 0, 10}, {0, 0, 10}},
                                      {{0, 0, 10}, {0, 9, 12}}};
    const kv_adamw_args args = {0};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        kv_adamw *optimizer;
        kv_error err = {0};
        assert_int_equal(kv_adamw_create_part(model.params, N_PARAMS, &args, wrong[i], 2, &optimizer, &err),
                         KV_ERR_ARGUMENT);
        assert_null(optimizer);
        assert_non_null(strstr(err.message, i == 5 ? "span 1 is [0, 10) of parameter 0" : "span 1 is ["));
    }
    free_model(&model);
}

// Each part adds its own, nothing twice; one part of all is the norm, bit by bit.
static void test_squares_of_parts(void **state) {
    (void)state;
    struct model model;
    kv_param_span spans[MAX_SPANS];
    make_model(&model);
    fill_grads(&model, 1);
    const int64_t size = model_size(&model);
    const double norm = kv_grad_norm(model.params, N_PARAMS);
    for (int n_parts = 1; n_parts <= MAX_PARTS; n_parts++) {
        double squares = 0;
        for (int part = 0; part < n_parts; part++)
            squares += kv_grad_squares_of(model.params, spans, cut(&model, 5003, part, n_parts, spans));
        expect_double("squares", squares, norm * norm, (int)size, norm * norm);
    }
    const int64_t n = add_spans(&model, 0, size, spans, 0);
    assert_true(sqrt(kv_grad_squares_of(model.params, spans, n)) == norm);
    // Of one element, what it is.
    spans[0] = (kv_param_span){1, 1000, 1001};
    const double g = (double)model.param[1].grad[1000];
    assert_true(kv_grad_squares_of(model.params, spans, 1) == g * g);
    free_model(&model);
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
        cmocka_unit_test(test_parts_are_rows_of_the_whole),
        cmocka_unit_test(test_parts_by_threads),
        cmocka_unit_test(test_a_part_may_be_empty),
        cmocka_unit_test(test_spans_are_checked),
        cmocka_unit_test(test_squares_of_parts),
        cmocka_unit_test(test_schedule_corners),
        cmocka_unit_test(test_schedule_without_parts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

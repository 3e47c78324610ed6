// What keys receive of the attention, in blocks, against the whole matrix in double precision.
#include "core/gemm.h"
#include "core/ops.h"
#include "tests/support/numbers/attention_setup.h"
#include "tests/support/numbers/rounding.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

// Random queries and keys, as the operator and as the reference read them.
struct operands {
    kv_tape *tape;
    kv_tensor *q, *k;
    double *wide_q, *wide_k;
};

static double *widen(const kv_tensor *x) {
    double *wide = test_alloc(x->rows * x->cols, sizeof *wide);
    for (int64_t i = 0; i < x->rows * x->cols; i++) wide[i] = (double)x->data[i];
    return wide;
}

static struct operands make_operands(const setup *s, double scale) {
    struct operands o = {.tape = kv_tape_create()};
    o.q = kv_tape_tensor(o.tape, s->q_rows, s->args.n_heads * s->args.head_dim);
    o.k = kv_tape_tensor(o.tape, s->k_rows, s->args.n_kv_heads * s->args.head_dim);
    test_fill(o.q->data, o.q->rows * o.q->cols, 1, scale);
    test_fill(o.k->data, o.k->rows * o.k->cols, 2, scale);
    o.wide_q = widen(o.q), o.wide_k = widen(o.k);
    return o;
}

static void free_operands(struct operands *o) {
    kv_tape_free(o->tape);
    free(o->wide_q);
    free(o->wide_k);
}

// One pooling of one sequence in double precision, on top of `before`.
struct exact {
    const kv_attention_args *args;
    const double *inv_freq;
    int64_t sequence;
    kv_pooling pooling;
    const double *q, *k;
    double before;
};

static void exact_results(const void *context, double *results) {
    const struct exact *e = context;
    ref_attention_importance(e->args, e->inv_freq, e->sequence, e->pooling, e->q, e->k, results);
    for (int64_t j = 0; j < e->args->sequences[e->sequence].k_len; j++)
        results[j] = e->pooling == KV_POOL_MEAN ? results[j] + e->before : fmax(results[j], e->before);
}

// Both poolings of all sequences, on top of something that is there already.
static void check(setup *s) {
    const kv_attention_args *a = setup_args(s);
    struct operands o = make_operands(s, 3);
    rounding_operands wide = {0};
    rounding_add(&wide, o.wide_q, s->q_rows * a->n_heads * a->head_dim);
    rounding_add(&wide, o.wide_k, s->k_rows * a->n_kv_heads * a->head_dim);
    for (int pooling = KV_POOL_MEAN; pooling <= KV_POOL_MAX; pooling++) {
        const float before = pooling == KV_POOL_MEAN ? 0.75f : 0.02f;
        float *importance[SETUP_SEQUENCES];
        uint64_t flops = 0;
        for (int64_t i = 0; i < a->n_sequences; i++) {
            const kv_sequence *sequence = &a->sequences[i];
            importance[i] = test_alloc(sequence->k_len, sizeof **importance);
            for (int64_t j = 0; j < sequence->k_len; j++) importance[i][j] = before;
            flops += kv_attention_importance_flops(a->n_heads, a->n_kv_heads, a->head_dim, sequence->q_len,
                                                   sequence->k_len);
        }
        kv_gemm_flops_reset();
        assert_true(kv_attention_importance(o.tape, o.q, o.k, a, (kv_pooling)pooling, importance));
        if (!a->visible) assert_int_equal(kv_gemm_flops(), flops);
        for (int64_t i = 0; i < a->n_sequences; i++) {
            const int64_t n = a->sequences[i].k_len;
            struct exact exact = {a, s->inv_freq, i, (kv_pooling)pooling, o.wide_q, o.wide_k, (double)before};
            rounding_spread spread =
                rounding_measure(&wide, a->sequences[i].q_len * a->n_heads, exact_results, &exact, n);
            rounding_compare("attention importance", importance[i], &spread, 0, n);
            rounding_spread_free(&spread);
            free(importance[i]);
        }
    }
    rounding_operands_free(&wide);
    free_operands(&o);
}

static void check_one(int64_t n_heads, int64_t n_kv_heads, int64_t head_dim, int64_t q_len, int64_t k_len) {
    setup s = setup_make(n_heads, n_kv_heads, head_dim, true);
    setup_add(&s, q_len, k_len, 0);
    check(&s);
    setup_free(&s);
}

static void test_shapes(void **state) {
    (void)state;
    check_one(1, 1, 2, 1, 1);
    check_one(4, 2, 6, 1, 200);
    check_one(6, 3, 8, 7, 7);
    const int64_t lengths[] = {2, 31, 32, 33, 64, 65, 127, 128, 129, 300};
    for (int i = 0; i < 10; i++) {
        check_one(4, 1, 6, lengths[i], lengths[i]);
        check_one(3, 3, 6, lengths[i], lengths[i] + 150);
    }
}

static void test_several_sequences(void **state) {
    (void)state;
    setup s = setup_make(4, 2, 6, true);
    const int64_t lengths[] = {3, 1, 9, 66, 140};
    for (int i = 0; i < 5; i++) setup_add(&s, lengths[i], lengths[i] + i, i);
    check(&s);
    setup_free(&s);
    s = setup_make(2, 1, 4, false);
    setup_add(&s, 4, 4, 0);
    setup_add(&s, 1, 9, 3);
    check(&s);
    setup_free(&s);
}

static void test_positions_and_visible_keys(void **state) {
    (void)state;
    setup s = setup_make(4, 2, 6, true);
    setup_add(&s, 5, 9, 2);
    setup_add(&s, 66, 70, 0);
    int32_t *q_positions = test_alloc(s.q_rows, sizeof *q_positions);
    int32_t *k_positions = test_alloc(s.k_rows, sizeof *k_positions);
    int32_t *visible = test_alloc(s.q_rows, sizeof *visible);
    for (int64_t i = 0; i < s.q_rows; i++) {
        q_positions[i] = (int32_t)(700 + 3 * i);
        visible[i] = (int32_t)(i < 5 ? 1 + 2 * i : i - 4);
    }
    for (int64_t i = 0; i < s.k_rows; i++) k_positions[i] = (int32_t)(7 * i + test_below(3, i, 7));
    s.args.q_positions = q_positions, s.args.k_positions = k_positions;
    check(&s);
    s.args.visible = visible;
    check(&s);
    free(q_positions);
    free(k_positions);
    free(visible);
    setup_free(&s);
}

// A sequence's part is the same to the last bit alone and in a batch.
static void test_sequences_do_not_meet(void **state) {
    (void)state;
    setup s = setup_make(4, 2, 6, true);
    setup_add(&s, 40, 50, 0);
    setup_add(&s, 70, 70, 0);
    const kv_attention_args *a = setup_args(&s);
    struct operands o = make_operands(&s, 3);
    float first[50] = {0}, second[70] = {0}, alone[70] = {0};
    assert_true(kv_attention_importance(o.tape, o.q, o.k, a, KV_POOL_MEAN, (float *[]){first, second}));
    kv_attention_args only = *a;
    only.sequences = &a->sequences[1], only.n_sequences = 1;
    assert_true(kv_attention_importance(o.tape, o.q, o.k, &only, KV_POOL_MEAN, (float *[]){alone}));
    assert_memory_equal(second, alone, sizeof alone);
    free_operands(&o);
    setup_free(&s);
}

static void test_refuses_positions_outside_the_context(void **state) {
    (void)state;
    setup s = setup_make(1, 1, 4, true);
    setup_add(&s, 1, 1, 0);
    const int32_t position = SETUP_POSITIONS;
    s.args.q_positions = &position;
    struct operands o = make_operands(&s, 1);
    float importance[1] = {0};
    kv_error err = {0};
    assert_false(
        kv_attention_importance(o.tape, o.q, o.k, setup_args(&s), KV_POOL_MAX, (float *[]){importance}));
    assert_int_equal(kv_tape_status(o.tape, &err), KV_ERR_RANGE);
    assert_string_equal(err.message,
                        "sequence 0 reaches position 20000, outside the context of 20000 tokens");
    assert_false(
        kv_attention_importance(o.tape, NULL, o.k, setup_args(&s), KV_POOL_MAX, (float *[]){importance}));
    free_operands(&o);
    setup_free(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shapes),
        cmocka_unit_test(test_several_sequences),
        cmocka_unit_test(test_positions_and_visible_keys),
        cmocka_unit_test(test_sequences_do_not_meet),
        cmocka_unit_test(test_refuses_positions_outside_the_context),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

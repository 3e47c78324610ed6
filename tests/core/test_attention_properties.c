// What attention promises whatever the numbers: no future, no neighbours, no overflow, the same in chunks,
// and products counted as executed.
#include "core/gemm.h"
#include "core/ops.h"
#include "tests/support/numbers/attention_setup.h"
#include "tests/support/numbers/numeric.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

// ---- Rows and positions --------------------------------------------------------------------------------

// What lies in the gaps is not even read into the sums.
static void test_gaps_may_hold_anything(void **state) {
    (void)state;
    setup s = setup_make(2, 1, 4, true);
    setup_add(&s, 3, 5, 2);
    setup_add(&s, 70, 80, 7);
    kv_tape *tape = kv_tape_create();
    kv_tensor *q = kv_tape_tensor(tape, s.q_rows, 8), *kv[2], *y[2];
    test_fill(q->data, s.q_rows * 8, 1, 1);
    q->wants_grad = true;
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < 2; i++) {
            kv[i] = kv_tape_tensor(tape, s.k_rows, 4);
            test_fill(kv[i]->data, s.k_rows * 4, 2 + (uint64_t)i, 1);
            kv[i]->wants_grad = true;
            for (int64_t e = 0; round && e < s.k_rows * 4; e++)
                if (e / 4 < 2 || (e / 4 >= 7 && e / 4 < 14)) kv[i]->data[e] = NAN;
        }
        y[round] = kv_attention(tape, q, kv[0], kv[1], setup_args(&s));
        assert_non_null(y[round]);
    }
    assert_memory_equal(y[0]->data, y[1]->data, (size_t)s.q_rows * 8 * sizeof(float));
    assert_int_equal(kv_tape_backward(tape, numeric_dot(tape, &y[1], 1, 0), NULL), KV_OK);
    for (int64_t e = 0; e < s.q_rows * 8; e++) assert_true(isfinite(q->grad[e]));
    for (int64_t e = 0; e < s.k_rows * 4; e++)
        assert_true(isfinite(kv[0]->grad[e]) && isfinite(kv[1]->grad[e]));
    kv_tape_free(tape);
    setup_free(&s);
}

// Attention in double precision over q, k and v.
struct exact {
    const kv_attention_args *args;
    const double *inv_freq;
    int64_t rows;
    double *x[3];
};

static void exact_results(const void *context, double *results) {
    const struct exact *e = context;
    ref_attention(e->args, e->inv_freq, e->rows, e->x[0], e->x[1], e->x[2], results);
}

// Shifting all positions by the same amount changes nothing: rotary scores depend on differences only.
static void test_rotation_is_relative(void **state) {
    (void)state;
    enum { N = 40, DIM = 8 };
    setup s = setup_make(1, 1, DIM, true);
    setup_add(&s, N, N, 0);
    int32_t shifted[N];
    for (int i = 0; i < N; i++) shifted[i] = i + 1000;
    kv_tape *tape = kv_tape_create();
    kv_tensor *x[3];
    for (int i = 0; i < 3; i++) {
        x[i] = kv_tape_tensor(tape, N, DIM);
        test_fill(x[i]->data, N * DIM, 50 + (uint64_t)i, 1);
    }
    kv_tensor *plain = kv_attention(tape, x[0], x[1], x[2], setup_args(&s));
    s.args.q_positions = s.args.k_positions = shifted;
    kv_tensor *moved = kv_attention(tape, x[0], x[1], x[2], setup_args(&s));
    struct exact exact = {setup_args(&s), s.inv_freq, N, {NULL}};
    rounding_operands operands = {0};
    for (int i = 0; i < 3; i++)
        rounding_add(&operands, exact.x[i] = numeric_doubles(x[i]->data, N * DIM), N * DIM);
    rounding_spread spread = rounding_measure(&operands, N, exact_results, &exact, N * DIM);
    rounding_compare("shifted positions", moved->data, &spread, 0, N * DIM);
    rounding_compare_both("shifted positions", moved->data, plain->data, &spread, 0, N * DIM);
    for (int i = 0; i < 3; i++) free(exact.x[i]);
    rounding_operands_free(&operands);
    rounding_spread_free(&spread);
    kv_tape_free(tape);
    setup_free(&s);
}

// ---- Chunks, causality, range --------------------------------------------------------------------------

// What one sequence of n tokens is cut from.
typedef struct sequence {
    int64_t n, q_cols, k_cols;
    float *target; // [n, q_cols], far from any output, so that |y - target| has a known sign everywhere
    uint8_t *keep;
    float *x[3]; // queries, keys, values
} sequence;

// The queries [from, from + len) of q as an operator of their own, and its share of the loss.
static kv_tensor *attend_chunk(kv_tape *tape, setup *s, const sequence *whole, kv_tensor *const *qkv,
                               int64_t from, int64_t len, float *y) {
    int64_t *rows = kv_arena_alloc(kv_tape_arena(tape), (size_t)len * sizeof *rows);
    for (int64_t i = 0; i < len; i++) rows[i] = from + i;
    s->sequences[0] = (kv_sequence){.q_row = 0, .q_len = len, .k_row = 0, .k_len = from + len};
    s->args.n_sequences = 1;
    kv_tensor *part =
        kv_attention(tape, kv_gather_rows(tape, qkv[0], rows, len), qkv[1], qkv[2], setup_args(s));
    assert_non_null(part);
    memcpy(y + from * whole->q_cols, part->data, (size_t)(len * whole->q_cols) * sizeof *y);
    kv_tensor *target = kv_tape_view(tape, whole->target + from * whole->q_cols, len, whole->q_cols);
    return kv_l1_loss(tape, part, target, whole->keep, (double)whole->n);
}

// Output [n, q_cols], and gradients of q, k and v one after the other, of attention in pieces of `chunk`
// queries.
static void attend_in_chunks(setup *s, const sequence *whole, int64_t chunk, float *y, float *grads) {
    kv_tape *tape = kv_tape_create();
    kv_tensor *qkv[3], *loss = NULL;
    for (int i = 0; i < 3; i++) {
        qkv[i] = kv_tape_tensor(tape, whole->n, i ? whole->k_cols : whole->q_cols);
        memcpy(qkv[i]->data, whole->x[i], (size_t)(whole->n * qkv[i]->cols) * sizeof(float));
        qkv[i]->wants_grad = true;
    }
    for (int64_t from = 0; from < whole->n; from += chunk) {
        const int64_t len = from + chunk < whole->n ? chunk : whole->n - from;
        kv_tensor *own = attend_chunk(tape, s, whole, qkv, from, len, y);
        loss = kv_weighted_sum(tape, (kv_tensor *[]){loss, own}, (float[]){1, 1}, 2);
    }
    assert_int_equal(kv_tape_backward(tape, loss, NULL), KV_OK);
    for (int i = 0; i < 3; i++) {
        memcpy(grads, qkv[i]->grad, (size_t)(whole->n * qkv[i]->cols) * sizeof *grads);
        grads += whole->n * qkv[i]->cols;
    }
    kv_tape_free(tape);
}

enum { CHUNKED = 150, CHUNKED_Y = CHUNKED * 24, CHUNKED_GRADS = CHUNKED * (24 + 12 + 12) };

// All of it at once.
struct chunked {
    setup *s;
    const sequence *whole;
};

static void chunked_results(const void *context, double *results) {
    const struct chunked *c = context;
    static float y[CHUNKED_Y], grads[CHUNKED_GRADS];
    attend_in_chunks(c->s, c->whole, CHUNKED, y, grads);
    for (int i = 0; i < CHUNKED_Y; i++) results[i] = (double)y[i];
    for (int i = 0; i < CHUNKED_GRADS; i++) results[CHUNKED_Y + i] = (double)grads[i];
}

static void test_chunks_equal_the_whole(void **state) {
    (void)state;
    const int64_t n = CHUNKED, chunks[] = {1, 13, 64, 149};
    static float target[CHUNKED_Y], y[2][CHUNKED_Y], grads[2][CHUNKED_GRADS], x[3][CHUNKED_Y];
    static uint8_t keep[CHUNKED];
    setup s = setup_make(4, 2, 6, true);
    sequence whole = {n, 24, 12, target, keep, {x[0], x[1], x[2]}};
    rounding_operands operands = {0};
    memset(keep, 1, sizeof keep);
    for (int64_t i = 0; i < CHUNKED_Y; i++) target[i] = test_value(8, i) < 0 ? -10 : 10;
    for (int i = 0; i < 3; i++) {
        test_fill(x[i], n * (i ? 12 : 24), 60 + (uint64_t)i, 1);
        rounding_add_floats(&operands, x[i], n * (i ? 12 : 24));
    }
    // Keys are read by all queries, of two heads.
    rounding_spread spread = rounding_measure(&operands, 2 * n, chunked_results,
                                              &(struct chunked){&s, &whole}, CHUNKED_Y + CHUNKED_GRADS);
    for (int i = 0, from = CHUNKED_Y; i < 3; from += CHUNKED * (i++ ? 12 : 24))
        rounding_allow_sums(&spread, from, CHUNKED * (i ? 12 : 24));
    attend_in_chunks(&s, &whole, n, y[0], grads[0]);
    for (int c = 0; c < 4; c++) {
        attend_in_chunks(&s, &whole, chunks[c], y[1], grads[1]);
        rounding_compare_both("attention in chunks", y[1], y[0], &spread, 0, CHUNKED_Y);
        rounding_compare_both("gradient in chunks", grads[1], grads[0], &spread, CHUNKED_Y, CHUNKED_GRADS);
    }
    rounding_operands_free(&operands);
    rounding_spread_free(&spread);
    setup_free(&s);
}

static void test_later_tokens_change_nothing_earlier(void **state) {
    (void)state;
    const int64_t n = 140, changed = 97;
    setup s = setup_make(2, 1, 12, true);
    setup_add(&s, n, n, 0);
    kv_tape *tape = kv_tape_create();
    kv_tensor *x[3];
    for (int i = 0; i < 3; i++) {
        x[i] = kv_tape_tensor(tape, n, i ? 12 : 24);
        test_fill(x[i]->data, n * x[i]->cols, 70 + (uint64_t)i, 1);
    }
    kv_tensor *before = kv_attention(tape, x[0], x[1], x[2], setup_args(&s));
    for (int i = 0; i < 3; i++)
        test_fill(x[i]->data + changed * x[i]->cols, (n - changed) * x[i]->cols, 80, 9);
    kv_tensor *after = kv_attention(tape, x[0], x[1], x[2], setup_args(&s));
    assert_memory_equal(before->data, after->data, (size_t)(changed * 24) * sizeof(float));
    assert_memory_not_equal(before->data + changed * 24, after->data + changed * 24, 24 * sizeof(float));
    kv_tape_free(tape);
    setup_free(&s);
}

// Scores of ±10^6: each query sees one key far above the rest, and the exponentials must not overflow.
static void test_large_scores(void **state) {
    (void)state;
    const int64_t n = 130, dim = 4;
    setup s = setup_make(1, 1, dim, false);
    setup_add(&s, n, n, 0);
    kv_tape *tape = kv_tape_create();
    kv_tensor *q = kv_tape_tensor(tape, n, dim), *k = kv_tape_tensor(tape, n, dim),
              *v = kv_tape_tensor(tape, n, dim);
    int64_t *winner = test_alloc(n, sizeof *winner);
    test_fill(v->data, n * dim, 3, 1);
    for (int64_t i = 0; i < n; i++) {
        const float height = (float)((i * 67) % n + 1); // a permutation: no two keys alike
        for (int64_t j = 0; j < dim; j++)
            q->data[i * dim + j] = 1e3f * (i % 2 ? -1 : 1), k->data[i * dim + j] = height;
        winner[i] = 0;
        for (int64_t j = 1; j <= i; j++) {
            const bool higher = (j * 67) % n > (winner[i] * 67) % n;
            if (higher == (i % 2 == 0)) winner[i] = j;
        }
    }
    q->wants_grad = k->wants_grad = v->wants_grad = true;
    kv_tensor *y = kv_attention(tape, q, k, v, setup_args(&s));
    for (int64_t i = 0; i < n * dim; i++) { // all others have weight 0
        const double expected = (double)v->data[winner[i / dim] * dim + i % dim];
        expect_float("winner's value", (double)y->data[i], expected, 3, expected);
    }
    assert_int_equal(kv_tape_backward(tape, numeric_dot(tape, &y, 1, 0), NULL), KV_OK);
    // A score's gradient is the difference of two products of 4 terms, dy·v and dy·y, with y = v: what is
    // left is their rounding, times the key or the query and 1/sqrt(4).
    double *k_allowed = test_alloc(n, sizeof *k_allowed);
    for (int64_t i = 0; i < n; i++) {
        double size = 0;
        for (int64_t j = 0; j < dim; j++)
            size += fabs(numeric_dot_weight(0, i * dim + j) * (double)v->data[winner[i] * dim + j]);
        const double score = rounding_bound(2 * 5, size) / 2;
        for (int64_t j = 0; j < dim; j++)
            rounding_expect("gradient of q", (double)q->grad[i * dim + j], 0,
                            score * (double)k->data[winner[i] * dim + j]);
        k_allowed[winner[i]] += score * 1e3;
    }
    for (int64_t i = 0; i < n * dim; i++) {
        rounding_expect("gradient of k", (double)k->grad[i], 0, k_allowed[i / dim]);
        assert_true(isfinite(v->grad[i]));
    }
    free(k_allowed);
    free(winner);
    kv_tape_free(tape);
    setup_free(&s);
}

// A softmax does not change when all its scores grow by the same amount, here by 15000: nor may what backward
// makes of it. (Whole numbers in 4 features: every score is exact in float32.) Results: y; gradients of
// feature 3 of q and k, and of v.
enum { RAISED = 150, RAISED_Y = RAISED * 4, RAISED_GRADS = RAISED * 6 };

struct raised {
    float height, competing[2][RAISED], v[RAISED_Y]; // the fourth feature of q and k
};

static void attend_raised(const void *context, double *results) {
    const struct raised *r = context;
    setup s = setup_make(1, 1, 4, false);
    setup_add(&s, RAISED, RAISED, 0);
    kv_tape *tape = kv_tape_create();
    kv_tensor *x[3];
    for (int i = 0; i < 3; i++) {
        x[i] = kv_tape_tensor(tape, RAISED, 4);
        x[i]->wants_grad = true;
        for (int64_t e = 0; e < RAISED_Y; e++)
            x[i]->data[e] = i == 2 ? r->v[e] : e % 4 < 3 ? r->height : r->competing[i][e / 4];
    }
    kv_tensor *out = kv_attention(tape, x[0], x[1], x[2], setup_args(&s));
    for (int64_t e = 0; e < RAISED_Y; e++) results[e] = (double)out->data[e];
    assert_int_equal(kv_tape_backward(tape, numeric_dot(tape, &out, 1, 0), NULL), KV_OK);
    results += RAISED_Y;
    for (int64_t t = 0; t < RAISED; t++) {
        results[t] = (double)x[0]->grad[t * 4 + 3];
        results[RAISED + t] = (double)x[1]->grad[t * 4 + 3];
    }
    for (int64_t e = 0; e < RAISED_Y; e++) results[2 * RAISED + e] = (double)x[2]->grad[e];
    kv_tape_free(tape);
    setup_free(&s);
}

static void test_large_scores_that_compete(void **state) {
    (void)state;
    static struct raised r;
    static double found[RAISED_Y + RAISED_GRADS];
    rounding_operands operands = {0};
    for (int i = 0; i < 2; i++) {
        for (int64_t t = 0; t < RAISED; t++)
            r.competing[i][t] = (float)round(3 * test_value(90 + (uint64_t)i, t * 4 + 3));
        rounding_add_floats(&operands, r.competing[i], RAISED);
    }
    test_fill(r.v, RAISED_Y, 92, 1);
    rounding_add_floats(&operands, r.v, RAISED_Y);
    rounding_spread spread = rounding_measure(&operands, RAISED, attend_raised, &r, RAISED_Y + RAISED_GRADS);
    for (int i = 0; i < 3; i++)
        rounding_allow_sums(&spread, RAISED_Y + i * RAISED, i < 2 ? RAISED : RAISED_Y);
    r.height = 100;
    attend_raised(&r, found);
    rounding_compare_results("raised scores", found, spread.expected, &spread);
    rounding_operands_free(&operands);
    rounding_spread_free(&spread);
}

// ---- Counting ------------------------------------------------------------------------------------------

static void test_flops_are_what_is_executed(void **state) {
    (void)state;
    const int64_t shapes[][5] = {{1, 1, 2, 1, 1},      {4, 2, 6, 7, 7},     {4, 1, 24, 1, 300},
                                 {6, 2, 12, 64, 64},   {2, 2, 64, 65, 130}, {3, 1, 80, 129, 129},
                                 {4, 2, 24, 300, 300}, {2, 1, 8, 40, 700}};
    for (int i = 0; i < 8; i++) {
        const int64_t *d = shapes[i], q_cols = d[0] * d[2], k_cols = d[1] * d[2];
        setup s = setup_make(d[0], d[1], d[2], true);
        setup_add(&s, d[3], d[4], 0);
        setup_add(&s, 3, 5, 0);
        kv_tape *tape = kv_tape_create();
        kv_tape_set_recording(tape, false);
        kv_tensor *q = kv_tape_tensor(tape, s.q_rows, q_cols), *k = kv_tape_tensor(tape, s.k_rows, k_cols);
        test_fill(q->data, s.q_rows * q_cols, 1, 1);
        test_fill(k->data, s.k_rows * k_cols, 2, 1);
        kv_gemm_flops_reset();
        assert_non_null(kv_attention(tape, q, k, k, setup_args(&s)));
        const uint64_t counted = kv_gemm_flops();
        const uint64_t first = kv_attention_flops(d[0], d[1], d[2], d[3], d[4]);
        assert_int_equal(counted, first + kv_attention_flops(d[0], d[1], d[2], 3, 5));
        // Between the products causality needs and the full rectangle.
        const uint64_t a_pair = 4 * (uint64_t)(d[0] * d[2]);
        const uint64_t seen = (uint64_t)(d[3] * (d[4] - d[3]) + d[3] * (d[3] + 1) / 2);
        assert_in_range(first, a_pair * seen, a_pair * (uint64_t)(d[3] * d[4]));
        if (d[3] >= 300)
            assert_true(first < a_pair * (uint64_t)(d[3] * d[4]) * 9 / 10); // whole tiles skipped
        kv_tape_free(tape);
        setup_free(&s);
    }
}

static void test_positions_beyond_the_table(void **state) {
    (void)state;
    const int32_t wrong[] = {SETUP_POSITIONS, -1, INT32_MAX, INT32_MIN};
    setup s = setup_make(1, 1, 2, true);
    setup_add(&s, 2, 3, 0);
    kv_tape *tape = kv_tape_create();
    for (int w = 0; w < 8; w++) {
        kv_tensor *q = kv_tape_tensor(tape, 2, 2), *k = kv_tape_tensor(tape, 3, 2);
        test_fill(q->data, 4, 1, 1);
        test_fill(k->data, 6, 2, 1);
        const int32_t q_positions[2] = {0, w < 4 ? wrong[w] : 1},
                      k_positions[3] = {0, w < 4 ? 1 : wrong[w - 4], 2};
        s.args.q_positions = q_positions;
        s.args.k_positions = k_positions;
        assert_null(kv_attention(tape, q, k, k, setup_args(&s)));
        assert_int_equal(kv_tape_status(tape, NULL), KV_ERR_RANGE);
        kv_tape_reset(tape);
    }
    kv_tape_free(tape);
    setup_free(&s);
}

static void test_null_in_null_out(void **state) {
    (void)state;
    setup s = setup_make(1, 1, 2, false);
    setup_add(&s, 1, 1, 0);
    kv_tape *tape = kv_tape_create();
    kv_tensor *x = kv_tape_tensor(tape, 1, 2);
    assert_null(kv_attention(tape, NULL, x, x, setup_args(&s)));
    assert_null(kv_attention(tape, x, NULL, x, setup_args(&s)));
    assert_null(kv_attention(tape, x, x, NULL, setup_args(&s)));
    kv_tape_free(tape);
}

// Strips end with the last key their last query sees.
static void test_flops_of_visible_keys(void **state) {
    (void)state;
    enum { QUERIES = 70, KEYS = 90 };
    setup s = setup_make(4, 2, 6, true);
    setup_add(&s, QUERIES, KEYS, 0);
    int32_t visible[QUERIES];
    for (int i = 0; i < QUERIES; i++) visible[i] = 1 + i + (i > 30 ? 15 : 0);
    s.args.visible = visible;
    kv_tape *tape = kv_tape_create();
    kv_tensor *q = kv_tape_tensor(tape, s.q_rows, 24), *k = kv_tape_tensor(tape, s.k_rows, 12);
    test_fill(q->data, s.q_rows * 24, 1, 1);
    test_fill(k->data, s.k_rows * 12, 2, 1);
    kv_gemm_flops_reset();
    assert_non_null(kv_attention(tape, q, k, k, setup_args(&s)));
    assert_int_equal(kv_gemm_flops(), kv_attention_flops_visible(4, 2, 6, QUERIES, visible));
    // Two heads to a KV head: strips of 12 queries, the last of which see 12, 24, and 36 + 15 keys and so on.
    assert_int_equal(kv_gemm_flops(), 4 * 4 * 6 * (12 * (12 + 24 + 51 + 63 + 75) + 10 * 85));
    kv_tape_free(tape);
    setup_free(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gaps_may_hold_anything),
        cmocka_unit_test(test_rotation_is_relative),
        cmocka_unit_test(test_chunks_equal_the_whole),
        cmocka_unit_test(test_later_tokens_change_nothing_earlier),
        cmocka_unit_test(test_large_scores),
        cmocka_unit_test(test_large_scores_that_compete),
        cmocka_unit_test(test_flops_are_what_is_executed),
        cmocka_unit_test(test_flops_of_visible_keys),
        cmocka_unit_test(test_positions_beyond_the_table),
        cmocka_unit_test(test_null_in_null_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

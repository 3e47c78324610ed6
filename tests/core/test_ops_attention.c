// Tiled attention against a softmax over the whole N × N matrix, in double precision.
#include "tests/support/numbers/attention_setup.h"
#include "tests/support/numbers/numeric.h"

#include <stdio.h>
#include <stdlib.h>

static kv_tensor *attention_run(kv_tape *tape, const numeric_operand *in, const void *context) {
    return kv_attention(tape, in[0].tensor, in[1].tensor, in[2].tensor, &((const setup *)context)->args);
}

static void attention_reference(const double *const *in, const void *context, double *out) {
    const setup *s = context;
    ref_attention(&s->args, s->inv_freq, s->q_rows, in[0], in[1], in[2], out);
}

// A key is seen by every query of its sequence, by all heads that share it.
static int64_t terms_of(const setup *s) {
    int64_t terms = s->args.head_dim;
    for (int64_t i = 0; i < s->args.n_sequences; i++) {
        const int64_t uses = s->sequences[i].q_len * (s->args.n_heads / s->args.n_kv_heads);
        if (uses > terms) terms = uses;
        if (s->sequences[i].k_len > terms) terms = s->sequences[i].k_len;
    }
    return terms;
}

typedef struct check_options {
    double scale;       // of queries and keys
    int64_t max_probes; // see numeric_case
    bool forward_only;
    bool fixed_q, fixed_k, fixed_v;
} check_options;

static void check(setup *s, check_options o) {
    setup_args(s);
    const kv_attention_args *a = &s->args;
    char name[160];
    snprintf(name, sizeof name, "attention heads %d/%d dim %d, %d sequences, first %d of %d", (int)a->n_heads,
             (int)a->n_kv_heads, (int)a->head_dim, (int)a->n_sequences, (int)s->sequences[0].q_len,
             (int)s->sequences[0].k_len);
    const int64_t q_cols = a->n_heads * a->head_dim, k_cols = a->n_kv_heads * a->head_dim;
    numeric_check(&(numeric_case){
        .name = name,
        .leaves = {{"q", NUMERIC_TENSOR, s->q_rows, q_cols, .scale = o.scale, .frozen = o.fixed_q},
                   {"k", NUMERIC_TENSOR, s->k_rows, k_cols, .scale = o.scale, .frozen = o.fixed_k},
                   {"v", NUMERIC_TENSOR, s->k_rows, k_cols, .frozen = o.fixed_v}},
        .out_rows = s->q_rows,
        .out_cols = q_cols,
        .run = attention_run,
        .reference = attention_reference,
        .context = s,
        .terms = terms_of(s),
        .max_probes = o.max_probes,
        .forward_only = o.forward_only,
    });
}

static void check_one(int64_t n_heads, int64_t n_kv_heads, int64_t head_dim, int64_t q_len, int64_t k_len,
                      check_options o) {
    setup s = setup_make(n_heads, n_kv_heads, head_dim, true);
    setup_add(&s, q_len, k_len, 0);
    check(&s, o);
    setup_free(&s);
}

// ---- Shapes --------------------------------------------------------------------------------------------

static const check_options gradients = {0};
static const check_options few_gradients = {.max_probes = 10};
static const check_options forward = {.forward_only = true};

static void test_one_token(void **state) {
    (void)state;
    check_one(1, 1, 2, 1, 1, gradients);
    check_one(4, 2, 6, 1, 1, gradients);
}

static void test_head_dims_and_groups(void **state) {
    (void)state;
    const int64_t dims[] = {2, 6, 12, 24, 64, 80};
    for (int d = 0; d < 6; d++)
        for (int64_t group = 1; group <= 4; group++) {
            check_one(group, 1, dims[d], 7, 7, few_gradients);
            check_one(3 * group, 3, dims[d], 5, 5, few_gradients);
        }
}

static void test_without_rotation(void **state) {
    (void)state;
    setup s = setup_make(2, 1, 6, false);
    setup_add(&s, 6, 9, 0);
    check(&s, gradients);
    setup_free(&s);
}

static void test_lengths_around_tiles(void **state) {
    (void)state;
    const int64_t lengths[] = {1, 2, 7, 31, 32, 33, 63, 64, 65, 127, 128, 129, 255, 256, 257, 300};
    for (int i = 0; i < 16; i++) {
        check_one(2, 1, 12, lengths[i], lengths[i], forward);
        check_one(3, 3, 6, 1, lengths[i], forward);
        check_one(2, 2, 4, lengths[i], lengths[i] + 5, forward);
        check_one(2, 1, 4, lengths[i], 300 + lengths[i], forward);
    }
}

static void test_gradients_beyond_a_tile(void **state) {
    (void)state;
    check_one(2, 1, 6, 65, 65, few_gradients);
    check_one(4, 2, 4, 130, 130, few_gradients);
    check_one(2, 1, 4, 70, 201, few_gradients);
    check_one(2, 2, 4, 300, 300, (check_options){.max_probes = 4});
}

static void test_each_input_may_be_fixed(void **state) {
    (void)state;
    for (int mask = 0; mask < 8; mask++)
        check_one(
            4, 2, 6, 5, 8,
            (check_options){.max_probes = 20, .fixed_q = mask & 1, .fixed_k = mask & 2, .fixed_v = mask & 4});
}

// ---- Sequences and positions ---------------------------------------------------------------------------

static void test_several_sequences(void **state) {
    (void)state;
    setup s = setup_make(4, 2, 6, true);
    const int64_t lengths[] = {3, 1, 9, 66, 2};
    for (int i = 0; i < 5; i++) setup_add(&s, lengths[i], lengths[i], 0);
    check(&s, (check_options){.max_probes = 40});
    setup_free(&s);
}

// Caches with more keys than queries, and room left between sequences: rows in the gaps get gradient 0.
static void test_gaps_and_longer_keys(void **state) {
    (void)state;
    setup s = setup_make(3, 1, 4, true);
    setup_add(&s, 4, 4, 3);
    setup_add(&s, 1, 70, 5);
    setup_add(&s, 6, 11, 0);
    setup_add(&s, 2, 3, 64);
    check(&s, (check_options){.max_probes = 80});
    setup_free(&s);
}

static void test_explicit_positions(void **state) {
    (void)state;
    setup s = setup_make(4, 2, 6, true);
    setup_add(&s, 5, 9, 2);
    setup_add(&s, 66, 70, 0);
    int32_t *q_positions = test_alloc(s.q_rows, sizeof *q_positions);
    int32_t *k_positions = test_alloc(s.k_rows, sizeof *k_positions);
    // As after token pruning: rising with holes, and far out.
    for (int64_t i = 0; i < s.q_rows; i++) q_positions[i] = (int32_t)(700 + 3 * i);
    for (int64_t i = 0; i < s.k_rows; i++) k_positions[i] = (int32_t)(7 * i + test_below(3, i, 7));
    for (int which = 1; which < 4; which++) {
        s.args.q_positions = which & 1 ? q_positions : NULL;
        s.args.k_positions = which & 2 ? k_positions : NULL;
        check(&s, (check_options){.max_probes = 20});
    }
    // Beyond the angles that a table holds from the start: the queries first, then keys farther out still.
    for (int64_t i = 0; i < s.q_rows; i++) q_positions[i] += 9000;
    check(&s, (check_options){.max_probes = 20});
    for (int64_t i = 0; i < s.k_rows; i++) k_positions[i] += 19000;
    check(&s, (check_options){.max_probes = 20});
    free(q_positions);
    free(k_positions);
    setup_free(&s);
}

// Queries in the middle of their sequence, as when pruned tokens come back: few of many keys, in one block
// and over several, the last query with keys behind it or not.
static void test_visible_keys(void **state) {
    (void)state;
    setup s = setup_make(4, 2, 6, true);
    setup_add(&s, 5, 9, 2);
    setup_add(&s, 70, 300, 0);
    setup_add(&s, 1, 150, 1);
    int32_t *visible = test_alloc(s.q_rows, sizeof *visible);
    const int32_t few[] = {1, 3, 4, 8, 9};
    for (int i = 0; i < 5; i++) visible[i] = few[i];
    for (int i = 0; i < 70; i++) visible[5 + i] = (int32_t)(1 + 4 * i + test_below(3, i, 4));
    visible[75] = 130;
    s.args.visible = visible;
    check(&s, (check_options){.max_probes = 40});
    free(visible);
    setup_free(&s);
}

// Sequences may read the same key rows (a shared prefix) as long as those want no gradient.
static void test_sequences_that_share_keys(void **state) {
    (void)state;
    setup s = setup_make(2, 1, 4, true);
    for (int i = 0; i < 6; i++)
        s.sequences[i] = (kv_sequence){.q_row = 3 * i, .q_len = 3, .k_row = 0, .k_len = 70 + i};
    s.args.n_sequences = 6;
    s.q_rows = 18;
    s.k_rows = 75;
    check(&s, (check_options){.max_probes = 80, .fixed_k = true, .fixed_v = true});
    setup_free(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_token),
        cmocka_unit_test(test_head_dims_and_groups),
        cmocka_unit_test(test_without_rotation),
        cmocka_unit_test(test_lengths_around_tiles),
        cmocka_unit_test(test_gradients_beyond_a_tile),
        cmocka_unit_test(test_each_input_may_be_fixed),
        cmocka_unit_test(test_several_sequences),
        cmocka_unit_test(test_gaps_and_longer_keys),
        cmocka_unit_test(test_explicit_positions),
        cmocka_unit_test(test_visible_keys),
        cmocka_unit_test(test_sequences_that_share_keys),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

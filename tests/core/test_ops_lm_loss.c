// The fused cross-entropy, z-loss and KL against double precision, over all shapes of blocks and tiles.
#include "core/ops.h"
#include "tests/support/numeric.h"
#include "tests/support/reference.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { IGNORED = -100 };

// ---- lm_loss -------------------------------------------------------------------------------------------

typedef struct lm_shape {
    int64_t m, vocabulary, dim;
    int64_t teacher_dim; // 0: no teacher
    kv_lm_loss_args args;
    double scale; // of hidden states and heads; 0: 1
    bool whole;   // whole numbers: logits are exact in float32
    bool fixed_hidden, fixed_head;
    kv_dtype dtype, teacher_dtype;
    int64_t max_probes;
} lm_shape;

static kv_tensor *lm_run(kv_tape *tape, const numeric_operand *in, const void *context) {
    const lm_shape *s = context;
    kv_lm_loss_args args = s->args;
    args.teacher_hidden = s->teacher_dim ? in[2].tensor : NULL;
    args.teacher_head = s->teacher_dim ? in[3].param : NULL;
    return kv_lm_loss(tape, in[0].tensor, in[1].param, &args, NULL);
}

static void lm_reference(const double *const *in, const void *context, double *out) {
    const lm_shape *s = context;
    out[0] = ref_lm_loss(&s->args, s->m, s->vocabulary, s->dim, in[0], in[1], s->teacher_dim,
                         s->teacher_dim ? in[2] : NULL, in[3], NULL);
}

// Targets anywhere in the vocabulary, every `ignore_every`-th row ignored (0: none); n_valid 0 counts them.
static void check_lm(lm_shape s, int64_t ignore_every) {
    int32_t *targets = test_alloc(s.m, sizeof *targets);
    int64_t n_valid = 0;
    for (int64_t i = 0; i < s.m; i++) {
        targets[i] = (int32_t)test_below(21, i, s.vocabulary);
        if (ignore_every && i % ignore_every == ignore_every - 1) targets[i] = IGNORED;
        n_valid += targets[i] != IGNORED;
    }
    s.args.targets = targets;
    s.args.ignore_index = IGNORED;
    if (s.args.n_valid == 0) s.args.n_valid = (double)n_valid;
    char name[128];
    snprintf(name, sizeof name, "lm_loss m %d vocabulary %d dim %d teacher %d ce %g z %g kl %g", (int)s.m,
             (int)s.vocabulary, (int)s.dim, (int)s.teacher_dim, (double)s.args.weight_ce,
             (double)s.args.weight_z, (double)s.args.weight_kl);
    numeric_check(&(numeric_case){
        .name = name,
        .leaves = {{"hidden", NUMERIC_TENSOR, s.m, s.dim, .scale = s.scale, .whole = s.whole,
                    .frozen = s.fixed_hidden},
                   {"head", NUMERIC_PARAM, s.vocabulary, s.dim, .scale = s.scale, .whole = s.whole,
                    .frozen = s.fixed_head, .dtype = s.dtype},
                   {"teacher hidden", NUMERIC_TENSOR, s.teacher_dim ? s.m : 0, s.teacher_dim, .frozen = true},
                   {"teacher head", NUMERIC_PARAM, s.vocabulary, s.teacher_dim, .frozen = true,
                    .dtype = s.teacher_dtype}},
        .out_rows = 1,
        .out_cols = 1,
        .run = lm_run,
        .reference = lm_reference,
        .context = &s,
        .max_probes = s.max_probes,
    });
    free(targets);
}

static const kv_lm_loss_args only_ce = {.weight_ce = 1}, only_z = {.weight_z = 1e-4f},
                             only_kl = {.weight_kl = 2};
static const kv_lm_loss_args ce_and_z = {.weight_ce = 1, .weight_z = 0.01f};
static const kv_lm_loss_args all_terms = {.weight_ce = 0.7f, .weight_z = 0.02f, .weight_kl = 1.5f};

static void test_each_term(void **state) {
    (void)state;
    const kv_lm_loss_args terms[] = {only_ce, only_z, only_kl, ce_and_z, all_terms};
    for (int t = 0; t < 5; t++) {
        check_lm((lm_shape){.m = 6, .vocabulary = 13, .dim = 5, .teacher_dim = 9, .args = terms[t]}, 0);
        check_lm((lm_shape){.m = 9, .vocabulary = 97, .dim = 8, .teacher_dim = 3, .args = terms[t]}, 3);
    }
    check_lm((lm_shape){.m = 6, .vocabulary = 13, .dim = 5, .args = ce_and_z}, 0);
}

static void test_vocabularies(void **state) {
    (void)state;
    const int64_t sizes[] = {1, 2, 97, 1023, 1024, 1025, 5000};
    for (int i = 0; i < 7; i++) {
        check_lm((lm_shape){.m = 5, .vocabulary = sizes[i], .dim = 4, .args = ce_and_z, .max_probes = 8}, 4);
        check_lm((lm_shape){.m = 3,
                            .vocabulary = sizes[i],
                            .dim = 3,
                            .teacher_dim = 5,
                            .args = all_terms,
                            .max_probes = 8},
                 0);
    }
}

static void test_rows(void **state) {
    (void)state;
    const int64_t rows[] = {1, 2, 31, 32, 33, 64, 65, 127, 128, 129, 257, 300};
    for (int i = 0; i < 12; i++) {
        check_lm((lm_shape){.m = rows[i], .vocabulary = 97, .dim = 6, .args = ce_and_z, .max_probes = 8}, 5);
        check_lm((lm_shape){.m = rows[i],
                            .vocabulary = 31,
                            .dim = 3,
                            .teacher_dim = 4,
                            .args = all_terms,
                            .max_probes = 8},
                 7);
    }
}

// Several blocks of rows and several tiles of the vocabulary at once.
static void test_many_rows_and_a_large_vocabulary(void **state) {
    (void)state;
    check_lm((lm_shape){.m = 300, .vocabulary = 5000, .dim = 3, .args = ce_and_z, .max_probes = 3}, 6);
    check_lm(
        (lm_shape){
            .m = 150, .vocabulary = 9000, .dim = 2, .teacher_dim = 3, .args = all_terms, .max_probes = 2},
        6);
}

// A step too large to keep its logits for backward computes them again: cutting the rows into parts that are
// kept must give the same. Hidden states, head and teacher are those of the first row on.
static void lm_in_parts(int n_parts, int64_t vocabulary, float *grads) {
    enum { ROWS = 320 };
    kv_param head = test_param("head", vocabulary, 2, KV_F32, true);
    kv_param teacher_head = test_param("teacher", vocabulary, 2, KV_F32, false);
    test_fill(head.data, 2 * vocabulary, 1, 1);
    test_fill(teacher_head.data, 2 * vocabulary, 2, 1);
    int32_t targets[ROWS];
    for (int i = 0; i < ROWS; i++) targets[i] = i % 7 ? (int32_t)test_below(3, i, vocabulary) : IGNORED;
    kv_tape *tape = kv_tape_create();
    const int64_t rows = ROWS / n_parts;
    for (int part = 0; part < n_parts; part++) {
        kv_tape_reset(tape);
        kv_tensor *hidden = kv_tape_tensor(tape, rows, 2);
        for (int64_t i = 0; i < rows * 2; i++) hidden->data[i] = (float)test_value(4, part * rows * 2 + i);
        hidden->wants_grad = true;
        kv_lm_loss_args args = all_terms;
        args.targets = targets + part * rows;
        args.ignore_index = IGNORED;
        args.n_valid = ROWS - ROWS / 7;
        args.teacher_hidden = hidden;
        args.teacher_head = &teacher_head;
        kv_tensor *loss = kv_lm_loss(tape, hidden, &head, &args, NULL);
        loss = kv_weighted_sum(tape, &loss, (float[]){3}, 1);
        assert_int_equal(kv_tape_backward(tape, loss, NULL), KV_OK);
        memcpy(grads + part * rows * 2, hidden->grad, (size_t)rows * 2 * sizeof *grads);
    }
    memcpy(grads + ROWS * 2, head.grad, (size_t)vocabulary * 2 * sizeof *grads);
    kv_tape_free(tape);
    test_param_free(&head);
    test_param_free(&teacher_head);
}

static void test_too_large_to_keep(void **state) {
    (void)state;
    const int64_t vocabulary = 60000, n = 2 * (320 + vocabulary);
    float *grads = test_alloc(n, sizeof *grads);
    lm_in_parts(4, vocabulary, grads);
    double *expected = numeric_doubles(grads, n);
    lm_in_parts(1, vocabulary, grads);
    numeric_compare("lm_loss computed again, hidden", grads, expected, 2 * 320, 1e-5);
    numeric_compare("lm_loss computed again, head", grads + 2 * 320, expected + 2 * 320, 2 * vocabulary,
                    1e-5);
    free(grads);
    free(expected);
}

// A micro-batch divides by the valid targets of its whole step, not by its own.
static void test_part_of_a_larger_step(void **state) {
    (void)state;
    lm_shape s = {.m = 7, .vocabulary = 11, .dim = 4, .teacher_dim = 4, .args = all_terms};
    s.args.n_valid = 53;
    check_lm(s, 3);
}

static void test_all_rows_ignored(void **state) {
    (void)state;
    lm_shape s = {.m = 5, .vocabulary = 11, .dim = 4, .teacher_dim = 4, .args = all_terms};
    s.args.n_valid = 10;
    check_lm(s, 1);
}

static void test_frozen_parts_and_stored_types(void **state) {
    (void)state;
    for (int mask = 0; mask < 4; mask++)
        check_lm((lm_shape){.m = 6,
                            .vocabulary = 19,
                            .dim = 5,
                            .teacher_dim = 7,
                            .args = all_terms,
                            .fixed_hidden = mask & 1,
                            .fixed_head = mask & 2},
                 4);
    for (kv_dtype dtype = KV_BF16; dtype <= KV_F16; dtype++)
        check_lm((lm_shape){.m = 6,
                            .vocabulary = 1100,
                            .dim = 5,
                            .teacher_dim = 7,
                            .args = all_terms,
                            .fixed_head = true,
                            .dtype = dtype,
                            .teacher_dtype = dtype,
                            .max_probes = 8},
                 4);
}

// Logits of some 10^4: e^logit overflows, logsumexp must not.
static void test_huge_logits(void **state) {
    (void)state;
    check_lm((lm_shape){.m = 20, .vocabulary = 97, .dim = 5, .args = ce_and_z, .scale = 60, .whole = true},
             4);
    check_lm((lm_shape){.m = 20,
                        .vocabulary = 1500,
                        .dim = 5,
                        .args = only_ce,
                        .scale = 60,
                        .whole = true,
                        .max_probes = 8},
             4);
}

// ---- What comes with the scalar ------------------------------------------------------------------------

typedef struct lm_tensors {
    kv_tape *tape;
    kv_tensor *hidden, *teacher;
    kv_param head, teacher_head;
    int32_t targets[8];
    kv_lm_loss_args args;
} lm_tensors;

static lm_tensors lm_make(int64_t vocabulary) {
    lm_tensors t = {.tape = kv_tape_create(),
                    .head = test_param("head", vocabulary, 4, KV_F32, true),
                    .teacher_head = test_param("teacher", vocabulary, 6, KV_F32, true)};
    t.hidden = kv_tape_tensor(t.tape, 8, 4);
    t.teacher = kv_tape_tensor(t.tape, 8, 6);
    test_fill(t.hidden->data, 32, 1, 1);
    test_fill(t.teacher->data, 48, 2, 1);
    test_fill(t.head.data, vocabulary * 4, 3, 1);
    test_fill(t.teacher_head.data, vocabulary * 6, 4, 1);
    t.hidden->wants_grad = true;
    for (int i = 0; i < 8; i++) t.targets[i] = i == 2 ? IGNORED : (int32_t)test_below(9, i, vocabulary);
    t.args = all_terms;
    t.args.ignore_index = IGNORED;
    t.args.n_valid = 7;
    return t;
}

static kv_tensor *lm_loss_of(lm_tensors *t, kv_lm_loss_terms *terms) {
    t->args.targets = t->targets;
    t->args.teacher_hidden = t->teacher;
    t->args.teacher_head = &t->teacher_head;
    return kv_lm_loss(t->tape, t->hidden, &t->head, &t->args, terms);
}

static void lm_free(lm_tensors *t) {
    kv_tape_free(t->tape);
    test_param_free(&t->head);
    test_param_free(&t->teacher_head);
}

static void test_terms_are_unweighted_means(void **state) {
    (void)state;
    lm_tensors t = lm_make(23);
    double *in[4] = {numeric_doubles(t.hidden->data, 32), numeric_param_doubles(&t.head),
                     numeric_doubles(t.teacher->data, 48), numeric_param_doubles(&t.teacher_head)};
    kv_lm_loss_terms terms, expected;
    kv_tensor *loss = lm_loss_of(&t, &terms);
    const double total = ref_lm_loss(&t.args, 8, 23, 4, in[0], in[1], 6, in[2], in[3], &expected);
    assert_float_equal(terms.cross_entropy, expected.cross_entropy, 1e-5);
    assert_float_equal(terms.z, expected.z, 1e-4);
    assert_float_equal(terms.kl, expected.kl, 1e-5);
    assert_float_equal(loss->data[0], total, 1e-4);
    for (int i = 0; i < 4; i++) free(in[i]);
    lm_free(&t);
}

// Even one that itself wants a gradient (a base that is being trained elsewhere) is only read.
static void test_teacher_gets_no_gradient(void **state) {
    (void)state;
    lm_tensors t = lm_make(23);
    t.teacher->wants_grad = true;
    assert_int_equal(kv_tape_backward(t.tape, lm_loss_of(&t, NULL), NULL), KV_OK);
    assert_null(t.teacher->grad);
    for (int i = 0; i < 23 * 6; i++) assert_true(t.teacher_head.grad[i] == 0);
    lm_free(&t);
}

// A student with its teacher's own weights: no divergence, no gradient.
static void test_no_divergence_from_oneself(void **state) {
    (void)state;
    lm_tensors t = lm_make(23);
    kv_lm_loss_terms terms;
    t.args = (kv_lm_loss_args){.targets = t.targets,
                               .ignore_index = IGNORED,
                               .n_valid = 7,
                               .weight_kl = 1,
                               .teacher_hidden = t.hidden,
                               .teacher_head = &t.head};
    kv_tensor *loss = kv_lm_loss(t.tape, t.hidden, &t.head, &t.args, &terms);
    assert_float_equal(loss->data[0], 0, 1e-6);
    assert_float_equal(terms.kl, 0, 1e-6);
    assert_int_equal(kv_tape_backward(t.tape, loss, NULL), KV_OK);
    for (int i = 0; i < 32; i++) assert_float_equal(t.hidden->grad[i], 0, 1e-6);
    lm_free(&t);
}

// Rows whose target is ignored may hold anything, and get gradient 0.
static void test_ignored_rows_do_not_matter(void **state) {
    (void)state;
    lm_tensors t = lm_make(23);
    const float before = lm_loss_of(&t, NULL)->data[0];
    for (int i = 0; i < 4; i++) t.hidden->data[2 * 4 + i] = 1e30f * (float)(i + 1);
    kv_tensor *loss = lm_loss_of(&t, NULL);
    assert_true(loss->data[0] == before);
    assert_int_equal(kv_tape_backward(t.tape, loss, NULL), KV_OK);
    for (int i = 0; i < 32; i++) {
        if (i / 4 == 2) assert_true(t.hidden->grad[i] == 0);
        assert_true(isfinite(t.hidden->grad[i]));
    }
    for (int i = 0; i < 23 * 4; i++) assert_true(isfinite(t.head.grad[i]));
    lm_free(&t);
}

static void test_target_out_of_range(void **state) {
    (void)state;
    const int32_t wrong[] = {23, -1, INT32_MAX, INT32_MIN};
    for (int w = 0; w < 4; w++) {
        lm_tensors t = lm_make(23);
        t.targets[5] = wrong[w];
        assert_null(lm_loss_of(&t, NULL));
        kv_error err = {0};
        assert_int_equal(kv_tape_status(t.tape, &err), KV_ERR_RANGE);
        char value[16];
        snprintf(value, sizeof value, "%d", wrong[w]);
        if (!strstr(err.message, value) || !strstr(err.message, "23"))
            fail_msg("unclear message: %s", err.message);
        lm_free(&t);
    }
    // An ignore index inside the vocabulary is ignored all the same.
    lm_tensors t = lm_make(23);
    kv_lm_loss_terms with, without;
    lm_loss_of(&t, &without);
    t.args.ignore_index = t.targets[2] = 22;
    for (int i = 0; i < 8; i++)
        if (i != 2) assert_true(t.targets[i] != 22);
    lm_loss_of(&t, &with);
    assert_true(with.cross_entropy == without.cross_entropy);
    lm_free(&t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_term),
        cmocka_unit_test(test_vocabularies),
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_many_rows_and_a_large_vocabulary),
        cmocka_unit_test(test_too_large_to_keep),
        cmocka_unit_test(test_part_of_a_larger_step),
        cmocka_unit_test(test_all_rows_ignored),
        cmocka_unit_test(test_frozen_parts_and_stored_types),
        cmocka_unit_test(test_huge_logits),
        cmocka_unit_test(test_terms_are_unweighted_means),
        cmocka_unit_test(test_teacher_gets_no_gradient),
        cmocka_unit_test(test_no_divergence_from_oneself),
        cmocka_unit_test(test_ignored_rows_do_not_matter),
        cmocka_unit_test(test_target_out_of_range),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

// The fused cross-entropy, z-loss and KL against double precision, over all shapes of blocks and tiles.
#include "core/ops.h"
#include "tests/support/numbers/numeric.h"
#include "tests/support/numbers/reference.h"

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

static int64_t larger(int64_t a, int64_t b) {
    return a > b ? a : b;
}

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

// T² times the difference of two logarithms of sums, Σ e^((z - max) / T) of either model: float32 sums of as many terms
// as the vocabulary has, nearly equal where T flattens them, whatever is left of their difference; as a mean of rows that
// are off independently.
static double rounding_of_logarithms(const lm_shape *s) {
    const double t = (double)s->args.kl_temperature;
    if (t <= 1) return 0; // not magnified
    const double rows = s->args.n_valid > 0 ? s->args.n_valid : (double)s->m;
    return (double)s->args.weight_kl * t * t * sqrt(2 / rows) *
           rounding_of_sum((double)s->vocabulary, 1 / (double)s->vocabulary);
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
    rounding_operands weights = {0}; // where p is near 1, little is left of their sum
    rounding_add_floats(&weights, &s.args.weight_ce, 1);
    rounding_add_floats(&weights, &s.args.weight_z, 1);
    rounding_add_floats(&weights, &s.args.weight_kl, 1);
    if (s.args.kl_temperature != 0) rounding_add_floats(&weights, &s.args.kl_temperature, 1);
    numeric_check(&(numeric_case){
        .name = name,
        .also = &weights,
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
        .terms = larger(larger(s.m, s.vocabulary), larger(s.dim, s.teacher_dim)),
        .between = rounding_of_logarithms(&s),
        .max_probes = s.max_probes,
    });
    rounding_operands_free(&weights);
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

// KL alone or beside the terms that know no temperature; 1 is what it is without.
static void test_temperatures(void **state) {
    (void)state;
    const float temperatures[] = {0.5f, 1, 2, 7.3f};
    for (int i = 0; i < 8; i++) {
        lm_shape s = {
            .m = 9, .vocabulary = 97, .dim = 8, .teacher_dim = 3, .args = i % 2 ? all_terms : only_kl};
        s.args.kl_temperature = temperatures[i / 2];
        check_lm(s, 3);
    }
    lm_shape tiles = {
        .m = 150, .vocabulary = 9000, .dim = 2, .teacher_dim = 3, .args = all_terms, .max_probes = 2};
    tiles.args.kl_temperature = 2;
    check_lm(tiles, 6);
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

// A step too large to keep its logits for backward computes them again: whole or cut into parts whose logits
// are kept, the gradients must be those of the formula. The teacher reads the same hidden states with a head
// of its own.
enum { LARGE_ROWS = 320, LARGE_DIM = 2 };

static void large_step(int64_t vocabulary, kv_param *head, kv_param *teacher_head, int32_t *targets) {
    *head = test_param("head", vocabulary, LARGE_DIM, KV_F32, true);
    *teacher_head = test_param("teacher", vocabulary, LARGE_DIM, KV_F32, false);
    test_fill(head->data, LARGE_DIM * vocabulary, 1, 1);
    test_fill(teacher_head->data, LARGE_DIM * vocabulary, 2, 1);
    for (int i = 0; i < LARGE_ROWS; i++) targets[i] = i % 7 ? (int32_t)test_below(3, i, vocabulary) : IGNORED;
}

// Softmax of h·headᵀ, and its logsumexp.
static double softmax_of(const kv_param *head, const double *h, double *p) {
    const float *w = head->data;
    double sum = 0;
    for (int64_t j = 0; j < head->rows; j++) {
        const double z = h[0] * (double)w[2 * j] + h[1] * (double)w[2 * j + 1];
        sum += p[j] = exp(z);
    }
    for (int64_t j = 0; j < head->rows; j++) p[j] /= sum;
    return log(sum);
}

// 3 · d loss / d (hidden, head), and the sums of the squares of what is added up in each element: dz in its
// parts, and p once more as a whole, for the one sum that all of a row's share.
static void large_step_exactly(int64_t vocabulary, double *grads, double *squares) {
    kv_param head, teacher_head;
    int32_t targets[LARGE_ROWS];
    large_step(vocabulary, &head, &teacher_head, targets);
    const kv_lm_loss_args *a = &all_terms;
    double *p = test_alloc(vocabulary, sizeof *p), *teacher = test_alloc(vocabulary, sizeof *teacher);
    double *head_grads = grads + LARGE_ROWS * LARGE_DIM, *head_squares = squares + LARGE_ROWS * LARGE_DIM;
    const double scale = 3.0 / (LARGE_ROWS - LARGE_ROWS / 7);
    for (int64_t i = 0; i < LARGE_ROWS; i++) {
        if (targets[i] == IGNORED) continue;
        const double h[LARGE_DIM] = {(double)(float)test_value(4, 2 * i),
                                     (double)(float)test_value(4, 2 * i + 1)};
        const double lse = softmax_of(&head, h, p);
        softmax_of(&teacher_head, h, teacher);
        const double w_p = (double)a->weight_ce + 2 * (double)a->weight_z * lse + (double)a->weight_kl;
        double whole[LARGE_DIM] = {0};
        for (int64_t j = 0; j < vocabulary; j++) {
            const double up = scale * w_p * p[j], hit = j == targets[i] ? scale * (double)a->weight_ce : 0;
            const double down = scale * (double)a->weight_kl * teacher[j], dz = up - hit - down;
            const double size = up * up + hit * hit + down * down;
            for (int c = 0; c < LARGE_DIM; c++) {
                const double w = (double)((float *)head.data)[LARGE_DIM * j + c];
                grads[LARGE_DIM * i + c] += dz * w;
                squares[LARGE_DIM * i + c] += size * w * w;
                whole[c] += up * w;
                head_grads[LARGE_DIM * j + c] += dz * h[c];
                head_squares[LARGE_DIM * j + c] += size * h[c] * h[c];
            }
        }
        for (int c = 0; c < LARGE_DIM; c++) squares[LARGE_DIM * i + c] += whole[c] * whole[c];
    }
    free(p);
    free(teacher);
    test_param_free(&head);
    test_param_free(&teacher_head);
}

static void lm_in_parts(int n_parts, int64_t vocabulary, float *grads) {
    enum { ROWS = LARGE_ROWS };
    kv_param head, teacher_head;
    int32_t targets[ROWS];
    large_step(vocabulary, &head, &teacher_head, targets);
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
    const int64_t vocabulary = 60000, n = LARGE_DIM * (LARGE_ROWS + vocabulary);
    float *grads = test_alloc(n, sizeof *grads);
    rounding_spread exact = {n, test_alloc(n, sizeof(double)), test_alloc(n, sizeof(double))};
    large_step_exactly(vocabulary, exact.expected, exact.allowed);
    for (int64_t i = 0; i < n;
         i++) // sums over the vocabulary in the hidden states' gradients, over rows in the head's
        exact.allowed[i] =
            rounding_of_sum(i < LARGE_DIM * LARGE_ROWS ? (double)vocabulary : LARGE_ROWS, exact.allowed[i]);
    for (int parts = 1; parts <= 4; parts += 3) {
        lm_in_parts(parts, vocabulary, grads);
        rounding_compare(parts > 1 ? "lm_loss in parts" : "lm_loss computed again", grads, &exact, 0, n);
    }
    free(grads);
    rounding_spread_free(&exact);
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

// Hidden states, head, teacher's hidden states and head.
struct lm_doubles {
    const kv_lm_loss_args *args;
    double *in[4];
};

// Cross-entropy, z, KL, total.
static void lm_results(const void *context, double *results) {
    const struct lm_doubles *d = context;
    kv_lm_loss_terms terms;
    results[3] = ref_lm_loss(d->args, 8, 23, 4, d->in[0], d->in[1], 6, d->in[2], d->in[3], &terms);
    results[0] = terms.cross_entropy, results[1] = terms.z, results[2] = terms.kl;
}

static void test_terms_are_unweighted_means(void **state) {
    (void)state;
    lm_tensors t = lm_make(23);
    const int64_t sizes[4] = {32, 23 * 4, 48, 23 * 6};
    struct lm_doubles d = {&t.args,
                           {numeric_doubles(t.hidden->data, 32), numeric_param_doubles(&t.head),
                            numeric_doubles(t.teacher->data, 48), numeric_param_doubles(&t.teacher_head)}};
    kv_lm_loss_terms terms;
    kv_tensor *loss = lm_loss_of(&t, &terms);
    rounding_operands operands = {0};
    for (int i = 0; i < 4; i++) rounding_add(&operands, d.in[i], sizes[i]);
    rounding_spread spread = rounding_measure(&operands, 23, lm_results, &d, 4);
    rounding_compare_one("cross-entropy", terms.cross_entropy, &spread, 0);
    rounding_compare_one("z", terms.z, &spread, 1);
    rounding_compare_one("KL", terms.kl, &spread, 2);
    rounding_compare_one("total", (double)loss->data[0], &spread, 3);
    for (int i = 0; i < 4; i++) free(d.in[i]);
    rounding_operands_free(&operands);
    rounding_spread_free(&spread);
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

// A student with its teacher's own weights goes through the same operations in the same order: no divergence,
// no gradient, not even of rounding.
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
    for (int temperature = 1; temperature <= 3; temperature++) {
        t.args.kl_temperature = (float)temperature;
        kv_tensor *loss = kv_lm_loss(t.tape, t.hidden, &t.head, &t.args, &terms);
        assert_true(loss->data[0] == 0 && terms.kl == 0);
        assert_int_equal(kv_tape_backward(t.tape, loss, NULL), KV_OK);
        for (int i = 0; i < 32; i++) assert_true(t.hidden->grad[i] == 0);
    }
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
        cmocka_unit_test(test_temperatures),
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

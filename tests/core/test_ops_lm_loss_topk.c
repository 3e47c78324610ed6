// KL to a teacher of which only the largest logits are known, against double precision and against the exact
// one.
#include "core/ops.h"
#include "tests/support/numbers/numeric.h"
#include "tests/support/numbers/reference.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { IGNORED = -100 };

// A teacher's k largest logits of each row, from logits teacher[m, vocabulary].
typedef struct topk {
    int32_t *ids;
    float *logits, *logsumexp;
} topk;

static topk topk_of(const double *teacher, int64_t m, int64_t vocabulary, int64_t k, double temperature) {
    topk t = {test_alloc(m * k, sizeof *t.ids), test_alloc(m * k, sizeof *t.logits),
              test_alloc(m, sizeof *t.logsumexp)};
    char *taken = test_alloc(vocabulary, 1);
    for (int64_t i = 0; i < m; i++) {
        const double *z = teacher + i * vocabulary;
        double top = -INFINITY, sum = 0;
        memset(taken, 0, (size_t)vocabulary);
        for (int64_t j = 0; j < vocabulary; j++) top = fmax(top, z[j]);
        for (int64_t j = 0; j < vocabulary; j++) sum += exp((z[j] - top) / temperature);
        t.logsumexp[i] = (float)(top / temperature + log(sum));
        for (int64_t n = 0; n < k; n++) {
            int64_t best = -1;
            for (int64_t j = 0; j < vocabulary; j++)
                if (!taken[j] && (best < 0 || z[j] > z[best])) best = j;
            taken[best] = 1;
            t.ids[i * k + n] = (int32_t)best;
            t.logits[i * k + n] = (float)z[best];
        }
    }
    free(taken);
    return t;
}

static void topk_free(topk *t) {
    free(t->ids);
    free(t->logits);
    free(t->logsumexp);
}

typedef struct shape {
    int64_t m, vocabulary, dim, k;
    kv_lm_loss_args args;
    double scale, teacher_scale; // 0: 1
    int64_t max_probes;
    topk teacher;
} shape;

static double temperature_of(const shape *s) {
    return s->args.kl_temperature == 0 ? 1 : (double)s->args.kl_temperature;
}

// Written from the formula over k + 1 outcomes, P(rest) as a sum over the rest, of logits z divided by T.
static double reference_kl(const shape *s, int64_t row, const double *z) {
    char *top = test_alloc(s->vocabulary, 1);
    double all = -INFINITY, sum = 0;
    for (int64_t j = 0; j < s->vocabulary; j++) all = fmax(all, z[j]);
    for (int64_t j = 0; j < s->vocabulary; j++) sum += exp(z[j] - all);
    const double lse = all + log(sum), t = temperature_of(s);
    double kl = 0, p_top = 0, q_rest = 0;
    for (int64_t n = 0; n < s->k; n++) {
        const int32_t id = s->teacher.ids[row * s->k + n];
        const double log_p =
            (double)s->teacher.logits[row * s->k + n] / t - (double)s->teacher.logsumexp[row];
        kl += exp(log_p) * (log_p - (z[id] - lse));
        p_top += exp(log_p);
        top[id] = 1;
    }
    double most = -INFINITY;
    for (int64_t j = 0; j < s->vocabulary; j++)
        if (!top[j]) most = fmax(most, z[j]);
    for (int64_t j = 0; j < s->vocabulary; j++)
        if (!top[j]) q_rest += exp(z[j] - most);
    if (s->k < s->vocabulary && p_top < 1) kl += (1 - p_top) * (log(1 - p_top) - (log(q_rest) + most - lse));
    free(top);
    return t * t * kl;
}

static void reference(const double *const *in, const void *context, double *out) {
    const shape *s = context;
    double kl = 0, *z = test_alloc(s->m * s->vocabulary, sizeof *z);
    ref_linear(s->m, s->vocabulary, s->dim, in[0], in[1], NULL, z);
    for (int64_t i = 0; i < s->m; i++) {
        if (s->args.targets[i] == IGNORED) continue;
        for (int64_t j = 0; j < s->vocabulary; j++) z[i * s->vocabulary + j] /= temperature_of(s);
        kl += reference_kl(s, i, z + i * s->vocabulary);
    }
    kv_lm_loss_args others = s->args;
    others.weight_kl = 0;
    out[0] = ref_lm_loss(&others, s->m, s->vocabulary, s->dim, in[0], in[1], 0, NULL, NULL, NULL) +
             (double)s->args.weight_kl * kl / s->args.n_valid;
    free(z);
}

static kv_lm_loss_args args_of(const shape *s) {
    kv_lm_loss_args args = s->args;
    args.topk = (kv_topk_teacher){
        .k = s->k, .ids = s->teacher.ids, .logits = s->teacher.logits, .logsumexp = s->teacher.logsumexp};
    return args;
}

static kv_tensor *run(kv_tape *tape, const numeric_operand *in, const void *context) {
    const kv_lm_loss_args args = args_of(context);
    return kv_lm_loss(tape, in[0].tensor, in[1].param, &args, NULL);
}

static double *random_logits(int64_t n, double scale) {
    double *logits = test_alloc(n, sizeof *logits);
    for (int64_t i = 0; i < n; i++) logits[i] = (scale > 0 ? scale : 1) * test_value(77, i);
    return logits;
}

static void check(shape s, int64_t ignore_every) {
    int32_t *targets = test_alloc(s.m, sizeof *targets);
    int64_t n_valid = 0;
    for (int64_t i = 0; i < s.m; i++) {
        targets[i] = (int32_t)test_below(21, i, s.vocabulary);
        if (ignore_every && i % ignore_every == ignore_every - 1) targets[i] = IGNORED;
        n_valid += targets[i] != IGNORED;
    }
    double *logits = random_logits(s.m * s.vocabulary, s.teacher_scale);
    s.teacher = topk_of(logits, s.m, s.vocabulary, s.k, temperature_of(&s));
    s.args.targets = targets;
    s.args.ignore_index = IGNORED;
    s.args.n_valid = (double)n_valid;
    char name[128];
    snprintf(name, sizeof name, "top %d of %d, m %d dim %d", (int)s.k, (int)s.vocabulary, (int)s.m,
             (int)s.dim);
    // The teacher's logits are floats, of which the largest leave no more than rounding to the others; and
    // where p is near 1, little is left of the weights' sum.
    rounding_operands given = {0};
    rounding_add_floats(&given, s.teacher.logits, s.m * s.k);
    rounding_add_floats(&given, s.teacher.logsumexp, s.m);
    rounding_add_floats(&given, &s.args.weight_ce, 1);
    rounding_add_floats(&given, &s.args.weight_z, 1);
    rounding_add_floats(&given, &s.args.weight_kl, 1);
    if (s.args.kl_temperature != 0) rounding_add_floats(&given, &s.args.kl_temperature, 1);
    numeric_check(&(numeric_case){
        .name = name,
        .also = &given,
        .leaves = {{"hidden", NUMERIC_TENSOR, s.m, s.dim, .scale = s.scale},
                   {"head", NUMERIC_PARAM, s.vocabulary, s.dim, .scale = s.scale}},
        .out_rows = 1,
        .out_cols = 1,
        .run = run,
        .reference = reference,
        .context = &s,
        .terms = s.m > s.vocabulary ? s.m : s.vocabulary,
        .max_probes = s.max_probes,
    });
    rounding_operands_free(&given);
    topk_free(&s.teacher);
    free(targets);
    free(logits);
}

static const kv_lm_loss_args only_kl = {.weight_kl = 2};
static const kv_lm_loss_args all_terms = {.weight_ce = 0.7f, .weight_z = 0.02f, .weight_kl = 1.5f};

static void test_values_and_gradients(void **state) {
    (void)state;
    const int64_t ks[] = {1, 2, 7, 22, 23};
    for (int i = 0; i < 5; i++) {
        check((shape){.m = 6, .vocabulary = 23, .dim = 5, .k = ks[i], .args = only_kl, .teacher_scale = 3},
              0);
        check((shape){.m = 9, .vocabulary = 23, .dim = 4, .k = ks[i], .args = all_terms}, 4);
    }
    check((shape){.m = 3, .vocabulary = 1, .dim = 2, .k = 1, .args = all_terms}, 0);
}

static void test_temperatures(void **state) {
    (void)state;
    const float temperatures[] = {0.5f, 1.7f, 2};
    const int64_t ks[] = {1, 7, 22, 23};
    for (int t = 0; t < 3; t++)
        for (int i = 0; i < 4; i++) {
            shape s = {.m = 9, .vocabulary = 23, .dim = 4, .k = ks[i], .args = i % 2 ? all_terms : only_kl};
            s.args.kl_temperature = temperatures[t];
            check(s, 4);
        }
    shape s = {.m = 33, .vocabulary = 2049, .dim = 3, .k = 20, .args = all_terms, .max_probes = 6};
    s.args.kl_temperature = 2;
    check(s, 5);
}

// Several blocks of rows and several tiles of the vocabulary.
static void test_blocks_and_tiles(void **state) {
    (void)state;
    check((shape){.m = 150, .vocabulary = 9000, .dim = 2, .k = 4, .args = all_terms, .max_probes = 2}, 6);
    check((shape){.m = 33, .vocabulary = 2049, .dim = 3, .k = 20, .args = only_kl, .max_probes = 6}, 5);
}

// The rest of the teacher's distribution from about 1e-2 down to what a float cannot tell from 0; of the
// student's, too, in the second case.
static void test_next_to_nothing_is_left(void **state) {
    (void)state;
    for (int scale = 1; scale <= 30; scale += 7) {
        check((shape){.m = 5, .vocabulary = 11, .dim = 4, .k = 10, .args = only_kl, .teacher_scale = scale},
              0);
        check((shape){.m = 5,
                      .vocabulary = 11,
                      .dim = 4,
                      .k = 3,
                      .args = only_kl,
                      .scale = 2,
                      .teacher_scale = 2 * scale},
              0);
    }
    // All of the student's mass is on one id, e^-200 on the others; the teacher leaves much to them.
    kv_tape *tape = kv_tape_create();
    kv_param head = test_param("head", 4, 1, KV_F32, true);
    kv_tensor *hidden = kv_tape_tensor(tape, 1, 1);
    const int32_t targets[] = {0}, ids[] = {0};
    const float logits[] = {0}, logsumexp[] = {logf(2)};
    ((float *)head.data)[0] = 200;
    hidden->data[0] = 1, hidden->wants_grad = true;
    kv_lm_loss_terms terms;
    const kv_lm_loss_args args = {.targets = targets,
                                  .ignore_index = IGNORED,
                                  .n_valid = 1,
                                  .weight_kl = 1,
                                  .topk = {1, ids, logits, logsumexp}};
    kv_tensor *loss = kv_lm_loss(tape, hidden, &head, &args, &terms);
    // logsumexp(2) is a float, and a few operations follow.
    expect_float("KL", terms.kl, 0.5 * log(0.5) + 0.5 * (log(0.5) + 200 - log(3)), 6,
                 100 + log(2) + log(3) / 2);
    assert_int_equal(kv_tape_backward(tape, loss, NULL), KV_OK);
    const float *grad = head.grad; // half the mass is to go from the first to the three others
    // 1 - e^(0 - ln 2), and e^-ln 3 / 2: logarithms that are floats, an exponential, products.
    expect_float("gradient", (double)grad[0], 0.5, 8, 1);
    for (int i = 1; i < 4; i++) expect_float("gradient", (double)grad[i], -0.5 / 3, 8, 0.5);
    test_param_free(&head);
    kv_tape_free(tape);
}

// A teacher and a student over the same random hidden states.
typedef struct both {
    kv_tape *tape;
    kv_param head, teacher_head;
    kv_tensor *hidden;
    int32_t *targets;
    topk teacher;
    int64_t m, k;
    double temperature;
} both;

static both both_make(int64_t m, int64_t vocabulary, int64_t k, double temperature) {
    both b = {.tape = kv_tape_create(),
              .head = test_param("head", vocabulary, 4, KV_F32, true),
              .teacher_head = test_param("teacher", vocabulary, 4, KV_F32, false),
              .targets = test_alloc(m, sizeof *b.targets),
              .m = m,
              .k = k,
              .temperature = temperature};
    b.hidden = kv_tape_tensor(b.tape, m, 4);
    b.hidden->wants_grad = true;
    test_fill(b.hidden->data, m * 4, 1, 2);
    test_fill(b.head.data, vocabulary * 4, 2, 2);
    test_fill(b.teacher_head.data, vocabulary * 4, 3, 2);
    double *hidden = numeric_doubles(b.hidden->data, m * 4), *head = numeric_param_doubles(&b.teacher_head);
    double *logits = test_alloc(m * vocabulary, sizeof *logits);
    ref_linear(m, vocabulary, 4, hidden, head, NULL, logits);
    b.teacher = topk_of(logits, m, vocabulary, k, temperature);
    free(hidden);
    free(head);
    free(logits);
    return b;
}

static double kl_of(both *b, bool whole, int64_t row, int64_t rows, double *grads) {
    const topk *t = &b->teacher;
    kv_lm_loss_args args = {.targets = b->targets + row,
                            .ignore_index = IGNORED,
                            .n_valid = (double)b->m,
                            .weight_kl = 1,
                            .kl_temperature = (float)b->temperature};
    kv_tensor *hidden = kv_tape_view(b->tape, b->hidden->data + row * 4, rows, 4);
    hidden->wants_grad = true;
    if (whole)
        args.teacher_hidden = hidden, args.teacher_head = &b->teacher_head;
    else
        args.topk = (kv_topk_teacher){b->k, t->ids + row * b->k, t->logits + row * b->k, t->logsumexp + row};
    kv_lm_loss_terms terms;
    kv_tensor *loss = kv_lm_loss(b->tape, hidden, &b->head, &args, &terms);
    assert_non_null(loss);
    assert_int_equal(kv_tape_backward(b->tape, loss, NULL), KV_OK);
    for (int64_t i = 0; grads && i < rows * 4; i++) grads[row * 4 + i] = (double)hidden->grad[i];
    return terms.kl;
}

static void both_free(both *b) {
    topk_free(&b->teacher);
    test_param_free(&b->head);
    test_param_free(&b->teacher_head);
    kv_tape_free(b->tape);
    free(b->targets);
}

// Rows of the step by themselves: their part of the KL, and their gradient.
typedef struct piece {
    both *b;
    bool whole;
    int64_t row, rows;
} piece;

static void piece_results(const void *context, double *results) {
    const piece *p = context;
    both own = *p->b;
    own.tape = kv_tape_create();
    results[0] = kl_of(&own, p->whole, p->row, p->rows, results + 1 - p->row * 4);
    kv_tape_free(own.tape);
}

static rounding_spread measure(const piece *p) {
    rounding_operands operands = {0};
    rounding_add_floats(&operands, p->b->hidden->data + p->row * 4, p->rows * 4);
    rounding_add_floats(&operands, p->b->head.data, kv_param_size(&p->b->head));
    rounding_add_floats(&operands, p->b->teacher_head.data, kv_param_size(&p->b->teacher_head));
    rounding_spread s = rounding_measure(&operands, p->b->head.rows, piece_results, p, 1 + p->rows * 4);
    rounding_operands_free(&operands);
    return s;
}

static void test_the_whole_vocabulary_is_exact(void **state) {
    (void)state;
    double found[12 * 4];
    for (double t = 0.5; t <= 4; t *= 2) {
        both b = both_make(12, 31, 31, t);
        rounding_spread exact = measure(&(piece){&b, true, 0, 12});
        const double kl = kl_of(&b, false, 0, 12, found);
        assert_true(kl > 0.1);
        // Both are sums in float32, of the teacher's logits in float32.
        rounding_expect("KL", kl, exact.expected[0], 2 * exact.allowed[0]);
        for (int i = 0; i < 12 * 4; i++)
            rounding_expect("gradient", found[i], exact.expected[1 + i], 2 * exact.allowed[1 + i]);
        rounding_spread_free(&exact);
        both_free(&b);
    }
}

// Taking outcomes together never adds divergence; one more of them apart never takes any away.
static void test_grows_with_k(void **state) {
    (void)state;
    double before = 0;
    for (int i = 0; i < 12; i++) {
        const int k = 1 + 6 * (i % 6);
        if (i == 6) before = 0;
        both b = both_make(12, 31, k, i < 6 ? 1 : 3);
        const double kl = kl_of(&b, false, 0, 12, NULL);
        rounding_spread exact = measure(&(piece){&b, true, 0, 12});
        assert_true(kl > before && kl <= exact.expected[0] + 2 * exact.allowed[0]);
        rounding_spread_free(&exact);
        before = kl;
        both_free(&b);
    }
}

// Logits of a step too large to keep are computed again for backward: the same as in parts that are kept.
static void test_too_large_to_keep(void **state) {
    (void)state;
    enum { ROWS = 288 };
    both b = both_make(ROWS, 60000, 2, 1);
    static double once[ROWS * 4], parts[ROWS * 4];
    for (int i = 0; i < ROWS; i += 7) b.targets[i] = IGNORED;
    const double kl = kl_of(&b, false, 0, ROWS, once);
    double sum = 0;
    for (int part = 0; part < 3; part++) sum += kl_of(&b, false, part * ROWS / 3, ROWS / 3, parts);
    // Rows do not know of each other, and are all alike: what some of them may be off by, all may.
    double kl_allowed = 0, allowed = 0;
    for (int row = 1; row < ROWS; row += 24) {
        rounding_spread own = measure(&(piece){&b, false, row, 1});
        kl_allowed = fmax(kl_allowed, ROWS * own.allowed[0]);
        for (int i = 1; i < 5; i++) allowed = fmax(allowed, own.allowed[i]);
        rounding_spread_free(&own);
    }
    rounding_expect("KL", sum, kl, 2 * kl_allowed);
    for (int i = 0; i < ROWS * 4; i++) rounding_expect("gradient", once[i], parts[i], 2 * allowed);
    both_free(&b);
}

static void test_ids_that_make_no_sense(void **state) {
    (void)state;
    const int32_t wrong[] = {31, -1, INT32_MIN, INT32_MAX};
    for (int w = 0; w < 5; w++) {
        both b = both_make(3, 31, 4, 1);
        int32_t *ids = b.teacher.ids + 4; // of row 1
        ids[3] = w < 4 ? wrong[w] : ids[1];
        const kv_lm_loss_args args = {.targets = b.targets,
                                      .ignore_index = IGNORED,
                                      .n_valid = 3,
                                      .weight_kl = 1,
                                      .topk = {4, b.teacher.ids, b.teacher.logits, b.teacher.logsumexp}};
        assert_null(kv_lm_loss(b.tape, b.hidden, &b.head, &args, NULL));
        kv_error err = {0};
        assert_int_equal(kv_tape_status(b.tape, &err), KV_ERR_RANGE);
        if (!strstr(err.message, "logit 3 of row 1") || !strstr(err.message, "31"))
            fail_msg("unclear message: %s", err.message);
        both_free(&b);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values_and_gradients),
        cmocka_unit_test(test_temperatures),
        cmocka_unit_test(test_blocks_and_tiles),
        cmocka_unit_test(test_next_to_nothing_is_left),
        cmocka_unit_test(test_the_whole_vocabulary_is_exact),
        cmocka_unit_test(test_grows_with_k),
        cmocka_unit_test(test_too_large_to_keep),
        cmocka_unit_test(test_ids_that_make_no_sense),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

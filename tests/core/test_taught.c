// A model that learns from another one's logits: loss and gradients against double precision, for a teacher of
// another width and at any temperature; from logits that were computed before; and what it costs.
#include "core/flops.h"
#include "core/gemm.h"
#include "core/objective.h"
#include "tests/support/numbers/reference_model.h"
#include "tests/support/support.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { IGNORED = -1, SEQ_LEN = 6, N_SEQ = 2, TOKENS = N_SEQ * SEQ_LEN, VOCABULARY = 19 };

static const int32_t input_ids[TOKENS] = {3, 0, 7, 18, 3, 3, 9, 1, 15, 8, 3, 11};
static const int32_t target_ids[TOKENS] = {0, 7, 18, 3, 3, IGNORED, 1, 15, 8, 3, IGNORED, 4};
static const kv_batch batch = {.input_ids = input_ids,
                               .target_ids = target_ids,
                               .n_seq = N_SEQ,
                               .seq_len = SEQ_LEN,
                               .ignore_index = IGNORED};

static const kv_lm_weights weights[] = {{.kl = 1},
                                        {.ce = 0.7f, .kl = 2},
                                        {.ce = 1, .z_loss = 0.1f, .kl = 0.5f, .kl_temperature = 2},
                                        {.kl = 1, .kl_temperature = 0.5f},
                                        {.ce = 1}};
enum { N_WEIGHTS = sizeof weights / sizeof *weights };

static kv_model_spec spec_of(int64_t model_dim, int64_t n_layers, bool qk_norm) {
    kv_model_spec spec = {.vocab_size = VOCABULARY,
                          .model_dim = model_dim,
                          .head_dim = 4,
                          .n_layers = n_layers,
                          .context_length = 32,
                          .qk_norm = qk_norm,
                          .tied_head = qk_norm,
                          .norm_eps = 1e-6f,
                          .rope = {.theta = 10000}};
    for (int64_t i = 0; i < n_layers; i++) spec.layers[i] = (kv_layer_spec){2, 1, 7 + i};
    return spec;
}

// A rival and its teacher; what the reference computes of them.
typedef struct rival {
    ref_model model, teacher;
    kv_batch batch;
    kv_lm_weights weights;
    kv_tape *tape;
} rival;

static rival rival_make(kv_dtype teacher_dtype, const kv_lm_weights *own) {
    const kv_model_spec small = spec_of(8, 2, true), large = spec_of(12, 3, false);
    return (rival){ref_model_copy(ref_random_model(&small, KV_F32, 5)),
                   ref_model_copy(ref_random_model(&large, teacher_dtype, 6)), batch, *own, kv_tape_create()};
}

static void rival_free(rival *r) {
    kv_model_free(r->model.model);
    kv_model_free(r->teacher.model);
    ref_model_free(&r->model);
    ref_model_free(&r->teacher);
    kv_tape_free(r->tape);
}

static const ref_model *reference_teacher(const rival *r) {
    return r->weights.kl != 0 ? &r->teacher : NULL;
}

static double reference_loss(const void *context) {
    const rival *r = context;
    return ref_lm_objective(&r->model, reference_teacher(r), &r->batch, &r->weights, NULL);
}

enum { LOSS, CE, Z, KL, N_TERMS };

static void term_results(const void *context, double *results) {
    const rival *r = context;
    kv_lm_loss_terms terms;
    results[LOSS] = ref_lm_objective(&r->model, reference_teacher(r), &r->batch, &r->weights, &terms);
    results[CE] = terms.cross_entropy, results[Z] = terms.z, results[KL] = terms.kl;
}

static kv_tensor *objective(const rival *r, kv_model *teacher, kv_lm_loss_terms *terms) {
    kv_error err = {0};
    kv_tape_reset(r->tape);
    assert_int_equal(kv_model_set_trainable(r->model.model, true, &err), KV_OK); // zeroes
    kv_gemm_flops_reset();
    kv_tensor *loss = kv_lm_objective(r->tape, r->model.model, teacher, &r->batch, &r->weights, terms);
    if (!loss || kv_tape_status(r->tape, &err) != KV_OK) fail_msg("%s", err.message);
    return loss;
}

static void gradient_results(const void *context, double *results) {
    const rival *r = context;
    kv_error err = {0};
    kv_tensor *loss = objective(r, r->teacher.model, NULL);
    assert_int_equal(kv_tape_backward(r->tape, loss, &err), KV_OK);
    ref_gradient_results(&r->model.params, results);
}

static rounding_spread term_spread(rival *r) {
    rounding_operands operands = {0};
    ref_add_operands(&operands, &r->model.params);
    ref_add_operands(&operands, &r->teacher.params);
    rounding_spread spread =
        rounding_measure(&operands, ref_terms(&r->teacher.model->spec, TOKENS), term_results, r, N_TERMS);
    rounding_operands_free(&operands);
    return spread;
}

static rounding_spread gradient_spread(rival *r) {
    const ref_params *params = &r->model.params;
    rounding_operands operands = {0};
    rounding_add_params(&operands, params->param, params->n);
    rounding_add_params(&operands, r->teacher.params.param, r->teacher.params.n);
    rounding_spread spread = rounding_measure(&operands, ref_terms(&r->teacher.model->spec, TOKENS),
                                              gradient_results, r, ref_gradient_count(params));
    ref_allow_sums(params, &spread, 0);
    rounding_operands_free(&operands);
    return spread;
}

static void check(const char *name, rival *r) {
    kv_error err = {0};
    kv_lm_loss_terms terms;
    rounding_spread spread = term_spread(r), gradients = gradient_spread(r);
    kv_tensor *loss = objective(r, r->teacher.model, &terms);
    rounding_compare_one(name, (double)loss->data[0], &spread, LOSS);
    rounding_compare_one("cross-entropy", terms.cross_entropy, &spread, CE);
    rounding_compare_one("z", terms.z, &spread, Z);
    rounding_compare_one("KL", terms.kl, &spread, KL);
    assert_true((terms.kl != 0) == (r->weights.kl != 0));
    if (kv_tape_backward(r->tape, loss, &err) != KV_OK) fail_msg("%s", err.message);
    ref_check_gradients(name, &r->model.params, 10, 1, reference_loss, r, &gradients, 0);
    rounding_spread_free(&spread);
    rounding_spread_free(&gradients);
}

static void test_loss_and_gradients(void **state) {
    (void)state;
    for (int w = 0; w < N_WEIGHTS; w++)
        for (int part = 0; part < 2; part++) {
            char name[48];
            snprintf(name, sizeof name, "weights %d%s", w, part ? " of a larger step" : "");
            rival r = rival_make(part ? KV_BF16 : KV_F32, &weights[w]);
            r.batch.n_valid = part ? 37 : 0;
            check(name, &r);
            rival_free(&r);
        }
}

static void test_the_teacher_stays(void **state) {
    (void)state;
    kv_error err = {0};
    kv_param *params[REF_PARAMS];
    rival r = rival_make(KV_F32, &weights[1]);
    kv_tensor *loss = objective(&r, r.teacher.model, NULL);
    assert_int_equal(kv_tape_backward(r.tape, loss, &err), KV_OK);
    for (int64_t i = 0; i < kv_model_params(r.teacher.model, params); i++) assert_null(params[i]->grad);
    rival_free(&r);
}

// ---- Logits that were computed before ------------------------------------------------------------------

typedef struct logits {
    int32_t ids[TOKENS * VOCABULARY];
    float values[TOKENS * VOCABULARY], logsumexp[TOKENS];
} logits;

static kv_topk_teacher all_logits(logits *l, kv_model *teacher, double temperature) {
    const kv_sequence sequences[N_SEQ] = {{0, SEQ_LEN, 0, SEQ_LEN}, {SEQ_LEN, SEQ_LEN, SEQ_LEN, SEQ_LEN}};
    const kv_pass pass = {.sequences = sequences, .n_sequences = N_SEQ};
    kv_tape *tape = kv_tape_create();
    kv_tape_set_recording(tape, false);
    const kv_tensor *z =
        kv_model_logits(tape, teacher, kv_model_forward(tape, teacher, input_ids, TOKENS, &pass));
    for (int64_t i = 0; i < TOKENS; i++) {
        double sum = 0;
        for (int32_t j = 0; j < VOCABULARY; j++) {
            l->ids[i * VOCABULARY + j] = j;
            l->values[i * VOCABULARY + j] = z->data[i * VOCABULARY + j];
            sum += exp((double)z->data[i * VOCABULARY + j] / temperature);
        }
        l->logsumexp[i] = (float)log(sum);
    }
    kv_tape_free(tape);
    return (kv_topk_teacher){VOCABULARY, l->ids, l->values, l->logsumexp};
}

// The same loss and gradient, and no pass of a teacher, which need not be there.
static void test_given_logits_stand_for_the_teacher(void **state) {
    (void)state;
    static logits l;
    for (int w = 0; w < N_WEIGHTS; w++) {
        rival r = rival_make(KV_F32, &weights[w]);
        kv_error err = {0};
        kv_lm_loss_terms online, cached;
        rounding_spread spread = term_spread(&r), gradients = gradient_spread(&r);
        double *expected = test_alloc(ref_gradient_count(&r.model.params), sizeof *expected),
               *found = test_alloc(ref_gradient_count(&r.model.params), sizeof *found);
        kv_tensor *loss = objective(&r, r.teacher.model, &online);
        assert_int_equal(kv_tape_backward(r.tape, loss, &err), KV_OK);
        ref_gradient_results(&r.model.params, expected);
        const double t = weights[w].kl_temperature == 0 ? 1 : (double)weights[w].kl_temperature;
        const kv_kvp_given given = {.topk = all_logits(&l, r.teacher.model, t)};
        r.batch.given = &given;
        loss = objective(&r, NULL, &cached);
        assert_int_equal(kv_tape_backward(r.tape, loss, &err), KV_OK);
        assert_int_equal(kv_gemm_flops(),
                         kv_flops_lm_step(&r.model.model->spec, NULL, N_SEQ, SEQ_LEN, false));
        ref_gradient_results(&r.model.params, found);
        rounding_expect("KL", cached.kl, online.kl, 2 * spread.allowed[KL]);
        rounding_expect("cross-entropy", cached.cross_entropy, online.cross_entropy, 2 * spread.allowed[CE]);
        rounding_compare_results("gradient from given logits", found, expected, &gradients);
        free(expected);
        free(found);
        rounding_spread_free(&spread);
        rounding_spread_free(&gradients);
        rival_free(&r);
    }
}

// ---- What it costs -------------------------------------------------------------------------------------

// With a step forward and back, with layers that are computed again, and without a step.
static void test_products_equal_counter(void **state) {
    (void)state;
    for (int w = 0; w < N_WEIGHTS; w++)
        for (int again = 0; again < 2; again++) {
            rival r = rival_make(KV_F32, &weights[w]);
            kv_error err = {0};
            const kv_model_spec *spec = &r.model.model->spec,
                                *teacher = weights[w].kl != 0 ? &r.teacher.model->spec : NULL;
            kv_tape_set_checkpointing(r.tape, again);
            kv_tensor *loss = objective(&r, r.teacher.model, NULL);
            assert_int_equal(kv_tape_backward(r.tape, loss, &err), KV_OK);
            assert_int_equal(kv_gemm_flops(), kv_flops_lm_step(spec, teacher, N_SEQ, SEQ_LEN, again));
            kv_tape_set_recording(r.tape, false);
            objective(&r, r.teacher.model, NULL);
            assert_int_equal(kv_gemm_flops(), kv_flops_lm_loss_only(spec, teacher, N_SEQ, SEQ_LEN));
            rival_free(&r);
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_loss_and_gradients),
        cmocka_unit_test(test_the_teacher_stays),
        cmocka_unit_test(test_given_logits_stand_for_the_teacher),
        cmocka_unit_test(test_products_equal_counter),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

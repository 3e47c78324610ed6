// Running the transformer: caches, logits, losses and gradients against double precision, for every family of
// models the spec can describe; causality; independence of the sequences of a batch.
#include "core/objective.h"
#include "tests/support/numbers/reference_model.h"
#include "tests/support/support.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { IGNORED = -1, SEQ_LEN = 7, N_SEQ = 2, TOKENS = N_SEQ * SEQ_LEN, VOCABULARY = 23 };

typedef struct variant {
    const char *name;
    kv_model_spec spec;
} variant;

static kv_model_spec spec_of(kv_layer_spec first, kv_layer_spec second) {
    kv_model_spec spec = {.vocab_size = VOCABULARY,
                          .model_dim = 10,
                          .head_dim = 4,
                          .n_layers = 2,
                          .context_length = 64,
                          .norm_eps = 1e-5f,
                          .rope = {.theta = 10000}};
    spec.layers[0] = first;
    spec.layers[1] = second;
    return spec;
}

enum { N_VARIANTS = 6 };

static void variants(variant v[N_VARIANTS]) {
    v[0] = (variant){"openelm", spec_of((kv_layer_spec){2, 1, 6}, (kv_layer_spec){4, 2, 17})};
    v[0].spec.qk_norm = v[0].spec.tied_head = true;
    v[1] = (variant){"llama", spec_of((kv_layer_spec){2, 2, 14}, (kv_layer_spec){2, 2, 14})};
    v[2] = (variant){"qwen2", spec_of((kv_layer_spec){3, 1, 9}, (kv_layer_spec){3, 1, 9})};
    v[2].spec.qkv_bias = v[2].spec.tied_head = true;
    v[3] = (variant){"qwen3", spec_of((kv_layer_spec){8, 2, 11}, (kv_layer_spec){8, 2, 11})};
    v[3].spec.qk_norm = true;
    v[3].spec.rope.theta = 1e6;
    // The three frequencies (1, 0.126, 0.016) are kept, blended and divided, in this order.
    v[4] = (variant){"llama3", spec_of((kv_layer_spec){4, 4, 8}, (kv_layer_spec){4, 1, 8})};
    v[4].spec.head_dim = 6;
    v[4].spec.rope = (kv_rope_spec){
        .theta = 500, .factor = 8, .low_freq_factor = 1, .high_freq_factor = 4, .original_context = 100};
    v[5] = (variant){"linear", spec_of((kv_layer_spec){4, 2, 9}, (kv_layer_spec){2, 1, 12})};
    v[5].spec.rope = (kv_rope_spec){.theta = 700, .factor = 2.5};
}

static const int32_t input_ids[TOKENS] = {3, 0, 7, 22, 3, 3, 9, 1, 15, 8, 3, 20, 11, 4};
static const int32_t target_ids[TOKENS] = {0, 7, 22, 3, 3, IGNORED, 1, 15, 8, 3, 20, IGNORED, 4, 22};
static const kv_batch batch = {.input_ids = input_ids,
                               .target_ids = target_ids,
                               .n_seq = N_SEQ,
                               .seq_len = SEQ_LEN,
                               .ignore_index = IGNORED};
static const kv_sequence sequences[N_SEQ] = {{0, SEQ_LEN, 0, SEQ_LEN}, {SEQ_LEN, SEQ_LEN, SEQ_LEN, SEQ_LEN}};

static void expect_ok(const kv_tape *tape) {
    kv_error err = {0};
    if (kv_tape_status(tape, &err) != KV_OK) fail_msg("%s", err.message);
}

// ---- Forward -------------------------------------------------------------------------------------------

// Hidden states, every layer's keys before and after their norm and values, logits: one after the other.
struct outputs {
    ref_model *reference;
    ref_cache cache;
    double *hidden;
};

static int64_t kv_size(const kv_model_spec *spec, int64_t layer) {
    return TOKENS * kv_spec_kv_dim(spec, layer);
}

static void output_results(const void *context, double *results) {
    const struct outputs *o = context;
    const kv_model_spec *spec = &o->reference->model->spec;
    const int64_t n_hidden = TOKENS * spec->model_dim;
    ref_cache cache = o->cache;
    ref_forward(o->reference, input_ids, N_SEQ, SEQ_LEN, NULL, &cache, o->hidden);
    memcpy(results, o->hidden, (size_t)n_hidden * sizeof *results);
    results += n_hidden;
    for (int64_t i = 0; i < spec->n_layers; i++) {
        const double *arrays[] = {cache.raw_k[i], cache.k[i], cache.v[i]};
        for (int a = 0; a < 3; a++, results += kv_size(spec, i))
            memcpy(results, arrays[a], (size_t)kv_size(spec, i) * sizeof *results);
    }
    ref_final_norm(o->reference, TOKENS, o->hidden, o->hidden);
    ref_linear(TOKENS, spec->vocab_size, spec->model_dim, o->hidden,
               ref_value(&o->reference->params, kv_model_head(o->reference->model)), NULL, results);
}

static rounding_spread output_spread(kv_model *model) {
    const kv_model_spec *spec = &model->spec;
    ref_model reference = ref_model_copy(model);
    struct outputs o = {.reference = &reference,
                        .hidden = test_alloc(TOKENS * spec->model_dim, sizeof(double))};
    ref_cache_make(spec, TOKENS, &o.cache);
    int64_t n = TOKENS * (spec->model_dim + spec->vocab_size);
    for (int64_t i = 0; i < spec->n_layers; i++) n += 3 * kv_size(spec, i);
    rounding_operands operands = {0};
    ref_add_operands(&operands, &reference.params);
    rounding_spread spread =
        rounding_measure(&operands, ref_terms_forward(spec, SEQ_LEN), output_results, &o, n);
    rounding_operands_free(&operands);
    ref_cache_free(&o.cache);
    ref_model_free(&reference);
    free(o.hidden);
    return spread;
}

static void check_outputs(const char *name, kv_model *model) {
    const kv_model_spec *spec = &model->spec;
    rounding_spread spread = output_spread(model);
    kv_tape *tape = kv_tape_create();
    kv_tensor *raw_k[REF_LAYERS], *k[REF_LAYERS], *v[REF_LAYERS];
    kv_pass pass = {.sequences = sequences, .n_sequences = N_SEQ, .raw_k = raw_k, .k = k, .v = v};
    kv_tensor *x = kv_model_forward(tape, model, input_ids, TOKENS, &pass);
    kv_tensor *y = kv_model_logits(tape, model, x);
    expect_ok(tape);
    int64_t from = TOKENS * spec->model_dim;
    rounding_compare(name, x->data, &spread, 0, from);
    for (int64_t i = 0; i < spec->n_layers; i++) {
        kv_tensor *const found[] = {raw_k[i], k[i], v[i]};
        for (int a = 0; a < 3; a++, from += kv_size(spec, i))
            rounding_compare(name, found[a]->data, &spread, from, kv_size(spec, i));
    }
    rounding_compare(name, y->data, &spread, from, TOKENS * spec->vocab_size);

    // The caches alone, without what follows the last layer's keys and values.
    kv_tensor *only_k[REF_LAYERS], *only_v[REF_LAYERS];
    pass = (kv_pass){
        .sequences = sequences, .n_sequences = N_SEQ, .raw_k = only_k, .v = only_v, .only_kv = true};
    assert_non_null(kv_model_forward(tape, model, input_ids, TOKENS, &pass));
    for (int64_t i = 0; i < spec->n_layers; i++) {
        const size_t bytes = (size_t)kv_size(spec, i) * sizeof(float);
        assert_memory_equal(only_k[i]->data, raw_k[i]->data, bytes);
        assert_memory_equal(only_v[i]->data, v[i]->data, bytes);
    }
    kv_tape_free(tape);
    rounding_spread_free(&spread);
}

static void test_outputs(void **state) {
    (void)state;
    variant v[N_VARIANTS];
    variants(v);
    for (int i = 0; i < N_VARIANTS; i++)
        for (kv_dtype dtype = KV_F32; dtype <= KV_F16; dtype++) {
            kv_model *model = ref_random_model(&v[i].spec, dtype, 3);
            check_outputs(v[i].name, model);
            kv_model_free(model);
        }
}

// ---- Gradients -----------------------------------------------------------------------------------------

typedef struct lm_case {
    ref_model reference;
    kv_batch batch;
    kv_lm_weights weights;
    kv_tape *tape;
} lm_case;

static double lm_reference_loss(const void *context) {
    const lm_case *c = context;
    return ref_lm_objective(&c->reference, NULL, &c->batch, &c->weights, NULL);
}

// Loss, cross-entropy and z in double precision.
static void lm_results(const void *context, double *results) {
    const lm_case *c = context;
    kv_lm_loss_terms terms;
    results[0] = ref_lm_objective(&c->reference, NULL, &c->batch, &c->weights, &terms);
    results[1] = terms.cross_entropy, results[2] = terms.z;
}

static void lm_gradient_results(const void *context, double *results) {
    const lm_case *c = context;
    kv_error err = {0};
    kv_tape_reset(c->tape);
    assert_int_equal(kv_model_set_trainable(c->reference.model, true, &err), KV_OK); // zeroes
    kv_tensor *y = kv_lm_objective(c->tape, c->reference.model, NULL, &c->batch, &c->weights, NULL);
    assert_int_equal(kv_tape_backward(c->tape, y, &err), KV_OK);
    ref_gradient_results(&c->reference.params, results);
}

static rounding_spread lm_gradient_spread(lm_case *c) {
    const ref_params *params = &c->reference.params;
    rounding_operands operands = {0};
    rounding_add_params(&operands, params->param, params->n);
    rounding_spread spread = rounding_measure(&operands, ref_terms(&c->reference.model->spec, TOKENS),
                                              lm_gradient_results, c, ref_gradient_count(params));
    ref_allow_sums(params, &spread, 0);
    rounding_operands_free(&operands);
    return spread;
}

static rounding_spread lm_spread(lm_case *c) {
    rounding_operands operands = {0};
    ref_add_operands(&operands, &c->reference.params);
    rounding_spread spread =
        rounding_measure(&operands, ref_terms(&c->reference.model->spec, TOKENS), lm_results, c, 3);
    rounding_operands_free(&operands);
    return spread;
}

// The gradient of every weight against central differences of the double-precision model, which is sharper
// than differences of the float32 loss could be: those leave 1e-7 of the loss over the step.
static void check_gradients(const char *name, const kv_model_spec *spec, kv_lm_weights weights,
                            double n_valid) {
    kv_error err = {0};
    kv_model *model = ref_random_model(spec, KV_F32, 11);
    assert_int_equal(kv_model_set_trainable(model, true, &err), KV_OK);
    lm_case c = {ref_model_copy(model), batch, weights, kv_tape_create()};
    c.batch.n_valid = n_valid;
    rounding_spread spread = lm_spread(&c), gradients = lm_gradient_spread(&c);
    kv_lm_loss_terms terms;
    kv_tape_reset(c.tape);
    assert_int_equal(kv_model_set_trainable(model, true, &err), KV_OK);
    kv_tensor *y = kv_lm_objective(c.tape, model, NULL, &c.batch, &weights, &terms);
    expect_ok(c.tape);
    rounding_compare_one("loss", (double)y->data[0], &spread, 0);
    rounding_compare_one("cross-entropy", terms.cross_entropy, &spread, 1);
    rounding_compare_one("z", terms.z, &spread, 2);
    assert_int_equal(kv_tape_backward(c.tape, y, &err), KV_OK);
    ref_check_gradients(name, &c.reference.params, 12, 1, lm_reference_loss, &c, &gradients, 0);
    rounding_spread_free(&spread);
    rounding_spread_free(&gradients);
    kv_tape_free(c.tape);
    ref_model_free(&c.reference);
    kv_model_free(model);
}

static void test_gradients(void **state) {
    (void)state;
    variant v[N_VARIANTS];
    variants(v);
    for (int i = 0; i < N_VARIANTS; i++) check_gradients(v[i].name, &v[i].spec, (kv_lm_weights){.ce = 1}, 0);
    check_gradients("openelm, z-loss", &v[0].spec, (kv_lm_weights){.ce = 0.5f, .z_loss = 0.1f}, 0);
    check_gradients("part of a larger step", &v[0].spec, (kv_lm_weights){.ce = 1}, 100);
}

// One step cut into its sequences: n_valid of the whole makes losses and gradients add up to the whole's.
static void test_micro_batches_add(void **state) {
    (void)state;
    variant v[N_VARIANTS];
    variants(v);
    kv_error err = {0};
    kv_model *model = ref_random_model(&v[0].spec, KV_F32, 5);
    assert_int_equal(kv_model_set_trainable(model, true, &err), KV_OK);
    lm_case c = {ref_model_copy(model), batch, {.ce = 1, .z_loss = 0.01f}, kv_tape_create()};
    c.batch.n_valid = TOKENS - 2;
    rounding_spread spread = lm_spread(&c), gradients = lm_gradient_spread(&c);
    double loss[2] = {0}, *grads[2];
    for (int parts = 1; parts <= 2; parts++) {
        assert_int_equal(kv_model_set_trainable(model, true, &err), KV_OK);
        for (int part = 0; part < parts; part++) {
            kv_tape_reset(c.tape);
            kv_batch own = c.batch;
            own.n_seq = N_SEQ / parts;
            own.input_ids += part * SEQ_LEN;
            own.target_ids += part * SEQ_LEN;
            kv_tensor *y = kv_lm_objective(c.tape, model, NULL, &own, &c.weights, NULL);
            loss[parts - 1] += (double)y->data[0];
            assert_int_equal(kv_tape_backward(c.tape, y, &err), KV_OK);
        }
        grads[parts - 1] = test_alloc(gradients.n, sizeof(double));
        ref_gradient_results(&c.reference.params, grads[parts - 1]);
    }
    rounding_compare_results("gradient of two micro-batches", grads[1], grads[0], &gradients);
    rounding_expect("loss of two micro-batches", loss[1], loss[0], 2 * spread.allowed[0]);
    free(grads[0]);
    free(grads[1]);
    rounding_spread_free(&spread);
    rounding_spread_free(&gradients);
    kv_tape_free(c.tape);
    ref_model_free(&c.reference);
    kv_model_free(model);
}

// ---- Properties ----------------------------------------------------------------------------------------

static float *hidden_states(kv_tape *tape, kv_model *model, const int32_t *ids, const kv_sequence *s,
                            int64_t n_s) {
    const kv_pass pass = {.sequences = s, .n_sequences = n_s};
    kv_tensor *x = kv_model_forward(tape, model, ids, s[n_s - 1].q_row + s[n_s - 1].q_len, &pass);
    expect_ok(tape);
    return x->data;
}

static void test_later_tokens_change_nothing_earlier(void **state) {
    (void)state;
    variant v[N_VARIANTS];
    variants(v);
    for (int i = 0; i < N_VARIANTS; i++) {
        kv_model *model = ref_random_model(&v[i].spec, KV_F32, 7);
        kv_tape *tape = kv_tape_create();
        const float *before = hidden_states(tape, model, input_ids, sequences, N_SEQ);
        int32_t changed[TOKENS];
        memcpy(changed, input_ids, sizeof changed);
        changed[4] = 19;           // sequence 0, token 4
        changed[SEQ_LEN + 6] = 19; // sequence 1, last token
        const float *after = hidden_states(tape, model, changed, sequences, N_SEQ);
        for (int t = 0; t < TOKENS; t++) {
            const bool touched = (t >= 4 && t < SEQ_LEN) || t == SEQ_LEN + 6;
            assert_int_equal(memcmp(before + t * 10, after + t * 10, 10 * sizeof(float)) != 0, touched);
        }
        kv_tape_free(tape);
        kv_model_free(model);
    }
}

// Sequences of different lengths in one batch come out as each does alone. Not bit for bit: products of other
// shapes sum in another order.
struct one_sequence {
    ref_model *reference;
    const int32_t *ids;
    int64_t n;
};

static void hidden_results(const void *context, double *results) {
    const struct one_sequence *s = context;
    ref_forward(s->reference, s->ids, 1, s->n, NULL, NULL, results);
}

static void test_sequences_do_not_see_each_other(void **state) {
    (void)state;
    variant v[N_VARIANTS];
    variants(v);
    const kv_sequence ragged[3] = {{0, 3, 0, 3}, {3, 1, 3, 1}, {4, 10, 4, 10}};
    for (int i = 0; i < N_VARIANTS; i++) {
        kv_model *model = ref_random_model(&v[i].spec, KV_F32, 8);
        ref_model reference = ref_model_copy(model);
        kv_tape *tape = kv_tape_create();
        rounding_operands operands = {0};
        ref_add_operands(&operands, &reference.params);
        const float *together = hidden_states(tape, model, input_ids, ragged, 3);
        for (int s = 0; s < 3; s++) {
            const int64_t from = ragged[s].q_row, n = ragged[s].q_len;
            const kv_sequence own = {0, n, 0, n};
            const float *alone = hidden_states(tape, model, input_ids + from, &own, 1);
            rounding_spread spread =
                rounding_measure(&operands, ref_terms_forward(&v[i].spec, n), hidden_results,
                                 &(struct one_sequence){&reference, input_ids + from, n}, n * 10);
            rounding_compare(v[i].name, alone, &spread, 0, n * 10);
            rounding_compare_both(v[i].name, alone, together + from * 10, &spread, 0, n * 10);
            rounding_spread_free(&spread);
        }
        rounding_operands_free(&operands);
        ref_model_free(&reference);
        kv_tape_free(tape);
        kv_model_free(model);
    }
}

// Attending to keys and values handed in from outside: with the model's own, nothing changes.
static void test_given_cache_replaces_the_own(void **state) {
    (void)state;
    variant v[N_VARIANTS];
    variants(v);
    for (int i = 0; i < N_VARIANTS; i++) {
        kv_model *model = ref_random_model(&v[i].spec, KV_F32, 9);
        kv_tape *tape = kv_tape_create();
        kv_tensor *k[REF_LAYERS], *values[REF_LAYERS];
        kv_pass pass = {.sequences = sequences, .n_sequences = N_SEQ, .k = k, .v = values};
        kv_tensor *own = kv_model_forward(tape, model, input_ids, TOKENS, &pass);
        pass = (kv_pass){.sequences = sequences, .n_sequences = N_SEQ, .given_k = k, .given_v = values};
        kv_tensor *given = kv_model_forward(tape, model, input_ids, TOKENS, &pass);
        expect_ok(tape);
        assert_memory_equal(own->data, given->data, TOKENS * 10 * sizeof(float));
        for (int64_t e = 0; e < k[1]->rows * k[1]->cols; e++) k[1]->data[e] *= 2;
        kv_tensor *other = kv_model_forward(tape, model, input_ids, TOKENS, &pass);
        assert_memory_not_equal(own->data + 10, other->data + 10, (TOKENS - 1) * 10 * sizeof(float));
        kv_tape_free(tape);
        kv_model_free(model);
    }
}

static void test_id_outside_the_vocabulary(void **state) {
    (void)state;
    variant v[N_VARIANTS];
    variants(v);
    kv_model *model = ref_random_model(&v[0].spec, KV_F32, 9);
    kv_tape *tape = kv_tape_create();
    kv_batch bad = batch;
    int32_t ids[TOKENS] = {0};
    ids[5] = VOCABULARY;
    bad.input_ids = ids;
    kv_error err = {0};
    assert_null(kv_lm_objective(tape, model, NULL, &bad, &(kv_lm_weights){.ce = 1}, NULL));
    assert_int_equal(kv_tape_status(tape, &err), KV_ERR_RANGE);
    kv_tape_reset(tape);
    bad.input_ids = input_ids;
    bad.target_ids = ids;
    assert_null(kv_lm_objective(tape, model, NULL, &bad, &(kv_lm_weights){.ce = 1}, NULL));
    assert_int_equal(kv_tape_status(tape, &err), KV_ERR_RANGE);
    kv_tape_free(tape);
    kv_model_free(model);
}

static void test_sequence_beyond_the_context(void **state) {
    (void)state;
    variant v[N_VARIANTS];
    variants(v);
    v[0].spec.context_length = SEQ_LEN - 1;
    kv_model *model = ref_random_model(&v[0].spec, KV_F32, 9);
    kv_tape *tape = kv_tape_create();
    kv_error err = {0};
    assert_null(kv_lm_objective(tape, model, NULL, &batch, &(kv_lm_weights){.ce = 1}, NULL));
    assert_int_equal(kv_tape_status(tape, &err), KV_ERR_RANGE);
    assert_non_null(strstr(err.message, "7"));
    assert_non_null(strstr(err.message, "6"));
    kv_tape_free(tape);
    kv_model_free(model);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_outputs),
        cmocka_unit_test(test_gradients),
        cmocka_unit_test(test_micro_batches_add),
        cmocka_unit_test(test_later_tokens_change_nothing_earlier),
        cmocka_unit_test(test_sequences_do_not_see_each_other),
        cmocka_unit_test(test_given_cache_replaces_the_own),
        cmocka_unit_test(test_id_outside_the_vocabulary),
        cmocka_unit_test(test_sequence_beyond_the_context),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

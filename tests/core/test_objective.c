// KV prediction's loss: every term and every gradient against double precision, for pairs of models with and
// without q/k norm, shared or separate sizes; what is frozen stays untouched; what has no weight is not run.
#include "core/flops.h"
#include "core/gemm.h"
#include "core/objective.h"
#include "tests/support/numbers/reference_model.h"
#include "tests/support/predictors/paper.h"
#include "tests/support/support.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { IGNORED = -1, SEQ_LEN = 6, N_SEQ = 2, TOKENS = N_SEQ * SEQ_LEN, VOCABULARY = 19, BASE_LAYERS = 3 };

static const int32_t input_ids[TOKENS] = {3, 0, 7, 18, 3, 3, 9, 1, 15, 8, 3, 11};
static const int32_t target_ids[TOKENS] = {0, 7, 18, 3, 3, IGNORED, 1, 15, 8, 3, IGNORED, 4};
static const kv_kvp_weights published = {.base = 1, .aux = 1, .consistency = 1.0f / BASE_LAYERS};
static const kv_kvp_weights everything = {.base = 0.8f,
                                          .aux = 0.3f,
                                          .consistency = 0.5f,
                                          .kl = 2,
                                          .hidden = 0.4f,
                                          .z_loss = 0.01f,
                                          .hidden_layer = 1};

typedef struct pair {
    kv_model *base, *aux;
    kv_predictor *predictor;
    kv_tape *tape;
} pair;

static kv_model_spec spec_of(int64_t model_dim, int64_t head_dim, int64_t n_layers, bool qk_norm) {
    kv_model_spec spec = {.vocab_size = VOCABULARY,
                          .model_dim = model_dim,
                          .head_dim = head_dim,
                          .n_layers = n_layers,
                          .context_length = 32,
                          .qk_norm = qk_norm,
                          .tied_head = qk_norm,
                          .qkv_bias = !qk_norm,
                          .norm_eps = 1e-6f,
                          .rope = {.theta = 10000}};
    for (int64_t i = 0; i < n_layers; i++)
        spec.layers[i] =
            (kv_layer_spec){.n_heads = 2 * (1 + i % 2), .n_kv_heads = 1 + i % 2, .ffn_dim = 7 + i};
    return spec;
}

static pair pair_of_kind(bool base_norm, bool aux_norm, bool aux_trained, kv_dtype base_dtype,
                         test_kind kind) {
    const kv_model_spec base = spec_of(10, 6, BASE_LAYERS, base_norm), aux = spec_of(8, 4, 2, aux_norm);
    const int32_t mapping[BASE_LAYERS] = {1, 0, 1};
    kv_param *params[REF_PARAMS];
    kv_error err = {0};
    pair p = {ref_random_model(&base, base_dtype, 1), ref_random_model(&aux, KV_F32, 2), NULL,
              kv_tape_create()};
    if (test_create(&base, &aux, mapping, kind, &p.predictor, &err) != KV_OK) fail_msg("%s", err.message);
    ref_randomise(params, kv_predictor_params(p.predictor, params), 3);
    assert_int_equal(kv_predictor_set_trainable(p.predictor, true, &err), KV_OK);
    if (aux_trained) assert_int_equal(kv_model_set_trainable(p.aux, true, &err), KV_OK);
    return p;
}

static pair pair_make(bool base_norm, bool aux_norm, bool aux_trained, kv_dtype base_dtype) {
    return pair_of_kind(base_norm, aux_norm, aux_trained, base_dtype, (test_kind){0});
}

static void pair_free(pair *p) {
    kv_model_free(p->base);
    kv_model_free(p->aux);
    kv_predictor_free(p->predictor);
    kv_tape_free(p->tape);
}

static kv_batch whole_batch(void) {
    return (kv_batch){.input_ids = input_ids,
                      .target_ids = target_ids,
                      .n_seq = N_SEQ,
                      .seq_len = SEQ_LEN,
                      .ignore_index = IGNORED};
}

static kv_tensor *objective(pair *p, const kv_batch *batch, const kv_kvp_weights *weights,
                            kv_kvp_terms *terms, kv_kvp_trace *trace) {
    kv_tensor *loss = kv_kvp_objective(p->tape, p->base, p->aux, p->predictor, batch, weights, terms, trace);
    kv_error err = {0};
    if (kv_tape_status(p->tape, &err) != KV_OK) fail_msg("%s", err.message);
    assert_non_null(loss);
    return loss;
}

static ref_kvp reference_of(pair *p, const kv_batch *batch, const kv_kvp_weights *weights) {
    return ref_kvp_copy(p->base, p->aux, p->predictor, batch, weights);
}

static double reference_loss(const void *context) {
    return ref_kvp_objective(context, NULL);
}

// ---- Values and gradients ------------------------------------------------------------------------------

// Whether a loss with these weights computes a term; those it does not are 0.
static bool is_computed(int term, const kv_kvp_weights *w) {
    if (term == REF_HIDDEN) return w->hidden != 0;
    if (term >= REF_CONSISTENCY) return w->consistency != 0;
    if (term == REF_KL) return w->kl != 0;
    if (term == REF_AUX_CE || term == REF_AUX_Z) return w->aux != 0;
    return term == REF_TOTAL || w->base != 0 || w->kl != 0;
}

// Against double precision or, when `other` is given, another float32 computation of the same.
static void compare_terms(const kv_kvp_terms *found, const kv_kvp_terms *other, const kv_kvp_weights *w,
                          const rounding_spread *spread) {
    double values[REF_KVP_TERMS], others[REF_KVP_TERMS];
    char name[32];
    ref_kvp_results(found, values);
    if (other) ref_kvp_results(other, others);
    for (int i = 0; i < REF_L1 + 2 * BASE_LAYERS; i++) {
        snprintf(name, sizeof name, "term %d of the loss", i);
        if (!is_computed(i, w)) {
            if (i == REF_AUX_CE || i == REF_AUX_Z || i == REF_HIDDEN) assert_true(values[i] == 0);
        } else if (other) {
            rounding_expect(name, values[i], others[i], 2 * spread->allowed[i]);
        } else {
            rounding_compare_one(name, values[i], spread, i);
        }
    }
}

static void check_objective(const char *name, pair *p, const kv_batch *batch, const kv_kvp_weights *weights) {
    ref_kvp r = reference_of(p, batch, weights);
    kv_kvp_terms terms;
    rounding_spread spread = ref_kvp_spread(&r), gradients = ref_kvp_gradient_spread(&r);
    kv_tape_reset(p->tape);
    kv_tensor *loss = objective(p, batch, weights, &terms, NULL);
    rounding_compare_one(name, (double)loss->data[0], &spread, REF_TOTAL);
    compare_terms(&terms, NULL, weights, &spread);

    kv_error err = {0};
    kv_param *params[REF_PARAMS];
    for (int64_t i = 0; i < r.weights.n; i++)
        memset(r.weights.param[i]->grad, 0, (size_t)kv_param_size(r.weights.param[i]) * 4);
    if (p->aux->grads) memset(p->aux->grads, 0, (size_t)kv_model_size(p->aux, true) * sizeof(float));
    if (kv_tape_backward(p->tape, loss, &err) != KV_OK) fail_msg("%s: %s", name, err.message);
    const int64_t from = ref_check_gradients(name, &r.weights, 10, 1, reference_loss, &r, &gradients, 0);
    if (p->aux->grads) ref_check_gradients(name, &r.aux.params, 10, 1, reference_loss, &r, &gradients, from);
    for (int64_t i = 0; i < kv_model_params(p->base, params); i++) assert_null(params[i]->grad);
    rounding_spread_free(&spread);
    rounding_spread_free(&gradients);
    ref_kvp_free(&r);
}

static void test_published_loss(void **state) {
    (void)state;
    const kv_batch batch = whole_batch();
    for (int norms = 0; norms < 4; norms++) {
        pair p = pair_make(norms & 1, norms & 2, true, KV_F32);
        check_objective("the paper's loss", &p, &batch, &published);
        pair_free(&p);
    }
}

static void test_every_term_alone_and_together(void **state) {
    (void)state;
    const kv_batch batch = whole_batch();
    const kv_kvp_weights weights[] = {everything,
                                      {.base = 1},
                                      {.kl = 1},
                                      {.kl = 0.7f, .kl_temperature = 2},
                                      {.consistency = 1},
                                      {.hidden = 1, .hidden_layer = BASE_LAYERS - 1},
                                      {.hidden = 1, .hidden_layer = 0},
                                      {.hidden = 2, .hidden_layer = 1, .consistency = 1},
                                      {.hidden = 2, .hidden_layer = BASE_LAYERS - 1, .kl = 1},
                                      {.base = 1, .z_loss = 0.1f},
                                      {.aux = 2, .kl = 0.5f},
                                      {.aux = 1, .z_loss = 0.1f, .consistency = 1}};
    pair p = pair_make(true, true, true, KV_F32);
    for (size_t i = 0; i < sizeof weights / sizeof *weights; i++) {
        char name[32];
        snprintf(name, sizeof name, "weights %zu", i);
        check_objective(name, &p, &batch, &weights[i]);
    }
    pair_free(&p);
}

static void test_frozen_aux_and_stored_types(void **state) {
    (void)state;
    const kv_batch batch = whole_batch();
    for (kv_dtype dtype = KV_F32; dtype <= KV_F16; dtype++) {
        pair p = pair_make(true, true, dtype == KV_F16, dtype);
        check_objective("a frozen base", &p, &batch, &everything);
        if (dtype != KV_F16) assert_null(p.aux->embed.grad);
        pair_free(&p);
    }
}

// Low rank, two neighbours (at the top the one below), and both; also when only the consistency loss or only
// the aux-free terms reach them.
static void test_kinds_of_predictors(void **state) {
    (void)state;
    const kv_batch batch = whole_batch();
    const kv_kvp_weights consistency = {.consistency = 1};
    static const test_kind kinds[] = {{3, 1}, {0, 2}, {1, 2}};
    for (int k = 0; k < 3; k++)
        for (int trained = 0; trained < 2; trained++) {
            char name[64];
            snprintf(name, sizeof name, "rank %d of %d aux layers", (int)kinds[k].rank,
                     (int)kinds[k].aux_layers);
            pair p = pair_of_kind(true, k % 2, trained, KV_F32, kinds[k]);
            check_objective(name, &p, &batch, &everything);
            check_objective(name, &p, &batch, &consistency);
            pair_free(&p);
        }
}

static void test_part_of_a_larger_step(void **state) {
    (void)state;
    kv_batch batch = whole_batch();
    batch.n_valid = 37;
    pair p = pair_make(true, false, true, KV_F32);
    check_objective("part of a larger step", &p, &batch, &everything);
    pair_free(&p);
}

static void add_terms(kv_kvp_terms *sum, const kv_kvp_terms *part) {
    sum->total += part->total;
    sum->base.cross_entropy += part->base.cross_entropy, sum->base.z += part->base.z,
        sum->base.kl += part->base.kl;
    sum->aux.cross_entropy += part->aux.cross_entropy, sum->aux.z += part->aux.z;
    sum->consistency += part->consistency;
    for (int i = 0; i < BASE_LAYERS; i++) sum->k_l1[i] += part->k_l1[i], sum->v_l1[i] += part->v_l1[i];
}

static void test_micro_batches_add(void **state) {
    (void)state;
    pair p = pair_make(true, true, true, KV_F32);
    kv_batch batch = whole_batch();
    batch.n_valid = TOKENS - 2;
    ref_kvp r = reference_of(&p, &batch, &everything);
    rounding_spread spread = ref_kvp_spread(&r), gradients = ref_kvp_gradient_spread(&r);
    static kv_kvp_terms sum[2];
    memset(sum, 0, sizeof sum);
    double *grads[2];
    kv_error err = {0};
    for (int parts = 1; parts <= 2; parts++) {
        assert_int_equal(kv_predictor_set_trainable(p.predictor, true, &err), KV_OK);
        assert_int_equal(kv_model_set_trainable(p.aux, true, &err), KV_OK);
        for (int part = 0; part < parts; part++) {
            kv_batch own = batch;
            own.n_seq = N_SEQ / parts;
            own.input_ids += part * SEQ_LEN;
            own.target_ids += part * SEQ_LEN;
            kv_kvp_terms terms;
            kv_tape_reset(p.tape);
            kv_tensor *loss = objective(&p, &own, &everything, &terms, NULL);
            assert_int_equal(kv_tape_backward(p.tape, loss, &err), KV_OK);
            add_terms(&sum[parts - 1], &terms);
        }
        grads[parts - 1] = test_alloc(gradients.n, sizeof(double));
        ref_gradient_results(&r.aux.params, ref_gradient_results(&r.weights, grads[parts - 1]));
    }
    rounding_compare_results("gradients of micro-batches", grads[1], grads[0], &gradients);
    compare_terms(&sum[1], &sum[0], &everything, &spread);
    free(grads[0]);
    free(grads[1]);
    rounding_spread_free(&spread);
    rounding_spread_free(&gradients);
    ref_kvp_free(&r);
    pair_free(&p);
}

// ---- What is run ---------------------------------------------------------------------------------------

// Predicted and true keys and values of every layer, one after the other.
struct caches {
    ref_kvp *r;
    ref_cache truth, aux, predicted;
    double *hidden;
};

static int64_t cache_size(const kv_model_spec *spec, int64_t layer) {
    return TOKENS * kv_spec_kv_dim(spec, layer);
}

static void cache_results(const void *context, double *results) {
    const struct caches *c = context;
    ref_kvp *r = c->r;
    ref_cache aux = c->aux, predicted = c->predicted, truth = c->truth;
    ref_forward(&r->aux, input_ids, N_SEQ, SEQ_LEN, NULL, &aux, c->hidden);
    ref_predict(r->predictor, &r->weights, &r->base, &r->aux, TOKENS, &aux, &predicted);
    ref_forward(&r->base, input_ids, N_SEQ, SEQ_LEN, NULL, &truth, c->hidden);
    for (int i = 0; i < BASE_LAYERS; i++) {
        const double *arrays[] = {predicted.k[i], predicted.v[i], truth.k[i], truth.v[i]};
        const int64_t n = cache_size(&r->base.model->spec, i);
        for (int a = 0; a < 4; a++, results += n) memcpy(results, arrays[a], (size_t)n * sizeof *results);
    }
}

static void test_trace(void **state) {
    (void)state;
    pair p = pair_make(true, true, true, KV_F32);
    const kv_batch batch = whole_batch();
    ref_kvp r = reference_of(&p, &batch, &everything);
    struct caches c = {.r = &r, .hidden = test_alloc(TOKENS * 10, sizeof(double))};
    ref_cache_make(&p.base->spec, TOKENS, &c.truth);
    ref_cache_make(&p.base->spec, TOKENS, &c.predicted);
    ref_cache_make(&p.aux->spec, TOKENS, &c.aux);
    rounding_operands operands = {0};
    ref_add_operands(&operands, &r.base.params);
    ref_add_operands(&operands, &r.aux.params);
    ref_add_operands(&operands, &r.weights);
    int64_t n_results = 0, from = 0;
    for (int i = 0; i < BASE_LAYERS; i++) n_results += 4 * cache_size(&p.base->spec, i);
    rounding_spread spread =
        rounding_measure(&operands, ref_terms_forward(&p.base->spec, SEQ_LEN), cache_results, &c, n_results);

    kv_kvp_trace trace;
    objective(&p, &batch, &everything, NULL, &trace);
    for (int i = 0; i < BASE_LAYERS; i++) {
        static const char *const names[] = {"predicted keys", "predicted values", "true keys", "true values"};
        kv_tensor *const found[] = {trace.pred_k[i], trace.pred_v[i], trace.base_k[i], trace.base_v[i]};
        const int64_t n = cache_size(&p.base->spec, i);
        for (int a = 0; a < 4; a++, from += n) rounding_compare(names[a], found[a]->data, &spread, from, n);
    }
    assert_non_null(trace.hidden);
    assert_non_null(trace.aux_hidden);
    free(c.hidden);
    ref_cache_free(&c.truth);
    ref_cache_free(&c.aux);
    ref_cache_free(&c.predicted);
    rounding_operands_free(&operands);
    rounding_spread_free(&spread);
    ref_kvp_free(&r);
    pair_free(&p);
}

static uint64_t products(pair *p, kv_kvp_weights weights, kv_kvp_trace *trace) {
    const kv_batch batch = whole_batch();
    kv_tape_reset(p->tape);
    kv_gemm_flops_reset();
    objective(p, &batch, &weights, NULL, trace);
    return kv_gemm_flops();
}

// Products of the least that L_C alone needs: both models up to their last keys and values, and the
// predictors.
static uint64_t products_of_caches(pair *p) {
    const kv_sequence sequences[N_SEQ] = {{0, SEQ_LEN, 0, SEQ_LEN}, {SEQ_LEN, SEQ_LEN, SEQ_LEN, SEQ_LEN}};
    kv_tensor *raw_k[REF_LAYERS], *v[REF_LAYERS], *k[REF_LAYERS], *predicted_v[REF_LAYERS];
    kv_pass pass = {.sequences = sequences, .n_sequences = N_SEQ, .raw_k = raw_k, .v = v, .only_kv = true};
    kv_tape_reset(p->tape);
    kv_gemm_flops_reset();
    kv_model_forward(p->tape, p->base, input_ids, TOKENS, &pass);
    kv_model_forward(p->tape, p->aux, input_ids, TOKENS, &pass);
    kv_key_norms norms;
    kv_model_key_norms(p->base, &norms);
    const kv_taps taps = test_taps(p->predictor, raw_k, v);
    kv_predict(p->tape, p->predictor, &norms, &taps, k, predicted_v);
    assert_int_equal(kv_tape_status(p->tape, NULL), KV_OK);
    return kv_gemm_flops();
}

static void test_terms_without_weight_are_not_run(void **state) {
    (void)state;
    pair p = pair_make(true, true, true, KV_F32);
    kv_kvp_trace trace;
    const uint64_t all =
        products(&p, (kv_kvp_weights){.base = 1, .aux = 1, .consistency = 1, .kl = 1}, &trace);
    const uint64_t no_kl = products(&p, (kv_kvp_weights){.base = 1, .aux = 1, .consistency = 1}, &trace);
    assert_non_null(trace.base_k[0]);
    const uint64_t no_truth = products(&p, (kv_kvp_weights){.base = 1, .aux = 1}, &trace);
    assert_null(trace.base_k[0]); // no term needed the true cache
    const uint64_t only_base = products(&p, (kv_kvp_weights){.base = 1}, &trace);
    const uint64_t only_consistency = products(&p, (kv_kvp_weights){.consistency = 1}, &trace);
    assert_null(trace.hidden);
    assert_int_equal(only_consistency, products_of_caches(&p));
    assert_true(all > no_kl && no_kl > no_truth && no_truth > only_base && only_base > only_consistency);
    pair_free(&p);
}

// Errors that are only looked at are those the loss would have, and leave loss and gradients alone.
static void test_errors_without_weight(void **state) {
    (void)state;
    pair p = pair_make(true, true, true, KV_F32);
    const kv_batch batch = whole_batch();
    kv_kvp_terms plain, with;
    kv_kvp_weights weights = {.base = 1, .aux = 1};
    kv_error err = {0};
    const size_t bytes = (size_t)kv_predictor_size(p.predictor) * sizeof(float);
    float *gradients = test_alloc(kv_predictor_size(p.predictor), sizeof *gradients);
    assert_int_equal(kv_tape_backward(p.tape, objective(&p, &batch, &weights, &plain, NULL), &err), KV_OK);
    memcpy(gradients, p.predictor->grads, bytes);
    memset(p.predictor->grads, 0, bytes);
    weights.errors = true;
    kv_tape_reset(p.tape);
    assert_int_equal(kv_tape_backward(p.tape, objective(&p, &batch, &weights, &with, NULL), &err), KV_OK);
    assert_memory_equal(gradients, p.predictor->grads, bytes);
    assert_true(with.total == plain.total && plain.k_l1[1] == 0 && plain.consistency == 0);
    weights = (kv_kvp_weights){.consistency = 1};
    kv_tape_reset(p.tape);
    objective(&p, &batch, &weights, &plain, NULL);
    assert_true(plain.consistency > 0 && with.consistency == plain.consistency);
    for (int i = 0; i < BASE_LAYERS; i++)
        assert_true(with.k_l1[i] == plain.k_l1[i] && with.v_l1[i] == plain.v_l1[i]);
    free(gradients);
    pair_free(&p);
}

static void test_frozen_predictors_and_aux_leave_nothing_to_train(void **state) {
    (void)state;
    pair p = pair_make(true, true, false, KV_F32);
    kv_error err = {0};
    assert_int_equal(kv_predictor_set_trainable(p.predictor, false, &err), KV_OK);
    const kv_batch batch = whole_batch();
    kv_tensor *loss = objective(&p, &batch, &everything, NULL, NULL);
    assert_false(loss->wants_grad);
    assert_null(test_weight(p.predictor, KV_KEYS, 0)->grad);
    pair_free(&p);
}

// ---- What was computed before --------------------------------------------------------------------------

// Caches of both models and all of the base's logits for whole_batch(), in memory of their own.
typedef struct known {
    kv_tape *tape;
    kv_tensor *base_k[REF_LAYERS], *base_v[REF_LAYERS], *aux_k[REF_LAYERS], *aux_v[REF_LAYERS];
    kv_key_norms norms;
    int32_t ids[TOKENS * VOCABULARY];
    float logsumexp[TOKENS];
    kv_kvp_given given;
} known;

static void known_make(known *g, pair *p) {
    const kv_sequence sequences[N_SEQ] = {{0, SEQ_LEN, 0, SEQ_LEN}, {SEQ_LEN, SEQ_LEN, SEQ_LEN, SEQ_LEN}};
    kv_pass pass = {.sequences = sequences, .n_sequences = N_SEQ, .raw_k = g->aux_k, .v = g->aux_v};
    g->tape = kv_tape_create();
    kv_tape_set_recording(g->tape, false);
    kv_model_forward(g->tape, p->aux, input_ids, TOKENS, &pass);
    pass.raw_k = NULL, pass.k = g->base_k, pass.v = g->base_v;
    kv_tensor *x = kv_model_forward(g->tape, p->base, input_ids, TOKENS, &pass);
    kv_tensor *logits = kv_model_logits(g->tape, p->base, x);
    for (int64_t i = 0; i < TOKENS; i++) {
        double sum = 0;
        for (int32_t j = 0; j < VOCABULARY; j++) {
            g->ids[i * VOCABULARY + j] = j;
            sum += exp((double)logits->data[i * VOCABULARY + j]);
        }
        g->logsumexp[i] = (float)log(sum);
    }
    kv_model_key_norms(p->base, &g->norms);
    g->given = (kv_kvp_given){.base_k = g->base_k,
                              .base_v = g->base_v,
                              .aux_raw_k = g->aux_k,
                              .aux_v = g->aux_v,
                              .topk = {VOCABULARY, g->ids, logits->data, g->logsumexp},
                              .norms = &g->norms};
}

static double *gradient_of(pair *p, kv_model *base, kv_model *aux, const kv_batch *batch,
                           const kv_kvp_weights *weights, kv_kvp_terms *terms) {
    kv_error err = {0};
    assert_int_equal(kv_predictor_set_trainable(p->predictor, true, &err), KV_OK); // zeroes
    kv_tape_reset(p->tape);
    kv_gemm_flops_reset();
    kv_tensor *loss = kv_kvp_objective(p->tape, base, aux, p->predictor, batch, weights, terms, NULL);
    if (kv_tape_backward(p->tape, loss, &err) != KV_OK) fail_msg("%s", err.message);
    ref_params params = {.n = kv_predictor_params(p->predictor, params.param)};
    double *results = test_alloc(ref_gradient_count(&params), sizeof *results);
    ref_gradient_results(&params, results);
    return results;
}

// Each part given alone, and all together: what is given is not run, and nothing else changes.
static void expect_given(pair *p, known *g, const kv_kvp_weights *weights) {
    const kv_kvp_given parts[] = {{.base_k = g->base_k, .base_v = g->base_v},
                                  {.aux_raw_k = g->aux_k, .aux_v = g->aux_v},
                                  {.topk = g->given.topk},
                                  g->given};
    kv_batch batch = whole_batch();
    kv_kvp_terms online, cached;
    ref_kvp r = reference_of(p, &batch, weights);
    rounding_spread spread = ref_kvp_spread(&r), gradients = ref_kvp_gradient_spread(&r);
    double *expected = gradient_of(p, p->base, p->aux, &batch, weights, &online);
    const uint64_t all = kv_gemm_flops();
    for (int i = 0; i < 4; i++) {
        batch.given = &parts[i];
        double *found = gradient_of(p, p->base, p->aux, &batch, weights, &cached);
        const kv_kvp_known parts_known = {parts[i].base_k != NULL, parts[i].aux_raw_k != NULL,
                                          parts[i].topk.k};
        assert_int_equal(all - kv_gemm_flops(),
                         kv_flops_kvp_spared(&p->base->spec, &p->aux->spec, p->predictor, N_SEQ, SEQ_LEN,
                                             weights, &parts_known));
        // The true cache alone saves nothing while the logits still need the pass.
        assert_true(weights->kl == 0 || (i == 0 ? kv_gemm_flops() == all : kv_gemm_flops() < all));
        compare_terms(&cached, &online, weights, &spread);
        rounding_compare_results("gradient from given parts", found, expected, &gradients);
        free(found);
    }
    free(expected);
    rounding_spread_free(&spread);
    rounding_spread_free(&gradients);
    ref_kvp_free(&r);
}

static void test_given_parts_stand_for_their_passes(void **state) {
    (void)state;
    static known g;
    static const kv_kvp_weights weights[] = {{.base = 0.8f, .consistency = 0.5f, .kl = 2, .z_loss = 0.01f},
                                             {.consistency = 1, .hidden = 2, .hidden_layer = 1},
                                             {.consistency = 1, .hidden = 2, .hidden_layer = BASE_LAYERS - 1},
                                             {.kl = 1, .hidden = 1, .hidden_layer = 1},
                                             {.base = 1, .hidden = 1, .hidden_layer = 0}};
    for (int norms = 0; norms < 2; norms++)
        for (size_t w = 0; w < sizeof weights / sizeof *weights; w++) {
            pair p = pair_make(norms, true, false, KV_F32);
            known_make(&g, &p);
            expect_given(&p, &g, &weights[w]);
            kv_tape_free(g.tape);
            pair_free(&p);
        }
}

static void test_consistency_needs_no_models(void **state) {
    (void)state;
    static known g;
    for (int norms = 0; norms < 2; norms++) {
        pair p = pair_make(norms, true, false, KV_F32);
        known_make(&g, &p);
        g.given.topk.k = 0;
        const kv_kvp_weights weights = {.consistency = 0.5f};
        kv_batch batch = whole_batch();
        kv_kvp_terms online, cached;
        double *expected = gradient_of(&p, p.base, p.aux, &batch, &weights, &online);
        const uint64_t online_flops = kv_gemm_flops();
        batch.given = &g.given;
        double *found = gradient_of(&p, NULL, NULL, &batch, &weights, &cached);
        assert_true(cached.total == online.total && cached.total > 0);
        const kv_kvp_known parts_known = {true, true, 0};
        assert_int_equal(online_flops - kv_gemm_flops(),
                         kv_flops_kvp_spared(&p.base->spec, &p.aux->spec, p.predictor, N_SEQ, SEQ_LEN,
                                             &weights, &parts_known));
        for (int64_t i = 0; i < kv_predictor_size(p.predictor); i++) assert_true(found[i] == expected[i]);
        free(found);
        free(expected);
        kv_tape_free(g.tape);
        pair_free(&p);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_published_loss),
        cmocka_unit_test(test_every_term_alone_and_together),
        cmocka_unit_test(test_frozen_aux_and_stored_types),
        cmocka_unit_test(test_kinds_of_predictors),
        cmocka_unit_test(test_part_of_a_larger_step),
        cmocka_unit_test(test_micro_batches_add),
        cmocka_unit_test(test_trace),
        cmocka_unit_test(test_terms_without_weight_are_not_run),
        cmocka_unit_test(test_errors_without_weight),
        cmocka_unit_test(test_frozen_predictors_and_aux_leave_nothing_to_train),
        cmocka_unit_test(test_given_parts_stand_for_their_passes),
        cmocka_unit_test(test_consistency_needs_no_models),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

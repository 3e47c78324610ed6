// The formulas of core/flops.h and infer/cost.h against what the product wrapper counts while a real prefill runs.
#include "core/flops.h"
#include "core/gemm.h"
#include "core/predictor/least_squares.h"
#include "infer/cost.h"
#include "infer/session/engine.h"

#include "tests/support/predictors/paper.h"
#include "tests/support/support.h"
#include "tests/support/tiny.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { VOCABULARY = 61 };

struct pair {
    kv_model *base, *aux;
    kv_predictor *predictor;
    kv_model_spec base_spec, aux_spec;
};

// Predictors of other kinds between the same models, and of maps that leave a layer out.
static const struct {
    test_kind kind;
    int32_t mapping[3];
} others[] = {{{4, 1}, {0, 0, 1}}, {{0, 2}, {0, 0, 1}}, {{5, 2}, {1, 0, 1}}, {{0, 1}, {0, 0, 0}},
              {{3, 1}, {0, 0, 0}}, {{0, 1}, {1, 1, 1}}, {{6, 2}, {1, 1, 1}}};
enum { N_OTHERS = sizeof others / sizeof *others };

static kv_predictor *other_predictor(const struct pair *pair, int i) {
    return tiny_predictor_of(&pair->base_spec, &pair->aux_spec, others[i].mapping, others[i].kind, 3);
}

static int setup(void **state) {
    struct pair *pair = test_alloc(1, sizeof *pair);
    const tiny_pair models = tiny_pair_make();
    pair->base = models.base, pair->aux = models.aux, pair->predictor = models.predictor;
    pair->base_spec = models.base->spec, pair->aux_spec = models.aux->spec;
    *state = pair;
    return 0;
}

static int teardown(void **state) {
    struct pair *pair = *state;
    tiny_pair_free(&(tiny_pair){pair->base, pair->aux, pair->predictor});
    free(pair);
    return 0;
}

// Operations the products really executed: up to the first token, or (decode) for one more.
static uint64_t measured(const kv_system *system, int64_t n, bool decode) {
    int32_t ids[64];
    float logits[VOCABULARY];
    kv_session *session;
    kv_error err = {0};
    tiny_ids(ids, n, VOCABULARY, 5);
    if (kv_session_create(system, 1, n + 1, &session, &err) != KV_OK) fail_msg("%s", err.message);
    kv_gemm_flops_reset();
    if (kv_session_prefill(session, ids, &n, logits, &err) != KV_OK) fail_msg("%s", err.message);
    if (decode) {
        kv_gemm_flops_reset();
        if (kv_session_decode(session, ids, NULL, logits, &err) != KV_OK) fail_msg("%s", err.message);
    }
    const uint64_t flops = kv_gemm_flops();
    kv_session_free(session);
    return flops;
}

static void test_prefill_equals_counter(void **state) {
    struct pair *pair = *state;
    const kv_system base = {.base = pair->base}, aux = {.base = pair->aux};
    const kv_system predicted = {.base = pair->base, .aux = pair->aux, .predictor = pair->predictor};
    for (int64_t n = 1; n <= 63; n = n < 3 ? n + 1 : 2 * n + 1) {
        assert_int_equal(kv_flops_prefill(&pair->base_spec, n), measured(&base, n, false));
        assert_int_equal(kv_flops_prefill(&pair->aux_spec, n), measured(&aux, n, false));
        assert_int_equal(kv_flops_kvp_prefill(&pair->base_spec, &pair->aux_spec, pair->predictor, n),
                         measured(&predicted, n, false));
        assert_int_equal(kv_flops_decode(&pair->base_spec, n), measured(&base, n, true));
        assert_int_equal(kv_flops_decode(&pair->base_spec, n), measured(&predicted, n, true));
    }
}

static void test_predicted_prefill_of_other_kinds(void **state) {
    struct pair *pair = *state;
    for (int i = 0; i < N_OTHERS; i++) {
        kv_predictor *predictor = other_predictor(pair, i);
        const kv_system predicted = {.base = pair->base, .aux = pair->aux, .predictor = predictor};
        for (int64_t n = 1; n <= 31; n += n < 3 ? 1 : 14) {
            const uint64_t said = kv_flops_kvp_prefill(&pair->base_spec, &pair->aux_spec, predictor, n);
            assert_int_equal(said, measured(&predicted, n, false));
            assert_int_equal(said, kv_system_flops(&predicted, n));
        }
        kv_predictor_free(predictor);
    }
}

// Answers of different lengths in one batch, decoded until each is complete.
static void test_answers_equal_counter(void **state) {
    struct pair *pair = *state;
    enum { N = 4 };
    static const int64_t prompts[N] = {7, 1, 20, 12}, generated[N] = {3, 6, 1, 4};
    const kv_system systems[] = {{.base = pair->base},
                                 {.base = pair->base, .aux = pair->aux, .predictor = pair->predictor}};
    for (int i = 0; i < 2; i++) {
        int32_t ids[40];
        float logits[N * VOCABULARY];
        kv_session *session;
        kv_error err = {0};
        tiny_ids(ids, 40, VOCABULARY, 5);
        if (kv_session_create(&systems[i], N, 32, &session, &err) != KV_OK) fail_msg("%s", err.message);
        kv_gemm_flops_reset();
        if (kv_session_prefill(session, ids, prompts, logits, &err) != KV_OK) fail_msg("%s", err.message);
        for (int64_t step = 1; step < 6; step++) {
            bool active[N];
            for (int s = 0; s < N; s++) active[s] = step < generated[s];
            if (kv_session_decode(session, ids, active, logits, &err) != KV_OK) fail_msg("%s", err.message);
        }
        kv_session_free(session);
        uint64_t expected = 0; // an answer's first token comes out of the prefill, its last is not read again
        for (int s = 0; s < N; s++) {
            expected +=
                i ? kv_flops_kvp_prefill(&pair->base_spec, &pair->aux_spec, pair->predictor, prompts[s])
                  : kv_flops_prefill(&pair->base_spec, prompts[s]);
            for (int64_t t = 0; t + 1 < generated[s]; t++)
                expected += kv_flops_decode(&pair->base_spec, prompts[s] + t);
        }
        assert_int_equal(expected, kv_gemm_flops());
    }
}

// One layer, width 4, one head of 2, FFN 3, vocabulary 5, two tokens:
//   K and V of both tokens 2·(2·2·2·4) = 64; Q of the last 2·1·2·4 = 16; scores and their sum of one query
//   over two keys 2·(2·1·2·2) = 16; output projection 16; gate, up, down 3·(2·1·3·4) = 72; head 2·1·5·4 = 40.
static void test_by_hand(void **state) {
    (void)state;
    kv_model_spec spec = {.vocab_size = 5, .model_dim = 4, .head_dim = 2, .n_layers = 1, .tied_head = true};
    spec.layers[0] = (kv_layer_spec){.n_heads = 1, .n_kv_heads = 1, .ffn_dim = 3};
    assert_int_equal(kv_flops_prefill(&spec, 2), 64 + 16 + 16 + 16 + 72 + 40);
    // One token after two: K and V 32, Q 16, three keys 24, output 16, FFN 72, head 40.
    assert_int_equal(kv_flops_decode(&spec, 2), 32 + 16 + 24 + 16 + 72 + 40);
    // The same model as its own aux: K and V of one token 32, predictors 2·(2·1·2·2) = 16, then one decoded
    // token after one: two keys 16.
    kv_predictor *predictor = test_plan(&spec, &spec, (int32_t[]){0}, (test_kind){0});
    assert_int_equal(kv_flops_kvp_prefill(&spec, &spec, predictor, 2), 32 + 16 + 32 + 16 + 16 + 16 + 72 + 40);
    kv_predictor_free(predictor);
    // Norms 3·4, Q, K, V and output 4·(2·4), FFN 3·(3·4), embedding 5·4.
    assert_int_equal(kv_spec_size(&spec, false), 12 + 32 + 36);
    assert_int_equal(kv_spec_size(&spec, true), 12 + 32 + 36 + 20);
    spec.tied_head = false;
    assert_int_equal(kv_spec_size(&spec, true), 12 + 32 + 36 + 40);
}

static void test_sizes_agree(void **state) {
    struct pair *pair = *state;
    for (int with = 0; with < 2; with++) {
        assert_int_equal(kv_spec_size(&pair->base_spec, with), kv_model_size(pair->base, with));
        assert_int_equal(kv_spec_size(&pair->aux_spec, with), kv_model_size(pair->aux, with));
    }
}

// The reductions printed in the paper's tables 5 and 6.
static void test_published_reductions(void **state) {
    (void)state;
    static const struct {
        const char *base, *smaller;
        double reduction;
    } pairs[] = {{"openelm-1.1b", "openelm-450m", 2.36},
                 {"openelm-1.1b", "openelm-270m", 3.98},
                 {"openelm-3b", "openelm-1.1b", 2.81},
                 {"openelm-3b", "openelm-450m", 6.64},
                 {"openelm-3b", "openelm-270m", 11.18}};
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        kv_model_spec *specs = test_alloc(2, sizeof *specs);
        assert_true(kv_published_spec(pairs[i].base, &specs[0]));
        assert_true(kv_published_spec(pairs[i].smaller, &specs[1]));
        const double reduction = kv_paper_reduction(&specs[0], &specs[1]);
        if (fabs(reduction - pairs[i].reduction) > 0.006)
            fail_msg("%s over %s: %.4f, published %.2f", pairs[i].base, pairs[i].smaller, reduction,
                     pairs[i].reduction);
        free(specs);
    }
}

// ---- Training ------------------------------------------------------------------------------------------

enum { SEQUENCES = 3, SEQ_LEN = 9, TOKENS = SEQUENCES * SEQ_LEN };

static kv_batch make_batch(int32_t ids[TOKENS], int32_t targets[TOKENS]) {
    tiny_ids(ids, TOKENS, VOCABULARY, 6);
    tiny_ids(targets, TOKENS, VOCABULARY, 7);
    return (kv_batch){
        .input_ids = ids, .target_ids = targets, .n_seq = SEQUENCES, .seq_len = SEQ_LEN, .ignore_index = -1};
}

static void set_trainable(kv_model *model, bool on) {
    kv_error err = {0};
    if (kv_model_set_trainable(model, on, &err) != KV_OK) fail_msg("%s", err.message);
}

static void test_lm_step_equals_counter(void **state) {
    struct pair *pair = *state;
    int32_t ids[TOKENS], targets[TOKENS];
    const kv_batch batch = make_batch(ids, targets);
    const kv_lm_weights weights = {.ce = 1};
    kv_error err = {0};
    kv_tape *tape = kv_tape_create();
    set_trainable(pair->base, true);
    for (int again = 0; again < 2; again++) {
        kv_tape_set_checkpointing(tape, again);
        kv_tape_reset(tape);
        kv_gemm_flops_reset();
        kv_tensor *loss = kv_lm_objective(tape, pair->base, NULL, &batch, &weights, NULL);
        if (kv_tape_backward(tape, loss, &err) != KV_OK) fail_msg("%s", err.message);
        assert_int_equal(kv_flops_lm_step(&pair->base_spec, NULL, SEQUENCES, SEQ_LEN, again),
                         kv_gemm_flops());
    }
    set_trainable(pair->base, false);
    kv_tape_free(tape);
}

// A vocabulary whose logits are too many to be kept for backward, which computes them again.
static void test_lm_step_with_large_vocabulary(void **state) {
    (void)state;
    enum { N_SEQ = 20, LENGTH = 15, LARGE = 60001 };
    kv_model_spec spec = tiny_aux();
    spec.vocab_size = LARGE;
    kv_model *model = tiny_model(&spec, 4);
    int32_t *ids = test_alloc(2 * N_SEQ * LENGTH, sizeof *ids);
    tiny_ids(ids, 2 * N_SEQ * LENGTH, LARGE, 8);
    const kv_batch batch = {.input_ids = ids,
                            .target_ids = ids + N_SEQ * LENGTH,
                            .n_seq = N_SEQ,
                            .seq_len = LENGTH,
                            .ignore_index = -1};
    const kv_lm_weights weights = {.ce = 1};
    kv_error err = {0};
    kv_tape *tape = kv_tape_create();
    set_trainable(model, true);
    kv_gemm_flops_reset();
    kv_tensor *loss = kv_lm_objective(tape, model, NULL, &batch, &weights, NULL);
    if (kv_tape_backward(tape, loss, &err) != KV_OK) fail_msg("%s", err.message);
    assert_int_equal(kv_flops_lm_step(&spec, NULL, N_SEQ, LENGTH, false), kv_gemm_flops());
    kv_tape_free(tape);
    kv_model_free(model);
    free(ids);
}

// Every sum of losses that there is something to learn from, with and without z-loss.
enum { N_LOSSES = 5, N_SUMS = 3 << N_LOSSES };

static kv_kvp_weights sum_of_losses(int i) {
    const int terms = i % (1 << N_LOSSES), variant = i >> N_LOSSES;
    return (kv_kvp_weights){.base = terms & 1 ? 1 : 0,
                            .aux = terms & 2 ? 0.5f : 0,
                            .kl = terms & 4 ? 2 : 0,
                            .consistency = terms & 8 ? 0.3f : 0,
                            .hidden = terms & 16 ? 0.7f : 0,
                            .hidden_layer = variant == 1 ? 1 : 2, // of 3
                            .z_loss = variant == 2 ? 1e-4f : 0};
}

// A hidden state reaches no map above its layer: where no other loss does, those are counted all the same.
static bool learns(const kv_kvp_weights *w, bool aux_trained) {
    if (w->base != 0 || w->kl != 0 || w->consistency != 0) return true;
    return w->hidden != 0 ? w->hidden_layer == 2 : w->aux != 0 && aux_trained;
}

// What the losses cost, forward and, unless held-out text is only looked at, backward.
static void expect_sum(const struct pair *pair, kv_predictor *predictor, const char *name, int i,
                       bool trained, bool again, kv_tape *tape) {
    int32_t ids[TOKENS], targets[TOKENS];
    const kv_batch batch = make_batch(ids, targets);
    kv_kvp_weights weights = sum_of_losses(i);
    kv_error err = {0};
    const uint64_t step = kv_flops_kvp_step(&pair->base_spec, &pair->aux_spec, predictor, SEQUENCES, SEQ_LEN,
                                            &weights, trained, again),
                   look = kv_flops_kvp_loss_only(&pair->base_spec, &pair->aux_spec, predictor, SEQUENCES,
                                                 SEQ_LEN, &weights);
    for (int looking = 0; looking < 2; looking++) {
        weights.errors = looking;
        kv_tape_reset(tape);
        kv_tape_set_recording(tape, !looking);
        kv_gemm_flops_reset();
        kv_tensor *loss =
            kv_kvp_objective(tape, pair->base, pair->aux, predictor, &batch, &weights, NULL, NULL);
        if (kv_tape_status(tape, &err) != KV_OK || (!looking && kv_tape_backward(tape, loss, &err) != KV_OK))
            fail_msg("sum %d: %s", i, err.message);
        if ((looking ? look : step) != kv_gemm_flops())
            fail_msg("%s, sum %d, aux %s, checkpointing %d: counted %llu, executed %llu", name, i,
                     trained ? "trained" : "frozen", again, (unsigned long long)(looking ? look : step),
                     (unsigned long long)kv_gemm_flops());
    }
    kv_tape_set_recording(tape, true);
}

static void expect_kvp_step(const struct pair *pair, kv_predictor *predictor, const char *name) {
    kv_error err = {0};
    kv_tape *tape = kv_tape_create();
    if (kv_predictor_set_trainable(predictor, true, &err) != KV_OK) fail_msg("%s", err.message);
    for (int i = 0; i < N_SUMS; i++)
        for (int kind = 0; kind < 4; kind++) {
            const bool trained = kind & 1, again = kind & 2;
            const kv_kvp_weights weights = sum_of_losses(i);
            if (!learns(&weights, trained)) continue;
            set_trainable(pair->aux, trained);
            kv_tape_set_checkpointing(tape, again);
            expect_sum(pair, predictor, name, i, trained, again, tape);
        }
    set_trainable(pair->aux, false);
    kv_predictor_set_trainable(predictor, false, &err);
    kv_tape_free(tape);
}

static void test_kvp_step_equals_counter(void **state) {
    struct pair *pair = *state;
    expect_kvp_step(pair, pair->predictor, "full rank");
}

// Only where the aux's last layer is read: one that no loss reaches is counted as if one did.
static void test_kvp_step_of_other_kinds(void **state) {
    struct pair *pair = *state;
    for (int i = 0; i < N_OTHERS; i++) {
        kv_predictor *predictor = other_predictor(pair, i);
        char name[64];
        snprintf(name, sizeof name, "rank %d of %d aux layers", (int)others[i].kind.rank,
                 (int)others[i].kind.aux_layers);
        if (test_depth(predictor) == pair->aux_spec.n_layers) expect_kvp_step(pair, predictor, name);
        kv_predictor_free(predictor);
    }
}

static void test_least_squares_equals_counter(void **state) {
    struct pair *pair = *state;
    int32_t ids[TOKENS];
    kv_sequence sequences[SEQUENCES];
    kv_tensor *base_k[KV_MAX_LAYERS], *base_v[KV_MAX_LAYERS];
    kv_taps taps;
    tiny_ids(ids, TOKENS, VOCABULARY, 6);
    for (int64_t s = 0; s < SEQUENCES; s++)
        sequences[s] = (kv_sequence){s * SEQ_LEN, SEQ_LEN, s * SEQ_LEN, SEQ_LEN};
    for (int m = 0; m < N_OTHERS; m++) {
        kv_predictor *predictor = other_predictor(pair, m);
        kv_least_squares *sums = NULL;
        kv_error err = {0};
        if (kv_least_squares_create(predictor, &sums, &err) != KV_OK) fail_msg("%s", err.message);
        kv_tape *tape = kv_tape_create();
        kv_pass pass = {.sequences = sequences, .n_sequences = SEQUENCES, .only_kv = true};
        kv_gemm_flops_reset();
        kv_predictor_read(tape, predictor, pair->base, pair->aux, ids, TOKENS, &pass, false, &taps);
        pass.raw_k = base_k, pass.v = base_v;
        kv_model_forward(tape, pair->base, ids, TOKENS, &pass);
        if (kv_least_squares_add(sums, tape, &taps, base_k, base_v, NULL, &err) != KV_OK ||
            kv_least_squares_solve(sums, 1e-3, predictor, NULL, NULL, &err) != KV_OK) // not counted
            fail_msg("%s", err.message);
        assert_int_equal(
            kv_flops_least_squares(&pair->base_spec, &pair->aux_spec, predictor, SEQUENCES, SEQ_LEN),
            kv_gemm_flops());
        kv_tape_free(tape);
        kv_least_squares_free(sums);
        kv_predictor_free(predictor);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_prefill_equals_counter),
        cmocka_unit_test(test_predicted_prefill_of_other_kinds),
        cmocka_unit_test(test_answers_equal_counter),
        cmocka_unit_test(test_by_hand),
        cmocka_unit_test(test_sizes_agree),
        cmocka_unit_test(test_published_reductions),
        cmocka_unit_test(test_lm_step_equals_counter),
        cmocka_unit_test(test_lm_step_with_large_vocabulary),
        cmocka_unit_test(test_kvp_step_equals_counter),
        cmocka_unit_test(test_kvp_step_of_other_kinds),
        cmocka_unit_test(test_least_squares_equals_counter),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}

// Logits that are NaN or infinite leave no system: whichever of its weights they come from, reading, generating and
// scoring fail with the sequence and the token, and the clock has no time of a first token that does not exist.
#include "core/vecmath.h"
#include "infer/generate.h"
#include "infer/score/score.h"
#include "infer/session/engine.h"
#include "infer/ttft.h"

#include "tests/support/predictors/paper.h"
#include "tests/support/pruning.h"
#include "tests/support/support.h"
#include "tests/support/tiny.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { N = 12, ROOM = 40, BAD_ID = 60, FEW = 6 };

static kv_error err;

// ---- The check -----------------------------------------------------------------------------------------

static void every_place_counts(void **state) {
    (void)state;
    enum { MOST = 70 };
    float x[MOST];
    static const float bad[] = {NAN, -NAN, INFINITY, -INFINITY}, good[] = {FLT_MAX, -FLT_MAX, 1e-45f, -0.0f};
    for (int64_t n = 0; n <= MOST; n++) {
        for (int64_t i = 0; i < n; i++) x[i] = good[i % 4];
        assert_true(kv_all_finite(x, n));
        for (int64_t i = 0; i < n; i++) {
            const float kept = x[i];
            x[i] = bad[i % 4];
            assert_false(kv_all_finite(x, n));
            assert_true(kv_all_finite(x, i));
            x[i] = kept;
        }
    }
}

// ---- Every system --------------------------------------------------------------------------------------

// Ids of which none is BAD_ID, and a base whose head is no part of its embedding.
struct world {
    tiny_pair pair;
    int32_t ids[N];
};

static struct world make_world(void) {
    struct world w;
    kv_model_spec base = tiny_deep_base(6), aux = tiny_aux();
    base.tied_head = false;
    w.pair = (tiny_pair){tiny_model(&base, 1), tiny_model(&aux, 2), tiny_predictor(&base, &aux, 3)};
    tiny_ids(w.ids, N, BAD_ID, 4);
    return w;
}

enum { ALONE, PREDICTED, PRUNED, N_WAYS = PRUNED + N_POLICIES };

static kv_system system_of(const struct world *w, int way) {
    if (way == ALONE) return (kv_system){.base = w->pair.base};
    if (way == PREDICTED)
        return (kv_system){.base = w->pair.base, .aux = w->pair.aux, .predictor = w->pair.predictor};
    const kv_pruning pruning = prune_policies[way - PRUNED];
    const bool drafts = pruning.kind == KV_PRUNE_SPECULATIVE;
    return (kv_system){.base = w->pair.base, .aux = drafts ? w->pair.aux : NULL, .pruning = pruning};
}

static void expect_message(const char *part) {
    if (!strstr(err.message, part)) fail_msg("expected '%s' in '%s'", part, err.message);
}

static void nothing_comes_out(const kv_system *system) {
    kv_session *session;
    int32_t generated[FEW];
    int64_t n = N, n_generated, n_scored = 3;
    double log_likelihood;
    if (kv_session_create(system, 1, ROOM, &session, &err) != KV_OK) fail_msg("%s", err.message);
    const kv_sampling drawn = {.temperature = 1, .top_p = 0.9, .top_k = 20};
    struct world w;
    tiny_ids(w.ids, N, BAD_ID, 4);
    for (int sampled = 0; sampled < 2; sampled++) {
        const kv_generation how = {.max_tokens = FEW, .sampling = sampled ? drawn : (kv_sampling){0}};
        assert_int_equal(kv_generate(session, w.ids, &n, &how, generated, &n_generated, &err),
                         KV_ERR_NOT_FINITE);
        expect_message("the first token of the answer: ");
        expect_message("the logits are not finite (id ");
        assert_int_equal(n_generated, 0);
        assert_int_equal(kv_session_not_finite(session), 0);
        assert_int_equal(kv_session_length(session, 0), 0); // nothing was read
    }
    for (int behind = 0; behind < 2; behind++) {
        log_likelihood = 0;
        assert_int_equal((behind ? kv_score_behind_prompt : kv_score)(system, w.ids, &n, &n_scored, 1,
                                                                      &log_likelihood, NULL, &err),
                         KV_ERR_NOT_FINITE);
        expect_message("the logits are not finite");
        assert_true(isnan(log_likelihood));
    }
    kv_session_free(session);
}

// In turn: the base's last norm, a row of its head, which is one logit alone, and a value of its first layer.
static void weights_of_the_base(void **state) {
    (void)state;
    static const float values[] = {NAN, INFINITY, -INFINITY};
    for (int which = 0; which < 3; which++)
        for (int v = 0; v < 3; v++)
            for (int way = 0; way < N_WAYS; way++) {
                struct world w = make_world();
                kv_model *base = w.pair.base;
                const kv_param *params[] = {&base->norm, &base->head, &base->layers[0].q};
                ((float *)params[which]->data)[which == 1 ? BAD_ID * base->spec.model_dim : 0] = values[v];
                const kv_system system = system_of(&w, way);
                nothing_comes_out(&system);
                tiny_pair_free(&w.pair);
            }
}

static void weights_beside_the_base(void **state) {
    (void)state;
    for (int which = 0; which < 3; which++) {
        struct world w = make_world();
        const kv_param *params[] = {&w.pair.aux->layers[0].k, test_bias(w.pair.predictor, KV_VALUES, 2),
                                    &w.pair.aux->embed};
        float *data = params[which]->data;
        data[which == 2 ? w.ids[1] * w.pair.aux->spec.model_dim : 0] = NAN;
        const kv_system system = system_of(&w, PREDICTED);
        nothing_comes_out(&system);
        tiny_pair_free(&w.pair);
    }
    // An aux that only looks ahead chooses what is read, and could choose anything.
    struct world w = make_world();
    for (int way = PRUNED; way < N_WAYS; way++) {
        const kv_system system = system_of(&w, way);
        if (!system.aux) continue;
        ((float *)w.pair.aux->norm.data)[0] = NAN;
        nothing_comes_out(&system);
        expect_message("the logits are not finite");
    }
    tiny_pair_free(&w.pair);
}

// ---- Where it happens ----------------------------------------------------------------------------------

static void spoil_row(kv_param *table, int64_t id) {
    ((float *)table->data)[id * table->cols + 1] = NAN;
}

static void one_sequence_of_a_batch(void **state) {
    (void)state;
    struct world w = make_world();
    const kv_system system = system_of(&w, ALONE);
    const int64_t lengths[3] = {4, 4, 4};
    int32_t generated[3 * FEW];
    int64_t n_generated[3];
    kv_session *session;
    w.ids[9] = BAD_ID; // the second of the third sequence
    spoil_row(&w.pair.base->embed, BAD_ID);
    assert_int_equal(kv_session_create(&system, 3, ROOM, &session, &err), KV_OK);
    assert_int_equal(kv_session_not_finite(session), -1);
    assert_int_equal(kv_generate(session, w.ids, lengths, &(kv_generation){.max_tokens = FEW}, generated,
                                 n_generated, &err),
                     KV_ERR_NOT_FINITE);
    assert_int_equal(kv_session_not_finite(session), 2);
    kv_session_free(session);
    tiny_pair_free(&w.pair);
}

// In the prompt, and among the tokens that are scored behind it.
static void one_token_of_a_text(void **state) {
    (void)state;
    struct world w = make_world();
    const kv_system system = system_of(&w, ALONE);
    const int64_t lengths[3] = {4, 4, 4}, n_scored[3] = {2, 2, 2};
    spoil_row(&w.pair.base->embed, BAD_ID);
    // Whole texts are read at once, and a token that cannot be read may spoil those before it.
    for (int at = 1; at < 3; at++)
        for (int way = at > 1; way < 3; way++) {
            double log_likelihoods[3];
            char where[32];
            const int32_t kept = w.ids[8 + at];
            w.ids[8 + at] = BAD_ID;
            assert_int_equal((way == 0   ? kv_score
                              : way == 1 ? kv_score_by_decoding
                                         : kv_score_behind_prompt)(&system, w.ids, lengths, n_scored, 3,
                                                                   log_likelihoods, NULL, &err),
                             KV_ERR_NOT_FINITE);
            snprintf(where, sizeof where, "token %d: ", at + 1);
            expect_message(where);
            assert_true(isfinite(log_likelihoods[0]) && isfinite(log_likelihoods[1]) &&
                        isnan(log_likelihoods[2]));
            w.ids[8 + at] = kept;
        }
    tiny_pair_free(&w.pair);
}

// The answer's second token is one that cannot be read: what follows is its third.
static void in_the_middle_of_an_answer(void **state) {
    (void)state;
    struct world w = make_world();
    const kv_system system = system_of(&w, ALONE);
    const int64_t n = N;
    int32_t good[FEW], generated[FEW];
    int64_t n_generated;
    kv_session *session;
    const kv_generation how = {.max_tokens = FEW, .sampling = {.temperature = 1, .top_p = 1, .seed = 7}};
    assert_int_equal(kv_session_create(&system, 1, ROOM, &session, &err), KV_OK);
    assert_int_equal(kv_generate(session, w.ids, &n, &how, good, &n_generated, &err), KV_OK);
    assert_int_equal(n_generated, FEW);
    for (int64_t i = 0; i < N; i++) assert_int_not_equal(w.ids[i], good[1]);
    assert_int_not_equal(good[0], good[1]);
    spoil_row(&w.pair.base->embed, good[1]);
    assert_int_equal(kv_generate(session, w.ids, &n, &how, generated, &n_generated, &err), KV_ERR_NOT_FINITE);
    expect_message("token 3 of the answer: the logits are not finite (id 0 has ");
    assert_int_equal(n_generated, 2);
    assert_int_equal(generated[1], good[1]);
    kv_session_free(session);
    tiny_pair_free(&w.pair);
}

// Scores see the vocabulary in tiles; any of them may hold the one logit.
static void any_tile_of_the_vocabulary(void **state) {
    (void)state;
    kv_model_spec spec = tiny_base();
    spec.vocab_size = 5000, spec.tied_head = false;
    static const int64_t places[] = {0, 2047, 2048, 4095, 4999};
    static const int32_t ids[4] = {7, 8, 9, 10};
    const int64_t length = 4, n_scored = 2;
    for (int i = 0; i < 5; i++) {
        double log_likelihood;
        const kv_system system = {.base = tiny_model(&spec, 5)};
        assert_int_equal(kv_score(&system, ids, &length, &n_scored, 1, &log_likelihood, NULL, &err), KV_OK);
        ((float *)system.base->head.data)[places[i] * spec.model_dim] = i % 2 ? INFINITY : -INFINITY;
        assert_int_equal(kv_score(&system, ids, &length, &n_scored, 1, &log_likelihood, NULL, &err),
                         KV_ERR_NOT_FINITE);
        kv_model_free(system.base);
    }
}

static void no_time_without_a_first_token(void **state) {
    (void)state;
    struct world w = make_world(), broken = make_world();
    ((float *)broken.pair.base->norm.data)[0] = NAN;
    const kv_system systems[2] = {system_of(&w, ALONE), system_of(&broken, PREDICTED)};
    const kv_ttft_cell cell = {.prompt_tokens = 6, .batch_size = 2};
    const kv_ttft_grid_args args = {.cells = &cell, .n_cells = 1, .repeats = 3, .seed = 1};
    kv_ttft ttft[2];
    double samples[6];
    if (kv_ttft_grid(systems, 2, &args, NULL, ttft, samples, &err) != KV_OK) fail_msg("%s", err.message);
    assert_true(ttft[0].seconds > 0 && isnan(ttft[1].seconds) && isnan(ttft[1].spread));
    for (int i = 0; i < 3; i++) assert_true(samples[i] > 0 && isnan(samples[3 + i]));
    tiny_pair_free(&w.pair);
    tiny_pair_free(&broken.pair);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_place_counts),         cmocka_unit_test(weights_of_the_base),
        cmocka_unit_test(weights_beside_the_base),    cmocka_unit_test(one_sequence_of_a_batch),
        cmocka_unit_test(one_token_of_a_text),        cmocka_unit_test(in_the_middle_of_an_answer),
        cmocka_unit_test(any_tile_of_the_vocabulary), cmocka_unit_test(no_time_without_a_first_token),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

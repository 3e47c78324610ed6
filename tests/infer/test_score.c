// Log-likelihoods against plain double precision, against the training step, and one way of scoring against
// the other.
#include "infer/generate.h"
#include "infer/score/score.h"

#include "core/objective.h"
#include "tests/support/numbers/reference_system.h"
#include "tests/support/support.h"
#include "tests/support/tiny.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { VOCABULARY = 61, N_SEQ = 5, TOKENS = 60 };

// Ragged; the third has nothing scored, the fourth all that can be.
static const int64_t lengths[N_SEQ] = {9, 2, 7, 12, 30};
static const int64_t n_scored[N_SEQ] = {3, 1, 0, 11, 1};

struct pair {
    kv_system alone, predicted;
    int32_t ids[TOKENS];
};

static int setup(void **state) {
    struct pair *pair = test_alloc(1, sizeof *pair);
    const tiny_pair models = tiny_pair_make();
    pair->alone.base = models.base;
    pair->predicted = (kv_system){.base = models.base, .aux = models.aux, .predictor = models.predictor};
    tiny_ids(pair->ids, TOKENS, VOCABULARY, 4);
    *state = pair;
    return 0;
}

static int teardown(void **state) {
    struct pair *pair = *state;
    tiny_pair_free(&(tiny_pair){pair->predicted.base, pair->predicted.aux, pair->predicted.predictor});
    free(pair);
    return 0;
}

typedef kv_status score_fn(const kv_system *, const int32_t *, const int64_t *, const int64_t *, int64_t,
                           double *, bool *, kv_error *);

static void score(score_fn *way, const kv_system *system, const int32_t *ids, const int64_t *n,
                  const int64_t *scored, int64_t n_seq, double *log_likelihood, bool *greedy) {
    kv_error err = {0};
    if (way(system, ids, n, scored, n_seq, log_likelihood, greedy, &err)) fail_msg("%s", err.message);
}

// ---- Double precision ----------------------------------------------------------------------------------

static void compare_with_exact(const ref_question *q, double found, bool greedy) {
    rounding_spread s = ref_question_spread(q);
    rounding_compare_one("log-likelihood", found, &s, 0);
    if (s.expected[1] == 0 || s.expected[1] > 2 * s.allowed[1]) assert_int_equal(greedy, s.expected[1] == 0);
    rounding_spread_free(&s);
}

// Two float32 computations of the same.
static void expect_near(const ref_question *q, double found, double other) {
    rounding_spread s = ref_question_spread(q);
    rounding_expect("log-likelihood", found, other, 2 * s.allowed[0]);
    rounding_spread_free(&s);
}

static void compare_with_reference(const kv_system *system, const int32_t *ids) {
    double found[N_SEQ];
    bool greedy[N_SEQ];
    ref_system r = ref_system_copy(system);
    score(kv_score, system, ids, lengths, n_scored, N_SEQ, found, greedy);
    for (int64_t s = 0; s < N_SEQ; ids += lengths[s++])
        compare_with_exact(&(ref_question){&r, ids, lengths[s], n_scored[s], false}, found[s], greedy[s]);
    assert_true(found[2] == 0 && greedy[2]);
    ref_system_free(&r);
}

static void test_model_alone(void **state) {
    struct pair *pair = *state;
    compare_with_reference(&pair->alone, pair->ids);
}

static void test_predicted_cache(void **state) {
    struct pair *pair = *state;
    compare_with_reference(&pair->predicted, pair->ids);
}

// The loss of training step 3 is minus the mean of what is scored.
static void test_equals_training_step(void **state) {
    struct pair *pair = *state;
    enum { N = 14, SCORED = 6, IGNORED = -100 };
    int32_t targets[N - 1];
    for (int t = 0; t < N - 1; t++) targets[t] = t < N - 1 - SCORED ? IGNORED : pair->ids[t + 1];
    const kv_batch batch = {
        .input_ids = pair->ids, .target_ids = targets, .n_seq = 1, .seq_len = N - 1, .ignore_index = IGNORED};
    const kv_kvp_weights weights = {.base = 1};
    kv_kvp_terms terms;
    kv_tape *tape = kv_tape_create();
    kv_kvp_objective(tape, pair->predicted.base, pair->predicted.aux, pair->predicted.predictor, &batch,
                     &weights, &terms, NULL);
    kv_tape_free(tape);
    double found;
    score(kv_score, &pair->predicted, pair->ids, &(const int64_t){N}, &(const int64_t){SCORED}, 1, &found,
          NULL);
    ref_system r = ref_system_copy(&pair->predicted);
    expect_near(&(ref_question){&r, pair->ids, N, SCORED, false}, found, -SCORED * terms.base.cross_entropy);
    ref_system_free(&r);
}

// ---- Batches -------------------------------------------------------------------------------------------

static void test_row_of_batch_equals_alone(void **state) {
    struct pair *pair = *state;
    const kv_system *systems[] = {&pair->alone, &pair->predicted};
    score_fn *const ways[] = {kv_score, kv_score_by_decoding, kv_score_behind_prompt};
    for (int i = 0; i < 6; i++) {
        double batch[N_SEQ], own;
        bool batch_greedy[N_SEQ], greedy;
        const int32_t *ids = pair->ids;
        ref_system r = ref_system_copy(systems[i % 2]);
        score(ways[i / 2], systems[i % 2], ids, lengths, n_scored, N_SEQ, batch, batch_greedy);
        for (int64_t s = 0; s < N_SEQ; ids += lengths[s++]) {
            score(ways[i / 2], systems[i % 2], ids, &lengths[s], &n_scored[s], 1, &own, &greedy);
            expect_near(&(ref_question){&r, ids, lengths[s], n_scored[s], i >= 2}, batch[s], own);
            assert_int_equal(batch_greedy[s], greedy);
        }
        ref_system_free(&r);
    }
}

// More tokens than a pack holds, more scored rows and a larger vocabulary than a tile.
static void test_packs_and_tiles(void **state) {
    (void)state;
    enum { MANY = 45, EACH = 50, SCORED = 30, LARGE = 4700 };
    kv_model_spec spec = tiny_base();
    spec.vocab_size = LARGE;
    const kv_system system = {.base = tiny_model(&spec, 7)};
    ref_system r = ref_system_copy(&system);
    int32_t *ids = test_alloc(MANY * EACH, sizeof *ids);
    int64_t each[MANY], scored[MANY];
    double found[MANY];
    bool greedy[MANY];
    tiny_ids(ids, MANY * EACH, LARGE, 12);
    for (int s = 0; s < MANY; s++) each[s] = EACH, scored[s] = s % 9 == 8 ? 0 : SCORED;
    score_fn *const ways[] = {kv_score, kv_score_by_decoding, kv_score_behind_prompt};
    for (int i = 0; i < 3; i++) {
        score(ways[i], &system, ids, each, scored, MANY, found, greedy);
        for (int s = 0; s < MANY; s += 11)
            compare_with_exact(&(ref_question){&r, ids + s * EACH, EACH, scored[s], i > 0}, found[s],
                               greedy[s]);
        assert_true(found[8] == 0 && found[9] != 0);
    }
    // The argmax is found in whatever tile it is.
    int32_t *prompts = test_alloc(MANY * (EACH - 1), sizeof *prompts), best[MANY];
    int64_t prompt[MANY], n[MANY], beyond_a_tile = 0;
    for (int s = 0; s < MANY; s++) {
        memcpy(prompts + s * (EACH - 1), ids + s * EACH, (EACH - 1) * sizeof *ids);
        prompt[s] = EACH - 1, scored[s] = 1;
    }
    kv_error err = {0};
    kv_session *session;
    const kv_generation how = {.max_tokens = 1};
    assert_int_equal(kv_session_create(&system, MANY, EACH, &session, &err), KV_OK);
    assert_int_equal(kv_generate(session, prompts, prompt, &how, best, n, &err), KV_OK);
    kv_session_free(session);
    free(prompts);
    for (int s = 0; s < MANY; s++) ids[s * EACH + EACH - 1] = best[s], beyond_a_tile += best[s] >= 2048;
    assert_in_range(beyond_a_tile, 1, MANY - 1);
    score(kv_score, &system, ids, each, scored, MANY, found, greedy);
    for (int s = 0; s < MANY; s++) assert_true(greedy[s]);
    ref_system_free(&r);
    kv_model_free(system.base);
    free(ids);
}

// ---- The two ways --------------------------------------------------------------------------------------

static void test_decoding_equals_whole_sequences(void **state) {
    struct pair *pair = *state;
    double whole[N_SEQ], decoded[N_SEQ];
    bool whole_greedy[N_SEQ], decoded_greedy[N_SEQ];
    score(kv_score, &pair->alone, pair->ids, lengths, n_scored, N_SEQ, whole, whole_greedy);
    score(kv_score_by_decoding, &pair->alone, pair->ids, lengths, n_scored, N_SEQ, decoded, decoded_greedy);
    ref_system alone = ref_system_copy(&pair->alone), predicted = ref_system_copy(&pair->predicted);
    for (int64_t s = 0, from = 0; s < N_SEQ; from += lengths[s++]) {
        expect_near(&(ref_question){&alone, pair->ids + from, lengths[s], n_scored[s], true}, decoded[s],
                    whole[s]);
        assert_int_equal(decoded_greedy[s], whole_greedy[s]);
    }
    // With a predicted cache the context alone is predicted: the first token's logits are the prefill's.
    kv_error err = {0};
    kv_session *session;
    float logits[VOCABULARY];
    const int64_t context = lengths[4] - 1;
    const int32_t *ids = pair->ids + 30, next = ids[context];
    assert_int_equal(kv_session_create(&pair->predicted, 1, context, &session, &err), KV_OK);
    assert_int_equal(kv_session_prefill(session, ids, &context, logits, &err), KV_OK);
    kv_session_free(session);
    double sum = 0, found, other;
    bool greedy;
    for (int j = 0; j < VOCABULARY; j++) sum += exp((double)logits[j]);
    score(kv_score_by_decoding, &pair->predicted, ids, &lengths[4], &n_scored[4], 1, &found, &greedy);
    const ref_question question = {&predicted, ids, lengths[4], n_scored[4], true};
    compare_with_exact(&question, found, greedy);
    expect_near(&question, found, (double)logits[next] - log(sum));
    score(kv_score, &pair->predicted, ids, &lengths[4], &n_scored[4], 1, &other, NULL);
    rounding_spread s = ref_question_spread(&question);
    assert_true(fabs(found - other) > 10 * s.allowed[0]); // another question
    rounding_spread_free(&s);
    ref_system_free(&alone);
    ref_system_free(&predicted);
}

// A system that prunes is asked token by token.
static void test_pruned_systems_decode(void **state) {
    struct pair *pair = *state;
    kv_system pruned = pair->alone;
    pruned.pruning = (kv_pruning){.kind = KV_PRUNE_RANDOM, .keep = 1, .seed = 1};
    double found[N_SEQ], expected[N_SEQ];
    score(kv_score, &pruned, pair->ids, lengths, n_scored, N_SEQ, found, NULL);
    score(kv_score_by_decoding, &pruned, pair->ids, lengths, n_scored, N_SEQ, expected, NULL);
    assert_memory_equal(found, expected, sizeof found);
}

// What greedy decoding gives was the argmax everywhere; with one token changed it was not.
static void test_greedy(void **state) {
    struct pair *pair = *state;
    enum { PROMPT = 6, NEW = 5 };
    int32_t ids[PROMPT + NEW];
    const int64_t prompt = PROMPT, length = PROMPT + NEW, scored = NEW;
    int64_t n;
    kv_error err = {0};
    kv_session *session;
    const kv_generation how = {.max_tokens = NEW};
    memcpy(ids, pair->ids, PROMPT * sizeof *ids);
    assert_int_equal(kv_session_create(&pair->alone, 1, length, &session, &err), KV_OK);
    assert_int_equal(kv_generate(session, ids, &prompt, &how, ids + PROMPT, &n, &err), KV_OK);
    kv_session_free(session);
    for (int i = 0; i < 2; i++) {
        double found;
        bool greedy;
        score_fn *way = i ? kv_score_by_decoding : kv_score;
        score(way, &pair->alone, ids, &length, &scored, 1, &found, &greedy);
        assert_true(greedy);
        for (int t = PROMPT; t < PROMPT + NEW; t += NEW - 1) { // the first scored one, the last
            const int32_t kept = ids[t];
            ids[t] = (kept + 1) % VOCABULARY;
            score(way, &pair->alone, ids, &length, &scored, 1, &found, &greedy);
            assert_false(greedy);
            ids[t] = kept;
        }
    }
}

// What is scored of a sequence, token by token: it adds up, and what comes last has no part in what comes before.
static void test_tokens(void **state) {
    struct pair *pair = *state;
    enum { SCORED = 3 + 1 + 0 + 11 + 1 };
    const kv_system *systems[] = {&pair->alone, &pair->predicted};
    for (int i = 0; i < 2; i++) {
        double log_p[SCORED], sums[N_SEQ], expected[N_SEQ], shorter[2];
        const int64_t length = lengths[3] - 4, scored = n_scored[3] - 4;
        kv_error err = {0};
        assert_int_equal(kv_score_tokens(systems[i], pair->ids, lengths, n_scored, N_SEQ, log_p, sums, &err),
                         KV_OK);
        score(kv_score, systems[i], pair->ids, lengths, n_scored, N_SEQ, expected, NULL);
        assert_memory_equal(sums, expected, sizeof sums);
        const double *of = log_p;
        for (int s = 0; s < N_SEQ; s++) {
            double sum = 0;
            for (int64_t t = 0; t < n_scored[s]; t++) sum += *of++;
            expect_double("sum of tokens", sum, sums[s], SCORED, fabs(sums[s]));
        }
        score(kv_score, systems[i], pair->ids + 18, &length, &scored, 1, shorter, NULL);
        double sum = 0;
        for (int64_t t = 0; t < scored; t++) sum += log_p[4 + t];
        ref_system r = ref_system_copy(systems[i]);
        expect_near(&(ref_question){&r, pair->ids + 18, length, scored, false}, shorter[0], sum);
        ref_system_free(&r);
    }
}

// ---- Edges and refusals --------------------------------------------------------------------------------

static void test_nothing_scored(void **state) {
    struct pair *pair = *state;
    static const int64_t n[2] = {1, 5}, none[2] = {0, 0};
    score_fn *const ways[] = {kv_score, kv_score_by_decoding, kv_score_behind_prompt};
    for (int i = 0; i < 3; i++) {
        double found[2] = {1, 1};
        bool greedy[2] = {false, false};
        score(ways[i], &pair->alone, pair->ids, n, none, 2, found, greedy);
        assert_true(found[0] == 0 && found[1] == 0 && greedy[0] && greedy[1]);
        score(ways[i], &pair->alone, pair->ids, n, none, 0, NULL, NULL);
    }
}

static void test_refusals(void **state) {
    struct pair *pair = *state;
    static const struct {
        int64_t length, scored;
        int32_t id;
        kv_status status;
        const char *message;
    } cases[] = {
        {0, 0, 1, KV_ERR_ARGUMENT, "sequence 1: expected at least one token, not 0"},
        {5, 5, 1, KV_ERR_ARGUMENT,
         "sequence 1: 5 scored tokens of 5, expected fewer: the first has nothing before it"},
        {5, -1, 1, KV_ERR_ARGUMENT,
         "sequence 1: -1 scored tokens of 5, expected fewer: the first has nothing before it"},
        {65, 1, 1, KV_ERR_RANGE, "sequence 1: 65 tokens do not fit the base's context of 64"},
        {5, 1, 61, KV_ERR_RANGE, "sequence 1, token 3: id 61 is outside the vocabulary of 61"},
        {5, 1, -1, KV_ERR_RANGE, "sequence 1, token 3: id -1 is outside the vocabulary of 61"},
    };
    score_fn *const ways[] = {kv_score, kv_score_by_decoding, kv_score_behind_prompt};
    for (size_t c = 0; c < 3 * sizeof cases / sizeof *cases; c++) {
        int32_t ids[70] = {0};
        ids[2 + 3] = cases[c / 3].id;
        const int64_t n[2] = {2, cases[c / 3].length}, scored[2] = {1, cases[c / 3].scored};
        double found[2];
        kv_error err = {0};
        assert_int_equal(ways[c % 3](&pair->predicted, ids, n, scored, 2, found, NULL, &err),
                         cases[c / 3].status);
        assert_string_equal(err.message, cases[c / 3].message);
    }
    // An aux that looks ahead needs room for that, too.
    const kv_system drafting = {.base = pair->predicted.base,
                                .aux = pair->predicted.aux,
                                .pruning = {.kind = KV_PRUNE_SPECULATIVE, .keep = 0.5}};
    const int32_t many[60] = {0};
    const int64_t n[2] = {2, 57}, scored[2] = {1, 1};
    double sums[2];
    kv_error too_long = {0};
    assert_int_equal(kv_score(&drafting, many, n, scored, 2, sums, NULL, &too_long), KV_ERR_RANGE);
    assert_string_equal(too_long.message, "sequence 1: 57 tokens and 8 to look ahead do not fit the aux's "
                                          "context of 64");
    kv_system broken = pair->predicted;
    broken.predictor = NULL;
    double found;
    kv_error err = {0};
    assert_int_equal(kv_score(&broken, pair->ids, lengths, n_scored, 1, &found, NULL, &err), KV_ERR_ARGUMENT);
    assert_string_equal(err.message, "an aux needs a predictor");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_model_alone),
        cmocka_unit_test(test_predicted_cache),
        cmocka_unit_test(test_equals_training_step),
        cmocka_unit_test(test_row_of_batch_equals_alone),
        cmocka_unit_test(test_packs_and_tiles),
        cmocka_unit_test(test_decoding_equals_whole_sequences),
        cmocka_unit_test(test_pruned_systems_decode),
        cmocka_unit_test(test_greedy),
        cmocka_unit_test(test_tokens),
        cmocka_unit_test(test_nothing_scored),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}

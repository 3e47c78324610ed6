// Sessions under every pruning policy: a policy that keeps all, a sequence alone and in a batch, more tokens than
// a pack holds, and what is refused.
#include "infer/session/engine.h"

#include "tests/support/pruning.h"
#include "tests/support/support.h"
#include "tests/support/tiny.h"

#include <stdlib.h>
#include <string.h>

// ---- Nothing left out ----------------------------------------------------------------------------------

static void test_keeping_all_changes_nothing(void **state) {
    prune_models *m = *state;
    kv_session *plain = prune_session(m, &prune_policies[KV_PRUNE_NONE], N_SEQ);
    rounding_spread spreads[N_SEQ];
    const int32_t *ids = m->ids;
    for (int64_t s = 0; s < N_SEQ; ids += prune_lengths[s++])
        spreads[s] = prune_none_spread(m, ids, prune_lengths[s], m->next + s, STEPS, N_SEQ);
    for (int p = 1; p < N_POLICIES; p++) {
        kv_pruning all = prune_policies[p];
        all.keep = all.start = all.end = 1;
        float logits[N_SEQ * VOCABULARY], expected[N_SEQ * VOCABULARY];
        kv_session *session = prune_session(m, &all, N_SEQ);
        kv_session_reset(plain);
        prune_prefill(plain, m->ids, prune_lengths, expected);
        prune_prefill(session, m->ids, prune_lengths, logits);
        for (int step = 0; step <= STEPS; step++) {
            for (int64_t s = 0; s < N_SEQ; s++) {
                const int64_t at = s * VOCABULARY, from = step * VOCABULARY;
                rounding_compare("logits", logits + at, &spreads[s], from, VOCABULARY);
                rounding_compare_both("logits", logits + at, expected + at, &spreads[s], from, VOCABULARY);
                assert_int_equal(kv_session_length(session, s), prune_lengths[s] + step);
            }
            if (step == STEPS) break;
            prune_decode(plain, m->next + step * N_SEQ, NULL, expected);
            prune_decode(session, m->next + step * N_SEQ, NULL, logits);
        }
        kv_session_free(session);
    }
    for (int64_t s = 0; s < N_SEQ; s++) rounding_spread_free(&spreads[s]);
    kv_session_free(plain);
}

// ---- Batches -------------------------------------------------------------------------------------------

// One sequence rests now and then; a session reset in between gives the same again.
static void test_alone_equals_row_of_batch(void **state) {
    prune_models *m = *state;
    for (int p = 1; p < N_POLICIES; p++) {
        float logits[STEPS + 1][N_SEQ * VOCABULARY], own[VOCABULARY];
        kv_session *batch = prune_session(m, &prune_policies[p], N_SEQ);
        for (int round = 0; round < 2; round++) {
            kv_session_reset(batch);
            memset(logits, 0, sizeof logits);
            prune_prefill(batch, m->ids, prune_lengths, logits[0]);
            for (int step = 0; step < STEPS; step++) {
                const bool active[N_SEQ] = {true, step != 1, true, step % 2, true};
                memcpy(logits[step + 1], logits[step], sizeof *logits);
                prune_decode(batch, m->next + step * N_SEQ, active, logits[step + 1]);
            }
        }
        const int32_t *ids = m->ids;
        for (int64_t s = 0; s < N_SEQ; ids += prune_lengths[s++]) {
            kv_session *one = prune_session(m, &prune_policies[p], 1);
            prune_reading r = {.m = m, .policy = &prune_policies[p], .ids = ids, .n = prune_lengths[s]};
            for (int step = 0; step < STEPS; step++) {
                const bool active[N_SEQ] = {true, step != 1, true, step % 2, true};
                if (active[s]) r.next[r.n_next++] = m->next[step * N_SEQ + s];
            }
            rounding_spread spread = prune_spread(&r);
            int64_t at = 0; // results of the last step in which it was active
            prune_prefill(one, ids, &prune_lengths[s], own);
            rounding_compare_both("prefill", logits[0] + s * VOCABULARY, own, &spread, at, VOCABULARY);
            for (int step = 0; step < STEPS; step++) {
                const bool active[N_SEQ] = {true, step != 1, true, step % 2, true};
                if (active[s]) prune_decode(one, &m->next[step * N_SEQ + s], NULL, own), at += VOCABULARY;
                rounding_compare_both("decoding", logits[step + 1] + s * VOCABULARY, own, &spread, at,
                                      VOCABULARY);
            }
            rounding_spread_free(&spread);
            for (int64_t layer = 0; layer < N_LAYERS; layer++) {
                int32_t in_batch[60], alone[60];
                const int64_t n = kv_session_cached(batch, layer, s, in_batch);
                assert_int_equal(n, kv_session_cached(one, layer, 0, alone));
                assert_memory_equal(in_batch, alone, (size_t)n * sizeof *alone);
            }
            kv_session_free(one);
        }
        kv_session_free(batch);
    }
}

// ---- Many ----------------------------------------------------------------------------------------------

// More tokens than a pack holds, in prefill and, revived, in decoding.
static void test_many_packs(void **state) {
    prune_models *m = *state;
    enum { MANY = 180, EACH = 50 }; // 4500 tokens kept of 9000
    int32_t *ids = test_alloc(MANY * EACH, sizeof *ids), next[MANY];
    int64_t *each = test_alloc(MANY, sizeof *each);
    float *logits = test_alloc(MANY * VOCABULARY, sizeof *logits), own[VOCABULARY];
    tiny_ids(ids, MANY * EACH, VOCABULARY, 12);
    tiny_ids(next, MANY, VOCABULARY, 13);
    for (int64_t s = 0; s < MANY; s++) each[s] = EACH;
    for (int p = 1; p < N_POLICIES - 1; p++) {
        kv_session *session = prune_session(m, &prune_policies[p], MANY),
                   *one = prune_session(m, &prune_policies[p], 1);
        prune_prefill(session, ids, each, logits);
        prune_decode(session, next, NULL, logits);
        for (int64_t s = 0; s < MANY; s += 16) {
            kv_session_reset(one);
            prune_prefill(one, ids + s * EACH, each, own);
            prune_decode(one, &next[s], NULL, own);
            rounding_spread spread = prune_spread(&(prune_reading){.m = m,
                                                                   .policy = &prune_policies[p],
                                                                   .ids = ids + s * EACH,
                                                                   .n = EACH,
                                                                   .next = {next[s]},
                                                                   .n_next = 1});
            rounding_compare_both("logits", logits + s * VOCABULARY, own, &spread, VOCABULARY, VOCABULARY);
            rounding_spread_free(&spread);
        }
        kv_session_free(session);
        kv_session_free(one);
    }
    free(ids), free(each), free(logits);
}

// ---- Refusals ------------------------------------------------------------------------------------------

static void expect_refusal(const kv_system *system, int64_t capacity, kv_status expected,
                           const char *message) {
    kv_session *session;
    kv_error err = {0};
    assert_int_equal(kv_session_create(system, 1, capacity, &session, &err), expected);
    assert_null(session);
    assert_string_equal(err.message, message);
}

static void test_refusals(void **state) {
    prune_models *m = *state;
    kv_system system = {.base = m->base, .pruning = {.kind = KV_PRUNE_RANDOM, .keep = 1.5}};
    expect_refusal(&system, 8, KV_ERR_ARGUMENT,
                   "pruning: keep is a part of the tokens above 0 and up to 1, not 1.5");
    system.pruning = (kv_pruning){.kind = KV_PRUNE_SPECULATIVE, .keep = 0.5};
    expect_refusal(&system, 8, KV_ERR_ARGUMENT, "speculative pruning needs an aux that looks ahead");
    system.aux = m->aux;
    expect_refusal(&system, 89, KV_ERR_RANGE,
                   "89 tokens and 8 to look ahead do not fit the aux's context of 96");
    expect_refusal(&system, 97, KV_ERR_RANGE, "97 tokens do not fit the base's context of 96");
    system.pruning.lookahead = INT64_MAX;
    expect_refusal(&system, 8, KV_ERR_RANGE,
                   "8 tokens and 9223372036854775807 to look ahead do not fit the aux's context of 96");
    system.pruning = (kv_pruning){.kind = KV_PRUNE_STATIC, .keep = 0.5};
    expect_refusal(&system, 8, KV_ERR_ARGUMENT, "an aux needs a predictor");
    system.predictor = tiny_predictor(&m->base->spec, &m->aux->spec, 3);
    expect_refusal(&system, 8, KV_ERR_ARGUMENT,
                   "a predicted cache has no prompt to prune: choose a predictor or pruning");
    kv_predictor_free(system.predictor);
}

static void test_prompts_are_read_from_the_start(void **state) {
    prune_models *m = *state;
    for (int p = 1; p < N_POLICIES; p++) {
        float logits[VOCABULARY];
        const int64_t n = 9, too_many = 61;
        kv_error err = {0};
        kv_session *session = prune_session(m, &prune_policies[p], 1);
        assert_int_equal(kv_session_prefill(session, m->ids, &too_many, logits, &err), KV_ERR_RANGE);
        assert_string_equal(err.message,
                            "sequence 0: 61 tokens after the 0 in the cache do not fit its room for 60");
        prune_prefill(session, m->ids, &n, logits);
        assert_int_equal(kv_session_prefill(session, m->ids, &n, logits, &err), KV_ERR_ARGUMENT);
        assert_string_equal(err.message, "sequence 0: a pruned prompt can only be read from the start");
        while (kv_session_length(session, 0) < 60) prune_decode(session, m->ids, NULL, logits);
        assert_int_equal(kv_session_decode(session, m->ids, NULL, logits, &err), KV_ERR_RANGE);
        kv_session_free(session);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keeping_all_changes_nothing),
        cmocka_unit_test(test_alone_equals_row_of_batch),
        cmocka_unit_test(test_many_packs),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_prompts_are_read_from_the_start),
    };
    return cmocka_run_group_tests(tests, prune_setup, prune_teardown);
}

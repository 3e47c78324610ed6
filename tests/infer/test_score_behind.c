// All scored tokens at once behind a prompt's cache against one after the other, for every policy of pruning; models alone
// and predicted caches are in test_score.c.
#include "infer/score/score.h"

#include "data/system/console.h"
#include "tests/support/pruning.h"
#include "tests/support/support.h"

#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

// Of each sequence the prompt and what is scored behind it.
enum { SCORED = STEPS + 1, ALL_IDS = N_IDS + SCORED * N_SEQ };

struct texts {
    int32_t ids[ALL_IDS];
    int64_t lengths[N_SEQ], n_scored[N_SEQ], starts[N_SEQ];
};

static struct texts make_texts(const prune_models *m) {
    struct texts t;
    int64_t at = 0, prompt = 0;
    for (int64_t s = 0; s < N_SEQ; s++) {
        t.lengths[s] = prune_lengths[s] + SCORED, t.n_scored[s] = SCORED, t.starts[s] = at;
        memcpy(t.ids + at, m->ids + prompt, (size_t)prune_lengths[s] * sizeof *t.ids);
        at += prune_lengths[s], prompt += prune_lengths[s];
        for (int step = 0; step < STEPS; step++) t.ids[at++] = m->next[step * N_SEQ + s];
        t.ids[at++] = (int32_t)(7 * s + 3) % VOCABULARY;
    }
    return t;
}

typedef kv_status score_fn(const kv_system *, const int32_t *, const int64_t *, const int64_t *, int64_t,
                           double *, bool *, kv_error *);

static void score(score_fn *way, const kv_system *system, const struct texts *t, int64_t first, int64_t n,
                  double *found, bool *greedy) {
    kv_error err = {0};
    if (way(system, t->ids + t->starts[first], t->lengths + first, t->n_scored + first, n, found, greedy,
            &err) != KV_OK)
        fail_msg("%s", err.message);
}

// A log-probability moves by no more than its logit and the largest of them do.
static double allowance(const prune_models *m, const kv_pruning *policy, const struct texts *t, int64_t s) {
    prune_reading r = {
        .m = m, .policy = policy, .ids = t->ids + t->starts[s], .n = prune_lengths[s], .n_next = STEPS};
    memcpy(r.next, r.ids + r.n, STEPS * sizeof *r.next);
    rounding_spread spread = prune_spread(&r);
    double sum = 0;
    for (int step = 0; step < SCORED; step++) {
        double most = 0;
        for (int i = 0; i < VOCABULARY; i++) most = fmax(most, spread.allowed[step * VOCABULARY + i]);
        sum += 2 * most;
    }
    rounding_spread_free(&spread);
    return sum;
}

static void test_at_once_equals_one_by_one(void **state) {
    const prune_models *m = *state;
    const struct texts t = make_texts(m);
    for (int p = 0; p < N_POLICIES; p++) {
        const kv_system system = prune_system(m, &prune_policies[p]);
        double at_once[N_SEQ], decoded[N_SEQ], alone;
        bool at_once_greedy[N_SEQ], decoded_greedy[N_SEQ];
        score(kv_score_behind_prompt, &system, &t, 0, N_SEQ, at_once, at_once_greedy);
        score(kv_score_by_decoding, &system, &t, 0, N_SEQ, decoded, decoded_greedy);
        for (int64_t s = 0; s < N_SEQ; s++) {
            const double allowed = 2 * allowance(m, &prune_policies[p], &t, s); // both are float32's
            rounding_expect("log-likelihood", at_once[s], decoded[s], allowed);
            assert_int_equal(at_once_greedy[s], decoded_greedy[s]);
            score(kv_score_behind_prompt, &system, &t, s, 1, &alone, NULL);
            rounding_expect("log-likelihood alone", alone, at_once[s], allowed);
        }
    }
}

// Pruning leaves its mark: else the test above could compare nothing but models alone.
static void test_pruned_prompts_say_something_else(void **state) {
    const prune_models *m = *state;
    const struct texts t = make_texts(m);
    const kv_system whole = prune_system(m, &prune_policies[0]);
    double expected, found;
    score(kv_score_behind_prompt, &whole, &t, 2, 1, &expected, NULL);
    for (int p = 1; p < N_POLICIES; p++) {
        const kv_system system = prune_system(m, &prune_policies[p]);
        score(kv_score_behind_prompt, &system, &t, 2, 1, &found, NULL);
        assert_true(fabs(found - expected) > 10 * allowance(m, &prune_policies[p], &t, 2));
    }
}

static void test_interrupted(void **state) {
    const prune_models *m = *state;
    const struct texts t = make_texts(m);
    kv_console_catch_signals();
    raise(SIGINT);
    for (int p = 0; p < N_POLICIES; p++) {
        const kv_system system = prune_system(m, &prune_policies[p]);
        double found[N_SEQ];
        kv_error err = {0};
        assert_int_equal(
            kv_score_behind_prompt(&system, t.ids, t.lengths, t.n_scored, N_SEQ, found, NULL, &err),
            KV_ERR_INTERRUPTED);
    }
    kv_console_forget_interrupt();
}

static void test_session_refuses(void **state) {
    const prune_models *m = *state;
    const int64_t prompt = 9, none = -1, many = CAPACITY, few = 2;
    const int32_t bad[2] = {1, VOCABULARY};
    float logits[VOCABULARY];
    float *hidden = test_alloc(CAPACITY * m->base->spec.model_dim, sizeof *hidden);
    kv_error err = {0};
    kv_session *lazy = prune_session(m, &prune_lazy, 1), *plain = prune_session(m, &prune_policies[0], 1);
    prune_prefill(lazy, m->ids, &prompt, logits);
    prune_prefill(plain, m->ids, &prompt, logits);
    assert_int_equal(kv_session_read(lazy, m->ids, &few, hidden, &err), KV_ERR_ARGUMENT);
    assert_string_equal(err.message, "behind a lazily pruned prompt tokens are read one by one");
    assert_int_equal(kv_session_read(plain, m->ids, &none, hidden, &err), KV_ERR_ARGUMENT);
    assert_string_equal(err.message, "sequence 0: found -1 tokens, expected none or more");
    assert_int_equal(kv_session_read(plain, m->ids, &many, hidden, &err), KV_ERR_RANGE);
    assert_int_equal(kv_session_read(plain, bad, &few, hidden, &err), KV_ERR_RANGE);
    assert_string_equal(err.message, "sequence 0, token 1: id 61 is outside the vocabulary of 61");
    assert_int_equal(kv_session_length(plain, 0), prompt); // nothing was read
    kv_session_free(lazy);
    kv_session_free(plain);
    free(hidden);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_at_once_equals_one_by_one),
        cmocka_unit_test(test_pruned_prompts_say_something_else),
        cmocka_unit_test(test_interrupted),
        cmocka_unit_test(test_session_refuses),
    };
    return cmocka_run_group_tests(tests, prune_setup, prune_teardown);
}

// Policies that choose a prompt's tokens before the first layer, against reading token by token in double
// precision.
#include "infer/session/engine.h"

#include "tests/support/prune_reference.h"
#include "tests/support/pruning.h"
#include "tests/support/support.h"

#include <math.h>
#include <stdlib.h>

// Which tokens the definition keeps, from whole matrices in double precision.
static void expected_choice(const prune_models *m, const kv_pruning *given, const int32_t *ids, int64_t n,
                            bool *flags) {
    const kv_pruning p = kv_pruning_resolved(given);
    const int64_t kept = kv_pruning_kept(&p, n);
    double logits[VOCABULARY];
    if (p.kind == KV_PRUNE_STATIC) {
        ref_reader r = ref_reader_make(m->base, n);
        ref_read(&r, ids, NULL, n, NULL, logits);
        ref_keep_best(r.mean_importance, n, kept, false, flags);
        ref_reader_free(&r);
        return;
    }
    double *scores = test_alloc(n, sizeof *scores);
    ref_reader r = ref_reader_make(m->aux, n + p.lookahead);
    ref_read(&r, ids, NULL, n, NULL, logits);
    for (int64_t step = 0; step < p.lookahead; step++) {
        int32_t best = 0;
        for (int32_t i = 1; i < VOCABULARY; i++)
            if (logits[i] > logits[best]) best = i;
        ref_read(&r, &best, NULL, 1, NULL, logits);
        for (int64_t j = 0; j < n; j++) scores[j] += r.max_importance[j] / (double)p.lookahead;
    }
    if (n > 1)
        ref_keep_chunks(scores, n, p.window, p.chunk, kept, flags);
    else
        flags[0] = true;
    ref_reader_free(&r);
    free(scores);
}

// The chosen tokens at their own positions, and what is decoded after the whole prompt's length.
static void test_chosen_prompts_equal_brute_force(void **state) {
    prune_models *m = *state;
    for (int p = 0; p < N_POLICIES; p++) {
        if (prune_policies[p].kind != KV_PRUNE_STATIC && prune_policies[p].kind != KV_PRUNE_SPECULATIVE)
            continue;
        float logits[N_SEQ * VOCABULARY];
        rounding_spread spreads[N_SEQ];
        kv_session *session = prune_session(m, &prune_policies[p], N_SEQ);
        prune_prefill(session, m->ids, prune_lengths, logits);
        const int32_t *ids = m->ids;
        for (int64_t s = 0; s < N_SEQ; ids += prune_lengths[s++]) {
            bool flags[CAPACITY] = {0};
            int32_t places[CAPACITY], kept_ids[CAPACITY], cached[CAPACITY];
            int64_t n = 0;
            expected_choice(m, &prune_policies[p], ids, prune_lengths[s], flags);
            for (int64_t j = 0; j < prune_lengths[s]; j++)
                if (flags[j]) places[n] = (int32_t)j, kept_ids[n++] = ids[j];
            for (int64_t layer = 0; layer < N_LAYERS; layer++) {
                assert_int_equal(kv_session_cached(session, layer, s, cached), n);
                assert_memory_equal(cached, places, (size_t)n * sizeof *places);
            }
            // The last token of the prompt is always kept, so that what follows is at its own position.
            assert_int_equal(places[n - 1], prune_lengths[s] - 1);
            prune_reading r = {
                .m = m, .ids = kept_ids, .n = n, .places = places, .n_next = STEPS, .exact = true};
            for (int step = 0; step < STEPS; step++) r.next[step] = m->next[step * N_SEQ + s];
            spreads[s] = prune_spread(&r);
        }
        for (int step = 0; step <= STEPS; step++) {
            if (step > 0) prune_decode(session, m->next + (step - 1) * N_SEQ, NULL, logits);
            for (int64_t s = 0; s < N_SEQ; s++) {
                rounding_compare(step ? "decoding" : "prefill", logits + s * VOCABULARY, &spreads[s],
                                 step * VOCABULARY, VOCABULARY);
                assert_int_equal(kv_session_length(session, s), prune_lengths[s] + step);
            }
        }
        for (int64_t s = 0; s < N_SEQ; s++) rounding_spread_free(&spreads[s]);
        kv_session_free(session);
    }
}

// A randomly pruned prompt is a shorter prompt: what a plain session makes of some subset of its tokens,
// found here by the first layer's keys, which tell tokens apart.
static void test_random_prompt_is_a_shorter_prompt(void **state) {
    prune_models *m = *state;
    enum { N = 24, KEPT = 12 };
    const kv_model_spec *spec = &m->base->spec;
    const int64_t n = N, kept = KEPT, dim = kv_spec_kv_dim(spec, 0);
    int32_t ids[N], shorter[KEPT];
    for (int i = 0; i < N; i++) ids[i] = 3 + 2 * i; // all different
    ids[0] = spec->bos_id;
    float logits[VOCABULARY], expected[VOCABULARY], k[N * 16], v[N * 16], all_k[N * 16], all_v[N * 16];
    kv_session *plain = prune_session(m, &prune_policies[KV_PRUNE_NONE], 1);
    kv_session *pruned = prune_session(m, &prune_policies[KV_PRUNE_RANDOM], 1);
    prune_prefill(plain, ids, &n, expected);
    kv_session_copy_cache(plain, 0, 0, all_k, all_v);
    prune_prefill(pruned, ids, &n, logits);
    kv_session_copy_cache(pruned, 0, 0, k, v);
    assert_int_equal(kv_session_length(pruned, 0), KEPT);
    rounding_spread whole = prune_none_spread(m, ids, N, NULL, 0, 1);
    for (int64_t i = 0, j = 0; i < KEPT; i++, j++) {
        while (j < N &&
               fabs((double)k[i * dim] - (double)all_k[j * dim]) > 2 * whole.allowed[VOCABULARY + j * dim])
            j++;
        assert_in_range(j, i ? 1 : 0, i ? N - 1 : 0); // the beginning of text stays
        shorter[i] = ids[j];
    }
    assert_int_equal(shorter[KEPT - 1], ids[N - 1]);
    kv_session_reset(plain);
    prune_prefill(plain, shorter, &kept, expected);
    rounding_spread spread = prune_none_spread(m, shorter, KEPT, m->next, STEPS + 1, 1);
    for (int step = 0; step <= STEPS; step++) {
        rounding_compare("logits", logits, &spread, step * VOCABULARY, VOCABULARY);
        rounding_compare_both("logits", logits, expected, &spread, step * VOCABULARY, VOCABULARY);
        prune_decode(plain, &m->next[step], NULL, expected);
        prune_decode(pruned, &m->next[step], NULL, logits);
    }
    rounding_spread_free(&whole);
    rounding_spread_free(&spread);
    kv_session_free(plain);
    kv_session_free(pruned);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chosen_prompts_equal_brute_force),
        cmocka_unit_test(test_random_prompt_is_a_shorter_prompt),
    };
    return cmocka_run_group_tests(tests, prune_setup, prune_teardown);
}

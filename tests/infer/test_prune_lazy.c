// Lazy pruning, which chooses inside the network, against reading token by token in double precision: what is
// said, what is cached, and how much is computed for it.
#include "core/gemm.h"
#include "infer/session/engine.h"

#include "tests/support/prune_reference.h"
#include "tests/support/pruning.h"
#include "tests/support/support.h"

static uint64_t q_dim(const kv_model_spec *spec, int64_t layer) {
    return (uint64_t)(spec->layers[layer].n_heads * spec->head_dim);
}

// Operations of attention and ranking in the last ref_read, by hand: one product are scores, another sums of values.
static uint64_t attended_by_hand(const ref_reader *r, bool prompt) {
    const kv_model_spec *spec = &r->m.model->spec;
    uint64_t flops = 0;
    for (int64_t i = 0; i < N_LAYERS; i++) {
        const kv_layer_spec *l = &spec->layers[i];
        const int64_t n = r->n_active[i];
        const bool last = i + 1 == N_LAYERS; // only the newest token's output is wanted
        if (prompt && !last)
            flops += kv_attention_flops(l->n_heads, l->n_kv_heads, spec->head_dim, n, n);
        else if (last)
            flops += 4 * q_dim(spec, i) * (uint64_t)n;
        else
            flops += kv_attention_flops_visible(l->n_heads, l->n_kv_heads, spec->head_dim, r->n_processed[i],
                                                r->seen[i]);
        if (!last && r->n_active[i + 1] < n) flops += 2 * q_dim(spec, i) * (uint64_t)n;
    }
    return flops;
}

// Operations of all projections, for so many tokens whose keys and values, and whose outputs, a layer makes.
static uint64_t projected_by_hand(const kv_model_spec *spec, int64_t layer, int64_t tokens, int64_t outputs) {
    const uint64_t dim = (uint64_t)spec->model_dim, ffn = (uint64_t)spec->layers[layer].ffn_dim;
    return (uint64_t)tokens * 2 * 2 * (uint64_t)kv_spec_kv_dim(spec, layer) * dim +
           (uint64_t)outputs * 2 * (2 * q_dim(spec, layer) + 3 * ffn) * dim;
}

static uint64_t step_by_hand(const ref_reader *r) {
    const kv_model_spec *spec = &r->m.model->spec;
    uint64_t flops = attended_by_hand(r, false) + 2 * (uint64_t)(spec->model_dim * spec->vocab_size);
    for (int64_t i = 0; i < N_LAYERS; i++)
        flops += projected_by_hand(spec, i, r->n_processed[i], i + 1 == N_LAYERS ? 1 : r->n_processed[i]);
    return flops;
}

static void expect_same_cache(const kv_session *session, int64_t s, const ref_reader *r,
                              const prune_reading *whole, const rounding_spread *spread) {
    const kv_model_spec *spec = &r->m.model->spec;
    for (int64_t layer = 0; layer < N_LAYERS; layer++) {
        const int64_t dim = kv_spec_kv_dim(spec, layer);
        int32_t cached[60];
        float k[60 * 16], v[60 * 16];
        const int64_t n = kv_session_cached(session, layer, s, cached);
        kv_session_copy_cache(session, layer, s, k, v);
        int64_t i = 0;
        for (int64_t t = 0; t < r->n; t++) {
            if (r->depth[t] <= layer) continue;
            if (i == n || cached[i] != t)
                fail_msg("sequence %d, layer %d: token %d is not cached", (int)s, (int)layer, (int)t);
            const int64_t at = prune_keys_at(whole, layer) + t * dim;
            rounding_compare("keys", k + i * dim, spread, at, dim);
            rounding_compare("values", v + i * dim, spread, at + CAPACITY * dim, dim);
            i++;
        }
        assert_int_equal(i, n);
    }
}

static void test_lazy_equals_brute_force(void **state) {
    prune_models *m = *state;
    float logits[N_SEQ * VOCABULARY];
    double expected[VOCABULARY];
    ref_reader readers[N_SEQ];
    kv_session *session = prune_session(m, &prune_lazy, N_SEQ);
    const int32_t *ids = m->ids;
    int64_t revived = 0;
    uint64_t by_hand = 0;
    kv_gemm_flops_reset();
    prune_prefill(session, m->ids, prune_lengths, logits);
    prune_reading whole[N_SEQ];
    rounding_spread spreads[N_SEQ];
    for (int64_t s = 0; s < N_SEQ; ids += prune_lengths[s++]) {
        readers[s] = ref_reader_make(m->base, CAPACITY);
        whole[s] = (prune_reading){
            .m = m, .ids = ids, .n = prune_lengths[s], .n_next = STEPS, .exact = true, .lazily = &prune_lazy};
        for (int step = 0; step < STEPS; step++) whole[s].next[step] = m->next[step * N_SEQ + s];
        spreads[s] = prune_spread(&whole[s]);
    }
    ids = m->ids;
    for (int step = -1; step < STEPS; step++) {
        const uint64_t executed = kv_gemm_flops();
        by_hand = 0;
        for (int64_t s = 0; s < N_SEQ; s++) {
            const int64_t n = step < 0 ? prune_lengths[s] : 1;
            ref_read(&readers[s], step < 0 ? ids : &m->next[step * N_SEQ + s], NULL, n, &prune_lazy,
                     expected);
            rounding_compare(step < 0 ? "prefill" : "decoding", logits + s * VOCABULARY, &spreads[s],
                             (step + 1) * VOCABULARY, VOCABULARY);
            expect_same_cache(session, s, &readers[s], &whole[s], &spreads[s]);
            by_hand += step < 0 ? 0 : step_by_hand(&readers[s]);
            for (int64_t i = 0; i < N_LAYERS && step >= 0; i++) revived += readers[s].n_processed[i] - 1;
            if (step < 0) ids += n;
        }
        if (step >= 0) assert_int_equal(executed, by_hand);
        if (step + 1 == STEPS) break;
        kv_gemm_flops_reset();
        prune_decode(session, m->next + (step + 1) * N_SEQ, NULL, logits);
    }
    assert_in_range(revived, 10, 1000); // or this has tested nothing
    for (int64_t s = 0; s < N_SEQ; s++) ref_reader_free(&readers[s]), rounding_spread_free(&spreads[s]);
    kv_session_free(session);
}

// Layers 0 and 1 work on all tokens, so every input to layer 2 is exact: there too a token has the keys and
// values of the unpruned model, be it one that the prompt took that far or one that came back to it later.
static void test_revived_cache_equals_unpruned(void **state) {
    prune_models *m = *state;
    enum { EXACT = 3, LAST = 60 };
    const int64_t n = 40;
    float logits[VOCABULARY];
    int32_t before[LAST], after[LAST];
    kv_session *plain = prune_session(m, &prune_policies[KV_PRUNE_NONE], 1),
               *pruned = prune_session(m, &prune_lazy, 1);
    assert_int_equal(kv_lazy_kept(&prune_lazy, N_LAYERS, EXACT - 2, n), n);
    assert_in_range(kv_lazy_kept(&prune_lazy, N_LAYERS, EXACT - 1, n), 1, n - 1);
    prune_prefill(plain, m->ids, &n, logits);
    prune_prefill(pruned, m->ids, &n, logits);
    const int64_t n_before = kv_session_cached(pruned, EXACT - 1, 0, before);
    for (int step = 0; step < 2 * STEPS; step++) {
        prune_decode(plain, &m->next[step], NULL, logits);
        prune_decode(pruned, &m->next[step], NULL, logits);
    }
    const int64_t n_after = kv_session_cached(pruned, EXACT - 1, 0, after);
    int64_t revived = 0;
    for (int64_t i = 0, j = 0; i < n_after && after[i] < n; i++)
        if (j < n_before && before[j] == after[i])
            j++;
        else
            revived++;
    assert_in_range(revived, 1, n);
    rounding_spread spread = prune_none_spread(m, m->ids, n, m->next, 2 * STEPS, 1);
    int64_t from = (2 * STEPS + 1) * VOCABULARY;
    for (int64_t layer = 0; layer < EXACT; layer++) {
        const int64_t dim = kv_spec_kv_dim(&m->base->spec, layer);
        float k[LAST * 16], v[LAST * 16], all_k[LAST * 16], all_v[LAST * 16];
        const int64_t cached = kv_session_cached(pruned, layer, 0, after);
        assert_int_equal(cached, layer < EXACT - 1 ? n + 2 * STEPS : n_after);
        kv_session_copy_cache(pruned, layer, 0, k, v);
        kv_session_copy_cache(plain, layer, 0, all_k, all_v);
        for (int64_t i = 0; i < cached; i++) {
            const int64_t at = after[i] * dim, values = from + (n + 2 * STEPS) * dim;
            rounding_compare_both("keys", k + i * dim, all_k + at, &spread, from + at, dim);
            rounding_compare_both("values", v + i * dim, all_v + at, &spread, values + at, dim);
        }
        from += 2 * (n + 2 * STEPS) * dim;
    }
    rounding_spread_free(&spread);
    kv_session_free(plain);
    kv_session_free(pruned);
}

// All products of a prompt and the steps after it, less those of attention: each token once in each layer
// that its keys and values are in, and no more.
static void test_no_token_passes_a_layer_twice(void **state) {
    prune_models *m = *state;
    const kv_model_spec *spec = &m->base->spec;
    const int64_t n = 40;
    float logits[VOCABULARY];
    double unused[VOCABULARY];
    kv_session *session = prune_session(m, &prune_lazy, 1);
    ref_reader r = ref_reader_make(m->base, 60);
    kv_gemm_flops_reset();
    prune_prefill(session, m->ids, &n, logits);
    for (int step = 0; step < STEPS; step++) prune_decode(session, &m->next[step], NULL, logits);
    const uint64_t executed = kv_gemm_flops();
    ref_read(&r, m->ids, NULL, n, &prune_lazy, unused);
    uint64_t expected = attended_by_hand(&r, true);
    for (int step = 0; step < STEPS; step++) {
        ref_read(&r, &m->next[step], NULL, 1, &prune_lazy, unused);
        expected += attended_by_hand(&r, false);
    }
    for (int64_t i = 0; i < N_LAYERS; i++) {
        const int64_t pairs = kv_session_cached(session, i, 0, NULL);
        expected += projected_by_hand(spec, i, pairs, i + 1 == N_LAYERS ? 1 + STEPS : pairs);
    }
    expected += (1 + STEPS) * 2 * (uint64_t)(spec->model_dim * spec->vocab_size);
    assert_int_equal(executed, expected);
    ref_reader_free(&r);
    kv_session_free(session);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lazy_equals_brute_force),
        cmocka_unit_test(test_revived_cache_equals_unpruned),
        cmocka_unit_test(test_no_token_passes_a_layer_twice),
    };
    return cmocka_run_group_tests(tests, prune_setup, prune_teardown);
}

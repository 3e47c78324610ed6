// Every pruning policy in a session, against reading token by token in double precision.
#include "core/gemm.h"
#include "infer/session/engine.h"

#include "tests/support/prune_reference.h"
#include "tests/support/reference_system.h"
#include "tests/support/support.h"
#include "tests/support/tiny.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { VOCABULARY = 61, N_LAYERS = 6, CONTEXT = 96, N_SEQ = 5, N_IDS = 24 + 1 + 40 + 2 + 9, STEPS = 7 };

static const int64_t lengths[N_SEQ] = {24, 1, 40, 2, 9};

struct models {
    kv_model *base, *aux;
    int32_t ids[N_IDS];          // the ragged prompts, one after the other
    int32_t next[STEPS * N_SEQ]; // what is decoded after them, step by step
};

static int setup(void **state) {
    struct models *m = test_alloc(1, sizeof *m);
    const tiny_pair pair = tiny_deep_pair_make(N_LAYERS, CONTEXT);
    m->base = pair.base, m->aux = pair.aux;
    tiny_ids(m->ids, N_IDS, VOCABULARY, 4);
    tiny_ids(m->next, STEPS * N_SEQ, VOCABULARY, 5);
    *state = m;
    return 0;
}

static int teardown(void **state) {
    struct models *m = *state;
    tiny_pair_free(&(tiny_pair){m->base, m->aux, NULL});
    free(m);
    return 0;
}

static const kv_pruning lazy = {.kind = KV_PRUNE_LAZY, .start = 0.5, .end = 0.25};
static const kv_pruning policies[] = {
    {.kind = KV_PRUNE_NONE},
    {.kind = KV_PRUNE_RANDOM, .keep = 0.5, .seed = 3},
    {.kind = KV_PRUNE_STATIC, .keep = 0.5},
    {.kind = KV_PRUNE_LAZY, .start = 0.5, .end = 0.25},
    {.kind = KV_PRUNE_SPECULATIVE, .keep = 0.5, .lookahead = 3, .window = 3, .chunk = 4},
    {.kind = KV_PRUNE_SPECULATIVE, .keep = 0.3},
};
enum { N_POLICIES = sizeof policies / sizeof *policies };

static kv_system make_system(const struct models *m, const kv_pruning *pruning) {
    const bool drafts = pruning->kind == KV_PRUNE_SPECULATIVE;
    return (kv_system){.base = m->base, .aux = drafts ? m->aux : NULL, .pruning = *pruning};
}

static kv_session *make_session(const struct models *m, const kv_pruning *pruning, int64_t n_seq) {
    const kv_system system = make_system(m, pruning);
    kv_session *session;
    kv_error err = {0};
    if (kv_session_create(&system, n_seq, 60, &session, &err) != KV_OK) fail_msg("%s", err.message);
    return session;
}

static void prefill(kv_session *session, const int32_t *ids, const int64_t *n, float *logits) {
    kv_error err = {0};
    if (kv_session_prefill(session, ids, n, logits, &err) != KV_OK) fail_msg("%s", err.message);
}

static void decode(kv_session *session, const int32_t *ids, const bool *active, float *logits) {
    kv_error err = {0};
    if (kv_session_decode(session, ids, active, logits, &err) != KV_OK) fail_msg("%s", err.message);
}

// ---- How far rounding may take them --------------------------------------------------------------------

// A prompt under a policy and what is decoded after it. Logits after the prompt and after every step are its
// results.
typedef struct reading {
    const struct models *m;
    const kv_pruning *policy;
    const int32_t *ids;
    int64_t n;
    int32_t next[STEPS];
    int n_next;
    bool
        exact; // read token by token in double precision, and the keys and values of all layers are results, too
    const int32_t *places;    // of the ids, when exact (NULL: one after the other)
    const kv_pruning *lazily; // when exact
} reading;

enum { CAPACITY = 60 };

static int64_t results_of(const reading *r) {
    int64_t n = (r->n_next + 1) * VOCABULARY;
    for (int64_t i = 0; r->exact && i < N_LAYERS; i++)
        n += 2 * CAPACITY * kv_spec_kv_dim(&r->m->base->spec, i);
    return n;
}

// What is kept must not depend on rounding, or nothing can be compared: then other seeds are wanted.
static int32_t chosen[N_LAYERS][CAPACITY];
static int64_t n_chosen[N_LAYERS];
static bool chosen_known;

static void expect_same_choice(int64_t layer, const int32_t *cached, int64_t n) {
    if (!chosen_known) {
        n_chosen[layer] = n;
        memcpy(chosen[layer], cached, (size_t)n * sizeof *cached);
    }
    if (n != n_chosen[layer] || memcmp(chosen[layer], cached, (size_t)n * sizeof *cached) != 0)
        fail_msg("layer %d keeps other tokens when weights are moved by rounding", (int)layer);
}

static void session_results(const void *context, double *results) {
    const reading *r = context;
    float logits[VOCABULARY];
    kv_session *session = make_session(r->m, r->policy, 1);
    for (int step = 0; step <= r->n_next; step++, results += VOCABULARY) {
        if (step == 0)
            prefill(session, r->ids, &r->n, logits);
        else
            decode(session, &r->next[step - 1], NULL, logits);
        for (int i = 0; i < VOCABULARY; i++) results[i] = (double)logits[i];
    }
    for (int64_t layer = 0; layer < N_LAYERS; layer++) {
        int32_t cached[CAPACITY];
        expect_same_choice(layer, cached, kv_session_cached(session, layer, 0, cached));
    }
    chosen_known = true;
    kv_session_free(session);
}

static void exact_results(const void *context, double *results) {
    const reading *r = context;
    ref_reader reader = ref_reader_make(r->m->base, CAPACITY);
    for (int step = 0; step <= r->n_next; step++, results += VOCABULARY)
        if (step == 0)
            ref_read(&reader, r->ids, r->places, r->n, r->lazily, results);
        else
            ref_read(&reader, &r->next[step - 1], NULL, 1, r->lazily, results);
    for (int64_t layer = 0; layer < N_LAYERS; layer++) {
        const int64_t size = CAPACITY * kv_spec_kv_dim(&r->m->base->spec, layer);
        memcpy(results, reader.k[layer], (size_t)size * sizeof *results);
        memcpy(results + size, reader.v[layer], (size_t)size * sizeof *results);
        results += 2 * size;
        int32_t cached[CAPACITY];
        int64_t n = 0;
        for (int64_t t = 0; t < reader.n; t++)
            if (reader.depth[t] > layer) cached[n++] = (int32_t)t;
        expect_same_choice(layer, cached, n);
    }
    chosen_known = true;
    ref_reader_free(&reader);
}

static rounding_spread spread_of(const reading *r) {
    kv_param *params[REF_PARAMS];
    rounding_operands operands = {0};
    rounding_add_params(&operands, params, kv_model_params(r->m->base, params));
    if (r->policy && r->policy->kind == KV_PRUNE_SPECULATIVE && !r->exact)
        rounding_add_params(&operands, params, kv_model_params(r->m->aux, params));
    chosen_known = false;
    rounding_spread spread = rounding_measure(&operands, ref_terms_forward(&r->m->base->spec, CAPACITY),
                                              r->exact ? exact_results : session_results, r, results_of(r));
    rounding_operands_free(&operands);
    return spread;
}

// Where a layer's keys begin among the results of an exact reading; its values follow.
static int64_t keys_at(const reading *r, int64_t layer) {
    int64_t at = (r->n_next + 1) * VOCABULARY;
    for (int64_t i = 0; i < layer; i++) at += 2 * CAPACITY * kv_spec_kv_dim(&r->m->base->spec, i);
    return at;
}

// Everything is read: the prompt and all steps of sequence s.
static rounding_spread unpruned_spread(const struct models *m, const int32_t *ids, int64_t n,
                                       const int32_t *next, int64_t n_next, int64_t stride) {
    int32_t all[CAPACITY];
    const kv_system system = {.base = m->base};
    ref_system r = ref_system_copy(&system);
    memcpy(all, ids, (size_t)n * sizeof *all);
    for (int64_t i = 0; i < n_next; i++) all[n + i] = next[i * stride];
    rounding_spread spread = ref_system_spread(&(ref_reading){&r, all, n + n_next, 0, n - 1, false});
    ref_system_free(&r);
    return spread;
}

// ---- Nothing left out ----------------------------------------------------------------------------------

static void test_keeping_all_changes_nothing(void **state) {
    struct models *m = *state;
    kv_session *plain = make_session(m, &policies[KV_PRUNE_NONE], N_SEQ);
    rounding_spread spreads[N_SEQ];
    const int32_t *ids = m->ids;
    for (int64_t s = 0; s < N_SEQ; ids += lengths[s++])
        spreads[s] = unpruned_spread(m, ids, lengths[s], m->next + s, STEPS, N_SEQ);
    for (int p = 1; p < N_POLICIES; p++) {
        kv_pruning all = policies[p];
        all.keep = all.start = all.end = 1;
        float logits[N_SEQ * VOCABULARY], expected[N_SEQ * VOCABULARY];
        kv_session *session = make_session(m, &all, N_SEQ);
        kv_session_reset(plain);
        prefill(plain, m->ids, lengths, expected);
        prefill(session, m->ids, lengths, logits);
        for (int step = 0; step <= STEPS; step++) {
            for (int64_t s = 0; s < N_SEQ; s++) {
                const int64_t at = s * VOCABULARY, from = step * VOCABULARY;
                rounding_compare("logits", logits + at, &spreads[s], from, VOCABULARY);
                rounding_compare_both("logits", logits + at, expected + at, &spreads[s], from, VOCABULARY);
                assert_int_equal(kv_session_length(session, s), lengths[s] + step);
            }
            if (step == STEPS) break;
            decode(plain, m->next + step * N_SEQ, NULL, expected);
            decode(session, m->next + step * N_SEQ, NULL, logits);
        }
        kv_session_free(session);
    }
    for (int64_t s = 0; s < N_SEQ; s++) rounding_spread_free(&spreads[s]);
    kv_session_free(plain);
}

// ---- Batches -------------------------------------------------------------------------------------------

// One sequence rests now and then; a session reset in between gives the same again.
static void test_alone_equals_row_of_batch(void **state) {
    struct models *m = *state;
    for (int p = 1; p < N_POLICIES; p++) {
        float logits[STEPS + 1][N_SEQ * VOCABULARY], own[VOCABULARY];
        kv_session *batch = make_session(m, &policies[p], N_SEQ);
        for (int round = 0; round < 2; round++) {
            kv_session_reset(batch);
            memset(logits, 0, sizeof logits);
            prefill(batch, m->ids, lengths, logits[0]);
            for (int step = 0; step < STEPS; step++) {
                const bool active[N_SEQ] = {true, step != 1, true, step % 2, true};
                memcpy(logits[step + 1], logits[step], sizeof *logits);
                decode(batch, m->next + step * N_SEQ, active, logits[step + 1]);
            }
        }
        const int32_t *ids = m->ids;
        for (int64_t s = 0; s < N_SEQ; ids += lengths[s++]) {
            kv_session *one = make_session(m, &policies[p], 1);
            reading r = {.m = m, .policy = &policies[p], .ids = ids, .n = lengths[s]};
            for (int step = 0; step < STEPS; step++) {
                const bool active[N_SEQ] = {true, step != 1, true, step % 2, true};
                if (active[s]) r.next[r.n_next++] = m->next[step * N_SEQ + s];
            }
            rounding_spread spread = spread_of(&r);
            int64_t at = 0; // results of the last step in which it was active
            prefill(one, ids, &lengths[s], own);
            rounding_compare_both("prefill", logits[0] + s * VOCABULARY, own, &spread, at, VOCABULARY);
            for (int step = 0; step < STEPS; step++) {
                const bool active[N_SEQ] = {true, step != 1, true, step % 2, true};
                if (active[s]) decode(one, &m->next[step * N_SEQ + s], NULL, own), at += VOCABULARY;
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

// ---- Chosen before the first layer ---------------------------------------------------------------------

// Which tokens the definition keeps, from whole matrices in double precision.
static void expected_choice(const struct models *m, const kv_pruning *given, const int32_t *ids, int64_t n,
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
    struct models *m = *state;
    for (int p = 0; p < N_POLICIES; p++) {
        if (policies[p].kind != KV_PRUNE_STATIC && policies[p].kind != KV_PRUNE_SPECULATIVE) continue;
        float logits[N_SEQ * VOCABULARY];
        rounding_spread spreads[N_SEQ];
        kv_session *session = make_session(m, &policies[p], N_SEQ);
        prefill(session, m->ids, lengths, logits);
        const int32_t *ids = m->ids;
        for (int64_t s = 0; s < N_SEQ; ids += lengths[s++]) {
            bool flags[CAPACITY] = {0};
            int32_t places[CAPACITY], kept_ids[CAPACITY], cached[CAPACITY];
            int64_t n = 0;
            expected_choice(m, &policies[p], ids, lengths[s], flags);
            for (int64_t j = 0; j < lengths[s]; j++)
                if (flags[j]) places[n] = (int32_t)j, kept_ids[n++] = ids[j];
            for (int64_t layer = 0; layer < N_LAYERS; layer++) {
                assert_int_equal(kv_session_cached(session, layer, s, cached), n);
                assert_memory_equal(cached, places, (size_t)n * sizeof *places);
            }
            // The last token of the prompt is always kept, so that what follows is at its own position.
            assert_int_equal(places[n - 1], lengths[s] - 1);
            reading r = {.m = m, .ids = kept_ids, .n = n, .places = places, .n_next = STEPS, .exact = true};
            for (int step = 0; step < STEPS; step++) r.next[step] = m->next[step * N_SEQ + s];
            spreads[s] = spread_of(&r);
        }
        for (int step = 0; step <= STEPS; step++) {
            if (step > 0) decode(session, m->next + (step - 1) * N_SEQ, NULL, logits);
            for (int64_t s = 0; s < N_SEQ; s++) {
                rounding_compare(step ? "decoding" : "prefill", logits + s * VOCABULARY, &spreads[s],
                                 step * VOCABULARY, VOCABULARY);
                assert_int_equal(kv_session_length(session, s), lengths[s] + step);
            }
        }
        for (int64_t s = 0; s < N_SEQ; s++) rounding_spread_free(&spreads[s]);
        kv_session_free(session);
    }
}

// A randomly pruned prompt is a shorter prompt: what a plain session makes of some subset of its tokens,
// found here by the first layer's keys, which tell tokens apart.
static void test_random_prompt_is_a_shorter_prompt(void **state) {
    struct models *m = *state;
    enum { N = 24, KEPT = 12 };
    const kv_model_spec *spec = &m->base->spec;
    const int64_t n = N, kept = KEPT, dim = kv_spec_kv_dim(spec, 0);
    int32_t ids[N], shorter[KEPT];
    for (int i = 0; i < N; i++) ids[i] = 3 + 2 * i; // all different
    ids[0] = spec->bos_id;
    float logits[VOCABULARY], expected[VOCABULARY], k[N * 16], v[N * 16], all_k[N * 16], all_v[N * 16];
    kv_session *plain = make_session(m, &policies[KV_PRUNE_NONE], 1);
    kv_session *pruned = make_session(m, &policies[KV_PRUNE_RANDOM], 1);
    prefill(plain, ids, &n, expected);
    kv_session_copy_cache(plain, 0, 0, all_k, all_v);
    prefill(pruned, ids, &n, logits);
    kv_session_copy_cache(pruned, 0, 0, k, v);
    assert_int_equal(kv_session_length(pruned, 0), KEPT);
    rounding_spread whole = unpruned_spread(m, ids, N, NULL, 0, 1);
    for (int64_t i = 0, j = 0; i < KEPT; i++, j++) {
        while (j < N &&
               fabs((double)k[i * dim] - (double)all_k[j * dim]) > 2 * whole.allowed[VOCABULARY + j * dim])
            j++;
        assert_in_range(j, i ? 1 : 0, i ? N - 1 : 0); // the beginning of text stays
        shorter[i] = ids[j];
    }
    assert_int_equal(shorter[KEPT - 1], ids[N - 1]);
    kv_session_reset(plain);
    prefill(plain, shorter, &kept, expected);
    rounding_spread spread = unpruned_spread(m, shorter, KEPT, m->next, STEPS + 1, 1);
    for (int step = 0; step <= STEPS; step++) {
        rounding_compare("logits", logits, &spread, step * VOCABULARY, VOCABULARY);
        rounding_compare_both("logits", logits, expected, &spread, step * VOCABULARY, VOCABULARY);
        decode(plain, &m->next[step], NULL, expected);
        decode(pruned, &m->next[step], NULL, logits);
    }
    rounding_spread_free(&whole);
    rounding_spread_free(&spread);
    kv_session_free(plain);
    kv_session_free(pruned);
}

// ---- Lazy ----------------------------------------------------------------------------------------------

static uint64_t q_dim(const kv_model_spec *spec, int64_t layer) {
    return (uint64_t)(spec->layers[layer].n_heads * spec->head_dim);
}

// Operations of attention and ranking in the last ref_read, by hand. A prompt's queries stand in blocks;
// those of a step are few, and one product: scores, and another: sums of values.
static uint64_t attended_by_hand(const ref_reader *r, bool prompt) {
    const kv_model_spec *spec = &r->m.model->spec;
    uint64_t flops = 0;
    for (int64_t i = 0; i < N_LAYERS; i++) {
        const kv_layer_spec *l = &spec->layers[i];
        const int64_t n = r->n_active[i];
        const bool last = i + 1 == N_LAYERS; // only the newest token's output is wanted
        if (prompt && !last)
            flops += kv_attention_flops(l->n_heads, l->n_kv_heads, spec->head_dim, n, n);
        else
            flops += 4 * q_dim(spec, i) * (uint64_t)n * (uint64_t)(last ? 1 : r->n_processed[i]);
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

static void expect_same_cache(const kv_session *session, int64_t s, const ref_reader *r, const reading *whole,
                              const rounding_spread *spread) {
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
            const int64_t at = keys_at(whole, layer) + t * dim;
            rounding_compare("keys", k + i * dim, spread, at, dim);
            rounding_compare("values", v + i * dim, spread, at + CAPACITY * dim, dim);
            i++;
        }
        assert_int_equal(i, n);
    }
}

static void test_lazy_equals_brute_force(void **state) {
    struct models *m = *state;
    float logits[N_SEQ * VOCABULARY];
    double expected[VOCABULARY];
    ref_reader readers[N_SEQ];
    kv_session *session = make_session(m, &lazy, N_SEQ);
    const int32_t *ids = m->ids;
    int64_t revived = 0;
    uint64_t by_hand = 0;
    kv_gemm_flops_reset();
    prefill(session, m->ids, lengths, logits);
    reading whole[N_SEQ];
    rounding_spread spreads[N_SEQ];
    for (int64_t s = 0; s < N_SEQ; ids += lengths[s++]) {
        readers[s] = ref_reader_make(m->base, CAPACITY);
        whole[s] =
            (reading){.m = m, .ids = ids, .n = lengths[s], .n_next = STEPS, .exact = true, .lazily = &lazy};
        for (int step = 0; step < STEPS; step++) whole[s].next[step] = m->next[step * N_SEQ + s];
        spreads[s] = spread_of(&whole[s]);
    }
    ids = m->ids;
    for (int step = -1; step < STEPS; step++) {
        const uint64_t executed = kv_gemm_flops();
        by_hand = 0;
        for (int64_t s = 0; s < N_SEQ; s++) {
            const int64_t n = step < 0 ? lengths[s] : 1;
            ref_read(&readers[s], step < 0 ? ids : &m->next[step * N_SEQ + s], NULL, n, &lazy, expected);
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
        decode(session, m->next + (step + 1) * N_SEQ, NULL, logits);
    }
    assert_in_range(revived, 10, 1000); // or this has tested nothing
    for (int64_t s = 0; s < N_SEQ; s++) ref_reader_free(&readers[s]), rounding_spread_free(&spreads[s]);
    kv_session_free(session);
}

// Layers 0 and 1 work on all tokens, so every input to layer 2 is exact: there too a token has the keys and
// values of the unpruned model, be it one that the prompt took that far or one that came back to it later.
static void test_revived_cache_equals_unpruned(void **state) {
    struct models *m = *state;
    enum { EXACT = 3, LAST = 60 };
    const int64_t n = 40;
    float logits[VOCABULARY];
    int32_t before[LAST], after[LAST];
    kv_session *plain = make_session(m, &policies[KV_PRUNE_NONE], 1), *pruned = make_session(m, &lazy, 1);
    assert_int_equal(kv_lazy_kept(&lazy, N_LAYERS, EXACT - 2, n), n);
    assert_in_range(kv_lazy_kept(&lazy, N_LAYERS, EXACT - 1, n), 1, n - 1);
    prefill(plain, m->ids, &n, logits);
    prefill(pruned, m->ids, &n, logits);
    const int64_t n_before = kv_session_cached(pruned, EXACT - 1, 0, before);
    for (int step = 0; step < 2 * STEPS; step++) {
        decode(plain, &m->next[step], NULL, logits);
        decode(pruned, &m->next[step], NULL, logits);
    }
    const int64_t n_after = kv_session_cached(pruned, EXACT - 1, 0, after);
    int64_t revived = 0;
    for (int64_t i = 0, j = 0; i < n_after && after[i] < n; i++)
        if (j < n_before && before[j] == after[i])
            j++;
        else
            revived++;
    assert_in_range(revived, 1, n);
    rounding_spread spread = unpruned_spread(m, m->ids, n, m->next, 2 * STEPS, 1);
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
    struct models *m = *state;
    const kv_model_spec *spec = &m->base->spec;
    const int64_t n = 40;
    float logits[VOCABULARY];
    double unused[VOCABULARY];
    kv_session *session = make_session(m, &lazy, 1);
    ref_reader r = ref_reader_make(m->base, 60);
    kv_gemm_flops_reset();
    prefill(session, m->ids, &n, logits);
    for (int step = 0; step < STEPS; step++) decode(session, &m->next[step], NULL, logits);
    const uint64_t executed = kv_gemm_flops();
    ref_read(&r, m->ids, NULL, n, &lazy, unused);
    uint64_t expected = attended_by_hand(&r, true);
    for (int step = 0; step < STEPS; step++) {
        ref_read(&r, &m->next[step], NULL, 1, &lazy, unused);
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

// More tokens than a pack holds, in prefill and, revived, in decoding.
static void test_many_packs(void **state) {
    struct models *m = *state;
    enum { MANY = 180, EACH = 50 }; // 4500 tokens kept of 9000
    int32_t *ids = test_alloc(MANY * EACH, sizeof *ids), next[MANY];
    int64_t *each = test_alloc(MANY, sizeof *each);
    float *logits = test_alloc(MANY * VOCABULARY, sizeof *logits), own[VOCABULARY];
    tiny_ids(ids, MANY * EACH, VOCABULARY, 12);
    tiny_ids(next, MANY, VOCABULARY, 13);
    for (int64_t s = 0; s < MANY; s++) each[s] = EACH;
    for (int p = 1; p < N_POLICIES - 1; p++) {
        kv_session *session = make_session(m, &policies[p], MANY), *one = make_session(m, &policies[p], 1);
        prefill(session, ids, each, logits);
        decode(session, next, NULL, logits);
        for (int64_t s = 0; s < MANY; s += 16) {
            kv_session_reset(one);
            prefill(one, ids + s * EACH, each, own);
            decode(one, &next[s], NULL, own);
            rounding_spread spread = spread_of(&(reading){.m = m,
                                                          .policy = &policies[p],
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
    struct models *m = *state;
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
    struct models *m = *state;
    for (int p = 1; p < N_POLICIES; p++) {
        float logits[VOCABULARY];
        const int64_t n = 9, too_many = 61;
        kv_error err = {0};
        kv_session *session = make_session(m, &policies[p], 1);
        assert_int_equal(kv_session_prefill(session, m->ids, &too_many, logits, &err), KV_ERR_RANGE);
        assert_string_equal(err.message,
                            "sequence 0: 61 tokens after the 0 in the cache do not fit its room for 60");
        prefill(session, m->ids, &n, logits);
        assert_int_equal(kv_session_prefill(session, m->ids, &n, logits, &err), KV_ERR_ARGUMENT);
        assert_string_equal(err.message, "sequence 0: a pruned prompt can only be read from the start");
        while (kv_session_length(session, 0) < 60) decode(session, m->ids, NULL, logits);
        assert_int_equal(kv_session_decode(session, m->ids, NULL, logits, &err), KV_ERR_RANGE);
        kv_session_free(session);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keeping_all_changes_nothing),
        cmocka_unit_test(test_alone_equals_row_of_batch),
        cmocka_unit_test(test_chosen_prompts_equal_brute_force),
        cmocka_unit_test(test_random_prompt_is_a_shorter_prompt),
        cmocka_unit_test(test_lazy_equals_brute_force),
        cmocka_unit_test(test_revived_cache_equals_unpruned),
        cmocka_unit_test(test_no_token_passes_a_layer_twice),
        cmocka_unit_test(test_many_packs),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_prompts_are_read_from_the_start),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}

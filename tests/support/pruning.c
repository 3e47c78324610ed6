#include "tests/support/pruning.h"

#include "tests/support/numbers/reference_system.h"
#include "tests/support/prune_reference.h"
#include "tests/support/support.h"
#include "tests/support/tiny.h"

#include <stdlib.h>
#include <string.h>

const int64_t prune_lengths[N_SEQ] = {24, 1, 40, 2, 9};

int prune_setup(void **state) {
    prune_models *m = test_alloc(1, sizeof *m);
    const tiny_pair pair = tiny_deep_pair_make(N_LAYERS, CONTEXT);
    m->base = pair.base, m->aux = pair.aux;
    tiny_ids(m->ids, N_IDS, VOCABULARY, 4);
    tiny_ids(m->next, STEPS * N_SEQ, VOCABULARY, 5);
    *state = m;
    return 0;
}

int prune_teardown(void **state) {
    prune_models *m = *state;
    tiny_pair_free(&(tiny_pair){m->base, m->aux, NULL});
    free(m);
    return 0;
}

const kv_pruning prune_lazy = {.kind = KV_PRUNE_LAZY, .start = 0.5, .end = 0.25};
const kv_pruning prune_policies[N_POLICIES] = {
    {.kind = KV_PRUNE_NONE},
    {.kind = KV_PRUNE_RANDOM, .keep = 0.5, .seed = 3},
    {.kind = KV_PRUNE_STATIC, .keep = 0.5},
    {.kind = KV_PRUNE_LAZY, .start = 0.5, .end = 0.25},
    {.kind = KV_PRUNE_SPECULATIVE, .keep = 0.5, .lookahead = 3, .window = 3, .chunk = 4},
    {.kind = KV_PRUNE_SPECULATIVE, .keep = 0.3},
};

kv_system prune_system(const prune_models *m, const kv_pruning *pruning) {
    const bool drafts = pruning->kind == KV_PRUNE_SPECULATIVE;
    return (kv_system){.base = m->base, .aux = drafts ? m->aux : NULL, .pruning = *pruning};
}

kv_session *prune_session(const prune_models *m, const kv_pruning *pruning, int64_t n_seq) {
    const kv_system system = prune_system(m, pruning);
    kv_session *session;
    kv_error err = {0};
    if (kv_session_create(&system, n_seq, CAPACITY, &session, &err) != KV_OK) fail_msg("%s", err.message);
    return session;
}

void prune_prefill(kv_session *session, const int32_t *ids, const int64_t *n, float *logits) {
    kv_error err = {0};
    if (kv_session_prefill(session, ids, n, logits, &err) != KV_OK) fail_msg("%s", err.message);
}

void prune_decode(kv_session *session, const int32_t *ids, const bool *active, float *logits) {
    kv_error err = {0};
    if (kv_session_decode(session, ids, active, logits, &err) != KV_OK) fail_msg("%s", err.message);
}

// ---- How far rounding may take them --------------------------------------------------------------------

static int64_t results_of(const prune_reading *r) {
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
    const prune_reading *r = context;
    float logits[VOCABULARY];
    kv_session *session = prune_session(r->m, r->policy, 1);
    for (int step = 0; step <= r->n_next; step++, results += VOCABULARY) {
        if (step == 0)
            prune_prefill(session, r->ids, &r->n, logits);
        else
            prune_decode(session, &r->next[step - 1], NULL, logits);
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
    const prune_reading *r = context;
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

rounding_spread prune_spread(const prune_reading *r) {
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

int64_t prune_keys_at(const prune_reading *r, int64_t layer) {
    int64_t at = (r->n_next + 1) * VOCABULARY;
    for (int64_t i = 0; i < layer; i++) at += 2 * CAPACITY * kv_spec_kv_dim(&r->m->base->spec, i);
    return at;
}

rounding_spread prune_none_spread(const prune_models *m, const int32_t *ids, int64_t n, const int32_t *next,
                                  int64_t n_next, int64_t stride) {
    int32_t all[CAPACITY];
    const kv_system system = {.base = m->base};
    ref_system r = ref_system_copy(&system);
    memcpy(all, ids, (size_t)n * sizeof *all);
    for (int64_t i = 0; i < n_next; i++) all[n + i] = next[i * stride];
    rounding_spread spread = ref_system_spread(&(ref_reading){&r, all, n + n_next, 0, n - 1, false});
    ref_system_free(&r);
    return spread;
}

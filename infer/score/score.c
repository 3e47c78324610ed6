// The ways of scoring as callers know them: what they are given is checked before anything is computed.
#include "infer/score/score.h"

#include "infer/score/scoring.h"

#include <stdlib.h>

static kv_status check_length(const kv_system *system, int64_t s, int64_t length, int64_t n_scored,
                              kv_error *err) {
    if (length < 1)
        return kv_fail(err, KV_ERR_ARGUMENT, "sequence %lld: expected at least one token, not %lld",
                       (long long)s, (long long)length);
    if (n_scored < 0 || n_scored >= length)
        return kv_fail(err, KV_ERR_ARGUMENT,
                       "sequence %lld: %lld scored tokens of %lld, expected fewer: the first has nothing "
                       "before it",
                       (long long)s, (long long)n_scored, (long long)length);
    const kv_status status = kv_system_check(system, length, err);
    return status == KV_OK ? KV_OK : kv_fail_within(err, status, "sequence %lld", (long long)s);
}

kv_status kv_score_check(const kv_scoring *g, kv_error *err) {
    const int64_t vocab_size = kv_system_vocab_size(g->system);
    int64_t start = 0, scored = 0;
    for (int64_t s = 0; s < g->n_seq; s++) {
        kv_status status = check_length(g->system, s, g->lengths[s], g->n_scored[s], err);
        if (status != KV_OK) return status;
        g->starts[s] = start, g->scored_starts[s] = scored;
        for (int64_t t = 0; t < g->lengths[s]; t++) {
            const int32_t id = g->ids[start + t];
            if (id < 0 || id >= vocab_size)
                return kv_fail(err, KV_ERR_RANGE,
                               "sequence %lld, token %lld: id %d is outside the vocabulary of %lld",
                               (long long)s, (long long)t, id, (long long)vocab_size);
        }
        start += g->lengths[s], scored += g->n_scored[s];
        g->log_likelihood[s] = 0;
        if (g->greedy) g->greedy[s] = true;
    }
    return KV_OK;
}

typedef kv_status score_fn(const kv_scoring *g, kv_error *err);

static kv_status by_decoding(const kv_scoring *g, kv_error *err) {
    return kv_score_behind(g, false, err);
}

// Lazy pruning looks at its cache anew with every token.
static kv_status behind_prompt(const kv_scoring *g, kv_error *err) {
    return kv_score_behind(g, g->system->pruning.kind != KV_PRUNE_LAZY, err);
}

static kv_status score(kv_scoring g, score_fn *way, kv_error *err) {
    kv_status status = kv_system_check(g.system, 1, err);
    if (status != KV_OK || g.n_seq < 1) return status;
    g.starts = malloc(2 * (size_t)g.n_seq * sizeof *g.starts);
    if (!g.starts)
        return kv_fail(err, KV_ERR_MEMORY, "out of memory for scoring %lld sequences", (long long)g.n_seq);
    g.scored_starts = g.starts + g.n_seq;
    status = kv_score_check(&g, err);
    if (status == KV_OK) status = way(&g, err);
    free(g.starts);
    return status;
}

static score_fn *whole_of(const kv_system *system) {
    return system->pruning.kind == KV_PRUNE_NONE ? kv_score_whole : by_decoding;
}

kv_status kv_score(const kv_system *system, const int32_t *ids, const int64_t *lengths,
                   const int64_t *n_scored, int64_t n_seq, double *log_likelihood, bool *greedy,
                   kv_error *err) {
    return score((kv_scoring){system, ids, lengths, n_scored, n_seq, .log_likelihood = log_likelihood,
                              .greedy = greedy},
                 whole_of(system), err);
}

kv_status kv_score_tokens(const kv_system *system, const int32_t *ids, const int64_t *lengths,
                          const int64_t *n_scored, int64_t n_seq, double *log_p, double *log_likelihood,
                          kv_error *err) {
    return score(
        (kv_scoring){system, ids, lengths, n_scored, n_seq, .log_likelihood = log_likelihood, .log_p = log_p},
        whole_of(system), err);
}

kv_status kv_score_by_decoding(const kv_system *system, const int32_t *ids, const int64_t *lengths,
                               const int64_t *n_scored, int64_t n_seq, double *log_likelihood, bool *greedy,
                               kv_error *err) {
    return score((kv_scoring){system, ids, lengths, n_scored, n_seq, .log_likelihood = log_likelihood,
                              .greedy = greedy},
                 by_decoding, err);
}

kv_status kv_score_behind_prompt(const kv_system *system, const int32_t *ids, const int64_t *lengths,
                                 const int64_t *n_scored, int64_t n_seq, double *log_likelihood, bool *greedy,
                                 kv_error *err) {
    return score((kv_scoring){system, ids, lengths, n_scored, n_seq, .log_likelihood = log_likelihood,
                              .greedy = greedy},
                 behind_prompt, err);
}

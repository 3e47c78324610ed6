// Scored tokens behind the cache that a session made of their prompt: one by one, or all at once.
#include "infer/score/scoring.h"

#include "data/system/console.h"
#include "infer/session/engine.h"

#include <stdlib.h>
#include <string.h>

// Sequences that share a session, and the bytes that their cache may have beyond that of KV_SCORE_ROWS tokens.
enum { MAX_TOGETHER = 64, CACHE_BYTES = 256 << 20 };

// Sequences that share a session: the context of each is its prompt.
struct group {
    int64_t members[MAX_TOGETHER], context[MAX_TOGETHER];
    bool active[MAX_TOGETHER];
    int32_t newest[MAX_TOGETHER];
    int64_t n, longest;
    int32_t *prompts; // [Σ context]
    float *logits;    // [n, vocab_size]
    kv_session *session;
};

// Tokens whose cache is small enough for one session.
static int64_t most_tokens(const kv_model_spec *spec) {
    double bytes = 0;
    for (int64_t i = 0; i < spec->n_layers; i++) bytes += 2 * sizeof(float) * (double)kv_spec_kv_dim(spec, i);
    const double most = CACHE_BYTES / bytes;
    return most > KV_SCORE_ROWS ? (int64_t)most : KV_SCORE_ROWS;
}

int64_t kv_score_together(const kv_system *system, int64_t longest) {
    const int64_t n = most_tokens(&system->base->spec) / longest;
    return n < 1 ? 1 : n > MAX_TOGETHER ? MAX_TOGETHER : n;
}

static void take_group(const kv_scoring *g, int64_t *next, struct group *p) {
    const int64_t most = most_tokens(&g->system->base->spec);
    p->n = p->longest = 0;
    for (; *next < g->n_seq && p->n < MAX_TOGETHER; (*next)++) {
        const int64_t s = *next, length = g->lengths[s];
        const int64_t longest = length > p->longest ? length : p->longest;
        if (g->n_scored[s] == 0) continue;
        if (p->n > 0 && longest * (p->n + 1) > most) return;
        p->members[p->n] = s;
        p->context[p->n++] = length - g->n_scored[s];
        p->longest = longest;
    }
}

// The scored token at `step` of every sequence that has one, from the logits before it. Whether any is left.
// (The session lets no logits out that are not finite.)
static bool score_step(const kv_scoring *g, struct group *p, int64_t step) {
    const int64_t vocab_size = g->system->base->spec.vocab_size;
    bool more = false;
    for (int64_t i = 0; i < p->n; i++) {
        const int64_t s = p->members[i];
        if (step < g->n_scored[s]) {
            p->newest[i] = g->ids[g->starts[s] + p->context[i] + step];
            kv_row_sum sum = kv_row_sum_none();
            kv_row_sum_fold(&sum, p->logits + i * vocab_size, 0, vocab_size, p->newest[i]);
            kv_score_add(g, s, step, &sum, p->newest[i], NULL);
        }
        p->active[i] = step + 1 < g->n_scored[s];
        more = more || p->active[i];
    }
    return more;
}

static kv_status read_prompts(const kv_scoring *g, struct group *p, kv_error *err) {
    int32_t *end = p->prompts;
    for (int64_t i = 0; i < p->n; end += p->context[i++])
        memcpy(end, g->ids + g->starts[p->members[i]], (size_t)p->context[i] * sizeof *end);
    return kv_session_prefill(p->session, p->prompts, p->context, p->logits, err);
}

// Which token that is, of those that a session has no numbers for.
static kv_status explain(const kv_scoring *g, const struct group *p, int64_t step, kv_status status,
                         kv_error *err) {
    return status == KV_ERR_NOT_FINITE
               ? kv_score_not_finite(g, p->members[kv_session_not_finite(p->session)], step, err)
               : status;
}

static kv_status decode_group(const kv_scoring *g, struct group *p, kv_error *err) {
    kv_status status = read_prompts(g, p, err);
    int64_t step = 0;
    for (; status == KV_OK && score_step(g, p, step); step++) {
        if (kv_console_interrupted()) return kv_fail(err, KV_ERR_INTERRUPTED, "interrupted");
        status = kv_session_decode(p->session, p->newest, p->active, p->logits, err);
    }
    return explain(g, p, step, status, err);
}

// All scored tokens of a group but the last of each sequence, which nothing is asked behind.
struct chunk {
    int64_t lengths[MAX_TOGETHER], n;
    int32_t *ids, *targets; // [n] tokens, and those that follow them
    float *hidden;          // [n, model_dim]
    kv_row_sum *sums;       // [n]
};

static bool lay_out_chunk(const kv_scoring *g, kv_arena *arena, const struct group *p, struct chunk *c) {
    c->n = 0;
    for (int64_t i = 0; i < p->n; i++) c->n += c->lengths[i] = g->n_scored[p->members[i]] - 1;
    c->ids = kv_arena_alloc(arena, (size_t)c->n * sizeof *c->ids + 1);
    c->targets = kv_arena_alloc(arena, (size_t)c->n * sizeof *c->targets + 1);
    c->sums = kv_arena_alloc(arena, (size_t)c->n * sizeof *c->sums + 1);
    c->hidden = kv_arena_floats(arena, c->n * g->system->base->spec.model_dim + 1);
    if (!c->ids || !c->targets || !c->sums || !c->hidden) return false;
    for (int64_t i = 0, at = 0; i < p->n; at += c->lengths[i++]) {
        const int32_t *ids = g->ids + g->starts[p->members[i]] + p->context[i];
        memcpy(c->ids + at, ids, (size_t)c->lengths[i] * sizeof *ids);
        memcpy(c->targets + at, ids + 1, (size_t)c->lengths[i] * sizeof *ids);
    }
    return true;
}

static kv_status score_chunk(const kv_scoring *g, kv_arena *arena, struct group *p, kv_error *err) {
    struct chunk c;
    if (!lay_out_chunk(g, arena, p, &c))
        return kv_fail(err, KV_ERR_MEMORY, "out of memory for scoring %lld tokens", (long long)c.n);
    kv_status status = c.n ? kv_session_read(p->session, c.ids, c.lengths, c.hidden, err) : KV_OK;
    if (status != KV_OK) return status;
    if (!kv_score_logits(arena, kv_model_head(g->system->base), c.hidden, c.n, c.targets, c.sums))
        return kv_fail(err, KV_ERR_MEMORY, "out of memory for scoring %lld tokens", (long long)c.n);
    for (int64_t i = 0, at = 0; i < p->n; i++)
        for (int64_t t = 0; t < c.lengths[i] && status == KV_OK; t++, at++)
            status = kv_score_add(g, p->members[i], t + 1, &c.sums[at], c.targets[at], err);
    return status;
}

// The prompt says how probable the first scored token is, the others are read at once.
static kv_status chunk_group(const kv_scoring *g, struct group *p, kv_error *err) {
    kv_status status = explain(g, p, 0, read_prompts(g, p, err), err);
    if (status != KV_OK || !score_step(g, p, 0)) return status;
    kv_arena *arena = kv_arena_create();
    status = arena ? score_chunk(g, arena, p, err) : kv_fail(err, KV_ERR_MEMORY, "out of memory for scoring");
    kv_arena_free(arena);
    return status;
}

static kv_status score_group(const kv_scoring *g, struct group *p, bool at_once, kv_error *err) {
    kv_status status = kv_session_create(g->system, p->n, p->longest, &p->session, err);
    if (status != KV_OK) return status;
    const size_t vocab_size = (size_t)g->system->base->spec.vocab_size;
    p->prompts = malloc((size_t)(p->n * p->longest) * sizeof *p->prompts);
    p->logits = malloc((size_t)p->n * vocab_size * sizeof *p->logits);
    if (p->prompts && p->logits)
        status = (at_once ? chunk_group : decode_group)(g, p, err);
    else
        status =
            kv_fail(err, KV_ERR_MEMORY, "out of memory for the logits of %lld sequences", (long long)p->n);
    free(p->prompts);
    free(p->logits);
    kv_session_free(p->session);
    return status;
}

kv_status kv_score_behind(const kv_scoring *g, bool at_once, kv_error *err) {
    kv_status status = KV_OK;
    for (int64_t next = 0; status == KV_OK && next < g->n_seq;) {
        struct group group;
        if (kv_console_interrupted()) return kv_fail(err, KV_ERR_INTERRUPTED, "interrupted");
        take_group(g, &next, &group);
        if (group.n > 0) status = score_group(g, &group, at_once, err);
    }
    return status;
}

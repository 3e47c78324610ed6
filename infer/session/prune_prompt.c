// Prompts of which the base reads some tokens only: chosen first, read like any others.
//
// Random pruning makes a shorter prompt: positions are counted anew. Static and speculative pruning keep the
// positions that the tokens were chosen at; decoding goes on from the prompt's full length.
#include "infer/session/prune_select.h"
#include "infer/session/session.h"

#include <stdlib.h>
#include <string.h>

// Room for a batch of prompts: what is to be scored, and what is kept of them.
struct choice {
    int64_t *kept;   // [n_seq] tokens kept of each
    int64_t *scored; // [n_seq] tokens to be scored: all of a prompt that loses some, or none
    int32_t *scored_ids;
    float *scores;         // of the scored ids
    int32_t *ids, *places; // the kept ones
};

static void free_choice(struct choice *c) {
    free(c->kept);
    free(c->scored);
    free(c->scored_ids);
    free(c->scores);
    free(c->ids);
    free(c->places);
}

static bool make_choice(int64_t n_seq, int64_t n_ids, struct choice *c) {
    const size_t seqs = (size_t)n_seq, n = (size_t)n_ids;
    *c = (struct choice){.kept = malloc(seqs * sizeof *c->kept),
                         .scored = malloc(seqs * sizeof *c->scored),
                         .scored_ids = malloc(n * sizeof *c->scored_ids),
                         .scores = calloc(n, sizeof *c->scores),
                         .ids = malloc(n * sizeof *c->ids),
                         .places = malloc(n * sizeof *c->places)};
    return c->kept && c->scored && c->scored_ids && c->scores && c->ids && c->places;
}

static kv_status score_prompts(kv_session *session, const int32_t *ids, const int64_t *lengths,
                               struct choice *c, kv_error *err) {
    int64_t n = 0;
    for (int64_t s = 0; s < session->n_seq; ids += lengths[s++]) {
        c->kept[s] = kv_pruning_kept(&session->system.pruning, lengths[s]);
        c->scored[s] = c->kept[s] < lengths[s] ? lengths[s] : 0;
        memcpy(c->scored_ids + n, ids, (size_t)c->scored[s] * sizeof *ids);
        n += c->scored[s];
    }
    if (n == 0) return KV_OK;
    switch (session->system.pruning.kind) {
    case KV_PRUNE_STATIC: return kv_static_scores(session, c->scored_ids, c->scored, c->scores, err);
    case KV_PRUNE_SPECULATIVE:
        return kv_speculative_scores(session, c->scored_ids, c->scored, c->scores, err);
    case KV_PRUNE_NONE:
    case KV_PRUNE_RANDOM: // nothing to look at
    case KV_PRUNE_LAZY: break;
    }
    return KV_OK;
}

static bool keep_places(kv_session *session, const int32_t *ids, int64_t n, const float *scores, int64_t kept,
                        int32_t *places) {
    const kv_pruning *p = &session->system.pruning;
    kv_arena *arena = kv_tape_arena(session->tape);
    if (kept == n) {
        for (int64_t j = 0; j < n; j++) places[j] = (int32_t)j;
        return true;
    }
    if (p->kind == KV_PRUNE_RANDOM)
        return kv_keep_random(arena, p->seed, session->system.base->spec.bos_id, ids, n, kept, places);
    if (p->kind == KV_PRUNE_STATIC) return kv_keep_best(arena, scores, n, kept, places);
    return kv_keep_chunks(arena, scores, n, p->window, p->chunk, kept, places);
}

// Fills the kept ids and their places, prompt after prompt.
static bool choose(kv_session *session, const int32_t *ids, const int64_t *lengths, struct choice *c) {
    int64_t n = 0;
    const float *scores = c->scores;
    for (int64_t s = 0; s < session->n_seq; s++) {
        kv_tape_reset(session->tape);
        int32_t *places = c->places + n;
        if (!keep_places(session, ids, lengths[s], scores, c->kept[s], places)) return false;
        for (int64_t j = 0; j < c->kept[s]; j++) c->ids[n + j] = ids[places[j]];
        n += c->kept[s];
        ids += lengths[s];
        scores += c->scored[s];
    }
    return true;
}

kv_status kv_pruned_prefill(kv_session *session, const int32_t *ids, const int64_t *lengths, int64_t n_ids,
                            float *logits, kv_error *err) {
    struct choice c;
    kv_status status = KV_ERR_MEMORY;
    if (make_choice(session->n_seq, n_ids, &c))
        status = score_prompts(session, ids, lengths, &c, err);
    else
        kv_fail(err, KV_ERR_MEMORY, "out of memory for %lld prompt tokens", (long long)n_ids);
    if (status == KV_OK && !choose(session, ids, lengths, &c))
        status = kv_fail(err, KV_ERR_MEMORY, "out of memory for choosing among prompt tokens");
    if (status == KV_OK) {
        const kv_reading reading = {
            .ids = c.ids, .lengths = c.kept, .positions = session->positions ? c.places : NULL};
        status = kv_read_tokens(session, reading, logits, err);
    }
    free_choice(&c);
    return status;
}

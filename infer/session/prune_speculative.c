// Speculative Prefill: the attention that an aux's look-ahead pays to the prompt.
//                                                           [arXiv 2502.02789; core/README.md §6, eq. 28]
//
// The aux reads the prompt and goes on greedily for `lookahead` tokens. A prompt token's score is the mean
// over those of the largest attention any layer and head of the aux pays it. The last look-ahead token ends
// with its attention in the last layer: nothing asks for the token after it.
#include "infer/session/engine.h"
#include "infer/session/sample.h"
#include "infer/session/session.h"

#include <stdlib.h>
#include <string.h>

struct look_ahead {
    kv_session *drafter;
    int64_t vocab_size; // of the aux
    int64_t n_ids;      // those both models know: beyond them an aux may have padding
    float *logits;      // [n_seq, vocab_size]
    int32_t *newest;    // [n_seq]
    int32_t *ids;       // [n_seq] those of the sequences that are scored, packed
    int64_t *lengths;   // [n_seq] 1 for each of those
    float **importance; // [n_seq]
};

static void free_look_ahead(struct look_ahead *l) {
    free(l->logits);
    free(l->newest);
    free(l->ids);
    free(l->lengths);
    free(l->importance);
}

static bool make_look_ahead(kv_session *session, struct look_ahead *l) {
    const size_t n_seq = (size_t)session->n_seq;
    *l = (struct look_ahead){.drafter = session->drafter,
                             .vocab_size = session->system.aux->spec.vocab_size,
                             .n_ids = kv_system_vocab_size(&session->system)};
    l->logits = calloc(n_seq * (size_t)l->vocab_size, sizeof *l->logits);
    l->newest = malloc(n_seq * sizeof *l->newest);
    l->ids = malloc(n_seq * sizeof *l->ids);
    l->lengths = malloc(n_seq * sizeof *l->lengths);
    l->importance = malloc(n_seq * sizeof *l->importance);
    return l->logits && l->newest && l->ids && l->lengths && l->importance;
}

// One look-ahead token for every prompt; the attention that it pays the prompt is added to the scores.
static kv_status step(kv_session *session, struct look_ahead *l, const int64_t *lengths, bool last,
                      float *scores, kv_error *err) {
    const int64_t room = l->drafter->capacity;
    const float share = 1 / (float)session->system.pruning.lookahead;
    int64_t n = 0;
    for (int64_t s = 0; s < session->n_seq; s++) {
        kv_argmax(l->logits + s * l->vocab_size, 1, l->n_ids, &l->newest[s]);
        l->lengths[s] = lengths[s] > 0;
        if (lengths[s] > 0) l->ids[n++] = l->newest[s];
        l->importance[s] = session->draft_importance + s * room;
        memset(l->importance[s], 0, (size_t)room * sizeof **l->importance);
    }
    const kv_reading reading = {.ids = l->ids, .lengths = l->lengths, .importance = l->importance};
    kv_status status = kv_read_tokens(l->drafter, reading, last ? NULL : l->logits, err);
    for (int64_t s = 0; s < session->n_seq && status == KV_OK; scores += lengths[s++])
        for (int64_t j = 0; j < lengths[s]; j++) scores[j] += share * l->importance[s][j];
    return status;
}

kv_status kv_speculative_scores(kv_session *session, const int32_t *ids, const int64_t *lengths,
                                float *scores, kv_error *err) {
    const int64_t n_steps = session->system.pruning.lookahead;
    struct look_ahead l;
    kv_status status = KV_ERR_MEMORY;
    if (make_look_ahead(session, &l)) {
        kv_session_reset(l.drafter);
        status = kv_read_tokens(l.drafter, (kv_reading){.ids = ids, .lengths = lengths}, l.logits, err);
        for (int64_t i = 0; i < n_steps && status == KV_OK; i++)
            status = step(session, &l, lengths, i + 1 == n_steps, scores, err);
    } else {
        kv_fail(err, KV_ERR_MEMORY, "out of memory for looking ahead in %lld sequences",
                (long long)session->n_seq);
    }
    free_look_ahead(&l);
    if (status == KV_ERR_NOT_FINITE) {
        session->not_finite = l.drafter->not_finite;
        kv_fail_within(err, status, "the aux's look-ahead");
    }
    return status;
}

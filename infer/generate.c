// A loop around kv_session_decode: choose a token for each sequence, let those that are complete rest.
#include "infer/generate.h"

#include "data/system/console.h"

#include <stdlib.h>
#include <string.h>

struct decoding {
    kv_session *session;
    const kv_generation *how;
    int64_t n_seq, vocab_size, n_ids;
    int32_t *generated;
    int64_t *n_generated;
    int32_t *newest;                // [n_seq]
    bool *active;                   // [n_seq]
    float *logits;                  // [n_seq, vocab_size]
    kv_token_candidate *candidates; // [vocab_size]; NULL when greedy
};

static int32_t choose_token(const struct decoding *d, int64_t s) {
    const uint64_t stream = d->how->streams ? d->how->streams[s] : (uint64_t)s;
    return kv_sample(d->logits + s * d->vocab_size, d->n_ids, &d->how->sampling, stream,
                     (uint64_t)d->n_generated[s], d->candidates);
}

// Appends a token to every active sequence and lets those that are complete rest.
static kv_status take_tokens(struct decoding *d, int64_t *n_active, kv_error *err) {
    const kv_generation *how = d->how;
    *n_active = 0;
    for (int64_t s = 0; s < d->n_seq; s++) {
        if (!d->active[s]) continue;
        int32_t *row = d->generated + s * how->max_tokens;
        d->newest[s] = choose_token(d, s);
        const int64_t n = ++d->n_generated[s];
        row[n - 1] = d->newest[s];
        bool stop = false;
        kv_status status = how->stop ? how->stop(how->context, s, row, n, &stop, err) : KV_OK;
        if (status != KV_OK) return status;
        d->active[s] = !stop && n < how->max_tokens &&
                       kv_session_length(d->session, s) < kv_session_capacity(d->session);
        *n_active += d->active[s];
    }
    return KV_OK;
}

// A failure of the session, which may be that a sequence's next token cannot be told.
static kv_status cannot_go_on(const struct decoding *d, kv_status status, kv_error *err) {
    if (status != KV_ERR_NOT_FINITE) return status;
    const int64_t n = d->n_generated[kv_session_not_finite(d->session)] + 1;
    return kv_fail_within(err, status, n == 1 ? "the first token of the answer" : "token %lld of the answer",
                          (long long)n);
}

static kv_status decode(struct decoding *d, const int32_t *ids, const int64_t *lengths, kv_error *err) {
    if (!d->how->append) kv_session_reset(d->session);
    int64_t n_active = d->n_seq;
    kv_status status = cannot_go_on(d, kv_session_prefill(d->session, ids, lengths, d->logits, err), err);
    while (status == KV_OK) {
        status = take_tokens(d, &n_active, err);
        if (status != KV_OK || n_active == 0) break;
        if (kv_console_interrupted()) return kv_fail(err, KV_ERR_INTERRUPTED, "interrupted");
        status = cannot_go_on(d, kv_session_decode(d->session, d->newest, d->active, d->logits, err), err);
    }
    return status;
}

static bool allocate(struct decoding *d) {
    const size_t n_seq = (size_t)d->n_seq, vocab_size = (size_t)d->vocab_size;
    const bool sampled = d->how->sampling.temperature > 0;
    d->newest = calloc(n_seq, sizeof *d->newest);
    d->active = malloc(n_seq * sizeof *d->active);
    d->logits = malloc(n_seq * vocab_size * sizeof *d->logits);
    if (sampled) d->candidates = malloc(vocab_size * sizeof *d->candidates);
    return d->newest && d->active && d->logits && (!sampled || d->candidates);
}

kv_status kv_generate(kv_session *session, const int32_t *ids, const int64_t *lengths,
                      const kv_generation *how, int32_t *generated, int64_t *n_generated, kv_error *err) {
    struct decoding d = {.session = session,
                         .how = how,
                         .n_seq = kv_session_n_seq(session),
                         .vocab_size = kv_session_vocab_size(session),
                         .generated = generated,
                         .n_generated = n_generated};
    memset(n_generated, 0, (size_t)d.n_seq * sizeof *n_generated);
    d.n_ids = how->n_ids ? how->n_ids : d.vocab_size;
    if (d.n_ids < 1 || d.n_ids > d.vocab_size)
        return kv_fail(err, KV_ERR_ARGUMENT, "%lld ids to draw from, expected at most the vocabulary's %lld",
                       (long long)d.n_ids, (long long)d.vocab_size);
    kv_status status = kv_sampling_check(&how->sampling, err);
    if (status != KV_OK || how->max_tokens < 1) return status;
    if (allocate(&d)) {
        memset(d.active, true, (size_t)d.n_seq * sizeof *d.active);
        status = decode(&d, ids, lengths, err);
    } else {
        status =
            kv_fail(err, KV_ERR_MEMORY, "out of memory for the logits of %lld sequences", (long long)d.n_seq);
    }
    free(d.newest);
    free(d.active);
    free(d.logits);
    free(d.candidates);
    return status;
}

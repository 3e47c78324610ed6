#include "infer/generate.h"

#include "data/console.h"

#include <stdlib.h>
#include <string.h>

struct decoding {
    kv_session *session;
    int64_t n_seq, vocab_size, max_tokens;
    kv_stop_fn *stop;
    void *context;
    int32_t *generated;
    int64_t *n_generated;
    int32_t *newest; // [n_seq]
    bool *active;    // [n_seq]
    float *logits;   // [n_seq, vocab_size]
};

// Appends the most probable token to every active sequence and lets those that are complete rest.
static kv_status take_tokens(struct decoding *d, int64_t *n_active, kv_error *err) {
    kv_argmax(d->logits, d->n_seq, d->vocab_size, d->newest);
    *n_active = 0;
    for (int64_t s = 0; s < d->n_seq; s++) {
        if (!d->active[s]) continue;
        int32_t *row = d->generated + s * d->max_tokens;
        const int64_t n = ++d->n_generated[s];
        row[n - 1] = d->newest[s];
        bool stop = false;
        kv_status status = d->stop ? d->stop(d->context, s, row, n, &stop, err) : KV_OK;
        if (status != KV_OK) return status;
        d->active[s] =
            !stop && n < d->max_tokens && kv_session_length(d->session, s) < kv_session_capacity(d->session);
        *n_active += d->active[s];
    }
    return KV_OK;
}

static kv_status decode(struct decoding *d, const int32_t *ids, const int64_t *lengths, kv_error *err) {
    kv_session_reset(d->session);
    int64_t n_active = d->n_seq;
    kv_status status = kv_session_prefill(d->session, ids, lengths, d->logits, err);
    while (status == KV_OK) {
        status = take_tokens(d, &n_active, err);
        if (status != KV_OK || n_active == 0) break;
        if (kv_console_interrupted()) return kv_fail(err, KV_ERR_INTERRUPTED, "interrupted");
        status = kv_session_decode(d->session, d->newest, d->active, d->logits, err);
    }
    return status;
}

kv_status kv_generate_greedy(kv_session *session, const int32_t *ids, const int64_t *lengths,
                             int64_t max_tokens, kv_stop_fn *stop, void *context, int32_t *generated,
                             int64_t *n_generated, kv_error *err) {
    const int64_t n_seq = kv_session_n_seq(session), vocab_size = kv_session_vocab_size(session);
    memset(n_generated, 0, (size_t)n_seq * sizeof *n_generated);
    if (max_tokens < 1) return KV_OK;
    struct decoding d = {.session = session,
                         .n_seq = n_seq,
                         .vocab_size = vocab_size,
                         .max_tokens = max_tokens,
                         .stop = stop,
                         .context = context,
                         .generated = generated,
                         .n_generated = n_generated};
    d.newest = calloc((size_t)n_seq, sizeof *d.newest);
    d.active = malloc((size_t)n_seq * sizeof *d.active);
    d.logits = malloc((size_t)n_seq * (size_t)vocab_size * sizeof *d.logits);
    kv_status status;
    if (d.newest && d.active && d.logits) {
        memset(d.active, true, (size_t)n_seq * sizeof *d.active);
        status = decode(&d, ids, lengths, err);
    } else {
        status =
            kv_fail(err, KV_ERR_MEMORY, "out of memory for the logits of %lld sequences", (long long)n_seq);
    }
    free(d.newest);
    free(d.active);
    free(d.logits);
    return status;
}

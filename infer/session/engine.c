// What a session does for its callers: it checks what it is given and sends prompts on their way.
#include "infer/session/session.h"

#include <stdlib.h>

// lengths[s] new tokens each, checked before anything is computed. *n_ids: their sum.
static kv_status check_tokens(const kv_session *session, const int32_t *ids, const int64_t *lengths,
                              int64_t vocab_size, int64_t *n_ids, kv_error *err) {
    *n_ids = 0;
    for (int64_t s = 0; s < session->n_seq; s++) {
        const int64_t before = kv_next_position(session, s);
        if (lengths[s] > session->capacity - before)
            return kv_fail(
                err, KV_ERR_RANGE,
                "sequence %lld: %lld tokens after the %lld in the cache do not fit its room for %lld",
                (long long)s, (long long)lengths[s], (long long)before, (long long)session->capacity);
        for (int64_t t = 0; t < lengths[s]; t++, (*n_ids)++)
            if (ids[*n_ids] < 0 || ids[*n_ids] >= vocab_size)
                return kv_fail(err, KV_ERR_RANGE,
                               "sequence %lld, token %lld: id %d is outside the vocabulary of %lld",
                               (long long)s, (long long)t, ids[*n_ids], (long long)vocab_size);
    }
    return KV_OK;
}

static kv_status check_empty(const kv_session *session, const char *what, kv_error *err) {
    for (int64_t s = 0; s < session->n_seq; s++)
        if (session->lengths[s] > 0)
            return kv_fail(err, KV_ERR_ARGUMENT, "sequence %lld: a %s prompt can only be read from the start",
                           (long long)s, what);
    return KV_OK;
}

kv_status kv_session_prefill(kv_session *session, const int32_t *ids, const int64_t *lengths, float *logits,
                             kv_error *err) {
    for (int64_t s = 0; s < session->n_seq; s++)
        if (lengths[s] < 1)
            return kv_fail(err, KV_ERR_ARGUMENT, "sequence %lld: a prompt needs at least one token, not %lld",
                           (long long)s, (long long)lengths[s]);
    int64_t n_ids;
    kv_status status =
        check_tokens(session, ids, lengths, kv_system_vocab_size(&session->system), &n_ids, err);
    if (status != KV_OK) return status;
    const bool predicted = session->system.predictor, pruned = session->system.pruning.kind != KV_PRUNE_NONE;
    if (!predicted && !pruned)
        return kv_read_tokens(session, (kv_reading){.ids = ids, .lengths = lengths}, logits, err);
    status = check_empty(session, predicted ? "predicted" : "pruned", err);
    if (status != KV_OK) return status;
    if (predicted)
        status = kv_predicted_prefill(session, ids, lengths, n_ids, logits, err);
    else if (session->system.pruning.kind == KV_PRUNE_LAZY)
        status = kv_read_tokens(session, (kv_reading){.ids = ids, .lengths = lengths}, logits, err);
    else
        status = kv_pruned_prefill(session, ids, lengths, n_ids, logits, err);
    if (status != KV_OK) kv_session_reset(session);
    return status;
}

kv_status kv_session_decode(kv_session *session, const int32_t *ids, const bool *active, float *logits,
                            kv_error *err) {
    const size_t n_seq = (size_t)session->n_seq;
    int32_t *packed = malloc(n_seq * sizeof *packed);
    int64_t *lengths = malloc(n_seq * sizeof *lengths);
    kv_status status = KV_ERR_MEMORY;
    if (packed && lengths) {
        int64_t n = 0;
        for (int64_t s = 0; s < session->n_seq; s++) {
            lengths[s] = !active || active[s];
            if (lengths[s]) packed[n++] = ids[s];
        }
        // Only the base reads these.
        status = check_tokens(session, packed, lengths, kv_session_vocab_size(session), &n, err);
        if (status == KV_OK)
            status = kv_read_tokens(session, (kv_reading){.ids = packed, .lengths = lengths}, logits, err);
    } else {
        kv_fail(err, KV_ERR_MEMORY, "out of memory for one step of %lld sequences",
                (long long)session->n_seq);
    }
    free(packed);
    free(lengths);
    return status;
}

void kv_argmax(const float *logits, int64_t n, int64_t vocab_size, int32_t *ids) {
    for (int64_t i = 0; i < n; i++) {
        const float *row = logits + i * vocab_size;
        int64_t best = 0;
        for (int64_t j = 1; j < vocab_size; j++)
            if (row[j] > row[best]) best = j;
        ids[i] = (int32_t)best;
    }
}

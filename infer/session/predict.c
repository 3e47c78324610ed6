// A prompt by way of the aux: what it makes of it becomes predicted entries of the base's cache, against which
// the base reads the last token.
//                                                                                     [core/README.md §5]
#include "infer/session/session.h"

#include <stdlib.h>
#include <string.h>

struct storing {
    kv_session *session;
    const kv_pack *pack;
};

// A kv_entries_fn: to its place in the cache.
static void store(void *what, int side, int64_t layer, const kv_tensor *entries) {
    const struct storing *s = what;
    kv_pack_store(s->pack, (side == KV_KEYS ? s->session->k : s->session->v)[layer], entries);
}

// A kv_pack_fn. Nothing of the aux is wanted but what the predictors read, with which it ends.
static kv_status predict_pack(kv_session *session, kv_pack *pack, const kv_reading *reading, float *logits,
                              kv_error *err) {
    (void)reading, (void)logits;
    const kv_system *system = &session->system;
    struct storing storing = {session, pack};
    kv_key_norms norms;
    const kv_pass pass = {.sequences = pack->sequences, .n_sequences = pack->n_seqs};
    kv_model_key_norms(system->base, &norms);
    kv_predict_along(session->tape, system->predictor, &norms, system->base, system->aux, pack->ids,
                     pack->n_new, &pass, store, &storing);
    return kv_tape_status(session->tape, err);
}

// All but the last token of each prompt, become predicted entries of the cache.
static kv_status predict_tokens(kv_session *session, const kv_reading *reading, kv_error *err) {
    kv_status status = kv_read_packs(session, reading, false, predict_pack, NULL, err);
    for (int64_t s = 0; s < session->n_seq && status == KV_OK; s++) {
        if (reading->lengths[s] == 0) continue; // it rests, or its prompt is one token
        session->lengths[s] = reading->lengths[s];
        session->predicted[s] = true;
    }
    return status;
}

// Splits each prompt into what the aux reads (`front`) and the last token, which the base reads. lengths[s]
// counts front tokens afterwards, ones[s] is 1; both are 0 of a sequence that rests.
static void split_prompts(const kv_session *session, const int32_t *ids, const int64_t *prompt_lengths,
                          int32_t *front, int32_t *newest, int64_t *lengths, int64_t *ones) {
    for (int64_t s = 0; s < session->n_seq; s++) {
        lengths[s] = ones[s] = 0;
        if (prompt_lengths[s] == 0) continue;
        lengths[s] = prompt_lengths[s] - 1;
        ones[s] = 1;
        memcpy(front, ids, (size_t)lengths[s] * sizeof *front);
        *newest++ = ids[lengths[s]];
        front += lengths[s];
        ids += prompt_lengths[s];
    }
}

kv_status kv_predicted_prefill(kv_session *session, const int32_t *ids, const int64_t *prompt_lengths,
                               int64_t n_ids, float *logits, kv_error *err) {
    const int64_t n_seq = session->n_seq;
    int32_t *front = malloc((size_t)n_ids * sizeof *front + (size_t)n_seq * sizeof *front);
    int64_t *lengths = malloc(2 * (size_t)n_seq * sizeof *lengths);
    kv_status status = KV_ERR_MEMORY;
    if (front && lengths) {
        int32_t *newest = front + n_ids;
        split_prompts(session, ids, prompt_lengths, front, newest, lengths, lengths + n_seq);
        status = predict_tokens(session, &(kv_reading){.ids = front, .lengths = lengths}, err);
        const kv_reading last = {.ids = newest, .lengths = lengths + n_seq};
        if (status == KV_OK) status = kv_read_tokens(session, last, logits, err);
    } else {
        kv_fail(err, KV_ERR_MEMORY, "out of memory for %lld prompt tokens", (long long)n_ids);
    }
    free(front);
    free(lengths);
    return status;
}

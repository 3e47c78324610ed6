// A prompt by way of the aux: what it makes of it becomes predicted entries of the base's cache, against which
// the base reads the last token.
//                                                                                     [core/README.md §5]
#include "infer/session/session.h"

#include <stdlib.h>
#include <string.h>

// Nothing of the aux is wanted but what the predictors read, with which it ends.
static kv_status predict_pack(kv_session *session, const kv_pack *pack, kv_error *err) {
    kv_tape *tape = session->tape;
    const kv_system *system = &session->system;
    kv_tensor *k[KV_MAX_LAYERS], *v[KV_MAX_LAYERS];
    kv_key_norms norms;
    kv_taps taps;
    const kv_pass pass = {.sequences = pack->sequences, .n_sequences = pack->n_seqs};
    kv_predictor_read(tape, system->predictor, system->base, system->aux, pack->ids, pack->n_new, &pass,
                      false, &taps);
    kv_status status = kv_tape_status(tape, err);
    if (status != KV_OK) return status;
    kv_model_key_norms(system->base, &norms);
    kv_predict(tape, system->predictor, &norms, &taps, k, v);
    status = kv_tape_status(tape, err);
    if (status != KV_OK) return status;
    for (int64_t layer = 0; layer < system->base->spec.n_layers; layer++) {
        kv_pack_store(pack, session->k[layer], k[layer]);
        kv_pack_store(pack, session->v[layer], v[layer]);
    }
    return KV_OK;
}

// All but the last token of each prompt, become predicted entries of the cache.
static kv_status predict_tokens(kv_session *session, kv_reading reading, kv_error *err) {
    for (int64_t next = 0; next < session->n_seq;) {
        kv_pack pack;
        kv_tape_reset(session->tape);
        if (!kv_pack_fill(session, &reading, false, &next, &pack))
            return kv_fail(err, KV_ERR_MEMORY, "out of memory for a batch of sequences");
        kv_status status = pack.n_seqs ? predict_pack(session, &pack, err) : KV_OK;
        if (status != KV_OK) return status;
        reading.ids += pack.n_new;
    }
    for (int64_t s = 0; s < session->n_seq; s++) {
        if (reading.lengths[s] == 0) continue; // it rests, or its prompt is one token
        session->lengths[s] = reading.lengths[s];
        session->predicted[s] = true;
    }
    return KV_OK;
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
        status = predict_tokens(session, (kv_reading){.ids = front, .lengths = lengths}, err);
        const kv_reading last = {.ids = newest, .lengths = lengths + n_seq};
        if (status == KV_OK) status = kv_read_tokens(session, last, logits, err);
    } else {
        kv_fail(err, KV_ERR_MEMORY, "out of memory for %lld prompt tokens", (long long)n_ids);
    }
    free(front);
    free(lengths);
    return status;
}

// A prompt by way of the aux: what it makes of it becomes predicted entries of the base's cache, against which
// the base reads the last token. Behind what a session for turns holds, the aux goes on from its own cache; it first
// reads what it has not read of that.
//                                                                                     [core/README.md §5 and §9]
#include "infer/session/engine.h"
#include "infer/session/session.h"

#include <stdlib.h>
#include <string.h>

// ---- Packs ---------------------------------------------------------------------------------------------

struct storing {
    kv_session *session;
    const kv_pack *pack;
    const int64_t *places; // in the base's cache, of the rows that entries are made of
};

// A kv_entries_fn: to its place in the cache.
static void store(void *what, int side, int64_t layer, const kv_tensor *entries) {
    const struct storing *s = what;
    kv_store_rows(s->places, (side == KV_KEYS ? s->session->k : s->session->v)[layer], entries);
}

static void go_on_from(kv_tape *tape, const struct storing *s, float *cache, kv_tensor **rows) {
    kv_pack_store(s->pack, cache, *rows);
    *rows = kv_tape_view(tape, cache, s->session->n_seq * s->session->capacity, (*rows)->cols);
}

// A kv_cached_fn: the aux's own cache.
static void use_cache(kv_tape *tape, int64_t layer, kv_tensor **k, kv_tensor **v, void *what) {
    const struct storing *s = what;
    go_on_from(tape, s, s->session->turns->k[layer], k);
    go_on_from(tape, s, s->session->turns->v[layer], v);
}

// The rows behind what the base holds of their sequences: the others are only read by the aux.
static bool choose_new_rows(kv_session *session, const kv_pack *pack, const kv_reading *reading,
                            kv_some_rows *only, struct storing *storing) {
    kv_arena *arena = kv_tape_arena(session->tape);
    const size_t n = (size_t)pack->n_rows;
    int64_t *rows = kv_arena_alloc(arena, n * sizeof *rows),
            *places = kv_arena_alloc(arena, n * sizeof *places);
    int32_t *ids = kv_arena_alloc(arena, n * sizeof *ids);
    if (!rows || !places || !ids) return false;
    *only = (kv_some_rows){.rows = rows, .ids = ids};
    for (int64_t i = 0; i < pack->n_seqs; i++) {
        const int64_t s = pack->members[i];
        int64_t unread = session->lengths[s] - kv_reading_behind(session, reading, s);
        for (; unread < pack->sequences[i].q_len; unread++, only->n++) {
            rows[only->n] = pack->sequences[i].q_row + unread;
            places[only->n] = pack->cache_rows[rows[only->n]];
            ids[only->n] = pack->ids[rows[only->n]];
        }
    }
    storing->places = places;
    return true;
}

// A kv_pack_fn. Nothing of the aux is wanted but what the predictors read, with which it ends.
static kv_status predict_pack(kv_session *session, kv_pack *pack, const kv_reading *reading, float *logits,
                              kv_error *err) {
    (void)logits;
    const kv_system *system = &session->system;
    struct storing storing = {session, pack, pack->cache_rows};
    kv_key_norms norms;
    kv_some_rows only;
    kv_pass pass = {.sequences = pack->sequences, .n_sequences = pack->n_seqs};
    if (session->turns) pass.cached = use_cache, pass.cached_for = &storing;
    if (reading->cached && !choose_new_rows(session, pack, reading, &only, &storing))
        return kv_fail(err, KV_ERR_MEMORY, "out of memory for a batch of sequences");
    const bool all = !reading->cached || only.n == pack->n_rows;
    kv_model_key_norms(system->base, &norms);
    kv_predict_along(session->tape, system->predictor, &norms, system->base, system->aux, pack->ids,
                     pack->n_new, &pass, all ? NULL : &only, store, &storing);
    return kv_tape_status(session->tape, err);
}

// ---- Prompts -------------------------------------------------------------------------------------------

// What is read of each sequence, and by whom.
struct split {
    const int64_t *prompts; // [n_seq] tokens of each prompt; 0: it rests
    int32_t *front, *newest;
    int64_t *read, *cached; // [n_seq] by the aux: tokens, and those that it has read before
    int64_t *ones;          // [n_seq] by the base: 1, or 0 of a sequence that rests
};

static int64_t front_of(int64_t prompt) {
    return prompt > 1 ? prompt - 1 : 0;
}

// All but the last token of each prompt, become predicted entries of the cache; before them the aux reads what it has
// not read of the sequence.
static kv_status predict_tokens(kv_session *session, const int32_t *ids, const struct split *p,
                                kv_error *err) {
    const kv_reading reading = {
        .ids = p->front, .lengths = p->read, .cached = session->turns ? p->cached : NULL};
    kv_status status = kv_read_packs(session, &reading, session->turns, predict_pack, NULL, err);
    for (int64_t s = 0; s < session->n_seq && status == KV_OK; ids += p->prompts[s++]) {
        const int64_t front = front_of(p->prompts[s]);
        if (front == 0) continue; // it rests, or its prompt is one token
        kv_turns_note(session, s, ids, front, true);
        session->lengths[s] += front;
        session->predicted[s] = true;
        if (session->turns) session->turns->n_read[s] = session->lengths[s];
    }
    return status;
}

// Splits each prompt into what the aux reads (`front`, behind what it has not read before) and the last token, which the
// base reads.
static void split_prompts(const kv_session *session, const int32_t *ids, struct split *p) {
    int32_t *front = p->front, *newest = p->newest;
    for (int64_t s = 0; s < session->n_seq; ids += p->prompts[s++]) {
        const int64_t n = front_of(p->prompts[s]), unread = n > 0 ? kv_session_unread(session, s) : 0;
        p->cached[s] = session->lengths[s] - unread;
        p->read[s] = unread + n;
        p->ones[s] = p->prompts[s] > 0;
        if (unread > 0)
            memcpy(front, session->turns->ids + s * session->capacity + p->cached[s],
                   (size_t)unread * sizeof *front);
        if (n > 0) memcpy(front + unread, ids, (size_t)n * sizeof *front);
        front += unread + n;
        if (p->prompts[s] > 0) *newest++ = ids[p->prompts[s] - 1];
    }
}

// How many tokens the aux has to read at most.
static int64_t most_read(const kv_session *session, const int64_t *prompts) {
    int64_t sum = 0;
    for (int64_t s = 0; s < session->n_seq; s++)
        if (prompts[s] > 1) sum += prompts[s] + kv_session_unread(session, s);
    return sum;
}

// Both halves; of sequences that were raised by the first when the second fails what they held before is left.
static kv_status read_split(kv_session *session, const int32_t *ids, const struct split *p, float *logits,
                            kv_error *err) {
    kv_status status = predict_tokens(session, ids, p, err);
    if (status != KV_OK) return status;
    const kv_reading last = {.ids = p->newest, .lengths = p->ones};
    status = kv_read_tokens(session, last, logits, err);
    for (int64_t s = 0; s < session->n_seq && status != KV_OK; s++)
        kv_rewind_sequence(session, s, session->lengths[s] - front_of(p->prompts[s]));
    return status;
}

kv_status kv_predicted_prefill(kv_session *session, const int32_t *ids, const int64_t *prompt_lengths,
                               float *logits, kv_error *err) {
    const size_t n_seq = (size_t)session->n_seq, room = (size_t)most_read(session, prompt_lengths) + n_seq;
    int32_t *tokens = malloc(room * sizeof *tokens);
    int64_t *lengths = malloc(3 * n_seq * sizeof *lengths);
    kv_status status = KV_ERR_MEMORY;
    if (tokens && lengths) {
        struct split p = {.prompts = prompt_lengths,
                          .newest = tokens,
                          .front = tokens + n_seq,
                          .read = lengths,
                          .cached = lengths + n_seq,
                          .ones = lengths + 2 * n_seq};
        split_prompts(session, ids, &p);
        status = read_split(session, ids, &p, logits, err);
    } else {
        kv_fail(err, KV_ERR_MEMORY, "out of memory for %zu prompt tokens", room);
    }
    free(tokens);
    free(lengths);
    return status;
}

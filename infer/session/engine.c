// What a session does for its callers: it holds a batch's cache, checks what it is given and sends prompts on
// their way, to be read (infer/session/read.c), predicted (predict.c) or pruned first (prune_prompt.c).
#include "infer/session/engine.h"

#include "data/system/memory.h"
#include "infer/session/session.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// ---- Creation ------------------------------------------------------------------------------------------

static void *allocate(size_t rows, int64_t cols, size_t size) {
    size_t n;
    return __builtin_mul_overflow(rows, (size_t)cols, &n) ? NULL : calloc(n, size);
}

// Pages are touched, and so taken from the system, only when a token is written to them.
static bool allocate_caches(kv_session *session, size_t rows) {
    const kv_model_spec *spec = &session->system.base->spec;
    session->lengths = calloc((size_t)session->n_seq, sizeof *session->lengths);
    session->predicted = calloc((size_t)session->n_seq, sizeof *session->predicted);
    session->k = calloc((size_t)spec->n_layers, sizeof *session->k);
    session->v = calloc((size_t)spec->n_layers, sizeof *session->v);
    session->parts = calloc((size_t)session->n_seq, sizeof *session->parts);
    if (!session->lengths || !session->predicted || !session->k || !session->v || !session->parts)
        return false;
    for (int64_t i = 0; i < spec->n_layers; i++) {
        session->k[i] = allocate(rows, kv_spec_kv_dim(spec, i), sizeof(float));
        session->v[i] = allocate(rows, kv_spec_kv_dim(spec, i), sizeof(float));
        if (!session->k[i] || !session->v[i]) return false;
    }
    return true;
}

// What the pruning policy remembers of each token.
static bool allocate_pruning(kv_session *session, size_t rows) {
    const kv_pruning *pruning = &session->system.pruning;
    if (pruning->kind == KV_PRUNE_STATIC || pruning->kind == KV_PRUNE_SPECULATIVE) {
        session->positions = allocate(rows, 1, sizeof *session->positions);
        if (!session->positions) return false;
    }
    if (pruning->kind == KV_PRUNE_LAZY) {
        session->depth = allocate(rows, 1, sizeof *session->depth);
        session->hidden = allocate(rows, session->system.base->spec.model_dim, sizeof(float));
        if (!session->depth || !session->hidden) return false;
    }
    if (pruning->kind != KV_PRUNE_SPECULATIVE) return true;
    const int64_t room = session->capacity + pruning->lookahead;
    session->draft_importance = allocate((size_t)session->n_seq, room, sizeof(float));
    return session->draft_importance &&
           kv_session_create(&(kv_system){.base = session->system.aux}, session->n_seq, room,
                             &session->drafter, NULL) == KV_OK;
}

static kv_status check_memory(const kv_system *system, int64_t n_seq, int64_t capacity, bool turns,
                              kv_error *err) {
    char what[80];
    const kv_model_spec *spec = &system->base->spec;
    double token = turns ? kv_turns_token_bytes(system) : 0;
    for (int64_t i = 0; i < spec->n_layers; i++) token += 2 * sizeof(float) * (double)kv_spec_kv_dim(spec, i);
    snprintf(what, sizeof what, "a cache of %lld x %lld tokens", (long long)n_seq, (long long)capacity);
    return kv_memory_check(token * (double)n_seq * (double)capacity, what, err);
}

static kv_status create(const kv_system *system, int64_t n_seq, int64_t capacity, bool turns,
                        kv_session **session, kv_error *err) {
    *session = NULL;
    kv_system resolved = *system;
    resolved.pruning = kv_pruning_resolved(&system->pruning);
    if (n_seq < 1 || capacity < 1)
        return kv_fail(err, KV_ERR_ARGUMENT,
                       "a session needs at least one sequence of one token, not %lld of %lld",
                       (long long)n_seq, (long long)capacity);
    kv_status status = kv_system_check(&resolved, capacity, err);
    if (status == KV_OK) status = check_memory(&resolved, n_seq, capacity, turns, err);
    if (status != KV_OK) return status;
    kv_session *s = calloc(1, sizeof *s);
    if (s) {
        s->system = resolved, s->n_seq = n_seq, s->capacity = capacity, s->not_finite = -1;
        s->tape = kv_tape_create();
    }
    size_t rows;
    if (!s || !s->tape || __builtin_mul_overflow((size_t)n_seq, (size_t)capacity, &rows) ||
        !allocate_caches(s, rows) || !allocate_pruning(s, rows) || (turns && !kv_turns_create(s))) {
        kv_session_free(s);
        return kv_fail(err, KV_ERR_MEMORY, "out of memory for a cache of %lld x %lld tokens",
                       (long long)n_seq, (long long)capacity);
    }
    kv_tape_set_recording(s->tape, false);
    *session = s;
    return KV_OK;
}

kv_status kv_session_create(const kv_system *system, int64_t n_seq, int64_t capacity, kv_session **session,
                            kv_error *err) {
    return create(system, n_seq, capacity, false, session, err);
}

kv_status kv_session_create_turns(const kv_system *system, int64_t n_seq, int64_t capacity,
                                  kv_session **session, kv_error *err) {
    return create(system, n_seq, capacity, true, session, err);
}

void kv_session_free(kv_session *session) {
    if (!session) return;
    kv_turns_free(session);
    for (int64_t i = 0; i < session->system.base->spec.n_layers; i++) {
        if (session->k) free(session->k[i]);
        if (session->v) free(session->v[i]);
    }
    free(session->k);
    free(session->v);
    free(session->lengths);
    free(session->predicted);
    free(session->positions);
    free(session->depth);
    free(session->hidden);
    free(session->draft_importance);
    kv_session_free(session->drafter);
    kv_tape_free(session->tape);
    for (int64_t i = 0; i < session->n_more_tapes; i++) kv_tape_free(session->more_tapes[i]);
    free(session->more_tapes);
    free(session->parts);
    free(session);
}

void kv_rewind_sequence(kv_session *session, int64_t s, int64_t length) {
    if (session->lengths[s] > length) session->lengths[s] = length;
    if (length == 0) session->predicted[s] = false;
    kv_turns_rewind(session, s);
}

void kv_session_rewind(kv_session *session, int64_t length) {
    for (int64_t s = 0; s < session->n_seq; s++) kv_rewind_sequence(session, s, length);
}

void kv_session_reset(kv_session *session) {
    kv_session_rewind(session, 0);
}

void kv_session_forget(kv_session *session, int64_t s) {
    kv_rewind_sequence(session, s, 0);
}

static void copy_rows(void *rows, int64_t to, int64_t from, int64_t n, size_t size) {
    if (rows) memcpy((char *)rows + (size_t)to * size, (char *)rows + (size_t)from * size, (size_t)n * size);
}

void kv_session_copy(kv_session *session, int64_t from, int64_t to) {
    const kv_model_spec *spec = &session->system.base->spec;
    const int64_t n = session->lengths[from], row = from * session->capacity, at = to * session->capacity;
    if (from == to) return;
    for (int64_t i = 0; i < spec->n_layers; i++) {
        const size_t size = (size_t)kv_spec_kv_dim(spec, i) * sizeof(float);
        copy_rows(session->k[i], at, row, n, size);
        copy_rows(session->v[i], at, row, n, size);
    }
    copy_rows(session->positions, at, row, n, sizeof *session->positions);
    copy_rows(session->depth, at, row, n, sizeof *session->depth);
    copy_rows(session->hidden, at, row, n, (size_t)spec->model_dim * sizeof *session->hidden);
    session->lengths[to] = n, session->predicted[to] = session->predicted[from];
    kv_turns_copy(session, from, to);
}

// ---- Questions -----------------------------------------------------------------------------------------

const kv_system *kv_session_system(const kv_session *session) {
    return &session->system;
}
int64_t kv_session_not_finite(const kv_session *session) {
    return session->not_finite;
}
int64_t kv_session_n_seq(const kv_session *session) {
    return session->n_seq;
}
int64_t kv_session_capacity(const kv_session *session) {
    return session->capacity;
}
int64_t kv_session_vocab_size(const kv_session *session) {
    return session->system.base->spec.vocab_size;
}

int64_t kv_session_length(const kv_session *session, int64_t s) {
    return kv_next_position(session, s);
}

bool kv_session_appends(const kv_session *session) {
    return session->turns || (!session->system.predictor && session->system.pruning.kind == KV_PRUNE_NONE);
}

int64_t kv_session_unread(const kv_session *session, int64_t s) {
    return session->lengths[s] - kv_turns_read(session, s);
}

static bool has_cache(const kv_session *session, int64_t layer, int64_t row) {
    return !session->depth || session->depth[row] > layer;
}

int64_t kv_session_cached(const kv_session *session, int64_t layer, int64_t s, int32_t *positions) {
    const int64_t first = s * session->capacity;
    int64_t n = 0;
    for (int64_t i = 0; i < session->lengths[s]; i++) {
        if (!has_cache(session, layer, first + i)) continue;
        if (positions) positions[n] = session->positions ? session->positions[first + i] : (int32_t)i;
        n++;
    }
    return n;
}

void kv_session_copy_cache(const kv_session *session, int64_t layer, int64_t s, float *k, float *v) {
    const int64_t dim = kv_spec_kv_dim(&session->system.base->spec, layer), first = s * session->capacity;
    for (int64_t i = 0; i < session->lengths[s]; i++) {
        if (!has_cache(session, layer, first + i)) continue;
        memcpy(k, session->k[layer] + (first + i) * dim, (size_t)dim * sizeof *k);
        memcpy(v, session->v[layer] + (first + i) * dim, (size_t)dim * sizeof *v);
        k += dim, v += dim;
    }
}

// ---- Reading -------------------------------------------------------------------------------------------

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

// Of those that are to read a prompt.
static kv_status check_empty(const kv_session *session, const int64_t *lengths, const char *what,
                             kv_error *err) {
    for (int64_t s = 0; s < session->n_seq; s++)
        if (lengths[s] > 0 && session->lengths[s] > 0)
            return kv_fail(err, KV_ERR_ARGUMENT, "sequence %lld: a %s prompt can only be read from the start",
                           (long long)s, what);
    return KV_OK;
}

// What the base has decoded and an aux reads later: base and aux may pad their vocabularies differently.
static kv_status check_unread(const kv_session *session, const int64_t *lengths, kv_error *err) {
    const int64_t vocab_size = session->system.aux->spec.vocab_size;
    for (int64_t s = 0; s < session->n_seq && session->turns; s++)
        for (int64_t t = kv_turns_read(session, s); lengths[s] > 1 && t < session->lengths[s]; t++) {
            const int32_t id = session->turns->ids[s * session->capacity + t];
            if (id >= vocab_size)
                return kv_fail(err, KV_ERR_RANGE,
                               "sequence %lld, token %lld: id %d is outside the aux's vocabulary of %lld",
                               (long long)s, (long long)t, id, (long long)vocab_size);
        }
    return KV_OK;
}

// Prompts by the system's way; lengths[s] 0: the sequence rests. On failure those that were to be read are forgotten
// where they could only begin, else what they held is left.
static kv_status read_prompts(kv_session *session, const int32_t *ids, const int64_t *lengths, float *logits,
                              kv_error *err) {
    int64_t n_ids;
    kv_status status =
        check_tokens(session, ids, lengths, kv_system_vocab_size(&session->system), &n_ids, err);
    if (status != KV_OK) return status;
    const bool predicted = session->system.predictor, pruned = session->system.pruning.kind != KV_PRUNE_NONE;
    if (!predicted && !pruned)
        return kv_read_tokens(session, (kv_reading){.ids = ids, .lengths = lengths}, logits, err);
    if (!kv_session_appends(session))
        status = check_empty(session, lengths, predicted ? "predicted" : "pruned", err);
    if (status == KV_OK && predicted) status = check_unread(session, lengths, err);
    if (status != KV_OK) return status;
    if (predicted) return kv_predicted_prefill(session, ids, lengths, logits, err);
    if (session->system.pruning.kind == KV_PRUNE_LAZY)
        status = kv_read_tokens(session, (kv_reading){.ids = ids, .lengths = lengths}, logits, err);
    else
        status = kv_pruned_prefill(session, ids, lengths, n_ids, logits, err);
    for (int64_t s = 0; s < session->n_seq && status != KV_OK; s++)
        if (lengths[s] > 0) kv_session_forget(session, s);
    return status;
}

static kv_status check_lengths(const kv_session *session, const int64_t *lengths, int64_t least,
                               kv_error *err) {
    for (int64_t s = 0; s < session->n_seq; s++)
        if (lengths[s] < least)
            return kv_fail(err, KV_ERR_ARGUMENT, "sequence %lld: a prompt needs at least one token, not %lld",
                           (long long)s, (long long)lengths[s]);
    return KV_OK;
}

kv_status kv_session_prefill(kv_session *session, const int32_t *ids, const int64_t *lengths, float *logits,
                             kv_error *err) {
    kv_status status = check_lengths(session, lengths, 1, err);
    return status == KV_OK ? read_prompts(session, ids, lengths, logits, err) : status;
}

kv_status kv_session_join(kv_session *session, const int32_t *ids, const int64_t *lengths, float *logits,
                          kv_error *err) {
    kv_status status = check_lengths(session, lengths, 0, err);
    if (status == KV_OK) status = check_empty(session, lengths, "joining", err);
    return status == KV_OK ? read_prompts(session, ids, lengths, logits, err) : status;
}

kv_status kv_session_append(kv_session *session, const int32_t *ids, const int64_t *lengths, float *logits,
                            kv_error *err) {
    kv_status status = check_lengths(session, lengths, 0, err);
    return status == KV_OK ? read_prompts(session, ids, lengths, logits, err) : status;
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

kv_status kv_session_read(kv_session *session, const int32_t *ids, const int64_t *lengths, float *hidden,
                          kv_error *err) {
    int64_t n_ids;
    if (session->system.pruning.kind == KV_PRUNE_LAZY)
        return kv_fail(err, KV_ERR_ARGUMENT, "behind a lazily pruned prompt tokens are read one by one");
    for (int64_t s = 0; s < session->n_seq; s++)
        if (lengths[s] < 0)
            return kv_fail(err, KV_ERR_ARGUMENT, "sequence %lld: found %lld tokens, expected none or more",
                           (long long)s, (long long)lengths[s]);
    // Only the base reads these.
    kv_status status = check_tokens(session, ids, lengths, kv_session_vocab_size(session), &n_ids, err);
    if (status != KV_OK) return status;
    const kv_reading reading = {.ids = ids, .lengths = lengths, .hidden = hidden};
    return kv_read_tokens(session, reading, NULL, err);
}

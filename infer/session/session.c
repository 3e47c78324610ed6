#include "infer/session/session.h"

#include <stdlib.h>
#include <string.h>

// ---- Checks --------------------------------------------------------------------------------------------

static kv_status check_context(const char *which, const kv_model_spec *spec, int64_t capacity,
                               kv_error *err) {
    if (capacity <= spec->context_length) return KV_OK;
    return kv_fail(err, KV_ERR_RANGE, "%lld tokens do not fit the %s's context of %lld", (long long)capacity,
                   which, (long long)spec->context_length);
}

static kv_status check_predictor(const kv_system *system, kv_error *err) {
    const kv_predictor *p = system->predictor;
    if (p->n_base_layers == system->base->spec.n_layers && p->n_aux_layers == system->aux->spec.n_layers)
        return KV_OK;
    return kv_fail(err, KV_ERR_MISMATCH,
                   "the predictor maps %lld aux layers to %lld base layers, the models have %lld and %lld",
                   (long long)p->n_aux_layers, (long long)p->n_base_layers,
                   (long long)system->aux->spec.n_layers, (long long)system->base->spec.n_layers);
}

static kv_status check_aux(const kv_system *system, int64_t capacity, kv_error *err) {
    const bool drafts = system->pruning.kind == KV_PRUNE_SPECULATIVE;
    const int64_t context = system->aux->spec.context_length, ahead = system->pruning.lookahead;
    if (drafts && (ahead > context || capacity > context - ahead))
        return kv_fail(err, KV_ERR_RANGE,
                       "%lld tokens and %lld to look ahead do not fit the aux's context of %lld",
                       (long long)capacity, (long long)ahead, (long long)context);
    kv_status status = check_context("aux", &system->aux->spec, capacity, err);
    if (status != KV_OK) return status;
    if (!drafts && !system->predictor) return kv_fail(err, KV_ERR_ARGUMENT, "an aux needs a predictor");
    return system->predictor ? check_predictor(system, err) : KV_OK;
}

// The system's pruning has its defaults filled in already.
static kv_status check_system(const kv_system *system, int64_t n_seq, int64_t capacity, kv_error *err) {
    if (n_seq < 1 || capacity < 1)
        return kv_fail(err, KV_ERR_ARGUMENT,
                       "a session needs at least one sequence of one token, not %lld of %lld",
                       (long long)n_seq, (long long)capacity);
    kv_status status = kv_pruning_check(&system->pruning, err);
    if (status != KV_OK) return status;
    if (system->pruning.kind != KV_PRUNE_NONE && system->predictor)
        return kv_fail(err, KV_ERR_ARGUMENT,
                       "a predicted cache has no prompt to prune: choose a predictor or pruning");
    if (system->pruning.kind == KV_PRUNE_SPECULATIVE && !system->aux)
        return kv_fail(err, KV_ERR_ARGUMENT, "speculative pruning needs an aux that looks ahead");
    status = check_context("base", &system->base->spec, capacity, err);
    return status == KV_OK && system->aux ? check_aux(system, capacity, err) : status;
}

// ---- Creation ------------------------------------------------------------------------------------------

static void *allocate(size_t rows, int64_t cols, size_t size) {
    size_t n;
    return __builtin_mul_overflow(rows, (size_t)cols, &n) ? NULL : calloc(n, size);
}

// Pages are touched, and so taken from the system, only when a token is written to them.
static bool allocate_caches(kv_session *session, size_t rows) {
    const kv_model_spec *spec = &session->system.base->spec;
    session->lengths = calloc((size_t)session->n_seq, sizeof *session->lengths);
    session->k = calloc((size_t)spec->n_layers, sizeof *session->k);
    session->v = calloc((size_t)spec->n_layers, sizeof *session->v);
    if (!session->lengths || !session->k || !session->v) return false;
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
    session->draft_received = allocate((size_t)session->n_seq, room, sizeof(float));
    return session->draft_received &&
           kv_session_create(&(kv_system){.base = session->system.aux}, session->n_seq, room,
                             &session->drafter, NULL) == KV_OK;
}

kv_status kv_session_create(const kv_system *system, int64_t n_seq, int64_t capacity, kv_session **session,
                            kv_error *err) {
    *session = NULL;
    kv_system resolved = *system;
    resolved.pruning = kv_pruning_resolved(&system->pruning);
    kv_status status = check_system(&resolved, n_seq, capacity, err);
    if (status != KV_OK) return status;
    kv_session *s = calloc(1, sizeof *s);
    if (s) {
        s->system = resolved, s->n_seq = n_seq, s->capacity = capacity;
        s->tape = kv_tape_create();
    }
    size_t rows;
    if (!s || !s->tape || __builtin_mul_overflow((size_t)n_seq, (size_t)capacity, &rows) ||
        !allocate_caches(s, rows) || !allocate_pruning(s, rows)) {
        kv_session_free(s);
        return kv_fail(err, KV_ERR_MEMORY, "out of memory for a cache of %lld x %lld tokens",
                       (long long)n_seq, (long long)capacity);
    }
    kv_tape_set_recording(s->tape, false);
    *session = s;
    return KV_OK;
}

void kv_session_free(kv_session *session) {
    if (!session) return;
    for (int64_t i = 0; i < session->system.base->spec.n_layers; i++) {
        if (session->k) free(session->k[i]);
        if (session->v) free(session->v[i]);
    }
    free(session->k);
    free(session->v);
    free(session->lengths);
    free(session->positions);
    free(session->depth);
    free(session->hidden);
    free(session->draft_received);
    kv_session_free(session->drafter);
    kv_tape_free(session->tape);
    free(session);
}

void kv_session_reset(kv_session *session) {
    memset(session->lengths, 0, (size_t)session->n_seq * sizeof *session->lengths);
}

void kv_session_rewind(kv_session *session, int64_t length) {
    for (int64_t s = 0; s < session->n_seq; s++)
        if (session->lengths[s] > length) session->lengths[s] = length;
}

// ---- Questions -----------------------------------------------------------------------------------------

int64_t kv_session_n_seq(const kv_session *session) {
    return session->n_seq;
}
int64_t kv_session_capacity(const kv_session *session) {
    return session->capacity;
}
int64_t kv_session_vocab_size(const kv_session *session) {
    return session->system.base->spec.vocab_size;
}

int64_t kv_system_vocab_size(const kv_system *system) {
    const int64_t base = system->base->spec.vocab_size;
    const int64_t aux = system->aux ? system->aux->spec.vocab_size : base;
    return aux < base ? aux : base;
}

int64_t kv_next_position(const kv_session *session, int64_t s) {
    const int64_t n = session->lengths[s];
    return session->positions && n > 0 ? session->positions[s * session->capacity + n - 1] + 1 : n;
}

int64_t kv_session_length(const kv_session *session, int64_t s) {
    return kv_next_position(session, s);
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

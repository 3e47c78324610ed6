// What a session holds of a sequence, handed out and taken back: entries of the base and of an aux, tokens, and which
// of them are predicted.
#include "infer/session/engine.h"
#include "infer/session/session.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// ---- Out -----------------------------------------------------------------------------------------------

static float *copy_of(const float *rows, int64_t n) {
    float *copy = malloc((size_t)(n > 0 ? n : 1) * sizeof *copy);
    if (copy && n > 0) memcpy(copy, rows, (size_t)n * sizeof *copy);
    return copy;
}

// first: the sequence's first row.
static bool give_cache(const kv_model_spec *spec, float *const *k, float *const *v, int64_t first,
                       int64_t n_layers, int64_t n_rows, kv_saved_cache *cache) {
    cache->n_layers = n_layers, cache->n_rows = n_rows;
    for (int64_t i = 0; i < n_layers; i++) {
        const int64_t dim = cache->dims[i] = kv_spec_kv_dim(spec, i);
        cache->k[i] = copy_of(k[i] + first * dim, n_rows * dim);
        cache->v[i] = copy_of(v[i] + first * dim, n_rows * dim);
        if (!cache->k[i] || !cache->v[i]) return false;
    }
    return true;
}

// Layers of an aux that has a cache of its own here.
static int64_t own_layers(const kv_session *session) {
    const kv_turns *turns = session->turns;
    return turns && !turns->of_base ? turns->n_layers : 0;
}

static bool give_all(const kv_session *session, int64_t s, kv_saved_prompt *p) {
    const kv_turns *turns = session->turns;
    const kv_model_spec *base = &session->system.base->spec;
    const int64_t first = s * session->capacity, n = session->lengths[s], n_layers = own_layers(session);
    p->n_ids = p->n_rows = n;
    p->ids = malloc((size_t)n * sizeof *p->ids);
    p->predicted = malloc((size_t)n);
    if (!p->ids || !p->predicted) return false;
    memcpy(p->ids, turns->ids + first, (size_t)n * sizeof *p->ids);
    for (int64_t t = 0; t < n; t++) p->predicted[t] = turns->predicted[first + t];
    if (!give_cache(base, session->k, session->v, first, base->n_layers, n, &p->base)) return false;
    return n_layers == 0 || give_cache(&session->system.aux->spec, turns->k, turns->v, first, n_layers,
                                       turns->n_read[s], &p->aux);
}

kv_status kv_session_save(const kv_session *session, int64_t s, kv_saved_prompt **prompt, kv_error *err) {
    *prompt = NULL;
    if (!session->turns)
        return kv_fail(err, KV_ERR_ARGUMENT, "only what a session for turns holds can be saved");
    if (session->lengths[s] < 1) return kv_fail(err, KV_ERR_ARGUMENT, "nothing has been read to be saved");
    kv_saved_prompt *p = calloc(1, sizeof *p);
    if (p && give_all(session, s, p)) {
        *prompt = p;
        return KV_OK;
    }
    kv_saved_prompt_free(p);
    return kv_fail(err, KV_ERR_MEMORY, "out of memory for a prompt of %lld tokens",
                   (long long)session->lengths[s]);
}

// ---- In ------------------------------------------------------------------------------------------------

static kv_status differs(const char *what, long long found, long long expected, kv_error *err) {
    return kv_fail(err, KV_ERR_MISMATCH, "a saved prompt of other models: %s %lld, expected %lld", what,
                   found, expected);
}

static kv_status check_cache(const char *whose, const kv_model_spec *spec, int64_t n_layers,
                             const kv_saved_cache *cache, kv_error *err) {
    char what[64];
    snprintf(what, sizeof what, "layers of the %s are", whose);
    if (cache->n_layers != n_layers) return differs(what, cache->n_layers, n_layers, err);
    snprintf(what, sizeof what, "keys of the %s have a width of", whose);
    for (int64_t i = 0; i < n_layers; i++)
        if (cache->dims[i] != kv_spec_kv_dim(spec, i))
            return differs(what, cache->dims[i], kv_spec_kv_dim(spec, i), err);
    return KV_OK;
}

static kv_status check_tokens(const kv_session *session, const kv_saved_prompt *p, kv_error *err) {
    const int64_t vocab_size = kv_session_vocab_size(session);
    if (p->n_rows > session->capacity)
        return kv_fail(err, KV_ERR_RANGE, "a saved prompt of %lld tokens does not fit the room for %lld",
                       (long long)p->n_rows, (long long)session->capacity);
    for (int64_t t = 0; t < p->n_rows; t++) {
        if (p->ids[t] < 0 || p->ids[t] >= vocab_size)
            return kv_fail(
                err, KV_ERR_MISMATCH,
                "a saved prompt of other models: token %lld has id %d, outside the vocabulary of %lld",
                (long long)t, p->ids[t], (long long)vocab_size);
        if (p->predicted[t] && !session->system.predictor)
            return kv_fail(err, KV_ERR_MISMATCH, "a saved prompt with predicted entries, expected none");
    }
    return KV_OK;
}

static kv_status check(const kv_session *session, const kv_saved_prompt *p, kv_error *err) {
    const kv_model_spec *base = &session->system.base->spec;
    const int64_t n_layers = own_layers(session);
    if (!session->turns)
        return kv_fail(err, KV_ERR_ARGUMENT, "only a session for turns can take a saved prompt");
    kv_status status = check_cache("base", base, base->n_layers, &p->base, err);
    if (status == KV_OK)
        status = check_cache("aux", n_layers ? &session->system.aux->spec : base, n_layers, &p->aux, err);
    if (status == KV_OK && (p->base.n_rows != p->n_rows || p->aux.n_rows > p->n_rows))
        status = differs("tokens with entries are", p->base.n_rows, p->n_rows, err);
    return status == KV_OK ? check_tokens(session, p, err) : status;
}

static void take_cache(const kv_saved_cache *cache, float *const *k, float *const *v, int64_t first) {
    for (int64_t i = 0; i < cache->n_layers; i++) {
        const size_t size = (size_t)(cache->n_rows * cache->dims[i]) * sizeof(float);
        memcpy(k[i] + first * cache->dims[i], cache->k[i], size);
        memcpy(v[i] + first * cache->dims[i], cache->v[i], size);
    }
}

kv_status kv_session_load(kv_session *session, int64_t s, const kv_saved_prompt *p, kv_error *err) {
    kv_status status = check(session, p, err);
    if (status != KV_OK) return status;
    kv_turns *turns = session->turns;
    const int64_t first = s * session->capacity;
    take_cache(&p->base, session->k, session->v, first);
    if (own_layers(session) > 0) take_cache(&p->aux, turns->k, turns->v, first);
    memcpy(turns->ids + first, p->ids, (size_t)p->n_rows * sizeof *p->ids);
    for (int64_t t = 0; t < p->n_rows; t++) turns->predicted[first + t] = p->predicted[t];
    turns->n_read[s] = own_layers(session) > 0 ? p->aux.n_rows : 0;
    session->lengths[s] = p->n_rows;
    kv_turns_rewind(session, s); // says whether any entry is predicted
    return KV_OK;
}

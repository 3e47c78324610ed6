// A loop around kv_session_decode: choose a token for each sequence, let those that are complete make room for others.
#include "infer/generate.h"

#include "data/system/console.h"

#include <omp.h>
#include <stdlib.h>
#include <string.h>

// Prompts wait until this part of the places is free: read together they take less time than one by one.
enum { PLACES_A_JOIN = 8 };

// So many logits are worth the threads' coming together to choose from.
enum { MANY_LOGITS = 1 << 18 };

struct decoding {
    kv_session *session;
    const kv_generation *how;
    const kv_prompts *prompts;
    int64_t n_seq, vocab_size, n_ids;
    int64_t n_places;          // the first sequences: those that answer
    int64_t n_taken, n_active; // prompts that have joined; sequences that go on
    kv_answers *answers;
    int64_t *prompt_of;             // [n_seq] whose answer it is
    int32_t *newest;                // [n_seq]
    bool *active, *joined;          // [n_seq]
    int64_t *lengths, *twin;        // [n_seq] of prompts that join; the sequence that reads the same one
    int32_t *ids;                   // of prompts that join, one after the other
    int64_t n_room;                 // for so many of those
    float *logits;                  // [n_seq, vocab_size]
    int n_threads;                  // that choose tokens
    kv_token_candidate *candidates; // [n_threads, vocab_size]; NULL when greedy
};

// ---- Tokens --------------------------------------------------------------------------------------------

static void choose_token(struct decoding *d, int64_t s, kv_token_candidate *candidates) {
    const int64_t i = d->prompt_of[s];
    const uint64_t stream = d->how->streams ? d->how->streams[i] : (uint64_t)i;
    d->newest[s] = kv_sample(d->logits + s * d->vocab_size, d->n_ids, &d->how->sampling, stream,
                             (uint64_t)d->answers->n_generated[i], candidates);
}

// What is drawn for a sequence hangs on nothing else, so that each thread may take any of them.
static void choose_tokens(struct decoding *d, const bool *which) {
    if (d->n_threads == 1) {
        for (int64_t s = 0; s < d->n_seq; s++)
            if (which[s]) choose_token(d, s, d->candidates);
        return;
    }
#pragma omp parallel num_threads(d->n_threads)
    {
        const int64_t room = omp_get_thread_num() * d->vocab_size;
#pragma omp for schedule(dynamic)
        for (int64_t s = 0; s < d->n_seq; s++)
            if (which[s]) choose_token(d, s, d->candidates ? d->candidates + room : NULL);
    }
}

// Appends the token chosen for sequence s, which may be its last.
static kv_status take_token(struct decoding *d, int64_t s, kv_error *err) {
    const kv_generation *how = d->how;
    const int64_t i = d->prompt_of[s], n = d->answers->n_generated[i] + 1;
    int32_t *row = d->answers->generated + i * how->max_tokens;
    row[n - 1] = d->newest[s];
    d->answers->n_generated[i] = n;
    bool stop = false;
    kv_status status = how->stop ? how->stop(how->context, i, row, n, &stop, err) : KV_OK;
    d->active[s] = status == KV_OK && !stop && n < how->max_tokens &&
                   kv_session_length(d->session, s) < kv_session_capacity(d->session);
    return status;
}

// The same of all sequences in `which`, whose logits are there.
static kv_status take_tokens(struct decoding *d, const bool *which, kv_error *err) {
    kv_status status = KV_OK;
    choose_tokens(d, which);
    for (int64_t s = 0; s < d->n_seq && status == KV_OK; s++)
        if (which[s]) status = take_token(d, s, err);
    d->n_active = 0;
    for (int64_t s = 0; s < d->n_seq; s++) d->n_active += d->active[s];
    return status;
}

// A failure of the session, which may be that a sequence's next token cannot be told.
static kv_status cannot_go_on(const struct decoding *d, kv_status status, kv_error *err) {
    if (status != KV_ERR_NOT_FINITE) return status;
    const int64_t n = d->answers->n_generated[d->prompt_of[kv_session_not_finite(d->session)]] + 1;
    return kv_fail_within(err, status, n == 1 ? "the first token of the answer" : "token %lld of the answer",
                          (long long)n);
}

// ---- Prompts that join ---------------------------------------------------------------------------------

static int64_t prompt_at(const kv_prompts *p, int64_t at) {
    return p->order ? p->order[at] : at;
}

static bool same_prompt(const kv_prompts *p, int64_t i, int64_t j) {
    return p->lengths[i] == p->lengths[j] &&
           !memcmp(p->ids[i], p->ids[j], (size_t)p->lengths[i] * sizeof *p->ids[i]);
}

static bool make_room(struct decoding *d, int64_t n) {
    if (n <= d->n_room) return true;
    int32_t *ids = realloc(d->ids, (size_t)n * sizeof *ids);
    if (!ids) return false;
    d->ids = ids, d->n_room = n;
    return true;
}

// Free sequences get the next prompts. What there is of them to be read goes to ids and lengths.
static bool seat(struct decoding *d) {
    const kv_prompts *p = d->prompts;
    int64_t n = 0, reader = -1; // reader: the sequence that read a prompt last
    for (int64_t s = 0; s < d->n_seq; s++) {
        d->lengths[s] = 0, d->twin[s] = -1;
        d->joined[s] = s < d->n_places && !d->active[s] && d->n_taken < p->n;
        if (!d->joined[s]) continue;
        const int64_t i = prompt_at(p, d->n_taken++);
        d->prompt_of[s] = i;
        kv_session_forget(d->session, s);
        if (reader >= 0 && same_prompt(p, d->prompt_of[reader], i)) {
            d->twin[s] = reader;
            continue;
        }
        reader = s;
        if (p->n_shared > 0) kv_session_copy(d->session, d->n_places, s);
        d->lengths[s] = p->lengths[i] - p->n_shared;
        if (!make_room(d, n + d->lengths[s])) return false;
        memcpy(d->ids + n, p->ids[i] + p->n_shared, (size_t)d->lengths[s] * sizeof *d->ids);
        n += d->lengths[s];
    }
    return true;
}

static kv_status join(struct decoding *d, kv_error *err) {
    if (!seat(d)) return kv_fail(err, KV_ERR_MEMORY, "out of memory for prompts");
    kv_status status = (d->prompts->n_shared > 0 ? kv_session_append : kv_session_join)(
        d->session, d->ids, d->lengths, d->logits, err);
    status = cannot_go_on(d, status, err);
    if (status != KV_OK) return status;
    for (int64_t s = 0; s < d->n_seq; s++) {
        if (d->twin[s] < 0) continue;
        kv_session_copy(d->session, d->twin[s], s);
        memcpy(d->logits + s * d->vocab_size, d->logits + d->twin[s] * d->vocab_size,
               (size_t)d->vocab_size * sizeof *d->logits);
    }
    return take_tokens(d, d->joined, err);
}

// Whether it is time for that.
static bool joins(const struct decoding *d) {
    const int64_t n_free = d->n_places - d->n_active;
    return d->n_taken < d->prompts->n && (d->n_active == 0 || n_free * PLACES_A_JOIN >= d->n_places);
}

// ---- All of it -----------------------------------------------------------------------------------------

// Until all that have joined, and all that wait, are complete.
static kv_status go_on(struct decoding *d, kv_error *err) {
    kv_status status = KV_OK;
    while (status == KV_OK) {
        while (status == KV_OK && joins(d)) status = join(d, err);
        if (status != KV_OK || d->n_active == 0) break;
        if (kv_console_interrupted()) return kv_fail(err, KV_ERR_INTERRUPTED, "interrupted");
        status = cannot_go_on(d, kv_session_decode(d->session, d->newest, d->active, d->logits, err), err);
        if (status == KV_OK) status = take_tokens(d, d->active, err);
    }
    return status;
}

static bool allocate(struct decoding *d) {
    const size_t n_seq = (size_t)d->n_seq, vocab_size = (size_t)d->vocab_size;
    const bool sampled = d->how->sampling.temperature > 0;
    d->prompt_of = calloc(n_seq, sizeof *d->prompt_of);
    d->newest = calloc(n_seq, sizeof *d->newest);
    d->active = calloc(n_seq, sizeof *d->active);
    d->joined = calloc(n_seq, sizeof *d->joined);
    d->lengths = calloc(n_seq, sizeof *d->lengths);
    d->twin = calloc(n_seq, sizeof *d->twin);
    d->logits = malloc(n_seq * vocab_size * sizeof *d->logits);
    const bool many = d->n_seq > 1 && d->n_seq * d->vocab_size >= MANY_LOGITS && !omp_in_parallel();
    d->n_threads = many ? omp_get_max_threads() : 1;
    if (sampled) d->candidates = malloc((size_t)d->n_threads * vocab_size * sizeof *d->candidates);
    return d->prompt_of && d->newest && d->active && d->joined && d->lengths && d->twin && d->logits &&
           (!sampled || d->candidates);
}

static void release(struct decoding *d) {
    free(d->prompt_of);
    free(d->newest);
    free(d->active);
    free(d->joined);
    free(d->lengths);
    free(d->twin);
    free(d->ids);
    free(d->logits);
    free(d->candidates);
}

// Checks `how` and makes room; max_tokens 0 leaves nothing to do.
static kv_status begin(struct decoding *d, kv_session *session, const kv_prompts *prompts,
                       const kv_generation *how, kv_error *err) {
    d->session = session, d->prompts = prompts, d->how = how;
    d->n_seq = kv_session_n_seq(session), d->vocab_size = kv_session_vocab_size(session);
    d->n_places = d->n_seq - (prompts->n_shared > 0);
    d->n_ids = how->n_ids ? how->n_ids : d->vocab_size;
    for (int64_t at = 0; at < prompts->n; at++) d->answers->n_generated[prompt_at(prompts, at)] = 0;
    if (d->n_ids < 1 || d->n_ids > d->vocab_size)
        return kv_fail(err, KV_ERR_ARGUMENT, "%lld ids to draw from, expected at most the vocabulary's %lld",
                       (long long)d->n_ids, (long long)d->vocab_size);
    kv_status status = kv_sampling_check(&how->sampling, err);
    if (status == KV_OK && !allocate(d))
        status = kv_fail(err, KV_ERR_MEMORY, "out of memory for the logits of %lld sequences",
                         (long long)d->n_seq);
    return status;
}

kv_status kv_generate(kv_session *session, const int32_t *ids, const int64_t *lengths,
                      const kv_generation *how, int32_t *generated, int64_t *n_generated, kv_error *err) {
    const kv_prompts all = {.n = kv_session_n_seq(session)};
    kv_answers answers = {.generated = generated, .n_generated = n_generated};
    struct decoding d = {.answers = &answers, .n_taken = all.n};
    kv_status status = begin(&d, session, &all, how, err);
    if (status == KV_OK && how->max_tokens > 0) {
        if (!how->append) kv_session_reset(session);
        for (int64_t s = 0; s < d.n_seq; s++) d.prompt_of[s] = s, d.active[s] = true;
        status = cannot_go_on(&d, kv_session_prefill(session, ids, lengths, d.logits, err), err);
        if (status == KV_OK) status = take_tokens(&d, d.active, err);
        if (status == KV_OK) status = go_on(&d, err);
    }
    release(&d);
    return status;
}

static kv_status check_shared(const kv_session *session, const kv_prompts *prompts, kv_error *err) {
    const int64_t n_shared = prompts->n_shared, last = kv_session_n_seq(session) - 1;
    if (n_shared == 0) return KV_OK;
    if (last < 1 || !kv_session_appends(session) || kv_session_length(session, last) != n_shared)
        return kv_fail(err, KV_ERR_ARGUMENT,
                       "a session whose last sequence holds the %lld tokens that prompts share is needed",
                       (long long)n_shared);
    for (int64_t at = 0; at < prompts->n; at++) {
        const int64_t i = prompt_at(prompts, at);
        if (prompts->lengths[i] <= n_shared)
            return kv_fail(err, KV_ERR_ARGUMENT,
                           "prompt %lld: expected more than the %lld tokens that all share, found %lld",
                           (long long)i, (long long)n_shared, (long long)prompts->lengths[i]);
    }
    return KV_OK;
}

static kv_status check_prompts(const kv_prompts *prompts, kv_error *err) {
    for (int64_t at = 0; at < prompts->n; at++) {
        const int64_t i = prompt_at(prompts, at);
        if (prompts->lengths[i] < 1)
            return kv_fail(err, KV_ERR_ARGUMENT, "prompt %lld: expected at least one token, found %lld",
                           (long long)i, (long long)prompts->lengths[i]);
    }
    return KV_OK;
}

kv_status kv_generate_in_turn(kv_session *session, const kv_prompts *prompts, const kv_generation *how,
                              kv_answers *answers, kv_error *err) {
    struct decoding d = {.answers = answers};
    kv_status status = check_prompts(prompts, err);
    if (status == KV_OK) status = check_shared(session, prompts, err);
    if (status == KV_OK) status = begin(&d, session, prompts, how, err);
    if (status == KV_OK && how->max_tokens > 0) {
        for (int64_t s = 0; s < d.n_places; s++) kv_session_forget(session, s);
        status = go_on(&d, err);
        if (status == KV_ERR_NOT_FINITE) answers->failed = d.prompt_of[kv_session_not_finite(session)];
    }
    release(&d);
    return status;
}

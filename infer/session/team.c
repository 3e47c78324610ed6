// All packs of a reading: one after the other, each by all threads, or (small models) side by side, each by one thread
// from its first layer to its logits, so that the threads meet once instead of in every operator.
//
//   thread 0    pack 0, pack 2, …     on the session's own tape
//   thread 1    pack 1, pack 3, …     on another one; the cache is the same, in rows that no other pack has
#include "core/gemm.h"
#include "infer/session/session.h"

#include <omp.h>
#include <stdatomic.h>
#include <stdlib.h>

struct team {
    kv_session *session;
    const kv_reading *reading;
    bool in_cache;
    kv_pack_fn *read;
    float *logits;
    int64_t n_parts;
    atomic_int_fast64_t failed; // the first part that did; n_parts: none
    kv_status status;           // of that part
    int64_t not_finite;
    kv_error error;
};

static kv_status read_part(struct team *t, kv_session *session, const kv_part *part, kv_error *err) {
    kv_reading own = *t->reading;
    kv_pack pack;
    own.ids += part->before;
    if (own.positions) own.positions += part->before;
    if (own.hidden) own.hidden += part->before * session->system.base->spec.model_dim;
    kv_tape_reset(session->tape);
    if (!kv_pack_fill(session, &own, t->in_cache, part, &pack))
        return kv_fail(err, KV_ERR_MEMORY, "out of memory for a batch of sequences");
    return pack.n_seqs ? t->read(session, &pack, &own, t->logits, err) : KV_OK;
}

// ---- Side by side ----------------------------------------------------------------------------------------

// Each pack to the thread that has the fewest rows so far: nobody waits for who comes first.
static void deal_out(kv_part *parts, int64_t n_parts, int64_t *rows, int64_t n_threads) {
    for (int64_t t = 0; t < n_threads; t++) rows[t] = 0;
    for (int64_t i = 0; i < n_parts; i++) {
        int64_t least = 0;
        for (int64_t t = 1; t < n_threads; t++)
            if (rows[t] < rows[least]) least = t;
        parts[i].thread = least;
        rows[least] += parts[i].rows;
    }
}

static bool make_tapes(kv_session *session, int64_t n) {
    if (n <= session->n_more_tapes) return true;
    kv_tape **tapes = realloc(session->more_tapes, (size_t)n * sizeof(kv_tape *));
    if (!tapes) return false;
    session->more_tapes = tapes;
    while (session->n_more_tapes < n) {
        kv_tape *tape = kv_tape_create();
        if (!tape) return false;
        kv_tape_set_recording(tape, false);
        tapes[session->n_more_tapes++] = tape;
    }
    return true;
}

// Tables of angles grow before the threads begin: they are the models'.
static bool reach(kv_model *model, int64_t n) {
    kv_rope *rope = model ? model->rope : NULL;
    return !rope || kv_rope_reach(rope, n < rope->n_positions ? n : rope->n_positions);
}

static bool reach_all(kv_session *session, const kv_reading *reading) {
    int64_t most = 1;
    for (int64_t s = 0; s < session->n_seq; s++) {
        const int64_t before =
            reading->cached ? reading->cached[s] : kv_next_position(session, s); // of positions
        const int64_t n = before + reading->lengths[s];
        most = n > most ? n : most;
    }
    if (reading->positions) most = session->capacity;
    return reach(session->system.base, most) && reach(session->system.aux, most);
}

static void note(struct team *t, int64_t part, kv_status status, int64_t not_finite, const kv_error *err) {
#pragma omp critical(kv_team)
    if (part < atomic_load(&t->failed)) {
        atomic_store(&t->failed, part);
        t->status = status, t->not_finite = not_finite, t->error = *err;
    }
}

// The packs of one thread.
static void read_own(struct team *t, int64_t thread) {
    kv_session own = *t->session;
    if (thread > 0) own.tape = own.more_tapes[thread - 1];
    for (int64_t i = 0; i < t->n_parts && i < atomic_load(&t->failed); i++) {
        kv_error err = {0};
        if (own.parts[i].thread != thread) continue;
        const kv_status status = read_part(t, &own, &own.parts[i], &err);
        if (status != KV_OK) note(t, i, status, own.not_finite, &err);
    }
}

static void read_together(struct team *t, int64_t n_threads) {
    const bool invariant = kv_gemm_batch_invariant(false);
    kv_gemm_batch_invariant(invariant);
#pragma omp parallel num_threads((int)n_threads)
    {
        const bool before = kv_gemm_batch_invariant(invariant);
        omp_set_num_threads(1); // of each thread of the region, while it lasts
        for (int64_t i = omp_get_thread_num(); i < n_threads; i += omp_get_num_threads()) read_own(t, i);
        kv_gemm_batch_invariant(before);
    }
}

static kv_status read_side_by_side(struct team *t, int64_t n_threads, kv_error *err) {
    atomic_store(&t->failed, t->n_parts);
    if (n_threads > 1)
        read_together(t, n_threads);
    else
        read_own(t, 0);
    if (atomic_load(&t->failed) == t->n_parts) return KV_OK;
    t->session->not_finite = t->not_finite;
    if (err) *err = t->error;
    return t->status;
}

// ---- Both ------------------------------------------------------------------------------------------------

static int64_t find_parts(kv_session *session, const kv_reading *reading) {
    int64_t n_reading = 0, n = 0, before = 0;
    for (int64_t s = 0; s < session->n_seq; s++) n_reading += reading->lengths[s] > 0;
    const kv_pack_size limit = kv_pack_limit(&session->system, n_reading);
    for (int64_t next = 0; next < session->n_seq; next = session->parts[n++].end) {
        session->parts[n] = kv_pack_part(session, reading, &limit, next);
        session->parts[n].before = before;
        before += session->parts[n].n_new;
    }
    return n;
}

kv_status kv_read_packs(kv_session *session, const kv_reading *reading, bool in_cache, kv_pack_fn *read,
                        float *logits, kv_error *err) {
    struct team t = {
        .session = session, .reading = reading, .in_cache = in_cache, .read = read, .logits = logits};
    t.n_parts = find_parts(session, reading);
    if (t.n_parts > 1 && kv_reads_apart(&session->system)) {
        enum { MOST = 1024 };
        int64_t rows[MOST], n_threads = omp_in_parallel() ? 1 : omp_get_max_threads();
        if (n_threads > t.n_parts) n_threads = t.n_parts;
        if (n_threads > MOST) n_threads = MOST;
        deal_out(session->parts, t.n_parts, rows, n_threads);
        if (!make_tapes(session, n_threads - 1) || !reach_all(session, reading))
            return kv_fail(err, KV_ERR_MEMORY, "out of memory for a batch of sequences");
        return read_side_by_side(&t, n_threads, err);
    }
    const int threads = omp_get_max_threads();
    const bool alone = t.n_parts == 1 && kv_reads_alone(&session->system, session->parts[0].rows);
    kv_status status = KV_OK;
    if (alone) omp_set_num_threads(1);
    for (int64_t i = 0; i < t.n_parts && status == KV_OK; i++)
        status = read_part(&t, session, &session->parts[i], err);
    if (alone) omp_set_num_threads(threads);
    return status;
}

// Each thread has a session of its own, whose places are taken by the next document as soon as one ends. Documents are
// handed on in order: those that are done before their turn wait.
#include "infer/draw.h"

#include "core/flops.h"
#include "core/gemm.h"
#include "infer/memory.h"
#include "infer/session/engine.h"

#include <omp.h>
#include <stdlib.h>
#include <string.h>

// A document that waits for its turn; ids NULL: it is still being drawn.
struct finished {
    int32_t *ids;
    int64_t n;
};

// What the threads share, behind one lock.
struct drawing {
    const kv_document_plan *plan;
    kv_take_document_fn *take;
    kv_going_on_fn *going_on;
    void *context;
    int64_t first, stride;    // document first + i · stride is the i-th
    int64_t unbegun, end;     // the next to be begun, behind the last
    int64_t turn;             // the next to be handed on
    struct finished *waiting; // [room], the i-th at i mod room
    int64_t room;
    int64_t n_tokens;
    bool over;
    kv_status status;
    kv_error err;
};

// A document that is being drawn. ids [room]: the opening and what was drawn; the session has read `n_read` of them.
struct place {
    int64_t number; // -1: nothing is drawn here
    int64_t turn;   // it is the turn-th document
    int32_t *ids;
    int64_t n, n_read;
};

struct worker {
    struct drawing *shared;
    kv_session *session;
    int64_t n_places, vocab_size;
    struct place *places;
    int32_t *newest;                // [n_places]
    bool *active;                   // [n_places]
    float *logits;                  // [n_places, vocab_size]
    kv_token_candidate *candidates; // [vocab_size]
    int64_t n_drawn;                // since the last report
};

static int64_t longest(const kv_document_plan *plan) {
    return plan->n_before + plan->max_tokens;
}

// ---- What the threads share ----------------------------------------------------------------------------

static void fail_all(struct drawing *d, kv_status status, const kv_error *err) {
    if (d->status == KV_OK) d->status = status, d->err = *err;
    d->over = true;
}

static bool make_room(struct drawing *d, int64_t room) {
    if (room <= d->room) return true;
    int64_t larger = d->room ? d->room : 64;
    while (larger < room) larger *= 2;
    struct finished *waiting = calloc((size_t)larger, sizeof *waiting);
    if (!waiting) return false;
    for (int64_t i = d->turn; i < d->turn + d->room; i++) waiting[i % larger] = d->waiting[i % d->room];
    free(d->waiting);
    d->waiting = waiting;
    d->room = larger;
    return true;
}

// Hands on all whose turn it is.
static kv_status hand_on(struct drawing *d, kv_error *err) {
    for (struct finished *f; d->room && !d->over && (f = &d->waiting[d->turn % d->room])->ids;) {
        bool enough = false;
        kv_status status = d->take(d->context, d->first + d->turn * d->stride, f->ids, f->n, &enough, err);
        free(f->ids);
        *f = (struct finished){0};
        d->turn++;
        if (status != KV_OK) return status;
        if (enough || d->turn == d->end) d->over = true;
    }
    return KV_OK;
}

static kv_status lay_aside(struct drawing *d, const struct place *place, kv_error *err) {
    const int64_t n_before = d->plan->n_before, n = place->n - n_before;
    int32_t *ids = malloc((size_t)n * sizeof *ids);
    if (!ids || !make_room(d, place->turn - d->turn + 1)) {
        free(ids);
        return kv_fail(err, KV_ERR_MEMORY, "out of memory for documents");
    }
    memcpy(ids, place->ids + n_before, (size_t)n * sizeof *ids);
    d->waiting[place->turn % d->room] = (struct finished){ids, n};
    return hand_on(d, err);
}

// ---- One thread ----------------------------------------------------------------------------------------

static void begin(struct worker *w, int64_t s) {
    struct drawing *d = w->shared;
    struct place *place = &w->places[s];
    const kv_document_plan *plan = d->plan;
    const bool one_more = d->unbegun < d->end;
    place->turn = d->unbegun;
    place->number = one_more ? d->first + d->unbegun * d->stride : -1;
    d->unbegun += one_more;
    place->n = plan->n_opening, place->n_read = 0;
    memcpy(place->ids, plan->opening, (size_t)plan->n_opening * sizeof *place->ids);
    kv_session_forget(w->session, s);
}

static bool ends(const kv_document_plan *plan, int32_t id) {
    for (int64_t i = 0; i < plan->n_ends; i++)
        if (plan->ends[i] == id) return true;
    return kv_spec_ends(&plan->model->spec, id);
}

// Draws the next token of a document that the model has read to its end; whether it is complete.
static bool draw(struct worker *w, int64_t s) {
    const kv_document_plan *plan = w->shared->plan;
    struct place *place = &w->places[s];
    const int64_t left = longest(plan) - place->n;
    int32_t id = plan->closing;
    if (left > 1 || id < 0)
        id = kv_sample(w->logits + s * w->vocab_size, plan->n_ids, &plan->sampling, (uint64_t)place->number,
                       (uint64_t)(place->n - plan->n_before), w->candidates);
    if (id == plan->next && place->n > plan->n_before && !ends(plan, id)) return true;
    place->ids[place->n++] = id;
    w->n_drawn++;
    return left == 1 || ends(plan, id);
}

// A token of each document goes through the model; those that have been read to their end get another.
static kv_status step(struct worker *w, kv_error *err) {
    for (int64_t s = 0; s < w->n_places; s++) {
        struct place *place = &w->places[s];
        w->active[s] = place->number >= 0;
        w->newest[s] = w->active[s] ? place->ids[place->n_read++] : 0;
    }
    kv_status status = kv_session_decode(w->session, w->newest, w->active, w->logits, err);
    if (status == KV_ERR_NOT_FINITE) {
        const struct place *place = &w->places[kv_session_not_finite(w->session)];
        return kv_fail_within(err, status, "document %lld, token %lld", (long long)place->number,
                              (long long)(place->n_read - w->shared->plan->n_before));
    }
    return status;
}

// Complete documents are laid aside, and others begin in their places. *working: something is drawn here.
static kv_status exchange(struct worker *w, const bool *complete, bool *working, kv_error *err) {
    struct drawing *d = w->shared;
    kv_status status = KV_OK;
    *working = false;
    for (int64_t s = 0; s < w->n_places && status == KV_OK && !d->over; s++) {
        struct place *place = &w->places[s];
        if (complete && complete[s]) status = lay_aside(d, place, err);
        if (status == KV_OK && (!complete || complete[s])) begin(w, s);
        *working |= place->number >= 0;
    }
    d->n_tokens += w->n_drawn;
    w->n_drawn = 0;
    if (status == KV_OK && !d->over && !d->going_on(d->context, d->n_tokens)) d->over = true;
    *working &= !d->over;
    return status;
}

// The lock around exchange(); failures are everyone's.
static bool exchange_locked(struct worker *w, const bool *complete) {
    bool working;
    kv_error err = {0};
#pragma omp critical(kv_documents)
    {
        kv_status status = exchange(w, complete, &working, &err);
        if (status != KV_OK) fail_all(w->shared, status, &err), working = false;
    }
    return working;
}

static void work(struct worker *w, bool *complete) {
    for (bool working = exchange_locked(w, NULL); working; working = exchange_locked(w, complete)) {
        kv_error err = {0};
        kv_status status = step(w, &err);
        if (status != KV_OK) {
#pragma omp critical(kv_documents)
            fail_all(w->shared, status, &err);
            return;
        }
        for (int64_t s = 0; s < w->n_places; s++) {
            const struct place *place = &w->places[s];
            complete[s] = place->number >= 0 && place->n_read == place->n && draw(w, s);
        }
    }
}

static bool allocate(struct worker *w, int32_t **ids, bool **complete) {
    const size_t n = (size_t)w->n_places, vocab_size = (size_t)w->vocab_size;
    const int64_t room = longest(w->shared->plan);
    w->places = calloc(n, sizeof *w->places);
    w->newest = calloc(n, sizeof *w->newest);
    w->active = calloc(n, sizeof *w->active);
    w->logits = malloc(n * vocab_size * sizeof *w->logits);
    w->candidates = malloc(vocab_size * sizeof *w->candidates);
    *ids = malloc(n * (size_t)room * sizeof **ids);
    *complete = calloc(n, sizeof **complete);
    if (!w->places || !w->newest || !w->active || !w->logits || !w->candidates || !*ids || !*complete)
        return false;
    for (size_t s = 0; s < n; s++)
        w->places[s] = (struct place){.number = -1, .ids = *ids + (int64_t)s * room};
    return true;
}

// All that a thread does, with a share of the batch.
static void take_part(struct drawing *d, int64_t n_places) {
    const kv_system system = {.base = d->plan->model};
    struct worker w = {.shared = d, .n_places = n_places, .vocab_size = d->plan->model->spec.vocab_size};
    int32_t *ids = NULL;
    bool *complete = NULL;
    kv_error err = {0};
    kv_status status = KV_OK;
    if (!allocate(&w, &ids, &complete))
        status = kv_fail(&err, KV_ERR_MEMORY, "out of memory for the logits of %lld documents",
                         (long long)n_places);
    if (status == KV_OK) status = kv_session_create(&system, n_places, longest(d->plan), &w.session, &err);
    if (status == KV_OK) {
        work(&w, complete);
    } else {
#pragma omp critical(kv_documents)
        fail_all(d, status, &err);
    }
    kv_session_free(w.session);
    free(w.places);
    free(w.newest);
    free(w.active);
    free(w.logits);
    free(w.candidates);
    free(ids);
    free(complete);
}

// ---- All of it -----------------------------------------------------------------------------------------

static kv_status check_plan(const kv_document_plan *plan, kv_error *err) {
    const kv_model_spec *spec = &plan->model->spec;
    kv_status status = kv_sampling_check(&plan->sampling, err);
    if (status != KV_OK) return status;
    if (plan->n_opening < 1 || plan->n_before < 0 || plan->n_before > plan->n_opening)
        return kv_fail(err, KV_ERR_ARGUMENT,
                       "a document needs a token that the model has read before the first drawn one");
    if (plan->n_ids < 1 || plan->n_ids > spec->vocab_size)
        return kv_fail(err, KV_ERR_ARGUMENT, "%lld ids to draw from, expected at most the vocabulary's %lld",
                       (long long)plan->n_ids, (long long)spec->vocab_size);
    if (longest(plan) <= plan->n_opening)
        return kv_fail(err, KV_ERR_ARGUMENT,
                       "documents of %lld tokens, expected more than the %lld they begin with",
                       (long long)plan->max_tokens, (long long)(plan->n_opening - plan->n_before));
    if (longest(plan) > spec->context_length)
        return kv_fail(err, KV_ERR_RANGE,
                       "documents of %lld tokens, expected at most the context of the model, %lld",
                       (long long)longest(plan), (long long)spec->context_length);
    // The table of angles grows when somebody looks beyond its end: before the threads share it.
    if (!kv_rope_reach(plan->model->rope, longest(plan)))
        return kv_fail(err, KV_ERR_MEMORY, "out of memory for the angles of %lld positions",
                       (long long)longest(plan));
    return KV_OK;
}

kv_status kv_draw_documents(const kv_document_plan *plan, int64_t first, int64_t stride, int64_t n,
                            int64_t batch, kv_take_document_fn *take, kv_going_on_fn *going_on, void *context,
                            kv_error *err) {
    kv_status status = check_plan(plan, err);
    if (status != KV_OK || n == 0) return status;
    if (n > 0 && batch > n) batch = n;
    struct drawing d = {.plan = plan,
                        .take = take,
                        .going_on = going_on,
                        .context = context,
                        .first = first,
                        .stride = stride,
                        .end = n < 0 ? INT64_MAX : n};
    const int most = omp_get_max_threads(), n_threads = batch < most ? (int)batch : most;
#pragma omp parallel num_threads(n_threads)
    {
        // Within a thread nothing is shared out: it is alone with its sequences.
        const int64_t t = omp_get_thread_num(), all = omp_get_num_threads();
        omp_set_num_threads(1);
        const bool before = kv_gemm_batch_invariant(true);
        take_part(&d, batch / all + (t < batch % all));
        kv_gemm_batch_invariant(before);
    }
    for (int64_t i = 0; i < d.room; i++) free(d.waiting[i].ids);
    free(d.waiting);
    if (d.status != KV_OK && err) *err = d.err;
    return d.status;
}

// ---- What it takes -------------------------------------------------------------------------------------

uint64_t kv_document_flops(const kv_document_plan *plan, int64_t n) {
    uint64_t sum = 0;
    for (int64_t read = 0; read + 1 < plan->n_before + n; read++)
        sum += kv_flops_decode(&plan->model->spec, read);
    return sum;
}

// As within a thread of kv_draw_documents.
static double session_bytes(const kv_document_plan *plan, int64_t places) {
    const int n_threads = omp_get_max_threads();
    const bool before = kv_gemm_batch_invariant(true);
    omp_set_num_threads(1);
    const double bytes = kv_answer_bytes(&(kv_system){.base = plan->model}, places, 1, longest(plan) - 1);
    omp_set_num_threads(n_threads);
    kv_gemm_batch_invariant(before);
    return bytes;
}

double kv_document_bytes(const kv_document_plan *plan, int64_t batch, int64_t n_threads) {
    const int64_t all = n_threads < batch ? n_threads : batch, places = (batch + all - 1) / all;
    const double vocab_size = (double)plan->model->spec.vocab_size;
    const double tokens = (double)longest(plan) * (double)places;
    // While the oldest document becomes as long as it may, as many tokens are drawn in every other place, and wait: at
    // most 36 bytes each, in documents of two.
    return (double)all * (session_bytes(plan, places) + sizeof(kv_token_candidate) * vocab_size +
                          (sizeof(int32_t) + 36) * tokens + 64 * (double)places);
}

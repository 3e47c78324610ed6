// Drawing, by one process or by ranks. Documents are dealt out by their numbers, one to each rank in turn; rank 0 puts what all
// have drawn in order again and into the store, so that what is on disk is what one process would have there, and any other
// number of ranks goes on with it.
//
// While they draw, ranks meet every second: they hand over what is complete, and learn whether it is enough, and whether one has
// failed or was asked to stop. All of that is the first thread's, which is the one that may.
#include "data/kvdata/sample/sample.h"

#include "data/ranks/ranks.h"
#include "data/system/buffers.h"
#include "data/system/console.h"

#include <inttypes.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const double meeting_seconds = 1;

// What a rank says at a meeting.
struct report {
    int64_t n_tokens; // drawn by it since this run began
    bool failed, signalled, finished;
};

// Documents of one rank, end to end: their length, their tokens. Those before `read` are in the store.
struct queue {
    kv_ids ids;
    size_t read;
};

struct drawing {
    const sample_goal *goal;
    sample_store *store;
    kv_progress progress;
    int64_t n_tokens;       // drawn by this rank
    struct queue mine;      // drawn, not handed over yet
    struct report *reports; // [n_ranks]
    struct queue *queues;   // [n_ranks], rank 0's
    int turn;               // whose document is the next of the store
    double met;             // when the last meeting was
    bool stop;              // found there: it is enough, or one has failed or was asked to stop
    kv_status status;       // of a meeting: the same on all ranks
    kv_error err;
};

static bool reached(const struct drawing *d) {
    return sample_reached(d->goal, d->store->n_documents, d->store->n_tokens);
}

static void show(struct drawing *d, int64_t n_tokens) {
    const double seconds = kv_now() - d->progress.started;
    char note[96], rate[32];
    kv_count_text((double)n_tokens / (seconds > 0 ? seconds : 1), rate);
    snprintf(note, sizeof note, "%s  %s tokens/s", d->goal->documents ? "documents" : "tokens", rate);
    kv_progress_show(&d->progress, d->goal->documents ? d->store->n_documents : d->store->n_tokens, note);
}

// ---- Handing over --------------------------------------------------------------------------------------

static kv_status add_document(struct queue *queue, const int32_t *ids, int64_t n, kv_error *err) {
    kv_status status = kv_ids_reserve(&queue->ids, (size_t)n + 1, err);
    if (status) return status;
    int32_t *to = queue->ids.data + queue->ids.length;
    to[0] = (int32_t)n;
    memcpy(to + 1, ids, (size_t)n * sizeof *ids);
    queue->ids.length += (size_t)n + 1;
    return KV_OK;
}

// What has been read makes room for more.
static kv_status append(struct queue *queue, const int32_t *ids, size_t n, kv_error *err) {
    const size_t left = queue->ids.length - queue->read;
    if (queue->read > 0)
        memmove(queue->ids.data, queue->ids.data + queue->read, left * sizeof *queue->ids.data);
    queue->ids.length = left, queue->read = 0;
    if (n == 0) return KV_OK;
    kv_status status = kv_ids_reserve(&queue->ids, n, err);
    if (status) return status;
    memcpy(queue->ids.data + left, ids, n * sizeof *ids);
    queue->ids.length += n;
    return KV_OK;
}

// As long as the next document of all is there, and wanted.
static kv_status store_in_order(struct drawing *d, kv_error *err) {
    kv_status status = KV_OK;
    while (!status && !reached(d)) {
        struct queue *queue = &d->queues[d->turn];
        if (queue->read == queue->ids.length) break;
        const int32_t *document = queue->ids.data + queue->read;
        status = sample_store_add(d->store, document + 1, document[0], err);
        queue->read += (size_t)document[0] + 1;
        d->turn = (d->turn + 1) % kv_n_ranks();
    }
    return status;
}

// all: what the ranks have handed over, end to end.
static kv_status take_over(struct drawing *d, const char *all, const size_t *sizes, kv_error *err) {
    kv_status status = KV_OK;
    for (int r = 0; r < kv_n_ranks() && !status; r++) {
        status = append(&d->queues[r], (const int32_t *)(const void *)all, sizes[r] / sizeof(int32_t), err);
        all += sizes[r];
    }
    return status ? status : store_in_order(d, err);
}

static kv_status hand_over(struct drawing *d, kv_error *err) {
    char *all = NULL;
    size_t *sizes = calloc((size_t)kv_n_ranks(), sizeof *sizes);
    kv_status status = sizes ? KV_OK : kv_fail(err, KV_ERR_MEMORY, "out of memory");
    status = kv_ranks_agree(status, err);
    if (!status)
        status = kv_ranks_collect(d->mine.ids.data, d->mine.ids.length * sizeof(int32_t), &all, sizes, err);
    if (!status) {
        d->mine.ids.length = 0;
        status = kv_ranks_agree(kv_rank_leads() ? take_over(d, all, sizes, err) : KV_OK, err);
    }
    free(all);
    free(sizes);
    return status;
}

// ---- Meetings ------------------------------------------------------------------------------------------

// Collective. What is to be drawn at all, as rank 0's store says.
static void tell(struct drawing *d) {
    int64_t counts[] = {d->store->n_documents, d->store->n_tokens};
    kv_ranks_broadcast(counts, sizeof counts, 0);
    d->store->n_documents = counts[0], d->store->n_tokens = counts[1];
}

// Collective.
static void meet(struct drawing *d, bool failed, bool finished) {
    const struct report mine = {d->n_tokens, failed, kv_console_interrupted(), finished};
    struct report all = {.finished = true};
    kv_ranks_gather(&mine, sizeof mine, d->reports);
    for (int r = 0; r < kv_n_ranks(); r++) {
        const struct report *one = &d->reports[r];
        all.n_tokens += one->n_tokens;
        all.failed = all.failed || one->failed;
        all.signalled = all.signalled || one->signalled;
        all.finished = all.finished && one->finished;
    }
    if (all.signalled) kv_ranks_interrupted(); // all know of it from here on
    d->status = hand_over(d, &d->err);
    tell(d);
    d->stop = d->status || all.failed || all.signalled || all.finished || reached(d);
    show(d, all.n_tokens);
    d->met = kv_now();
}

// ---- Drawing -------------------------------------------------------------------------------------------

static kv_status take(void *context, int64_t number, const int32_t *ids, int64_t n, bool *enough,
                      kv_error *err) {
    struct drawing *d = context;
    (void)number;
    if (kv_n_ranks() > 1) return add_document(&d->mine, ids, n, err);
    kv_status status = sample_store_add(d->store, ids, n, err);
    *enough = reached(d);
    return status;
}

static bool go_on(void *context, int64_t n_tokens) {
    struct drawing *d = context;
    d->n_tokens = n_tokens;
    if (kv_n_ranks() == 1) {
        show(d, n_tokens);
        return !kv_console_interrupted();
    }
    if (!d->stop && omp_get_thread_num() == 0 && kv_now() - d->met >= meeting_seconds) meet(d, false, false);
    return !d->stop;
}

static kv_status draw_share(struct drawing *d, const kv_document_plan *plan, int64_t first, int64_t batch,
                            kv_error *err) {
    const int64_t n_ranks = kv_n_ranks(), rank = kv_rank();
    const int64_t left = d->goal->documents - d->store->n_documents;
    const int64_t n = !d->goal->documents ? -1 : left > rank ? (left - rank + n_ranks - 1) / n_ranks : 0;
    kv_status status =
        kv_draw_documents(plan, first + d->store->n_documents + rank, n_ranks, n, batch, take, go_on, d, err);
    if (n_ranks == 1) return status;
    // Who is done first waits for the others.
    while (!d->stop) meet(d, status != KV_OK, true);
    if (d->status) {
        if (err) *err = d->err;
        return d->status;
    }
    return kv_ranks_agree(status, err);
}

static kv_status begin(struct drawing *d, kv_error *err) {
    const size_t n = (size_t)kv_n_ranks();
    d->reports = calloc(n, sizeof *d->reports);
    d->queues = calloc(n, sizeof *d->queues);
    d->met = kv_now();
    kv_status status = d->reports && d->queues ? KV_OK : kv_fail(err, KV_ERR_MEMORY, "out of memory");
    return kv_ranks_agree(status, err);
}

static void end(struct drawing *d) {
    for (int r = 0; d->queues && r < kv_n_ranks(); r++) kv_ids_free(&d->queues[r].ids);
    kv_ids_free(&d->mine.ids);
    free(d->queues);
    free(d->reports);
}

kv_status sample_draw(sample_store *store, const kv_document_plan *plan, const sample_goal *goal,
                      int64_t first, int64_t batch, kv_error *err) {
    struct drawing d = {.goal = goal, .store = store};
    tell(&d);
    if (reached(&d)) return KV_OK;
    if (store->n_documents > 0)
        fprintf(stderr, "kvdata: going on behind %" PRIi64 " documents, %" PRIi64 " tokens\n",
                store->n_documents, store->n_tokens);
    kv_status status = begin(&d, err);
    kv_progress_begin(&d.progress, stderr, "sample", goal->documents ? goal->documents : goal->tokens);
    if (!status) status = draw_share(&d, plan, first, batch, err);
    end(&d);
    kv_error kept = {0};
    const kv_status flushed = kv_ranks_agree(sample_store_flush(store, &kept), &kept);
    kv_progress_end(&d.progress, goal->documents ? "documents" : "tokens");
    if (!status && flushed) return kv_fail(err, flushed, "%s", kept.message);
    if (status || reached(&d)) return status;
    return kv_fail(err, KV_ERR_INTERRUPTED,
                   "interrupted: %" PRIi64 " documents, %" PRIi64
                   " tokens are kept; the same command goes on from there",
                   store->n_documents, store->n_tokens);
}

// A few buckets are under way at a time, each with buffers of its own; the others wait for one of them, while backward goes on.
// Nothing here waits but kv_exchange_finish and kv_exchange_parameters: between the operators of backward MPI is only asked.
#include "train/run/exchange.h"

#include "data/ranks/ranks.h"
#include "data/system/console.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { BUCKET = KV_EXCHANGE_BUCKET, SLOTS = KV_EXCHANGE_SLOTS, LINE = 16 };

// A bucket on its way.
struct slot {
    float *values;   // [bucket size], this rank's, then the sums
    float *received; // [n_ranks, own piece]
    kv_ranks_request *request;
};

struct kv_exchange {
    kv_param *const *params;
    int64_t n_params;
    bool sharded;
    int64_t total, n_buckets, bucket_size;
    int64_t *begins;  // [n_params + 1]: where parameters begin, last to first: that of n_params - 1 at 0
    int64_t *missing; // [n_buckets]: numbers whose gradients are not complete yet
    // Of the buckets in their order: those that are begun, that have arrived and are added up, that are done with.
    int64_t n_begun, n_added, n_done;
    int64_t *pieces;   // [n_ranks + 1], of the bucket that is begun
    kv_param **sorted; // [n_params] by address
    int64_t *places;   // [n_params]: the index of sorted[i]
    kv_param_span *spans;
    int64_t n_spans;
    struct slot slots[SLOTS];
    kv_grad_watcher watcher;
    double asked; // when the last tick ended
    double waited;
};

// ---- What lies where -----------------------------------------------------------------------------------

static int64_t bucket_begin(const kv_exchange *e, int64_t bucket) {
    const int64_t begin = bucket * e->bucket_size;
    return begin < e->total ? begin : e->total;
}

// Pieces begin at whole cache lines.
static int64_t piece_begin(int64_t size, int64_t rank) {
    const int64_t begin = kv_share_begin((size + LINE - 1) / LINE, (int)rank) * LINE;
    return begin < size ? begin : size;
}

// The parameter that number `at` of all belongs to.
static int64_t param_at(const kv_exchange *e, int64_t at) {
    int64_t low = 0, high = e->n_params - 1;
    while (low < high) {
        const int64_t middle = (low + high + 1) / 2;
        if (e->begins[middle] <= at)
            low = middle;
        else
            high = middle - 1;
    }
    return low;
}

// Calls fn for each stretch of a parameter in [begin, end): elements [from, from + n) of params[param], which are the numbers
// behind `begin` + done.
typedef void stretch_fn(kv_exchange *e, int64_t param, int64_t from, int64_t n, float *values);
static void for_stretches(kv_exchange *e, int64_t begin, int64_t end, float *values, stretch_fn *fn) {
    for (int64_t at = begin, i = begin < end ? param_at(e, begin) : 0; at < end; i++) {
        const int64_t stop = e->begins[i + 1] < end ? e->begins[i + 1] : end;
        if (stop > at)
            fn(e, e->n_params - 1 - i, at - e->begins[i], stop - at, values ? values + (at - begin) : NULL);
        at = stop;
    }
}

static void take_gradients(kv_exchange *e, int64_t param, int64_t from, int64_t n, float *values) {
    memcpy(values, e->params[param]->grad + from, (size_t)n * sizeof *values);
}

static void put_gradients(kv_exchange *e, int64_t param, int64_t from, int64_t n, float *values) {
    memcpy(e->params[param]->grad + from, values, (size_t)n * sizeof *values);
}

static void take_weights(kv_exchange *e, int64_t param, int64_t from, int64_t n, float *values) {
    memcpy(values, (const float *)e->params[param]->data + from, (size_t)n * sizeof *values);
}

static void put_weights(kv_exchange *e, int64_t param, int64_t from, int64_t n, float *values) {
    memcpy((float *)e->params[param]->data + from, values, (size_t)n * sizeof *values);
}

static void count_span(kv_exchange *e, int64_t param, int64_t from, int64_t n, float *values) {
    (void)values;
    if (e->spans) e->spans[e->n_spans] = (kv_param_span){param, from, from + n};
    e->n_spans++;
}

// ---- Buckets on their way ------------------------------------------------------------------------------

static struct slot *slot_of(kv_exchange *e, int64_t bucket) {
    return &e->slots[bucket % SLOTS];
}

static void cut(kv_exchange *e, int64_t bucket) {
    const int64_t size = bucket_begin(e, bucket + 1) - bucket_begin(e, bucket);
    for (int r = 0; r <= kv_n_ranks(); r++) e->pieces[r] = piece_begin(size, r);
}

static void begin(kv_exchange *e, int64_t bucket) {
    struct slot *s = slot_of(e, bucket);
    cut(e, bucket);
    for_stretches(e, bucket_begin(e, bucket), bucket_begin(e, bucket + 1), s->values, take_gradients);
    s->request = kv_ranks_begin_scatter(s->values, e->pieces, s->received);
}

// In the order of the ranks, whatever arrived first; a block at a time, which stays in the cache meanwhile.
static void add_up(const kv_exchange *e, struct slot *s) {
    enum { BLOCK = LINE * LINE * LINE };
    const int64_t first = e->pieces[kv_rank()], n = e->pieces[kv_rank() + 1] - first;
    float *sums = s->values + first;
    const float *received = s->received;
    const int n_ranks = kv_n_ranks();
#pragma omp parallel for schedule(static) if (n > BLOCK)
    for (int64_t at = 0; at < n; at += BLOCK) {
        const int64_t size = n - at < BLOCK ? n - at : BLOCK;
        float *restrict sum = sums + at;
        memcpy(sum, received + at, (size_t)size * sizeof *sum);
        for (int r = 1; r < n_ranks; r++) {
            const float *restrict more = received + r * n + at;
            for (int64_t i = 0; i < size; i++) sum[i] += more[i];
        }
    }
}

// What has arrived is added up, and goes on its way back.
static void turn_round(kv_exchange *e, int64_t bucket) {
    struct slot *s = slot_of(e, bucket);
    kv_ranks_wait(s->request);
    s->request = NULL;
    cut(e, bucket);
    add_up(e, s);
    if (!e->sharded) s->request = kv_ranks_begin_spread(s->values, e->pieces);
}

static void put_down(kv_exchange *e, int64_t bucket) {
    struct slot *s = slot_of(e, bucket);
    const int64_t first = bucket_begin(e, bucket), last = bucket_begin(e, bucket + 1);
    kv_ranks_wait(s->request);
    s->request = NULL;
    if (!e->sharded) {
        for_stretches(e, first, last, s->values, put_gradients);
        return;
    }
    cut(e, bucket);
    const int64_t from = e->pieces[kv_rank()], to = e->pieces[kv_rank() + 1];
    for_stretches(e, first + from, first + to, s->values + from, put_gradients);
}

// Does one thing that can be done without waiting; false: there is none. Each kind is done in the order of the buckets, which
// is the same on all ranks; they may mix as they like, since scatters and spreads do not wait for one another.
static bool advance(kv_exchange *e) {
    if (e->n_done < e->n_added && kv_ranks_done(slot_of(e, e->n_done)->request)) {
        put_down(e, e->n_done++);
        return true;
    }
    if (e->n_added < e->n_begun && kv_ranks_done(slot_of(e, e->n_added)->request)) {
        turn_round(e, e->n_added++);
        return true;
    }
    if (e->n_begun < e->n_buckets && e->missing[e->n_begun] == 0 && e->n_begun - e->n_done < SLOTS) {
        begin(e, e->n_begun++);
        return true;
    }
    return false;
}

// Asking longer than until nothing more is ready was tried, for up to a fifth of backward: no more messages got through.
static void tick(void *exchange) {
    while (advance(exchange)) {
    }
}

static int64_t index_of(const kv_exchange *e, const kv_param *param) {
    int64_t low = 0, high = e->n_params - 1;
    while (low < high) {
        const int64_t middle = (low + high) / 2;
        if ((uintptr_t)e->sorted[middle] < (uintptr_t)param)
            low = middle + 1;
        else
            high = middle;
    }
    assert(e->sorted[low] == param);
    return e->places[low];
}

static void ready(void *exchange, const kv_param *param) {
    kv_exchange *e = exchange;
    const int64_t i = e->n_params - 1 - index_of(e, param), end = e->begins[i + 1];
    for (int64_t at = e->begins[i]; at < end;) {
        const int64_t bucket = at / e->bucket_size, stop = bucket_begin(e, bucket + 1);
        const int64_t n = (stop < end ? stop : end) - at;
        e->missing[bucket] -= n;
        at += n;
    }
    tick(e);
}

// ---- A step --------------------------------------------------------------------------------------------

void kv_exchange_begin(kv_exchange *e) {
    e->n_begun = e->n_added = e->n_done = 0;
    for (int64_t b = 0; b < e->n_buckets; b++) e->missing[b] = bucket_begin(e, b + 1) - bucket_begin(e, b);
}

const kv_grad_watcher *kv_exchange_watcher(const kv_exchange *e) {
    return &e->watcher;
}

void kv_exchange_finish(kv_exchange *e) {
    const double started = kv_now();
    for (int64_t b = e->n_begun; b < e->n_buckets; b++) e->missing[b] = 0;
    for (int64_t looks = 0; e->n_done < e->n_buckets;) {
        if (advance(e))
            looks = 0;
        else
            kv_ranks_rest(&looks);
    }
    e->waited = kv_now() - started;
}

double kv_exchange_waited(const kv_exchange *e) {
    return e->waited;
}

void kv_exchange_parameters(kv_exchange *e) {
    const double started = kv_now();
    for (int64_t b = 0; b < e->n_buckets + SLOTS; b++) {
        struct slot *s = slot_of(e, b);
        const int64_t before = b - SLOTS;
        if (before >= 0 && before < e->n_buckets) {
            kv_ranks_wait(s->request);
            s->request = NULL;
            for_stretches(e, bucket_begin(e, before), bucket_begin(e, before + 1), s->values, put_weights);
        }
        if (b >= e->n_buckets) continue;
        cut(e, b);
        const int64_t first = bucket_begin(e, b), from = e->pieces[kv_rank()], to = e->pieces[kv_rank() + 1];
        for_stretches(e, first + from, first + to, s->values + from, take_weights);
        s->request = kv_ranks_begin_spread(s->values, e->pieces);
    }
    e->waited += kv_now() - started;
}

// ---- Setting up ----------------------------------------------------------------------------------------

static int by_address(const void *a, const void *b, void *params) {
    kv_param *const *p = params;
    const uintptr_t x = (uintptr_t)p[*(const int64_t *)a], y = (uintptr_t)p[*(const int64_t *)b];
    return (x > y) - (x < y);
}

static int by_param(const void *a, const void *b) {
    const kv_param_span *x = a, *y = b;
    return x->param != y->param ? (x->param > y->param) - (x->param < y->param)
                                : (x->begin > y->begin) - (x->begin < y->begin);
}

static void list_spans(kv_exchange *e) {
    e->n_spans = 0;
    for (int64_t b = 0; b < e->n_buckets; b++) {
        const int64_t first = bucket_begin(e, b);
        cut(e, b);
        for_stretches(e, first + e->pieces[kv_rank()], first + e->pieces[kv_rank() + 1], NULL, count_span);
    }
}

static bool make_spans(kv_exchange *e) {
    list_spans(e);
    e->spans = malloc((size_t)(e->n_spans + 1) * sizeof *e->spans);
    if (!e->spans) return false;
    list_spans(e);
    qsort(e->spans, (size_t)e->n_spans, sizeof *e->spans, by_param);
    return true;
}

static bool make_lists(kv_exchange *e) {
    const size_t n = (size_t)e->n_params;
    e->begins = malloc((n + 1) * sizeof *e->begins);
    e->sorted = malloc((n + 1) * sizeof(*e->sorted));
    e->places = malloc((n + 1) * sizeof *e->places);
    if (!e->begins || !e->sorted || !e->places) return false;
    e->begins[0] = 0;
    for (int64_t i = 0; i < e->n_params; i++) {
        e->begins[i + 1] = e->begins[i] + kv_param_size(e->params[e->n_params - 1 - i]);
        e->places[i] = i;
    }
    e->total = e->begins[n];
    qsort_r(e->places, n, sizeof *e->places, by_address, (void *)e->params);
    for (int64_t i = 0; i < e->n_params; i++) e->sorted[i] = e->params[e->places[i]];
    return true;
}

static int64_t bucket_numbers(int64_t total) {
    return total < BUCKET ? (total > 0 ? total : 1) : BUCKET;
}

static bool make_slots(kv_exchange *e) {
    e->bucket_size = bucket_numbers(e->total);
    e->n_buckets = (e->total + e->bucket_size - 1) / e->bucket_size;
    e->missing = calloc((size_t)e->n_buckets + 1, sizeof *e->missing);
    e->pieces = malloc((size_t)(kv_n_ranks() + 1) * sizeof *e->pieces);
    if (!e->missing || !e->pieces) return false;
    const int64_t piece = piece_begin(e->bucket_size, 1) + LINE;
    for (int i = 0; i < SLOTS && i < e->n_buckets; i++) {
        e->slots[i].values = malloc((size_t)e->bucket_size * sizeof(float));
        e->slots[i].received = malloc((size_t)(piece * kv_n_ranks()) * sizeof(float));
        if (!e->slots[i].values || !e->slots[i].received) return false;
    }
    return true;
}

kv_status kv_exchange_create(kv_param *const *params, int64_t n, bool sharded, kv_exchange **exchange,
                             kv_error *err) {
    *exchange = NULL;
    kv_exchange *e = calloc(1, sizeof *e);
    if (e) {
        *e = (kv_exchange){.params = params, .n_params = n, .sharded = sharded};
        e->watcher =
            (kv_grad_watcher){.params = params, .n_params = n, .ready = ready, .tick = tick, .context = e};
        if (make_lists(e) && make_slots(e) && make_spans(e)) {
            *exchange = e;
            return KV_OK;
        }
    }
    kv_exchange_free(e);
    return kv_fail(err, KV_ERR_MEMORY, "out of memory for the sums of gradients over ranks");
}

void kv_exchange_free(kv_exchange *e) {
    if (!e) return;
    for (int i = 0; i < SLOTS; i++) {
        free(e->slots[i].values);
        free(e->slots[i].received);
    }
    free(e->begins);
    free(e->missing);
    free(e->pieces);
    free(e->sorted);
    free(e->places);
    free(e->spans);
    free(e);
}

const kv_param_span *kv_exchange_spans(const kv_exchange *e, int64_t *n_spans) {
    *n_spans = e->n_spans;
    return e->spans;
}

double kv_exchange_bytes(double n_weights, int n_ranks) {
    const double bucket = n_weights < BUCKET ? n_weights : BUCKET, buckets = ceil(n_weights / bucket);
    if (n_ranks == 1 || n_weights <= 0) return 0;
    return fmin(buckets, SLOTS) * (2 * bucket + 2.0 * LINE * n_ranks) * sizeof(float);
}

double kv_exchange_traffic(double n_weights, int n_ranks) {
    return 2 * n_weights * sizeof(float) * (n_ranks - 1) / n_ranks;
}

// A slice has its tape and gradients; threads take slices, and their sums are added up in the slices' order.
#include "core/slices.h"

#include <assert.h>
#include <omp.h>
#include <stdatomic.h>
#include <stdlib.h>

struct kv_slices {
    int64_t n, n_looking, n_tapes;        // slices of a pass that differentiates, of one that only looks
    kv_tape *tapes[KV_MAX_SLICES];        // [n_tapes], one for each thread
    kv_param_grads *grads[KV_MAX_SLICES]; // [n], or none where there is one slice
    double losses[KV_MAX_SLICES];
    kv_status statuses[KV_MAX_SLICES];
    kv_error errors[KV_MAX_SLICES];
    kv_param **params; // [n_params]
    int64_t n_params;
    kv_grad_watcher watcher; // all zero: none
};

// ---- How many ------------------------------------------------------------------------------------------

// Fewer slices than SOME leave threads idle, more than that cost as many additions of gradients, which is nothing beside
// ENOUGH tokens each. Larger models than SMALL have operators that are worth sharing, and weights that slices would each
// have to bring from memory; gradients of all slices are not to take more than GRADIENTS numbers.
enum { LEAST = 4, SOME = 8, ENOUGH = 192, SMALL = 1 << 23, GRADIENTS = 1 << 26 };

int64_t kv_slice_count(const kv_slice_shape *shape) {
    const int64_t tokens = shape->n_seq * shape->seq_len;
    int64_t most = tokens / ENOUGH;
    most = most < SOME ? SOME : most > KV_MAX_SLICES ? KV_MAX_SLICES : most;
    const int64_t each = (shape->n_seq + most - 1) / most, n = (shape->n_seq + each - 1) / each;
    const bool small = shape->n_weights <= SMALL && n * shape->n_trained <= GRADIENTS;
    // Angles of more positions than a table begins with are worked out as they are met, for all who read it.
    return small && n >= LEAST && shape->seq_len <= KV_ROPE_AT_ONCE ? n : 1;
}

// ---- Setting up ----------------------------------------------------------------------------------------

// As many as threads may work on so many slices at the same time.
static bool make_tapes(kv_slices *s, int64_t n_slices) {
    const int64_t n_threads = omp_get_max_threads(), n = n_threads < n_slices ? n_threads : n_slices;
    while (s->n_tapes < n && (s->tapes[s->n_tapes] = kv_tape_create()) != NULL) s->n_tapes++;
    return s->n_tapes >= n;
}

kv_status kv_slices_create(kv_param *const *params, int64_t n_params, int64_t n_slices, kv_slices **slices,
                           kv_error *err) {
    assert(n_slices >= 1 && n_slices <= KV_MAX_SLICES);
    *slices = NULL;
    kv_slices *s = calloc(1, sizeof *s);
    bool ok = s != NULL;
    if (ok) s->n = s->n_looking = n_slices;
    if (ok) ok = (s->params = malloc((size_t)(n_params + 1) * sizeof(*s->params))) != NULL;
    for (int64_t i = 0; ok && i < n_params; i++) s->params[s->n_params++] = params[i];
    ok = ok && make_tapes(s, n_slices);
    for (int64_t i = 0; ok && n_slices > 1 && i < n_slices; i++)
        ok = (s->grads[i] = kv_param_grads_create(params, n_params)) != NULL;
    if (ok) {
        *slices = s;
        return KV_OK;
    }
    kv_slices_free(s);
    return kv_fail(err, KV_ERR_MEMORY, "out of memory");
}

void kv_slices_free(kv_slices *slices) {
    if (!slices) return;
    for (int64_t i = 0; i < KV_MAX_SLICES; i++) {
        kv_tape_free(slices->tapes[i]);
        kv_param_grads_free(slices->grads[i]);
    }
    free(slices->params);
    free(slices);
}

kv_status kv_slices_look_in(kv_slices *slices, int64_t n_slices, kv_error *err) {
    assert(n_slices >= 1 && n_slices <= KV_MAX_SLICES);
    if (!make_tapes(slices, n_slices)) return kv_fail(err, KV_ERR_MEMORY, "out of memory");
    slices->n_looking = n_slices;
    return KV_OK;
}

void kv_slices_set_checkpointing(kv_slices *slices, bool on) {
    for (int64_t i = 0; i < slices->n_tapes; i++) kv_tape_set_checkpointing(slices->tapes[i], on);
}

void kv_slices_set_watcher(kv_slices *slices, const kv_grad_watcher *watcher) {
    slices->watcher = watcher ? *watcher : (kv_grad_watcher){0};
    if (slices->n == 1) kv_tape_set_watcher(slices->tapes[0], watcher);
}

size_t kv_slices_peak(const kv_slices *slices) {
    size_t bytes = 0;
    for (int64_t i = 0; i < slices->n_tapes; i++) bytes += kv_arena_peak(kv_tape_arena(slices->tapes[i]));
    for (int64_t i = 0; i < slices->n; i++)
        if (slices->grads[i]) bytes += kv_param_grads_peak(slices->grads[i]);
    return bytes;
}

// ---- Running -------------------------------------------------------------------------------------------

// One pass over a batch.
struct pass {
    kv_slices *slices;
    const kv_batch *batch;
    kv_slice_fn *fn;
    void *context;
    int64_t n; // slices of this batch
    double n_valid;
    bool backward;
    atomic_bool failed;
};

static kv_slice slice_of(const struct pass *p, int64_t index) {
    const int64_t first = kv_slice_begin(p->batch->n_seq, p->n, index),
                  end = kv_slice_begin(p->batch->n_seq, p->n, index + 1);
    kv_slice slice = {.index = index, .first_seq = first, .batch = *p->batch};
    slice.batch.input_ids += first * p->batch->seq_len;
    slice.batch.target_ids += first * p->batch->seq_len;
    slice.batch.n_seq = end - first;
    slice.batch.n_valid = p->n_valid;
    slice.batch.given = NULL;
    return slice;
}

static void run_slice(struct pass *p, int64_t index, kv_tape *tape) {
    kv_slices *s = p->slices;
    kv_error *err = &s->errors[index];
    const kv_slice slice = slice_of(p, index);
    kv_tape_reset(tape);
    kv_tape_set_recording(tape, p->backward);
    kv_tape_set_grads(tape, s->grads[index]);
    if (p->backward && s->grads[index]) kv_param_grads_clear(s->grads[index]);
    kv_tensor *loss = p->fn(p->context, tape, &slice);
    kv_status status = kv_tape_status(tape, err);
    if (status == KV_OK) {
        s->losses[index] = (double)loss->data[0];
        if (p->backward) status = kv_tape_backward(tape, loss, err);
    }
    s->statuses[index] = status;
    if (status != KV_OK) atomic_store(&p->failed, true);
}

// Within a slice an operator has one thread, and scratch memory for one.
static void run_slices(struct pass *p) {
    kv_slices *s = p->slices;
#pragma omp parallel num_threads((int)s->n_tapes)
    {
        omp_set_num_threads(1);
        // In order: when one failed, all before it have begun, and tell whether they are the first.
#pragma omp for schedule(monotonic : dynamic)
        for (int64_t i = 0; i < p->n; i++)
            if (!atomic_load(&p->failed)) run_slice(p, i, s->tapes[omp_get_thread_num()]);
    }
}

static kv_status run(struct pass *p, double *loss, kv_error *err) {
    kv_slices *s = p->slices;
    const int64_t wanted = p->backward ? s->n : s->n_looking;
    p->n = wanted < p->batch->n_seq ? wanted : p->batch->n_seq;
    p->n_valid = kv_batch_valid(p->batch);
    *loss = 0;
    for (int64_t i = 0; i < p->n; i++) s->statuses[i] = KV_OK;
    if (wanted == 1 && p->n == 1)
        run_slice(p, 0, s->tapes[0]);
    else if (wanted > 1)
        run_slices(p);
    for (int64_t i = 0; i < p->n; i++) {
        if (s->statuses[i] != KV_OK) {
            if (err) *err = s->errors[i];
            return s->statuses[i];
        }
        *loss += s->losses[i];
    }
    return KV_OK;
}

// Where the group of params begins that ends at `end`: enough to be worth waking threads for.
static int64_t group_begin(const kv_slices *s, int64_t end) {
    enum { GROUP = 1 << 18 };
    int64_t begin = end, size = 0;
    while (begin > 0 && size < GROUP) size += kv_param_size(s->params[--begin]);
    return begin;
}

static kv_status add_up_watched(kv_slices *s, int64_t n, kv_error *err) {
    kv_grad_watch *watch = kv_grad_watch_begin(kv_tape_arena(s->tapes[0]), &s->watcher);
    if (!watch) return kv_fail(err, KV_ERR_MEMORY, "out of memory for a list of parameters");
    for (int64_t begin, end = s->n_params; end > 0; end = begin) {
        begin = group_begin(s, end);
        kv_param_grads_add_up(s->grads, n, s->params + begin, end - begin);
        for (int64_t i = end - 1; i >= begin; i--) kv_grad_watch_ready(watch, s->params[i]);
        kv_grad_watch_tick(watch);
    }
    kv_grad_watch_end(watch);
    return KV_OK;
}

kv_status kv_slices_backward(kv_slices *slices, const kv_batch *batch, kv_slice_fn *fn, void *context,
                             double *loss, kv_error *err) {
    struct pass p = {.slices = slices, .batch = batch, .fn = fn, .context = context, .backward = true};
    kv_status status = run(&p, loss, err);
    if (status != KV_OK || (slices->n == 1 && p.n == 1)) return status;
    if (slices->watcher.ready) return add_up_watched(slices, p.n, err);
    kv_param_grads_add_up(slices->grads, p.n, slices->params, slices->n_params);
    return KV_OK;
}

kv_status kv_slices_forward(kv_slices *slices, const kv_batch *batch, kv_slice_fn *fn, void *context,
                            double *loss, kv_error *err) {
    struct pass p = {.slices = slices, .batch = batch, .fn = fn, .context = context};
    return run(&p, loss, err);
}

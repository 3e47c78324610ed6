// Records lie in the arena with everything else of a step, linked newest first, which is the order of
// backward.
#include "core/tape.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// Records live in the arena, linked newest first.
struct link {
    kv_record record;
    struct link *older;
};

struct kv_tape {
    kv_arena *arena;
    struct link *newest;
    bool recording, checkpointing;
    kv_param_grads *grads;
    kv_grad_watcher watcher; // all zero: none
    kv_grad_watch *watch;    // of the backward pass that is under way, or NULL
    kv_error error;          // code KV_OK while nothing failed
};

kv_tape *kv_tape_create(void) {
    kv_tape *tape = calloc(1, sizeof *tape);
    if (!tape) return NULL;
    tape->recording = true;
    tape->arena = kv_arena_create();
    if (tape->arena) return tape;
    free(tape);
    return NULL;
}

void kv_tape_free(kv_tape *tape) {
    if (!tape) return;
    kv_arena_free(tape->arena);
    free(tape);
}

void kv_tape_reset(kv_tape *tape) {
    kv_arena_reset(tape->arena);
    tape->newest = NULL;
    tape->error.code = KV_OK;
}

kv_arena *kv_tape_arena(kv_tape *tape) {
    return tape->arena;
}

bool kv_tape_set_recording(kv_tape *tape, bool on) {
    bool before = tape->recording;
    tape->recording = on;
    return before;
}

void kv_tape_set_checkpointing(kv_tape *tape, bool on) {
    tape->checkpointing = on;
}

bool kv_tape_checkpointing(const kv_tape *tape) {
    return tape->checkpointing;
}

void kv_tape_set_grads(kv_tape *tape, kv_param_grads *grads) {
    tape->grads = grads;
}

void kv_tape_set_watcher(kv_tape *tape, const kv_grad_watcher *watcher) {
    tape->watcher = watcher ? *watcher : (kv_grad_watcher){0};
}

kv_status kv_tape_status(const kv_tape *tape, kv_error *err) {
    if (tape->error.code != KV_OK && err) *err = tape->error;
    return tape->error.code;
}

void *kv_tape_fail(kv_tape *tape, kv_status code, const char *format, ...) {
    if (tape->error.code != KV_OK) return NULL; // the first error is the cause
    tape->error.code = code;
    va_list args;
    va_start(args, format);
    vsnprintf(tape->error.message, sizeof tape->error.message, format, args);
    va_end(args);
    return NULL;
}

static void *tape_alloc(kv_tape *tape, size_t size) {
    void *memory = kv_arena_alloc(tape->arena, size);
    return memory ? memory : kv_tape_fail(tape, KV_ERR_MEMORY, "out of memory: %zu bytes for one step", size);
}

kv_tensor *kv_tape_view(kv_tape *tape, float *data, int64_t rows, int64_t cols) {
    kv_tensor *t = data ? tape_alloc(tape, sizeof *t) : NULL;
    if (t) *t = (kv_tensor){.rows = rows, .cols = cols, .data = data};
    return t;
}

kv_tensor *kv_tape_tensor(kv_tape *tape, int64_t rows, int64_t cols) {
    size_t bytes;
    if (rows < 0 || cols < 0 || __builtin_mul_overflow((size_t)rows, (size_t)cols, &bytes) ||
        __builtin_mul_overflow(bytes, sizeof(float), &bytes))
        return kv_tape_fail(tape, KV_ERR_MEMORY, "a tensor of %lld x %lld does not fit in memory",
                            (long long)rows, (long long)cols);
    return kv_tape_view(tape, tape_alloc(tape, bytes), rows, cols);
}

bool kv_tape_wants(const kv_tape *tape, const kv_tensor *const *in, int n, const kv_param *weight,
                   const kv_param *bias) {
    if (!tape->recording) return false;
    for (int i = 0; i < n; i++)
        if (in[i] && in[i]->wants_grad) return true;
    return (weight && kv_param_trainable(weight)) || (bias && kv_param_trainable(bias));
}

kv_record *kv_tape_record(kv_tape *tape, kv_backward_fn *backward, kv_tensor *out, size_t saved_size) {
    struct link *link = tape_alloc(tape, sizeof *link);
    if (!link) return NULL;
    *link = (struct link){.record = {.backward = backward, .out = out}, .older = tape->newest};
    if (saved_size) {
        link->record.saved = tape_alloc(tape, saved_size);
        if (!link->record.saved) return NULL;
        memset(link->record.saved, 0, saved_size);
    }
    tape->newest = link;
    out->wants_grad = true;
    return &link->record;
}

float *kv_tape_grad(kv_tape *tape, kv_tensor *x, float *beta) {
    if (!x || !x->wants_grad) return NULL;
    *beta = x->grad ? 1.0f : 0.0f;
    if (!x->grad) x->grad = tape_alloc(tape, (size_t)(x->rows * x->cols) * sizeof(float));
    return x->grad;
}

// Whether somebody has been told that this gradient is complete: what is added now would be lost.
static bool comes_late(kv_tape *tape, const kv_param *param) {
    if (!tape->watch || !kv_grad_watch_is_ready(tape->watch, param)) return false;
    kv_tape_fail(
        tape, KV_ERR_ARGUMENT,
        "the gradient of %s was said to be complete, and an operator that does not name it in its record "
        "adds to it",
        param->name);
    return true;
}

float *kv_tape_param_grad(kv_tape *tape, const kv_param *param, float *beta) {
    *beta = 1;
    if (param && comes_late(tape, param)) return NULL;
    if (!param || !param->grad || !tape->grads) return param ? param->grad : NULL;
    float *grad = kv_param_grads_at(tape->grads, param, beta);
    return grad ? grad
                : kv_tape_fail(tape, KV_ERR_MEMORY, "out of memory for the gradient of %s", param->name);
}

void kv_tape_add_rows(kv_tape *tape, const kv_param *table, const int32_t *ids, int64_t n,
                      const float *rows) {
    if (comes_late(tape, table)) return;
    if (!tape->grads)
        kv_add_rows(table->grad, table->cols, ids, n, rows);
    else if (!kv_param_grads_add_rows(tape->grads, table, ids, n, rows))
        kv_tape_fail(tape, KV_ERR_MEMORY, "out of memory for the gradient of %s", table->name);
}

static bool has_gradient(const kv_record *r) {
    if (r->out->grad) return true;
    for (int i = 0; i < r->n_more_outputs; i++)
        if (r->more_outputs[i] && r->more_outputs[i]->grad) return true;
    return false;
}

// One more that is to be walked, or (by -1) that has been.
static void count(kv_grad_watch *watch, const kv_record *r, int64_t by) {
    kv_grad_watch_count(watch, r->weight, by);
    kv_grad_watch_count(watch, r->bias, by);
    for (int i = 0; i < r->n_more_weights; i++) kv_grad_watch_count(watch, r->more_weights[i], by);
}

// To the oldest record, or the one after which something failed.
static void walk_back(kv_tape *tape, kv_grad_watch *watch) {
    for (struct link *link = tape->newest; link && tape->error.code == KV_OK; link = link->older) {
        if (has_gradient(&link->record)) {
            link->record.backward(tape, &link->record);
            if (tape->watch) kv_grad_watch_tick(tape->watch);
        }
        if (watch && tape->error.code == KV_OK) count(watch, &link->record, -1);
    }
}

kv_tape_branch kv_tape_begin_branch(kv_tape *tape, bool recording) {
    kv_tape_branch outer = {.records = tape->newest, .recording = tape->recording};
    tape->newest = NULL;
    tape->recording = recording;
    return outer;
}

void kv_tape_end_branch(kv_tape *tape, kv_tape_branch outer) {
    walk_back(tape, NULL); // for the record that this is the backward of
    tape->newest = outer.records;
    tape->recording = outer.recording;
}

static void walk_back_watched(kv_tape *tape) {
    kv_grad_watch *watch = tape->watch = kv_grad_watch_begin(tape->arena, &tape->watcher);
    if (!watch) {
        kv_tape_fail(tape, KV_ERR_MEMORY, "out of memory for a list of parameters");
        return;
    }
    for (const struct link *link = tape->newest; link; link = link->older) count(watch, &link->record, 1);
    walk_back(tape, watch);
    if (tape->error.code == KV_OK) kv_grad_watch_end(watch);
    tape->watch = NULL;
}

kv_status kv_tape_backward(kv_tape *tape, kv_tensor *loss, kv_error *err) {
    if (kv_tape_status(tape, err) != KV_OK) return tape->error.code;
    if (!loss || loss->rows != 1 || loss->cols != 1)
        return kv_fail(err, KV_ERR_ARGUMENT, "backward starts from one number, not a matrix");
    if (!loss->wants_grad)
        return kv_fail(err, KV_ERR_ARGUMENT, "nothing to train: the loss depends on no trainable parameter");
    float beta;
    float *seed = kv_tape_grad(tape, loss, &beta);
    if (!seed) return kv_tape_status(tape, err);
    *seed = 1;
    if (tape->watcher.ready)
        walk_back_watched(tape);
    else
        walk_back(tape, NULL);
    return kv_tape_status(tape, err);
}

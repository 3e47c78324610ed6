// A batch in slices of a few sequences, each of which runs forward and backward as a whole, by one thread.
//
// Threads that share every operator of a small model meet hundreds of times a step, and pass activations of all sequences
// through the last cache each time. A slice meets nobody, and what it works on is small enough to stay near. Each has
// gradients of its own, which are added to param->grad in the order of the slices:
//
//   thread 0    slice 0: forward, backward     slice 2: forward, backward      a half of all parameters: add up
//   thread 1    slice 1: forward, backward     slice 3: ...                    the other half
//
// How many slices there are depends on shapes alone, so that a step has the same bits on any number of threads. A batch of
// larger models is one slice, which all threads share operator by operator.
//
//   kv_slices *slices;
//   kv_slices_create(params, n_params, kv_slice_count(&shape), &slices, &err);
//   double loss;
//   kv_grad_zero(params, n_params);
//   kv_slices_backward(slices, &batch, objective, &model, &loss, &err); // calls objective(&model, tape, slice) for each
#pragma once

#include "core/api.h"
#include "core/objective.h"

KV_API_BEGIN

typedef struct kv_slices kv_slices;

enum { KV_MAX_SLICES = 16 };

// What the number of slices depends on.
typedef struct kv_slice_shape {
    int64_t n_seq, seq_len;
    int64_t n_weights; // of all models that are run
    int64_t n_trained; // of them, those whose gradients are not of a few rows
} kv_slice_shape;

// 1 to KV_MAX_SLICES.
int64_t kv_slice_count(const kv_slice_shape *shape);

// The first sequence of slice `index` of n_slices; of the slice behind the last one n_seq.
static inline int64_t kv_slice_begin(int64_t n_seq, int64_t n_slices, int64_t index) {
    return n_seq * index / n_slices;
}

// Sequences [first_seq, first_seq + batch.n_seq) of the whole batch.
typedef struct kv_slice {
    int64_t index, first_seq;
    kv_batch batch; // n_valid is that of the whole; given is not handed on
} kv_slice;

// The loss of a slice, ready for kv_tape_backward; NULL where the tape failed. Several threads call it at the same time, on
// different slices.
typedef kv_tensor *kv_slice_fn(void *context, kv_tape *tape, const kv_slice *slice);

// For params[n_params], which are borrowed; with none it can only look. Free with kv_slices_free (accepts NULL).
kv_status kv_slices_create(kv_param *const *params, int64_t n_params, int64_t n_slices, kv_slices **slices,
                           kv_error *err);
void kv_slices_free(kv_slices *slices);

// As kv_tape_set_checkpointing.
void kv_slices_set_checkpointing(kv_slices *slices, bool on);

// The passes of kv_slices_backward from now on are watched (core/grad_watch.h); NULL: they are not. Everything that
// *watcher points at is borrowed. Of one slice gradients are told while backward runs. Of several they are complete
// when all slices are; they are added up from the last of the params to the first, some at a time, and told after each time.
// What is called is called by the thread that calls kv_slices_backward. Where gradients are to accumulate over micro-batches,
// only the last one is to be watched: a gradient that is told is that of all so far. When a pass fails, some are never told.
void kv_slices_set_watcher(kv_slices *slices, const kv_grad_watcher *watcher);

// Forward passes without gradients are cut into n_slices instead: as many as where more sequences are trained at a time, so
// that what they find is the same to the last bit.
kv_status kv_slices_look_in(kv_slices *slices, int64_t n_slices, kv_error *err);

// *loss: the sum over slices. Gradients are ADDED to param->grad, so that micro-batches accumulate. A batch of fewer
// sequences than slices has as many slices as sequences; of none at all, *loss is 0 and gradients stay as they are. After an
// error, which is that of the first slice that failed, gradients are of no use.
kv_status kv_slices_backward(kv_slices *slices, const kv_batch *batch, kv_slice_fn *fn, void *context,
                             double *loss, kv_error *err);
// The same without gradients: nothing is recorded.
kv_status kv_slices_forward(kv_slices *slices, const kv_batch *batch, kv_slice_fn *fn, void *context,
                            double *loss, kv_error *err);

// Bytes in use at most so far: tapes and gradients of the slices.
size_t kv_slices_peak(const kv_slices *slices);

KV_API_END

// A define-by-run tape for reverse-mode differentiation.
//
// An operator computes its output at once. When any input wants a gradient it also pushes one record; a later
// kv_tape_backward walks the records backwards. Inference runs the same operators: with every parameter
// frozen, or with recording switched off, no record is made and nothing is saved.
//
//   kv_tensor *h = kv_rmsnorm(tape, x, norm, eps);   // x wants a gradient
//   kv_tensor *y = kv_linear(tape, h, w, NULL);
//
//   arena:   x   h   rmsnorm's record      y   linear's record      free ...
//                      in    -> x              in    -> h
//                      out   -> h              out   -> y
//                      older: none  <--------  older
//                                              ^
//   tape:                                      newest, where backward begins
//
// A record points at tensors of the arena; kv_tape_reset gives all of it back at once.
//
// Failure is sticky: an operator that runs out of memory or meets a bad id notes the error on the tape and
// returns NULL; operators given a NULL tensor return NULL. So a whole network is written without checks and
// asked once, at the end.
#pragma once

#include "core/api.h"
#include "core/grad_watch.h"
#include "core/param_grads.h"
#include "core/status.h"
#include "core/tensor.h"

KV_API_BEGIN

typedef struct kv_tape kv_tape;
typedef struct kv_record kv_record;
typedef void kv_backward_fn(kv_tape *tape, const kv_record *record);

enum { KV_RECORD_INPUTS = 4 };

struct kv_record {
    kv_backward_fn *backward;
    kv_tensor *out;
    kv_tensor *in[KV_RECORD_INPUTS]; // unused places are NULL
    kv_param *weight, *bias;         // NULL where there is none
    void *saved;                     // what backward needs, in the arena
    kv_tensor *const *more_outputs;  // [n_more_outputs] further outputs, some of them NULL
    int n_more_outputs;
    // [n_more_weights], some of them NULL: further parameters whose gradients backward adds to, of which a watcher is to know.
    kv_param *const *more_weights;
    int n_more_weights;
};

// NULL when out of memory. The caller owns the tape; kv_tape_free accepts NULL.
kv_tape *kv_tape_create(void);
void kv_tape_free(kv_tape *tape);

// Forgets all tensors, records and errors; keeps the memory for the next step.
void kv_tape_reset(kv_tape *tape);

kv_arena *kv_tape_arena(kv_tape *tape);

// While recording is off, no operator records. Returns the previous setting (a new tape records).
bool kv_tape_set_recording(kv_tape *tape, bool on);

// While checkpointing is on, a layer that is differentiated keeps nothing but its input, its output and what
// is handed out of it, and is computed again in backward (core/recompute.h): memory for one layer instead of
// all, for a second forward pass. Off for a new tape; stays over resets.
void kv_tape_set_checkpointing(kv_tape *tape, bool on);
bool kv_tape_checkpointing(const kv_tape *tape);

// Parameter gradients of this tape go to places of their own instead of to param->grad. NULL, as in a new tape: they do not.
// Stays over resets.
void kv_tape_set_grads(kv_tape *tape, kv_param_grads *grads);

// Backward passes from now on are watched (core/grad_watch.h); NULL, as in a new tape: they are not. Everything that *watcher
// points at is borrowed. Stays over resets. What is called is called by the thread that called kv_tape_backward, in an order
// that depends on the operators alone, not on their numbers. A gradient is complete once all records that name its parameter
// have been walked; that of one that none names, at the end. An operator that adds to one later nevertheless fails
// (KV_ERR_ARGUMENT). Not together with kv_tape_set_grads, whose gradients lie elsewhere.
void kv_tape_set_watcher(kv_tape *tape, const kv_grad_watcher *watcher);

// KV_OK, or the first error an operator noted (copied to *err).
kv_status kv_tape_status(const kv_tape *tape, kv_error *err);

// d loss / d x for every tensor and trainable parameter upstream of `loss` [1, 1]; parameter gradients are
// ADDED to param->grad, so that micro-batches accumulate. To be called once after a forward pass.
kv_status kv_tape_backward(kv_tape *tape, kv_tensor *loss, kv_error *err);

// ---- For operators -------------------------------------------------------------------------------------

// An uninitialised [rows, cols] tensor in the arena; NULL (noted) when out of memory.
kv_tensor *kv_tape_tensor(kv_tape *tape, int64_t rows, int64_t cols);

// A tensor around memory that outlives the step (e.g. a cache). Never wants a gradient.
kv_tensor *kv_tape_view(kv_tape *tape, float *data, int64_t rows, int64_t cols);

// True when an operator with these inputs has to record (any argument may be NULL).
bool kv_tape_wants(const kv_tape *tape, const kv_tensor *const *in, int n, const kv_param *weight,
                   const kv_param *bias);

// Pushes a record and marks out as wanting a gradient. `saved_size` bytes are allocated for record->saved.
// NULL when out of memory (noted).
kv_record *kv_tape_record(kv_tape *tape, kv_backward_fn *backward, kv_tensor *out, size_t saved_size);

// The gradient buffer of x; *beta is 0 when it holds nothing yet (write to it) and 1 when it must be added
// to. NULL when x wants no gradient or memory ran out.
float *kv_tape_grad(kv_tape *tape, kv_tensor *x, float *beta);

// The same of a parameter: where this tape adds up its gradient. NULL when it is frozen or NULL itself, or memory ran out
// (noted).
float *kv_tape_param_grad(kv_tape *tape, const kv_param *param, float *beta);

// Adds rows[n, table->cols] to the rows `ids` of the gradient of a table that is not frozen.
void kv_tape_add_rows(kv_tape *tape, const kv_param *table, const int32_t *ids, int64_t n, const float *rows);

// Notes an error; returns NULL so that operators can `return kv_tape_fail(...)`.
void *kv_tape_fail(kv_tape *tape, kv_status code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

// A list of records of its own, within which recording is on or off as said. Its end walks it backwards, as
// kv_tape_backward does with the whole tape, forgets it and puts back what was before. May be nested.
typedef struct kv_tape_branch {
    void *records;
    bool recording;
} kv_tape_branch;
kv_tape_branch kv_tape_begin_branch(kv_tape *tape, bool recording);
void kv_tape_end_branch(kv_tape *tape, kv_tape_branch outer);

KV_API_END

// Activation checkpointing: a region of operators whose results are thrown away and, where gradients are
// wanted, computed a second time. It keeps its inputs and outputs, whatever lies between them.
//                [Chen et al. 2016, "Training deep nets with sublinear memory cost", section 4]
//
// Forward, the operators run without records, the outputs are copied out and the arena is given back to where
// it was. With `differentiated` one record is pushed for all of them; its backward runs the operators again,
// now recording on a list of its own, hands them the outputs' gradients, walks that list backwards and gives
// the arena back again. Gradients of parameters and inputs arrive in the order they would have come without,
// so that they are the same bit by bit.
#pragma once

#include "core/api.h"
#include "core/tape.h"

KV_API_BEGIN

enum { KV_RECOMPUTE_INPUTS = 3, KV_RECOMPUTE_OUTPUTS = 5 };

typedef struct kv_recompute kv_recompute;

// Fills out[] from in[] with operators of the tape (NULL where it failed). It is to compute the same, bit by
// bit, whenever it is called.
typedef void kv_recompute_fn(kv_tape *tape, const void *what, kv_tensor *const *in, kv_tensor **out);

struct kv_recompute {
    kv_recompute_fn *run;
    const void *what; // for run; copied when a record is pushed, what it points at stays valid until backward
    size_t what_size;
    // NULL for places not in use. One whose gradient the operators hand on in the buffer of an output's (as
    // kv_add does) should be the last: it then takes no memory of its own. No tensor may be there twice.
    kv_tensor *in[KV_RECOMPUTE_INPUTS];
    // Reserved by the caller with kv_tape_tensor, in the shapes that run gives; NULL for what nobody wants,
    // but never the first. No two that are wanted may be the same tensor, nor an input.
    kv_tensor *out[KV_RECOMPUTE_OUTPUTS];
    // The parameters that run uses, of which a watcher is to know (core/tape.h): [n_weights], which are copied as `what` is;
    // some may be NULL.
    kv_param *const *weights;
    int n_weights;
};

// Computes the outputs. differentiated: all of them want a gradient, and get theirs to the inputs that do and
// to trainable parameters. False when the tape failed.
bool kv_recompute_run(kv_tape *tape, const kv_recompute *region, bool differentiated);

KV_API_END

// Telling, while a backward pass still runs, which parameters' gradients it will not touch any more, so that they can be sent
// off. Who wants to know sets a watcher (kv_tape_set_watcher, kv_slices_set_watcher).
//
//   records, oldest first:   E      q k v  out  gate/up  down      q k v  out  gate/up  down      head
//   backward:                                                                  <-----------------------
//                            pending 1, or 2 where head is E       pending 1   complete, ready
//
// Before the walk, the records are counted that name each parameter (core/tape.h); each that has been walked, or passed over
// because nobody wants its gradient, counts one down.
#pragma once

#include "core/api.h"
#include "core/arena.h"
#include "core/tensor.h"

KV_API_BEGIN

typedef struct kv_grad_watcher {
    kv_param *const *params; // [n_params], each of them once; frozen ones are passed over
    int64_t n_params;
    // What this pass adds to param->grad is there. Once for each of params in a pass that succeeds; in one that fails perhaps
    // for some of them, whose gradients are of no use.
    void (*ready)(void *context, const kv_param *param);
    void (*tick)(void *context); // after each record's backward; NULL: nobody wants to know
    void *context;
} kv_grad_watcher;

// ---- For those who walk --------------------------------------------------------------------------------

// One backward pass.
typedef struct kv_grad_watch kv_grad_watch;

// Lies in the arena. *watcher is borrowed. NULL when out of memory.
kv_grad_watch *kv_grad_watch_begin(kv_arena *arena, const kv_grad_watcher *watcher);

// Adds `by` to what is still to come for a parameter, which is ready when that comes to nothing. One that is NULL, frozen or
// not watched is passed over.
void kv_grad_watch_count(kv_grad_watch *watch, const kv_param *param, int64_t by);

// This one is ready, whatever was counted; and all that are left are, the last of the watcher's list first.
void kv_grad_watch_ready(kv_grad_watch *watch, const kv_param *param);
void kv_grad_watch_end(kv_grad_watch *watch);

void kv_grad_watch_tick(const kv_grad_watch *watch);

// Whether the watcher has been told.
bool kv_grad_watch_is_ready(const kv_grad_watch *watch, const kv_param *param);

KV_API_END

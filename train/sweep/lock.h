// Who is at work in a sweep's output: one kvtrain that does all, or several that have a share of the runs each, perhaps on
// several machines. The file `sweep.lock` there says so, by locks on its bytes, which network file systems know of as well
// and which go with the process that holds them; what is in the file does not matter.
//   byte 0           the sweep: held by all shares together, or by one kvtrain alone
//   a byte by name   a run, what is prepared, or a file, that one share is at work on
#pragma once

#include "core/status.h"

#include <stdbool.h>

typedef struct kv_sweep_lock {
    const char *output; // borrowed
    int fd;             // -1: none is held
} kv_sweep_lock;

extern const char kv_sweep_lock_name[];

// The directory has to be there. share: others may have theirs at the same time. KV_ERR_IO where somebody is at work there whom
// that excludes, or where the file system knows no locks; there the whole sweep is still kept to one process on this machine.
kv_status kv_sweep_lock_open(const char *output, bool share, kv_sweep_lock *lock, kv_error *err);
void kv_sweep_lock_close(kv_sweep_lock *lock);

// One thing, among shares: KV_ERR_IO when another has it.
kv_status kv_sweep_lock_take(kv_sweep_lock *lock, const char *name, kv_error *err);
// The same, waiting until it is free; says on standard error what for. KV_ERR_INTERRUPTED after a signal to stop. Who waits for
// several at a time has to take them in an order that is the same everywhere.
kv_status kv_sweep_lock_await(kv_sweep_lock *lock, const char *name, kv_error *err);
void kv_sweep_lock_drop(kv_sweep_lock *lock, const char *name);

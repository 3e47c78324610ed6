// How much memory there is to be had, and how much this process took.
#pragma once

#include "core/status.h"

#include <stdint.h>

// How much can still be taken, and what it is that allows no more: "the machine", "the control group (cgroup)", ...
typedef struct kv_memory_limit {
    int64_t left; // bytes; INT64_MAX where the system does not say
    const char *by;
} kv_memory_limit;

// The least of: MemAvailable of /proc/meminfo (without swapping); what is left to the control groups the process is in
// (v1 or v2, those above them included; cached files count as free); what `ulimit -v` and `ulimit -d` leave. `root` goes
// in front of every path that is read: "" but in tests.
kv_memory_limit kv_memory_left(const char *root);
int64_t kv_memory_available(const char *root); // kv_memory_left without what it is that limits

// Of these the limits on addresses alone, which are reached without any memory being used.
kv_memory_limit kv_address_space_left(const char *root);

// KV_ERR_MEMORY when `what` ("random:openelm-3b") needs more bytes than can be had: more than is left by a limit, or by the
// machine and its swap. A few megabytes are not looked at.
kv_status kv_memory_check(double bytes, const char *what, kv_error *err);

// Bytes this process holds now, and the most it ever held (mapped files it read included). 0 where the system
// does not say.
int64_t kv_memory_held(void);
int64_t kv_memory_peak(void);
// Of what it holds now, pages that other processes may hold as well, and that are in memory once: of files it has mapped, the
// program's own among them, and of shared memory.
int64_t kv_memory_shared(void);

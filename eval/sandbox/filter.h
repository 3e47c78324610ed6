// System calls that a program in the sandbox has no use for.
#pragma once

#include <stdbool.h>
#include <stddef.h>

enum { KV_FILTER_BYTES = 2048 };

// A seccomp program as bubblewrap takes it. Kept out: memory that no resource limit counts (System V and
// POSIX queues and segments, memfd), namespaces and mounts, and kernel interfaces with a history of holes;
// without `processes` also new processes (threads stay) and signals to others. Refused calls fail with EPERM.
// Returns the size; 0 on a kind of machine whose calls it does not know, where the resource limits must do.
size_t kv_sandbox_filter(bool processes, unsigned char program[KV_FILTER_BYTES]);

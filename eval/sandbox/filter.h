// System calls that a program in the sandbox has no use for.
#pragma once

#include "core/status.h"

#include <stdbool.h>
#include <stddef.h>

enum { KV_FILTER_BYTES = 8192 };

// A seccomp program as bubblewrap takes it. Kept out: memory that no resource limit counts (System V and
// POSIX queues and segments, memfd), namespaces and mounts, and kernel interfaces with a history of holes;
// without `processes` also new processes (threads stay) and signals to others. Refused calls fail with EPERM,
// and what the kernel does not know fails as it does everywhere. A call of another kind of machine (i386, or
// x32, on x86-64), whose numbers mean something else, ends the program. *size: of the program in bytes; 0 on
// a kind of machine that libseccomp does not know, where the resource limits must do. KV_ERR_IO when the
// program cannot be made.
kv_status kv_sandbox_filter(bool processes, unsigned char program[KV_FILTER_BYTES], size_t *size,
                            kv_error *err);

// Runs Python programs that nobody has read, many at once, each shut in on its own by bubblewrap: an empty
// read-only file system with /usr in it, a private /tmp, /proc and /dev, no network, none of the caller's
// environment, descriptors or users, and limits on all it could use up.
//
// What is judged is whether a program runs to its end. A program that ends early, whatever exit status it
// leaves, has not: behind its last line the interpreter sends a word to the caller that was drawn at random
// for this one run. No variable of the interpreter holds it meanwhile, but code in the same process that is
// written to search its memory could find it, as it could change what the tests see (eval/benchmark/redefined.h
// tells of that); such cheating is beyond what running a program can show.
#pragma once

#include "core/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct kv_sandbox_limits {
    double seconds;       // wall time of a program; its CPU time is held to this rounded up
    int64_t memory_bytes; // address space of a process
    int64_t file_bytes;   // size of one file
    int64_t tmp_bytes;    // of all files, in /tmp and in /dev/shm
    int64_t output_bytes; // standard output and error together; a program that writes more is ended
    int64_t descriptors;  // of a process
    int64_t tasks;        // processes and threads together
    bool processes;       // may start processes and send signals to others; else threads only
} kv_sandbox_limits;

typedef struct kv_sandbox_options {
    int64_t workers; // programs at once, up to KV_MAX_WORKERS; 0: as many as there are cores for each rank of this machine, up to 64
    bool unsafe;     // without bubblewrap, in a temporary directory: nothing but the limits holds
    kv_sandbox_limits limits;
} kv_sandbox_options;

enum { KV_MAX_WORKERS = 128, KV_SANDBOX_TEXT = 256 };

// 10 s, 512 MiB, 16 MiB files, 32 MiB of /tmp, 1 MiB of output, 64 descriptors, 16 threads and no processes.
kv_sandbox_options kv_sandbox_defaults(void);

typedef enum kv_verdict {
    KV_VERDICT_PASSED,
    KV_VERDICT_FAILED,
    KV_VERDICT_TIMED_OUT,
    KV_VERDICT_OUT_OF_MEMORY,
    KV_VERDICT_FLOODED, // more output than limits.output_bytes
    KV_VERDICT_KILLED,  // by a signal
} kv_verdict;

typedef struct kv_sandbox_result {
    kv_verdict verdict;
    char text[KV_SANDBOX_TEXT]; // "passed", "failed: AssertionError", "timed out", ...: one line of UTF-8
    double seconds;             // from the program's first line on
} kv_sandbox_result;

typedef struct kv_program {
    const char *source;
    size_t length;
} kv_program;

typedef struct kv_sandbox kv_sandbox;

// Tries the sandbox once, so that a machine on which it cannot work is found out at the start: KV_ERR_IO says
// why and what to do about it. Free with kv_sandbox_free (accepts NULL).
kv_status kv_sandbox_open(const kv_sandbox_options *options, kv_sandbox **sandbox, kv_error *err);
void kv_sandbox_free(kv_sandbox *sandbox);

// Called after each program that has ended, in the order in which they do.
typedef void kv_sandbox_done_fn(void *context, int64_t index, const kv_sandbox_result *result);

// Runs programs[n]; results[n] in their order. done may be NULL. Whatever happens, no process and no file is
// left when it returns: KV_ERR_INTERRUPTED after a signal to stop, KV_ERR_IO when programs cannot be started
// any more.
kv_status kv_sandbox_run(kv_sandbox *sandbox, const kv_program *programs, int64_t n,
                         kv_sandbox_result *results, kv_sandbox_done_fn *done, void *context, kv_error *err);

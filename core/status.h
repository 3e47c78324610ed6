// How functions that can fail say so.
//
// They return a kv_status and, on failure, fill the kv_error their caller passed (which may be NULL). The
// message is one line that a user can act on: which file, line or key, what was found, what was expected.
// Callers may add context in front of it on the way up. Nothing in the project exits from below a main(),
// or prints but for progress, warnings and what a signal or a library leaves no way back from (data/system).
#pragma once

#include "core/api.h"

KV_API_BEGIN

typedef enum kv_status {
    KV_OK = 0,
    KV_ERR_ARGUMENT,    // a value the caller gave makes no sense
    KV_ERR_MEMORY,      // an allocation failed
    KV_ERR_IO,          // the operating system refused: missing file, full disk, permission
    KV_ERR_FORMAT,      // a file's bytes are not what its format promises
    KV_ERR_MISMATCH,    // two things that must agree do not (a checkpoint and its config, two tokenizers)
    KV_ERR_RANGE,       // an id, position or size outside what it indexes
    KV_ERR_INTERRUPTED, // the user asked to stop
    KV_ERR_NOT_FINITE,  // what a model computed is NaN or infinite
} kv_status;

typedef struct kv_error {
    kv_status code;
    char message[1024]; // one line, no newline at the end
} kv_error;

// Fills *err (if not NULL) and returns `code`, so that failing reads `return kv_fail(err, KV_ERR_IO, "...",
// ...)`.
kv_status kv_fail(kv_error *err, kv_status code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

// Puts "context: " in front of the message already in *err and returns its code.
kv_status kv_fail_within(kv_error *err, kv_status code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

KV_API_END

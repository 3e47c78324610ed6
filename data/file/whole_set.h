// Several files of one directory that appear together: all of them whole, or none.
#pragma once

#include "core/status.h"

#include <stdbool.h>
#include <stdio.h>

// Writes file number `index`; false when that failed (with errno where a write did, else out of memory).
typedef bool kv_whole_set_fn(void *context, int index, FILE *file);

// names[n] within `directory`, which is made where it is missing. No file takes its place before the last one
// has been written; a signal to stop is KV_ERR_INTERRUPTED, after which, as after any failure, there are
// none.
kv_status kv_whole_set_write(const char *directory, const char *const *names, int n, kv_whole_set_fn *write,
                             void *context, kv_error *err);

// The whole content of a file, in memory.
#pragma once

#include "core/status.h"

#include <stddef.h>

// Opens a file for reading, or whatever else can be read once: a pipe, a device. A pipe that nothing has come from for
// some seconds is waited for with a warning that says so; Ctrl-C ends that (KV_ERR_INTERRUPTED).
kv_status kv_open_input(const char *path, int *fd, kv_error *err);

// Whole content of a file, NUL-terminated behind *size bytes; caller frees. Refuses more than max_size bytes
// (KV_ERR_FORMAT) and what is no file: that cannot be read again. Reads gzip transparently (by its magic bytes, through
// zlib).
kv_status kv_read_file(const char *path, size_t max_size, char **content, size_t *size, kv_error *err);
// The same of what kv_open_input opens.
kv_status kv_read_input(const char *path, size_t max_size, char **content, size_t *size, kv_error *err);

// Whole content to a file, through kv_whole_file.
kv_status kv_write_file(const char *path, const void *content, size_t size, kv_error *err);

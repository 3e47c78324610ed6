// The whole content of a file, in memory.
#pragma once

#include "core/status.h"

#include <stddef.h>

// Whole content of a file, NUL-terminated behind *size bytes; caller frees. Refuses more than max_size bytes
// (KV_ERR_FORMAT). Reads gzip transparently (by its magic bytes, through zlib).
kv_status kv_read_file(const char *path, size_t max_size, char **content, size_t *size, kv_error *err);

// Whole content to a file, through kv_whole_file.
kv_status kv_write_file(const char *path, const void *content, size_t size, kv_error *err);

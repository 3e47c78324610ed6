// Files and directories that appear whole or not at all.
//
// Write to pending->path, a temporary name beside the final one; commit flushes it to disk and renames it
// into place, abandon removes it. After either the struct is empty again; abandoning an empty one does
// nothing.
#pragma once

#include "core/status.h"

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>

typedef struct kv_whole_file {
    char path[PATH_MAX];  // where to write now
    char final[PATH_MAX]; // where it will be
    bool is_dir, active;
} kv_whole_file;

// A file: nothing is created yet. A directory: pending->path is created, empty. Missing parents are created.
kv_status kv_whole_file_begin(kv_whole_file *pending, const char *final_path, kv_error *err);
kv_status kv_whole_dir_begin(kv_whole_file *pending, const char *final_path, kv_error *err);

// fsync and rename. A file replaces an old one of that name; so does a directory (the old one is moved aside
// first and then removed). On failure the temporary is removed and the old one stays.
kv_status kv_whole_file_commit(kv_whole_file *pending, kv_error *err);
void kv_whole_file_abandon(kv_whole_file *pending);

// dir/name; KV_ERR_ARGUMENT where that is too long for a path.
kv_status kv_path_join(const char *dir, const char *name, char path[PATH_MAX], kv_error *err);

// mkdir -p, and rm -r of a directory tree.
kv_status kv_make_dirs(const char *path, kv_error *err);
kv_status kv_remove_tree(const char *path, kv_error *err);

// Whole content of a file, NUL-terminated behind *size bytes; caller frees. Refuses more than max_size bytes
// (KV_ERR_FORMAT). Reads gzip transparently (by its magic bytes, through zlib).
kv_status kv_read_file(const char *path, size_t max_size, char **content, size_t *size, kv_error *err);
// Whole content to a file, through kv_whole_file.
kv_status kv_write_file(const char *path, const void *content, size_t size, kv_error *err);

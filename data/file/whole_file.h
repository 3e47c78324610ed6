// Files and directories that appear whole or not at all.
//
//     kv_whole_file file;
//     kv_status status = kv_whole_file_begin(&file, "results.csv", err);
//     if (status) return status;
//     status = write_results(file.path, err);      // a temporary name beside the final one
//     return kv_whole_file_end(&file, status, err); // flushed to disk, then renamed; or removed
//
// After end, commit and abandon the struct is empty; abandoning an empty one does nothing. What a killed program
// leaves is the old file and, beside it, NAME.tmp.PID.NUMBER, which may be deleted.
#pragma once

#include "core/status.h"

#include <limits.h>
#include <stdbool.h>

typedef struct kv_whole_file {
    char path[PATH_MAX];  // where to write now
    char final[PATH_MAX]; // where it will be
    bool is_dir, active;
} kv_whole_file;

// A file: nothing is created yet. A directory: file->path is created, empty. Missing parents are created. A
// final name that is a symbolic link stands for what it points at. On failure the struct is empty.
kv_status kv_whole_file_begin(kv_whole_file *file, const char *final_path, kv_error *err);
kv_status kv_whole_dir_begin(kv_whole_file *dir, const char *final_path, kv_error *err);

// fsync and rename. A file replaces an old one of that name; so does a directory, with all that lay in it
// (where the file system cannot exchange the two in one step, the old one is moved aside first, and a crash
// between the two steps leaves it as TEMPORARY.old). On failure the new one is removed and the old one stays.
kv_status kv_whole_file_commit(kv_whole_file *file, kv_error *err);
void kv_whole_file_abandon(kv_whole_file *file);

// What `status`, that of writing, asks for: commit, or abandon and return it. The message in *err then speaks
// of the final name, which is the one that the user knows, wherever it spoke of the temporary one.
kv_status kv_whole_file_end(kv_whole_file *file, kv_status status, kv_error *err);

// Names of files and directories, and what is done with them.
#pragma once

#include "core/status.h"

#include <limits.h>
#include <stdbool.h>

// dir/name; KV_ERR_ARGUMENT where that is too long for a path.
kv_status kv_path_join(const char *dir, const char *name, char path[PATH_MAX], kv_error *err);
// That error, for those who put paths together themselves.
kv_status kv_path_too_long(const char *path, kv_error *err);

// The directory that `path` stands in: "." for a bare name.
void kv_path_parent(const char *path, char parent[PATH_MAX]);

// Whether `path` ends in `ending`, in small letters or capitals: by which names of outputs say what they are to be.
bool kv_path_ends(const char *path, const char *ending);
// Whether the name at the end of `path` ends in `ending`, ".jsonl" say, or in that and ".gz", in small letters or capitals.
bool kv_path_is_named(const char *path, const char *ending);

// Puts `to` wherever the message in *err (which may be NULL) has `from`.
void kv_path_rename_in(kv_error *err, const char *from, const char *to);

// Whether there is something at `path` (at the end of a symbolic link); at dir/name.
bool kv_path_exists(const char *path);
bool kv_path_exists_in(const char *dir, const char *name);

// mkdir -p, and rm -r of a file or a directory tree (nothing to remove is KV_OK).
kv_status kv_make_dirs(const char *path, kv_error *err);
kv_status kv_remove_tree(const char *path, kv_error *err);

// fsync of a file or directory, and of everything below one.
kv_status kv_flush(const char *path, kv_error *err);
kv_status kv_flush_tree(const char *path, kv_error *err);

// Two files or directories of one file system change places: in one step where the file system can, else in
// three, `new_path` being "new_path.old" for a moment. On failure both stay where they were.
kv_status kv_path_swap(const char *new_path, const char *old_path, kv_error *err);

// Bytes that are free where `path` is or will be. False where the system does not say.
bool kv_path_room(const char *path, double *bytes);

// A reader never sees half a file: it is written under another name, flushed, and renamed.
#include "data/file/whole_file.h"

#include "core/text.h"
#include "data/file/path.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static kv_status io_error(kv_error *err, const char *path, const char *doing) {
    return kv_fail(err, KV_ERR_IO, "%s: cannot %s: %s", path, doing, strerror(errno));
}

// Final name without trailing slashes, and through a symbolic link to what it points at: renaming onto the
// link itself would replace it by a file.
static kv_status set_final(kv_whole_file *file, const char *final_path, kv_error *err) {
    size_t length = strlen(final_path);
    while (length > 1 && final_path[length - 1] == '/') length--;
    const char *last = final_path + length;
    while (last > final_path && last[-1] != '/') last--;
    size_t last_length = (size_t)(final_path + length - last);
    if (last_length == 0 || strncmp(last, "..", last_length) == 0)
        return kv_fail(err, KV_ERR_ARGUMENT, "'%s': expected a path that ends in a name", final_path);
    // Room for the suffix of temporary_name.
    if (length + 64 > sizeof file->final)
        return kv_fail(err, KV_ERR_ARGUMENT, "%.*s...: path of %zu bytes is too long",
                       KV_HEAD(final_path, 80), length);
    memcpy(file->final, final_path, length);
    file->final[length] = '\0';
    char target[PATH_MAX];
    struct stat info;
    if (lstat(file->final, &info) == 0 && S_ISLNK(info.st_mode) && realpath(file->final, target) &&
        strlen(target) + 64 <= sizeof file->final)
        strcpy(file->final, target);
    return KV_OK;
}

static void temporary_name(kv_whole_file *file) {
    static atomic_uint counter;
    // The bound was checked by set_final; the precision tells the compiler.
    snprintf(file->path, sizeof file->path, "%.*s.tmp.%ld.%u", PATH_MAX - 64, file->final, (long)getpid(),
             atomic_fetch_add(&counter, 1));
}

static kv_status begin(kv_whole_file *file, const char *final_path, bool is_dir, kv_error *err) {
    memset(file, 0, sizeof *file);
    kv_status status = set_final(file, final_path, err);
    if (status) return status;
    struct stat info;
    if (stat(file->final, &info) == 0) {
        // Renaming onto a device or a pipe would destroy it.
        if (is_dir && !S_ISDIR(info.st_mode))
            return kv_fail(err, KV_ERR_IO, "%s: exists but is not a directory", final_path);
        if (!is_dir && !S_ISREG(info.st_mode))
            return kv_fail(err, KV_ERR_IO, "%s: exists but is not a regular file", final_path);
    }
    char parent[PATH_MAX];
    kv_path_parent(file->final, parent);
    status = kv_make_dirs(parent, err);
    if (status) return status;
    temporary_name(file);
    file->is_dir = is_dir;
    return KV_OK;
}

kv_status kv_whole_file_begin(kv_whole_file *file, const char *final_path, kv_error *err) {
    kv_status status = begin(file, final_path, false, err);
    file->active = status == KV_OK;
    return status;
}

kv_status kv_whole_dir_begin(kv_whole_file *file, const char *final_path, kv_error *err) {
    kv_status status = begin(file, final_path, true, err);
    if (status) return status;
    // A killed process with the same id may have left a directory of this name.
    for (int attempt = 0; mkdir(file->path, 0777) != 0; attempt++) {
        if (errno != EEXIST || attempt == 100) return io_error(err, final_path, "write there");
        temporary_name(file);
    }
    file->active = true;
    return KV_OK;
}

void kv_whole_file_abandon(kv_whole_file *file) {
    if (!file->active) return;
    if (file->is_dir)
        kv_remove_tree(file->path, NULL);
    else
        unlink(file->path);
    memset(file, 0, sizeof *file);
}

// ---- Commit --------------------------------------------------------------------------------------------

static kv_status move_into_place(const kv_whole_file *file, kv_error *err) {
    if (file->is_dir && kv_path_exists(file->final)) {
        kv_status status = kv_path_swap(file->path, file->final, err);
        // The old content, now under the temporary name.
        if (!status) kv_remove_tree(file->path, NULL);
        return status;
    }
    if (rename(file->path, file->final) != 0) return io_error(err, file->final, "rename into place");
    return KV_OK;
}

kv_status kv_whole_file_commit(kv_whole_file *file, kv_error *err) {
    if (!file->active) return kv_fail(err, KV_ERR_ARGUMENT, "no file was begun");
    kv_status status = file->is_dir ? kv_flush_tree(file->path, err) : kv_flush(file->path, err);
    if (status) return kv_whole_file_end(file, status, err);
    status = move_into_place(file, err);
    if (status) {
        kv_whole_file_abandon(file);
        return status;
    }
    char parent[PATH_MAX];
    kv_path_parent(file->final, parent);
    memset(file, 0, sizeof *file);
    // The content is safe and in place; only whether the new name survives a power cut is at stake here.
    kv_flush(parent, NULL);
    return KV_OK;
}

kv_status kv_whole_file_end(kv_whole_file *file, kv_status status, kv_error *err) {
    if (!status) return kv_whole_file_commit(file, err);
    if (file->active) kv_path_rename_in(err, file->path, file->final);
    kv_whole_file_abandon(file);
    return status;
}

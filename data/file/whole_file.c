#include "data/file/whole_file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

static kv_status io_error(kv_error *err, const char *path, const char *doing) {
    return kv_fail(err, KV_ERR_IO, "%s: cannot %s: %s", path, doing, strerror(errno));
}

// ---- Directories ---------------------------------------------------------------------------------------
static kv_status make_dir(const char *path, kv_error *err) {
    struct stat info;
    if (mkdir(path, 0777) == 0) return KV_OK;
    if (errno == EEXIST && stat(path, &info) == 0) {
        if (S_ISDIR(info.st_mode)) return KV_OK;
        return kv_fail(err, KV_ERR_IO, "%s: exists but is not a directory", path);
    }
    return io_error(err, path, "create the directory");
}

kv_status kv_path_join(const char *dir, const char *name, char path[PATH_MAX], kv_error *err) {
    if (snprintf(path, PATH_MAX, "%s/%s", dir, name) < PATH_MAX) return KV_OK;
    return kv_fail(err, KV_ERR_ARGUMENT, "%.80s...: path is too long", dir);
}

kv_status kv_make_dirs(const char *path, kv_error *err) {
    char prefix[PATH_MAX];
    size_t length = strlen(path);
    if (length == 0 || length >= sizeof prefix)
        return kv_fail(err, KV_ERR_ARGUMENT, "a path must have between 1 and %zu bytes, this one has %zu",
                       sizeof prefix - 1, length);
    memcpy(prefix, path, length + 1);
    for (char *slash = strchr(prefix + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        kv_status status = make_dir(prefix, err);
        if (status) return status;
        *slash = '/';
    }
    return make_dir(prefix, err);
}

static int remove_entry(const char *path, const struct stat *info, int type, struct FTW *walk) {
    (void)info;
    (void)type;
    (void)walk;
    return remove(path) == 0 ? 0 : errno;
}

kv_status kv_remove_tree(const char *path, kv_error *err) {
    int result = nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
    if (result == 0 || (result < 0 && errno == ENOENT)) return KV_OK;
    if (result > 0) errno = result;
    return io_error(err, path, "remove");
}

// ---- Pending files and directories ---------------------------------------------------------------------
static void parent_of(const char *path, char parent[PATH_MAX]) {
    const char *slash = strrchr(path, '/');
    if (!slash)
        strcpy(parent, ".");
    else
        snprintf(parent, PATH_MAX, "%.*s", slash == path ? 1 : (int)(slash - path), path);
}

// Final name without trailing slashes, and through a symbolic link to what it points at: renaming onto the
// link itself would replace it by a file.
static kv_status set_final(kv_whole_file *pending, const char *final_path, kv_error *err) {
    size_t length = strlen(final_path);
    while (length > 1 && final_path[length - 1] == '/') length--;
    const char *last = final_path + length;
    while (last > final_path && last[-1] != '/') last--;
    size_t last_length = (size_t)(final_path + length - last);
    if (last_length == 0 || strncmp(last, "..", last_length) == 0)
        return kv_fail(err, KV_ERR_ARGUMENT, "'%s': expected a path that ends in a name", final_path);
    // Room for the suffix of temporary_name.
    if (length + 64 > sizeof pending->final)
        return kv_fail(err, KV_ERR_ARGUMENT, "%.80s...: path of %zu bytes is too long", final_path, length);
    memcpy(pending->final, final_path, length);
    pending->final[length] = '\0';
    char target[PATH_MAX];
    struct stat info;
    if (lstat(pending->final, &info) == 0 && S_ISLNK(info.st_mode) && realpath(pending->final, target) &&
        strlen(target) + 64 <= sizeof pending->final)
        strcpy(pending->final, target);
    return KV_OK;
}

static void temporary_name(kv_whole_file *pending) {
    static atomic_uint counter;
    // The bound was checked by set_final; the precision tells the compiler.
    snprintf(pending->path, sizeof pending->path, "%.*s.tmp.%ld.%u", PATH_MAX - 64, pending->final,
             (long)getpid(), atomic_fetch_add(&counter, 1));
}

static kv_status begin(kv_whole_file *pending, const char *final_path, bool is_dir, kv_error *err) {
    memset(pending, 0, sizeof *pending);
    kv_status status = set_final(pending, final_path, err);
    if (status) return status;
    struct stat info;
    if (stat(pending->final, &info) == 0) {
        // Renaming onto a device or a pipe would destroy it.
        if (is_dir && !S_ISDIR(info.st_mode))
            return kv_fail(err, KV_ERR_IO, "%s: exists but is not a directory", final_path);
        if (!is_dir && !S_ISREG(info.st_mode))
            return kv_fail(err, KV_ERR_IO, "%s: exists but is not a regular file", final_path);
    }
    char parent[PATH_MAX];
    parent_of(pending->final, parent);
    status = kv_make_dirs(parent, err);
    if (status) return status;
    temporary_name(pending);
    pending->is_dir = is_dir;
    return KV_OK;
}

kv_status kv_whole_file_begin(kv_whole_file *pending, const char *final_path, kv_error *err) {
    kv_status status = begin(pending, final_path, false, err);
    pending->active = status == KV_OK;
    return status;
}

kv_status kv_whole_dir_begin(kv_whole_file *pending, const char *final_path, kv_error *err) {
    kv_status status = begin(pending, final_path, true, err);
    if (status) return status;
    // A killed process with the same id may have left a directory of this name.
    for (int attempt = 0; mkdir(pending->path, 0777) != 0; attempt++) {
        if (errno != EEXIST || attempt == 100) return io_error(err, pending->path, "create the directory");
        temporary_name(pending);
    }
    pending->active = true;
    return KV_OK;
}

void kv_whole_file_abandon(kv_whole_file *pending) {
    if (!pending->active) return;
    if (pending->is_dir)
        kv_remove_tree(pending->path, NULL);
    else
        unlink(pending->path);
    memset(pending, 0, sizeof *pending);
}

// ---- Commit --------------------------------------------------------------------------------------------
static kv_status flush(const char *path, kv_error *err) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return io_error(err, path, "open");
    int failed = fsync(fd);
    // Some file systems cannot flush a directory and say EINVAL; there is nothing to be done about that.
    if (failed && (errno == EINVAL || errno == ENOTSUP)) failed = 0;
    int saved = errno;
    close(fd);
    errno = saved;
    return failed ? io_error(err, path, "flush to disk") : KV_OK;
}

static int flush_entry(const char *path, const struct stat *info, int type, struct FTW *walk) {
    (void)type;
    (void)walk;
    if (!S_ISREG(info->st_mode) && !S_ISDIR(info->st_mode)) return 0;
    return flush(path, NULL) == KV_OK ? 0 : errno;
}

static kv_status flush_tree(const char *path, kv_error *err) {
    int result = nftw(path, flush_entry, 16, FTW_DEPTH | FTW_PHYS);
    if (result == 0) return KV_OK;
    if (result > 0) errno = result;
    return io_error(err, path, "flush to disk");
}

// Old and new change places in one step where the file system can; elsewhere the old one steps aside first.
static kv_status exchange_dirs(const char *new_path, const char *old_path, kv_error *err) {
    if (renameat2(AT_FDCWD, new_path, AT_FDCWD, old_path, RENAME_EXCHANGE) == 0) {
        kv_remove_tree(new_path, NULL); // the old content, now under the temporary name
        return KV_OK;
    }
    char aside[PATH_MAX];
    if (snprintf(aside, sizeof aside, "%s.old", new_path) >= (int)sizeof aside)
        return kv_fail(err, KV_ERR_ARGUMENT, "%.80s...: path is too long", new_path);
    if (rename(old_path, aside) != 0) return io_error(err, old_path, "move the old directory aside");
    if (rename(new_path, old_path) != 0) {
        kv_status status = io_error(err, old_path, "rename the new directory into place");
        if (rename(aside, old_path) != 0)
            kv_fail(err, KV_ERR_IO, "%s: cannot move the old directory back; it is now %s", old_path, aside);
        return status;
    }
    kv_remove_tree(aside, NULL);
    return KV_OK;
}

static kv_status move_into_place(const kv_whole_file *pending, kv_error *err) {
    struct stat info;
    if (pending->is_dir && stat(pending->final, &info) == 0)
        return exchange_dirs(pending->path, pending->final, err);
    if (rename(pending->path, pending->final) != 0) return io_error(err, pending->final, "rename into place");
    return KV_OK;
}

kv_status kv_whole_file_commit(kv_whole_file *pending, kv_error *err) {
    if (!pending->active) return kv_fail(err, KV_ERR_ARGUMENT, "nothing is pending");
    kv_status status = pending->is_dir ? flush_tree(pending->path, err) : flush(pending->path, err);
    if (!status) status = move_into_place(pending, err);
    if (status) {
        kv_whole_file_abandon(pending);
        return status;
    }
    char parent[PATH_MAX];
    parent_of(pending->final, parent);
    memset(pending, 0, sizeof *pending);
    // The content is safe and in place; only whether the new name survives a power cut is at stake here.
    flush(parent, NULL);
    return KV_OK;
}

// ---- Whole files ---------------------------------------------------------------------------------------
static kv_status read_failed(gzFile stream, const char *path, kv_error *err) {
    int code;
    const char *message = gzerror(stream, &code);
    if (code == Z_ERRNO) return io_error(err, path, "read");
    return kv_fail(err, KV_ERR_FORMAT, "%s: damaged or truncated gzip data (%s)", path, message);
}

// Doubles the buffer as it reads: the size of gzip content is not known beforehand.
static kv_status read_stream(gzFile stream, const char *path, size_t max_size, char **content, size_t *size,
                             kv_error *err) {
    size_t capacity = 0, used = 0;
    char *buffer = NULL;
    for (;;) {
        if (used + 1 >= capacity) {
            capacity = capacity ? 2 * capacity : 1 << 16;
            char *larger = realloc(buffer, capacity);
            if (!larger) {
                free(buffer);
                return kv_fail(err, KV_ERR_MEMORY, "%s: out of memory after %zu bytes", path, used);
            }
            buffer = larger;
        }
        size_t want = capacity - 1 - used;
        if (want > 1 << 30) want = 1 << 30;
        int got = gzread(stream, buffer + used, (unsigned)want);
        int code = Z_OK;
        gzerror(stream, &code);
        if (got < 0 || (code != Z_OK && code != Z_STREAM_END)) {
            free(buffer);
            return read_failed(stream, path, err);
        }
        used += (size_t)got;
        if (used > max_size) {
            free(buffer);
            return kv_fail(err, KV_ERR_FORMAT, "%s: more than the %zu bytes that are accepted here", path,
                           max_size);
        }
        if (got == 0) break;
    }
    buffer[used] = '\0';
    *content = buffer;
    *size = used;
    return KV_OK;
}

kv_status kv_read_file(const char *path, size_t max_size, char **content, size_t *size, kv_error *err) {
    *content = NULL;
    *size = 0;
    struct stat info;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return io_error(err, path, "open");
    if (fstat(fd, &info) == 0 && S_ISDIR(info.st_mode)) {
        close(fd);
        return kv_fail(err, KV_ERR_IO, "%s: is a directory, expected a file", path);
    }
    gzFile stream = gzdopen(fd, "rb");
    if (!stream) {
        close(fd);
        return kv_fail(err, KV_ERR_MEMORY, "%s: out of memory", path);
    }
    kv_status status = read_stream(stream, path, max_size, content, size, err);
    gzclose(stream);
    return status;
}

static kv_status write_all(int fd, const char *path, const void *content, size_t size, kv_error *err) {
    const char *p = content;
    while (size > 0) {
        ssize_t written = write(fd, p, size);
        if (written < 0 && errno == EINTR) continue;
        if (written < 0) return io_error(err, path, "write");
        p += written;
        size -= (size_t)written;
    }
    return KV_OK;
}

kv_status kv_write_file(const char *path, const void *content, size_t size, kv_error *err) {
    kv_whole_file pending;
    kv_status status = kv_whole_file_begin(&pending, path, err);
    if (status) return status;
    int fd = open(pending.path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0)
        status = io_error(err, pending.path, "create");
    else {
        status = write_all(fd, path, content, size, err);
        if (close(fd) != 0 && !status) status = io_error(err, path, "write");
    }
    if (!status) return kv_whole_file_commit(&pending, err);
    kv_whole_file_abandon(&pending);
    return status;
}

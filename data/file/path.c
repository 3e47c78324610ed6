// What the C library leaves to be done about paths: lengths are checked, and what is made is flushed to disk.
#include "data/file/path.h"

#include "core/text.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

static kv_status io_error(kv_error *err, const char *path, const char *doing) {
    return kv_fail(err, KV_ERR_IO, "%s: cannot %s: %s", path, doing, strerror(errno));
}

// ---- Names ---------------------------------------------------------------------------------------------

kv_status kv_path_too_long(const char *path, kv_error *err) {
    return kv_fail(err, KV_ERR_ARGUMENT, "%.*s...: the path is too long", KV_HEAD(path, 80));
}

kv_status kv_path_join(const char *dir, const char *name, char path[PATH_MAX], kv_error *err) {
    if (snprintf(path, PATH_MAX, "%s/%s", dir, name) < PATH_MAX) return KV_OK;
    return kv_path_too_long(dir, err);
}

void kv_path_parent(const char *path, char parent[PATH_MAX]) {
    const char *slash = strrchr(path, '/');
    if (!slash)
        strcpy(parent, ".");
    else
        snprintf(parent, PATH_MAX, "%.*s", slash == path ? 1 : (int)(slash - path), path);
}

bool kv_path_ends(const char *path, const char *ending) {
    const size_t n = strlen(path), m = strlen(ending);
    return n >= m && strcasecmp(path + n - m, ending) == 0;
}

bool kv_path_is_named(const char *path, const char *ending) {
    const size_t m = strlen(ending);
    size_t n = strlen(path);
    if (n > 3 && strcasecmp(path + n - 3, ".gz") == 0) n -= 3;
    return n >= m && strncasecmp(path + n - m, ending, m) == 0;
}

bool kv_path_exists(const char *path) {
    struct stat info;
    return stat(path, &info) == 0;
}

bool kv_path_exists_in(const char *dir, const char *name) {
    char path[PATH_MAX];
    return kv_path_join(dir, name, path, NULL) == KV_OK && kv_path_exists(path);
}

void kv_path_rename_in(kv_error *err, const char *from, const char *to) {
    if (!err || !*from) return;
    const kv_error before = *err;
    const char *rest = before.message, *found;
    char renamed[4 * sizeof before.message] = "";
    size_t n = 0;
    while ((found = strstr(rest, from)) && n + strlen(to) + strlen(rest) < sizeof renamed) {
        n = (size_t)(stpcpy(mempcpy(renamed + n, rest, (size_t)(found - rest)), to) - renamed);
        rest = found + strlen(from);
    }
    kv_fail(err, before.code, "%s%s", renamed, rest);
}

// ---- Making and removing -------------------------------------------------------------------------------

static kv_status make_dir(const char *path, kv_error *err) {
    struct stat info;
    if (mkdir(path, 0777) == 0) return KV_OK;
    if (errno == EEXIST && stat(path, &info) == 0) {
        if (S_ISDIR(info.st_mode)) return KV_OK;
        return kv_fail(err, KV_ERR_IO, "%s: exists but is not a directory", path);
    }
    return io_error(err, path, "create the directory");
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

// ---- Flushing and swapping -----------------------------------------------------------------------------

kv_status kv_flush(const char *path, kv_error *err) {
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
    return kv_flush(path, NULL) == KV_OK ? 0 : errno;
}

kv_status kv_flush_tree(const char *path, kv_error *err) {
    int result = nftw(path, flush_entry, 16, FTW_DEPTH | FTW_PHYS);
    if (result == 0) return KV_OK;
    if (result > 0) errno = result;
    return io_error(err, path, "flush to disk");
}

kv_status kv_path_swap(const char *new_path, const char *old_path, kv_error *err) {
    if (renameat2(AT_FDCWD, new_path, AT_FDCWD, old_path, RENAME_EXCHANGE) == 0) return KV_OK;
    char aside[PATH_MAX];
    if (snprintf(aside, sizeof aside, "%s.old", new_path) >= (int)sizeof aside)
        return kv_path_too_long(new_path, err);
    if (rename(old_path, aside) != 0) return io_error(err, old_path, "move aside");
    kv_status status = KV_OK;
    if (rename(new_path, old_path) != 0)
        status = io_error(err, old_path, "rename the new one into place");
    else if (rename(aside, new_path) == 0)
        return KV_OK;
    else {
        status = io_error(err, aside, "rename");
        if (rename(old_path, new_path) != 0)
            return kv_fail(err, KV_ERR_IO, "%s: cannot be moved back; the old one is now %s", old_path,
                           aside);
    }
    if (rename(aside, old_path) != 0)
        kv_fail(err, KV_ERR_IO, "%s: cannot be moved back; it is now %s", old_path, aside);
    return status;
}

bool kv_path_room(const char *path, double *bytes) {
    char at[PATH_MAX];
    struct statvfs space;
    if (snprintf(at, sizeof at, "%s", path) >= (int)sizeof at) return false;
    while (statvfs(at, &space) != 0) {
        char *slash = strrchr(at, '/');
        if (errno != ENOENT || slash == at) return false;
        if (slash)
            *slash = '\0';
        else if (strcmp(at, ".") != 0)
            strcpy(at, ".");
        else
            return false;
    }
    *bytes = (double)space.f_bavail * (double)space.f_frsize;
    return true;
}

// Renames cannot be made all at once, so each is made such that it can be taken back.
#include "data/file/whole_set.h"

#include "data/file/path.h"
#include "data/system/buffers.h"
#include "data/system/console.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

kv_status kv_whole_set_begin(kv_whole_set *set, const char *directory, kv_error *err) {
    memset(set, 0, sizeof *set);
    if (strlen(directory) >= sizeof set->directory) return kv_path_too_long(directory, err);
    strcpy(set->directory, directory);
    // Inside a directory that is there: its parent may not be ours to write to.
    char inside[PATH_MAX];
    struct stat info;
    if (stat(directory, &info) != 0 || !S_ISDIR(info.st_mode))
        return kv_whole_dir_begin(&set->staged, directory, err);
    kv_status status = kv_path_join(directory, ".new", inside, err);
    if (status) return status;
    status = kv_whole_dir_begin(&set->staged, inside, err);
    if (status && !kv_path_exists(inside)) kv_path_rename_in(err, inside, directory);
    return status;
}

void kv_whole_set_abandon(kv_whole_set *set) {
    kv_whole_file_abandon(&set->staged);
    memset(set, 0, sizeof *set);
}

// ---- Commit --------------------------------------------------------------------------------------------

enum what { ADD, REPLACE, REMOVE };

// One file's way into its place. Whatever is done, the staged name holds afterwards what has to go: nothing
// or the old file.
struct change {
    enum what what;
    char staged[PATH_MAX], final[PATH_MAX];
};

struct changes {
    struct change *items;
    size_t n;
};

static kv_status list_change(struct changes *changes, const kv_whole_set *set, const char *name, bool stale,
                             kv_error *err) {
    struct change *more = kv_room_for_one(changes->items, changes->n, sizeof *more);
    if (!more) return kv_fail(err, KV_ERR_MEMORY, "%s: out of memory", set->directory);
    changes->items = more;
    struct change *change = &more[changes->n];
    kv_status status = kv_path_join(set->staged.path, name, change->staged, err);
    if (!status) status = kv_path_join(set->directory, name, change->final, err);
    if (status) return status;
    char target[PATH_MAX];
    struct stat info;
    bool is_there = lstat(change->final, &info) == 0;
    // A symbolic link stays; what it points at is replaced.
    if (!stale && is_there && S_ISLNK(info.st_mode) && realpath(change->final, target)) {
        strcpy(change->final, target);
        is_there = lstat(target, &info) == 0;
    }
    if (is_there && S_ISDIR(info.st_mode))
        return kv_fail(err, KV_ERR_IO, "%s: is a directory, expected a file", change->final);
    if (is_there && !S_ISREG(info.st_mode) && !S_ISLNK(info.st_mode))
        return kv_fail(err, KV_ERR_IO, "%s: exists but is not a regular file", change->final);
    change->what = stale ? REMOVE : is_there ? REPLACE : ADD;
    changes->n += is_there || !stale;
    return KV_OK;
}

static kv_status list_changes(struct changes *changes, const kv_whole_set *set, const char *const *stale,
                              int n_stale, kv_error *err) {
    DIR *dir = opendir(set->staged.path);
    if (!dir) return kv_fail(err, KV_ERR_IO, "%s: cannot open: %s", set->staged.path, strerror(errno));
    kv_status status = KV_OK;
    for (const struct dirent *entry; !status && (entry = readdir(dir));)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            status = list_change(changes, set, entry->d_name, false, err);
    closedir(dir);
    for (int i = 0; !status && i < n_stale; i++)
        if (!kv_path_exists_in(set->staged.path, stale[i]))
            status = list_change(changes, set, stale[i], true, err);
    return status;
}

static kv_status move(const char *from, const char *to, const char *final, kv_error *err) {
    if (rename(from, to) == 0) return KV_OK;
    return kv_fail(err, KV_ERR_IO, "%s: cannot %s: %s", final,
                   final == to ? "rename into place" : "take away", strerror(errno));
}

static kv_status make(const struct change *change, kv_error *err) {
    switch (change->what) {
    case ADD: return move(change->staged, change->final, change->final, err);
    case REPLACE: return kv_path_swap(change->staged, change->final, err);
    case REMOVE: break;
    }
    return move(change->final, change->staged, change->final, err);
}

static kv_status take_back(const struct change *change, kv_error *err) {
    switch (change->what) {
    case ADD: return move(change->final, change->staged, change->final, err);
    case REPLACE: return kv_path_swap(change->staged, change->final, err);
    case REMOVE: break;
    }
    return move(change->staged, change->final, change->final, err);
}

// On failure nothing has changed; should even that fail, the message says so and what was staged stays.
static kv_status make_all(const struct changes *changes, kv_whole_set *set, kv_error *err) {
    kv_status status = KV_OK;
    size_t n = 0;
    while (!status && n < changes->n) {
        status = make(&changes->items[n], err);
        n += !status;
    }
    if (!status) return KV_OK;
    while (n > 0) {
        kv_error why;
        if (take_back(&changes->items[--n], &why) == KV_OK) continue;
        kv_fail_within(err, status, "%s; the files in %s belong there", why.message, set->staged.path);
        set->staged.active = false;
    }
    return status;
}

kv_status kv_whole_set_commit(kv_whole_set *set, const char *const *stale, int n_stale, kv_error *err) {
    kv_status status = KV_OK;
    if (set->staged.active && !kv_path_exists(set->directory)) {
        status = kv_whole_file_commit(&set->staged, err);
        kv_whole_set_abandon(set);
        return status;
    }
    if (!set->staged.active) return kv_fail(err, KV_ERR_ARGUMENT, "no set of files was begun");
    struct changes changes = {0};
    status = kv_flush_tree(set->staged.path, err);
    if (status) return kv_whole_set_end(set, stale, n_stale, status, err);
    status = list_changes(&changes, set, stale, n_stale, err);
    if (!status) status = make_all(&changes, set, err);
    // Everything is in place; only whether the new names survive a power cut is at stake here.
    if (!status) kv_flush(set->directory, NULL);
    free(changes.items);
    kv_whole_set_abandon(set);
    return status;
}

kv_status kv_whole_set_end(kv_whole_set *set, const char *const *stale, int n_stale, kv_status status,
                           kv_error *err) {
    if (!status) return kv_whole_set_commit(set, stale, n_stale, err);
    if (set->staged.active) kv_path_rename_in(err, set->staged.path, set->directory);
    kv_whole_set_abandon(set);
    return status;
}

// ---- Files that a function writes ----------------------------------------------------------------------

static kv_status write_one(const kv_whole_set *set, const char *name, int index, kv_whole_set_fn *write,
                           void *context, kv_error *err) {
    char path[PATH_MAX];
    kv_status status = kv_path_join(set->staged.path, name, path, err);
    if (status) return status;
    FILE *file = fopen(path, "wb");
    if (!file) return kv_fail(err, KV_ERR_IO, "%s: %s", path, strerror(errno));
    errno = 0;
    bool ok = write(context, index, file) && !ferror(file);
    int reason = errno;
    if (fclose(file) != 0 && ok) {
        ok = false;
        reason = errno;
    }
    if (!ok)
        return kv_fail(err, KV_ERR_IO, "%s/%s: cannot write: %s", set->directory, name,
                       strerror(reason ? reason : ENOMEM));
    return kv_console_interrupted() ? kv_fail(err, KV_ERR_INTERRUPTED, "interrupted") : KV_OK;
}

kv_status kv_whole_set_write(const char *directory, const char *const *names, int n, kv_whole_set_fn *write,
                             void *context, kv_error *err) {
    kv_whole_set set;
    kv_status status = kv_whole_set_begin(&set, directory, err);
    for (int i = 0; !status && i < n; i++) status = write_one(&set, names[i], i, write, context, err);
    return kv_whole_set_end(&set, NULL, 0, status, err);
}

// One rule for paths, and what helps those who meant another: files of earlier releases, and programs that were
// started somewhere else.
#include "data/config/beside.h"

#include "core/text.h"
#include "data/file/path.h"
#include "data/system/warning.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bool same_file(const char *a, const char *b) {
    struct stat x, y;
    return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

// `name` from the directory of `file`.
static bool beside(const char *file, const char *name, char path[PATH_MAX]) {
    const char *slash = strrchr(file, '/');
    const int n = snprintf(path, PATH_MAX, "%.*s%s", slash ? (int)(slash - file) + 1 : 0, file, name);
    return n > 0 && n < PATH_MAX;
}

// Without "." and "x/.." in it, in place.
static void fold(char *path) {
    char whole[PATH_MAX], *rest = strcpy(whole, path), *end = path;
    if (*rest == '/') *end++ = '/';
    char *const start = end;
    int depth = 0; // of parts that a ".." may take back
    for (const char *part; (part = strsep(&rest, "/"));) {
        if (!*part || strcmp(part, ".") == 0) continue;
        if (strcmp(part, "..") == 0 && depth > 0) {
            depth--;
            do end--;
            while (end > start && end[-1] != '/');
            continue;
        }
        depth += strcmp(part, "..") != 0;
        end = stpcpy(stpcpy(end, part), "/");
    }
    if (end > start && end[-1] == '/') end--;
    *end = '\0';
}

// A path as one would write it from here, where that is the same file.
static void shorten(char path[PATH_MAX]) {
    char folded[PATH_MAX], here[PATH_MAX];
    fold(strcpy(folded, path));
    if (getcwd(here, sizeof here)) {
        const size_t n = strlen(here);
        if (strncmp(folded, here, n) == 0 && folded[n] == '/')
            memmove(folded, folded + n + 1, strlen(folded + n));
    }
    if (same_file(folded, path)) strcpy(path, folded);
}

static bool is_old(const char *file, const char *name, char path[PATH_MAX]) {
    return *name != '/' && beside(file, name, path) && kv_path_exists(path) && !kv_path_exists(name);
}

char *kv_config_named_quietly(const char *file, const char *name) {
    char path[PATH_MAX];
    return strdup(is_old(file, name, path) ? path : name);
}

// Shown paths are cut: a line is to be read.
enum { SHOWN = 200 };

kv_status kv_config_named(const kv_config_place *place, const char *name, char **path, kv_error *err) {
    char other[PATH_MAX];
    const bool old = is_old(place->file, name, other);
    *path = strdup(name);
    if (*name != '/' && !old && beside(place->file, name, other) && kv_path_exists(other) &&
        !same_file(other, name)) {
        shorten(other);
        kv_warn(
            "%.*s:%zu: key `%s`: `%.*s` is taken from where %s was started; beside this file is another one, "
            "`%.*s`, which earlier releases took",
            KV_HEAD(place->file, SHOWN), place->line, place->key, KV_HEAD(name, SHOWN),
            program_invocation_short_name, KV_HEAD(other, SHOWN));
    }
    if (*path && old) {
        free(*path);
        shorten(other);
        *path = strdup(other);
        kv_warn(
            "%.*s:%zu: key `%s`: found `%.*s`, which is beside this file and not where %s was started; paths are "
            "taken from there now: it should say `%.*s`",
            KV_HEAD(place->file, SHOWN), place->line, place->key, KV_HEAD(name, SHOWN),
            program_invocation_short_name, KV_HEAD(other, SHOWN));
    }
    return *path ? KV_OK : kv_fail(err, KV_ERR_MEMORY, "%s: out of memory", place->file);
}

// ---- Started somewhere else ----------------------------------------------------------------------------

// The directory from which `name` is there: that of `file`, as it was named, or the nearest one above it.
static bool find_above(const char *file, const char *name, char dir[PATH_MAX]) {
    kv_path_parent(file, dir);
    if (kv_path_exists_in(dir, name)) return true;
    char *whole = realpath(dir, NULL), *slash;
    bool found = false;
    while (!found && whole && (slash = strrchr(whole, '/')) && slash > whole) {
        *slash = '\0';
        found = kv_path_exists_in(whole, name);
    }
    if (found) snprintf(dir, PATH_MAX, "%s", whole);
    free(whole);
    return found;
}

void kv_config_elsewhere(const char *file, const char *name, char hint[KV_ELSEWHERE]) {
    char dir[PATH_MAX], path[PATH_MAX];
    *hint = '\0';
    if (!*name || *name == '/' || kv_path_exists(name) || !find_above(file, name, dir)) return;
    if (kv_path_join(dir, name, path, NULL) != KV_OK) return;
    shorten(path);
    snprintf(hint, KV_ELSEWHERE, "; it is there from %.*s: start %s there (cd %.*s), or write `%.*s`",
             KV_HEAD(dir, 100), program_invocation_short_name, KV_HEAD(dir, 100), KV_HEAD(path, 120));
}

// Sorted by path and without following links to directories: the same tree gives the same list on every
// machine, and no circle is walked.
#include "data/text/files.h"

#include "core/text.h"
#include "data/file/mistaken.h"
#include "data/file/path.h"
#include "data/system/buffers.h"
#include "data/system/console.h"
#include "data/system/warning.h"
#include "data/text/documents.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

void kv_text_files_free(kv_text_files *files) {
    for (int64_t i = 0; i < files->n; i++) free(files->items[i].path);
    free(files->items);
    *files = (kv_text_files){0};
}

static kv_status add(kv_text_files *files, const char *path, const struct stat *info, bool found,
                     kv_error *err) {
    kv_text_file *items = kv_room_for_one(files->items, (size_t)files->n, sizeof *items);
    char *copy = strdup(path);
    if (items) files->items = items;
    if (!items || !copy) {
        free(copy);
        return kv_fail(err, KV_ERR_MEMORY, "out of memory for the names of files");
    }
    const bool regular = S_ISREG(info->st_mode);
    files->items[files->n++] = (kv_text_file){
        .path = copy,
        .size = regular ? info->st_size : 0,
        .modified = regular ? (int64_t)info->st_mtim.tv_sec * 1000000000 + info->st_mtim.tv_nsec : 0,
        .stream = !regular,
        .found = found};
    return KV_OK;
}

// ---- Directories ---------------------------------------------------------------------------------------

// Regular files of a directory that are not taken, as their names are not those of text.
struct others {
    int64_t n, bytes;
    char first[PATH_MAX];
};

// part-00000, as Spark and its like call what they write; also with .gz.
static bool is_part(const char *name) {
    const size_t digits = strncmp(name, "part-", 5) == 0 ? strspn(name + 5, "0123456789") : 0;
    return digits > 0 && (!name[5 + digits] || strcmp(name + 5 + digits, ".gz") == 0);
}

static bool named_as_text(const char *name) {
    return is_part(name) || kv_documents_named_json(name) || kv_path_is_named(name, ".txt") ||
           kv_path_is_named(name, ".text") || kv_path_is_named(name, ".md");
}

static int is_visible(const struct dirent *entry) {
    return entry->d_name[0] != '.';
}

static kv_status add_directory(kv_text_files *files, const char *dir, int depth, struct others *others,
                               kv_error *err);

static void pass_by(struct others *others, const char *path, const struct stat *info) {
    if (!S_ISREG(info->st_mode)) return;
    if (others->n++ == 0) snprintf(others->first, sizeof others->first, "%s", path);
    others->bytes += info->st_size;
}

static kv_status add_entry(kv_text_files *files, const char *dir, const char *name, int depth,
                           struct others *others, kv_error *err) {
    char path[PATH_MAX];
    struct stat info;
    kv_status status = kv_path_join(dir, name, path, err);
    if (status) return status;
    if (lstat(path, &info) != 0) return kv_fail(err, KV_ERR_IO, "%s: %s", path, strerror(errno));
    if (S_ISDIR(info.st_mode)) return add_directory(files, path, depth + 1, others, err);
    if (!named_as_text(name)) {
        pass_by(others, path, &info);
        return KV_OK;
    }
    if (stat(path, &info) != 0) return kv_fail(err, KV_ERR_IO, "%s: %s", path, strerror(errno));
    return S_ISREG(info.st_mode) ? add(files, path, &info, true, err) : KV_OK;
}

static kv_status add_directory(kv_text_files *files, const char *dir, int depth, struct others *others,
                               kv_error *err) {
    if (depth > 64) return kv_fail(err, KV_ERR_IO, "%.*s: directories more than 64 deep", KV_HEAD(dir, 200));
    struct dirent **entries;
    const int n = scandir(dir, &entries, is_visible, NULL);
    if (n < 0) return kv_fail(err, KV_ERR_IO, "%s: %s", dir, strerror(errno));
    kv_status status = KV_OK;
    for (int i = 0; i < n; i++) {
        if (!status) status = add_entry(files, dir, entries[i]->d_name, depth, others, err);
        free(entries[i]);
    }
    free(entries);
    return status;
}

static int compare_paths(const void *a, const void *b) {
    return strcmp(((const kv_text_file *)a)->path, ((const kv_text_file *)b)->path);
}

// By number or by size, whichever is more.
static void warn_of_others(const char *dir, const kv_text_file *taken, int64_t n,
                           const struct others *others) {
    char size[32];
    int64_t bytes = 0;
    for (int64_t i = 0; i < n; i++) bytes += taken[i].size;
    if (!kv_much_is_lost(others->n, others->n + n) && !kv_much_is_lost(others->bytes, others->bytes + bytes))
        return;
    kv_warn(
        "%.*s: %lld of %lld files (%sB), the first %.*s, are not called .txt, .text, .md, .jsonl, .json, .ndjson or "
        "part-00000 and are not read; such files can be named one by one",
        KV_HEAD(dir, 200), (long long)others->n, (long long)(others->n + n),
        kv_count_text((double)others->bytes, size), KV_HEAD(others->first, 300));
}

// ---- All inputs ----------------------------------------------------------------------------------------

static kv_status add_input(kv_text_files *files, const char *input, kv_error *err) {
    struct stat info;
    if (strcmp(input, "-") == 0) {
        if (fstat(STDIN_FILENO, &info) != 0)
            return kv_fail(err, KV_ERR_IO, "standard input: %s", strerror(errno));
        info.st_mode = S_IFIFO; // even when it is a file: whose it is and where it begins is not ours to know
        return add(files, input, &info, false, err);
    }
    if (stat(input, &info) != 0) return kv_missing(input, err);
    if (!S_ISDIR(info.st_mode)) return add(files, input, &info, false, err);
    const int64_t before = files->n;
    struct others others = {0};
    kv_status status = add_directory(files, input, 0, &others, err);
    if (!status && files->n == before)
        status = kv_fail(
            err, KV_ERR_IO,
            "%s: no text in the directory, expected files called .txt, .md, .jsonl or .json, or part-00000 "
            "(others can be named one by one)",
            input);
    if (status) return status;
    qsort(files->items + before, (size_t)(files->n - before), sizeof *files->items, compare_paths);
    warn_of_others(input, files->items + before, files->n - before, &others);
    return KV_OK;
}

kv_status kv_text_files_list(char *const *inputs, int n, kv_text_files *files, kv_error *err) {
    kv_status status = KV_OK;
    for (int i = 0; !status && i < n; i++) status = add_input(files, inputs[i], err);
    return status;
}

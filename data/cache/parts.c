// Each part is a whole file that takes its place in one step, so that whatever kills the program what is there can be read: of an
// HDF5 file that was being written nothing could.
#include "data/cache/parts.h"

#include "data/file/h5.h"
#include "data/file/path.h"
#include "data/system/buffers.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// ---- Names ---------------------------------------------------------------------------------------------

enum { NAME = 32 };

kv_status kv_cache_parts_dir(const char *file, char *dir, kv_error *err) {
    const int n = snprintf(dir, PATH_MAX, "%s" KV_CACHE_UNFINISHED, file);
    return n >= 0 && n < PATH_MAX ? KV_OK : kv_path_too_long(file, err);
}

static void part_name(int64_t first_row, char name[NAME]) {
    snprintf(name, NAME, "rows-%010" PRIi64 ".h5", first_row);
}

// The first row of such a name, or -1.
static int64_t first_row_of(const char *name) {
    int64_t first = -1;
    char again[NAME];
    if (sscanf(name, "rows-%10" SCNd64, &first) != 1 || first < 0) return -1;
    part_name(first, again);
    return strcmp(name, again) == 0 ? first : -1;
}

kv_status kv_cache_part_path(const char *file, int64_t first_row, char *path, kv_error *err) {
    char dir[PATH_MAX], name[NAME];
    part_name(first_row, name);
    kv_status status = kv_cache_parts_dir(file, dir, err);
    return status == KV_OK ? kv_path_join(dir, name, path, err) : status;
}

// ---- What is there -------------------------------------------------------------------------------------

static int by_first(const void *a, const void *b) {
    const int64_t x = ((const kv_cache_range *)a)->first, y = ((const kv_cache_range *)b)->first;
    return (x > y) - (x < y);
}

static bool add_range(kv_cache_range **ranges, int64_t *n, kv_cache_range range) {
    kv_cache_range *larger = kv_room_for_one(*ranges, (size_t)*n, sizeof *larger);
    if (!larger) return false;
    *ranges = larger;
    larger[(*n)++] = range;
    return true;
}

// *dir NULL with KV_OK: there are none.
static kv_status open_parts(const char *file, char path[PATH_MAX], DIR **dir, kv_error *err) {
    *dir = NULL;
    kv_status status = kv_cache_parts_dir(file, path, err);
    if (status != KV_OK) return status;
    *dir = opendir(path);
    if (*dir || errno == ENOENT) return KV_OK;
    return kv_fail(err, KV_ERR_IO, "%s: cannot open: %s", path, strerror(errno));
}

kv_status kv_cache_parts_list(const char *file, kv_cache_range **parts, int64_t *n_parts, kv_error *err) {
    char path[PATH_MAX];
    DIR *dir;
    *parts = NULL, *n_parts = 0;
    kv_status status = open_parts(file, path, &dir, err);
    if (!dir) return status;
    for (struct dirent *entry; status == KV_OK && (entry = readdir(dir));) {
        const int64_t first = first_row_of(entry->d_name);
        if (first >= 0 && !add_range(parts, n_parts, (kv_cache_range){first, 0}))
            status = kv_fail(err, KV_ERR_MEMORY, "%s: out of memory", path);
    }
    closedir(dir);
    if (*n_parts > 0) qsort(*parts, (size_t)*n_parts, sizeof **parts, by_first);
    return status;
}

kv_status kv_cache_parts_missing(const kv_cache_range *parts, int64_t n_parts, int64_t n_rows,
                                 kv_cache_range **missing, int64_t *n_missing, kv_error *err) {
    int64_t behind = 0; // the rows that have been looked at
    *missing = NULL, *n_missing = 0;
    for (int64_t i = 0; i <= n_parts; i++) {
        const int64_t next = i < n_parts ? parts[i].first : n_rows;
        if (next > behind && !add_range(missing, n_missing, (kv_cache_range){behind, next - behind}))
            return kv_fail(err, KV_ERR_MEMORY, "out of memory for the parts of a cache");
        if (i < n_parts) behind = next + parts[i].n;
    }
    return KV_OK;
}

// ---- Whether it is sound -------------------------------------------------------------------------------

static kv_status check_place(const char *path, int64_t first, const kv_cache_info *found,
                             const kv_cache_info *info, kv_error *err) {
    hid_t file;
    int64_t said = -1;
    kv_status status = kv_h5_open(path, &file, err);
    if (status == KV_OK) status = kv_h5_attr_i64(file, "/", KV_CACHE_FIRST_ROW, &said, err);
    if (file >= 0) H5Fclose(file);
    if (status != KV_OK) return status;
    if (said != first || found->n_rows > info->n_rows - first)
        return kv_fail(err, KV_ERR_FORMAT,
                       "%s: damaged: %" PRIi64 " rows from row %" PRIi64 " on, expected rows from %" PRIi64
                       " to %" PRIi64 " at most",
                       path, found->n_rows, said, first, info->n_rows);
    return KV_OK;
}

kv_status kv_cache_part_check(const char *file, const kv_cache_info *info, kv_cache_range *part,
                              kv_error *err) {
    char path[PATH_MAX];
    kv_cache_info *found = malloc(sizeof *found);
    if (!found) return kv_fail(err, KV_ERR_MEMORY, "%s: out of memory", file);
    kv_status status = kv_cache_part_path(file, part->first, path, err);
    if (status == KV_OK) status = kv_cache_read_info(path, found, err);
    if (status == KV_OK) status = kv_cache_same_kind(path, found, info, err);
    if (status == KV_OK && strcmp(found->shard, info->shard) != 0)
        status = kv_fail(err, KV_ERR_MISMATCH, "%s: made of a shard of content %s (%s), expected %s (%s)",
                         path, found->shard, found->source, info->shard, info->source);
    if (status == KV_OK) status = check_place(path, part->first, found, info, err);
    part->n = found->n_rows;
    free(found);
    return status;
}

kv_status kv_cache_part_verify(const char *file, int64_t first_row, kv_error *err) {
    char path[PATH_MAX];
    kv_status status = kv_cache_part_path(file, first_row, path, err);
    return status == KV_OK ? kv_cache_verify(path, err) : status;
}

// ---- Joining -------------------------------------------------------------------------------------------

struct join {
    const char *file;
    const kv_cache_info *info;
    kv_cache_writer *writer;
    kv_cache_join_fn *progress;
    void *context;
};

static kv_status add_part(const struct join *j, kv_cache_range part, kv_error *err) {
    char path[PATH_MAX];
    kv_cache *cache = NULL;
    const int64_t done = kv_cache_writer_rows(j->writer);
    if (part.first != done)
        return kv_fail(err, KV_ERR_FORMAT, "%s: row %" PRIi64 " is in no part of it", j->file, done + 1);
    kv_status status = kv_cache_part_check(j->file, j->info, &part, err);
    if (status == KV_OK) status = kv_cache_part_path(j->file, part.first, path, err);
    if (status == KV_OK) status = kv_cache_open(path, &cache, err);
    for (int64_t row = 0; status == KV_OK && row < part.n; row++) {
        status = kv_cache_writer_copy(j->writer, cache, row, err);
        if (status == KV_OK && j->progress) status = j->progress(j->context, done + row + 1, err);
    }
    kv_cache_free(cache);
    return status;
}

kv_status kv_cache_join(const char *file, const kv_cache_info *info, const kv_key_norms *norms,
                        kv_cache_join_fn *progress, void *context, kv_error *err) {
    struct join j = {.file = file, .info = info, .progress = progress, .context = context};
    kv_cache_range *parts = NULL;
    int64_t n;
    kv_status status = kv_cache_parts_list(file, &parts, &n, err);
    if (status == KV_OK) status = kv_cache_writer_open(file, info, norms, &j.writer, err);
    for (int64_t i = 0; status == KV_OK && i < n; i++) status = add_part(&j, parts[i], err);
    if (status == KV_OK && kv_cache_writer_rows(j.writer) < info->n_rows)
        status = kv_fail(err, KV_ERR_FORMAT, "%s: row %" PRIi64 " is in no part of it", file,
                         kv_cache_writer_rows(j.writer) + 1);
    if (status == KV_OK) status = kv_cache_writer_finish(j.writer, err);
    kv_cache_writer_free(j.writer);
    free(parts);
    return status == KV_OK ? kv_cache_parts_tidy(file, true, err) : status;
}

// ---- Removing ------------------------------------------------------------------------------------------

static bool half_written(const char *name) {
    return strncmp(name, "rows-", 5) == 0 && strstr(name, ".h5.tmp.");
}

kv_status kv_cache_parts_tidy(const char *file, bool all, kv_error *err) {
    char path[PATH_MAX], name[PATH_MAX];
    DIR *dir;
    kv_status status = open_parts(file, path, &dir, err);
    if (!dir) return status;
    for (struct dirent *entry; status == KV_OK && (entry = readdir(dir));) {
        if (!half_written(entry->d_name) && !(all && first_row_of(entry->d_name) >= 0)) continue;
        status = kv_path_join(path, entry->d_name, name, err);
        if (status == KV_OK && unlink(name) != 0)
            status = kv_fail(err, KV_ERR_IO, "%s: cannot remove: %s", name, strerror(errno));
    }
    closedir(dir);
    // What is not ours stays, and the directory with it; an empty one is of no use to anyone.
    if (status == KV_OK && rmdir(path) != 0 && errno != ENOTEMPTY && errno != EEXIST)
        status = kv_fail(err, KV_ERR_IO, "%s: cannot remove: %s", path, strerror(errno));
    return status;
}

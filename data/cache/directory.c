// A directory of frozen caches, one file a shard. A file is known by the hash of the shard it was made of, not by
// its number: shards may be added and listed in another order. One file is open at a time.
#include "data/cache/cache.h"
#include "data/file/h5.h"
#include "data/file/mistaken.h"
#include "data/system/buffers.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

// NNNNN of cache-NNNNN.h5 and `ending`, or -1.
static int64_t file_number(const char *name, const char *ending) {
    long long number = -1;
    char again[64];
    if (sscanf(name, "cache-%9lld", &number) != 1 || number < 0) return -1;
    snprintf(again, sizeof again, "cache-%05lld.h5%s", number, ending);
    return strcmp(name, again) == 0 ? (int64_t)number : -1;
}

static int by_number(const void *a, const void *b) {
    const int64_t x = ((const kv_cache_file *)a)->number, y = ((const kv_cache_file *)b)->number;
    return (x > y) - (x < y);
}

kv_status kv_cache_list(const char *path, const char *ending, kv_cache_file **files, int64_t *n_files,
                        kv_error *err) {
    *files = NULL, *n_files = 0;
    DIR *dir = opendir(path);
    if (!dir && errno == ENOENT) return KV_OK;
    if (!dir) return kv_fail(err, KV_ERR_IO, "%s: cannot open: %s", path, strerror(errno));
    kv_status status = KV_OK;
    for (struct dirent *entry; status == KV_OK && (entry = readdir(dir));) {
        const int64_t number = file_number(entry->d_name, ending);
        if (number < 0) continue;
        kv_cache_file *larger = kv_room_for_one(*files, (size_t)*n_files, sizeof *larger);
        if (larger) {
            *files = larger;
            (*files)[(*n_files)++] = (kv_cache_file){.number = number};
        } else {
            status = kv_fail(err, KV_ERR_MEMORY, "%s: out of memory", path);
        }
    }
    closedir(dir);
    if (*n_files > 0) qsort(*files, (size_t)*n_files, sizeof **files, by_number);
    return status;
}

static kv_status read_infos(kv_cache_dir *d, kv_error *err) {
    kv_cache_info *info = malloc(sizeof *info);
    if (!info) return kv_fail(err, KV_ERR_MEMORY, "%s: out of memory", d->path);
    char path[PATH_MAX];
    kv_status status = KV_OK;
    for (int64_t i = 0; status == KV_OK && i < d->n_files; i++) {
        kv_cache_file *file = &d->files[i];
        status = kv_cache_path(d->path, file->number, path, sizeof path, err);
        if (status == KV_OK) status = kv_cache_read_info(path, info, err);
        if (status != KV_OK) break;
        if (i == 0)
            d->info = *info;
        else
            status = kv_cache_same_kind(path, info, &d->info, err);
        file->n_rows = info->n_rows;
        memcpy(file->shard, info->shard, sizeof file->shard);
    }
    free(info);
    return status;
}

static kv_status read_norm(hid_t file, int64_t layer, kv_param *norm, kv_error *err) {
    char name[48];
    int n_dims = 0;
    int64_t shape[8];
    float *data = NULL;
    snprintf(name, sizeof name, "/base/k_norm/%" PRIi64, layer);
    kv_status status = kv_h5_read_f32(file, name, norm->cols, &data, &n_dims, shape, err);
    if (status == KV_OK && (n_dims != 1 || shape[0] != norm->cols))
        status = kv_fail(err, KV_ERR_FORMAT, "damaged cache: '%s' is not [%" PRIi64 "]", name, norm->cols);
    norm->data = data;
    return status;
}

static kv_status read_norms(kv_cache_dir *d, kv_error *err) {
    const kv_model_spec *spec = &d->info.base.spec;
    d->norms.eps = spec->norm_eps;
    if (!spec->qk_norm) return KV_OK;
    hid_t file = -1;
    char path[PATH_MAX];
    d->k_norm = calloc((size_t)spec->n_layers, sizeof *d->k_norm);
    kv_status status = d->k_norm ? kv_cache_path(d->path, d->files[0].number, path, sizeof path, err)
                                 : kv_fail(err, KV_ERR_MEMORY, "%s: out of memory", d->path);
    if (status == KV_OK) status = kv_h5_open(path, &file, err);
    for (int64_t i = 0; status == KV_OK && i < spec->n_layers; i++) {
        d->k_norm[i] = (kv_param){.rows = 1, .cols = spec->head_dim, .dtype = KV_F32};
        status = read_norm(file, i, &d->k_norm[i], err);
        d->norms.weight[i] = &d->k_norm[i];
    }
    if (file >= 0) H5Fclose(file);
    return status;
}

kv_status kv_cache_dir_open(const char *path, kv_cache_dir **dir, kv_error *err) {
    *dir = NULL;
    kv_cache_dir *d = calloc(1, sizeof *d);
    if (d) d->path = strdup(path);
    kv_status status = d && d->path ? kv_cache_list(path, "", &d->files, &d->n_files, err)
                                    : kv_fail(err, KV_ERR_MEMORY, "%s: out of memory", path);
    if (status == KV_OK && d->n_files == 0)
        status = kv_fail(err, KV_ERR_FORMAT, "%s: no cache in the directory", path);
    status = kv_mistaken_dir(path, "cache-00000.h5", "a directory of frozen caches (kvdata cache makes it)",
                             status, err);
    if (status == KV_OK) status = read_infos(d, err);
    if (status == KV_OK) status = read_norms(d, err);
    if (status == KV_OK)
        *dir = d;
    else
        kv_cache_dir_free(d);
    return status;
}

void kv_cache_dir_free(kv_cache_dir *d) {
    if (!d) return;
    kv_cache_free(d->open);
    for (int64_t i = 0; d->k_norm && i < d->info.base.spec.n_layers; i++) free(d->k_norm[i].data);
    free(d->k_norm);
    free(d->files);
    free(d->path);
    free(d);
}

int64_t kv_cache_dir_find(const kv_cache_dir *dir, const char *shard_hash) {
    for (int64_t i = 0; i < dir->n_files; i++)
        if (strcmp(dir->files[i].shard, shard_hash) == 0) return i;
    return -1;
}

// Files are opened again and again while a training goes on; kvdata cache may have replaced them meanwhile.
static kv_status check_unchanged(const kv_cache_dir *dir, int64_t file, const char *path, kv_error *err) {
    const kv_cache_info *found = kv_cache_about(dir->open);
    const kv_cache_file *expected = &dir->files[file];
    kv_status status = kv_cache_same_kind(path, found, &dir->info, err);
    if (status == KV_OK && (strcmp(found->shard, expected->shard) != 0 || found->n_rows != expected->n_rows))
        status = kv_fail(err, KV_ERR_MISMATCH,
                         "%s: made of a shard of content %s, %" PRIi64 " rows, expected %s, %" PRIi64 " rows",
                         path, found->shard, found->n_rows, expected->shard, expected->n_rows);
    if (status != KV_OK) kv_fail_within(err, status, "replaced while it was in use");
    return status;
}

kv_status kv_cache_dir_file(kv_cache_dir *dir, int64_t file, kv_cache **cache, kv_error *err) {
    char path[PATH_MAX];
    kv_status status = KV_OK;
    if (!dir->open || dir->open_file != file) {
        kv_cache_free(dir->open);
        dir->open = NULL;
        status = kv_cache_path(dir->path, dir->files[file].number, path, sizeof path, err);
        if (status == KV_OK) status = kv_cache_open(path, &dir->open, err);
        if (status == KV_OK) status = check_unchanged(dir, file, path, err);
        if (status != KV_OK) {
            kv_cache_free(dir->open);
            dir->open = NULL;
        }
        dir->open_file = file;
    }
    *cache = dir->open;
    return status;
}

// What is there already. Rank 0 looks and tells the others; all of them read a share of the parts to see whether they are sound,
// since there may be days of work in them.
#include "data/kvdata/cache/job.h"

#include "core/text.h"
#include "data/file/path.h"
#include "data/ranks/ranks.h"
#include "data/system/warning.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

// ---- The directory -------------------------------------------------------------------------------------

// The lock goes when the descriptor is closed, in the worst case by the end of the process. File systems that have none do
// without.
static kv_status lock_directory(cache_job *job, kv_error *err) {
    const char *dir = job->options->out;
    kv_status status = kv_make_dirs(dir, err);
    if (status != KV_OK) return status;
    job->lock = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (job->lock < 0) return kv_fail(err, KV_ERR_IO, "%s: %s", dir, strerror(errno));
    if (flock(job->lock, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK) return KV_OK;
    return kv_fail(err, KV_ERR_IO, "%s: another kvdata cache is at work in it", dir);
}

static kv_status remove_file(const char *path, kv_error *err) {
    if (unlink(path) == 0 || errno == ENOENT) return KV_OK;
    return kv_fail(err, KV_ERR_IO, "%s: cannot remove: %s", path, strerror(errno));
}

// Files that a killed run was putting together.
static kv_status remove_half_written(const cache_job *job, kv_error *err) {
    const char *dir = job->options->out;
    char path[PATH_MAX];
    DIR *open = opendir(dir);
    if (!open) return kv_fail(err, KV_ERR_IO, "%s: cannot open: %s", dir, strerror(errno));
    kv_status status = KV_OK;
    for (struct dirent *entry; status == KV_OK && (entry = readdir(open));) {
        if (strncmp(entry->d_name, "cache-", 6) != 0 || !strstr(entry->d_name, ".h5.tmp.")) continue;
        status = kv_path_join(dir, entry->d_name, path, err);
        if (status == KV_OK) status = remove_file(path, err);
    }
    closedir(open);
    return status;
}

// What is not part of what is to be there: `status` and the message in *err say why. KV_OK where it is to be replaced.
static kv_status refuse(const cache_job *job, kv_status status, kv_error *err) {
    if (status == KV_OK || status == KV_ERR_MEMORY) return status;
    if (job->options->force) return KV_OK;
    char why[sizeof err->message];
    snprintf(why, sizeof why, "%s", err->message);
    return kv_fail(err, status, "%.*s; --force replaces it", KV_HEAD(why, 900));
}

static kv_status too_many(const char *path, kv_error *err) {
    return kv_fail(err, KV_ERR_MISMATCH, "%s: one more than the shards of this corpus", path);
}

// ---- Files ---------------------------------------------------------------------------------------------

static kv_status check_file(const cache_job *job, const char *path, int64_t number, kv_error *err) {
    kv_cache_info *found = malloc(sizeof *found);
    if (!found) return kv_fail(err, KV_ERR_MEMORY, "out of memory");
    kv_status status = kv_cache_read_info(path, found, err);
    if (status == KV_OK) status = kv_cache_same_kind(path, found, &job->info, err);
    if (status == KV_OK && number >= job->n_shards) status = too_many(path, err);
    if (status == KV_OK && strcmp(found->shard, job->shards[number]->hash) != 0)
        status =
            kv_fail(err, KV_ERR_MISMATCH, "%s: made of a shard of content %s (%s), expected %s (%s)", path,
                    found->shard, found->source, job->shards[number]->hash, job->shards[number]->path);
    free(found);
    return status;
}

static kv_status look_at_files(cache_job *job, kv_error *err) {
    kv_cache_file *files;
    int64_t n;
    char path[PATH_MAX];
    kv_status status = kv_cache_list(job->options->out, "", &files, &n, err);
    for (int64_t i = 0; status == KV_OK && i < n; i++) {
        status = kv_cache_path(job->options->out, files[i].number, path, sizeof path, err);
        if (status != KV_OK) break;
        const kv_status found = check_file(job, path, files[i].number, err);
        if (found == KV_OK) job->complete[files[i].number] = true;
        status = refuse(job, found, err);
        if (status == KV_OK && found != KV_OK) status = remove_file(path, err);
    }
    free(files);
    return status;
}

// ---- Parts ---------------------------------------------------------------------------------------------

static kv_status remove_part(const cache_job *job, const cache_rows *part, kv_error *err) {
    char path[PATH_MAX], name[PATH_MAX];
    kv_status status = cache_shard_path(job, part->shard, path, err);
    if (status == KV_OK) status = kv_cache_part_path(path, part->range.first, name, err);
    return status == KV_OK ? remove_file(name, err) : status;
}

static kv_status drop_damaged(const cache_job *job, const cache_rows *part, const char *why, kv_error *err) {
    kv_warn("%s; its rows are made again", why);
    return remove_part(job, part, err);
}

// One part of a shard's file; `behind` is the row behind the last that is there.
static kv_status look_at_part(cache_job *job, const char *path, cache_rows part, int64_t *behind,
                              kv_error *err) {
    static kv_cache_info info;
    cache_shard_info(job, part.shard, &info);
    kv_status status = kv_cache_part_check(path, &info, &part.range, err);
    if (status == KV_OK && part.range.first < *behind)
        status = kv_fail(err, KV_ERR_FORMAT, "%s" KV_CACHE_UNFINISHED ": row %" PRIi64 " is in two parts",
                         path, part.range.first + 1);
    if (status == KV_ERR_FORMAT) return drop_damaged(job, &part, err->message, err);
    if (status != KV_OK) {
        status = refuse(job, status, err);
        return status == KV_OK ? remove_part(job, &part, err) : status;
    }
    *behind = part.range.first + part.range.n;
    return cache_rows_add(&job->parts, part) ? KV_OK : kv_fail(err, KV_ERR_MEMORY, "out of memory");
}

static kv_status look_at_unfinished(cache_job *job, int64_t number, kv_error *err) {
    char path[PATH_MAX], dir[PATH_MAX];
    kv_cache_range *parts = NULL;
    int64_t n = 0, behind = 0;
    kv_status status = cache_shard_path(job, number, path, err);
    if (status == KV_OK) status = kv_cache_parts_dir(path, dir, err);
    if (status != KV_OK) return status;
    if (number >= job->n_shards) {
        status = refuse(job, too_many(dir, err), err);
        return status == KV_OK ? kv_cache_parts_tidy(path, true, err) : status;
    }
    status = kv_cache_parts_tidy(path, job->complete[number], err);
    if (status == KV_OK) status = kv_cache_parts_list(path, &parts, &n, err);
    for (int64_t i = 0; status == KV_OK && i < n; i++)
        status = look_at_part(job, path, (cache_rows){number, parts[i]}, &behind, err);
    free(parts);
    return status;
}

static kv_status look_at_parts(cache_job *job, kv_error *err) {
    kv_cache_file *files;
    int64_t n;
    kv_status status = kv_cache_list(job->options->out, KV_CACHE_UNFINISHED, &files, &n, err);
    for (int64_t i = 0; status == KV_OK && i < n; i++) status = look_at_unfinished(job, files[i].number, err);
    free(files);
    return status;
}

// ---- Together ------------------------------------------------------------------------------------------

static kv_status look(cache_job *job, kv_error *err) {
    kv_status status = lock_directory(job, err);
    if (status == KV_OK) status = remove_half_written(job, err);
    if (status == KV_OK) status = look_at_files(job, err);
    return status == KV_OK ? look_at_parts(job, err) : status;
}

// What rank 0 has found.
static kv_status tell(cache_job *job, kv_error *err) {
    kv_ranks_broadcast(job->complete, (size_t)job->n_shards * sizeof *job->complete, 0);
    kv_ranks_broadcast(&job->parts.n, sizeof job->parts.n, 0);
    const size_t size = (size_t)job->parts.n * sizeof *job->parts.items;
    if (!kv_rank_leads() && size > 0) job->parts.items = malloc(size);
    kv_status status =
        size == 0 || job->parts.items ? KV_OK : kv_fail(err, KV_ERR_MEMORY, "out of memory for parts");
    status = kv_ranks_agree(status, err);
    if (status == KV_OK && size > 0) kv_ranks_broadcast(job->parts.items, size, 0);
    return status;
}

// Every rank's share of the parts; damaged[parts.n] is 1 where one is.
static kv_status verify(const cache_job *job, double *damaged, kv_error *err) {
    kv_status status = KV_OK;
    const int64_t end = kv_share_begin(job->parts.n, kv_rank() + 1);
    for (int64_t i = kv_share_begin(job->parts.n, kv_rank()); status == KV_OK && i < end; i++) {
        char path[PATH_MAX];
        if (kv_console_interrupted())
            return kv_fail(err, KV_ERR_INTERRUPTED,
                           "interrupted; what is there is kept, the same command goes on from there");
        status = cache_shard_path(job, job->parts.items[i].shard, path, err);
        if (status == KV_OK) status = kv_cache_part_verify(path, job->parts.items[i].range.first, err);
        damaged[i] = status == KV_ERR_FORMAT;
        if (damaged[i] != 0) status = KV_OK;
    }
    return status;
}

// Takes damaged parts from the list, and rank 0 from the disk.
static kv_status drop(cache_job *job, const double *damaged, kv_error *err) {
    cache_rows_list *list = &job->parts;
    const int64_t n = list->n;
    kv_status status = KV_OK;
    list->n = 0;
    for (int64_t i = 0; i < n; i++) {
        if (damaged[i] == 0) {
            list->items[list->n++] = list->items[i];
        } else if (kv_rank_leads() && status == KV_OK) {
            char path[PATH_MAX], name[PATH_MAX], why[PATH_MAX + 64];
            status = cache_shard_path(job, list->items[i].shard, path, err);
            if (status == KV_OK) status = kv_cache_part_path(path, list->items[i].range.first, name, err);
            if (status != KV_OK) break;
            snprintf(why, sizeof why, "%s: damaged", name);
            status = drop_damaged(job, &list->items[i], why, err);
        }
    }
    return kv_ranks_agree(status, err);
}

static kv_status check_parts(cache_job *job, kv_error *err) {
    if (job->parts.n == 0) return KV_OK;
    double *damaged = calloc((size_t)job->parts.n, sizeof *damaged);
    kv_status status = damaged ? verify(job, damaged, err) : kv_fail(err, KV_ERR_MEMORY, "out of memory");
    status = kv_ranks_agree(status, err);
    if (status == KV_OK) {
        kv_ranks_sum(damaged, job->parts.n);
        status = drop(job, damaged, err);
    }
    free(damaged);
    return status;
}

static void count(cache_job *job) {
    for (int64_t i = 0; i < job->n_shards; i++) {
        if (!job->complete[i]) continue;
        job->n_complete++;
        job->rows_complete += cache_shard_rows(job, i);
    }
    for (int64_t i = 0; i < job->parts.n; i++) job->rows_in_parts += job->parts.items[i].range.n;
}

kv_status cache_look(cache_job *job, kv_error *err) {
    job->complete = calloc((size_t)job->n_shards, sizeof *job->complete);
    kv_status status = job->complete ? KV_OK : kv_fail(err, KV_ERR_MEMORY, "out of memory");
    status = kv_ranks_agree(status, err);
    if (status == KV_OK) status = kv_ranks_agree(kv_rank_leads() ? look(job, err) : KV_OK, err);
    if (status == KV_OK) status = tell(job, err);
    if (status == KV_OK) status = check_parts(job, err);
    if (status == KV_OK) count(job);
    return status;
}

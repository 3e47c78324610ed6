// The making. Ranks work by themselves, and meet every second, or at the end of a batch that takes longer: there they learn how
// far all are, and whether one has failed or was asked to stop. Whatever may take long calls back in between, to meet.
#include "data/kvdata/cache/job.h"

#include "data/ranks/ranks.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const double meeting_seconds = 1;

// ---- Meetings ------------------------------------------------------------------------------------------

typedef struct cache_report {
    int64_t rows;
    double bytes;
    bool failed, signalled, finished;
} cache_report;

static void show(cache_job *job, const cache_report *all) {
    char note[96], size[32];
    const double seconds = kv_now() - job->progress.started;
    const int64_t there = job->rows_complete + job->rows_in_parts;
    const double rate = (double)all->rows / (seconds > 0 ? seconds : 1);
    snprintf(note, sizeof note, "rows  %.0f tokens/s  %s written", rate * (double)job->info.seq_len,
             cache_bytes_text(all->bytes, size));
    job->progress.left = there > 0 && rate > 0 ? (double)(job->n_rows - there - all->rows) / rate : 0;
    kv_progress_show(&job->progress, there + all->rows, note);
}

// Collective. Whether all have finished, or have to stop.
static bool meet(cache_job *job, bool failed, bool finished) {
    const cache_report mine = {.rows = job->rows_made + job->rows_now,
                               .bytes = job->bytes_made + (double)job->bytes_now,
                               .failed = failed,
                               .signalled = kv_console_interrupted(),
                               .finished = finished};
    cache_report all = {.finished = true};
    kv_ranks_gather(&mine, sizeof mine, job->reports);
    for (int r = 0; r < kv_n_ranks(); r++) {
        const cache_report *one = &job->reports[r];
        all.rows += one->rows, all.bytes += one->bytes;
        all.failed = all.failed || one->failed;
        all.signalled = all.signalled || one->signalled;
        all.finished = all.finished && one->finished;
    }
    if (all.signalled) kv_ranks_interrupted(); // all know of it from here on
    job->stop = all.failed || (all.signalled && !all.finished);
    show(job, &all);
    job->met = kv_now();
    return job->stop || all.finished;
}

// What this rank does goes on unless all have to stop.
static kv_status look_up(cache_job *job, kv_error *err) {
    if (kv_n_ranks() > 1 && kv_now() - job->met < meeting_seconds) return KV_OK;
    meet(job, false, false);
    return job->stop ? kv_fail(err, KV_ERR_INTERRUPTED, "stopped") : KV_OK;
}

static kv_status has_made(void *context, int64_t n_rows, int64_t bytes, kv_error *err) {
    cache_job *job = context;
    job->rows_now = n_rows, job->bytes_now = bytes;
    return look_up(job, err);
}

static kv_status has_joined(void *context, int64_t n_rows, kv_error *err) {
    (void)n_rows;
    return look_up(context, err);
}

// ---- One shard -----------------------------------------------------------------------------------------

static bool has_to_join(const cache_job *job, int64_t shard) {
    return !job->complete[shard] && job->joiner[shard] == kv_rank();
}

// Rows of a shard (NULL: all that are missing, and the file).
static kv_status make(cache_job *job, int64_t shard, const kv_cache_range *range, kv_error *err) {
    static kv_cache_info info;
    char path[PATH_MAX];
    kv_shard *from = NULL;
    cache_shard_info(job, shard, &info);
    kv_status status = cache_shard_path(job, shard, path, err);
    if (status == KV_OK) status = kv_shard_open(job->shards[shard]->path, &from, err);
    if (status == KV_OK)
        status = range ? kv_cache_build_rows(path, from, &info, *range, &job->args, err)
                       : kv_cache_build(path, from, &info, &job->args, err);
    kv_shard_free(from);
    job->rows_made += job->rows_now, job->bytes_made += (double)job->bytes_now;
    job->rows_now = job->bytes_now = 0;
    job->files_made += status == KV_OK && !range;
    return status;
}

// Each rank's rows, and the files that are its alone.
static kv_status make_rows(cache_job *job, kv_error *err) {
    kv_status status = KV_OK;
    for (int64_t i = 0; status == KV_OK && i < job->n_shards; i++)
        if (has_to_join(job, i) && job->alone[i]) status = make(job, i, NULL, err);
    for (int64_t i = 0; status == KV_OK && i < job->mine.n; i++) {
        const cache_rows *rows = &job->mine.items[i];
        if (!job->alone[rows->shard]) status = make(job, rows->shard, &rows->range, err);
    }
    return status;
}

// ---- Files of several ranks ----------------------------------------------------------------------------

static bool all_there(const char *path, const kv_cache_info *info) {
    kv_cache_range *parts = NULL, *missing = NULL;
    int64_t n = 0, n_missing = -1;
    kv_status status = kv_cache_parts_list(path, &parts, &n, NULL);
    for (int64_t i = 0; status == KV_OK && i < n; i++)
        status = kv_cache_part_check(path, info, &parts[i], NULL);
    if (status == KV_OK) status = kv_cache_parts_missing(parts, n, info->n_rows, &missing, &n_missing, NULL);
    free(parts);
    free(missing);
    return status == KV_OK && n_missing == 0;
}

// A network file system may show another machine's new files only after a while.
static void wait_for_parts(const char *path, const kv_cache_info *info) {
    const double begun = kv_now(), most = 60, pause = 0.5;
    while (!all_there(path, info) && kv_now() - begun < most && !kv_console_interrupted())
        kv_console_poll(NULL, 0, pause);
}

static kv_status join(cache_job *job, int64_t shard, kv_error *err) {
    static kv_cache_info info;
    kv_key_norms norms;
    char path[PATH_MAX];
    cache_shard_info(job, shard, &info);
    kv_model_key_norms(job->args.base, &norms);
    kv_status status = cache_shard_path(job, shard, path, err);
    if (status != KV_OK) return status;
    wait_for_parts(path, &info);
    status = kv_cache_join(path, &info, &norms, has_joined, job, err);
    job->files_made += status == KV_OK;
    return status;
}

static kv_status join_files(cache_job *job, kv_error *err) {
    kv_status status = KV_OK;
    for (int64_t i = 0; status == KV_OK && i < job->n_shards; i++)
        if (has_to_join(job, i) && !job->alone[i]) status = join(job, i, err);
    return status;
}

// ---- All of it -----------------------------------------------------------------------------------------

// Who is done first waits for the others. What has stopped because others have is no failure of its own.
static kv_status finish(cache_job *job, kv_status status) {
    while (!job->stop && !meet(job, status != KV_OK, true)) {
    }
    return job->stop && status == KV_ERR_INTERRUPTED ? KV_OK : status;
}

static kv_status interrupted(cache_job *job, kv_error *err) {
    double made[] = {(double)job->files_made, (double)job->rows_made};
    kv_ranks_sum(made, 2);
    return kv_fail(err, KV_ERR_INTERRUPTED,
                   "interrupted: %" PRIi64 " of %" PRIi64 " files are complete, %" PRIi64 " of %" PRIi64
                   " rows are kept; the same command goes on from there",
                   job->n_complete + (int64_t)made[0], job->n_shards,
                   job->rows_complete + job->rows_in_parts + (int64_t)made[1], job->n_rows);
}

// Directories in which nothing has come to lie, and what is half written where a disk was full.
static void tidy(const cache_job *job) {
    char path[PATH_MAX];
    for (int64_t i = 0; i < job->n_shards; i++)
        if (cache_shard_path(job, i, path, NULL) == KV_OK) kv_cache_parts_tidy(path, false, NULL);
}

kv_status cache_make(cache_job *job, kv_error *err) {
    job->reports = calloc((size_t)kv_n_ranks(), sizeof *job->reports);
    job->args.progress = has_made, job->args.context = job;
    job->met = kv_now();
    kv_status status = job->reports ? KV_OK : kv_fail(err, KV_ERR_MEMORY, "out of memory");
    status = kv_ranks_agree(status, err);
    if (status != KV_OK) return status;
    if (job->rows_in_parts > 0)
        fprintf(stderr, "kvdata cache: going on behind %" PRIi64 " of %" PRIi64 " rows\n",
                job->rows_complete + job->rows_in_parts, job->n_rows);
    kv_progress_begin(&job->progress, stderr, "cache", job->n_rows);
    status = finish(job, make_rows(job, err));
    if (!job->stop) status = finish(job, join_files(job, err));
    status = kv_ranks_agree(status, err);
    if (status == KV_OK && job->stop) status = interrupted(job, err);
    kv_progress_end(&job->progress, "rows");
    if (status != KV_OK && kv_rank_leads()) tidy(job);
    return status;
}

// Who makes what. Batches are dealt out rather than shards, of which there may be fewer than ranks: each rank has as many of the
// batches that are missing, one behind the other, so that most files are one rank's alone.
#include "data/kvdata/cache/job.h"

#include "data/ranks/ranks.h"

#include <stdlib.h>

// Batches begin at multiples of n_seq, wherever a range does: what is read together is the same for any ranks.
static int64_t batches_before(int64_t row, int64_t n_seq) {
    return (row + n_seq - 1) / n_seq;
}

static int64_t batches_of(kv_cache_range range, int64_t n_seq) {
    return batches_before(range.first + range.n, n_seq) - range.first / n_seq;
}

static kv_status out_of_memory(kv_error *err) {
    return kv_fail(err, KV_ERR_MEMORY, "out of memory for the parts of a cache");
}

// Adds the rows of a shard that are missing; *next: the first part that is not of a shard before.
static kv_status add_missing(cache_job *job, int64_t shard, int64_t *next, kv_error *err) {
    const cache_rows_list *parts = &job->parts;
    const int64_t first = *next;
    while (*next < parts->n && parts->items[*next].shard == shard) ++*next;
    const int64_t n = *next - first;
    kv_cache_range *there = malloc((size_t)(n + 1) * sizeof *there), *missing = NULL;
    int64_t n_missing = 0;
    if (!there) return out_of_memory(err);
    for (int64_t i = 0; i < n; i++) there[i] = parts->items[first + i].range;
    kv_status status =
        kv_cache_parts_missing(there, n, cache_shard_rows(job, shard), &missing, &n_missing, err);
    for (int64_t i = 0; status == KV_OK && i < n_missing; i++)
        if (!cache_rows_add(&job->missing, (cache_rows){shard, missing[i]})) status = out_of_memory(err);
    free(there);
    free(missing);
    return status;
}

static kv_status find_missing(cache_job *job, kv_error *err) {
    kv_status status = KV_OK;
    int64_t next = 0;
    for (int64_t shard = 0; status == KV_OK && shard < job->n_shards; shard++)
        if (!job->complete[shard]) status = add_missing(job, shard, &next, err);
    return status;
}

static int rank_of(int64_t batch, int64_t n_batches) {
    int rank = 0;
    while (kv_share_begin(n_batches, rank + 1) <= batch) rank++;
    return rank;
}

// The part of a range that is made of its batches [begin, end), from its first on.
static kv_cache_range cut(kv_cache_range range, int64_t begin, int64_t end, int64_t n_seq) {
    const int64_t origin = range.first / n_seq, last = range.first + range.n;
    int64_t from = (origin + begin) * n_seq, to = (origin + end) * n_seq;
    if (from < range.first) from = range.first;
    if (to > last) to = last;
    return (kv_cache_range){from, to - from};
}

// The batches of a range are [before, before + n) of all that are missing.
static kv_status deal(cache_job *job, const cache_rows *rows, int64_t before, int64_t n, int64_t n_batches,
                      kv_error *err) {
    const int64_t shard = rows->shard, begin = kv_share_begin(n_batches, kv_rank()) - before,
                  end = kv_share_begin(n_batches, kv_rank() + 1) - before;
    const int last = rank_of(before + n - 1, n_batches);
    job->alone[shard] = rank_of(before, n_batches) == last &&
                        (job->joiner[shard] < 0 || (job->alone[shard] && job->joiner[shard] == last));
    job->joiner[shard] = last;
    if (begin >= n || end <= 0) return KV_OK;
    const kv_cache_range mine =
        cut(rows->range, begin > 0 ? begin : 0, end < n ? end : n, job->options->n_seq);
    return cache_rows_add(&job->mine, (cache_rows){shard, mine}) ? KV_OK : out_of_memory(err);
}

kv_status cache_share(cache_job *job, kv_error *err) {
    const int64_t n_seq = job->options->n_seq;
    int64_t n_batches = 0, before = 0;
    job->joiner = malloc((size_t)job->n_shards * sizeof *job->joiner);
    job->alone = calloc((size_t)job->n_shards, sizeof *job->alone);
    if (!job->joiner || !job->alone) return out_of_memory(err);
    for (int64_t i = 0; i < job->n_shards; i++) job->joiner[i] = -1;
    kv_status status = find_missing(job, err);
    for (int64_t i = 0; i < job->missing.n; i++) n_batches += batches_of(job->missing.items[i].range, n_seq);
    for (int64_t i = 0; status == KV_OK && i < job->missing.n; i++) {
        const int64_t n = batches_of(job->missing.items[i].range, n_seq);
        status = deal(job, &job->missing.items[i], before, n, n_batches, err);
        before += n;
    }
    // Files of which all rows are there, but nobody has put them together yet.
    for (int64_t i = 0; i < job->n_shards; i++)
        if (!job->complete[i] && job->joiner[i] < 0)
            job->joiner[i] = (int)(i % kv_n_ranks()), job->alone[i] = true;
    return status;
}

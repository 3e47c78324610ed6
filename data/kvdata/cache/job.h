// kvdata cache, in four parts: what is to be made (plan.c), what is there of it already (there.c), the ranks' shares
// (share.c), and the making (work.c). cmd_cache.c puts them together.
#pragma once

#include "data/cache/build.h"
#include "data/corpus/corpus.h"

#include <stdint.h>

typedef struct cache_options {
    const char *base, *aux, *out;
    char **corpora;
    int n_corpora;
    double keep; // 0: no layer-pruned aux
    double temperature;
    double seconds; // work that an interruption may cost
    int64_t seq_len, top_k, n_seq;
    kv_dtype dtype;
    bool force;
} cache_options;

// Rows of the file of one shard.
typedef struct cache_rows {
    int64_t shard;
    kv_cache_range range;
} cache_rows;

typedef struct cache_rows_list {
    cache_rows *items;
    int64_t n;
} cache_rows_list;

typedef struct cache_job {
    const cache_options *options;
    kv_cache_info info; // of every file, but for rows, shard and source
    kv_cache_build_args args;
    kv_corpus **corpora;            // [n_corpora] of options
    const kv_corpus_shard **shards; // of all of them, one file each
    int64_t n_shards;
    int64_t n_rows; // in all

    // What was there when the job began: the same on all ranks.
    int lock;              // rank 0's, of DIR; -1: none
    bool *complete;        // [n_shards]
    cache_rows_list parts; // of the other files, by shard and row
    int64_t n_complete, rows_complete, rows_in_parts;

    // What has to be made, and what of it is this rank's.
    cache_rows_list missing, mine;
    int *joiner; // [n_shards]: the rank that puts the file together; -1: it is complete
    bool *alone; // [n_shards]: as soon as it has made its rows, as no other rank makes any of it

    // The making.
    kv_progress progress;
    int64_t rows_made, files_made; // by this rank
    int64_t rows_now, bytes_now;   // by the call that is at work
    double bytes_made;             // by this rank
    struct cache_report *reports;  // [n_ranks], of a meeting (work.c)
    double met;                    // when the ranks have last heard of each other (kv_now)
    bool stop;                     // they have found that one has failed, or was asked to stop
} cache_job;

// The tokens that fill no row are told of; nothing but headers is read. Also how much room all of it takes.
kv_status cache_plan(cache_job *job, kv_error *err);
kv_status cache_load_models(cache_job *job, kv_error *err);
kv_status cache_agree(const cache_job *job, kv_error *err); // collective: on models, settings and text
int64_t cache_shard_rows(const cache_job *job, int64_t shard);
// What the file of a shard will say of itself.
void cache_shard_info(const cache_job *job, int64_t shard, kv_cache_info *info);
kv_status cache_shard_path(const cache_job *job, int64_t shard, char path[PATH_MAX], kv_error *err);
char *cache_bytes_text(double bytes, char text[32]);
double cache_file_bytes(const char *path);
bool cache_rows_add(cache_rows_list *list, cache_rows rows);

// Collective. What is in DIR must be part of what is to be there: what is not is refused, or removed (--force), and so are
// damaged parts, with a warning. Locks DIR.
kv_status cache_look(cache_job *job, kv_error *err);

// Who makes which rows: the batches that are missing, in their order, a share for each rank.
kv_status cache_share(cache_job *job, kv_error *err);

// Collective. Whatever ends it, what is done is kept.
kv_status cache_make(cache_job *job, kv_error *err);

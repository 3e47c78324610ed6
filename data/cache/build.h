// Making frozen caches: models read rows, files keep what they make of them. What is done is on disk all the time, in parts
// (data/cache/parts.h), and gone on with.
#pragma once

#include "core/api.h"
#include "data/cache/cache.h"
#include "data/cache/parts.h"
#include "data/system/console.h"

KV_API_BEGIN

typedef struct kv_cache_build_args {
    kv_model *base, *aux; // frozen; aux may be NULL
    int64_t n_seq;        // rows that are read at once
    double seconds;       // work that a part holds, about; 0: a part for each batch
    // Called after every batch, and while a file is put together, with the number of rows done by this call and the bytes
    // they take; anything but KV_OK ends the work, and what is done stays. May be NULL.
    kv_status (*progress)(void *context, int64_t n_rows, int64_t bytes, kv_error *err);
    void *context;
} kv_cache_build_args;

// Rows of a shard as parts of the cache at path. Those that are read together begin at multiples of n_seq, and so are the same
// wherever the work is cut, if it is cut there, too; then so is the last bit of what is made of them. info: complete but for
// n_rows and shard, which come from the shard. Whatever ends it, the rows before stay.
kv_status kv_cache_build_rows(const char *path, const kv_shard *shard, const kv_cache_info *info,
                              kv_cache_range rows, const kv_cache_build_args *args, kv_error *err);

// The whole cache of one shard, at path: the rows that are in no part yet, and the file of all. Parts that are there have to be
// sound (kv_cache_part_check, kv_cache_part_verify).
kv_status kv_cache_build(const char *path, const kv_shard *shard, const kv_cache_info *info,
                         const kv_cache_build_args *args, kv_error *err);

KV_API_END

// Making frozen caches: models read rows, files keep what they make of them.
#pragma once

#include "core/api.h"
#include "data/cache/cache.h"
#include "data/system/console.h"

KV_API_BEGIN

typedef struct kv_cache_build_args {
    kv_model *base, *aux; // frozen; aux may be NULL
    int64_t n_seq;        // rows that are read at once
    // Called after every batch with the number of rows done and the file's size so far; anything but KV_OK
    // ends the work with nothing left behind. May be NULL.
    kv_status (*progress)(void *context, int64_t n_rows, int64_t bytes, kv_error *err);
    void *context;
} kv_cache_build_args;

// The cache of one shard, at path. info: complete but for n_rows and shard, which come from the shard.
kv_status kv_cache_build(const char *path, const kv_shard *shard, const kv_cache_info *info,
                         const kv_cache_build_args *args, kv_error *err);

KV_API_END

// A cache file in the making. What is done of cache-00000.h5 lies beside it in the directory cache-00000.h5.unfinished, in
// parts:
//
//   rows-0000000000.h5, rows-0000000048.h5, ...   cache files (data/cache/cache.h) of some rows each, named by the first of
//                                                 them, which their attribute first_row repeats
//
// A part is there whole or not at all (data/file/whole_file.h), so that whatever ends a program loses the part that it was
// writing and nothing else. HDF5 files that are written on and on would not do: one that was not closed may be unreadable.
// Parts are joined when they have all rows; the file is the same to the byte however its rows were cut into parts, since each
// row is packed by itself, and copied as it is.
#pragma once

#include "core/api.h"
#include "data/cache/cache.h"

KV_API_BEGIN

#define KV_CACHE_UNFINISHED ".unfinished"

// Rows [first, first + n) of a file.
typedef struct kv_cache_range {
    int64_t first, n;
} kv_cache_range;

// FILE.unfinished, and the part in it that begins with this row: dir and path [PATH_MAX].
kv_status kv_cache_parts_dir(const char *file, char *dir, kv_error *err);
kv_status kv_cache_part_path(const char *file, int64_t first_row, char *path, kv_error *err);

// The parts that there are of a file, by their first rows; n of each is 0, as no file is opened. Caller frees. None when there
// is no such directory.
kv_status kv_cache_parts_list(const char *file, kv_cache_range **parts, int64_t *n_parts, kv_error *err);

// Whether the part that begins with part->first is of the file that info describes (n_rows, shard and all); fills in part->n.
// KV_ERR_MISMATCH: it is of another. KV_ERR_FORMAT: it is damaged.
kv_status kv_cache_part_check(const char *file, const kv_cache_info *info, kv_cache_range *part,
                              kv_error *err);
// Reads all that is in it, whose checksums then have to fit.
kv_status kv_cache_part_verify(const char *file, int64_t first_row, kv_error *err);

// The rows of n_rows that parts[n_parts], by their first rows, lack. Caller frees.
kv_status kv_cache_parts_missing(const kv_cache_range *parts, int64_t n_parts, int64_t n_rows,
                                 kv_cache_range **missing, int64_t *n_missing, kv_error *err);

// Called after every row with the number of rows so far; anything but KV_OK ends it, and the parts stay.
typedef kv_status kv_cache_join_fn(void *context, int64_t n_rows, kv_error *err);

// Makes the file of its parts, which then are gone. KV_ERR_FORMAT naming the first row that none has. norms: of the base.
kv_status kv_cache_join(const char *file, const kv_cache_info *info, const kv_key_norms *norms,
                        kv_cache_join_fn *progress, void *context, kv_error *err);

// Removes what a killed program has left half written there; `all`: every part, and the directory. Nothing to remove is KV_OK.
kv_status kv_cache_parts_tidy(const char *file, bool all, kv_error *err);

KV_API_END

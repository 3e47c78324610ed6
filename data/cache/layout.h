// How cache files are laid out, for those who write and those who read them (data/cache/cache.h).
#pragma once

#include "data/cache/cache.h"

#include <hdf5.h>

// A new HDF5 type, to be closed: of the file and of memory alike. Negative when it cannot be made.
hid_t kv_cache_type(kv_dtype dtype);

// "/base/key/3".
enum { KV_CACHE_NAME = 48 };
void kv_cache_name(kv_cache_part part, int64_t layer, char name[KV_CACHE_NAME]);

// The model of a part, and the width of one of its layers.
const kv_cache_model *kv_cache_part_model(const kv_cache_info *info, kv_cache_part part);
static inline bool kv_cache_has_aux(const kv_cache_info *info) {
    return info->aux.fingerprint[0] != '\0';
}

// Rows [row, row + n) of a dataset, from or to memory of that type. False with HDF5's error stack set.
bool kv_cache_put_rows(hid_t dataset, hid_t type, int64_t row, int64_t n, const void *data);
bool kv_cache_get_rows(hid_t dataset, hid_t type, int64_t row, int64_t n, void *data);

// Rows of row_bytes that go into one chunk: one, as rows are read at random and chunks whole, unless that
// would be hardly more than the chunk's entry in the index.
int64_t kv_cache_chunk_rows(int64_t n_rows, int64_t row_bytes);

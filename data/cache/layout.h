// How cache files are laid out, for those who write and those who read them (data/cache/cache.h).
#pragma once

#include "data/cache/cache.h"

#include <hdf5.h>

// The datasets of a file, -1 where there is none.
enum { KV_CACHE_PARTS = KV_CACHE_AUX_VALUE + 1 };
typedef struct kv_cache_sets {
    hid_t tokens, ids, values, logsumexp;
    hid_t parts[KV_CACHE_PARTS][KV_MAX_LAYERS];
} kv_cache_sets;
void kv_cache_sets_none(kv_cache_sets *sets);
// Calls each(context, set) for those there are, until it says false; whether none did.
bool kv_cache_sets_each(kv_cache_sets *sets, bool (*each)(void *context, hid_t *set), void *context);
// Closes all of them; false when any of it failed.
bool kv_cache_sets_close(kv_cache_sets *sets);
// Those of an open file.
kv_cache_sets *kv_cache_sets_of(kv_cache *cache);

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

// Row `row` of `from` becomes row `to_row` of `to`, as it is stored: nothing is unpacked where a chunk is a row. *buffer
// [*size] is what it works in, grown where it has to be; both begin as 0, and the caller frees the buffer. False with HDF5's
// error stack set.
bool kv_cache_copy_row(hid_t from, int64_t row, hid_t to, int64_t to_row, void **buffer, size_t *size);

// Rows of row_bytes that go into one chunk: one, as rows are read at random and chunks whole, unless that
// would be hardly more than the chunk's entry in the index.
int64_t kv_cache_chunk_rows(int64_t n_rows, int64_t row_bytes);

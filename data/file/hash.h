// A 64-bit hash of content: equal bytes, equal hash, on every machine and in every version, as shards, caches
// and predictors keep it. Tells files apart, does not resist an adversary.
#pragma once

#include <stddef.h>
#include <stdint.h>

// XXH64 of data[size].
//                                                                 [Collet, xxHash specification 0.1.1]
// Content that comes in pieces is hashed by passing the hash so far as the next seed; that value then depends
// on where the pieces were cut.
uint64_t kv_hash64(uint64_t seed, const void *data, size_t size);

// 16 hex digits and a NUL.
void kv_hash_text(uint64_t hash, char out[17]);

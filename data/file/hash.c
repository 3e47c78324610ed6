// Thin on purpose: hashes stand in files, so that what computes them may change but their values may not.
#include "data/file/hash.h"

#include <stdio.h>
#include <xxhash.h>

uint64_t kv_hash64(uint64_t seed, const void *data, size_t size) {
    return XXH64(size > 0 ? data : "", size, seed);
}

void kv_hash_text(uint64_t hash, char out[17]) {
    snprintf(out, 17, "%016llx", (unsigned long long)hash);
}

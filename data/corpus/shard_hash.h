// The hash of a shard's content (data/corpus/shard.h), put together from those of its two lists.
#pragma once

#include "data/file/hash.h"

static inline void kv_shard_hash(uint64_t tokens, uint64_t documents, char out[17]) {
    kv_hash_text(kv_hash64(documents, &tokens, sizeof tokens), out);
}

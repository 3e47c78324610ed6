#include "data/corpus/packing.h"

#include "core/rng.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// The order of documents is the same for everyone, so that a cache needs to know no seed.
enum { CUT_SEED = 0 };

int64_t kv_packed_rows(int64_t n_tokens, int64_t seq_len) {
    return n_tokens > seq_len ? (n_tokens - 1) / seq_len : 0;
}

// All tokens in the drawn order of documents.
static void lay_out(const kv_shard *shard, const int64_t *order, int32_t *out) {
    for (int64_t i = 0; i < shard->n_documents; i++) {
        const int64_t first = shard->documents[order[i]], n = shard->documents[order[i] + 1] - first;
        memcpy(out, shard->tokens + first, (size_t)n * sizeof *out);
        out += n;
    }
}

kv_status kv_packed_cut(const kv_shard *shard, int64_t seq_len, int32_t *tokens, kv_error *err) {
    const int64_t n_rows = kv_packed_rows(shard->n_tokens, seq_len);
    int64_t *order = malloc(((size_t)shard->n_documents + 1) * sizeof *order);
    int32_t *text = malloc(((size_t)shard->n_tokens + 1) * sizeof *text);
    kv_status status = KV_OK;
    if (!order || !text) {
        status =
            kv_fail(err, KV_ERR_MEMORY, "out of memory for the rows of %" PRIi64 " tokens", shard->n_tokens);
    } else {
        kv_rng_permutation(kv_rng_stream(CUT_SEED, "packed documents"), shard->n_documents, order);
        lay_out(shard, order, text);
        for (int64_t r = 0; r < n_rows; r++)
            memcpy(tokens + r * (seq_len + 1), text + r * seq_len, (size_t)(seq_len + 1) * sizeof *tokens);
    }
    free(order);
    free(text);
    return status;
}

void kv_packed_shard_order(uint64_t seed, int64_t epoch, int64_t n_shards, int64_t *shard_order) {
    char name[64];
    snprintf(name, sizeof name, "shards of epoch %" PRIi64, epoch);
    kv_rng_permutation(kv_rng_stream(seed, name), n_shards, shard_order);
}

void kv_packed_row_order(uint64_t seed, int64_t epoch, int64_t shard, int64_t n_rows, int64_t *row_order) {
    char name[96];
    snprintf(name, sizeof name, "rows of shard %" PRIi64 " of epoch %" PRIi64, shard, epoch);
    kv_rng_permutation(kv_rng_stream(seed, name), n_rows, row_order);
}

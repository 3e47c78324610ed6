#include "data/shard.h"

#include "core/rng.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// The stream of training tokens is epoch after epoch without an end; row r of seq_len + 1 tokens begins at
// stream position r · seq_len. So a position gives its epoch and its place in it by division, and the order
// of one epoch, which is drawn anew when another is needed, is all there is to keep.
struct kv_batches {
    const kv_shard *shard;
    int64_t n_seq, seq_len;
    uint64_t seed;
    int64_t epoch;   // whose order is held, -1: none
    int64_t *order;  // [n_documents] which document comes i-th
    int64_t *starts; // [n_documents + 1] where the i-th begins within the epoch
    int32_t *row;    // [seq_len + 1]
};

static bool sizes_make_sense(int64_t n_seq, int64_t seq_len) {
    int64_t product;
    return n_seq > 0 && seq_len > 0 && seq_len < INT64_MAX / 8 &&
           !__builtin_mul_overflow(n_seq, seq_len, &product);
}

kv_status kv_batches_create(const kv_shard *shard, int64_t n_seq, int64_t seq_len, uint64_t seed,
                            kv_batches **batches, kv_error *err) {
    *batches = NULL;
    if (!sizes_make_sense(n_seq, seq_len))
        return kv_fail(err, KV_ERR_ARGUMENT,
                       "a batch of %" PRIi64 " sequences of %" PRIi64
                       " tokens makes no sense, both must be at least 1",
                       n_seq, seq_len);
    if (shard->n_tokens < 1)
        return kv_fail(err, KV_ERR_ARGUMENT, "the token shard has no tokens to train on");
    kv_batches *made = calloc(1, sizeof *made);
    if (!made) return kv_fail(err, KV_ERR_MEMORY, "out of memory");
    made->shard = shard;
    made->n_seq = n_seq;
    made->seq_len = seq_len;
    made->seed = seed;
    made->epoch = -1;
    made->order = malloc((size_t)shard->n_documents * sizeof *made->order);
    made->starts = malloc((size_t)(shard->n_documents + 1) * sizeof *made->starts);
    made->row = malloc((size_t)(seq_len + 1) * sizeof *made->row);
    if (!made->order || !made->starts || !made->row) {
        kv_batches_free(made);
        return kv_fail(err, KV_ERR_MEMORY, "out of memory for the order of %" PRIi64 " documents",
                       shard->n_documents);
    }
    *batches = made;
    return KV_OK;
}

void kv_batches_free(kv_batches *batches) {
    if (!batches) return;
    free(batches->order);
    free(batches->starts);
    free(batches->row);
    free(batches);
}

static void draw_epoch(kv_batches *batches, int64_t epoch) {
    if (batches->epoch == epoch) return;
    const kv_shard *shard = batches->shard;
    char name[40];
    snprintf(name, sizeof name, "documents of epoch %" PRIi64, epoch);
    kv_rng_permutation(kv_rng_stream(batches->seed, name), shard->n_documents, batches->order);
    batches->starts[0] = 0;
    for (int64_t i = 0; i < shard->n_documents; i++) {
        int64_t document = batches->order[i];
        batches->starts[i + 1] =
            batches->starts[i] + shard->documents[document + 1] - shard->documents[document];
    }
    batches->epoch = epoch;
}

// The last i with starts[i] <= offset: the document (in this epoch's order) that holds the token, as empty
// documents share their start with the one behind them.
static int64_t find_document(const kv_batches *batches, int64_t offset) {
    int64_t low = 0, high = batches->shard->n_documents;
    while (high - low > 1) {
        int64_t middle = low + (high - low) / 2;
        if (batches->starts[middle] <= offset)
            low = middle;
        else
            high = middle;
    }
    return low;
}

// n tokens of the endless stream from `position` on.
static void copy_stream(kv_batches *batches, int64_t position, int64_t n, int32_t *out) {
    const kv_shard *shard = batches->shard;
    while (n > 0) {
        draw_epoch(batches, position / shard->n_tokens);
        int64_t offset = position % shard->n_tokens;
        for (int64_t i = find_document(batches, offset); i < shard->n_documents && n > 0; i++) {
            int64_t count = batches->starts[i + 1] - offset;
            if (count > n) count = n;
            int64_t from = shard->documents[batches->order[i]] + offset - batches->starts[i];
            memcpy(out, shard->tokens + from, (size_t)count * sizeof *out);
            out += count;
            n -= count;
            offset += count;
            position += count;
        }
    }
}

kv_status kv_batches_get(kv_batches *batches, int64_t step, int32_t *input_ids, int32_t *target_ids,
                         kv_error *err) {
    int64_t seq_len = batches->seq_len, position, end;
    bool fits = step >= 0 && !__builtin_mul_overflow(step, batches->n_seq * seq_len, &position) &&
                !__builtin_add_overflow(position, batches->n_seq * seq_len + 1, &end);
    if (!fits) return kv_fail(err, KV_ERR_RANGE, "there is no batch for step %" PRIi64, step);
    for (int64_t row = 0; row < batches->n_seq; row++) {
        copy_stream(batches, position + row * seq_len, seq_len + 1, batches->row);
        memcpy(input_ids + row * seq_len, batches->row, (size_t)seq_len * sizeof *input_ids);
        memcpy(target_ids + row * seq_len, batches->row + 1, (size_t)seq_len * sizeof *target_ids);
    }
    return KV_OK;
}

double kv_batches_epochs(const kv_batches *batches, int64_t steps) {
    return (double)steps * (double)batches->n_seq * (double)batches->seq_len /
           (double)batches->shard->n_tokens;
}

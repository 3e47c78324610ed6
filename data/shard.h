// Token shards: tokenized documents in one HDF5 file, and the stream of training batches drawn from shards.
//
// File: /tokens int32 [n_tokens] (chunked, shuffle + deflate, Fletcher-32), /documents int64 [n_documents +
// 1] (start of each, the end last); attributes format = "kv-tokens", version = 1, tokenizer (hash),
// vocab_size, bos_id, eos_id, source. BOS and EOS are part of each document.
#pragma once

#include "core/status.h"

#include <stdint.h>

// ---- Writing -------------------------------------------------------------------------------------------

typedef struct kv_shard_writer kv_shard_writer;
typedef struct kv_shard_info {
    char tokenizer[17]; // hash
    int64_t vocab_size;
    int32_t bos_id, eos_id;
    char source[256];
} kv_shard_info;

// Appends stream to a temporary file; memory does not grow with the shard. finish() commits, free() without
// it abandons.
kv_status kv_shard_writer_open(const char *path, const kv_shard_info *info, kv_shard_writer **writer,
                               kv_error *err);
kv_status kv_shard_writer_add(kv_shard_writer *writer, const int32_t *ids, int64_t n,
                              kv_error *err); // one document
kv_status kv_shard_writer_finish(kv_shard_writer *writer, kv_error *err);
void kv_shard_writer_free(kv_shard_writer *writer);

// ---- Reading -------------------------------------------------------------------------------------------

typedef struct kv_shard {
    kv_shard_info info;
    int64_t n_documents, n_tokens;
    int64_t *documents; // [n_documents + 1]
    int32_t *tokens;    // [n_tokens], every id checked against vocab_size
} kv_shard;

// What a shard says of itself, without reading its tokens.
kv_status kv_shard_read_info(const char *path, kv_shard_info *info, kv_error *err);

kv_status kv_shard_open(const char *path, kv_shard **shard, kv_error *err);
void kv_shard_free(kv_shard *shard);

// ---- Batches -------------------------------------------------------------------------------------------

// Epoch e is all documents in an order that depends on (seed, e) alone, laid end to end and cut into rows of
// seq_len + 1 tokens that overlap by one (inputs and next-token targets); what is left at the end of an epoch
// is joined by the next epoch's beginning. The batch of a step is a pure function of (seed, step): resuming
// needs no state.
typedef struct kv_batches kv_batches;
kv_status kv_batches_create(const kv_shard *shard, int64_t n_seq, int64_t seq_len, uint64_t seed,
                            kv_batches **batches, kv_error *err);
void kv_batches_free(kv_batches *batches);
// input_ids, target_ids [n_seq · seq_len], all targets valid.
kv_status kv_batches_get(kv_batches *batches, int64_t step, int32_t *input_ids, int32_t *target_ids,
                         kv_error *err);
double kv_batches_epochs(const kv_batches *batches, int64_t steps); // how many epochs that many steps are

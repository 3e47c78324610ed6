// Token shards: tokenized documents in one HDF5 file. data/corpus/corpus.h puts several together,
// data/corpus/batches.h draws training batches from them.
//
//   /tokens      int32 [n_tokens], chunked, shuffle + deflate, Fletcher-32; BOS and EOS are part of a document
//   /documents   int64 [n_documents + 1], likewise: where each starts, the end last
//   attributes   format = "kv-tokens", version = 1, tokenizer (hash), vocab_size, bos_id, eos_id, source and,
//                in all but old shards, hash and cuts (of the tokenizer: data/tokenizer/files.h)
//   /tokenizer_files/NAME    uint8 [bytes]: the tokenizer that made the ids, so that what is trained on them can have
//                it; in a shard of its own and in the first of a corpus, of which one is enough. Not in old shards
//
// The hash tells contents apart: XXH64 of the tokens, 65536 at a time, each piece seeded with the hash before
// it; the same of the documents, 4096 at a time; and of the first with the second as its seed.
#pragma once

#include "core/api.h"
#include "data/file/bundle.h"

#include <stdint.h>

KV_API_BEGIN

#define KV_SHARD_TOKENIZER "/tokenizer_files"

enum { KV_SHARD_TOKEN_PIECE = 65536, KV_SHARD_DOCUMENT_PIECE = 4096 };

// ---- Writing -------------------------------------------------------------------------------------------

typedef struct kv_shard_writer kv_shard_writer;
typedef struct kv_shard_info {
    char tokenizer[17]; // hash
    int64_t vocab_size;
    int32_t bos_id, eos_id;
    char source[256];
    char cuts[17]; // how the tokenizer cuts text (data/tokenizer/files.h); empty: not known
} kv_shard_info;

// Appends stream to a temporary file; memory does not grow with the shard. finish() commits, free() without
// it abandons.
kv_status kv_shard_writer_open(const char *path, const kv_shard_info *info, kv_shard_writer **writer,
                               kv_error *err);
// The files of the tokenizer; once, before finish.
kv_status kv_shard_writer_add_tokenizer(kv_shard_writer *writer, const kv_bundle *files, kv_error *err);
kv_status kv_shard_writer_add(kv_shard_writer *writer, const int32_t *ids, int64_t n,
                              kv_error *err); // one document
kv_status kv_shard_writer_finish(kv_shard_writer *writer, kv_error *err);
const char *kv_shard_writer_hash(const kv_shard_writer *writer); // after finish; the writer's
void kv_shard_writer_free(kv_shard_writer *writer);

// The hash of a shard from those of its two lists, for those who hash as they write.
void kv_shard_hash(uint64_t tokens, uint64_t documents, char out[17]);

// ---- Reading -------------------------------------------------------------------------------------------

typedef struct kv_shard {
    kv_shard_info info;
    int64_t n_documents, n_tokens;
    char hash[17];      // of the content
    int64_t *documents; // [n_documents + 1]
    int32_t *tokens;    // [n_tokens], every id checked against vocab_size
} kv_shard;

typedef struct kv_shard_summary {
    kv_shard_info info;
    int64_t n_documents, n_tokens;
    char hash[17];
} kv_shard_summary;

// What a shard says of itself. Its tokens are only read where an old shard does not say its hash.
kv_status kv_shard_read_summary(const char *path, kv_shard_summary *summary, kv_error *err);

// The files of the tokenizer, none (n 0) where the shard holds none. Free with kv_bundle_free.
kv_status kv_shard_read_tokenizer(const char *path, kv_bundle *files, kv_error *err);

// A shard whose content is not what its hash says is KV_ERR_FORMAT.
kv_status kv_shard_open(const char *path, kv_shard **shard, kv_error *err);
void kv_shard_free(kv_shard *shard);

KV_API_END

// A corpus: what kvdata tokenize made of some text. One token shard, or a directory of them with an index:
//   shard-00000.h5, shard-00001.h5, ...   data/corpus/shard.h
//   index.json                            format "kv-corpus", version 1; tokenizer (hash), vocab_size,
//                                         bos_id, eos_id; documents, tokens; shards: [{file, documents,
//                                         tokens, hash}]; sources: [path]; filters and left_out, for people
// The directory is a corpus once it has its index.
#pragma once

#include "core/api.h"
#include "data/corpus/shard.h"

#include <limits.h>

KV_API_BEGIN

#define KV_CORPUS_INDEX "index.json"
enum { KV_CORPUS_MAX_SHARDS = 100000 };

typedef struct kv_corpus_shard {
    char *path;
    int64_t n_documents, n_tokens;
    char hash[17]; // of tokens and documents
} kv_corpus_shard;

typedef struct kv_corpus {
    kv_shard_info info; // all shards'; source: the first's
    int64_t n_documents, n_tokens, n_shards;
    kv_corpus_shard *shards; // [n_shards]
} kv_corpus;

// Opens without reading tokens (but old shards are read once, as they do not say their hash). Shards that are
// missing, or are not what the index says, are an error naming them. On failure *corpus is NULL. Free with
// kv_corpus_free (accepts NULL).
kv_status kv_corpus_open(const char *path, kv_corpus **corpus, kv_error *err);
void kv_corpus_free(kv_corpus *corpus);

// The files of the tokenizer that made it; none (n 0) in old ones, and in a shard that was taken out of a corpus. Free
// with kv_bundle_free.
kv_status kv_corpus_tokenizer(const kv_corpus *corpus, kv_bundle *files, kv_error *err);

// Of the shards' hashes in their order: the same text, cut in the same way.
void kv_corpus_hash(const kv_corpus *corpus, char out[17]);
// The most a shard has.
int64_t kv_corpus_largest_tokens(const kv_corpus *corpus);
int64_t kv_corpus_largest_documents(const kv_corpus *corpus);

KV_API_END

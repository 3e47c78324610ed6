// The text of a run: the corpora that data.train or data.mixture name, and that of data.validation.
#pragma once

#include "data/corpus/batches.h"
#include "data/tokenizer/files.h"
#include "train/config/config.h"

typedef struct kv_train_text {
    const kv_train_config *config; // borrowed
    int64_t n_parts;               // 1: data.train
    kv_corpus **corpora;           // [n_parts]
    kv_batch_part *parts;          // [n_parts], of the corpora
    kv_shard_info info;            // what all corpora agree in; source: the first's
    int64_t n_documents, n_tokens; // of all parts
    kv_bundle tokenizer;   // the files of what made it; none where all corpora are too old to hold them
    kv_corpus *validation; // NULL: none
} kv_train_text;

// Reads no tokens. Tokenizer, vocabulary, BOS and EOS of all corpora must agree; errors name the config's
// key. *text must be zeroed; close with kv_train_text_close, also after a failure.
kv_status kv_train_text_open(const kv_config *source, const kv_train_config *config, kv_train_text *text,
                             kv_error *err);
void kv_train_text_close(kv_train_text *text);
// What made it.
kv_tokenizer_id kv_train_text_tokenizer(const kv_train_text *text);

// Batches of n_seq sequences of the training text, as the config packs it.
kv_batches_args kv_train_batches(const kv_train_text *text, int64_t n_seq);

// Most bytes of the training text that are in memory at a time, with the order of its documents and its tokenizer's
// files: the largest shard of each part.
double kv_train_text_bytes(const kv_train_text *text);

// "data.train" or "data.mixture[2].corpus", and the path it has.
enum { KV_TEXT_KEY = 48 };
const char *kv_train_text_key(const kv_train_config *config, int64_t part, char key[KV_TEXT_KEY]);
const char *kv_train_text_path(const kv_train_config *config, int64_t part);

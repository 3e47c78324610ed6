// The files that a tokenizer is made of, and what stands for them where they are not at hand.
//
// Ids mean nothing without the tokenizer that made them. So its files go along with them: from the tokenizer into the
// token shard (data/corpus/shard.h), from there into the models trained on it. Where they cannot go along (a shard
// of before shards held them) or would weigh too much (checkpoints), its identity does:
//   tokenizer_hash.json    format "kv-tokenizer-hash", version 1; hash, vocab_size and, if known, cuts
#pragma once

#include "core/api.h"
#include "data/file/bundle.h"
#include "data/tokenizer/tokenizer.h"

KV_API_BEGIN

// What a tokenizer is known by: kv_tokenizer_hash and kv_tokenizer_vocab_size; and how it cuts text, a hash of the ids
// of a fixed text, since tokenizers with the same pieces may merge, normalise or split differently. Empty: not known.
typedef struct kv_tokenizer_id {
    char hash[17];
    int64_t vocab_size;
    char cuts[17];
} kv_tokenizer_id;

void kv_tokenizer_identify(const kv_tokenizer *tokenizer, kv_tokenizer_id *id);
// Whether the tokenizer is that one, or goes on where it ends (as a chat model's with its added tokens).
bool kv_tokenizer_is(const kv_tokenizer *tokenizer, const kv_tokenizer_id *id);
// The same, and where it goes on it cuts text as that one does: a vocabulary of more merges begins as one of fewer, and
// is another.
bool kv_tokenizer_serves(const kv_tokenizer *tokenizer, const kv_tokenizer_id *id);
// Of tokenizers with the same pieces, whether they give other ids to the same text. Where either does not say: false.
bool kv_tokenizer_cuts_differ(const kv_tokenizer_id *a, const kv_tokenizer_id *b);

// All files of the tokenizer at `path` (as kv_tokenizer_open takes it) under the names they have in a model's
// directory, and those beside it that belong to it: what it says of special tokens, the chat template, the identity.
kv_status kv_tokenizer_gather(const char *path, kv_bundle *bundle, kv_error *err);
// Writes what was gathered into dir, all or nothing. Files of other names are left out: a bundle may have been read
// from a file that anybody made.
kv_status kv_tokenizer_scatter(const kv_bundle *bundle, const char *dir, kv_error *err);
// Both, from one directory to another: what is made of a model is then as complete as the model was. Nothing to
// copy is no error.
kv_status kv_tokenizer_copy(const char *from, const char *to, kv_error *err);

// tokenizer_hash.json of a directory. *found false: there is none.
kv_status kv_tokenizer_id_write(const char *dir, const kv_tokenizer_id *id, kv_error *err);
kv_status kv_tokenizer_id_read(const char *dir, kv_tokenizer_id *id, bool *found, kv_error *err);

KV_API_END

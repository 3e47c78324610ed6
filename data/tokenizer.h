// Text ↔ token ids.
#pragma once

#include "core/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct kv_tokenizer kv_tokenizer;

// A SentencePiece model: a `tokenizer.model` file, or a directory that holds one. Free with
// kv_tokenizer_free.
kv_status kv_tokenizer_open(const char *path, kv_tokenizer **tokenizer, kv_error *err);
void kv_tokenizer_free(kv_tokenizer *tokenizer);

// Whether a directory holds a tokenizer by its files' names; nothing is read.
bool kv_tokenizer_present(const char *dir);

int64_t kv_tokenizer_vocab_size(const kv_tokenizer *tokenizer);

// What a prompt begins with by the tokenizer's own rule, and what ends a document; -1: nothing.
int32_t kv_tokenizer_bos(const kv_tokenizer *tokenizer);
int32_t kv_tokenizer_eos(const kv_tokenizer *tokenizer);

// Hash of the tokenizer's content, 16 hex digits: equal exactly when the files are.
const char *kv_tokenizer_hash(const kv_tokenizer *tokenizer);

// The piece with that id, as the tokenizer's file spells it (SentencePiece with U+2581 for a space,
// byte-level ones with their stand-ins for bytes): NUL-terminated, valid as long as the tokenizer. NULL where
// the vocabulary has a hole, or the id is outside it.
const char *kv_tokenizer_piece(const kv_tokenizer *tokenizer, int32_t id);
// The id of a piece spelt that way; -1: there is none.
int32_t kv_tokenizer_find(const kv_tokenizer *tokenizer, const char *piece);

// Ids of text[length] without BOS or EOS. Caller frees *ids.
kv_status kv_tokenizer_encode(const kv_tokenizer *tokenizer, const char *text, size_t length, int32_t **ids,
                              int64_t *n, kv_error *err);

// The same with all text as text: what reads like a special token is spelt out, not taken for one. For what
// users type.
kv_status kv_tokenizer_encode_plain(const kv_tokenizer *tokenizer, const char *text, size_t length,
                                    int32_t **ids, int64_t *n, kv_error *err);

// Text of ids[n], NUL-terminated, *length bytes. Ids outside the vocabulary are KV_ERR_RANGE. Caller frees
// *text.
kv_status kv_tokenizer_decode(const kv_tokenizer *tokenizer, const int32_t *ids, int64_t n, char **text,
                              size_t *length, kv_error *err);

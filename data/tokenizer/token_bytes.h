// How many bytes of a text each of its tokens stands for: so that nats a token become bits a byte, which tokenizers
// can be compared by.
//
// The bytes of a document's tokens add up to its text as kv_tokenizer_decode gives it back. A token whose bytes are a
// part of a character counts those bytes; the space that a tokenizer puts in front of a text, and BOS and EOS around a
// document, count none.
#pragma once

#include "core/api.h"
#include "data/tokenizer/tokenizer.h"

KV_API_BEGIN

typedef struct kv_token_bytes kv_token_bytes;

// The tokenizer is borrowed. KV_ERR_FORMAT where it cannot turn ids into text. Free with kv_token_bytes_free
// (accepts NULL).
kv_status kv_token_bytes_create(const kv_tokenizer *tokenizer, kv_token_bytes **counter, kv_error *err);
void kv_token_bytes_free(kv_token_bytes *counter);

// bytes[n] of ids[n], a document with or without its BOS and EOS. Every id is asked of the tokenizer once, however
// often it comes. KV_ERR_RANGE on an id outside the vocabulary.
kv_status kv_token_bytes_count(kv_token_bytes *counter, const int32_t *ids, int64_t n, int32_t *bytes,
                               kv_error *err);

KV_API_END

// What a tokenizer.json does to text before it is split: NFC, Prepend, Replace, and sequences of those.
#pragma once

#include "data/system/buffers.h"
#include "data/tokenizer/json_part.h"

typedef struct kv_normalizer kv_normalizer;

// From the file's "normalizer", which may be absent. KV_ERR_FORMAT names what is not supported.
kv_status kv_normalizer_create(const kv_json_part *part, kv_normalizer **normalizer, kv_error *err);
void kv_normalizer_free(kv_normalizer *normalizer);

// Puts the normal form of text[length] into *out (whatever it held before). Invalid bytes stay; empty text
// stays empty.
kv_status kv_normalize(const kv_normalizer *normalizer, const char *text, size_t length, kv_bytes *out,
                       kv_error *err);

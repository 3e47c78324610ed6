// tokenizer.model of SentencePiece, by its own library, and what that does not do: bytes that are no UTF-8,
// and long texts in little memory.
#pragma once

#include "data/system/buffers.h"
#include "data/tokenizer/sentencepiece_binding.h"

#include <stdbool.h>

typedef struct kv_spm_tokenizer {
    kv_spm *spm;
    // Of models with byte fallback alone, the others have no way to spell a byte:
    bool byte_fallback;
    int32_t bytes[256]; // the piece of each byte
    kv_ids anchor;      // what the library makes of a character that is in no piece, see data/tokenizer/spm.c
    bool cuts_at_spaces; // no piece leads across the end of a word: U+2581 behind another character
} kv_spm_tokenizer;

kv_status kv_spm_tokenizer_open(const char *path, kv_spm_tokenizer **tokenizer, kv_error *err);
void kv_spm_tokenizer_free(kv_spm_tokenizer *tokenizer);

// Both append. KV_ERR_INTERRUPTED on Ctrl-C.
kv_status kv_spm_tokenizer_encode(const kv_spm_tokenizer *tokenizer, const char *text, size_t length,
                                  kv_ids *ids, kv_error *err);
kv_status kv_spm_tokenizer_decode(const kv_spm_tokenizer *tokenizer, const int32_t *ids, int64_t n,
                                  kv_bytes *text, kv_error *err);

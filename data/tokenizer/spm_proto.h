// What a SentencePiece model says in its file: its library gives pieces away and little else. Read by hand, since the file
// is a protocol buffer of a few fields: numbers and types as in [sentencepiece, src/sentencepiece_model.proto].
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum kv_spm_type {
    KV_SPM_NORMAL = 1,
    KV_SPM_UNKNOWN,
    KV_SPM_CONTROL,
    KV_SPM_USER_DEFINED,
    KV_SPM_UNUSED,
    KV_SPM_BYTE
} kv_spm_type;

typedef struct kv_spm_piece_info {
    const char *spelling; // [length], in the file's bytes
    size_t length;
    float score;
    kv_spm_type type;
} kv_spm_piece_info;

// A walk over the pieces, which come first in the file: *at begins at its bytes, end is behind them. False: no further
// piece.
bool kv_spm_next_piece(const char **at, const char *end, kv_spm_piece_info *piece);

// How it splits and normalises; what the file does not say is as the format has it.
typedef struct kv_spm_settings {
    bool is_bpe;        // else unigram, word or char
    bool byte_fallback; // characters without a piece are spelt in bytes
    bool space_behind;  // a word ends with its space instead of beginning with it
    bool dummy_prefix, strips_spaces, escapes_spaces;
    bool rewrites; // by rules such as NFKC, to text or back
} kv_spm_settings;

// False: not a protocol buffer.
bool kv_spm_read_settings(const char *bytes, size_t size, kv_spm_settings *settings);

// How a tokenizer.json turns pieces back into text: ByteLevel, Metaspace, Replace, ByteFallback, Fuse, Strip,
// and sequences of those.
#pragma once

#include "data/system/buffers.h"
#include "data/tokenizer/json_part.h"

typedef struct kv_detokenizer kv_detokenizer;

// From the file's "decoder". KV_ERR_FORMAT names what is not supported.
kv_status kv_detokenizer_create(const kv_json_part *part, kv_detokenizer **detokenizer, kv_error *err);
void kv_detokenizer_free(kv_detokenizer *detokenizer);

// Pieces on their way to text, which lie one behind the other.
typedef struct kv_pieces {
    kv_bytes text;
    struct kv_piece {
        size_t end;   // where it ends in the text
        bool is_text; // spells no bytes, as an added token does not: ByteLevel leaves it as it is
    } * pieces;
    size_t n, capacity;
} kv_pieces;

kv_status kv_pieces_add(kv_pieces *pieces, const char *piece, size_t length, bool is_text, kv_error *err);
void kv_pieces_free(kv_pieces *pieces);

// Replaces the pieces by those of the text they stand for, byte by byte: what a piece of bytes stands for
// need not be valid UTF-8.
kv_status kv_detokenize(const kv_detokenizer *detokenizer, kv_pieces *pieces, kv_error *err);

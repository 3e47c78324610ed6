// Text ↔ token ids: the one door to all tokenizers.
//
// Two kinds of files are read: SentencePiece's tokenizer.model, and tokenizer.json of Hugging Face's
// tokenizers with a byte-pair model (GPT-2, StarCoder, SmolLM, Llama-3, Qwen; and Llama-2's, which is the
// same as its tokenizer.model).
//
// Any bytes are text, NUL and invalid UTF-8 too: valid stretches are split and merged as text, invalid bytes
// are encoded one by one. Decoding the ids of a text gives it back byte by byte, except where the tokenizer
// itself cannot or does not want to:
//   - its normalisation changes the text (NFC, NFKC, white space collapsed), or its splitting removes what it
//     splits at; U+2581 in a SentencePiece vocabulary is what it writes for a space, and comes back as one;
//   - it puts a space in front of text that does not begin with one, and cannot tell the two apart (ByteLevel
//     with add_prefix_space, Metaspace; not Llama-2's, whose space is always added and always taken away), or
//     in front of all text behind a special token (Llama-2's tokenizer.json);
//   - added tokens that take the white space beside them;
//   - bytes or characters without a piece (SentencePiece models without byte fallback; StarCoder's lacks 14
//     bytes, 13 of which no valid UTF-8 has): the unknown token, or KV_ERR_FORMAT where there is none.
//
// A tokenizer never changes: threads may share it. Ctrl-C ends a long encoding (KV_ERR_INTERRUPTED).
#pragma once

#include "core/api.h"
#include "core/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

KV_API_BEGIN

typedef struct kv_tokenizer kv_tokenizer;

// A tokenizer.json (any *.json), a tokenizer.model, or a directory: its tokenizer.json or else its
// tokenizer.model (which of two: data/tokenizer/directory.h), if it agrees with what else lies in there. What of a tokenizer.json is
// not supported is KV_ERR_FORMAT and named. Free with kv_tokenizer_free.
kv_status kv_tokenizer_open(const char *path, kv_tokenizer **tokenizer, kv_error *err);
// The same of a file, whatever lies beside it.
kv_status kv_tokenizer_open_file(const char *file, kv_tokenizer **tokenizer, kv_error *err);
void kv_tokenizer_free(kv_tokenizer *tokenizer);

// Whether a directory holds a tokenizer by its files' names; nothing is read.
bool kv_tokenizer_present(const char *dir);

// Whether a file is a tokenizer.json rather than a tokenizer.model, as kv_tokenizer_open sees it.
bool kv_tokenizer_is_json(const char *file);

// One more than the largest id. Ids between may be holes.
int64_t kv_tokenizer_vocab_size(const kv_tokenizer *tokenizer);

// What a prompt begins with by the tokenizer's own rule, and what ends a document; -1: nothing. Of a
// tokenizer.model: as it says. Of a tokenizer.json: data/tokenizer/special.h.
int32_t kv_tokenizer_bos(const kv_tokenizer *tokenizer);
int32_t kv_tokenizer_eos(const kv_tokenizer *tokenizer);

// Hash of all pieces in the order of their ids, 16 hex digits: equal for a tokenizer.model and a
// tokenizer.json with the same pieces.
const char *kv_tokenizer_hash(const kv_tokenizer *tokenizer);
// The same of the first n pieces: what kv_tokenizer_hash is of a tokenizer that has no others.
void kv_tokenizer_hash_first(const kv_tokenizer *tokenizer, int64_t n, char out[17]);

// The piece with that id, as the tokenizer's file spells it (SentencePiece with U+2581 for a space,
// byte-level ones with their stand-ins for bytes): NUL-terminated, valid as long as the tokenizer. NULL where
// the vocabulary has a hole, or the id is outside it.
const char *kv_tokenizer_piece(const kv_tokenizer *tokenizer, int32_t id);
// The id of a piece spelt that way; -1: there is none.
int32_t kv_tokenizer_find(const kv_tokenizer *tokenizer, const char *piece);
// How many ids a text can have that spells no added token: as many rows a model's table must have. Added tokens
// behind them are as a rule such as [PAD], that no text has; one that has is refused for its id.
int64_t kv_tokenizer_words(const kv_tokenizer *tokenizer);
// Whether ids can be turned into text at all: a tokenizer.json may lack a decoder, or have one that is not known.
kv_status kv_tokenizer_speaks(const kv_tokenizer *tokenizer, kv_error *err);

// Ids of text[length] without BOS or EOS. Of a tokenizer.json added tokens, special ones among them, are
// recognised in the text as Hugging Face's tokenizers do. Time is n log n in the longest word and linear in
// all else. Caller frees *ids, which is not NULL even if there are none.
kv_status kv_tokenizer_encode(const kv_tokenizer *tokenizer, const char *text, size_t length, int32_t **ids,
                              int64_t *n, kv_error *err);

// The same with all text as text: what reads like a special token is spelt out, not taken for one. For what
// users type. (Added tokens that are not special, runs of spaces as a rule, stay tokens.)
kv_status kv_tokenizer_encode_plain(const kv_tokenizer *tokenizer, const char *text, size_t length,
                                    int32_t **ids, int64_t *n, kv_error *err);

// Text of ids[n], NUL-terminated, *length bytes, not always valid UTF-8: ids may end within a character.
// Special tokens of a tokenizer.json read as they are spelt, those of a tokenizer.model and holes as nothing.
// Ids outside the vocabulary are KV_ERR_RANGE. Caller frees *text.
kv_status kv_tokenizer_decode(const kv_tokenizer *tokenizer, const int32_t *ids, int64_t n, char **text,
                              size_t *length, kv_error *err);

// Text of ids[n] as it reads behind other text. Decoded alone a generation would lose the white space it
// begins with to some tokenizers: SentencePiece models with a dummy prefix, or that remove extra white space,
// drop it in front of the first piece. Caller frees *text; errors as of kv_tokenizer_decode.
kv_status kv_decode_continuation(const kv_tokenizer *tokenizer, const int32_t *ids, int64_t n, char **text,
                                 size_t *length, kv_error *err);

KV_API_END

// tokenizer.json of Hugging Face's tokenizers, of the byte-pair kind: byte-level vocabularies (GPT-2,
// StarCoder, SmolLM, Llama-3, Qwen) and those of SentencePiece models (Llama-2, with byte fallback). What of
// such a file is not supported is refused by name.
#pragma once

#include "data/tokenizer/added_tokens.h"
#include "data/tokenizer/bpe.h"
#include "data/tokenizer/detokenizer.h"
#include "data/tokenizer/normalizer.h"
#include "data/tokenizer/pretokenizer.h"

// What a file holds. Nothing changes after opening: threads may share it.
typedef struct kv_json_tokenizer {
    kv_vocabulary *vocabulary; // added tokens included
    bool *is_added;            // by id
    bool *only_added;          // by id: not in the model's own vocabulary, so that no word is spelt with it
    kv_bpe *bpe;
    kv_added_tokens *added, *added_normalized; // found before and after normalising
    kv_normalizer *normalizer;
    kv_pretokenizer *pretokenizer;
    kv_detokenizer *detokenizer; // NULL: ids cannot be turned into text, for this reason
    char *no_decoder;
    bool cuts_at_spaces; // no merge leads across the end of a word: U+2581 behind another character
    int32_t bos, eos;    // -1: none
} kv_json_tokenizer;

// Files beside it are looked at as data/tokenizer/special.h says.
kv_status kv_json_tokenizer_open(const char *path, kv_json_tokenizer **tokenizer, kv_error *err);
void kv_json_tokenizer_free(kv_json_tokenizer *tokenizer);

// Appends the ids of text[length]; with `plain` special tokens are text. KV_ERR_INTERRUPTED on Ctrl-C.
kv_status kv_json_tokenizer_encode(const kv_json_tokenizer *tokenizer, const char *text, size_t length,
                                   bool plain, kv_ids *ids, kv_error *err);
// Appends the text of ids[n], all inside the vocabulary. Holes are no text.
kv_status kv_json_tokenizer_decode(const kv_json_tokenizer *tokenizer, const int32_t *ids, int64_t n,
                                   kv_bytes *text, kv_error *err);

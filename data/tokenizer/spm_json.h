// A SentencePiece model in the words of Hugging Face's tokenizers: its tokenizer.json.
#pragma once

#include "core/status.h"

#include <jansson.h>
#include <stddef.h>

// The tokenizer.json that gives the same ids and the same text as the model in bytes[size], a tokenizer.model; free *root
// with json_decref. bos: what stands in front of a text where special tokens are added, -1: nothing. KV_ERR_ARGUMENT says
// what of the model cannot be said there; then *root is NULL.
//
// What differs: a special token that is spelt in a text, as </s>, is that token to Hugging Face's library and text to
// SentencePiece's; and its id reads as it is spelt, and as nothing.
kv_status kv_spm_to_json(const char *bytes, size_t size, int32_t bos, json_t **root, kv_error *err);

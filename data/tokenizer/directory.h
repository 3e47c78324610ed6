// What else lies in the directory of a tokenizer and must agree with it; kv_tokenizer_open asks.
#pragma once

#include "data/tokenizer/tokenizer.h"

#include <limits.h>

// The file in there that kv_tokenizer_open reads, its path in out: the tokenizer.json, or else the tokenizer.model, which
// also goes first where the other was made from it (data/tokenizer/export.h). false: there is neither.
bool kv_tokenizer_file(const char *dir, char out[PATH_MAX]);

// KV_ERR_MISMATCH where a tokenizer_hash.json (data/tokenizer/files.h) says that the model in there was trained with
// another tokenizer than the one in there: somebody put it in the other's place. The tokenizer may go on where that one
// ends. One that has the same tokens but cuts text in another way is a warning, and so are a tokenizer.json and a
// tokenizer.model of two tokenizers in one directory: what the latter is like is not asked by anybody else.
kv_status kv_tokenizer_check_directory(const char *dir, const kv_tokenizer *tokenizer, kv_error *err);

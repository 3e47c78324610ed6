// What Hugging Face's transformers wants beside a model, so that AutoTokenizer.from_pretrained takes its directory as it is.
#pragma once

#include "core/status.h"

#include <stdbool.h>
#include <stdint.h>

// Adds to a directory with a tokenizer what AutoTokenizer misses there:
//   beside a tokenizer.model alone   a tokenizer.json that gives the same ids (data/tokenizer/spm_json.h),
//                                    tokenizer_config.json and special_tokens_map.json; a warning where it can give none
//   beside a tokenizer.json alone    the tokenizer_config.json
// Where there is a tokenizer_config.json already all is as it came, and stays. context_length: model_max_length.
kv_status kv_tokenizer_export(const char *dir, int64_t context_length, kv_error *err);

// Whether the tokenizer.json in there was made so of the tokenizer.model in there, and is as it was then. The model is the
// one that counts: it takes a special token that is spelt in a text for text, and whoever changes tokenizers without
// transformers changes it.
bool kv_tokenizer_is_export(const char *dir);

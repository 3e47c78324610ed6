// Which tokens a tokenizer.json and the files beside it put around a text.
#pragma once

#include "data/tokenizer/json_part.h"
#include "data/tokenizer/vocabulary.h"

// BOS: what the file's post-processor (TemplateProcessing) puts in front of a single text. Where
// tokenizer_config.json beside it names a Llama tokenizer class and has add_bos_token, that decides, since
// those classes make their post-processor from it: true is its bos_token, false none. EOS: eos_token of
// tokenizer_config.json, else of special_tokens_map.json, else what the post-processor puts behind a text. -1
// where there is none. A BOS outside the vocabulary is KV_ERR_FORMAT; an EOS there, or a special_tokens_map.json
// that cannot be read, is left out with a warning.
kv_status kv_special_tokens_read(const char *path, const kv_json_part *root, const kv_vocabulary *vocabulary,
                                 int32_t *bos, int32_t *eos, kv_error *err);

// config.json of Hugging Face checkpoints ↔ kv_model_spec.
#pragma once

#include "core/model.h"

// dir/config.json → *spec; dir/generation_config.json, where there is one, may add to the tokens that end a
// text. Model types and features that are not supported are refused by name.
kv_status kv_hf_config_read(const char *dir, kv_model_spec *spec, kv_error *err);

// The same from the text of a config.json; `name` stands for its file in errors.
kv_status kv_hf_config_parse(const char *name, const char *text, kv_model_spec *spec, kv_error *err);

// The text of a config.json that reads back as exactly this spec (a spec that its model type's config.json
// cannot express is KV_ERR_ARGUMENT). Caller frees *text.
kv_status kv_hf_config_write(const kv_model_spec *spec, char **text, kv_error *err);

// The same of generation_config.json: which tokens begin and end a text. It says nothing about drawing.
kv_status kv_hf_generation_write(const kv_model_spec *spec, char **text, kv_error *err);

// Sets the model_type of a new model to what it is in Hugging Face's terms: llama, qwen3 (q/k norm) or qwen2 (QKV bias)
// where that type's config.json can say all of the spec, else openelm. For models that come from no checkpoint: others
// keep the type that they have.
void kv_hf_config_name(kv_model_spec *spec);

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

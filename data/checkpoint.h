// Models and predictors on disk, in the Hugging Face directory layout: config.json + model.safetensors.
#pragma once

#include "core/predictor.h"

// config.json → spec. Unsupported model types and features are refused by name (KV_ERR_FORMAT).
kv_status kv_checkpoint_spec(const char *dir, kv_model_spec *spec, kv_error *err);

// Loads a frozen model. Weights stay in their stored type and are views of the mapped file (no copy). Every
// tensor is checked for presence, type and shape against config.json; surplus tensors are refused too. Where
// `dir` is "random:NAME" (a published shape) the model is made with seeded random weights instead.
kv_status kv_checkpoint_load(const char *dir, kv_model **model, kv_error *err);

// The same, as an owned float32 copy that can be made trainable.
kv_status kv_checkpoint_load_trainable(const char *dir, kv_model **model, kv_error *err);

// Writes config.json and model.safetensors (float32, fused projections joined) into dir, which must exist.
kv_status kv_checkpoint_save(const char *dir, kv_model *model, kv_error *err);

// SHA-256-like identity of a model's weights is not needed here; this is its size-and-content fingerprint: a
// 64-bit hash over config and all weight bytes, as 16 hex digits plus NUL.
void kv_checkpoint_fingerprint(kv_model *model, char out[17]);

// Predictor directory: predictor.json (mapping, layer counts, fingerprint of the base it was made for) +
// predictor.safetensors (key.i.weight, key.i.bias, value.i.weight, value.i.bias; weight is [out, in]). A bare
// predictor.safetensors without the JSON needs `mapping`. Loading checks every shape against both specs.
kv_status kv_predictor_save(const char *dir, kv_predictor *predictor, const char *base_fingerprint,
                            kv_error *err);
// base_fingerprint: what it must have been made for; NULL skips that check. mapping: NULL takes the one in
// predictor.json.
kv_status kv_predictor_load(const char *dir, const kv_model_spec *base, const kv_model_spec *aux,
                            const char *base_fingerprint, const int32_t *mapping, kv_predictor **predictor,
                            kv_error *err);

// Models and predictors on disk, in the Hugging Face directory layout: config.json + model.safetensors, or
// the files that model.safetensors.index.json names. Model types openelm, llama, qwen2 and qwen3; float32,
// bfloat16 and float16. Wherever a directory is asked for, a name as in data/random_checkpoint.h will do:
// random:openelm-1.1b for a model, random for a predictor.
#pragma once

#include "core/predictor.h"

// config.json (and generation_config.json for the tokens that end a text) → spec. Unsupported model types and
// features are refused by name (KV_ERR_FORMAT).
kv_status kv_checkpoint_spec(const char *dir, kv_model_spec *spec, kv_error *err);

// Loads a frozen model. Weights stay in their stored type and are views of the mapped file (no copy). Every
// tensor is checked for presence, type and shape against config.json; surplus tensors are refused too, but
// for a tied head that repeats the embedding and angles that old programs saved.
kv_status kv_checkpoint_load(const char *dir, kv_model **model, kv_error *err);

// The same, as an owned float32 copy that can be made trainable. The files' pages are given back tensor by
// tensor, so that the copy is about all the memory it takes.
kv_status kv_checkpoint_load_trainable(const char *dir, kv_model **model, kv_error *err);

// Writes config.json and model.safetensors (float32, fused projections joined) into dir: both or neither. Old
// files of these names are replaced one after the other; to replace a whole checkpoint at once write under
// kv_pending_dir. A spec that config.json cannot express is KV_ERR_ARGUMENT.
kv_status kv_checkpoint_save(const char *dir, kv_model *model, kv_error *err);

// Tells one set of weights from another: a 64-bit hash over all weights, as float32, and over what
// config.json says about their use (not the longest context or the special tokens), as 16 hex digits plus
// NUL.
void kv_checkpoint_fingerprint(kv_model *model, char out[17]);

// Predictor directory: predictor.json (mapping, layer counts, fingerprint of the base it was made for; rank
// and aux_layers where maps are not of full rank from one aux layer) + predictor.safetensors (key.i.weight,
// key.i.bias, value.i.weight, value.i.bias; weight is [out, in], of low rank up.weight [out, rank] and
// down.weight [rank, in]).
// base_fingerprint NULL: none is recorded.
kv_status kv_predictor_save(const char *dir, kv_predictor *predictor, const char *base_fingerprint,
                            kv_error *err);

// Checks every shape against both specs. base_fingerprint: what it must have been made for, if predictor.json
// says; NULL skips that check. mapping: NULL takes the one in predictor.json; given, it must agree with it,
// and predictor.json may be missing (weights of other programs). A random one is of the right shape for any
// pair.
kv_status kv_predictor_load(const char *dir, const kv_model_spec *base, const kv_model_spec *aux,
                            const char *base_fingerprint, const int32_t *mapping, kv_predictor **predictor,
                            kv_error *err);

// Whether kv_predictor_load could load it for any base of this shape: predictor.json, and shapes from the
// header of the weights, none of which are read.
kv_status kv_predictor_check(const char *dir, const kv_model_spec *base, const kv_model_spec *aux,
                             const int32_t *mapping, kv_error *err);

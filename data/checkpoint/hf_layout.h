// Where Hugging Face checkpoints keep a model's parameters: names and fused projections, per model type.
#pragma once

#include "core/model.h"
#include "data/checkpoint/weights_file.h"

// What all names of the model's tensors but its head's begin with: "model." or "transformer.".
const char *kv_hf_base(const kv_model_spec *spec);

// The tensors of a checkpoint of this model, by its model_type; types that are not supported are refused by
// name (KV_ERR_FORMAT). Caller frees *tensors.
kv_status kv_hf_tensors(kv_model *model, kv_weights_tensor **tensors, int64_t *n, kv_error *err);

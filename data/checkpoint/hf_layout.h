// Where Hugging Face checkpoints keep a model's parameters: names and fused projections, per model type.
#pragma once

#include "core/model.h"
#include "data/checkpoint/weights_file.h"

// The tensors of a checkpoint of this model, by its model_type; types that are not supported are refused by
// name (KV_ERR_FORMAT). Caller frees *tensors.
kv_status kv_hf_tensors(kv_model *model, kv_weights_tensor **tensors, int64_t *n, kv_error *err);

// How large a checkpoint's weights are, before they are read.
#pragma once

#include "core/status.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct kv_checkpoint_size {
    int64_t bytes; // of weights as they are stored
    bool wide;     // float32, as far as bytes and number of weights say
} kv_checkpoint_size;

// dir: a directory or a random name, as data/checkpoint/checkpoint.h takes them; n_weights: how many the model has. A
// directory's weights are its model.safetensors, or all its .safetensors together. KV_ERR_IO when there are
// none.
kv_status kv_checkpoint_measure(const char *dir, int64_t n_weights, kv_checkpoint_size *size, kv_error *err);

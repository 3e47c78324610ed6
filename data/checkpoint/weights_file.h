// Parameters ↔ tensors of safetensors files. A tensor may be the rows of several parameters, as fused
// projections are.
#pragma once

#include "core/tensor.h"
#include "data/checkpoint/weights_set.h"

typedef enum kv_weights_role {
    KV_WEIGHTS_NEEDED,  // read and written
    KV_WEIGHTS_REPEATS, // may be there when it repeats the tensor of its part bit by bit; neither read nor
                        // written
    KV_WEIGHTS_IGNORED, // may be there, whatever it holds; neither read nor written
} kv_weights_role;

typedef struct kv_weights_tensor {
    char name[KV_NAME_MAX];
    kv_weights_role role;
    int n_dims; // 1: a vector, a [1, n] parameter
    int64_t shape[2];
    int n_parts;
    kv_param *part[KV_ST_PARTS]; // from the top row down
} kv_weights_tensor;

// Appends a part, which must have as many columns as the parts before it.
void kv_weights_add_part(kv_weights_tensor *tensor, kv_param *param);

// Gives every parameter its values: with `copy` widened into its own float32 data, otherwise by pointing at
// the files', in their stored type, valid until the set is closed. The set must hold exactly these tensors,
// in these shapes; `expected_by` says in errors who expects them.
kv_status kv_weights_take(const kv_weights_set *set, const kv_weights_tensor *tensors, int64_t n, bool copy,
                          const char *expected_by, kv_error *err);

// Writes dir/name with all values as float32, and dir/text_name with the text that describes them: both or
// neither (kv_whole_set).
kv_status kv_weights_write(const char *dir, const char *name, const kv_weights_tensor *tensors, int64_t n,
                           const char *text_name, const char *text, kv_error *err);

// Parameters ↔ tensors of safetensors files. A tensor may be the rows of several parameters, as fused
// projections are.
#pragma once

#include "core/tensor.h"
#include "data/checkpoint/weights_set.h"

typedef enum kv_weights_role {
    KV_WEIGHTS_NEEDED,  // read and written
    KV_WEIGHTS_REPEATS, // may be there when it holds the values of the tensor of its part, as far as its type
                        // can; neither read nor written
} kv_weights_role;

typedef struct kv_weights_tensor {
    char name[KV_NAME_MAX];
    kv_weights_role role;
    int n_dims; // 1: a vector, a [1, n] parameter
    int64_t shape[2];
    int n_parts;
    kv_param *part[KV_ST_PARTS]; // from the top row down
    const char *if_missing;      // what a set without it is, for errors; or NULL
} kv_weights_tensor;

// Appends a part, which must have as many columns as the parts before it.
void kv_weights_add_part(kv_weights_tensor *tensor, kv_param *param);

// What becomes of a tensor that is there and that nobody asked for.
typedef enum kv_weights_verdict {
    KV_WEIGHTS_SKIPPED,  // says nothing that is not known: passed over
    KV_WEIGHTS_LEFT_OUT, // belongs to something else than what is computed: passed over with a warning
    KV_WEIGHTS_REFUSED,  // shows that something else should be computed than what is described
} kv_weights_verdict;

// The tensors that a set is asked for.
typedef struct kv_weights_request {
    const kv_weights_tensor *tensors;
    int64_t n;
    const char *expected_by; // who asks for them, for errors
    const char *if_refused;  // what a tensor that is refused shows, for errors
    kv_weights_verdict (*judge)(const void *context, const char *name);
    const void *context;
} kv_weights_request;

// Whether the set has all that is needed, in the right shapes and in types that can be computed with, and
// nothing that is refused.
kv_status kv_weights_check(const kv_weights_set *set, const kv_weights_request *request, kv_error *err);

// The same, and gives every parameter its values: with `copy` widened into its own float32 data, otherwise by
// pointing at the files', in their stored type, valid until the set is closed.
kv_status kv_weights_take(const kv_weights_set *set, const kv_weights_request *request, bool copy,
                          kv_error *err);

// Bytes of the needed tensors as they are stored.
int64_t kv_weights_bytes(const kv_weights_set *set, const kv_weights_request *request);

// A file of text beside weights, which says what they are.
typedef struct kv_weights_text {
    const char *name, *text;
} kv_weights_text;

// Writes dir/name with all values as float32, and the texts: all or none (kv_whole_set).
kv_status kv_weights_write(const char *dir, const char *name, const kv_weights_tensor *tensors, int64_t n,
                           const kv_weights_text *texts, int n_texts, kv_error *err);

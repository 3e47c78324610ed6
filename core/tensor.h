// The two kinds of matrix the core computes with.
//
// A tensor is an activation: float32, row-major, contiguous, living in a tape's arena. Rows are tokens (of
// all sequences of the batch, one after the other), columns are features; heads lie side by side within a
// row, so keys of one layer are [tokens, n_kv_heads · head_dim]. A scalar is [1, 1]. A parameter is a weight:
// row-major [out, in], in its stored type; a vector is [1, n].
#pragma once

#include "core/api.h"
#include "core/dtype.h"

#include <stdbool.h>
#include <stdint.h>

KV_API_BEGIN

typedef struct kv_tensor {
    int64_t rows, cols;
    float *data;     // [rows, cols]
    float *grad;     // [rows, cols] or NULL while no gradient has arrived
    bool wants_grad; // true when some trainable parameter lies upstream
} kv_tensor;

enum { KV_NAME_MAX = 96 };

// How a weight [rows, cols] lies in memory: row by row, or in panels of 16 rows, [rows / 16, cols, 16], as products
// with it read it fastest (core/gemm/packed.h).
typedef enum kv_layout { KV_IN_ROWS, KV_IN_PANELS } kv_layout;

// What a weight is part of. Each group may be trained at a rate of its own (core/optimizer.h); whoever makes a
// parameter says its group.
typedef enum kv_group {
    KV_GROUP_MAPS,    // of predictors: from one cache to another
    KV_GROUP_MODEL,   // a language model, such as the aux
    KV_GROUP_TABLES,  // a row for each token, of predictors
    KV_GROUP_QUERIES, // what a base's queries are adapted by
    KV_N_GROUPS
} kv_group;

typedef struct kv_param {
    char name[KV_NAME_MAX]; // the project's own dotted name, e.g. "layers.3.attn.q"
    int64_t rows, cols;
    kv_dtype dtype;
    kv_layout layout;
    void *data;  // [rows, cols] of dtype; owned by the model or predictor, or a view of a mapped file
    float *grad; // [rows, cols]; NULL while the parameter is frozen. Trainable ones are stored as KV_F32
    bool decay;  // weight decay applies: to matrices, not to norms and biases
    kv_group group;
} kv_param;

static inline int64_t kv_param_size(const kv_param *p) {
    return p->rows * p->cols;
}
static inline bool kv_param_trainable(const kv_param *p) {
    return p->grad != NULL;
}

// Elements [begin, end) of params[param].
typedef struct kv_param_span {
    int64_t param, begin, end;
} kv_param_span;

KV_API_END

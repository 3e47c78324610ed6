// What the sums of the normal equations are, for the files that add to them and those that solve them.
#pragma once

#include "core/predictor/predictor.h"

// Sums over tokens for one output, block after block.
struct kv_target_sums {
    int64_t input, dim; // what it reads; columns of one block
    double *xty;        // [n_blocks][inputs + 1, dim]; NULL: an exact output
    double *square;     // [n_blocks · dim]: Σ y²; Σ y is the last row of xty
    double *tokens;     // [n_blocks][vocabulary, dim]: Σ y of each token; NULL: its table is not fitted
};

// What targets read: columns of one block, and their Gram matrices.
struct kv_input_sums {
    int64_t n_blocks, dim;
    double *gram;   // [n_blocks][dim + 1, dim + 1]; NULL: nobody regresses on it
    double *tokens; // [n_blocks][vocabulary, dim + 1]: Σ x of each token, and how often it came; or NULL
};

struct kv_least_squares {
    int64_t n_inputs, n_tokens, vocab_size;
    kv_layer_range layers; // of which there are sums
    bool fast;
    kv_predictor_input *read; // [n_inputs]: the predictor's, with what they point at copied
    kv_sources *sources;
    int64_t *dims;                                         // [n_inputs][KV_MAX_SOURCES]
    struct kv_input_sums *inputs;                          // [n_inputs]
    struct kv_target_sums target[KV_SIDES][KV_MAX_LAYERS]; // by base layer
};

static inline int64_t kv_gram_size(const struct kv_input_sums *input) {
    return (input->dim + 1) * (input->dim + 1);
}

// 1 - residual / total, where residual = Σ y² - 2 W·XᵀY + W·XᵀX·Wᵀ and total = Σ y² - (Σ y)² / n: sums of both.
struct kv_variance {
    double residual, total;
};

// KV_OK, or KV_ERR_NOT_FINITE naming what of an output's sums is no number.
kv_status kv_sums_check(const struct kv_least_squares *ls, int side, int64_t layer, kv_error *err);
// kv_ridge_solve with an error that says which layer is singular.
kv_status kv_sums_solve(kv_ridge_solution *s, double ridge, double *room, int64_t layer, kv_error *err);

// The closed-form start of the predictors: ridge regression from the aux cache to the base cache, per base
// layer.
//
//   W = argmin Σ_t |x_t W̃ᵀ - y_t|² + ridge · mean(diag XᵀX) · |W|²
//
// with x_t extended by 1 for the bias, which is not penalised.
//                                                                             [core/README.md §9, eq. 34]
// Normal equations are accumulated in double over any number of batches, then solved by Cholesky.
// For keys, y is the base's key BEFORE its k_norm (which follows the linear map, see core/predictor.h). A map
// that reads two aux layers has both in x. One of rank r is the best of that rank: the full solution
// projected onto the r leading principal directions of what it fits, W_r = V·Vᵀ·W with V the leading
// eigenvectors of W·(XᵀX + ridge)·Wᵀ, all centred; up is V, down is Vᵀ·W.
//                                                   [Mukherjee & Zhu 2011, reduced rank ridge regression]
#pragma once

#include "core/predictor.h"

typedef struct kv_least_squares kv_least_squares;

kv_status kv_least_squares_create(const kv_model_spec *base, const kv_predictor *predictor,
                                  kv_least_squares **ls, kv_error *err);
void kv_least_squares_free(kv_least_squares *ls);

// Adds tokens. aux_raw_k, aux_v [n_aux_layers], base_raw_k, base_v [n_base_layers] as kv_model_forward leaves
// them; rows with keep[row] == 0 are left out (keep NULL: all count).
kv_status kv_least_squares_add(kv_least_squares *ls, kv_tensor *const *aux_raw_k, kv_tensor *const *aux_v,
                               kv_tensor *const *base_raw_k, kv_tensor *const *base_v, const uint8_t *keep,
                               kv_error *err);

// Writes weights and biases into the predictor: the one it was created for, or one that differs in nothing
// but its rank. k_r2[n_base_layers], v_r2 (may be NULL): explained variance, 1 - Σ|residual|² / Σ|y - mean|²,
// of the maps as written (of their rank), on the tokens seen. Fails when fewer tokens than unknowns make it
// singular and ridge is 0; KV_ERR_NOT_FINITE names
// the model and the layer whose keys or values were no numbers.
kv_status kv_least_squares_solve(const kv_least_squares *ls, double ridge, kv_predictor *predictor,
                                 double *k_r2, double *v_r2, kv_error *err);

// One ridge regression, from the sums it is made of: what a map is solved for, and what layers are compared by.
//
//   W̃ = YᵀX (XᵀX + ridge · mean(diag XᵀX) · I)⁻¹        x is followed by 1, which is not penalised
//                                                                             [core/README.md §9, eq. 34]
#pragma once

#include "core/api.h"

#include <stdbool.h>
#include <stdint.h>

KV_API_BEGIN

// A ridge regression and its solution: what y is of x, with one column more for the constant.
typedef struct kv_ridge_solution {
    int64_t n_tokens, input_dim, output_dim; // of one block
    const double *gram;                      // [input_dim + 1, input_dim + 1]: Σ x xᵀ, x followed by 1
    const double *xty;                       // [input_dim + 1, output_dim]
    double *weights;                         // [output_dim, input_dim + 1]
} kv_ridge_solution;

// Solves for the weights; gram_room [input_dim + 1, input_dim + 1] is worked in. false when the sums are singular.
bool kv_ridge_solve(kv_ridge_solution *solution, double ridge, double *gram_room);

// residual[output_dim]: Σ|residual|² of every column of y by the weights that stand there, square[output_dim] being its
// Σ y²: Σ y² - 2 w·Xᵀy + w·XᵀX·w.
void kv_ridge_residuals(const kv_ridge_solution *solution, const double *square, double *residual);

bool kv_ridge_finite(const double *sums, int64_t n);

KV_API_END

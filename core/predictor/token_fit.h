// Tables with a row for each token in the closed-form start: what a regression leaves of y to the token itself.
//
//   W, T = argmin Σ_t |x_t W̃ᵀ + T[token_t] - y_t|² + ridge · mean(diag) · |W|² + μ Σ_token |T[token]|²
//
// Given W, a row is T = (Y_n - X_n W̃ᵀ) / (n + μ), with n how often the token came, X_n and Y_n the sums of x and of y over
// these places. Put in, it leaves a regression for W alone, on the sums
//
//   XᵀX - Σ_token X_n X_nᵀ / (n + μ)   and   XᵀY - Σ_token X_n Y_nᵀ / (n + μ)
//
// A token that came seldom so keeps a row near zero, and W explains what tokens have in common.
//                                                                             [core/README.md §9, eq. 40]
#pragma once

#include "core/api.h"
#include "core/ops.h"

KV_API_BEGIN

// μ, in places where a token came. From 1 to 30 nothing that a base makes of text changes by more than half a point.
enum { KV_TABLE_PRIOR = 3 };

// Sums of one block of a regression, x followed by 1.
typedef struct kv_token_fit {
    int64_t vocab_size, input_dim, output_dim;
    const double *x; // [vocab_size, input_dim + 1]: X_n, and n in its last column
    const double *y; // [vocab_size, output_dim]: Y_n
} kv_token_fit;

// Adds columns [first, first + cols) of rows[n] of x to the rows of their tokens, sums[vocab_size, width]; with `count`
// 1 to the column behind them.
void kv_token_sums_add(double *sums, int64_t width, const int32_t *ids, const int64_t *rows, int64_t n,
                       const kv_tensor *x, int64_t first, int64_t cols, bool count);

// Takes the tokens' part off gram[input_dim + 1, input_dim + 1] and xty[input_dim + 1, output_dim]. false: no memory.
bool kv_token_fit_reduce(const kv_token_fit *fit, double *gram, double *xty);

// Rows of the table for weights[output_dim, input_dim + 1], each at the beginning of `stride` columns. Returns by how much
// they lower the sum of squared residuals that these weights leave.
double kv_token_fit_rows(const kv_token_fit *fit, const double *weights, float *table, int64_t stride);

KV_API_END

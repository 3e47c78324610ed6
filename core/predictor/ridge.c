// Solved by Cholesky, and judged from the sums alone.
#include "core/predictor/ridge.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

// Cholesky solve of a symmetric positive definite system, from OpenBLAS's LAPACK.
extern void dposv_(const char *uplo, const int *n, const int *n_rhs, double *a, const int *lda, double *b,
                   const int *ldb, int *info, size_t uplo_length);

bool kv_ridge_solve(kv_ridge_solution *s, double ridge, double *a) {
    const int64_t rows = s->input_dim + 1, dim = s->output_dim;
    double mean = 0;
    memcpy(a, s->gram, (size_t)(rows * rows) * sizeof *a);
    for (int64_t i = 0; i < rows - 1; i++) mean += s->gram[i * rows + i] / (double)(rows - 1);
    for (int64_t i = 0; i < rows - 1; i++) a[i * rows + i] += ridge * mean;
    for (int64_t c = 0; c < dim; c++) // dposv works column by column: one solution after the other
        for (int64_t i = 0; i < rows; i++) s->weights[c * rows + i] = s->xty[i * dim + c];
    const int n = (int)rows, n_rhs = (int)dim;
    int info = 0;
    dposv_("L", &n, &n_rhs, a, &n, s->weights, &n, &info, 1);
    return info == 0;
}

// Of columns [first, first + n), which share what is read of XᵀX; residual[n] starts as their Σ y².
static void add_residuals(const kv_ridge_solution *s, int64_t first, int64_t n, double *residual) {
    const int64_t rows = s->input_dim + 1;
    for (int64_t i = 0; i < rows; i++)
        for (int64_t c = 0; c < n; c++) {
            const double *w = s->weights + (first + c) * rows, *g = s->gram + i * rows;
            double gw = 0;
#pragma omp simd reduction(+ : gw)
            for (int64_t j = 0; j < rows; j++) gw += g[j] * w[j];
            residual[c] += w[i] * (gw - 2 * s->xty[i * s->output_dim + first + c]);
        }
}

double kv_ridge_residual(const kv_ridge_solution *s, int64_t column, double square) {
    add_residuals(s, column, 1, &square);
    return square;
}

void kv_ridge_residuals(const kv_ridge_solution *s, const double *square, double *residual) {
    enum { TOGETHER = 8 };
    const int64_t n = s->output_dim;
    memcpy(residual, square, (size_t)n * sizeof *residual);
#pragma omp parallel for schedule(static)
    for (int64_t c = 0; c < n; c += TOGETHER)
        add_residuals(s, c, n - c < TOGETHER ? n - c : TOGETHER, residual + c);
}

bool kv_ridge_finite(const double *sums, int64_t n) {
    bool finite = true;
    for (int64_t i = 0; i < n; i++) finite = finite && isfinite(sums[i]);
    return finite;
}

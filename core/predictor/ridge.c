// Solved by Cholesky, and judged from the sums alone.
#include "core/predictor/ridge.h"

#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

// Cholesky solve of a symmetric positive definite system, from OpenBLAS's LAPACK.
extern void dposv_(const char *uplo, const int *n, const int *n_rhs, double *a, const int *lda, double *b,
                   const int *ldb, int *info, size_t uplo_length);

// The product of a symmetric matrix and another, column by column, from OpenBLAS.
extern void dsymm_(const char *side, const char *uplo, const int *m, const int *n, const double *alpha,
                   const double *a, const int *lda, const double *b, const int *ldb, const double *beta,
                   double *c, const int *ldc, size_t side_length, size_t uplo_length);

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

// The same by a product of many columns at once, room [n, rows]: several times as fast where XᵀX is large.
static void add_residuals_of_many(const kv_ridge_solution *s, int64_t first, int64_t n, double *room,
                                  double *residual) {
    const int64_t rows = s->input_dim + 1;
    const double *w = s->weights + first * rows, one = 1, zero = 0;
    const int m = (int)rows, n_columns = (int)n;
    dsymm_("L", "L", &m, &n_columns, &one, s->gram, &m, w, &m, &zero, room, &m, 1, 1);
#pragma omp parallel for schedule(static)
    for (int64_t c = 0; c < n; c++)
        for (int64_t i = 0; i < rows; i++)
            residual[c] += w[c * rows + i] * (room[c * rows + i] - 2 * s->xty[i * s->output_dim + first + c]);
}

void kv_ridge_residuals(const kv_ridge_solution *s, const double *square, double *residual) {
    enum { FEW = 8, MANY = 256, LARGE = 512 };
    const int64_t n = s->output_dim, rows = s->input_dim + 1;
    double *room = rows >= LARGE ? malloc((size_t)(MANY * rows) * sizeof *room) : NULL;
    memcpy(residual, square, (size_t)n * sizeof *residual);
    for (int64_t c = 0; room && c < n; c += MANY)
        add_residuals_of_many(s, c, n - c < MANY ? n - c : MANY, room, residual + c);
    if (!room) {
#pragma omp parallel for schedule(static)
        for (int64_t c = 0; c < n; c += FEW) add_residuals(s, c, n - c < FEW ? n - c : FEW, residual + c);
    }
    free(room);
}

bool kv_ridge_finite(const double *sums, int64_t n) {
    bool finite = true;
    for (int64_t i = 0; i < n; i++) finite = finite && isfinite(sums[i]);
    return finite;
}

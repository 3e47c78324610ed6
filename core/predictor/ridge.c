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

double kv_ridge_residual(const kv_ridge_solution *s, int64_t column, double square) {
    const int64_t rows = s->input_dim + 1;
    const double *w = s->weights + column * rows;
    double residual = square;
    for (int64_t i = 0; i < rows; i++) {
        double gw = 0;
        for (int64_t j = 0; j < rows; j++) gw += s->gram[i * rows + j] * w[j];
        residual += w[i] * (gw - 2 * s->xty[i * s->output_dim + column]);
    }
    return residual;
}

bool kv_ridge_finite(const double *sums, int64_t n) {
    bool finite = true;
    for (int64_t i = 0; i < n; i++) finite = finite && isfinite(sums[i]);
    return finite;
}

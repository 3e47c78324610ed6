// Everything is worked out token by token, or for a few hundred of them at once.
#include "core/predictor/token_fit.h"

#include "core/gemm.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { AT_ONCE = 256 }; // tokens

// Threads take columns, so that no two of them add to the same number.
void kv_token_sums_add(double *sums, int64_t width, const int32_t *ids, const int64_t *rows, int64_t n,
                       const kv_tensor *x, int64_t first, int64_t cols, bool count) {
#pragma omp parallel for schedule(static)
    for (int64_t part = 0; part < (cols + 31) / 32; part++) {
        const int64_t begin = 32 * part, end = begin + 32 < cols ? begin + 32 : cols;
        for (int64_t r = 0; r < n; r++) {
            const float *from = x->data + rows[r] * x->cols + first;
            double *to = sums + ids[rows[r]] * width;
            for (int64_t c = begin; c < end; c++) to[c] += (double)from[c];
        }
    }
    for (int64_t r = 0; count && r < n; r++) sums[ids[rows[r]] * width + cols] += 1;
}

// out[n, cols]: rows of tokens [from, from + n), each divided by √(its n + μ).
static void scale_rows(const kv_token_fit *fit, const double *sums, int64_t cols, int64_t from, int64_t n,
                       double *out) {
    const int64_t width = fit->input_dim + 1;
    for (int64_t r = 0; r < n; r++) {
        const double scale = 1 / sqrt(fit->x[(from + r) * width + width - 1] + KV_TABLE_PRIOR);
        for (int64_t c = 0; c < cols; c++) out[r * cols + c] = scale * sums[(from + r) * cols + c];
    }
}

bool kv_token_fit_reduce(const kv_token_fit *fit, double *gram, double *xty) {
    const int64_t width = fit->input_dim + 1, dim = fit->output_dim, wide = width > dim ? width : dim;
    double *x = malloc((size_t)(AT_ONCE * (width + wide)) * sizeof *x);
    if (!x) return false;
    double *minus = x + AT_ONCE * width;
    for (int64_t from = 0; from < fit->vocab_size; from += AT_ONCE) {
        const int64_t n = fit->vocab_size - from < AT_ONCE ? fit->vocab_size - from : AT_ONCE;
        scale_rows(fit, fit->x, width, from, n, x);
        for (int64_t i = 0; i < n * width; i++) minus[i] = -x[i];
        kv_gemm_tn_f64(width, width, n, x, minus, gram);
        scale_rows(fit, fit->y, dim, from, n, minus);
        for (int64_t i = 0; i < n * dim; i++) minus[i] = -minus[i];
        kv_gemm_tn_f64(width, dim, n, x, minus, xty);
    }
    free(x);
    return true;
}

double kv_token_fit_rows(const kv_token_fit *fit, const double *weights, float *table, int64_t stride) {
    const int64_t width = fit->input_dim + 1, dim = fit->output_dim;
    double less = 0;
#pragma omp parallel for schedule(static) reduction(+ : less)
    for (int64_t token = 0; token < fit->vocab_size; token++) {
        const double *x = fit->x + token * width, n = x[width - 1];
        for (int64_t c = 0; c < dim; c++) {
            double left = fit->y[token * dim + c];
            for (int64_t i = 0; n > 0 && i < width; i++) left -= weights[c * width + i] * x[i];
            const double row = left / (n + KV_TABLE_PRIOR);
            table[token * stride + c] = (float)row;
            less += (n + 2 * KV_TABLE_PRIOR) * row * row;
        }
    }
    return less;
}

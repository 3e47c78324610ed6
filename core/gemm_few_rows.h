// Products of few rows with a large weight, as decoding makes them: the weight is read once, in its stored
// type, at the speed of memory, where a general product would first copy it into panels of its own.
//
// In all of these an element of the result is a sum whose order the columns alone decide: it has the same bits in
// whatever company it is computed, and on any number of threads.
#pragma once

#include "core/tensor.h"

enum { KV_FEW_ROWS = 32 };

// Rows of a matrix in its stored type, `stride` elements from one to the next.
typedef struct kv_stored_rows {
    const void *first;
    kv_dtype dtype;
    int64_t cols, stride;
} kv_stored_rows;

// Y[m, n] = X[m, cols] · W[n, cols]ᵀ + beta · Y, 1 <= m <= KV_FEW_ROWS
// Internal to core/gemm.c, which counts operations.
void kv_gemm_few_rows(int64_t m, const float *x, int64_t ldx, const kv_stored_rows *w, int64_t n, float beta,
                      float *y, int64_t ldy);

// C[m, n] = A[m, k] · B[k, n] + beta · C, any m; likewise.
void kv_gemm_row_sums(int64_t m, int64_t n, int64_t k, const float *a, int64_t lda, const float *b,
                      int64_t ldb, float beta, float *c, int64_t ldc);

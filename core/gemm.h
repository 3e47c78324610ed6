// Every matrix product of the project goes through here: to OpenBLAS, and past one counter.
#pragma once

#include "core/arena.h"
#include "core/tensor.h"

// All matrices row-major. alpha is 1 unless said otherwise; C = A·B(ᵀ) + beta·C. With beta 0, C may be
// uninitialised. lda, ldb, ldc: elements from one row to the next.

// C[m, n] = A[m, k] · B[n, k]ᵀ + beta · C
void kv_gemm_nt(int64_t m, int64_t n, int64_t k, const float *a, int64_t lda, const float *b, int64_t ldb,
                float beta, float *c, int64_t ldc);
// C[m, n] = A[m, k] · B[k, n] + beta · C
void kv_gemm_nn(int64_t m, int64_t n, int64_t k, const float *a, int64_t lda, const float *b, int64_t ldb,
                float beta, float *c, int64_t ldc);
// C[m, n] = A[k, m]ᵀ · B[k, n] + beta · C
void kv_gemm_tn(int64_t m, int64_t n, int64_t k, const float *a, int64_t lda, const float *b, int64_t ldb,
                float beta, float *c, int64_t ldc);

// Products with rows [row0, row0 + n) of a weight W[out, in] in its stored type. bf16 and f16 are widened
// panel by panel into `scratch`, which is released again on return. Both are false when memory for that
// ran out.
// Y[m, n] = X[m, in] · W[row0 .. row0 + n)ᵀ + beta · Y
bool kv_gemm_weight_t(kv_arena *scratch, int64_t m, const float *x, int64_t ldx, const kv_param *w,
                      int64_t row0, int64_t n, float beta, float *y, int64_t ldy);
// Floats that kv_gemm_weight_t takes of scratch for all rows of W.
int64_t kv_gemm_panel(int64_t m, const kv_param *w);
// X[m, in] = Y[m, n] · W[row0 .. row0 + n) + beta · X
bool kv_gemm_weight(kv_arena *scratch, int64_t m, const float *y, int64_t ldy, const kv_param *w,
                    int64_t row0, int64_t n, float beta, float *x, int64_t ldx);

// While it is on, a row of Y or C gets the same bits whatever other rows are computed with it, on any number of
// threads, and whichever kernels OpenBLAS has: products that this thread asks for go past the library, in an order of
// additions that the columns alone decide. (Threads that it starts say so for themselves. Not kv_gemm_tn, whose rows are
// no rows of A, nor kv_gemm_weight and kv_gemm_tn_f64, which only training needs.) About as fast as the library for few
// rows, a third to a half as fast for many. Returns what was before; a thread begins with it off.
//                                  [He et al. 2025, "Defeating nondeterminism in LLM inference": batch invariance]
bool kv_gemm_batch_invariant(bool on);

// Floating-point operations (2 per multiply-add) of all products since the last reset, over all threads.
uint64_t kv_gemm_flops(void);
void kv_gemm_flops_reset(void);

// Double precision, for normal equations. C[m, n] += A[k, m]ᵀ · B[k, n], all contiguous.
void kv_gemm_tn_f64(int64_t m, int64_t n, int64_t k, const double *a, const double *b, double *c);

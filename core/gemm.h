// Every matrix product of the project goes through here, past one counter: to kernels of our own
// (core/gemm/product.h), or to OpenBLAS where the CPU has none of the instruction sets they are written for.
//
// The set of instructions is chosen at run time (core/gemm/isa.h); programs let the environment variable KV_ISA name it.
#pragma once

#include "core/api.h"
#include "core/tensor.h"

#include <stddef.h>

KV_API_BEGIN

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

// ---- Weights, in the type and layout they are stored in --------------------------------------------------

// Y[m, n] = X[m, in] · W[row0 .. row0 + n)ᵀ + beta · Y
void kv_gemm_weight_t(int64_t m, const float *x, int64_t ldx, const kv_param *w, int64_t row0, int64_t n,
                      float beta, float *y, int64_t ldy);

// The same of several weights that read the same X, which is prepared once for all of them.
typedef struct kv_gemm_part {
    const kv_param *w; // all as wide
    int64_t row0, n;
    float beta;
    float *y;
    int64_t ldy;
} kv_gemm_part;
enum { KV_GEMM_PARTS = 4 };
void kv_gemm_weights_t(int64_t m, const float *x, int64_t ldx, const kv_gemm_part *parts,
                       int n_parts); // <= KV_GEMM_PARTS

// X[m, in] = Y[m, n] · W[row0 .. row0 + n) + beta · X
void kv_gemm_weight(int64_t m, const float *y, int64_t ldy, const kv_param *w, int64_t row0, int64_t n,
                    float beta, float *x, int64_t ldx);

// Bytes that a product of so many rows and columns of X keeps for the thread that asks for it, at most.
size_t kv_gemm_scratch(int64_t m, int64_t k);

// ---- Bits ------------------------------------------------------------------------------------------------

// While it is on, a row of Y or C gets the same bits whatever other rows are computed with it, on any number of
// threads and with any instruction set that multiplies and adds in one operation: nothing goes to the library or to a
// unit for bfloat16, nor a single row another way than many. (Threads that this one starts say so for themselves. Not kv_gemm_tn, whose rows are
// no rows of A, nor kv_gemm_tn_f64.) Returns what was before; a thread begins with it off.
//                                  [He et al. 2025, "Defeating nondeterminism in LLM inference": batch invariance]
bool kv_gemm_batch_invariant(bool on);

// ---- Counting --------------------------------------------------------------------------------------------

// Floating-point operations (2 per multiply-add) of all products since the last reset, over all threads.
uint64_t kv_gemm_flops(void);
void kv_gemm_flops_reset(void);
// For operators that multiply tiles of their own (core/ops/attention_blocks.h).
void kv_gemm_count(uint64_t operations);

// Double precision, for normal equations; OpenBLAS's. C[m, n] += A[k, m]ᵀ · B[k, n], all contiguous.
void kv_gemm_tn_f64(int64_t m, int64_t n, int64_t k, const double *a, const double *b, double *c);

KV_API_END

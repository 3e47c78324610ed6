// Products of few rows with a large weight, as decoding makes them: the weight is read once, in its stored
// type, at the speed of memory, where a general product would first copy it into panels of its own.
#pragma once

#include "core/tensor.h"

enum { KV_FEW_ROWS = 32 };

// Y[m, n] = X[m, in] · W[row0 .. row0 + n)ᵀ + beta · Y, 1 <= m <= KV_FEW_ROWS
// Results do not depend on the number of threads. Internal to core/gemm.c, which counts operations.
void kv_gemm_few_rows(int64_t m, const float *x, int64_t ldx, const kv_param *w, int64_t row0, int64_t n,
                      float beta, float *y, int64_t ldy);

// AVX-512 (F, BW, DQ, VL: what every CPU with it has but the first Xeon Phi): 32 registers of 16 floats.
#include <immintrin.h>

enum { LANES = 16 };
typedef float lanes __attribute__((vector_size(64)));

#define SET      kv_kernels_avx512
#define SET_NAME "avx512"
#define ROWS     KV_AVX512_ROWS
#define PANELS   KV_AVX512_PANELS
#define FUSED    true

static inline lanes widen_f16(const void *p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(p));
}

#include "core/gemm/kernel_set.h"

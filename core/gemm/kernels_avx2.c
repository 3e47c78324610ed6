// AVX2 with FMA and F16C: 16 registers of 8 floats.
#include <immintrin.h>

enum { LANES = 8 };
typedef float lanes __attribute__((vector_size(32)));

#define SET      kv_kernels_avx2
#define SET_NAME "avx2"
#define ROWS     6
#define WIDE     3
#define FUSED    true

static inline lanes widen_bf16(const void *p) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128(p)), 16));
}

static inline lanes widen_f16(const void *p) {
    return _mm256_cvtph_ps(_mm_loadu_si128(p));
}

#include "core/gemm/kernel_set.h"

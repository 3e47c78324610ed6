// AVX-512 (F, BW, DQ, VL: what every CPU with it has but the first Xeon Phi): 32 registers of 16 floats.
#include <immintrin.h>

enum { LANES = 16 };
typedef float lanes __attribute__((vector_size(64)));

#define SET      kv_kernels_avx512
#define SET_NAME "avx512"
#define ROWS     KV_AVX512_ROWS
#define WIDE     KV_AVX512_WIDE
#define FUSED    true

static inline lanes widen_bf16(const void *p) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256(p)), 16));
}

static inline lanes widen_f16(const void *p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(p));
}

#include "core/gemm/kernel_set.h"

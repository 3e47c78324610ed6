// AArch64's Advanced SIMD: 32 registers of 4 floats.
#include <arm_neon.h>

enum { LANES = 4 };
typedef float lanes __attribute__((vector_size(16)));

#define SET      kv_kernels_neon
#define SET_NAME "neon"
#define ROWS     6
#define WIDE     3
#define FUSED    true

static inline lanes widen_f16(const void *p) {
    return (lanes)vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p)));
}

static inline lanes widen_bf16(const void *p) {
    return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p), 16));
}

#include "core/gemm/kernel_set.h"

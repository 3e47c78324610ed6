// Any CPU: vectors of 4 floats, which x86-64 and AArch64 always have and compilers make up elsewhere.
#include "core/gemm/kernels.h"

#include <string.h>

enum { LANES = 4 };
typedef float lanes __attribute__((vector_size(16)));

#define SET      kv_kernels_plain
#define SET_NAME "plain"
#define ROWS     3
#define WIDE     1
#define FUSED    false

static inline lanes widen_bf16(const void *p) {
    typedef uint32_t words __attribute__((vector_size(16)));
    uint16_t h[LANES];
    memcpy(h, p, sizeof h);
    return (lanes)((words){h[0], h[1], h[2], h[3]} << 16);
}

static inline lanes widen_f16(const void *p) {
    float wide[LANES];
    kv_widen(wide, p, KV_F16, LANES);
    return (lanes){wide[0], wide[1], wide[2], wide[3]};
}

#include "core/gemm/kernel_set.h"

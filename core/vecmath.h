// Loops over float32 that compilers turn into vector code: exp, and whether all are numbers.
#pragma once

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

// a·b + c, as one operation where the CPU has it: elsewhere fmaf is a call, which no loop is vectorised around.
static inline float kv_fused(float a, float b, float c) {
#ifdef FP_FAST_FMAF
    return fmaf(a, b, c);
#else
    return a * b + c;
#endif
}

// e^x to about 1 ulp for x <= 88; 0 below -87.3 (so that masked scores of -inf vanish exactly); nan of nan.
// x = n·ln 2 + r, |r| <= ln 2 / 2; e^r by its Taylor polynomial to degree 7 (remainder below 2^-26), 2^n by
// exponent bits.
static inline float kv_expf(float x) {
    float clamped =
        x > -87.3f ? (x < 88.0f ? x : 88.0f) : -87.3f; // nan takes the last way: it has no integer
    float n = rintf(clamped * 1.44269504f);
    float r = kv_fused(n, -0.693359375f, clamped); // exact: a product of few bits
    r = kv_fused(n, 2.12194440e-4f, r);
    float p = 1.0f / 5040;
    p = kv_fused(p, r, 1.0f / 720);
    p = kv_fused(p, r, 1.0f / 120);
    p = kv_fused(p, r, 1.0f / 24);
    p = kv_fused(p, r, 1.0f / 6);
    p = kv_fused(p, r, 0.5f);
    p = kv_fused(p, r, 1.0f);
    p = kv_fused(p, r, 1.0f);
    uint32_t bits = (uint32_t)((int32_t)n + 127) << 23;
    float scale;
    memcpy(&scale, &bits, sizeof scale);
    return x < -87.3f ? 0.0f : (x == x ? p * scale : x);
}

// Whether none of x[n] is NaN or infinite: such floats have all bits of their exponent set.
static inline bool kv_all_finite(const float *x, int64_t n) {
    uint32_t found = 0;
#pragma omp simd reduction(| : found)
    for (int64_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, x + i, sizeof bits);
        found |= (bits & 0x7F800000u) == 0x7F800000u;
    }
    return !found;
}

// exp for float32 that compilers turn into vector code.
#pragma once

#include <math.h>
#include <stdint.h>
#include <string.h>

// e^x to about 1 ulp for x <= 88; 0 below -87.3 (so that masked scores of -inf vanish exactly); nan of nan.
// x = n·ln 2 + r, |r| <= ln 2 / 2; e^r by its Taylor polynomial to degree 7 (remainder below 2^-26), 2^n by
// exponent bits.
static inline float kv_expf(float x) {
    float clamped =
        x > -87.3f ? (x < 88.0f ? x : 88.0f) : -87.3f; // nan takes the last way: it has no integer
    float n = rintf(clamped * 1.44269504f);
    float r = fmaf(n, -0.693359375f, clamped);
    r = fmaf(n, 2.12194440e-4f, r);
    float p = 1.0f / 5040;
    p = fmaf(p, r, 1.0f / 720);
    p = fmaf(p, r, 1.0f / 120);
    p = fmaf(p, r, 1.0f / 24);
    p = fmaf(p, r, 1.0f / 6);
    p = fmaf(p, r, 0.5f);
    p = fmaf(p, r, 1.0f);
    p = fmaf(p, r, 1.0f);
    uint32_t bits = (uint32_t)((int32_t)n + 127) << 23;
    float scale;
    memcpy(&scale, &bits, sizeof scale);
    return x < -87.3f ? 0.0f : (x == x ? p * scale : x);
}

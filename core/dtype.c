// Conversions between storage types, bit by bit and without branches on the value, so that compilers turn the
// loops into vector code.
#include "core/dtype.h"

#include <string.h>

size_t kv_dtype_size(kv_dtype dtype) {
    return dtype == KV_F32 ? 4 : 2;
}

const char *kv_dtype_name(kv_dtype dtype) {
    switch (dtype) {
    case KV_F32: return "F32";
    case KV_BF16: return "BF16";
    case KV_F16: return "F16";
    }
    return "?";
}

static inline float bits_float(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline uint32_t float_bits(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

// Moving the exponent by a float multiplication handles normal and subnormal halves alike.
static inline float half_to_float(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16, rest = h & 0x7fffu;
    if (rest >= 0x7c00u) return bits_float(sign | 0x7f800000u | (rest & 0x3ffu) << 13);
    return bits_float(sign | float_bits(bits_float(rest << 13) * 0x1p112f));
}

static inline uint16_t float_to_half(float f) {
    uint32_t bits = float_bits(f), magnitude = bits & 0x7fffffffu;
    uint16_t sign = (uint16_t)(bits >> 16 & 0x8000u);
    if (magnitude > 0x7f800000u)
        return sign | 0x7e00u | (uint16_t)(magnitude >> 13 & 0x1ffu); // nan stays nan
    if (magnitude >= 0x477ff000u) return sign | 0x7c00u;              // rounds to infinity
    if (magnitude < 0x38800000u) // below the smallest normal half: adding 0.5 aligns and rounds the mantissa
        return sign | (uint16_t)(float_bits(bits_float(magnitude) + 0.5f) - 0x3f000000u);
    return sign | (uint16_t)((magnitude - 0x38000000u + 0xfffu + (magnitude >> 13 & 1u)) >> 13);
}

static inline uint16_t float_to_bfloat(float f) {
    uint32_t bits = float_bits(f);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return (uint16_t)(bits >> 16 | 0x40u); // nan stays nan
    return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

void kv_widen(float *restrict dst, const void *restrict src, kv_dtype dtype, int64_t n) {
    const uint16_t *half = src;
    if (dtype == KV_F32) {
        if (n > 0) memcpy(dst, src, (size_t)n * sizeof *dst);
    } else if (dtype == KV_BF16) {
        for (int64_t i = 0; i < n; i++) dst[i] = bits_float((uint32_t)half[i] << 16);
    } else {
        for (int64_t i = 0; i < n; i++) dst[i] = half_to_float(half[i]);
    }
}

void kv_narrow(void *restrict dst, const float *restrict src, kv_dtype dtype, int64_t n) {
    uint16_t *half = dst;
    if (dtype == KV_F32) {
        if (n > 0) memcpy(dst, src, (size_t)n * sizeof *src);
    } else if (dtype == KV_BF16) {
        for (int64_t i = 0; i < n; i++) half[i] = float_to_bfloat(src[i]);
    } else {
        for (int64_t i = 0; i < n; i++) half[i] = float_to_half(src[i]);
    }
}

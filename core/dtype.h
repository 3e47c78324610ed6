// Storage types of weights and caches. Arithmetic is always float32; bf16 and f16 are widened when read.
#pragma once

#include "core/api.h"

#include <stddef.h>
#include <stdint.h>

KV_API_BEGIN

typedef enum kv_dtype { KV_F32 = 0, KV_BF16, KV_F16 } kv_dtype;

// Bytes of one element.
size_t kv_dtype_size(kv_dtype dtype);

// "F32", "BF16" or "F16", as safetensors spells them.
const char *kv_dtype_name(kv_dtype dtype);

// dst[0..n) = float32 of the n elements of type `dtype` at src.
void kv_widen(float *dst, const void *src, kv_dtype dtype, int64_t n);

// dst[0..n) = src[0..n) rounded to nearest even in type `dtype`; f16 overflow becomes infinity.
void kv_narrow(void *dst, const float *src, kv_dtype dtype, int64_t n);

KV_API_END

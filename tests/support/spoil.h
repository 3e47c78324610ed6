// Models that were damaged on the way: one value of their weights is another.
#pragma once

#include <stdint.h>

// Sets element `index` of a tensor in DIR/FILE, a safetensors file, to `value`, in the type that it has there (F32,
// BF16 or F16); of the tensor's name the end is enough. NaN and infinities are what it is for.
void test_spoil(const char *dir, const char *file, const char *tensor, int64_t index, float value);

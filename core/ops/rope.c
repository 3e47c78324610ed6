// Rotary positions: features i and i + d/2 form a pair turned by position · ω_i     [Su et al. 2021,
// section 3.4.2]
//
//   y_i       = x_i · cos - x_{i+d/2} · sin
//   y_{i+d/2} = x_{i+d/2} · cos + x_i · sin          The inverse, which is also the backward, turns by the
//   negative angle.
#include "core/ops.h"

#include <math.h>
#include <stdlib.h>

kv_rope *kv_rope_create(int64_t head_dim, int64_t n_positions, const double *inv_freq) {
    int64_t half = head_dim / 2;
    if (half <= 0 || n_positions <= 0 || n_positions > INT64_MAX / 16 / half) return NULL;
    kv_rope *rope = calloc(1, sizeof *rope);
    if (!rope) return NULL;
    *rope = (kv_rope){.head_dim = head_dim, .n_positions = n_positions};
    rope->cos = malloc((size_t)(n_positions * half) * sizeof *rope->cos);
    rope->sin = malloc((size_t)(n_positions * half) * sizeof *rope->sin);
    if (!rope->cos || !rope->sin) {
        kv_rope_free(rope);
        return NULL;
    }
    for (int64_t p = 0; p < n_positions; p++)
        for (int64_t i = 0; i < half; i++) {
            double angle = (double)p * inv_freq[i];
            rope->cos[p * half + i] = (float)cos(angle);
            rope->sin[p * half + i] = (float)sin(angle);
        }
    return rope;
}

void kv_rope_free(kv_rope *rope) {
    if (!rope) return;
    free(rope->cos);
    free(rope->sin);
    free(rope);
}

void kv_rope_turn(const kv_rope *rope, int64_t position, bool inverse, const float *src, float *dst) {
    int64_t half = rope->head_dim / 2;
    const float *c = rope->cos + position * half, *s = rope->sin + position * half;
    float sign = inverse ? -1.0f : 1.0f;
#pragma omp simd
    for (int64_t i = 0; i < half; i++) {
        float a = src[i], b = src[i + half], turn = sign * s[i];
        dst[i] = a * c[i] - b * turn;
        dst[i + half] = b * c[i] + a * turn;
    }
}

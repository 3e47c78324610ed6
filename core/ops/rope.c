// Rotary positions: features i and i + d/2 form a pair turned by position · ω_i.
//                                               [Su et al. 2021, section 3.4.2; core/README.md §2, eq. 7]
//
//   y_i       = x_i · cos - x_{i+d/2} · sin
//   y_{i+d/2} = x_{i+d/2} · cos + x_i · sin
//
// The inverse, which is also the backward, turns by the negative angle.
#include "core/ops.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static void fill(kv_rope *rope, int64_t begin, int64_t end) {
    const int64_t half = rope->head_dim / 2;
#pragma omp parallel for schedule(static) if ((end - begin) * half > 1 << 13)
    for (int64_t p = begin; p < end; p++)
        for (int64_t i = 0; i < half; i++) {
            double angle = (double)p * rope->inv_freq[i];
            rope->cos[p * half + i] = (float)cos(angle);
            rope->sin[p * half + i] = (float)sin(angle);
        }
}

static bool grow(float **table, int64_t size) {
    float *grown = realloc(*table, (size_t)size * sizeof *grown);
    if (grown) *table = grown;
    return grown != NULL;
}

bool kv_rope_reach(kv_rope *rope, int64_t n) {
    if (n <= rope->n_ready) return true;
    const int64_t half = rope->head_dim / 2, doubled = 2 * rope->n_ready;
    int64_t size = n > doubled ? n : doubled;
    if (size > rope->n_positions) size = rope->n_positions;
    if (!grow(&rope->cos, size * half) || !grow(&rope->sin, size * half)) return false;
    fill(rope, rope->n_ready, size);
    rope->n_ready = size;
    return true;
}

kv_rope *kv_rope_create(int64_t head_dim, int64_t n_positions, const double *inv_freq) {
    int64_t half = head_dim / 2;
    if (half <= 0 || n_positions <= 0 || n_positions > INT64_MAX / 16 / half) return NULL;
    kv_rope *rope = calloc(1, sizeof *rope);
    if (!rope) return NULL;
    *rope = (kv_rope){.head_dim = head_dim, .n_positions = n_positions};
    rope->inv_freq = malloc((size_t)half * sizeof *rope->inv_freq);
    if (rope->inv_freq) memcpy(rope->inv_freq, inv_freq, (size_t)half * sizeof *rope->inv_freq);
    if (!rope->inv_freq ||
        !kv_rope_reach(rope, n_positions < KV_ROPE_AT_ONCE ? n_positions : KV_ROPE_AT_ONCE)) {
        kv_rope_free(rope);
        return NULL;
    }
    return rope;
}

void kv_rope_free(kv_rope *rope) {
    if (!rope) return;
    free(rope->cos);
    free(rope->sin);
    free(rope->inv_freq);
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

// Philox in plain C, one block at a time or sixteen side by side; both give the same words.
#include "core/rng.h"

#include <math.h>

kv_rng kv_rng_stream(uint64_t seed, const char *name) {
    uint64_t hash = 0xcbf29ce484222325u; // FNV-1a, 64 bit
    for (; *name; name++) hash = (hash ^ (uint8_t)*name) * 0x100000001b3u;
    return (kv_rng){.seed = seed, .stream = hash};
}

// Philox4x32-10: ten rounds on counter (index, stream) under key (seed).
//                                                                       [Salmon et al. 2011, section 3.3]
void kv_rng_block(kv_rng rng, uint64_t index, uint32_t out[4]) {
    uint32_t c0 = (uint32_t)index, c1 = (uint32_t)(index >> 32);
    uint32_t c2 = (uint32_t)rng.stream, c3 = (uint32_t)(rng.stream >> 32);
    uint32_t k0 = (uint32_t)rng.seed, k1 = (uint32_t)(rng.seed >> 32);
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * c0, p1 = (uint64_t)0xCD9E8D57u * c2;
        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)p1;
        c3 = (uint32_t)p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    out[0] = c0, out[1] = c1, out[2] = c2, out[3] = c3;
}

// Rounds on LANES counters side by side, for compilers to turn into vector code.
enum { LANES = 16 };

static void block_lanes(kv_rng rng, uint64_t first, uint32_t *restrict out) {
    uint32_t c0[LANES], c1[LANES], c2[LANES], c3[LANES];
    uint32_t k0 = (uint32_t)rng.seed, k1 = (uint32_t)(rng.seed >> 32);
    for (int l = 0; l < LANES; l++) {
        const uint64_t index = first + (uint64_t)l;
        c0[l] = (uint32_t)index, c1[l] = (uint32_t)(index >> 32);
        c2[l] = (uint32_t)rng.stream, c3[l] = (uint32_t)(rng.stream >> 32);
    }
    for (int round = 0; round < 10; round++) {
#pragma omp simd
        for (int l = 0; l < LANES; l++) {
            const uint64_t p0 = (uint64_t)0xD2511F53u * c0[l], p1 = (uint64_t)0xCD9E8D57u * c2[l];
            c0[l] = (uint32_t)(p1 >> 32) ^ c1[l] ^ k0;
            c2[l] = (uint32_t)(p0 >> 32) ^ c3[l] ^ k1;
            c1[l] = (uint32_t)p1;
            c3[l] = (uint32_t)p0;
        }
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    for (int l = 0; l < LANES; l++)
        out[4 * l] = c0[l], out[4 * l + 1] = c1[l], out[4 * l + 2] = c2[l], out[4 * l + 3] = c3[l];
}

void kv_rng_blocks(kv_rng rng, uint64_t first, int64_t n, uint32_t *out) {
    int64_t b = 0;
    for (; b + LANES <= n; b += LANES) block_lanes(rng, first + (uint64_t)b, out + 4 * b);
    for (; b < n; b++) kv_rng_block(rng, first + (uint64_t)b, out + 4 * b);
}

static double uniform53(uint32_t high, uint32_t low) {
    return (double)((((uint64_t)high << 32) | low) >> 11) * 0x1p-53;
}

double kv_rng_uniform(kv_rng rng, uint64_t index) {
    uint32_t w[4];
    kv_rng_block(rng, index, w);
    return uniform53(w[0], w[1]);
}

double kv_rng_normal(kv_rng rng, uint64_t index) {
    uint32_t w[4];
    kv_rng_block(rng, index, w);
    double radius = sqrt(-2 * log1p(-uniform53(w[0], w[1])));
    return radius * cos(2 * 3.14159265358979323846 * uniform53(w[2], w[3]));
}

// The high word of a 128-bit product.
//                                                         [Lemire 2019, "Fast random integer generation"]
uint64_t kv_rng_below(kv_rng rng, uint64_t index, uint64_t bound) {
    uint32_t w[4];
    kv_rng_block(rng, index, w);
    __extension__ unsigned __int128 product = (unsigned __int128)((uint64_t)w[0] << 32 | w[1]) * bound;
    return (uint64_t)(product >> 64);
}

void kv_rng_permutation(kv_rng rng, int64_t n, int64_t *permutation) {
    for (int64_t i = 0; i < n; i++) permutation[i] = i;
    for (int64_t i = n - 1; i > 0; i--) {
        int64_t j = (int64_t)kv_rng_below(rng, (uint64_t)i, (uint64_t)i + 1), kept = permutation[i];
        permutation[i] = permutation[j];
        permutation[j] = kept;
    }
}

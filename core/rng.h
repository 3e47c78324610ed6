// Counter-based random numbers: a draw is a pure function of (seed, stream, index), so nothing has a hidden
// state, results do not depend on threads or on the order of calls, and resuming needs no saved generator.
//
// They are those of Philox4x32-10.
//                                     [Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"]
#pragma once

#include "core/api.h"

#include <stdint.h>

KV_API_BEGIN

typedef struct kv_rng {
    uint64_t seed;
    uint64_t stream; // separates independent uses of one seed
} kv_rng;

// A stream for the use called `name` (e.g. a parameter's name).
kv_rng kv_rng_stream(uint64_t seed, const char *name);

// Four raw 32-bit words of block `index`.
void kv_rng_block(kv_rng rng, uint64_t index, uint32_t out[4]);

// The same for blocks first .. first + n, several at a time: out[4 n].
void kv_rng_blocks(kv_rng rng, uint64_t first, int64_t n, uint32_t *out);

// Uniform in [0, 1), 53 bits.
double kv_rng_uniform(kv_rng rng, uint64_t index);

// Standard normal (Box-Muller).
double kv_rng_normal(kv_rng rng, uint64_t index);

// Uniform integer in [0, bound), bound > 0, without modulo bias beyond 2^-64 · bound.
uint64_t kv_rng_below(kv_rng rng, uint64_t index, uint64_t bound);

// Writes a random permutation of 0..n-1 (Fisher-Yates).
void kv_rng_permutation(kv_rng rng, int64_t n, int64_t *permutation);

KV_API_END

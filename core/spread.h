// How far a few figures of the same thing lie apart, such as those of runs that differ in nothing but their seed.
#pragma once

#include "core/api.h"

#include <stdint.h>

KV_API_BEGIN

typedef struct kv_spread {
    double mean; // NAN of none
    double sd;   // √(Σ (x − mean)² / (n − 1)); NAN of fewer than two
    int64_t n;   // of them: the finite ones
} kv_spread;

// values[n]; what is not finite is left out.
kv_spread kv_spread_of(const double *values, int64_t n);

KV_API_END

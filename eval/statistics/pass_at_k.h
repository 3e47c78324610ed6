// The chance that one of k programs passes.
#pragma once

#include <stdint.h>

// Unbiased estimate from n samples of which c passed: 1 - C(n - c, k) / C(n, k), for 1 <= k <= n.
//                                                                                 [Chen et al. 2021, equation
//                                                                                 1]
double kv_pass_at_k(int64_t n, int64_t c, int64_t k);

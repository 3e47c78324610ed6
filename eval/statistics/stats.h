// How sure a figure is: the interval around a mean over items, and whether a system differs from the base on
// the same items. Both are functions of the values and the seed alone.
#pragma once

#include "core/status.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct kv_interval {
    double low, high;
} kv_interval;

enum { KV_RESAMPLES = 10000 }; // as many as the second digit of an interval needs

// 95 % percentile bootstrap interval of the mean of values[n] (n < 2^32): items are drawn with replacement
// n_resamples (>= 1) times.
//                                                                       [Efron & Tibshirani 1993, chapter 13]
// NAN when n is 0 or a value is not finite. All values equal: the interval has no width, which says nothing
// about items never seen. The same seed and n draw the same items, whatever the values.
// KV_ERR_ARGUMENT, KV_ERR_MEMORY; then NAN too.
kv_status kv_bootstrap_mean(const double *values, int64_t n, int64_t n_resamples, uint64_t seed,
                            kv_interval *interval, kv_error *err);

// The same of a ratio of two means over the same items, mean of system[n] over mean of base[n], none of them
// below 0: every resample draws items once, for both (the paired bootstrap), so that an item that is hard for
// both widens nothing. NAN also when the base's mean is 0. A resample in which it is 0 has no ratio: it
// counts as infinite, or, where the system scores 0 in it too, as 0 for the lower end and as infinite for the
// upper one, which leaves the interval as wide as it may have to be. So `high` is INFINITY where the base
// scores 0 in more than one in 40 of the resamples, as it does when it has three items right or fewer.
kv_status kv_bootstrap_ratio(const double *system, const double *base, int64_t n, int64_t n_resamples,
                             uint64_t seed, kv_interval *interval, kv_error *err);

typedef struct kv_paired {
    double difference; // mean of system − base, whichever is better
    double p;          // two-sided, under "exchanging the two on an item changes nothing"
    int64_t better,
        worse;  // items where the system is above, below the base; with lower_is_better below, above it
    bool exact; // p was counted, not estimated
} kv_paired;

// Compares system[n] with base[n] on the same items by the sum of their differences, each of which could have
// had the other sign. When all that are not 0 are equally large (right or wrong: −1, 0, 1), that is the exact
// test of McNemar: p = min(1, 2 · P(Binomial(better + worse, 1/2) <= min(better, worse))). Else all 2^k signs
// of the k differences that are not 0 are counted if they are at most n_flips (>= 1), or n_flips drawn ones:
// p = (1 + as extreme) / (1 + n_flips). NAN, with nothing better or worse, when n is 0 or a value is not
// finite; p = 1 when nothing differs. KV_ERR_ARGUMENT, KV_ERR_MEMORY; then NAN too.
kv_status kv_paired_test(const double *system, const double *base, int64_t n, bool lower_is_better,
                         int64_t n_flips, uint64_t seed, kv_paired *paired, kv_error *err);

// The chance that one of k programs passes: the unbiased estimate from n samples of which c passed,
// 1 - C(n - c, k) / C(n, k), for 1 <= k <= n.
//                                                                       [Chen et al. 2021, equation 1]
double kv_pass_at_k(int64_t n, int64_t c, int64_t k);

// Every draw is a function of seed, resample and item: threads share the work without changing a figure, and
// two sums of one resample draw the same items.
#include "eval/statistics/stats.h"

#include "core/quantile.h"
#include "core/rng.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double lower_end = 0.025, upper_end = 0.975; // ends of a 95 % interval

static bool all_finite(const double *values, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        if (!isfinite(values[i])) return false;
    return true;
}

// ---- Interval ------------------------------------------------------------------------------------------

// Sum over n items drawn with replacement. A block of random words serves four draws; each is uniform but for
// n / 2^32.
static double resampled_sum(const double *values, int64_t n, kv_rng rng, uint64_t resample) {
    const uint64_t blocks = ((uint64_t)n + 3) / 4;
    double sum = 0;
    for (uint64_t b = 0; b < blocks; b++) {
        uint32_t words[4];
        kv_rng_block(rng, resample * blocks + b, words);
        const int64_t left = n - 4 * (int64_t)b;
        for (int w = 0; w < (left < 4 ? left : 4); w++) sum += values[(uint64_t)words[w] * (uint64_t)n >> 32];
    }
    return sum;
}

// Room for what each resample comes to.
static kv_status begin_bootstrap(int64_t n, int64_t n_resamples, double **found, kv_error *err) {
    *found = NULL;
    if (n < 0 || n > UINT32_MAX || n_resamples < 1)
        return kv_fail(err, KV_ERR_ARGUMENT, "bootstrap of %lld items with %lld resamples", (long long)n,
                       (long long)n_resamples);
    if ((uint64_t)n_resamples <= SIZE_MAX / sizeof **found)
        *found = malloc((size_t)n_resamples * sizeof **found);
    return *found ? KV_OK
                  : kv_fail(err, KV_ERR_MEMORY, "out of memory for %lld resamples", (long long)n_resamples);
}

kv_status kv_bootstrap_mean(const double *values, int64_t n, int64_t n_resamples, uint64_t seed,
                            kv_interval *interval, kv_error *err) {
    double *means;
    *interval = (kv_interval){NAN, NAN};
    kv_status status = begin_bootstrap(n, n_resamples, &means, err);
    if (status == KV_OK && n > 0 && all_finite(values, n)) {
        const kv_rng rng = kv_rng_stream(seed, "bootstrap");
#pragma omp parallel for schedule(static)
        for (int64_t r = 0; r < n_resamples; r++)
            means[r] = resampled_sum(values, n, rng, (uint64_t)r) / (double)n;
        kv_sort_doubles(means, n_resamples);
        *interval = (kv_interval){kv_quantile(means, n_resamples, lower_end),
                                  kv_quantile(means, n_resamples, upper_end)};
    }
    free(means);
    return status;
}

// The quantile of sorted[n] of which those from n_finite on are infinite: so is it where it would lie between
// one of each.
static double quantile_to_infinity(const double *sorted, int64_t n_finite, int64_t n, double q) {
    if (n_finite < n && (int64_t)(q * (double)(n - 1)) + 1 >= n_finite) return INFINITY;
    return kv_quantile(sorted, n, q);
}

// ratios[n], sorted here, NAN where both sums were 0: such a resample counts as 0 for the lower end and as
// infinite for the upper one.
static kv_interval ends_of_ratios(double *ratios, int64_t n) {
    int64_t n_infinite = 0, n_unknown = 0;
    for (int64_t r = 0; r < n; r++) {
        n_infinite += isinf(ratios[r]) != 0, n_unknown += isnan(ratios[r]) != 0;
        if (isnan(ratios[r])) ratios[r] = 0;
    }
    kv_sort_doubles(ratios, n);
    const double low = quantile_to_infinity(ratios, n - n_infinite, n, lower_end);
    memmove(ratios, ratios + n_unknown, (size_t)(n - n_unknown) * sizeof *ratios);
    for (int64_t r = n - n_unknown; r < n; r++) ratios[r] = INFINITY;
    return (kv_interval){low, quantile_to_infinity(ratios, n - n_infinite - n_unknown, n, upper_end)};
}

kv_status kv_bootstrap_ratio(const double *system, const double *base, int64_t n, int64_t n_resamples,
                             uint64_t seed, kv_interval *interval, kv_error *err) {
    double *ratios, total = 0;
    *interval = (kv_interval){NAN, NAN};
    kv_status status = begin_bootstrap(n, n_resamples, &ratios, err);
    if (status != KV_OK) return status;
    for (int64_t i = 0; i < n; i++) total += base[i];
    if (n > 0 && all_finite(system, n) && all_finite(base, n) && total > 0) {
        const kv_rng rng = kv_rng_stream(seed, "bootstrap");
        // The same resample of the same stream draws the same items on both sides.
#pragma omp parallel for schedule(static)
        for (int64_t r = 0; r < n_resamples; r++)
            ratios[r] = resampled_sum(system, n, rng, (uint64_t)r) / resampled_sum(base, n, rng, (uint64_t)r);
        *interval = ends_of_ratios(ratios, n_resamples);
    }
    free(ratios);
    return KV_OK;
}

// ---- Paired test ---------------------------------------------------------------------------------------

// 2 · P(X <= k) for X ~ Binomial(m, 1/2), k <= m / 2, at most 1: from the largest term downwards.
static double binomial_two_sided(int64_t m, int64_t k) {
    int sign;
    const double largest = lgamma_r((double)m + 1, &sign) - lgamma_r((double)k + 1, &sign) -
                           lgamma_r((double)(m - k) + 1, &sign) - (double)m * log(2);
    double sum = 0, term = 1;
    for (int64_t i = k; i >= 0 && term > 1e-17 * sum; i--) {
        sum += term;
        term *= (double)i / (double)(m - i + 1);
    }
    return fmin(1, 2 * exp(largest) * sum);
}

// Sums that are equal but for the order of their rounding count as equal.
static bool as_extreme(double sum, double observed, double total) {
    return fabs(sum) >= observed - 1e-12 * total;
}

static double count_signs(const double *sizes, int64_t k, double observed, double total) {
    int64_t extreme = 0;
    for (uint64_t signs = 0; signs < (uint64_t)1 << k; signs++) {
        double sum = 0;
        for (int64_t i = 0; i < k; i++) sum += signs >> i & 1 ? -sizes[i] : sizes[i];
        extreme += as_extreme(sum, observed, total);
    }
    return (double)extreme / (double)((uint64_t)1 << k);
}

// One random bit a sign, 128 to a block.
static double flipped_sum(const double *sizes, int64_t k, kv_rng rng, uint64_t flip) {
    const uint64_t blocks = ((uint64_t)k + 127) / 128;
    double sum = 0;
    for (uint64_t b = 0; b < blocks; b++) {
        uint32_t words[4];
        kv_rng_block(rng, flip * blocks + b, words);
        const int64_t first = 128 * (int64_t)b, end = first + 128 < k ? first + 128 : k;
        for (int64_t i = first; i < end; i++)
            sum += words[(i - first) / 32] >> ((i - first) % 32) & 1 ? -sizes[i] : sizes[i];
    }
    return sum;
}

static double draw_signs(const double *sizes, int64_t k, int64_t n_flips, uint64_t seed, double observed,
                         double total) {
    const kv_rng rng = kv_rng_stream(seed, "sign flips");
    int64_t extreme = 0;
#pragma omp parallel for schedule(static) reduction(+ : extreme)
    for (int64_t f = 0; f < n_flips; f++)
        extreme += as_extreme(flipped_sum(sizes, k, rng, (uint64_t)f), observed, total);
    return (double)(1 + extreme) / (double)(1 + n_flips);
}

// sizes[n]: of the differences that are not 0, their number returned.
static int64_t collect(const double *system, const double *base, int64_t n, bool lower_is_better,
                       double *sizes, kv_paired *paired, double *sum) {
    int64_t k = 0;
    *sum = 0;
    *paired = (kv_paired){.exact = true};
    for (int64_t i = 0; i < n; i++) {
        const double difference = system[i] - base[i];
        *sum += difference;
        paired->better += lower_is_better ? difference < 0 : difference > 0;
        paired->worse += lower_is_better ? difference > 0 : difference < 0;
        if (difference != 0) sizes[k++] = fabs(difference);
    }
    paired->difference = *sum / (double)n;
    return k;
}

kv_status kv_paired_test(const double *system, const double *base, int64_t n, bool lower_is_better,
                         int64_t n_flips, uint64_t seed, kv_paired *paired, kv_error *err) {
    *paired = (kv_paired){.difference = NAN, .p = NAN};
    if (n < 0 || n_flips < 1)
        return kv_fail(err, KV_ERR_ARGUMENT, "paired test of %lld items with %lld flips", (long long)n,
                       (long long)n_flips);
    if (n == 0 || !all_finite(system, n) || !all_finite(base, n)) return KV_OK;
    double *sizes = malloc((size_t)n * sizeof *sizes);
    if (!sizes) return kv_fail(err, KV_ERR_MEMORY, "out of memory for %lld differences", (long long)n);
    double sum, total = 0;
    const int64_t k = collect(system, base, n, lower_is_better, sizes, paired, &sum);
    bool equal = true;
    for (int64_t i = 0; i < k; i++) {
        total += sizes[i];
        equal = equal && sizes[i] == sizes[0];
    }
    if (equal)
        paired->p = binomial_two_sided(k, paired->better < paired->worse ? paired->better : paired->worse);
    else if (k < 62 && (int64_t)1 << k <= n_flips)
        paired->p = count_signs(sizes, k, fabs(sum), total);
    else {
        paired->p = draw_signs(sizes, k, n_flips, seed, fabs(sum), total);
        paired->exact = false;
    }
    free(sizes);
    return KV_OK;
}

double kv_pass_at_k(int64_t n, int64_t c, int64_t k) {
    if (c <= 0) return 0;
    if (n - c < k) return 1; // every choice of k holds one that passed
    // C(n - c, k) / C(n, k), the chance that none of k passes, as a product of at most k factors below 1:
    // neither binomial is ever formed.
    const int64_t fewer = c < k ? c : k, rest = c < k ? k : c;
    double none = 1;
    for (int64_t i = 0; i < fewer; i++) none *= 1 - (double)rest / (double)(n - i);
    return 1 - none;
}

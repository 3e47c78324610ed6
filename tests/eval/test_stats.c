// Intervals and paired tests, against values worked by hand, the exact distributions and all sign flips
// counted one by one.
#include "tests/support/numbers/rounding.h"
#include "tests/support/support.h"

#include "core/rng.h"
#include "eval/statistics/correlation.h"

#include <math.h>
#include <stdlib.h>

enum { MANY = 20000 };

static kv_interval interval_of(const double *values, int64_t n, int64_t n_resamples, uint64_t seed) {
    kv_interval interval;
    kv_error err = {0};
    if (kv_bootstrap_mean(values, n, n_resamples, seed, &interval, &err)) fail_msg("%s", err.message);
    return interval;
}

static kv_paired paired_of(const double *system, const double *base, int64_t n, int64_t n_flips,
                           uint64_t seed) {
    kv_paired paired;
    kv_error err = {0};
    if (kv_paired_test(system, base, n, false, n_flips, seed, &paired, &err)) fail_msg("%s", err.message);
    return paired;
}

static void near(double found, double expected, double within) {
    if (!(fabs(found - expected) <= within)) fail_msg("found %.17g, expected %.17g", found, expected);
}

// ---- Interval ------------------------------------------------------------------------------------------

// P(Binomial(n, p) <= k), term by term.
static double binomial_cdf(int n, double p, int k) {
    double sum = 0;
    for (int i = 0; i <= k; i++)
        sum +=
            exp(lgamma(n + 1.0) - lgamma(i + 1.0) - lgamma(n - i + 1.0) + i * log(p) + (n - i) * log1p(-p));
    return sum;
}

// The sum of n values of which k are 1, drawn with replacement, is Binomial(n, k / n). A quantile of R such
// draws cuts off q ± 4 standard errors of it.
static void interval_of_shares_is_binomial(void **state) {
    (void)state;
    static const int sizes[] = {10, 40, 164, 1000}, ones[] = {3, 39, 20, 500};
    for (int c = 0; c < 4; c++) {
        const int n = sizes[c];
        double *values = test_alloc(n, sizeof *values);
        for (int i = 0; i < ones[c]; i++) values[(i * 7) % n] = 1; // 7 divides no size
        int count = 0;
        for (int i = 0; i < n; i++) count += values[i] > 0;
        assert_int_equal(count, ones[c]);
        const kv_interval found = interval_of(values, n, MANY, 3);
        const double p = (double)count / n, slack = 4 * sqrt(0.025 * 0.975 / MANY);
        const int low = (int)lround(found.low * n), high = (int)lround(found.high * n);
        near(found.low * n, low, 0.5); // whole, or halfway between two order statistics
        assert_true(binomial_cdf(n, p, low) > 0.025 - slack && binomial_cdf(n, p, low - 1) < 0.025 + slack);
        assert_true(binomial_cdf(n, p, high) > 0.975 - slack && binomial_cdf(n, p, high - 1) < 0.975 + slack);
        free(values);
    }
}

// Means of n draws from values of any kind: close to normal for many items.
static void interval_of_fractions_is_normal(void **state) {
    (void)state;
    enum { N = 2000 };
    double values[N], mean = 0, square = 0;
    for (int i = 0; i < N; i++) {
        values[i] = kv_rng_uniform((kv_rng){5, 0}, (uint64_t)i);
        mean += values[i] / N;
        square += values[i] * values[i] / N;
    }
    const double error = sqrt((square - mean * mean) / N);
    const kv_interval found = interval_of(values, N, MANY, 1);
    // A quantile at density φ(1.96) = 0.0584 has a standard error of √(0.025 · 0.975 / R) / 0.0584 = 0.019
    // errors.
    near(found.low, mean - 1.95996 * error, 0.08 * error);
    near(found.high, mean + 1.95996 * error, 0.08 * error);
}

// Two items, 0 and 1: means 0, 1/2, 1 with chances 1/4, 1/2, 1/4, so that 2.5 % and 97.5 % are the ends.
static void interval_by_hand(void **state) {
    (void)state;
    kv_interval found = interval_of((const double[]){0, 1}, 2, 1000, 1);
    assert_true(found.low == 0 && found.high == 1);
    found = interval_of((const double[]){0.25}, 1, 100, 1);
    assert_true(found.low == 0.25 && found.high == 0.25);
    found = interval_of((const double[]){0, 0, 0, 0, 0}, 5, 100, 1);
    assert_true(found.low == 0 && found.high == 0);
    found = interval_of((const double[]){1, 1, 1}, 3, 100, 1);
    assert_true(found.low == 1 && found.high == 1);
    // One resample has one mean.
    found = interval_of((const double[]){1, 2, 4, 8}, 4, 1, 1);
    assert_true(found.low == found.high);
}

static void interval_of_nothing(void **state) {
    (void)state;
    kv_error err = {0};
    kv_interval found = interval_of(NULL, 0, 100, 1);
    assert_true(isnan(found.low) && isnan(found.high));
    found = interval_of((const double[]){1, NAN, 0}, 3, 100, 1);
    assert_true(isnan(found.low) && isnan(found.high));
    found = interval_of((const double[]){1, INFINITY, 0}, 3, 100, 1);
    assert_true(isnan(found.low) && isnan(found.high));
    assert_int_equal(kv_bootstrap_mean((const double[]){1}, 1, 0, 1, &found, &err), KV_ERR_ARGUMENT);
    assert_int_equal(kv_bootstrap_mean((const double[]){1}, -1, 5, 1, &found, &err), KV_ERR_ARGUMENT);
    assert_int_equal(kv_bootstrap_mean((const double[]){1}, 1, INT64_MAX, 1, &found, &err), KV_ERR_MEMORY);
    assert_true(isnan(found.low) && isnan(found.high));
}

static void interval_is_a_function_of_the_seed(void **state) {
    (void)state;
    double values[97];
    for (int i = 0; i < 97; i++) values[i] = test_value(9, i);
    const kv_interval first = interval_of(values, 97, 500, 4), again = interval_of(values, 97, 500, 4),
                      other = interval_of(values, 97, 500, 5);
    assert_memory_equal(&first, &again, sizeof first);
    assert_true(first.low != other.low && first.high != other.high);
}

// ---- Interval of a ratio -------------------------------------------------------------------------------

static kv_interval ratio_of(const double *system, const double *base, int64_t n, int64_t n_resamples,
                            uint64_t seed) {
    kv_interval interval;
    kv_error err = {0};
    if (kv_bootstrap_ratio(system, base, n, n_resamples, seed, &interval, &err)) fail_msg("%s", err.message);
    return interval;
}

// Share of all n^n resamples, each as likely as any other, whose ratio is below `limit` (or at most: up_to).
// Where both sums are 0 it is `unknown`.
static double share_below(const double *system, const double *base, int n, double limit, bool up_to,
                          double unknown) {
    int64_t total = 1, below = 0;
    for (int i = 0; i < n; i++) total *= n;
    for (int64_t drawn = 0; drawn < total; drawn++) {
        double above = 0, under = 0;
        int64_t rest = drawn;
        for (int i = 0; i < n; i++, rest /= n) above += system[rest % n], under += base[rest % n];
        const double ratio = above == 0 && under == 0 ? unknown : above / under;
        // Sums of the same numbers in another order may differ in their last bits.
        below += up_to ? ratio <= limit * (1 + 1e-12) : ratio < limit * (1 - 1e-12);
    }
    return (double)below / (double)total;
}

static void ratios_are_counted_out(void **state) {
    (void)state;
    const double slack = 4 * sqrt(0.025 * 0.975 / MANY);
    int infinite = 0, narrow = 0;
    for (int n = 2; n <= 6; n++)
        for (uint64_t seed = 0; seed < 12; seed++) {
            double system[6], base[6], total = 0;
            for (int i = 0; i < n; i++) {
                system[i] = (double)test_below(seed, 2 * i, seed % 2 ? 2 : 5);
                base[i] = (double)test_below(seed, 2 * i + 1, seed % 2 ? 2 : 5) + (seed % 3 == 0);
                total += base[i];
            }
            if (total == 0) continue;
            const kv_interval found = ratio_of(system, base, n, MANY, seed);
            assert_true(share_below(system, base, n, found.low, false, 0) <= 0.025 + slack);
            assert_true(share_below(system, base, n, found.low, true, 0) >= 0.025 - slack);
            assert_true(share_below(system, base, n, found.high, false, INFINITY) <= 0.975 + slack);
            if (isfinite(found.high))
                assert_true(share_below(system, base, n, found.high, true, INFINITY) >= 0.975 - slack);
            infinite += isinf(found.high) != 0, narrow += isfinite(found.high) != 0;
        }
    assert_true(infinite > 5 && narrow > 5);
}

static void ratio_is_paired(void **state) {
    (void)state;
    enum { N = 200 };
    double base[N], half[N];
    for (int i = 0; i < N; i++) base[i] = i % 2, half[i] = 0.5 * base[i];
    // Whatever is drawn, the same is drawn for both: a system that keeps the same share of every item has no
    // other ratio. Drawn apart, or as the accuracy's interval over the base's accuracy, it would be 0.86 to
    // 1.14.
    kv_interval found = ratio_of(base, base, N, 500, 1);
    assert_true(found.low == 1 && found.high == 1);
    found = ratio_of(half, base, N, 500, 1);
    assert_true(found.low == 0.5 && found.high == 0.5);
    const kv_interval again = ratio_of(half, base, N, 500, 1);
    assert_memory_equal(&found, &again, sizeof found);
}

static void ratio_without_a_base(void **state) {
    (void)state;
    kv_error err = {0};
    const double none[] = {0, 0, 0}, some[] = {1, 0, 1}, bad[] = {1, NAN, 1};
    kv_interval found = ratio_of(some, none, 3, 100, 1);
    assert_true(isnan(found.low) && isnan(found.high));
    found = ratio_of(some, bad, 3, 100, 1);
    assert_true(isnan(found.low) && isnan(found.high));
    found = ratio_of(bad, some, 3, 100, 1);
    assert_true(isnan(found.low) && isnan(found.high));
    found = ratio_of(NULL, NULL, 0, 100, 1);
    assert_true(isnan(found.low) && isnan(found.high));
    // The base has one item of four right: it scores 0 in (3/4)^4 of the resamples, the system in as many.
    found = ratio_of((const double[]){1, 0, 0, 0}, (const double[]){1, 0, 0, 0}, 4, MANY, 1);
    assert_true(found.low == 0 && isinf(found.high));
    // Neither end is anything else than infinite when hardly any resample has a ratio.
    for (int64_t n_resamples = 1; n_resamples < 4; n_resamples++)
        for (uint64_t seed = 0; seed < 20; seed++) {
            found =
                ratio_of((const double[]){1, 1, 1, 1}, (const double[]){1, 0, 0, 0}, 4, n_resamples, seed);
            assert_true(!isnan(found.low) && !isnan(found.high) && found.low <= found.high);
        }
    assert_int_equal(kv_bootstrap_ratio(some, some, 3, 0, 1, &found, &err), KV_ERR_ARGUMENT);
    assert_int_equal(kv_bootstrap_ratio(some, some, -3, 5, 1, &found, &err), KV_ERR_ARGUMENT);
}

// ---- Paired test ---------------------------------------------------------------------------------------

// `better` items the system alone has right, `worse` the base alone, `same` both and as many neither.
static kv_paired mcnemar(int better, int worse, int same) {
    const int n = better + worse + 2 * same;
    double *system = test_alloc(n, sizeof *system), *base = test_alloc(n, sizeof *base);
    for (int i = 0; i < n; i++) {
        system[i] = i < better || (i >= better + worse && i < better + worse + same);
        base[i] = i >= better && i < better + worse + same;
    }
    const kv_paired paired = paired_of(system, base, n, 100, 1);
    free(system);
    free(base);
    assert_int_equal(paired.better, better);
    assert_int_equal(paired.worse, worse);
    assert_true(paired.exact);
    near(paired.difference, (double)(better - worse) / n, rounding_bound_double(4, 1));
    return paired;
}

static void mcnemar_by_hand(void **state) {
    (void)state;
    near(mcnemar(1, 0, 3).p, 1, 0);
    near(mcnemar(2, 0, 3).p, 0.5, rounding_bound_double(64, 1));
    near(mcnemar(0, 5, 0).p, 2.0 / 32, rounding_bound_double(64, 1));
    near(mcnemar(1, 5, 1).p, 2.0 * (1 + 6) / 64, rounding_bound_double(64, 1));
    near(mcnemar(7, 3, 20).p, 2.0 * (1 + 10 + 45 + 120) / 1024, rounding_bound_double(64, 1));
    near(mcnemar(3, 3, 9).p, 1, 0);
    near(mcnemar(4, 3, 9).p, 1, rounding_bound_double(64, 1)); // 2 · P(X <= 3 of 7) = 1
    near(mcnemar(0, 0, 4).p, 1, 0);
    // 60 of 100 coin flips or more, twice: a figure of many textbooks.
    near(mcnemar(40, 60, 0).p, 0.0568879, 1e-7);
    assert_true(mcnemar(0, 1000, 0).p > 0 && mcnemar(0, 1000, 0).p < 1e-300);
}

// All signs of the differences, zeros too.
static double brute_force(const double *system, const double *base, int n) {
    double observed = 0;
    int64_t extreme = 0;
    for (int i = 0; i < n; i++) observed += system[i] - base[i];
    for (int64_t signs = 0; signs < (int64_t)1 << n; signs++) {
        double sum = 0;
        for (int i = 0; i < n; i++) sum += (signs >> i & 1 ? -1 : 1) * (system[i] - base[i]);
        extreme += fabs(sum) >= fabs(observed) - 1e-9;
    }
    return (double)extreme / (double)((int64_t)1 << n);
}

static void draw_scores(uint64_t seed, int n, int levels, double *system, double *base) {
    for (int i = 0; i < n; i++) {
        system[i] = (double)test_below(seed, 2 * i, levels) / (levels - 1);
        base[i] = (double)test_below(seed, 2 * i + 1, levels) / (levels - 1);
    }
}

static void few_items_are_counted_out(void **state) {
    (void)state;
    for (int n = 1; n <= 12; n++)
        for (uint64_t seed = 0; seed < 6; seed++) {
            double system[12], base[12];
            draw_scores(seed + 100 * (uint64_t)n, n, seed % 2 ? 2 : 11, system, base);
            const kv_paired paired = paired_of(system, base, n, 4096, 1);
            assert_true(paired.exact);
            near(paired.p, brute_force(system, base, n), rounding_bound_double(5000, 1));
        }
}

static void many_items_are_drawn(void **state) {
    (void)state;
    enum { N = 18 };
    int drawn = 0;
    for (uint64_t seed = 0; seed < 8; seed++) {
        double system[N], base[N];
        draw_scores(seed, N, 11, system, base);
        for (int i = 0; i < N && seed % 2; i++) system[i] += 0.1; // not all of them near p = 1
        const kv_paired paired = paired_of(system, base, N, MANY, seed);
        const double expected = brute_force(system, base, N);
        if (!paired.exact) near(paired.p, expected, 4 * sqrt(expected * (1 - expected) / MANY) + 1.0 / MANY);
        drawn += !paired.exact;
        const kv_paired again = paired_of(system, base, N, MANY, seed);
        assert_true(paired.p == again.p);
    }
    assert_true(drawn >= 4);
}

// More differences than bits in a block or in a word, one way: no drawn flip is as extreme.
static void clear_difference_of_many_items(void **state) {
    (void)state;
    enum { N = 300 };
    double system[N], base[N];
    for (int i = 0; i < N; i++) system[i] = (base[i] = test_value(1, i)) + 0.5 + 0.1 * (i % 3);
    const kv_paired paired = paired_of(system, base, N, 999, 1);
    near(paired.p, 1e-3, rounding_bound_double(4, 1));
    assert_false(paired.exact);
    assert_int_equal(paired.better, N);
    near(paired.difference, 0.6, rounding_bound_double(5000, 1));
    // Half of them the other way: about the middle.
    for (int i = 0; i < N; i++) system[i] = base[i] + (i < N / 2 ? 1 : -1) * (0.5 + 0.1 * (i % 3));
    assert_true(paired_of(system, base, N, 999, 1).p == 1);
}

// Which items count as better is a matter of direction; how sure the difference is, is not.
static void lower_may_be_better(void **state) {
    (void)state;
    const double system[] = {2.5, 1, 3, 4, 0.5}, base[] = {2, 2, 3, 5, 1.25};
    kv_paired paired[2];
    kv_error err = {0};
    for (int lower = 0; lower < 2; lower++)
        if (kv_paired_test(system, base, 5, lower, 100, 1, &paired[lower], &err)) fail_msg("%s", err.message);
    assert_true(paired[0].better == 1 && paired[0].worse == 3);
    assert_true(paired[1].better == 3 && paired[1].worse == 1);
    near(paired[1].difference, -2.25 / 5, rounding_bound_double(6, 1));
    // Of the 16 signs of ½, 1, 1 and ¾, all but ½ down: sums of at least 2¼ are 3¼ and 2¼, up and down.
    near(paired[0].p, 4.0 / 16, 0);
    near(paired[1].p, 4.0 / 16, 0);
}

static void pairs_of_nothing(void **state) {
    (void)state;
    kv_error err = {0};
    const double one[] = {1, 0}, bad[] = {1, NAN};
    kv_paired paired = paired_of(NULL, NULL, 0, 10, 1);
    assert_true(isnan(paired.p) && isnan(paired.difference));
    paired = paired_of(one, bad, 2, 10, 1);
    assert_true(isnan(paired.p) && isnan(paired.difference) && paired.better == 0);
    paired = paired_of(one, one, 2, 10, 1);
    assert_true(paired.p == 1 && paired.difference == 0);
    paired = paired_of((const double[]){0.75}, (const double[]){0.5}, 1, 10, 1);
    assert_true(paired.p == 1 && paired.difference == 0.25 && paired.better == 1);
    assert_int_equal(kv_paired_test(one, one, 2, false, 0, 1, &paired, &err), KV_ERR_ARGUMENT);
    assert_int_equal(kv_paired_test(one, one, -2, false, 5, 1, &paired, &err), KV_ERR_ARGUMENT);
}

// ---- Correlation ---------------------------------------------------------------------------------------

static void correlation_by_hand(void **state) {
    (void)state;
    static const double x[] = {1, 2, 3, 4}, bent[] = {1, 8, 27, 64}, down[] = {9, 7, 5, 3},
                        ties[] = {1, 2, 2, 3}, mixed[] = {1, 3, 2};
    near(kv_pearson(x, down, 4), -1, 1e-15);
    near(kv_pearson(x, mixed, 3), 0.5, 1e-15);
    near(kv_pearson(mixed, x, 3), 0.5, 1e-15);
    // Σ (x - x̄)(y - ȳ) = 104, of 5 and 2390: by hand.
    near(kv_pearson(x, bent, 4), 104 / sqrt(5.0 * 2390), 1e-15);
    near(kv_spearman(x, bent, 4), 1, 1e-15);
    near(kv_spearman(x, down, 4), -1, 1e-15);
    near(kv_spearman(ties, x, 4), 4.5 / sqrt(4.5 * 5), 1e-15); // ranks 1, 2½, 2½, 4
    // Far from 0 the same differences are the same.
    double far_off[4];
    for (int i = 0; i < 4; i++) far_off[i] = 1e6 + bent[i];
    near(kv_pearson(x, far_off, 4), 104 / sqrt(5.0 * 2390), 1e-9);
}

static void correlation_of_nothing(void **state) {
    (void)state;
    static const double x[] = {1, 2, 3}, same[] = {0.1, 0.1, 0.1}, none[] = {1, NAN, 3},
                        large[] = {1, INFINITY, 3};
    const double *const wrong[] = {same, none, large};
    for (int i = 0; i < 3; i++) {
        assert_true(isnan(kv_pearson(x, wrong[i], 3)) && isnan(kv_pearson(wrong[i], x, 3)));
        assert_true(isnan(kv_spearman(x, wrong[i], 3)) && isnan(kv_spearman(wrong[i], x, 3)));
    }
    for (int64_t n = 0; n < 3; n++) assert_true(isnan(kv_pearson(x, x, n)) && isnan(kv_spearman(x, x, n)));
}

static void interval_of_a_correlation(void **state) {
    (void)state;
    // z = ½ ln 3, and 1.96 standard errors of a fifth.
    const kv_interval found = kv_pearson_interval(0.5, 28);
    near(found.low, tanh(0.5 * log(3) - 0.39199), 1e-5);
    near(found.high, tanh(0.5 * log(3) + 0.39199), 1e-5);
    const kv_interval mirrored = kv_pearson_interval(-0.5, 28), wide = kv_pearson_interval(0.5, 4);
    near(mirrored.low, -found.high, 1e-15);
    assert_true(wide.low < -0.8 && wide.high > 0.95);
    assert_true(isnan(kv_pearson_interval(0.5, 3).low) && isnan(kv_pearson_interval(NAN, 9).high));
    assert_true(kv_pearson_interval(1, 9).low == 1 && kv_pearson_interval(-1, 9).high == -1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(interval_of_shares_is_binomial),
        cmocka_unit_test(interval_of_fractions_is_normal),
        cmocka_unit_test(interval_by_hand),
        cmocka_unit_test(interval_of_nothing),
        cmocka_unit_test(interval_is_a_function_of_the_seed),
        cmocka_unit_test(ratios_are_counted_out),
        cmocka_unit_test(ratio_is_paired),
        cmocka_unit_test(ratio_without_a_base),
        cmocka_unit_test(mcnemar_by_hand),
        cmocka_unit_test(few_items_are_counted_out),
        cmocka_unit_test(many_items_are_drawn),
        cmocka_unit_test(clear_difference_of_many_items),
        cmocka_unit_test(lower_may_be_better),
        cmocka_unit_test(pairs_of_nothing),
        cmocka_unit_test(correlation_by_hand),
        cmocka_unit_test(correlation_of_nothing),
        cmocka_unit_test(interval_of_a_correlation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

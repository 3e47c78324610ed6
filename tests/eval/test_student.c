// The t-test over seeds: its distribution against the density's integral and printed tables, the test against numbers
// worked by hand.
#include "eval/statistics/student.h"

#include "tests/support/support.h"

#include <float.h>
#include <math.h>

static void expect(double found, double expected, double tolerance) {
    if (!(fabs(found - expected) <= tolerance)) fail_msg("found %.17g, expected %.17g", found, expected);
}

// ---- The distribution ----------------------------------------------------------------------------------

static double density(double x, double freedom) {
    return exp(lgamma((freedom + 1) / 2) - lgamma(freedom / 2)) / sqrt(freedom * M_PI) *
           pow(1 + x * x / freedom, -(freedom + 1) / 2);
}

// Simpson's rule from -t to t. Its error is (2t)^5 / (180 n^4) of the fourth derivative, which is below 10 everywhere.
enum { STEPS = 4000 };
static double integral(double t, double freedom) {
    double sum = 0;
    for (int i = 0; i <= STEPS; i++) {
        const double weight = i == 0 || i == STEPS ? 1 : i % 2 ? 4 : 2;
        sum += weight * density(-t + 2 * t * i / STEPS, freedom);
    }
    return sum * 2 * t / STEPS / 3;
}

static void test_distribution(void **state) {
    (void)state;
    static const double t[] = {0.1, 0.7, 1, 1.9, 3, 6};
    for (int64_t freedom = 1; freedom <= 30; freedom++)
        for (int i = 0; i < 6; i++) {
            const double error = 10 * pow(2 * t[i], 5) / (180 * pow(STEPS, 4)) + 1e-14 * STEPS;
            expect(kv_student_two_sided(t[i], freedom), 1 - integral(t[i], (double)freedom), error);
            assert_true(kv_student_two_sided(-t[i], freedom) == kv_student_two_sided(t[i], freedom));
        }
}

// As statistical tables print them: 5 % and 1 % of both sides, to the digits there are.
static void test_tables(void **state) {
    (void)state;
    static const struct {
        double freedom, five, one;
    } rows[] = {
        {1, 12.706, 63.657}, {2, 4.303, 9.925}, {3, 3.182, 5.841}, {4, 2.776, 4.604}, {9, 2.262, 3.250}};
    for (int i = 0; i < 5; i++) {
        const int64_t freedom = (int64_t)rows[i].freedom;
        // 2 · density · half a unit of the last digit.
        expect(kv_student_two_sided(rows[i].five, freedom), 0.05,
               0.001 * density(rows[i].five, rows[i].freedom));
        expect(kv_student_two_sided(rows[i].one, freedom), 0.01,
               0.001 * density(rows[i].one, rows[i].freedom));
    }
    assert_true(kv_student_two_sided(0, 2) == 1);
    assert_true(kv_student_two_sided((double)INFINITY, 1) == 0);
    assert_true(kv_student_two_sided((double)INFINITY, 2) == 0);
    assert_true(isnan(kv_student_two_sided((double)NAN, 2)));
}

// ---- The test ------------------------------------------------------------------------------------------

static void test_by_hand(void **state) {
    (void)state;
    // Differences 1, 2, 3: mean 2, sd 1, t = 2 √3; of two degrees P = 1 - t / √(t² + 2) = 1 - √(6/7).
    const double system[] = {11, 22, 33}, other[] = {10, 20, 30};
    kv_student s = kv_student_test(system, other, 3);
    assert_int_equal(s.difference.n, 3);
    expect(s.difference.mean, 2, 0);
    expect(s.difference.sd, 1, 0);
    expect(s.t, 2 * sqrt(3), 8 * DBL_EPSILON);
    expect(s.p, 1 - sqrt(6.0 / 7), 8 * DBL_EPSILON);
    s = kv_student_test(other, system, 3);
    expect(s.t, -2 * sqrt(3), 8 * DBL_EPSILON);
    expect(s.p, 1 - sqrt(6.0 / 7), 8 * DBL_EPSILON);
    // Differences 1, 3: mean 2, sd √2, t = 2; of one degree P = 1 - 2/π atan 2.
    const double two[] = {1, 3}, none[] = {0, 0};
    s = kv_student_test(two, none, 2);
    expect(s.p, 1 - 2 / M_PI * atan(2), 8 * DBL_EPSILON);
}

static void test_missing(void **state) {
    (void)state;
    const double nan = (double)NAN, inf = (double)INFINITY;
    // Only pairs count: 1, 2, 3 as above.
    const double system[] = {11, nan, 22, 5, 33, inf}, other[] = {10, 1, 20, nan, 30, 1};
    const kv_student s = kv_student_test(system, other, 6);
    assert_int_equal(s.difference.n, 3);
    expect(s.p, 1 - sqrt(6.0 / 7), 8 * DBL_EPSILON);
    const kv_student one = kv_student_test(system, other, 2);
    assert_int_equal(one.difference.n, 1);
    expect(one.difference.mean, 1, 0);
    assert_true(isnan(one.difference.sd) && isnan(one.t) && isnan(one.p));
    const kv_student nothing = kv_student_test(system, other, 0);
    assert_true(nothing.difference.n == 0 && isnan(nothing.difference.mean) && isnan(nothing.p));
}

static void test_without_spread(void **state) {
    (void)state;
    const double system[] = {2, 3, 4}, other[] = {1, 2, 3};
    const kv_student same = kv_student_test(system, other, 3);
    assert_true(same.difference.mean == 1 && same.difference.sd == 0 && isnan(same.t) && isnan(same.p));
    // 0.1 each but for rounding.
    const double rounded[] = {0.1 + 0.2, 0.7, 1.1}, below[] = {0.2, 0.6, 1};
    assert_true(rounded[0] - below[0] != rounded[2] - below[2]);
    assert_true(isnan(kv_student_test(rounded, below, 3).p));
    const double apart[] = {0.1 + 0.2, 0.7, 1.1 + 1e-9};
    assert_true(kv_student_test(apart, below, 3).p < 1e-6);
    assert_true(kv_student_test(system, system, 3).p == 1);
    assert_true(kv_student_test(system, system, 3).t == 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_distribution), cmocka_unit_test(test_tables),
                                       cmocka_unit_test(test_by_hand), cmocka_unit_test(test_missing),
                                       cmocka_unit_test(test_without_spread)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

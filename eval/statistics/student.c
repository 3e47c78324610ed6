// The t-test over pairs. With whole degrees of freedom its distribution is a finite sum of cosines: no quadrature, no
// continued fraction.
#include "eval/statistics/student.h"

#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <stddef.h>

// P(|T| < |t|) = 2/π (θ + sin θ (cos θ + 2/3 cos³ θ + … + 2·4…(ν−3) / (3·5…(ν−2)) cos^(ν−2) θ))    of odd ν
//              = sin θ (1 + 1/2 cos² θ + … + 1·3…(ν−3) / (2·4…(ν−2)) cos^(ν−2) θ)                  of even ν
// with θ = atan(t / √ν); of ν = 1 it is 2θ/π.
static double inside(double t, int64_t freedom) {
    const double theta = atan(fabs(t) / sqrt((double)freedom)), c = cos(theta), s = sin(theta);
    const bool odd = freedom % 2;
    double term = odd ? c : 1, sum = 0;
    for (int64_t k = odd ? 1 : 0; k <= freedom - 2; k += 2) { // of cos^k θ
        sum += term;
        term *= c * c * (double)(k + 1) / (double)(k + 2);
    }
    return odd ? 2 / M_PI * (theta + s * sum) : s * sum;
}

double kv_student_two_sided(double t, int64_t freedom) {
    if (isnan(t)) return (double)NAN;
    return fmin(1, fmax(0, 1 - inside(t, freedom)));
}

// Sums over the pairs: of differences, or of their squared distances from `mean`.
static double sum_pairs(const double *system, const double *other, int64_t n, const double *mean) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        const double difference = system[i] - other[i];
        if (isfinite(difference)) sum += mean ? (difference - *mean) * (difference - *mean) : difference;
    }
    return sum;
}

// Whether no difference is farther from `value` than rounding of the figures takes it.
static bool all_are(const double *system, const double *other, int64_t n, double value) {
    bool all = true;
    for (int64_t i = 0; i < n; i++) {
        const double difference = system[i] - other[i];
        const double rounding = 16 * DBL_EPSILON * fmax(fabs(system[i]), fabs(other[i]));
        if (isfinite(difference)) all = all && fabs(difference - value) <= rounding;
    }
    return all;
}

kv_student kv_student_test(const double *system, const double *other, int64_t n) {
    kv_student test = {
        .difference = {.mean = (double)NAN, .sd = (double)NAN}, .t = (double)NAN, .p = (double)NAN};
    kv_spread *d = &test.difference;
    for (int64_t i = 0; i < n; i++) d->n += isfinite(system[i] - other[i]) != 0;
    if (d->n > 0) d->mean = sum_pairs(system, other, n, NULL) / (double)d->n;
    if (d->n < 2) return test;
    d->sd = sqrt(sum_pairs(system, other, n, &d->mean) / (double)(d->n - 1));
    if (all_are(system, other, n, 0)) {
        test.t = 0, test.p = 1;
    } else if (!all_are(system, other, n, d->mean)) {
        test.t = d->mean / (d->sd / sqrt((double)d->n));
        test.p = kv_student_two_sided(test.t, d->n - 1);
    }
    return test;
}

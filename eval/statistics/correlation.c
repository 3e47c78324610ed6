// Sums about the means, so that figures that hardly differ keep their digits.
#include "eval/statistics/correlation.h"

#include <math.h>
#include <stdlib.h>

double kv_pearson(const double *x, const double *y, int64_t n) {
    double mean_x = 0, mean_y = 0, xx = 0, yy = 0, xy = 0;
    if (n < KV_CORRELATION_LEAST) return NAN;
    for (int64_t i = 0; i < n; i++) mean_x += x[i] / (double)n, mean_y += y[i] / (double)n;
    for (int64_t i = 0; i < n; i++) {
        const double a = x[i] - mean_x, b = y[i] - mean_y;
        xx += a * a, yy += b * b, xy += a * b;
    }
    // What the means' own rounding leaves of equal numbers is no spread.
    const double least_x = (double)n * 1e-30 * mean_x * mean_x, least_y = (double)n * 1e-30 * mean_y * mean_y;
    const double r = xy / sqrt(xx) / sqrt(yy);
    if (!(xx > least_x && yy > least_y && isfinite(r))) return NAN;
    return fmax(-1, fmin(1, r));
}

static void rank(const double *x, int64_t n, double *ranks) {
    for (int64_t i = 0; i < n; i++) {
        int64_t below = 0, equal = 0;
        for (int64_t j = 0; j < n; j++) below += x[j] < x[i], equal += x[j] == x[i];
        ranks[i] = isfinite(x[i]) ? (double)below + 0.5 * (double)(equal + 1) : NAN;
    }
}

double kv_spearman(const double *x, const double *y, int64_t n) {
    double *ranks = n > 0 ? malloc(2 * (size_t)n * sizeof *ranks) : NULL;
    if (!ranks) return NAN;
    rank(x, n, ranks);
    rank(y, n, ranks + n);
    const double rho = kv_pearson(ranks, ranks + n, n);
    free(ranks);
    return rho;
}

kv_interval kv_pearson_interval(double r, int64_t n) {
    if (isnan(r) || n < 4) return (kv_interval){NAN, NAN};
    if (fabs(r) >= 1) return (kv_interval){r, r};
    const double z = atanh(r), half = 1.959963984540054 / sqrt((double)(n - 3));
    return (kv_interval){tanh(z - half), tanh(z + half)};
}

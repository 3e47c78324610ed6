// Order statistics of a few values: sorting them is all it takes.
#include "core/quantile.h"

#include <stdlib.h>

static int compare_doubles(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

void kv_sort_doubles(double *values, int64_t n) {
    qsort(values, (size_t)n, sizeof *values, compare_doubles);
}

double kv_quantile(const double *sorted, int64_t n, double q) {
    const double place = q * (double)(n - 1);
    const int64_t below = (int64_t)place;
    if (below >= n - 1) return sorted[n - 1];
    return sorted[below] + (place - (double)below) * (sorted[below + 1] - sorted[below]);
}

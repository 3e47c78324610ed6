// Mean and standard deviation, in two passes: the figures are few, and may be large and near each other.
#include "core/spread.h"

#include <math.h>

kv_spread kv_spread_of(const double *values, int64_t n) {
    kv_spread spread = {.mean = (double)NAN, .sd = (double)NAN};
    double sum = 0, squares = 0;
    for (int64_t i = 0; i < n; i++)
        if (isfinite(values[i])) sum += values[i], spread.n++;
    if (spread.n > 0) spread.mean = sum / (double)spread.n;
    for (int64_t i = 0; i < n; i++)
        if (isfinite(values[i])) squares += (values[i] - spread.mean) * (values[i] - spread.mean);
    if (spread.n > 1) spread.sd = sqrt(squares / (double)(spread.n - 1));
    return spread;
}

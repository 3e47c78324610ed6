// Order statistics.
#pragma once

#include "core/api.h"

#include <stdint.h>

KV_API_BEGIN

// Ascending, in place.
void kv_sort_doubles(double *values, int64_t n);

// The value below which a fraction q, in [0, 1], of sorted[n >= 1] lies: linear between the order statistics
// around it.
//                                                                      [Hyndman & Fan 1996, definition 7]
double kv_quantile(const double *sorted, int64_t n, double q);

KV_API_END

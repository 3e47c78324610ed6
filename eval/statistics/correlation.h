// Whether two figures of the same systems go together.
#pragma once

#include "eval/statistics/stats.h"

enum { KV_CORRELATION_LEAST = 3 }; // pairs: of two every correlation is 1 or -1

// r of the pairs x[n], y[n]: Σ (x - x̄)(y - ȳ) / √(Σ (x - x̄)² Σ (y - ȳ)²).
//                                                                                        [Pearson 1895]
// NAN with fewer than 3 pairs, where x or y is the same in all, or a number is not finite.
double kv_pearson(const double *x, const double *y, int64_t n);

// ρ: r of the ranks, equal numbers having the mean of theirs.
//                                                                                       [Spearman 1904]
// NAN as above, and when out of memory.
double kv_spearman(const double *x, const double *y, int64_t n);

// 95 % interval of r of n pairs: tanh(artanh r ± 1.96 / √(n - 3)).
//                                                                                         [Fisher 1921]
// It takes the pairs for a sample, which systems of one evaluation hardly are, and is meant to show how little a few of
// them say. NAN with fewer than 4 pairs, or of r NAN; of ±1 it has no width.
kv_interval kv_pearson_interval(double r, int64_t n);

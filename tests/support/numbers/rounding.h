// How far from exact a computed number may lie: every tolerance of the tests comes from here, derived from
// the arithmetic that the number went through, so that it holds in whatever order a CPU's kernels add.
//
// A single float32 operation errs by at most u = 2^-24 of its result, and n of them in a row by at most
//   γ_n = n·u / (1 - n·u)
// of the sizes that went in: x·y of n terms, added in any order, is Σ x_i y_i (1 + θ_i) with |θ_i| <= γ_n.
//                                                                   [Higham 2002, lemma 3.1 and section 3.1]
// That is rounding_bound, for what is computed in a few steps that a test can count.
//
// Through a whole model the worst case of every sum after that of every other would be so wide that it showed
// nothing. There the same equation is read backwards: a float32 sum is the exact one of operands that were
// moved a little, so that what matters is how far the results move when the operands do. With independent
// roundings θ_i is of size √n·u
//                                                                   [Higham & Mary 2019, theorem 2.4]
// rather than γ_n. rounding_spread therefore moves every operand (weights and inputs) by √n·u of itself, up
// or down at random, computes the results again, does so ROUNDING_SAMPLES times, and allows ROUNDING_SIZES
// times the root mean square of what each result moved by. This is a statistical bound: it knows that errors
// of many sums do not all point one way. It grows where a result is the small difference of large numbers,
// and is 0 for what does not depend on rounding at all.
#pragma once

#include "core/tensor.h"

#include <stdbool.h>
#include <stdint.h>

#define ROUNDING_FLOAT  0x1p-24 // u of float32
#define ROUNDING_DOUBLE 0x1p-53 // u of double

// What n operations in a row may add to numbers of this size: γ_n · size, in float32 and in double.
double rounding_bound(double n, double size);
double rounding_bound_double(double n, double size);

// The largest error of storing x in a type: half the distance to its neighbour.
double rounding_of_type(kv_dtype dtype, double x);

// What the spread below would allow a sum of `terms` numbers whose squares add up to `squares`, each of which
// is moved.
double rounding_of_sum(double terms, double squares);

// A product of k terms, whose sizes and squares add up so: the smaller of the worst case and of the
// statistical bound.
double rounding_of_product(double k, double sizes, double squares);

// How far the mean of n random numbers of this variance may be from theirs, and a standard deviation from the
// true one, as a part of it, where the fourth moment is `kurtosis` times the variance squared: four standard
// deviations of either. Seeds are fixed, so what passes once always does.
double chance_of_mean(double variance, double n);
double chance_of_deviation(double kurtosis, double n);

// A loss or a norm x after `steps` AdamW steps, computed in two ways. Each has the rounding of a sum over `terms`; and each
// step has gone elsewhere by what the gradients' own rounding e(g) makes of it. A weight's part in that, |g| times its
// error, is at most 2 lr e(g) whichever way it went (see adamw.h), so that n weights' is at most 2 lr √n |e(g)|, where the
// whole gradient is clipped to 1.
double rounding_of_training(double steps, double lr, double n, double terms, double x);

// Fails the running test unless |found - expected| <= allowed; NaN fails.
void rounding_expect(const char *what, double found, double expected, double allowed);

// The same for numbers that n operations in a row made, of terms whose sizes add up to `size`.
void expect_float(const char *what, double found, double expected, double n, double size);
void expect_double(const char *what, double found, double expected, double n, double size);

// ---- Results of whole models ---------------------------------------------------------------------------

enum { ROUNDING_SAMPLES = 16, ROUNDING_SIZES = 6 };

// Arrays that a computation reads, in double or in float32. They are changed while a spread is measured, and
// restored.
typedef struct rounding_operands {
    struct rounding_operand {
        double *wide; // or
        float *narrow;
        int64_t n;
        double part; // of √n·u that it is moved by: 1, or less for what goes into exact products
    } * of;
    int64_t n, capacity;
} rounding_operands;

void rounding_add(rounding_operands *operands, double *x, int64_t n);
void rounding_add_floats(rounding_operands *operands, float *x, int64_t n);
void rounding_add_params(rounding_operands *operands, kv_param *const *params, int64_t n); // those in float32
void rounding_operands_free(rounding_operands *operands);

// Computes all results, in any order that stays the same, from the operands as they are now.
typedef void rounding_fn(const void *context, double *results);

// What came of the operands themselves, and how far from it each result may lie in float32.
typedef struct rounding_spread {
    int64_t n;
    double *expected, *allowed; // [n]
} rounding_spread;

// terms: additions in the longest sum on the way, the size of its largest matrix dimension.
rounding_spread rounding_measure(const rounding_operands *operands, int64_t terms, rounding_fn *compute,
                                 const void *context, int64_t n);
void rounding_spread_free(rounding_spread *spread);

// Not all that gradients are sums of is moved: an L1 loss hands down signs, and a softmax over one key
// differences that are 0 whatever moves. Where such sums cancel, what is left has the rounding of sums as large
// as the array's others: allows for that in results [from, from + n), and returns how much it was.
double rounding_allow_sums(rounding_spread *spread, int64_t from, int64_t n);

// x[n] against results [from, from + n) of a spread.
void rounding_compare(const char *what, const float *x, const rounding_spread *spread, int64_t from,
                      int64_t n);
void rounding_compare_one(const char *what, double x, const rounding_spread *spread, int64_t i);

// x[n] and y[n] are two computations of the same results: each has its own error.
void rounding_compare_both(const char *what, const float *x, const float *y, const rounding_spread *spread,
                           int64_t from, int64_t n);

// The same for results laid out as the spread's own.
void rounding_compare_results(const char *what, const double *x, const double *y,
                              const rounding_spread *spread);

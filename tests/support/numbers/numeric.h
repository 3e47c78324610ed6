// Checks an operator of the tape against a plain double-precision version of the same formula: its output
// directly, its gradients against central differences of the double version.
//
// The scalar that is differentiated is Σ c·y with fixed random c, so the operator's incoming gradient is
// nowhere 1. Every case also runs with each input tensor used a second time (its gradient then has to be
// added to), backward runs twice (parameter gradients have to accumulate), and once with recording off (same
// bits, no gradient).
#pragma once

#include "core/ops.h"
#include "tests/support/numbers/rounding.h"
#include "tests/support/support.h"

enum { NUMERIC_LEAVES = 6 };

typedef enum numeric_kind { NUMERIC_TENSOR, NUMERIC_PARAM } numeric_kind;

// One thing the operator reads.
typedef struct numeric_leaf {
    const char *name;
    numeric_kind kind;
    int64_t rows, cols;
    bool frozen;    // must come out without a gradient
    kv_dtype dtype; // of a frozen parameter
    double scale;   // values lie in (-scale, scale); 0 means 1
    double offset;  // added to them
    bool whole;     // rounded to whole numbers: products of moderate size are then exact in float32
} numeric_leaf;

// Leaf i as the operator gets it: one of the two is set.
typedef struct numeric_operand {
    kv_tensor *tensor;
    kv_param *param;
} numeric_operand;

typedef struct numeric_case {
    const char *name;
    numeric_leaf leaves[NUMERIC_LEAVES]; // up to the first without rows; at most 3 tensors
    int64_t out_rows, out_cols;
    kv_tensor *(*run)(kv_tape *tape, const numeric_operand *in, const void *context);
    void (*reference)(const double *const *in, const void *context, double *out);
    const void *context;
    const rounding_operands *also; // what it reads besides the leaves; NULL: nothing
    int64_t
        terms; // additions in the longest sum of the operator and of its backward; 0: only a few operations
    double
        between; // what outputs may be off beyond that: rounding of larger numbers that they are differences of
    int64_t max_probes; // elements differentiated one by one in a larger leaf; 0 means 60
    bool forward_only;
} numeric_case;

// Fails the running test, naming case, leaf and element, when anything disagrees.
void numeric_check(const numeric_case *check);

// ---- The parts, for larger things than one operator ----------------------------------------------------

typedef double numeric_loss_fn(const void *context);

// Derivatives of a double-precision loss with respect to x[n]: of all elements or an even sample of them, and
// along one direction of random signs, which sees every element. Each is a central difference over one step;
// how far those over two steps are from it tells how far it may be from the derivative itself.
typedef struct numeric_slopes {
    int64_t n, n_probes;
    int64_t *index;             // [n_probes]
    double *slope, *unsure;     // [n_probes]
    double along, along_unsure; // Σ sign(i) · dloss/dx_i
    double rms;
} numeric_slopes;

// x is changed during the call and restored.
numeric_slopes numeric_differentiate(double *x, int64_t n, int64_t max_probes, numeric_loss_fn *loss,
                                     const void *context);
void numeric_slopes_free(numeric_slopes *slopes);

// How a gradient[n] is laid out among the results of a rounding_spread: its elements, then their sum along
// the direction above. Returns the first place behind them.
double *numeric_gradient_results(const float *gradient, int64_t n, double *results);

// rounding_allow_sums for the gradient[n] at `from`. Returns the first place behind it.
int64_t numeric_allow_sums(rounding_spread *spread, int64_t from, int64_t n);

// gradient[n] must be factor · slopes; results [from, from + n] of the spread are this gradient's, factor 1.
// added: sizes that were added to each element and taken away again, which leaves their rounding; NULL: none.
void numeric_compare_gradient(const char *name, const char *leaf, const float *gradient,
                              const numeric_slopes *slopes, double factor, const rounding_spread *spread,
                              int64_t from, const double *added);

// A new double copy of x[n], or of a parameter of any type.
double *numeric_doubles(const float *x, int64_t n);
double *numeric_param_doubles(const kv_param *param);

// Σ c·x over the elements of x[0], plus `again` times the same for x[1] … x[n - 1], n <= 4; c are fixed
// random values per tensor. NULL entries are skipped.
kv_tensor *numeric_dot(kv_tape *tape, kv_tensor *const *x, int n, double again);
double numeric_dot_weight(int tensor, int64_t element);

#include "tests/support/numbers/rounding.h"
#include "tests/support/support.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static double gamma_of(double n, double unit) {
    return n * unit / (1 - n * unit);
}

double rounding_bound(double n, double size) {
    return gamma_of(n, ROUNDING_FLOAT) * fabs(size);
}

double rounding_bound_double(double n, double size) {
    return gamma_of(n, ROUNDING_DOUBLE) * fabs(size);
}

double rounding_of_type(kv_dtype dtype, double x) {
    if (dtype == KV_F32) return ROUNDING_FLOAT * fabs(x);
    return dtype == KV_BF16 ? ldexp(fabs(x), -8) : fmax(ldexp(fabs(x), -11), ldexp(1, -25));
}

// KV_ROUNDING=1 prints how much of what was allowed each comparison used, to see how sharp a test is.
static void report(const char *what, double used) {
    static int wanted = -1;
    if (wanted < 0) wanted = getenv("KV_ROUNDING") != NULL;
    if (wanted) printf("rounding: %-40s used %.3f\n", what, used);
}

static bool within(double found, double expected, double allowed, double *used) {
    const double off = fabs(found - expected);
    if (off > 0 && allowed > 0) *used = fmax(*used, off / allowed);
    return off <= allowed;
}

void rounding_expect(const char *what, double found, double expected, double allowed) {
    double used = 0;
    if (!within(found, expected, allowed, &used))
        fail_msg("%s is %.9g, expected %.9g (allowed difference %.2g)", what, found, expected, allowed);
    report(what, used);
}

void expect_float(const char *what, double found, double expected, double n, double size) {
    rounding_expect(what, found, expected, rounding_bound(n, size));
}

void expect_double(const char *what, double found, double expected, double n, double size) {
    rounding_expect(what, found, expected, rounding_bound_double(n, size));
}

// ---- Operands ------------------------------------------------------------------------------------------

static void add(rounding_operands *o, struct rounding_operand operand) {
    if (o->n == o->capacity) {
        o->capacity = 2 * o->capacity + 64;
        o->of = realloc(o->of, (size_t)o->capacity * sizeof *o->of);
        assert_non_null(o->of);
    }
    o->of[o->n++] = operand;
}

void rounding_add(rounding_operands *operands, double *x, int64_t n) {
    add(operands, (struct rounding_operand){.wide = x, .n = n, .part = 1});
}

void rounding_add_floats(rounding_operands *operands, float *x, int64_t n) {
    add(operands, (struct rounding_operand){.narrow = x, .n = n, .part = 1});
}

void rounding_add_params(rounding_operands *operands, kv_param *const *params, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        if (params[i]->dtype == KV_F32)
            rounding_add_floats(operands, params[i]->data, kv_param_size(params[i]));
}

void rounding_operands_free(rounding_operands *operands) {
    free(operands->of);
    *operands = (rounding_operands){0};
}

// ---- Spreads -------------------------------------------------------------------------------------------

static size_t bytes_of(const struct rounding_operand *o) {
    return (size_t)o->n * (o->wide ? sizeof *o->wide : sizeof *o->narrow);
}

static void move(const struct rounding_operand *o, const void *kept, double by, uint64_t seed) {
    for (int64_t i = 0; i < o->n; i++) {
        const double factor = 1 + o->part * (test_value(seed, i) < 0 ? -by : by);
        if (o->wide)
            o->wide[i] = ((const double *)kept)[i] * factor;
        else
            o->narrow[i] = (float)((double)((const float *)kept)[i] * factor);
    }
}

static void put(const rounding_operands *operands, void *const *kept) {
    for (int64_t i = 0; i < operands->n; i++) {
        const struct rounding_operand *o = &operands->of[i];
        memcpy(o->wide ? (void *)o->wide : (void *)o->narrow, kept[i], bytes_of(o));
    }
}

static void **keep(const rounding_operands *operands) {
    void **kept = test_alloc(operands->n, sizeof *kept);
    for (int64_t i = 0; i < operands->n; i++) {
        const struct rounding_operand *o = &operands->of[i];
        kept[i] = test_alloc((int64_t)bytes_of(o), 1);
        memcpy(kept[i], o->wide ? (void *)o->wide : (void *)o->narrow, bytes_of(o));
    }
    return kept;
}

// Everything that is no sum of products (exponentials, roots, quotients, storing a result) takes a few
// operations more.
enum { OTHER_OPERATIONS = 16 };

static double step_of(double terms) {
    return sqrt(terms + OTHER_OPERATIONS) * ROUNDING_FLOAT;
}

double rounding_of_sum(double terms, double squares) {
    return ROUNDING_SIZES * step_of(terms) * sqrt(squares);
}

double rounding_of_product(double k, double sizes, double squares) {
    return fmin(rounding_bound(k + 2, sizes), rounding_of_sum(k, squares));
}

double rounding_of_training(double steps, double lr, double n, double terms, double x) {
    const double one = rounding_of_sum(terms, 1);
    return 2 * fmax(1, fabs(x)) * one + steps * 2 * lr * sqrt(n) * one;
}

double chance_of_mean(double variance, double n) {
    return 4 * sqrt(variance / n);
}

double chance_of_deviation(double kurtosis, double n) {
    return 4 * sqrt((kurtosis - 1) / (4 * n));
}

rounding_spread rounding_measure(const rounding_operands *operands, int64_t terms, rounding_fn *compute,
                                 const void *context, int64_t n) {
    rounding_spread s = {n, test_alloc(n, sizeof(double)), test_alloc(n, sizeof(double))};
    double *moved = test_alloc(n, sizeof *moved);
    void **kept = keep(operands);
    const double by = step_of((double)terms), least = step_of(0); // of the result itself
    compute(context, s.expected);
    for (uint64_t sample = 0; sample < ROUNDING_SAMPLES; sample++) {
        for (int64_t i = 0; i < operands->n; i++)
            move(&operands->of[i], kept[i], by, 1000003 * (sample + 1) + (uint64_t)i);
        compute(context, moved);
        for (int64_t i = 0; i < n; i++)
            s.allowed[i] += (moved[i] - s.expected[i]) * (moved[i] - s.expected[i]) / ROUNDING_SAMPLES;
    }
    put(operands, kept);
    for (int64_t i = 0; i < n; i++)
        s.allowed[i] = ROUNDING_SIZES * (sqrt(s.allowed[i]) + least * fabs(s.expected[i]));
    for (int64_t i = 0; i < operands->n; i++) free(kept[i]);
    free(kept);
    free(moved);
    return s;
}

double rounding_allow_sums(rounding_spread *spread, int64_t from, int64_t n) {
    double squares = 0;
    assert_true(from >= 0 && from + n <= spread->n);
    for (int64_t i = from; i < from + n; i++) squares += spread->expected[i] * spread->expected[i];
    const double one = rounding_of_sum(0, squares / (double)n);
    for (int64_t i = from; i < from + n; i++) spread->allowed[i] += one;
    return one;
}

void rounding_spread_free(rounding_spread *spread) {
    free(spread->expected);
    free(spread->allowed);
    *spread = (rounding_spread){0};
}

void rounding_compare_one(const char *what, double x, const rounding_spread *spread, int64_t i) {
    assert_in_range(i, 0, spread->n - 1);
    rounding_expect(what, x, spread->expected[i], spread->allowed[i]);
}

void rounding_compare(const char *what, const float *x, const rounding_spread *spread, int64_t from,
                      int64_t n) {
    double used = 0;
    assert_true(from >= 0 && from + n <= spread->n);
    for (int64_t i = 0; i < n; i++) {
        const double expected = spread->expected[from + i], allowed = spread->allowed[from + i];
        if (!within((double)x[i], expected, allowed, &used))
            fail_msg("%s: element %lld is %.9g, expected %.9g (allowed difference %.2g)", what, (long long)i,
                     (double)x[i], expected, allowed);
    }
    report(what, used);
}

void rounding_compare_results(const char *what, const double *x, const double *y,
                              const rounding_spread *spread) {
    double used = 0;
    for (int64_t i = 0; i < spread->n; i++)
        if (!within(x[i], y[i], 2 * spread->allowed[i], &used))
            fail_msg("%s: result %lld is %.9g in one way and %.9g in the other (allowed difference %.2g)",
                     what, (long long)i, x[i], y[i], 2 * spread->allowed[i]);
    report(what, used);
}

void rounding_compare_both(const char *what, const float *x, const float *y, const rounding_spread *spread,
                           int64_t from, int64_t n) {
    double used = 0;
    assert_true(from >= 0 && from + n <= spread->n);
    for (int64_t i = 0; i < n; i++) {
        const double allowed = 2 * spread->allowed[from + i];
        if (!within((double)x[i], (double)y[i], allowed, &used))
            fail_msg("%s: element %lld is %.9g in one way and %.9g in the other (allowed difference %.2g)",
                     what, (long long)i, (double)x[i], (double)y[i], allowed);
    }
    report(what, used);
}

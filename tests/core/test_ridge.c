// What a ridge regression's weights leave of the squares, however many columns there are and however they are worked out,
// against plain sums in long double.
#include "core/predictor/ridge.h"
#include "tests/support/support.h"

#include <math.h>
#include <stdlib.h>

static double *values(int64_t n, uint64_t seed) {
    double *x = test_alloc(n, sizeof *x);
    for (int64_t i = 0; i < n; i++) x[i] = (double)test_value(seed, i);
    return x;
}

// Each product and each addition rounds once: a sum of (rows + 1) · rows + rows + 1 terms, in any order, is off by at most
// 2 rows + 8 roundings of 2^-53 of the sum of their sizes (rows terms of the inner product, as many of the outer, and a few).
static void expect_residuals(int64_t rows, int64_t dim) {
    double *gram = values(rows * rows, 1), *xty = values(rows * dim, 2), *weights = values(dim * rows, 3),
           *square = values(dim, 4), *residual = test_alloc(dim, sizeof *residual);
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < i; j++) gram[i * rows + j] = gram[j * rows + i];
    const kv_ridge_solution s = {.n_tokens = 1,
                                 .input_dim = rows - 1,
                                 .output_dim = dim,
                                 .gram = gram,
                                 .xty = xty,
                                 .weights = weights};
    kv_ridge_residuals(&s, square, residual);
    for (int64_t c = 0; c < dim; c++) {
        long double sum = square[c], sizes = fabs(square[c]);
        for (int64_t i = 0; i < rows; i++) {
            const long double w = weights[c * rows + i];
            sum -= 2 * w * xty[i * dim + c], sizes += fabsl(2 * w * xty[i * dim + c]);
            for (int64_t j = 0; j < rows; j++) {
                const long double term = w * gram[i * rows + j] * weights[c * rows + j];
                sum += term, sizes += fabsl(term);
            }
        }
        const double allowed = (2 * (double)rows + 8) * 0x1p-53 * (double)sizes;
        if (!(fabs(residual[c] - (double)sum) <= allowed))
            fail_msg("%lld rows, column %lld: %.17g, expected %.17g to %g", (long long)rows, (long long)c,
                     residual[c], (double)sum, allowed);
    }
    free(gram), free(xty), free(weights), free(square), free(residual);
}

// Few rows and many; columns of one tile, of a part of one, and one more than two.
static void residuals_are_the_plain_sums(void **state) {
    (void)state;
    static const int64_t rows[] = {1, 2, 33, 511, 512, 530}, dims[] = {1, 7, 8, 9, 257};
    for (size_t r = 0; r < sizeof rows / sizeof *rows; r++)
        for (size_t d = 0; d < sizeof dims / sizeof *dims; d++) expect_residuals(rows[r], dims[d]);
    expect_residuals(512, 513);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(residuals_are_the_plain_sums)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

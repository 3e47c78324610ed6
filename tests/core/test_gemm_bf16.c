// Weights in panels of bfloat16, for which some CPUs have a unit: under every instruction set that this one has, and that
// unit by itself.
#include "core/gemm.h"
#include "core/gemm/isa.h"
#include "core/gemm/packed.h"
#include "core/gemm/product.h"
#include "tests/support/numbers/rounding.h"
#include "tests/support/support.h"

#include <float.h>
#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

static kv_param drawn_weight(int64_t seed, int64_t out, int64_t in) {
    kv_param w = test_param("w", out, in, KV_BF16, false);
    float *row = test_alloc(in, sizeof *row);
    for (int64_t r = 0; r < out; r++) {
        test_fill(row, in, (uint64_t)(seed * 1000 + r), 1);
        kv_narrow((uint16_t *)w.data + r * in, row, KV_BF16, in);
    }
    free(row);
    return w;
}

// ---- Any shape -----------------------------------------------------------------------------------------

typedef struct shape {
    int64_t m, k, ldx, first[2], n[2], ldy[2];
    float beta;
} shape;

static int64_t draw_size(int64_t s, int64_t which, int64_t usual, int64_t large) {
    return 1 + test_below(5, 100 * s + which, test_below(5, 100 * s + 50, 4) == which ? large : usual);
}

static shape draw_shape(int64_t s) {
    shape d = {.m = draw_size(s, 0, 40, 250), .k = draw_size(s, 1, 300, 4500)};
    d.ldx = d.k + test_below(6, 10 * s, 40), d.beta = 0.5f * (float)test_below(6, 10 * s + 1, 3);
    for (int i = 0; i < 2; i++) {
        d.first[i] = test_below(6, 10 * s + 2 + i, 40), d.n[i] = draw_size(s, 2 + i, 40, 160);
        d.ldy[i] = d.n[i] + test_below(6, 10 * s + 4 + i, 3);
    }
    return d;
}

static float before(const shape *d, int64_t j, int64_t n) {
    return d->beta == 0 && j < n ? NAN : 3;
}

// Rows row .. row + m of X, by the unit alone or as everybody asks for them.
static void multiply(const shape *d, const kv_param *w, const float *x, int64_t m, bool by_unit,
                     float *const *y) {
    kv_product products[2];
    kv_gemm_part parts[2];
    for (int i = 0; i < 2; i++) {
        parts[i] = (kv_gemm_part){&w[i], d->first[i], d->n[i], d->beta, y[i], d->ldy[i]};
        products[i] = (kv_product){.w = w[i].data,
                                   .kind = KV_RIGHT_PANELS,
                                   .dtype = KV_BF16,
                                   .first = d->first[i],
                                   .n = d->n[i],
                                   .beta = d->beta,
                                   .y = y[i],
                                   .ldy = d->ldy[i]};
        for (int64_t j = 0; j < m * d->ldy[i]; j++) y[i][j] = before(d, j % d->ldy[i], d->n[i]);
    }
    if (by_unit)
        assert_true(kv_products_by_unit(m, d->k, (kv_left){x, d->ldx, 1}, products, 2));
    else
        kv_gemm_weights_t(m, x, d->ldx, parts, 2);
}

static void expect_results(const shape *d, int which, const kv_param *w, const float *x, const float *y) {
    float *row = test_alloc(d->k, sizeof *row);
    for (int64_t j = 0; j < d->ldy[which]; j++) {
        if (j < d->n[which]) kv_param_values(w, (d->first[which] + j) * d->k, d->k, row);
        for (int64_t i = 0; i < d->m; i++) {
            const double found = (double)y[i * d->ldy[which] + j], old = (double)d->beta * 3;
            if (j >= d->n[which]) {
                assert_true(found == 3); // nothing outside the matrix is written
                continue;
            }
            double sum = old, sizes = old, squares = old * old;
            for (int64_t c = 0; c < d->k; c++) {
                const double product = (double)x[i * d->ldx + c] * (double)row[c];
                sum += product, sizes += fabs(product), squares += product * product;
            }
            // A unit adds three parts of every product, but the smaller ones' roundings are 2^-8 and less of the largest
            // one's, and a group of 32 of k meets the sum once for each part: three roundings for up to 32.
            const double terms = (double)d->k + (d->beta != 0);
            rounding_expect("a weight in panels", found, sum, rounding_of_product(terms, sizes, squares));
        }
    }
    free(row);
}

// Against double precision; the same bits on one thread and on three, and for some of the rows alone.
static void check_shape(const shape *d, int64_t s, bool by_unit) {
    kv_param w[2];
    float *x = test_alloc(d->m * d->ldx, sizeof *x), *y[2], *again[2];
    test_fill(x, d->m * d->ldx, (uint64_t)s, 1);
    for (int i = 0; i < 2; i++) {
        w[i] = drawn_weight(2 * s + i, (d->first[i] + d->n[i] + 15) / 16 * 16, d->k);
        assert_true(kv_pack(&w[i]));
        y[i] = test_alloc(d->m * d->ldy[i], sizeof **y), again[i] = test_alloc(d->m * d->ldy[i], sizeof **y);
    }
    const int threads = omp_get_max_threads();
    omp_set_num_threads(1);
    multiply(d, w, x, d->m, by_unit, y);
    omp_set_num_threads(3);
    multiply(d, w, x, d->m, by_unit, again);
    for (int i = 0; i < 2; i++) {
        expect_results(d, i, &w[i], x, y[i]);
        assert_memory_equal(y[i], again[i], (size_t)(d->m * d->ldy[i]) * sizeof **y);
    }
    const int64_t row = d->m / 3, rows = (d->m + 2) / 3;
    if (by_unit) multiply(d, w, x + row * d->ldx, rows, true, again);
    for (int i = 0; by_unit && i < 2; i++)
        assert_memory_equal(y[i] + row * d->ldy[i], again[i], (size_t)(rows * d->ldy[i]) * sizeof **y);
    omp_set_num_threads(threads);
    for (int i = 0; i < 2; i++) test_param_free(&w[i]), free(y[i]), free(again[i]);
    free(x);
}

static void test_shapes(void **state) {
    (void)state;
    for (int64_t s = 0; s < 100; s++) {
        const shape d = draw_shape(s);
        if (kv_isa()->fused) check_shape(&d, s, false); // the library promises nothing about threads
        if (kv_isa()->unit) check_shape(&d, s, true);
    }
}

// ---- Single products -----------------------------------------------------------------------------------

// y[m, n] = x[m, k] · Wᵀ with only W(j, place(j)) other than 0: single products, rounded once.
static void multiply_singly(const float *x, int64_t m, int64_t n, int64_t k, const float *values, float *y) {
    kv_param w = test_param("w", n, k, KV_BF16, false);
    for (int64_t j = 0; j < n; j++) kv_narrow((uint16_t *)w.data + j * k + 7 * j % k, &values[j], KV_BF16, 1);
    assert_true(kv_pack(&w));
    kv_gemm_weight_t(m, x, k, &w, 0, n, 0, y, n);
    test_param_free(&w);
}

enum { SINGLE_ROWS = 20, SINGLE_COLUMNS = 48, SINGLE_K = 70 };

// All of x takes part: what a float has beyond bfloat16 as well.
static void test_no_bit_of_x_is_lost(void **state) {
    (void)state;
    float x[SINGLE_ROWS * SINGLE_K], values[SINGLE_COLUMNS], y[SINGLE_ROWS * SINGLE_COLUMNS];
    test_fill(x, SINGLE_ROWS * SINGLE_K, 8, 1);
    test_fill(values, SINGLE_COLUMNS, 9, 1);
    for (int i = 0; i < SINGLE_ROWS * SINGLE_K; i++) x[i] = ldexpf(x[i], i % 61 - 30);
    x[0] = FLT_MAX, x[SINGLE_K] = -FLT_MAX, x[2 * SINGLE_K] = nextafterf(1, 0),
    x[3 * SINGLE_K] = -nextafterf(1, 2);
    for (int j = 0; j < SINGLE_COLUMNS; j++) {
        uint16_t half;
        kv_narrow(&half, &values[j], KV_BF16, 1);
        kv_widen(&values[j], &half, KV_BF16, 1);
    }
    multiply_singly(x, SINGLE_ROWS, SINGLE_COLUMNS, SINGLE_K, values, y);
    for (int i = 0; i < SINGLE_ROWS; i++)
        for (int j = 0; j < SINGLE_COLUMNS; j++)
            assert_true(y[i * SINGLE_COLUMNS + j] == x[i * SINGLE_K + 7 * j % SINGLE_K] * values[j]);
}

// Infinities, and what is not a number, go where they go in float32, and nowhere else.
static void test_infinities(void **state) {
    (void)state;
    float x[SINGLE_ROWS * SINGLE_K] = {0}, values[SINGLE_COLUMNS], y[SINGLE_ROWS * SINGLE_COLUMNS];
    const uint32_t payload = 0x7f800001; // a number only in its upper half
    for (int j = 0; j < SINGLE_COLUMNS; j++) values[j] = j % 2 ? -1 : 1;
    x[0] = INFINITY, x[SINGLE_K] = -INFINITY, x[2 * SINGLE_K] = NAN;
    memcpy(&x[3 * SINGLE_K], &payload, sizeof payload);
    for (int i = 4; i < SINGLE_ROWS; i++) x[i * SINGLE_K] = (float)i;
    multiply_singly(x, SINGLE_ROWS, SINGLE_COLUMNS, SINGLE_K, values, y);
    assert_true(y[0] == INFINITY && y[SINGLE_COLUMNS] == -INFINITY);
    assert_true(isnan(y[2 * SINGLE_COLUMNS]) && isnan(y[3 * SINGLE_COLUMNS]));
    for (int i = 0; i < SINGLE_ROWS; i++)
        for (int j = 0; j < SINGLE_COLUMNS; j++) {
            const float found = y[i * SINGLE_COLUMNS + j];
            if (i < 4 && 7 * j % SINGLE_K != 0) assert_true(isnan(found)); // times 0
            if (i >= 4) assert_true(found == (7 * j % SINGLE_K ? 0 : (float)i * values[j]));
        }
}

// ---- Room ----------------------------------------------------------------------------------------------

static void test_room_is_bounded(void **state) {
    (void)state;
    const size_t once = kv_gemm_scratch(1000, 4096);
    assert_true(once >= kv_gemm_scratch(1, 1) && once == kv_gemm_scratch(100000, 4096));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shapes),
        cmocka_unit_test(test_no_bit_of_x_is_lost),
        cmocka_unit_test(test_infinities),
        cmocka_unit_test(test_room_is_bounded),
    };
    const char *forced = getenv("KV_ISA");
    const kv_kernels *list[KV_MAX_ISAS];
    const int n = kv_isa_list(list);
    int failed = 0;
    for (int i = 0; i < n; i++) {
        if (forced && *forced && strcmp(forced, list[i]->name)) continue;
        kv_isa_set(list[i]);
        failed += cmocka_run_group_tests_name(list[i]->name, tests, NULL, NULL);
    }
    return failed;
}

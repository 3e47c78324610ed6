// Matrix products, under every instruction set that the CPU has.
#include "core/gemm.h"
#include "core/gemm/isa.h"
#include "core/gemm/packed.h"
#include "core/rng.h"
#include "tests/support/numbers/numeric.h"
#include "tests/support/numbers/reference.h"

#include <float.h>
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// ---- Products ------------------------------------------------------------------------------------------

typedef struct product {
    int64_t m, n, k, pad; // pad: how much longer than needed rows are
    char kind;            // 't': A·Bᵀ, 'n': A·B, 'a': Aᵀ·B
    float beta;
} product;

static float guarded(int64_t i) {
    return 1000 + (float)(i % 10);
}

static void run_product(const product *p, const float *a, const float *b, float *c) {
    const int64_t lda = (p->kind == 'a' ? p->m : p->k) + p->pad,
                  ldb = (p->kind == 't' ? p->k : p->n) + p->pad;
    if (p->kind == 't') kv_gemm_nt(p->m, p->n, p->k, a, lda, b, ldb, p->beta, c, p->n + p->pad);
    if (p->kind == 'n') kv_gemm_nn(p->m, p->n, p->k, a, lda, b, ldb, p->beta, c, p->n + p->pad);
    if (p->kind == 'a') kv_gemm_tn(p->m, p->n, p->k, a, lda, b, ldb, p->beta, c, p->n + p->pad);
}

// A sum of products in double precision, and what of it float32 may get wrong.
typedef struct exact_sum {
    double value, sizes, squares;
    int64_t n;
} exact_sum;

static void add_product(exact_sum *s, double a, double b) {
    s->value += a * b;
    s->sizes += fabs(a * b);
    s->squares += a * b * (a * b);
    s->n++;
}

static void expect_sum(const char *what, float found, const exact_sum *s) {
    rounding_expect(what, (double)found, s->value, rounding_of_product((double)s->n, s->sizes, s->squares));
}

static exact_sum product_at(const product *p, const float *a, const float *b, int64_t i, int64_t j) {
    const int64_t lda = (p->kind == 'a' ? p->m : p->k) + p->pad,
                  ldb = (p->kind == 't' ? p->k : p->n) + p->pad;
    exact_sum sum = {0};
    for (int64_t l = 0; l < p->k; l++)
        add_product(&sum, (double)a[p->kind == 'a' ? l * lda + i : i * lda + l],
                    (double)b[p->kind == 't' ? j * ldb + l : l * ldb + j]);
    return sum;
}

static void check_product(product p) {
    const int64_t ldc = p.n + p.pad,
                  size = (p.m + p.k + p.pad) * (p.m + p.n + p.k + p.pad) + p.n * (p.k + p.pad);
    float *a = test_alloc(size, sizeof *a), *b = test_alloc(size, sizeof *b);
    float *c = test_alloc(p.m * ldc, sizeof *c);
    test_fill(a, size, 1, 1);
    test_fill(b, size, 2, 1);
    for (int64_t i = 0; i < p.m * ldc; i++) c[i] = i % ldc < p.n && p.beta == 0 ? NAN : guarded(i);
    kv_gemm_flops_reset();
    run_product(&p, a, b, c);
    assert_int_equal(kv_gemm_flops(), 2 * p.m * p.n * p.k);
    for (int64_t i = 0; i < p.m; i++)
        for (int64_t j = 0; j < ldc; j++) {
            const float found = c[i * ldc + j], before = guarded(i * ldc + j);
            if (j >= p.n) {
                assert_true(found == before); // nothing outside the matrix is written
                continue;
            }
            exact_sum expected = product_at(&p, a, b, i, j);
            if (p.beta != 0) add_product(&expected, (double)p.beta, (double)before);
            expect_sum("product", found, &expected);
        }
    free(a);
    free(b);
    free(c);
}

static void test_products(void **state) {
    (void)state;
    const int64_t shapes[][3] = {{1, 1, 1},   {1, 5, 3},    {5, 1, 3},    {3, 4, 1},
                                 {7, 13, 29}, {1, 100, 64}, {33, 65, 129}};
    for (int s = 0; s < 7; s++)
        for (int kind = 0; kind < 3; kind++)
            for (int pad = 0; pad < 8; pad += 7)
                for (int beta = 0; beta < 2; beta++)
                    check_product(
                        (product){shapes[s][0], shapes[s][1], shapes[s][2], pad, "tna"[kind], (float)beta});
}

// Values repeat after a while: finding the nearest half takes long.
static kv_param random_weight(kv_dtype dtype, int64_t out, int64_t in) {
    enum { PERIOD = 65521 };
    kv_param w = test_param("w", out, in, dtype, false);
    for (int64_t i = 0; i < out * in; i++) {
        uint16_t *half = (uint16_t *)w.data + i;
        if (dtype == KV_F32)
            ((float *)w.data)[i] = (float)test_value(1, i);
        else
            *half = i < PERIOD ? test_half_nearest(dtype, test_value(1, i)) : half[-PERIOD];
    }
    return w;
}

// Rows [row0, row0 + n) of a stored weight, both ways round.
static void check_weight(kv_dtype dtype, int64_t m, int64_t out, int64_t in, int64_t row0, int64_t n,
                         float beta) {
    kv_param w = random_weight(dtype, out, in);
    double *exact = numeric_param_doubles(&w);
    float *x = test_alloc(m * in, sizeof *x), *y = test_alloc(m * n, sizeof *y);

    test_fill(x, m * in, 2, 1);
    for (int64_t i = 0; i < m * n; i++) y[i] = beta == 0 ? NAN : 3;
    kv_gemm_flops_reset();
    kv_gemm_weight_t(m, x, in, &w, row0, n, beta, y, n);
    assert_int_equal(kv_gemm_flops(), 2 * m * n * in);
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++) {
            exact_sum expected = {0};
            if (beta != 0) add_product(&expected, (double)beta, 3);
            for (int64_t l = 0; l < in; l++)
                add_product(&expected, (double)x[i * in + l], exact[(row0 + j) * in + l]);
            expect_sum("x times a weight, transposed", y[i * n + j], &expected);
        }

    test_fill(y, m * n, 3, 1);
    for (int64_t i = 0; i < m * in; i++) x[i] = beta == 0 ? NAN : 3;
    kv_gemm_weight(m, y, n, &w, row0, n, beta, x, in);
    exact_sum *expected = test_alloc(in, sizeof *expected);
    for (int64_t i = 0; i < m; i++) {
        memset(expected, 0, (size_t)in * sizeof *expected);
        for (int64_t l = 0; beta != 0 && l < in; l++) add_product(&expected[l], (double)beta, 3);
        for (int64_t j = 0; j < n; j++)
            for (int64_t l = 0; l < in; l++)
                add_product(&expected[l], (double)y[i * n + j], exact[(row0 + j) * in + l]);
        for (int64_t l = 0; l < in; l++) expect_sum("y times a weight", x[i * in + l], &expected[l]);
    }

    void *memory[] = {exact, x, y, expected};
    for (int i = 0; i < 4; i++) free(memory[i]);
    test_param_free(&w);
}

static void test_products_with_stored_weights(void **state) {
    (void)state;
    for (kv_dtype dtype = KV_F32; dtype <= KV_F16; dtype++)
        for (int beta = 0; beta < 2; beta++) {
            check_weight(dtype, 1, 1, 1, 0, 1, (float)beta);
            check_weight(dtype, 3, 9, 7, 2, 5, (float)beta);
            check_weight(dtype, 2, 700, 513, 0, 700, (float)beta);
            check_weight(dtype, 2, 700, 513, 133, 501, (float)beta);
            check_weight(dtype, 5, 3, 40000, 1, 2, (float)beta);
            check_weight(dtype, 33, 131, 1037, 2, 127, (float)beta);
        }
    check_weight(KV_BF16, 33, 130, 40000, 1, 129, 1); // more than one panel
}

// Few rows, with gaps between them, against double precision; nothing else is written, and one thread gives
// the bits that several give.
static void check_few_rows(kv_dtype dtype, int64_t m, int64_t n, int64_t in, float beta) {
    const int64_t row0 = 2, ldx = in + 3, ldy = n + 5;
    kv_param w = random_weight(dtype, row0 + n + 1, in);
    double *exact = numeric_param_doubles(&w);
    float *x = test_alloc(m * ldx, sizeof *x);
    float *y[2] = {test_alloc(m * ldy, sizeof **y), test_alloc(m * ldy, sizeof **y)};
    test_fill(x, m * ldx, 2, 1);
    const int before = omp_get_max_threads();
    kv_gemm_batch_invariant(!kv_isa()->fused); // the library promises nothing about threads
    for (int run = 0; run < 2; run++) {
        for (int64_t i = 0; i < m * ldy; i++) y[run][i] = beta == 0 && i % ldy < n ? NAN : 3;
        omp_set_num_threads(run + 1);
        kv_gemm_weight_t(m, x, ldx, &w, row0, n, beta, y[run], ldy);
    }
    omp_set_num_threads(before);
    kv_gemm_batch_invariant(false);
    assert_memory_equal(y[0], y[1], (size_t)(m * ldy) * sizeof(float));
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < ldy; j++) {
            if (j >= n) {
                assert_true(y[0][i * ldy + j] == 3);
                continue;
            }
            exact_sum sum = {0};
            if (beta != 0) add_product(&sum, (double)beta, 3);
            for (int64_t l = 0; l < in; l++)
                add_product(&sum, (double)x[i * ldx + l], exact[(row0 + j) * in + l]);
            expect_sum("few rows times a weight", y[0][i * ldy + j], &sum);
        }
    void *memory[] = {exact, x, y[0], y[1]};
    for (int i = 0; i < 4; i++) free(memory[i]);
    test_param_free(&w);
}

static void test_few_rows(void **state) {
    (void)state;
    static const int64_t shapes[][3] = {{1, 1, 1},   {1, 7, 15},  {3, 9, 17},     {4, 4, 16},
                                        {5, 37, 33}, {8, 66, 64}, {32, 33, 1025}, {31, 6, 2049}};
    for (kv_dtype dtype = KV_F32; dtype <= KV_F16; dtype++)
        for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
            for (int beta = 0; beta < 3; beta++)
                check_few_rows(dtype, shapes[s][0], shapes[s][1], shapes[s][2], 0.5f * (float)beta);
    // The way they are reached: large weights only.
    static const int64_t rows[] = {1, 2, 3, 16, 17, 32};
    for (kv_dtype dtype = KV_F32; dtype <= KV_F16; dtype++)
        for (int i = 0; i < 6; i++) check_weight(dtype, rows[i], 131, 1037, 2, 128, (float)(i % 2));
}

// Rows of a product, each alone and all of them together, from places that lie differently in memory, on one thread
// and on three: the same bits, and the true product. which: 0 with a stored weight, 1 A·Bᵀ, 2 A·B.
static void check_invariance(int which, kv_dtype dtype, int64_t m, int64_t n, int64_t k, float beta) {
    const int64_t lda = k + 1, ldb = (which == 2 ? n : k) + 3, ldc = n + 1, n_b = which == 2 ? k : n;
    kv_param w = random_weight(dtype, n, k);
    float *a = test_alloc(m * lda, sizeof *a), *b = test_alloc(n_b * ldb, sizeof *b);
    float *together = test_alloc(m * ldc, sizeof *together), *alone = test_alloc(ldc, sizeof *alone);
    double *exact = numeric_param_doubles(&w);
    test_fill(a, m * lda, 5, 1);
    test_fill(b, n_b * ldb, 6, 1);
    const int threads = omp_get_max_threads();
    for (int64_t i = -1; i < m; i++) { // -1: all
        const int64_t first = i < 0 ? 0 : i, rows = i < 0 ? m : 1;
        float *c = i < 0 ? together : alone;
        for (int64_t j = 0; j < rows * ldc; j++) c[j] = 3;
        omp_set_num_threads(i < 0 ? 3 : 1);
        kv_gemm_flops_reset();
        if (which == 0) kv_gemm_weight_t(rows, a + first * lda, lda, &w, 0, n, beta, c, ldc);
        if (which == 1) kv_gemm_nt(rows, n, k, a + first * lda, lda, b, ldb, beta, c, ldc);
        if (which == 2) kv_gemm_nn(rows, n, k, a + first * lda, lda, b, ldb, beta, c, ldc);
        assert_int_equal(kv_gemm_flops(), 2 * rows * n * k);
        if (i >= 0) assert_memory_equal(alone, together + i * ldc, (size_t)n * sizeof *c);
    }
    omp_set_num_threads(threads);
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++) {
            exact_sum sum = {0};
            if (beta != 0) add_product(&sum, (double)beta, 3);
            for (int64_t l = 0; l < k; l++)
                add_product(&sum, (double)a[i * lda + l],
                            which == 0   ? exact[j * k + l]
                            : which == 1 ? (double)b[j * ldb + l]
                                         : (double)b[l * ldb + j]);
            expect_sum("a batch-invariant product", together[i * ldc + j], &sum);
        }
    void *memory[] = {a, b, together, alone, exact};
    for (int i = 0; i < 5; i++) free(memory[i]);
    test_param_free(&w);
}

static void test_batch_invariance(void **state) {
    (void)state;
    static const int64_t shapes[][3] = {{1, 1, 1},    {7, 5, 22},   {33, 37, 17},  {40, 61, 24},
                                        {66, 100, 7}, {9, 130, 96}, {35, 33, 1031}};
    assert_false(kv_gemm_batch_invariant(true));
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
        for (int beta = 0; beta < 2; beta++) {
            const int64_t *m = shapes[s];
            for (kv_dtype dtype = KV_F32; dtype <= KV_F16; dtype++)
                check_invariance(0, dtype, m[0], m[1], m[2], (float)beta);
            check_invariance(1, KV_F32, m[0], m[1], m[2], (float)beta);
            check_invariance(2, KV_F32, m[0], m[1], m[2], (float)beta);
        }
    assert_true(kv_gemm_batch_invariant(false));
}

// ---- Any shape -----------------------------------------------------------------------------------------

// Draws of one random shape; `which` tells them apart.
static int64_t draw(int64_t shape, int64_t which, int64_t below) {
    const kv_rng rng = {.seed = 77};
    return (int64_t)kv_rng_below(rng, (uint64_t)(shape * 16 + which), (uint64_t)below);
}

// Now and then a large one.
static int64_t draw_size(int64_t shape, int64_t which, int64_t usual, int64_t large) {
    return 1 + (draw(shape, 14, 7) == which ? draw(shape, which, large) : draw(shape, which, usual));
}

static void test_random_matrices(void **state) {
    (void)state;
    for (int64_t s = 0; s < 400; s++)
        check_product((product){.m = draw_size(s, 0, 40, 150),
                                .n = draw_size(s, 1, 40, 150),
                                .k = draw_size(s, 2, 40, 600),
                                .pad = draw(s, 3, 2) * draw(s, 4, 600),
                                .kind = "tna"[draw(s, 5, 3)],
                                .beta = 0.5f * (float)draw(s, 6, 3)});
}

// Several weights that read the same rows, in rows and in panels, of three types; columns that begin and end anywhere.
struct drawn {
    int64_t m, k, ldx;
    int n_parts;
    kv_param w[KV_GEMM_PARTS];
    kv_gemm_part parts[KV_GEMM_PARTS];
    float *x;
};

static struct drawn draw_weights(int64_t s) {
    struct drawn d = {
        .m = draw_size(s, 0, 30, 140), .k = draw_size(s, 1, 50, 600), .n_parts = (int)draw(s, 2, 4) + 1};
    d.ldx = d.k + draw(s, 3, 2) * draw(s, 4, 600);
    d.x = test_alloc(d.m * d.ldx, sizeof *d.x);
    test_fill(d.x, d.m * d.ldx, 2, 1);
    for (int i = 0; i < d.n_parts; i++) {
        const int64_t at = s * 4 + i + 10000,
                      out = draw(at, 0, 2) ? 16 * draw_size(at, 1, 5, 9) : draw_size(at, 1, 70, 150);
        d.w[i] = random_weight((kv_dtype)draw(at, 2, 3), out, d.k);
        const int64_t row0 = draw(at, 3, out), n = 1 + draw(at, 4, out - row0), ldy = n + draw(at, 5, 4);
        d.parts[i] = (kv_gemm_part){NULL, row0, n, 0.5f * (float)draw(at, 6, 3), NULL, ldy};
    }
    return d;
}

static void run_drawn(struct drawn *d) {
    for (int i = 0; i < d->n_parts; i++) {
        kv_gemm_part *p = &d->parts[i];
        p->w = &d->w[i];
        p->y = test_alloc(d->m * p->ldy, sizeof *p->y);
        for (int64_t j = 0; j < d->m * p->ldy; j++) p->y[j] = p->beta == 0 && j % p->ldy < p->n ? NAN : 3;
    }
    kv_gemm_flops_reset();
    kv_gemm_weights_t(d->m, d->x, d->ldx, d->parts, d->n_parts);
    uint64_t flops = 0;
    for (int i = 0; i < d->n_parts; i++) flops += (uint64_t)(2 * d->m * d->parts[i].n * d->k);
    assert_int_equal(kv_gemm_flops(), flops);
}

static void expect_part(const struct drawn *d, const kv_gemm_part *p, const double *exact) {
    for (int64_t i = 0; i < d->m; i++)
        for (int64_t j = 0; j < p->ldy; j++) {
            const float found = p->y[i * p->ldy + j];
            exact_sum sum = {0};
            if (j >= p->n) {
                assert_true(found == 3);
                continue;
            }
            if (p->beta != 0) add_product(&sum, (double)p->beta, 3);
            for (int64_t l = 0; l < d->k; l++)
                add_product(&sum, (double)d->x[i * d->ldx + l], exact[(p->row0 + j) * d->k + l]);
            expect_sum("one weight of several", found, &sum);
        }
}

static void test_random_weights(void **state) {
    (void)state;
    for (int64_t s = 0; s < 200; s++) {
        struct drawn d = draw_weights(s);
        double *exact[KV_GEMM_PARTS];
        for (int i = 0; i < d.n_parts; i++) exact[i] = numeric_param_doubles(&d.w[i]);
        for (int packed = 0; packed < 2; packed++) {
            float *row = test_alloc(d.k, sizeof *row);
            for (int i = 0; packed && i < d.n_parts; i++) {
                if ((s + i) % 3 > 0) assert_true(kv_pack(&d.w[i])); // some in rows beside those in panels
                kv_param_values(&d.w[i], d.parts[i].row0 * d.k, d.k, row);
                for (int64_t c = 0; c < d.k; c++)
                    assert_true((double)row[c] == exact[i][d.parts[i].row0 * d.k + c]);
            }
            run_drawn(&d);
            for (int i = 0; i < d.n_parts; i++) {
                expect_part(&d, &d.parts[i], exact[i]);
                free(d.parts[i].y);
            }
            free(row);
        }
        for (int i = 0; i < d.n_parts; i++) test_param_free(&d.w[i]), free(exact[i]);
        free(d.x);
    }
}

static void test_packing_is_done_once(void **state) {
    (void)state;
    kv_param w = random_weight(KV_BF16, 32, 5), odd = random_weight(KV_F32, 33, 5);
    const uint16_t second = ((uint16_t *)w.data)[5], first_of_second_panel = ((uint16_t *)w.data)[16 * 5];
    for (int i = 0; i < 2; i++) {
        assert_true(kv_pack(&w) && w.layout == KV_IN_PANELS);
        assert_int_equal(((uint16_t *)w.data)[1], second);
        assert_int_equal(((uint16_t *)w.data)[16 * 5], first_of_second_panel);
    }
    assert_true(kv_pack(&odd) && odd.layout == KV_IN_ROWS);
    test_param_free(&w);
    test_param_free(&odd);
}

// ---- Instruction sets ----------------------------------------------------------------------------------

// Sets that multiply and add in one operation give the same bits as each other, on any number of threads.
static void test_sets_agree(void **state) {
    (void)state;
    const kv_kernels *list[KV_MAX_ISAS];
    const int n = kv_isa_list(list), threads = omp_get_max_threads();
    kv_gemm_batch_invariant(true);
    for (int64_t s = 0; s < 100; s++) {
        struct drawn d = draw_weights(s);
        for (int i = 0; i < d.n_parts; i++)
            if ((s + i) % 2) assert_true(kv_pack(&d.w[i]));
        float *first[KV_GEMM_PARTS] = {NULL};
        for (int which = 0; which < n; which++) {
            if (!list[which]->fused) continue;
            kv_isa_set(list[which]);
            omp_set_num_threads(1 + which);
            run_drawn(&d);
            for (int i = 0; i < d.n_parts; i++) {
                const kv_gemm_part *p = &d.parts[i];
                if (first[i]) assert_memory_equal(first[i], p->y, (size_t)(d.m * p->ldy) * sizeof *p->y);
                if (first[i])
                    free(p->y);
                else
                    first[i] = p->y;
            }
        }
        for (int i = 0; i < d.n_parts; i++) test_param_free(&d.w[i]), free(first[i]);
        free(d.x);
    }
    omp_set_num_threads(threads);
    kv_gemm_batch_invariant(false);
    kv_isa_set(NULL);
}

static void test_choice(void **state) {
    (void)state;
    const kv_kernels *list[KV_MAX_ISAS];
    const int n = kv_isa_list(list);
    assert_in_range(n, 1, KV_MAX_ISAS);
    assert_string_equal(list[0]->name, "plain");
    for (int i = 0; i < n; i++) {
        assert_in_range(list[i]->rows, 1, KV_TILE_ROWS);
        assert_in_range(list[i]->wide, 1, list[i]->rows);
        assert_ptr_equal(kv_isa_find(list[i]->name), list[i]);
        kv_isa_set(list[i]);
        assert_ptr_equal(kv_isa(), list[i]);
    }
    assert_null(kv_isa_find("abacus"));
    kv_isa_set(NULL);
    assert_ptr_equal(kv_isa(), list[n - 1]);
}

int main(void) {
    const struct CMUnitTest each[] = {
        cmocka_unit_test(test_products),
        cmocka_unit_test(test_products_with_stored_weights),
        cmocka_unit_test(test_few_rows),
        cmocka_unit_test(test_batch_invariance),
        cmocka_unit_test(test_random_matrices),
        cmocka_unit_test(test_random_weights),
        cmocka_unit_test(test_packing_is_done_once),
    };
    const struct CMUnitTest all[] = {cmocka_unit_test(test_sets_agree), cmocka_unit_test(test_choice)};
    const char *forced = getenv("KV_ISA");
    const kv_kernels *list[KV_MAX_ISAS];
    const int n = kv_isa_list(list);
    int failed = 0;
    for (int i = 0; i < n; i++) {
        if (forced && strcmp(forced, list[i]->name)) continue;
        kv_isa_set(list[i]);
        failed += cmocka_run_group_tests_name(list[i]->name, each, NULL, NULL);
    }
    return failed + cmocka_run_group_tests_name("all", all, NULL, NULL);
}

// One way to every product, so that one counter sees them all.
#include "core/gemm.h"

#include "core/gemm/isa.h"
#include "core/gemm/product.h"

#include <assert.h>
#include <cblas.h>
#include <stdatomic.h>

static atomic_uint_fast64_t flops;

uint64_t kv_gemm_flops(void) {
    return atomic_load_explicit(&flops, memory_order_relaxed);
}
void kv_gemm_flops_reset(void) {
    atomic_store_explicit(&flops, 0, memory_order_relaxed);
}

void kv_gemm_count(uint64_t operations) {
    atomic_fetch_add_explicit(&flops, operations, memory_order_relaxed);
}

static void count(int64_t m, int64_t n, int64_t k) {
    atomic_fetch_add_explicit(&flops, 2 * (uint64_t)m * (uint64_t)n * (uint64_t)k, memory_order_relaxed);
}

static _Thread_local bool invariant;

bool kv_gemm_batch_invariant(bool on) {
    const bool before = invariant;
    invariant = on;
    return before;
}

// Kernels that multiply and add in two operations are half as fast as the library's for the same CPU.
static bool is_for_library(void) {
    return !invariant && !kv_isa()->fused;
}

size_t kv_gemm_scratch(int64_t m, int64_t k) {
    const int64_t ours = kv_products_room(m, k), by_unit = kv_products_by_unit_room(m, k);
    return sizeof(float) * (size_t)(ours > by_unit ? ours : by_unit);
}

// ---- Matrices ------------------------------------------------------------------------------------------

// A product with one row on the left is a matrix-vector product, which the library runs far faster as such.
static void library(CBLAS_TRANSPOSE ta, CBLAS_TRANSPOSE tb, int64_t m, int64_t n, int64_t k, const float *a,
                    int64_t lda, const float *b, int64_t ldb, float beta, float *c, int64_t ldc) {
    if (m == 1 && ta == CblasNoTrans && tb == CblasTrans)
        cblas_sgemv(CblasRowMajor, CblasNoTrans, (int)n, (int)k, 1, b, (int)ldb, a, 1, beta, c, 1);
    else if (m == 1 && ta == CblasNoTrans)
        cblas_sgemv(CblasRowMajor, CblasTrans, (int)k, (int)n, 1, b, (int)ldb, a, 1, beta, c, 1);
    else
        cblas_sgemm(CblasRowMajor, ta, tb, (int)m, (int)n, (int)k, 1, a, (int)lda, b, (int)ldb, beta, c,
                    (int)ldc);
}

// One row of X against long rows of W is read off them as they lie, and a unit for bfloat16 is asked from so many rows on,
// unless a row's bits are to be those it has among others and with other instruction sets.
enum { UNIT_ROWS = KV_UNIT_ROWS, LONG = KV_K_BLOCK };

static void multiply(int64_t m, int64_t k, const float *x, int64_t ldx, const kv_product *products, int n) {
    const bool in_rows = products[0].kind == KV_RIGHT_TURNED;
    if (m == 1 && in_rows && k >= LONG && !invariant)
        for (int i = 0; i < n; i++) kv_product_of_row(k, x, &products[i]);
    else if (m < UNIT_ROWS || invariant || !kv_products_by_unit(m, k, (kv_left){x, ldx, 1}, products, n))
        kv_products(m, k, (kv_left){x, ldx, 1}, products, n);
}

void kv_gemm_nt(int64_t m, int64_t n, int64_t k, const float *a, int64_t lda, const float *b, int64_t ldb,
                float beta, float *c, int64_t ldc) {
    if (m <= 0 || n <= 0) return;
    count(m, n, k);
    if (is_for_library()) {
        library(CblasNoTrans, CblasTrans, m, n, k, a, lda, b, ldb, beta, c, ldc);
        return;
    }
    const kv_product p = {
        .w = b, .kind = KV_RIGHT_TURNED, .ld = ldb, .n = n, .beta = beta, .y = c, .ldy = ldc};
    multiply(m, k, a, lda, &p, 1);
}

static void product(int64_t m, int64_t n, int64_t k, kv_left a, const float *b, int64_t ldb, float beta,
                    float *c, int64_t ldc) {
    const kv_product p = {
        .w = b, .kind = KV_RIGHT_AS_IT_IS, .ld = ldb, .n = n, .beta = beta, .y = c, .ldy = ldc};
    kv_products(m, k, a, &p, 1);
}

void kv_gemm_nn(int64_t m, int64_t n, int64_t k, const float *a, int64_t lda, const float *b, int64_t ldb,
                float beta, float *c, int64_t ldc) {
    if (m <= 0 || n <= 0) return;
    count(m, n, k);
    if (is_for_library())
        library(CblasNoTrans, CblasNoTrans, m, n, k, a, lda, b, ldb, beta, c, ldc);
    else
        product(m, n, k, (kv_left){a, lda, 1}, b, ldb, beta, c, ldc);
}

void kv_gemm_tn(int64_t m, int64_t n, int64_t k, const float *a, int64_t lda, const float *b, int64_t ldb,
                float beta, float *c, int64_t ldc) {
    if (m <= 0 || n <= 0) return;
    count(m, n, k);
    if (is_for_library())
        library(CblasTrans, CblasNoTrans, m, n, k, a, lda, b, ldb, beta, c, ldc);
    else
        product(m, n, k, (kv_left){a, 1, lda}, b, ldb, beta, c, ldc);
}

void kv_gemm_tn_f64(int64_t m, int64_t n, int64_t k, const double *a, const double *b, double *c) {
    if (m <= 0 || n <= 0 || k <= 0) return;
    count(m, n, k);
    cblas_dgemm(CblasRowMajor, CblasTrans, CblasNoTrans, (int)m, (int)n, (int)k, 1, a, (int)m, b, (int)n, 1,
                c, (int)n);
}

// ---- Weights -------------------------------------------------------------------------------------------

static const float *float_row(const kv_param *w, int64_t row) {
    return (const float *)w->data + row * w->cols;
}

static kv_product part_of(const kv_gemm_part *part) {
    const kv_param *w = part->w;
    kv_product p = {.w = w->data,
                    .kind = w->layout == KV_IN_PANELS ? KV_RIGHT_PANELS : KV_RIGHT_TURNED,
                    .dtype = w->dtype,
                    .ld = w->cols,
                    .first = part->row0,
                    .n = part->n,
                    .beta = part->beta,
                    .y = part->y,
                    .ldy = part->ldy};
    return p;
}

void kv_gemm_weights_t(int64_t m, const float *x, int64_t ldx, const kv_gemm_part *parts, int n_parts) {
    kv_product products[KV_GEMM_PARTS];
    int n = 0;
    assert(n_parts <= KV_GEMM_PARTS);
    for (int i = 0; i < n_parts && m > 0; i++) {
        const kv_gemm_part *p = &parts[i];
        const kv_param *w = p->w;
        if (p->n <= 0) continue;
        assert(w->cols == parts[0].w->cols);
        if (is_for_library() && w->dtype == KV_F32 && w->layout == KV_IN_ROWS) {
            kv_gemm_nt(m, p->n, w->cols, x, ldx, float_row(w, p->row0), w->cols, p->beta, p->y, p->ldy);
            continue;
        }
        count(m, p->n, w->cols);
        products[n++] = part_of(p);
        if (n > 1 && products[n - 1].kind != products[0].kind)
            multiply(m, w->cols, x, ldx, &products[--n], 1);
    }
    if (n > 0) multiply(m, parts[0].w->cols, x, ldx, products, n);
}

void kv_gemm_weight_t(int64_t m, const float *x, int64_t ldx, const kv_param *w, int64_t row0, int64_t n,
                      float beta, float *y, int64_t ldy) {
    kv_gemm_weights_t(m, x, ldx, &(kv_gemm_part){w, row0, n, beta, y, ldy}, 1);
}

void kv_gemm_weight(int64_t m, const float *y, int64_t ldy, const kv_param *w, int64_t row0, int64_t n,
                    float beta, float *x, int64_t ldx) {
    assert(w->layout == KV_IN_ROWS);
    if (m <= 0 || w->cols <= 0) return;
    if (w->dtype == KV_F32) {
        kv_gemm_nn(m, w->cols, n, y, ldy, float_row(w, row0), w->cols, beta, x, ldx);
        return;
    }
    count(m, w->cols, n);
    const kv_product p = {.w = (const uint16_t *)w->data + row0 * w->cols,
                          .kind = KV_RIGHT_AS_IT_IS,
                          .dtype = w->dtype,
                          .ld = w->cols,
                          .n = w->cols,
                          .beta = beta,
                          .y = x,
                          .ldy = ldx};
    kv_products(m, n, (kv_left){y, ldy, 1}, &p, 1);
}

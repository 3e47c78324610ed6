// One way to OpenBLAS for every product, so that one counter sees them all. The kind of call depends on the
// shape: a single row is a matrix-vector product, few rows go past large weights without copying them.
#include "core/gemm.h"

#include "core/gemm_few_rows.h"

#include <cblas.h>
#include <limits.h>
#include <omp.h>
#include <stdatomic.h>

static atomic_uint_fast64_t flops;

uint64_t kv_gemm_flops(void) {
    return atomic_load_explicit(&flops, memory_order_relaxed);
}
void kv_gemm_flops_reset(void) {
    atomic_store_explicit(&flops, 0, memory_order_relaxed);
}

static void count(int64_t m, int64_t n, int64_t k) {
    atomic_fetch_add_explicit(&flops, 2 * (uint64_t)m * (uint64_t)n * (uint64_t)k, memory_order_relaxed);
}

// A product with one row on the left is a matrix-vector product, which the library runs far faster as such.
static void product(CBLAS_TRANSPOSE ta, CBLAS_TRANSPOSE tb, int64_t m, int64_t n, int64_t k, const float *a,
                    int64_t lda, const float *b, int64_t ldb, float beta, float *c, int64_t ldc) {
    if (m <= 0 || n <= 0) return;
    count(m, n, k);
    if (m == 1 && ta == CblasNoTrans && tb == CblasTrans)
        cblas_sgemv(CblasRowMajor, CblasNoTrans, (int)n, (int)k, 1, b, (int)ldb, a, 1, beta, c, 1);
    else if (m == 1 && ta == CblasNoTrans)
        cblas_sgemv(CblasRowMajor, CblasTrans, (int)k, (int)n, 1, b, (int)ldb, a, 1, beta, c, 1);
    else
        cblas_sgemm(CblasRowMajor, ta, tb, (int)m, (int)n, (int)k, 1, a, (int)lda, b, (int)ldb, beta, c,
                    (int)ldc);
}

// ---- Batch invariance ----------------------------------------------------------------------------------

static _Thread_local bool invariant;

bool kv_gemm_batch_invariant(bool on) {
    const bool before = invariant;
    invariant = on;
    return before;
}

// As kv_gemm_few_rows, of any number of rows.
static void all_rows(int64_t m, const float *x, int64_t ldx, const kv_stored_rows *w, int64_t n, float beta,
                     float *y, int64_t ldy) {
    if (m <= 0 || n <= 0) return;
    count(m, n, w->cols);
    for (int64_t i = 0; i < m; i += KV_FEW_ROWS)
        kv_gemm_few_rows(m - i < KV_FEW_ROWS ? m - i : KV_FEW_ROWS, x + i * ldx, ldx, w, n, beta, y + i * ldy,
                         ldy);
}

void kv_gemm_nt(int64_t m, int64_t n, int64_t k, const float *a, int64_t lda, const float *b, int64_t ldb,
                float beta, float *c, int64_t ldc) {
    if (invariant) {
        all_rows(m, a, lda, &(kv_stored_rows){b, KV_F32, k, ldb}, n, beta, c, ldc);
        return;
    }
    product(CblasNoTrans, CblasTrans, m, n, k, a, lda, b, ldb, beta, c, ldc);
}

void kv_gemm_nn(int64_t m, int64_t n, int64_t k, const float *a, int64_t lda, const float *b, int64_t ldb,
                float beta, float *c, int64_t ldc) {
    if (invariant) {
        count(m, n, k);
        kv_gemm_row_sums(m, n, k, a, lda, b, ldb, beta, c, ldc);
        return;
    }
    product(CblasNoTrans, CblasNoTrans, m, n, k, a, lda, b, ldb, beta, c, ldc);
}

void kv_gemm_tn(int64_t m, int64_t n, int64_t k, const float *a, int64_t lda, const float *b, int64_t ldb,
                float beta, float *c, int64_t ldc) {
    product(CblasTrans, CblasNoTrans, m, n, k, a, lda, b, ldb, beta, c, ldc);
}

// ---- Weights -------------------------------------------------------------------------------------------

// Panels of a 16-bit weight are widened to about this many floats. Much smaller ones cost the product more
// than what they save by staying in a cache.
enum { PANEL_FLOATS = 1 << 22, LARGE_WEIGHT = 1 << 17 };

static const char *weight_row(const kv_param *w, int64_t row) {
    return (const char *)w->data + (size_t)(row * w->cols) * kv_dtype_size(w->dtype);
}

static void widen_rows(float *panel, const kv_param *w, int64_t row0, int64_t rows) {
#pragma omp parallel for schedule(static) if (rows * w->cols > 1 << 14)
    for (int64_t r = 0; r < rows; r++)
        kv_widen(panel + r * w->cols, weight_row(w, row0 + r), w->dtype, w->cols);
}

static int64_t panel_rows(const kv_param *w, int64_t n) {
    int64_t rows = PANEL_FLOATS / w->cols;
    rows = rows < 1 ? 1 : rows;
    return rows < n ? rows : n;
}

// Few rows against a large weight. One row of float32 is left to the library's matrix-vector product, which
// reads it as fast.
static bool is_few_rows(int64_t m, const kv_param *w, int64_t n) {
    const int64_t least = w->dtype == KV_F32 ? 2 : 1, most = w->dtype == KV_F32 ? 16 : KV_FEW_ROWS;
    return m >= least && m <= most && n * w->cols >= LARGE_WEIGHT;
}

int64_t kv_gemm_panel(int64_t m, const kv_param *w) {
    if (w->dtype == KV_F32 || invariant || is_few_rows(m, w, w->rows)) return 0;
    return panel_rows(w, w->rows) * w->cols;
}

bool kv_gemm_weight_t(kv_arena *scratch, int64_t m, const float *x, int64_t ldx, const kv_param *w,
                      int64_t row0, int64_t n, float beta, float *y, int64_t ldy) {
    if (invariant || is_few_rows(m, w, n)) {
        all_rows(m, x, ldx, &(kv_stored_rows){weight_row(w, row0), w->dtype, w->cols, w->cols}, n, beta, y,
                 ldy);
        return true;
    }
    if (w->dtype == KV_F32) {
        kv_gemm_nt(m, n, w->cols, x, ldx, (const float *)weight_row(w, row0), w->cols, beta, y, ldy);
        return true;
    }
    kv_arena_mark mark = kv_arena_get_mark(scratch);
    int64_t step = panel_rows(w, n);
    float *panel = kv_arena_floats(scratch, step * w->cols);
    if (!panel) return false;
    for (int64_t r = 0; r < n; r += step) {
        int64_t rows = n - r < step ? n - r : step;
        widen_rows(panel, w, row0 + r, rows);
        kv_gemm_nt(m, rows, w->cols, x, ldx, panel, w->cols, beta, y + r, ldy);
    }
    kv_arena_release(scratch, mark);
    return true;
}

bool kv_gemm_weight(kv_arena *scratch, int64_t m, const float *y, int64_t ldy, const kv_param *w,
                    int64_t row0, int64_t n, float beta, float *x, int64_t ldx) {
    if (w->dtype == KV_F32) {
        kv_gemm_nn(m, w->cols, n, y, ldy, (const float *)weight_row(w, row0), w->cols, beta, x, ldx);
        return true;
    }
    kv_arena_mark mark = kv_arena_get_mark(scratch);
    int64_t step = panel_rows(w, n);
    float *panel = kv_arena_floats(scratch, step * w->cols);
    if (!panel) return false;
    for (int64_t r = 0; r < n; r += step) {
        int64_t rows = n - r < step ? n - r : step;
        widen_rows(panel, w, row0 + r, rows);
        kv_gemm_nn(m, w->cols, rows, y + r, ldy, panel, w->cols, r ? 1 : beta, x, ldx);
    }
    kv_arena_release(scratch, mark);
    return true;
}

void kv_gemm_tn_f64(int64_t m, int64_t n, int64_t k, const double *a, const double *b, double *c) {
    if (m <= 0 || n <= 0 || k <= 0) return;
    count(m, n, k);
    cblas_dgemm(CblasRowMajor, CblasTrans, CblasNoTrans, (int)m, (int)n, (int)k, 1, a, (int)m, b, (int)n, 1,
                c, (int)n);
}

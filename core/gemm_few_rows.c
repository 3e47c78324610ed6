// Decoding is bound by reading weights. Tiles of 4 x 4 dot products use every widened value of W four times
// while it is in a register; the order of additions is fixed by the tile, not by the threads.
#include "core/gemm_few_rows.h"

#include <omp.h>
#include <string.h>

// In ISO mode GCC leaves a · b + c as two operations unless it is told that one will do.
#if defined __GNUC__ && !defined __clang__
#pragma GCC optimize("fp-contract=fast")
#endif

// 16 floats that compilers keep in one vector register where the machine has such, in several where not.
enum { LANES = 16 };
typedef float lanes __attribute__((vector_size(LANES * sizeof(float))));
typedef float unaligned_lanes __attribute__((vector_size(LANES * sizeof(float)), aligned(4), may_alias));
#define AT(p) (*(const unaligned_lanes *)(p))

// Products of so many rows of W and of X are summed up side by side in registers, CHUNK columns at a time,
// which keeps widened rows of W in the first-level cache. A thread takes ROW_BLOCK rows of W at a time.
enum { TILE_W = 4, TILE_X = 4, CHUNK = 1024, ROW_BLOCK = 32 };

typedef float tile_sums[TILE_W][KV_FEW_ROWS];

// sum[i][j] += Σ_c w_i[c] · x_j[c] for 4 rows of each, k a multiple of LANES. Rows of w are given one by one.
static void add_4x4(const float *const w[TILE_W], const float *x, int64_t ldx, int64_t k, tile_sums sums,
                    int64_t j0) {
    const float *w0 = w[0], *w1 = w[1], *w2 = w[2], *w3 = w[3];
    lanes t[TILE_W * TILE_X] = {{0}};
    for (int64_t c = 0; c < k; c += LANES) {
        const lanes a0 = AT(w0 + c), a1 = AT(w1 + c), a2 = AT(w2 + c), a3 = AT(w3 + c);
        lanes b = AT(x + c);
        t[0] += a0 * b, t[4] += a1 * b, t[8] += a2 * b, t[12] += a3 * b;
        b = AT(x + ldx + c);
        t[1] += a0 * b, t[5] += a1 * b, t[9] += a2 * b, t[13] += a3 * b;
        b = AT(x + 2 * ldx + c);
        t[2] += a0 * b, t[6] += a1 * b, t[10] += a2 * b, t[14] += a3 * b;
        b = AT(x + 3 * ldx + c);
        t[3] += a0 * b, t[7] += a1 * b, t[11] += a2 * b, t[15] += a3 * b;
    }
    float all[TILE_W * TILE_X][LANES];
    memcpy(all, t, sizeof all);
    for (int i = 0; i < TILE_W * TILE_X; i++)
        for (int l = 0; l < LANES; l++) sums[i / TILE_X][j0 + i % TILE_X] += all[i][l];
}

// The same for one row of x.
static void add_4x1(const float *const w[TILE_W], const float *x, int64_t k, tile_sums sums, int64_t j) {
    const float *w0 = w[0], *w1 = w[1], *w2 = w[2], *w3 = w[3];
    lanes t[TILE_W] = {{0}};
    for (int64_t c = 0; c < k; c += LANES) {
        const lanes b = AT(x + c);
        t[0] += AT(w0 + c) * b, t[1] += AT(w1 + c) * b, t[2] += AT(w2 + c) * b, t[3] += AT(w3 + c) * b;
    }
    float all[TILE_W][LANES];
    memcpy(all, t, sizeof all);
    for (int i = 0; i < TILE_W; i++)
        for (int l = 0; l < LANES; l++) sums[i][j] += all[i][l];
}

static void add_rows(const float *const w[TILE_W], const float *x, int64_t ldx, int64_t m, int64_t k,
                     tile_sums sums) {
    const int64_t whole = k / LANES * LANES;
    int64_t j = 0;
    for (; j + TILE_X <= m; j += TILE_X) add_4x4(w, x + j * ldx, ldx, whole, sums, j);
    for (; j < m; j++) add_4x1(w, x + j * ldx, whole, sums, j);
    for (int64_t c = whole; c < k; c++)
        for (int i = 0; i < TILE_W; i++)
            for (j = 0; j < m; j++) sums[i][j] += w[i][c] * x[j * ldx + c];
}

// Products of x with rows row .. row + n_w of w; beyond n_w <= TILE_W the last one is repeated.
static void multiply_rows(int64_t m, const float *x, int64_t ldx, const kv_stored_rows *w, int64_t row,
                          int64_t n_w, tile_sums sums) {
    float wide[TILE_W][CHUNK];
    const size_t element = kv_dtype_size(w->dtype);
    memset(sums, 0, sizeof(tile_sums));
    for (int64_t c = 0; c < w->cols; c += CHUNK) {
        const int64_t k = w->cols - c < CHUNK ? w->cols - c : CHUNK;
        const float *tile[TILE_W];
        for (int64_t i = 0; i < n_w; i++) {
            const char *stored = (const char *)w->first + (size_t)((row + i) * w->stride + c) * element;
            tile[i] = w->dtype == KV_F32 ? (const float *)stored : wide[i];
            if (w->dtype != KV_F32) kv_widen(wide[i], stored, w->dtype, k);
        }
        for (int64_t i = n_w; i < TILE_W; i++) tile[i] = tile[n_w - 1];
        add_rows(tile, x + c, ldx, m, k, sums);
    }
}

static void multiply_block(int64_t m, const float *x, int64_t ldx, const kv_stored_rows *w, int64_t start,
                           int64_t end, float beta, float *y, int64_t ldy) {
    for (int64_t r = start; r < end; r += TILE_W) {
        const int64_t n_w = end - r < TILE_W ? end - r : TILE_W;
        tile_sums sums;
        multiply_rows(m, x, ldx, w, r, n_w, sums);
        for (int64_t j = 0; j < m; j++)
            for (int64_t i = 0; i < n_w; i++) {
                float *place = y + j * ldy + r + i;
                *place = beta == 0 ? sums[i][j] : beta * *place + sums[i][j];
            }
    }
}

void kv_gemm_few_rows(int64_t m, const float *x, int64_t ldx, const kv_stored_rows *w, int64_t n, float beta,
                      float *y, int64_t ldy) {
    if (n <= ROW_BLOCK || omp_get_max_threads() == 1) { // a team of one costs more than a small product
        multiply_block(m, x, ldx, w, 0, n, beta, y, ldy);
        return;
    }
#pragma omp parallel for schedule(static)
    for (int64_t start = 0; start < n; start += ROW_BLOCK)
        multiply_block(m, x, ldx, w, start, n - start < ROW_BLOCK ? n : start + ROW_BLOCK, beta, y, ldy);
}

void kv_gemm_row_sums(int64_t m, int64_t n, int64_t k, const float *a, int64_t lda, const float *b,
                      int64_t ldb, float beta, float *c, int64_t ldc) {
    const int64_t whole = n / LANES * LANES;
    for (int64_t i = 0; i < m; i++) {
        const float *row = a + i * lda;
        float *out = c + i * ldc;
        for (int64_t j = 0; j < whole; j += LANES) {
            lanes sum = {0};
            for (int64_t p = 0; p < k; p++) sum += row[p] * AT(b + p * ldb + j);
            if (beta != 0) sum += beta * AT(out + j);
            memcpy(out + j, &sum, sizeof sum);
        }
        for (int64_t j = whole; j < n; j++) {
            float sum = 0;
            for (int64_t p = 0; p < k; p++) sum += row[p] * b[p * ldb + j];
            out[j] = beta == 0 ? sum : beta * out[j] + sum;
        }
    }
}

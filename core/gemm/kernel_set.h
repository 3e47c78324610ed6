// The kernels of core/gemm/kernels.h in terms of vectors of LANES floats, which GCC and clang both have
// (vector_size). Included once by the file of each instruction set, which says before:
//
//   SET, SET_NAME          kv_kernels_<set>, and its name
//   LANES                  floats of a vector: 4, 8 or 16
//   ROWS, WIDE             most rows of a tile of one panel, and of two, whose sums fit the registers
//   FUSED                  whether a · b + c becomes one operation
//   widen_bf16(p), widen_f16(p)    LANES numbers of 16 bits as a vector
#include "core/gemm/kernels.h"

#include <string.h>

// In ISO mode GCC leaves a · b + c as two operations unless it is told that one will do.
#if defined __clang__
#pragma STDC FP_CONTRACT ON
#define UNROLL _Pragma("unroll")
#else
#pragma GCC optimize("fp-contract=fast")
#define UNROLL _Pragma("GCC unroll 16")
#endif
#define INLINE static inline __attribute__((always_inline))

enum { VECTORS = KV_PANEL / LANES }; // of a panel's row

INLINE lanes load(const void *p) {
    lanes v;
    memcpy(&v, p, sizeof v);
    return v;
}

INLINE lanes load_as(const void *p, const kv_dtype dtype) {
    return dtype == KV_F32 ? load(p) : dtype == KV_BF16 ? widen_bf16(p) : widen_f16(p);
}

// ---- Tiles ---------------------------------------------------------------------------------------------

// Rows of X share pointers by threes: a pointer, a stride and twice the stride are addresses of the machine's.
enum { POINTERS = (ROWS + 2) / 3 };

INLINE void sum_up(const kv_tile *t, const int rows, const int vectors, const kv_dtype dtype,
                   const bool by_row) {
    const size_t element = dtype == KV_F32 ? 4 : 2;
    const int64_t step = t->w_step * (int64_t)element, next = t->w_next * (int64_t)element;
    const int64_t row = t->x_row * 4, column = t->x_col * 4;
    const char *x[POINTERS], *w = t->w, *soon = t->soon;
    lanes sum[ROWS][KV_TILE_PANELS * VECTORS] = {{{0}}};
    UNROLL
    for (int i = 0; i < POINTERS; i++) x[i] = (const char *)t->x + 3 * i * row;
    for (int64_t c = 0; c < t->k; c++) {
        lanes b[KV_TILE_PANELS * VECTORS];
        __builtin_prefetch(soon, 0, 2);
        if (vectors > VECTORS) __builtin_prefetch(soon + t->soon_next, 0, 2);
        soon += t->soon_step;
        UNROLL
        for (int v = 0; v < vectors; v++)
            b[v] = load_as(w + (v < VECTORS ? 0 : next) + (int64_t)element * LANES * (v % VECTORS), dtype);
        UNROLL
        for (int i = 0; i < rows; i++) {
            float a;
            memcpy(&a, by_row ? x[i / 3] + i % 3 * row : x[0] + 4 * i, sizeof a);
            UNROLL
            for (int v = 0; v < vectors; v++) sum[i][v] += b[v] * a;
        }
        UNROLL
        for (int i = 0; i < POINTERS; i++) x[i] += by_row ? 4 : column;
        w += step;
    }
    UNROLL
    for (int i = 0; i < rows; i++) {
        float *y = t->y + i * t->ldy;
        UNROLL
        for (int v = 0; v < vectors; v++) {
            const lanes s = t->beta == 0 ? sum[i][v] : sum[i][v] + t->beta * load(y + v * LANES);
            memcpy(y + v * LANES, &s, sizeof s);
        }
    }
}

#define CASE(r)                                                                                              \
    case r:                                                                                                  \
        if (vectors == VECTORS || r <= WIDE) sum_up(t, r, vectors, dtype, by_row);                           \
        return;

INLINE void of_rows(const kv_tile *t, const int vectors, const kv_dtype dtype, const bool by_row) {
    switch (t->rows) {
        CASE(1)
        CASE(2)
        CASE(3)
#if ROWS > 3
        CASE(4)
        CASE(5)
        CASE(6)
#endif
#if ROWS > 6
        CASE(7) CASE(8) CASE(9) CASE(10) CASE(11) CASE(12)
#endif
    }
}

INLINE void of_panels(const kv_tile *t, const kv_dtype dtype, const bool by_row) {
    if (t->panels == 2) {
        of_rows(t, 2 * VECTORS, dtype, by_row);
        return;
    }
    of_rows(t, VECTORS, dtype, by_row);
}

static void columns_f32(const kv_tile *t) {
    of_panels(t, KV_F32, false);
}
static void columns_bf16(const kv_tile *t) {
    of_panels(t, KV_BF16, false);
}
static void columns_f16(const kv_tile *t) {
    of_panels(t, KV_F16, false);
}
static void rows_f32(const kv_tile *t) {
    of_panels(t, KV_F32, true);
}
static void rows_bf16(const kv_tile *t) {
    of_panels(t, KV_BF16, true);
}
static void rows_f16(const kv_tile *t) {
    of_panels(t, KV_F16, true);
}

static void run_tile(const kv_tile *t) {
    static void (*const by_type[2][3])(const kv_tile *) = {{columns_f32, columns_bf16, columns_f16},
                                                           {rows_f32, rows_bf16, rows_f16}};
    by_type[t->x_row != 1][t->dtype](t);
}

// ---- Turning rows into panels --------------------------------------------------------------------------

// Square blocks of rows become columns in registers: pairs of rows are laced, then pairs of pairs, then halves swapped.
typedef float four __attribute__((vector_size(16)));
typedef float eight __attribute__((vector_size(32)));
typedef uint16_t four_halves __attribute__((vector_size(8)));
#define LACE __builtin_shufflevector

#define TURN_4(name, type, vector)                                                                           \
    INLINE void name(type *panel, int64_t width, const type *rows, int64_t ld) {                             \
        vector r[4], out[4];                                                                                 \
        for (int i = 0; i < 4; i++) memcpy(&r[i], rows + i * ld, sizeof r[i]);                               \
        const vector low = LACE(r[0], r[1], 0, 4, 1, 5), high = LACE(r[0], r[1], 2, 6, 3, 7);                \
        const vector low2 = LACE(r[2], r[3], 0, 4, 1, 5), high2 = LACE(r[2], r[3], 2, 6, 3, 7);              \
        out[0] = LACE(low, low2, 0, 1, 4, 5), out[1] = LACE(low, low2, 2, 3, 6, 7);                          \
        out[2] = LACE(high, high2, 0, 1, 4, 5), out[3] = LACE(high, high2, 2, 3, 6, 7);                      \
        for (int i = 0; i < 4; i++) memcpy(panel + i * width, &out[i], sizeof out[i]);                       \
    }
TURN_4(turn_4_words, float, four)
TURN_4(turn_4_halves, uint16_t, four_halves)

INLINE void turn_8_words(float *panel, int64_t width, const float *rows, int64_t ld) {
    eight quarter[2][4];
    for (int h = 0; h < 2; h++) {
        eight r[4];
        for (int i = 0; i < 4; i++) memcpy(&r[i], rows + (4 * h + i) * ld, sizeof r[i]);
        const eight low = LACE(r[0], r[1], 0, 8, 1, 9, 4, 12, 5, 13);
        const eight high = LACE(r[0], r[1], 2, 10, 3, 11, 6, 14, 7, 15);
        const eight low2 = LACE(r[2], r[3], 0, 8, 1, 9, 4, 12, 5, 13);
        const eight high2 = LACE(r[2], r[3], 2, 10, 3, 11, 6, 14, 7, 15);
        quarter[h][0] = LACE(low, low2, 0, 1, 8, 9, 4, 5, 12, 13);
        quarter[h][1] = LACE(low, low2, 2, 3, 10, 11, 6, 7, 14, 15);
        quarter[h][2] = LACE(high, high2, 0, 1, 8, 9, 4, 5, 12, 13);
        quarter[h][3] = LACE(high, high2, 2, 3, 10, 11, 6, 7, 14, 15);
    }
    for (int c = 0; c < 4; c++) {
        const eight near = LACE(quarter[0][c], quarter[1][c], 0, 1, 2, 3, 8, 9, 10, 11);
        const eight far = LACE(quarter[0][c], quarter[1][c], 4, 5, 6, 7, 12, 13, 14, 15);
        memcpy(panel + c * width, &near, sizeof near);
        memcpy(panel + (c + 4) * width, &far, sizeof far);
    }
}

static void turn_words(float *restrict panel, int64_t width, const float *restrict rows, int64_t ld,
                       int64_t n, int64_t k) {
    const int64_t whole = k / 8 * 8;
    for (int64_t c = 0; c < whole; c += 8) {
        int64_t j = 0;
        for (; j + 8 <= n; j += 8) turn_8_words(panel + c * width + j, width, rows + j * ld + c, ld);
        for (; j + 4 <= n; j += 4) {
            turn_4_words(panel + c * width + j, width, rows + j * ld + c, ld);
            turn_4_words(panel + (c + 4) * width + j, width, rows + j * ld + c + 4, ld);
        }
        for (; j < n; j++)
            for (int64_t i = c; i < c + 8; i++) panel[i * width + j] = rows[j * ld + i];
    }
    for (int64_t c = whole; c < k; c++)
        for (int64_t j = 0; j < n; j++) panel[c * width + j] = rows[j * ld + c];
}

static void turn_halves(uint16_t *restrict panel, int64_t width, const uint16_t *restrict rows, int64_t ld,
                        int64_t n, int64_t k) {
    const int64_t whole_n = n / 4 * 4, whole_k = k / 4 * 4;
    for (int64_t c = 0; c < whole_k; c += 4)
        for (int64_t j = 0; j < whole_n; j += 4)
            turn_4_halves(panel + c * width + j, width, rows + j * ld + c, ld);
    for (int64_t c = 0; c < k; c++)
        for (int64_t j = c < whole_k ? whole_n : 0; j < n; j++) panel[c * width + j] = rows[j * ld + c];
}

static void turn(void *panel, int64_t width, const void *rows, kv_dtype dtype, int64_t ld, int64_t n,
                 int64_t k) {
    if (dtype == KV_F32)
        turn_words(panel, width, rows, ld, n, k);
    else
        turn_halves(panel, width, rows, ld, n, k);
}

#define LAY(width)                                                                                           \
    for (int64_t c = 0; c < k; c++)                                                                          \
    memcpy(panel + c * (width), rows + c * ld, (size_t)(width) * sizeof *panel)

static void lay(float *restrict panel, int64_t width, const float *restrict rows, int64_t ld, int64_t n,
                int64_t k) {
    if (n == KV_PANEL && width == n)
        LAY(KV_PANEL);
    else if (n == ROWS && width == n)
        LAY(ROWS);
    else
        for (int64_t c = 0; c < k; c++)
            for (int64_t j = 0; j < n; j++) panel[c * width + j] = rows[c * ld + j];
}

static void widen(float *dst, const void *src, kv_dtype dtype, int64_t n) {
    const uint16_t *from = src;
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        const lanes v = dtype == KV_BF16 ? widen_bf16(from + i) : widen_f16(from + i);
        memcpy(dst + i, &v, sizeof v);
    }
    kv_widen(dst + i, from + i, dtype, n - i);
}

// ---- A single row of X ---------------------------------------------------------------------------------

INLINE float total(const lanes v) {
    float parts[LANES], sum = 0;
    memcpy(parts, &v, sizeof v);
    for (int l = 0; l < LANES; l++) sum += parts[l];
    return sum;
}

INLINE float one(const void *w, const kv_dtype dtype) {
    float wide;
    kv_widen(&wide, w, dtype, 1);
    return wide;
}

// Four rows of W at a time, two sums each.
INLINE void dot_rows(const float *x, const char *w, const kv_dtype dtype, int64_t stride, const int rows,
                     int64_t k, float beta, float *y) {
    const int64_t element = dtype == KV_F32 ? 4 : 2;
    lanes even[4] = {{0}}, odd[4] = {{0}};
    int64_t c = 0;
    for (; c + 2 * LANES <= k; c += 2 * LANES) {
        const lanes x0 = load(x + c), x1 = load(x + c + LANES);
        UNROLL
        for (int i = 0; i < rows; i++) {
            even[i] += load_as(w + i * stride + c * element, dtype) * x0;
            odd[i] += load_as(w + i * stride + (c + LANES) * element, dtype) * x1;
        }
    }
    for (int i = 0; i < rows; i++) {
        float sum = total(even[i] + odd[i]);
        for (int64_t t = c; t < k; t++) sum += one(w + i * stride + t * element, dtype) * x[t];
        y[i] = beta == 0 ? sum : sum + beta * y[i];
    }
}

INLINE void dot_all(const float *x, const char *w, const kv_dtype dtype, int64_t stride, int64_t n, int64_t k,
                    float beta, float *y) {
    int64_t i = 0;
    for (; i + 4 <= n; i += 4) dot_rows(x, w + i * stride, dtype, stride, 4, k, beta, y + i);
    for (; i < n; i++) dot_rows(x, w + i * stride, dtype, stride, 1, k, beta, y + i);
}

static void dot(const float *x, const void *w, kv_dtype dtype, int64_t ld, int64_t n, int64_t k, float beta,
                float *y) {
    switch (dtype) {
    case KV_F32: dot_all(x, w, KV_F32, 4 * ld, n, k, beta, y); break;
    case KV_BF16: dot_all(x, w, KV_BF16, 2 * ld, n, k, beta, y); break;
    case KV_F16: dot_all(x, w, KV_F16, 2 * ld, n, k, beta, y); break;
    }
}

const kv_kernels SET = {.name = SET_NAME,
                        .fused = FUSED,
                        .rows = ROWS,
                        .wide = WIDE,
                        .tile = run_tile,
                        .turn = turn,
                        .lay = lay,
                        .widen = widen,
                        .dot = dot};

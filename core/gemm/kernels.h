// The innermost loops of matrix products, once for each instruction set; core/gemm/isa.c has the list of them.
//
// All work on panels: 16 columns of the right-hand matrix side by side, one row of it after another, [k, 16]. A
// tile of the result, some rows by one or two panels, is summed up in registers, one step of k after another.
// So an element is a sum whose order k alone decides, whatever else is computed with it, and sets that multiply
// and add in one operation give the same bits as each other.
#pragma once

#include "core/dtype.h"

#include <stdbool.h>
#include <stdint.h>

enum {
    KV_PANEL = 16,     // columns of a panel
    KV_K_BLOCK = 256,  // so much of k is summed up in registers before it joins the result
    KV_TILE_ROWS = 12, // no set's tile has more rows
    KV_TILE_PANELS = 2 // or panels
};

// Y[rows, 16 · panels] = sums + beta · Y, sums(i, j) = Σ_c X(i, c) · W(c, j). With beta 0, Y may be uninitialised.
typedef struct kv_tile {
    int rows, panels;
    const float *x; // X(i, c) = x[i · x_row + c · x_col], one of the two strides being 1
    int64_t x_row, x_col;
    const void *w; // W(c, j) is its element c · w_step + j, of the second panel w_next elements further
    kv_dtype dtype;
    int64_t w_step, w_next;
    // What will be read next, brought near meanwhile: k pieces of soon_step bytes, and as many of the second panel
    // soon_next bytes further.
    const char *soon;
    int64_t soon_step, soon_next;
    int64_t k;
    float beta;
    float *y;
    int64_t ldy;
} kv_tile;

// ---- A unit for products of bfloat16 -------------------------------------------------------------------

// Some CPUs multiply bfloat16 by bfloat16, and add up in float32, many times faster than float32 by float32. A float32 is
// the sum of three bfloat16s: its upper half, that of what is left, and what is left then. So a product with a weight in
// bfloat16 is the sum of three that are exact, and a sum of products as accurate as the other kernels'; its order is another.
// Parts and sums below 2^-126 count as 0.
enum {
    KV_UNIT_ROWS = 16, // of X at a time
    KV_UNIT_PANELS = 4,
    KV_UNIT_PARTS = 3
};

// A strip of at most 4 panels times any number of rows. Sums go on where Y's are if `goes_on`; otherwise
// Y[rows, n] = sums + beta · Y, and with beta 0 Y may be uninitialised.
typedef struct kv_strip {
    const uint16_t *parts; // of X, 16 rows after 16 rows, as `split` leaves them, in lines of 64 bytes
    int64_t rows;
    const uint16_t *w; // W(c, j) of panel p is w[p · w_panel + 16 c + j]
    int64_t w_panel;
    int panels;
    int64_t k;
    bool goes_on;
    int64_t skip, n; // columns: so many of the first panel are not the product's, and how many are
    float beta;
    float *y;
    int64_t ldy;
} kv_strip;

typedef struct kv_unit {
    // At most 16 rows of X, `ldx` apart, as parts[⌈k / 32⌉][3][16][32], the smallest first; 0 beyond k.
    void (*split)(uint16_t *parts, const float *x, int64_t ldx, int rows, int64_t k);
    void (*strip)(const kv_strip *strip);
} kv_unit;

// ---- A set ---------------------------------------------------------------------------------------------

typedef struct kv_kernels {
    const char *name;
    bool fused;     // a · b + c is one operation, rounded once
    int rows, wide; // most rows of a tile of one panel, and of one of two
    void (*tile)(const kv_tile *tile);
    // panel(c, j) = rows(j, c), for n rows `ld` elements apart and k of their columns; panel's rows are `width`
    // elements apart. Types stay what they are.
    void (*turn)(void *panel, int64_t width, const void *rows, kv_dtype dtype, int64_t ld, int64_t n,
                 int64_t k);
    // panel(c, j) = rows(c, j), for n columns and k rows `ld` floats apart.
    void (*lay)(float *panel, int64_t width, const float *rows, int64_t ld, int64_t n, int64_t k);
    // kv_widen of a 16-bit type.
    void (*widen)(float *dst, const void *src, kv_dtype dtype, int64_t n);
    // y[i] = Σ_c x[c] · W(i, c) + beta · y[i] for n rows of W, `ld` elements apart: for a single row of X and a W
    // that lies in rows, which is read once, at the speed of memory. The order of additions is its own.
    void (*dot)(const float *x, const void *w, kv_dtype dtype, int64_t ld, int64_t n, int64_t k, float beta,
                float *y);
    const kv_unit *unit; // for W in panels of bfloat16, with bits of its own; NULL: there is none
} kv_kernels;

extern const kv_kernels kv_kernels_plain;
extern const kv_kernels kv_kernels_avx2, kv_kernels_avx512; // where the compiler makes code for x86-64
extern const kv_kernels kv_kernels_amx;                     // where it knows AMX
extern const kv_kernels kv_kernels_neon;                    // for AArch64

// The largest tile of AVX-512's, which are AMX's as well.
#define KV_AVX512_ROWS 12
#ifdef __clang__ // clang 14 spills more to memory
#define KV_AVX512_WIDE 5
#else
#define KV_AVX512_WIDE 12
#endif

// AVX-512 with AMX's tiles beside it: 8 registers of 16 rows, 64 bytes each, and an operation that multiplies pairs of
// bfloat16 and adds them up in float32, 16 times the products of a vector's in the time of 16 vectors'.
//                 [Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2, TDPBF16PS]
//
// Registers 0 to 3 hold sums, of 16 rows by four panels; 4 and 5 parts of X, in turn; 6 and 7 W, in turn.
#include "core/gemm/kernels.h"

#include <immintrin.h>
#include <string.h>

enum {
    DEPTH = 32,                          // of k in a tile
    TILE = KV_UNIT_ROWS * DEPTH,         // bfloat16s of one
    PANEL_BLOCK = KV_K_BLOCK * KV_PANEL, // of a panel's block
    COLUMNS = KV_UNIT_PANELS * KV_PANEL
};

// What the compiler may hold back for memory is there before tiles are read from it.
static inline void written(const void *p) {
    __asm__ volatile("" ::"r"(p) : "memory");
}

static void configure(int rows) {
    struct {
        uint8_t palette, start_row, reserved[14];
        uint16_t bytes[16];
        uint8_t rows[16];
    } tiles __attribute__((aligned(64))) = {.palette = 1};
    _Static_assert(sizeof tiles == 64, "as the instruction reads it");
    for (int i = 0; i < 8; i++) tiles.bytes[i] = 64, tiles.rows[i] = (uint8_t)(i < 7 ? rows : 16);
    written(&tiles);
    _tile_loadconfig(&tiles);
}

// ---- X -------------------------------------------------------------------------------------------------

static __m512 upper_half(__m512 x) {
    return _mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(x), _mm512_set1_epi32(-0x10000)));
}

static void store_half(uint16_t *to, __m512 x) {
    _mm256_storeu_si256((__m256i *)(void *)to,
                        _mm512_cvtepi32_epi16(_mm512_srli_epi32(_mm512_castps_si512(x), 16)));
}

// Of an infinity the other parts are 0; so they are of what is not a number, which must not become one.
static void split_vector(uint16_t *parts, __m512 x) {
    const __mmask16 finite =
        _mm512_cmp_ps_mask(_mm512_abs_ps(x), _mm512_set1_ps(__builtin_inff()), _CMP_LT_OQ);
    const __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
    x = _mm512_castsi512_ps(_mm512_mask_or_epi32(_mm512_castps_si512(x), nan, _mm512_castps_si512(x),
                                                 _mm512_set1_epi32(0x400000)));
    const __m512 large = upper_half(x), rest = _mm512_maskz_sub_ps(finite, x, large);
    const __m512 middle = upper_half(rest);
    store_half(parts, _mm512_sub_ps(rest, middle));
    store_half(parts + TILE, middle);
    store_half(parts + 2 * TILE, large);
}

static void split(uint16_t *parts, const float *x, int64_t ldx, int rows, int64_t k) {
    for (int64_t c = 0; c < k; c += DEPTH, parts += KV_UNIT_PARTS * TILE)
        for (int i = 0; i < rows; i++)
            for (int64_t half = 0; half < DEPTH; half += 16) {
                const int64_t n = k - c - half;
                const __mmask16 there = n >= 16 ? 0xffff : n <= 0 ? 0 : (__mmask16)((1u << n) - 1);
                split_vector(parts + i * DEPTH + half, _mm512_maskz_loadu_ps(there, x + i * ldx + c + half));
            }
}

// ---- W -------------------------------------------------------------------------------------------------

// Pairs of a panel's rows, element beside element, as many as make whole tiles: 0 beyond k.
static void pair_rows(uint16_t *to, const uint16_t *panel, int64_t k) {
    uint16_t order[32];
    for (int i = 0; i < 32; i++) order[i] = (uint16_t)(i / 2 + i % 2 * 16);
    const __m512i beside = _mm512_loadu_si512(order);
    int64_t c = 0;
    for (; c + 2 <= k; c += 2)
        _mm512_store_si512(to + c * KV_PANEL,
                           _mm512_permutexvar_epi16(beside, _mm512_loadu_si512(panel + c * KV_PANEL)));
    for (; c < (k + DEPTH - 1) / DEPTH * DEPTH; c += 2)
        _mm512_store_si512(to + c * KV_PANEL,
                           _mm512_permutexvar_epi16(
                               beside, _mm512_maskz_loadu_epi16(c < k ? 0xffff : 0, panel + c * KV_PANEL)));
}

// ---- Sums ----------------------------------------------------------------------------------------------

// One block of k of one block of rows.
struct block {
    const uint16_t *parts, *w; // w[panels][PANEL_BLOCK]
    int panels, steps;         // steps of DEPTH
    const uint16_t *soon;      // W that is read next, brought near meanwhile: lines of each tile of it
    int64_t soon_panel;
    int first_line, end_line;
};

static void look_ahead(const struct block *b, int step) {
    for (int j = 0; j < b->panels; j++)
        for (int line = b->first_line; line < b->end_line; line++)
            _mm_prefetch((const char *)(b->soon + j * b->soon_panel + step * TILE + line * 32), _MM_HINT_T1);
}

// A sum meets the smallest parts first: what they add up to is still exact when the largest joins them.
#define COLUMN(j)                                                                                            \
    if (b->panels > j) {                                                                                     \
        _tile_loadd(7, w + j * PANEL_BLOCK, 64);                                                             \
        _tile_dpbf16ps(j, 4, 7);                                                                             \
        _tile_dpbf16ps(j, 5, 7);                                                                             \
        _tile_dpbf16ps(j, 6, 7);                                                                             \
    }

// X's parts stay while W's tiles come by: seven loads for twelve products.
static void add_up(const struct block *b) {
    for (int step = 0; step < b->steps; step++) {
        const uint16_t *x = b->parts + (int64_t)step * KV_UNIT_PARTS * TILE, *w = b->w + step * TILE;
        look_ahead(b, step);
        _tile_loadd(4, x, 64);
        _tile_loadd(5, x + TILE, 64);
        _tile_loadd(6, x + 2 * TILE, 64);
        COLUMN(0)
        COLUMN(1)
        COLUMN(2)
        COLUMN(3)
    }
}

static void clear_sums(void) {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
}

static void load_sums(const float *y, int64_t ldy, int panels) {
    written(y);
    _tile_loadd(0, y, ldy * 4);
    if (panels > 1) _tile_loadd(1, y + KV_PANEL, ldy * 4);
    if (panels > 2) _tile_loadd(2, y + 2 * KV_PANEL, ldy * 4);
    if (panels > 3) _tile_loadd(3, y + 3 * KV_PANEL, ldy * 4);
}

static void store_sums(float *y, int64_t ldy, int panels) {
    _tile_stored(0, y, ldy * 4);
    if (panels > 1) _tile_stored(1, y + KV_PANEL, ldy * 4);
    if (panels > 2) _tile_stored(2, y + 2 * KV_PANEL, ldy * 4);
    if (panels > 3) _tile_stored(3, y + 3 * KV_PANEL, ldy * 4);
}

// Sums of the first block of k start from 0 and meet Y at the end, later ones go on from Y; by way of a copy where some
// columns are not the product's.
static void run_block(const kv_strip *s, const struct block *b, int64_t row, int rows, bool first) {
    float sums[KV_UNIT_ROWS * COLUMNS] __attribute__((aligned(64)));
    float *y = s->y + row * s->ldy;
    const bool whole = s->skip == 0 && s->n == (int64_t)b->panels * KV_PANEL;
    const float beta = first ? s->beta : 0;
    if (first) {
        clear_sums();
    } else if (whole) {
        load_sums(y, s->ldy, b->panels);
    } else {
        memset(sums, 0, sizeof sums);
        for (int i = 0; i < rows; i++)
            memcpy(sums + i * COLUMNS + s->skip, y + i * s->ldy, (size_t)s->n * sizeof *y);
        load_sums(sums, COLUMNS, b->panels);
    }
    add_up(b);
    if (whole && beta == 0) {
        store_sums(y, s->ldy, b->panels);
        return;
    }
    store_sums(sums, COLUMNS, b->panels);
    for (int i = 0; i < rows; i++, y += s->ldy) {
        const float *from = sums + i * COLUMNS + s->skip;
        for (int64_t j = 0; j < s->n; j++) y[j] = beta == 0 ? from[j] : from[j] + beta * y[j];
    }
}

static void strip(const kv_strip *s) {
    uint16_t w[KV_UNIT_PANELS * PANEL_BLOCK] __attribute__((aligned(64)));
    const int blocks = (int)((s->rows + KV_UNIT_ROWS - 1) / KV_UNIT_ROWS);
    const int64_t block_parts = (s->k + DEPTH - 1) / DEPTH * KV_UNIT_PARTS * TILE;
    int configured = 0;
    for (int64_t c = 0; c < s->k; c += KV_K_BLOCK) {
        const int64_t n = s->k - c < KV_K_BLOCK ? s->k - c : KV_K_BLOCK;
        struct block b = {.w = w, .panels = s->panels, .steps = (int)((n + DEPTH - 1) / DEPTH)};
        b.soon = c + n < s->k ? s->w + (c + n) * KV_PANEL : s->w + s->panels * s->w_panel;
        b.soon_panel = s->w_panel;
        for (int j = 0; j < s->panels; j++)
            pair_rows(w + j * PANEL_BLOCK, s->w + j * s->w_panel + c * KV_PANEL, n);
        written(w);
        for (int i = 0; i < blocks; i++) {
            const int64_t row = (int64_t)i * KV_UNIT_ROWS, rest = s->rows - row;
            const int rows = (int)(rest < KV_UNIT_ROWS ? rest : KV_UNIT_ROWS);
            if (rows != configured) configure(rows);
            configured = rows;
            b.parts = s->parts + i * block_parts + c / DEPTH * KV_UNIT_PARTS * TILE;
            b.first_line = 16 * i / blocks, b.end_line = 16 * (i + 1) / blocks;
            run_block(s, &b, row, rows, c == 0 && !s->goes_on);
        }
    }
    _tile_release();
}

static const kv_unit tiles = {.split = split, .strip = strip};

// ---- All that is not for the unit ----------------------------------------------------------------------

static void run_tile(const kv_tile *tile) {
    kv_kernels_avx512.tile(tile);
}

static void turn(void *panel, int64_t width, const void *rows, kv_dtype dtype, int64_t ld, int64_t n,
                 int64_t k) {
    kv_kernels_avx512.turn(panel, width, rows, dtype, ld, n, k);
}

static void lay(float *panel, int64_t width, const float *rows, int64_t ld, int64_t n, int64_t k) {
    kv_kernels_avx512.lay(panel, width, rows, ld, n, k);
}

static void widen(float *dst, const void *src, kv_dtype dtype, int64_t n) {
    kv_kernels_avx512.widen(dst, src, dtype, n);
}

static void dot(const float *x, const void *w, kv_dtype dtype, int64_t ld, int64_t n, int64_t k, float beta,
                float *y) {
    kv_kernels_avx512.dot(x, w, dtype, ld, n, k, beta, y);
}

const kv_kernels kv_kernels_amx = {.name = "amx",
                                   .fused = true,
                                   .rows = KV_AVX512_ROWS,
                                   .wide = KV_AVX512_WIDE,
                                   .tile = run_tile,
                                   .turn = turn,
                                   .lay = lay,
                                   .widen = widen,
                                   .dot = dot,
                                   .unit = &tiles};

// The work falls into tasks: a group of panels (two, or one, as the registers hold them) times a chunk of rows. A
// task goes through k block by block; what of W does not lie in panels of floats is brought into that form, a
// block at a time, on the thread's stack. X is packed once for all, by rows of a tile, where that pays.
#include "core/gemm/product.h"

#include "core/gemm/isa.h"
#include "core/gemm/ranges.h"

#include <omp.h>
#include <stdlib.h>
#include <string.h>

enum {
    GROUP = KV_TILE_PANELS * KV_PANEL, // columns of a task, at most
    PACKED_FLOATS = 1 << 20,           // of X at a time
    K_AT_ONCE = 8 * KV_K_BLOCK,        // of k at a time, so that X packed is many rows
    PACK_COLUMNS = 192,                // so many columns of results make up for packing X
    FAR = 512,                         // floats from one row to the next, from which on rows share few pages
};

struct work {
    const kv_kernels *kernels;
    int64_t m, k; // k: of this step, behind `before` of `whole_k`
    int64_t before, whole_k;
    int64_t tile_rows; // of X in a tile: tiles are as even as can be
    int64_t panels;    // of W in a tile
    kv_left x;
    float *packed; // X in blocks of tile_rows rows, [k, rows] each; or NULL
    const kv_product *products;
    int n_products;
    int64_t chunk, n_chunks; // of rows
    int64_t n_tasks;
};

// ---- One task ------------------------------------------------------------------------------------------

// Columns begin .. end of W's n, which begin and end within `panels` panels.
struct group {
    int64_t begin, end;
    int panels;
};

// Groups begin at multiples of a panel of W, wherever the product's own columns do.
static int64_t n_groups(const struct work *work, const kv_product *p) {
    const int64_t width = work->panels * KV_PANEL, before = p->first % KV_PANEL;
    return (before + p->n + width - 1) / width;
}

static struct group find_group(const struct work *work, const kv_product *p, int64_t index) {
    const int64_t width = work->panels * KV_PANEL, start = p->first / KV_PANEL * KV_PANEL + index * width;
    const int64_t stop = start + width < p->first + p->n ? start + width : p->first + p->n;
    return (struct group){.begin = start > p->first ? start : p->first,
                          .end = stop,
                          .panels = (int)((stop - start + KV_PANEL - 1) / KV_PANEL)};
}

// Columns begin .. end of W as panels of floats, from row c of k on. `panels` has room for [panels][k][16].
static void make_panels(const kv_kernels *kernels, const kv_product *p, const struct group *g, int64_t c,
                        int64_t k, int64_t whole_k, float *panels) {
    uint16_t halves[KV_K_BLOCK * KV_PANEL];
    const int64_t first = g->begin / KV_PANEL * KV_PANEL;
    const size_t element = kv_dtype_size(p->dtype);
    for (int i = 0; i < g->panels; i++, panels += k * KV_PANEL) {
        const int64_t column = first + i * KV_PANEL, rest = g->end - column;
        const int64_t n = rest < KV_PANEL ? rest : KV_PANEL;
        const char *w = p->w;
        if (p->kind == KV_RIGHT_PANELS) {
            kernels->widen(panels, w + (size_t)(column * whole_k + c * KV_PANEL) * element, p->dtype,
                           k * KV_PANEL);
            continue;
        }
        if (n < KV_PANEL) memset(panels, 0, (size_t)(k * KV_PANEL) * sizeof *panels);
        if (p->kind == KV_RIGHT_AS_IT_IS) {
            const char *rows = w + (size_t)(c * p->ld + column) * element;
            if (p->dtype == KV_F32) kernels->lay(panels, KV_PANEL, (const float *)rows, p->ld, n, k);
            for (int64_t r = 0; p->dtype != KV_F32 && r < k; r++)
                kernels->widen(panels + r * KV_PANEL, rows + (size_t)(r * p->ld) * element, p->dtype, n);
        } else if (p->dtype == KV_F32) {
            kernels->turn(panels, KV_PANEL, w + (size_t)(column * p->ld + c) * element, KV_F32, p->ld, n, k);
        } else {
            if (n < KV_PANEL) memset(halves, 0, sizeof halves);
            kernels->turn(halves, KV_PANEL, w + (size_t)(column * p->ld + c) * element, p->dtype, p->ld, n,
                          k);
            kernels->widen(panels, halves, p->dtype, k * KV_PANEL);
        }
    }
}

// Whether the kernels read W where it lies. A 16-bit panel is better widened once if many rows need it.
static bool lies_ready(const struct work *work, const kv_product *p, const struct group *g, int64_t rows) {
    if (p->kind == KV_RIGHT_PANELS) return p->dtype == KV_F32 || rows <= work->tile_rows;
    const bool whole = g->end - g->begin == (int64_t)g->panels * KV_PANEL;
    return p->kind == KV_RIGHT_AS_IT_IS && p->dtype == KV_F32 && whole &&
           (p->ld < FAR || rows <= work->tile_rows);
}

// Row c of k in the first panel of a group, of a W that lies in panels.
static const char *stored_panel(const struct work *work, const kv_product *p, const struct group *g,
                                int64_t c) {
    const int64_t first = g->begin / KV_PANEL * KV_PANEL;
    return (const char *)p->w + (first * work->whole_k + c * KV_PANEL) * (int64_t)kv_dtype_size(p->dtype);
}

// Behind a block of W in panels the next one of the group is read, or the first one of the next group.
static void look_ahead(const struct work *work, const kv_product *p, const struct group *g, int64_t c,
                       kv_tile *t) {
    const int64_t element = (int64_t)kv_dtype_size(p->dtype);
    const bool last = c + t->k == work->before + work->k;
    t->soon = stored_panel(work, p, g, last ? g->panels * work->whole_k + work->before : c + t->k);
    t->soon_step = KV_PANEL * element, t->soon_next = work->whole_k * KV_PANEL * element;
}

static void place_right(const struct work *work, const kv_product *p, const struct group *g, int64_t c,
                        kv_tile *t) {
    t->dtype = p->dtype;
    if (p->kind == KV_RIGHT_PANELS) {
        t->w = stored_panel(work, p, g, c);
        t->w_step = KV_PANEL, t->w_next = work->whole_k * KV_PANEL;
    } else {
        t->w = (const float *)p->w + c * p->ld + g->begin;
        t->w_step = p->ld, t->w_next = KV_PANEL;
    }
}

static void place_left(const struct work *work, int64_t row, int64_t c, kv_tile *t) {
    if (work->packed) {
        t->x = work->packed + row * work->k + c * t->rows;
        t->x_row = 1, t->x_col = t->rows;
    } else {
        t->x = work->x.x + row * work->x.row + c * work->x.column;
        t->x_row = work->x.row, t->x_col = work->x.column;
    }
}

// A tile some of whose columns are not the product's: they are left out on the way.
static void partly(const struct work *work, const kv_product *p, const struct group *g, int64_t row,
                   float beta, kv_tile t) {
    float sums[KV_TILE_ROWS * GROUP];
    const int64_t skip = g->begin % KV_PANEL, n = g->end - g->begin;
    t.beta = 0, t.y = sums, t.ldy = GROUP;
    work->kernels->tile(&t);
    for (int i = 0; i < t.rows; i++) {
        float *y = p->y + (row + i) * p->ldy + g->begin - p->first;
        const float *s = sums + i * GROUP + skip;
        for (int64_t j = 0; j < n; j++) y[j] = beta == 0 ? s[j] : s[j] + beta * y[j];
    }
}

static void run_rows(const struct work *work, const kv_product *p, const struct group *g, int64_t begin,
                     int64_t end, int64_t c, kv_tile t) {
    const bool whole = g->end - g->begin == (int64_t)g->panels * KV_PANEL;
    const float beta = c == 0 ? p->beta : 1;
    t.panels = g->panels;
    for (int64_t row = begin; row < end; row += t.rows) {
        t.rows = (int)(end - row < work->tile_rows ? end - row : work->tile_rows);
        place_left(work, row, c, &t);
        if (row > begin) t.soon_step = 0;
        if (!whole) {
            partly(work, p, g, row, beta, t);
            continue;
        }
        t.beta = beta, t.y = p->y + row * p->ldy + g->begin - p->first, t.ldy = p->ldy;
        work->kernels->tile(&t);
    }
}

static void run_task(const void *context, int64_t task) {
    const struct work *work = context;
    float panels[KV_K_BLOCK * GROUP] __attribute__((aligned(64)));
    const kv_product *p = work->products;
    int64_t index = task / work->n_chunks;
    for (; index >= n_groups(work, p); p++) index -= n_groups(work, p);
    const struct group g = find_group(work, p, index);
    const int64_t begin = task % work->n_chunks * work->chunk;
    const int64_t end = begin + work->chunk < work->m ? begin + work->chunk : work->m;
    const bool ready = lies_ready(work, p, &g, end - begin);
    int64_t c = 0;
    do {
        kv_tile t = {.k = work->k - c < KV_K_BLOCK ? work->k - c : KV_K_BLOCK};
        if (ready) {
            place_right(work, p, &g, work->before + c, &t);
        } else {
            make_panels(work->kernels, p, &g, work->before + c, t.k, work->whole_k, panels);
            t.w = panels, t.dtype = KV_F32, t.w_step = KV_PANEL, t.w_next = t.k * KV_PANEL;
        }
        t.soon = t.w;
        if (p->kind == KV_RIGHT_PANELS) look_ahead(work, p, &g, work->before + c, &t);
        run_rows(work, p, &g, begin, end, c, t);
        c += t.k;
    } while (c < work->k);
}

// ---- All of them ---------------------------------------------------------------------------------------

void *kv_products_kept(int64_t floats) {
    static _Thread_local void *kept;
    static _Thread_local int64_t size;
    if (floats <= size) return kept;
    free(kept);
    kept = aligned_alloc(64, (size_t)(floats * 4 + 63) / 64 * 64);
    size = kept ? floats : 0;
    return kept;
}

static void pack_block(const struct work *work, int64_t row) {
    const int64_t rest = work->m - row, n = rest < work->tile_rows ? rest : work->tile_rows;
    float *to = work->packed + row * work->k;
    const float *from = work->x.x + row * work->x.row;
    if (work->x.column == 1)
        work->kernels->turn(to, n, from, KV_F32, work->x.row, n, work->k);
    else
        work->kernels->lay(to, n, from, work->x.column, n, work->k);
}

// Chunks of rows so that every thread gets some of the tasks.
static void deal_out(struct work *work, int threads) {
    int64_t groups = 0;
    for (int i = 0; i < work->n_products; i++) groups += n_groups(work, &work->products[i]);
    int64_t chunks = (4 * (int64_t)threads + groups - 1) / (groups > 0 ? groups : 1);
    const int64_t blocks = (work->m + work->tile_rows - 1) / work->tile_rows;
    if (threads == 1) chunks = 1;
    if (chunks > blocks) chunks = blocks;
    work->chunk = (blocks + chunks - 1) / chunks * work->tile_rows;
    work->n_chunks = (work->m + work->chunk - 1) / work->chunk;
    work->n_tasks = groups * work->n_chunks;
}

static void run_alone(const struct work *work) {
    for (int64_t row = 0; work->packed && row < work->m; row += work->tile_rows) pack_block(work, row);
    for (int64_t i = 0; i < work->n_tasks; i++) run_task(work, i);
}

static void run_together(const struct work *work, int threads) {
    kv_ranges ranges;
    kv_ranges_start(&ranges, work->n_tasks, threads);
#pragma omp parallel num_threads(threads)
    {
        if (work->packed) {
#pragma omp for schedule(static)
            for (int64_t row = 0; row < work->m; row += work->tile_rows) pack_block(work, row);
        }
        kv_ranges_run(&ranges, run_task, work);
    }
}

static void run(struct work *work, int64_t columns) {
    const int64_t tiles = (work->m + work->kernels->rows - 1) / work->kernels->rows;
    work->tile_rows = (work->m + tiles - 1) / tiles;
    work->panels = work->tile_rows <= work->kernels->wide ? KV_TILE_PANELS : 1;
    const int threads = kv_ranges_threads(work->m, columns, work->k);
    const bool far = work->x.column == 1 || work->x.column >= FAR;
    work->packed = far && work->m > 1 && columns >= PACK_COLUMNS ? kv_products_kept(work->m * work->k) : NULL;
    deal_out(work, threads);
    if (threads > 1)
        run_together(work, threads);
    else
        run_alone(work);
}

// Rows of X at a time.
static int64_t rows_at_once(const kv_kernels *kernels, int64_t k) {
    const int64_t step = k < K_AT_ONCE ? k : K_AT_ONCE;
    return PACKED_FLOATS / (step > 0 ? step : 1) / kernels->rows * kernels->rows;
}

int64_t kv_products_room(int64_t m, int64_t k) {
    const int64_t most = rows_at_once(kv_isa(), k);
    return (m < most ? m : most) * (k < K_AT_ONCE ? k : K_AT_ONCE);
}

// Rows row .. row + m, and a step of k.
static void run_step(const struct work *all, int64_t row, int64_t m, int64_t columns) {
    kv_product here[KV_MAX_PRODUCTS];
    struct work work = *all;
    for (int i = 0; i < work.n_products; i++) {
        here[i] = work.products[i];
        here[i].y += row * here[i].ldy;
        if (work.before > 0) here[i].beta = 1;
    }
    work.m = m, work.products = here;
    work.x.x += row * work.x.row + work.before * work.x.column;
    run(&work, columns);
}

void kv_products(int64_t m, int64_t k, kv_left x, const kv_product *products, int n_products) {
    struct work work = {
        .kernels = kv_isa(), .whole_k = k, .x = x, .products = products, .n_products = n_products};
    const int64_t most = rows_at_once(work.kernels, k);
    int64_t columns = 0;
    for (int i = 0; i < n_products; i++) columns += products[i].n;
    if (columns <= 0) return;
    for (int64_t row = 0; row < m; row += most) {
        work.before = 0;
        do {
            work.k = k - work.before < K_AT_ONCE ? k - work.before : K_AT_ONCE;
            run_step(&work, row, m - row < most ? m - row : most, columns);
            work.before += work.k;
        } while (work.before < k);
    }
}

void kv_product_of_row(int64_t k, const float *x, const kv_product *p) {
    enum { STRIP = 64 };
    const kv_kernels *kernels = kv_isa();
    const char *w = (const char *)p->w + (size_t)(p->first * p->ld) * kv_dtype_size(p->dtype);
    const int64_t strips = (p->n + STRIP - 1) / STRIP, row = p->ld * (int64_t)kv_dtype_size(p->dtype);
    const int threads = kv_ranges_threads(1, p->n, k);
    if (threads == 1) { // a team of one costs more than a small product
        kernels->dot(x, w, p->dtype, p->ld, p->n, k, p->beta, p->y);
        return;
    }
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t i = 0; i < strips; i++) {
        const int64_t first = i * STRIP, n = p->n - first < STRIP ? p->n - first : STRIP;
        kernels->dot(x, w + first * row, p->dtype, p->ld, n, k, p->beta, p->y + first);
    }
}

// X is split into parts once for all, so many rows and so much of k at a time that they stay in a core's cache; then
// the work falls into tasks: a strip of panels times a chunk of rows.
#include "core/gemm/product.h"

#include "core/gemm/isa.h"
#include "core/gemm/ranges.h"

#include <omp.h>
#include <string.h>

enum {
    STRIP = KV_UNIT_PANELS * KV_PANEL, // columns of a task, at most
    STRETCH = 8 * KV_K_BLOCK,          // of k at a time
    NUMBERS = 96 * STRETCH,            // of X at a time: 1.2 MB of parts
    DEPTH = 32                         // k is split by so much
};

struct work {
    const kv_unit *unit;
    int64_t m, k, whole_k, c; // k rows of W's whole_k, from c on
    kv_left x;
    uint16_t *parts;
    const kv_product *products;
    int64_t chunk, n_chunks, n_tasks; // chunks of rows
};

static int64_t up_to(int64_t n, int64_t multiple) {
    return (n + multiple - 1) / multiple * multiple;
}

static int64_t n_strips(const kv_product *p) {
    return (p->first % KV_PANEL + p->n + STRIP - 1) / STRIP;
}

static int64_t parts_of(int64_t rows, int64_t k) {
    return KV_UNIT_PARTS * rows * up_to(k, DEPTH);
}

static void split_rows(const struct work *work, int64_t row) {
    const int rows = (int)(work->m - row < KV_UNIT_ROWS ? work->m - row : KV_UNIT_ROWS);
    work->unit->split(work->parts + parts_of(row, work->k), work->x.x + row * work->x.row, work->x.row, rows,
                      work->k);
}

static void run_task(const void *context, int64_t task) {
    const struct work *work = context;
    const kv_product *p = work->products;
    int64_t index = task / work->n_chunks;
    for (; index >= n_strips(p); p++) index -= n_strips(p);
    const int64_t start = p->first / KV_PANEL * KV_PANEL + index * STRIP, end = p->first + p->n;
    const int64_t begin = start > p->first ? start : p->first,
                  stop = start + STRIP < end ? start + STRIP : end;
    const int64_t row = task % work->n_chunks * work->chunk;
    work->unit->strip(&(kv_strip){.parts = work->parts + parts_of(row, work->k),
                                  .rows = work->m - row < work->chunk ? work->m - row : work->chunk,
                                  .w = (const uint16_t *)p->w + start * work->whole_k + work->c * KV_PANEL,
                                  .w_panel = KV_PANEL * work->whole_k,
                                  .panels = (int)((stop - start + KV_PANEL - 1) / KV_PANEL),
                                  .k = work->k,
                                  .goes_on = work->c > 0,
                                  .skip = begin - start,
                                  .n = stop - begin,
                                  .beta = p->beta,
                                  .y = p->y + row * p->ldy + begin - p->first,
                                  .ldy = p->ldy});
}

static void run(struct work *work, int64_t strips) {
    const int threads = kv_ranges_threads(work->m, strips * STRIP, work->k);
    const int64_t blocks = (work->m + KV_UNIT_ROWS - 1) / KV_UNIT_ROWS;
    int64_t chunks = threads == 1 ? 1 : (4 * (int64_t)threads + strips - 1) / strips;
    if (chunks > blocks) chunks = blocks;
    work->chunk = (blocks + chunks - 1) / chunks * KV_UNIT_ROWS;
    work->n_chunks = (work->m + work->chunk - 1) / work->chunk;
    work->n_tasks = strips * work->n_chunks;
    kv_ranges ranges;
    kv_ranges_start(&ranges, work->n_tasks, threads);
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
#pragma omp for schedule(static)
        for (int64_t row = 0; row < work->m; row += KV_UNIT_ROWS) split_rows(work, row);
        kv_ranges_run(&ranges, run_task, work);
    }
}

static int64_t rows_at_once(int64_t m, int64_t k) {
    const int64_t most = NUMBERS / up_to(k < STRETCH ? k : STRETCH, DEPTH) / KV_UNIT_ROWS * KV_UNIT_ROWS;
    return up_to(m < most ? m : most, KV_UNIT_ROWS);
}

int64_t kv_products_by_unit_room(int64_t m, int64_t k) {
    if (!kv_isa()->unit || m < 1 || k < 1) return 0;
    return (parts_of(rows_at_once(m, k), k < STRETCH ? k : STRETCH) + 1) / 2;
}

bool kv_products_by_unit(int64_t m, int64_t k, kv_left x, const kv_product *products, int n_products) {
    const kv_unit *unit = kv_isa()->unit;
    if (!unit || m < 1 || k < 1 || x.column != 1) return false;
    int64_t strips = 0;
    for (int i = 0; i < n_products; i++) {
        if (products[i].kind != KV_RIGHT_PANELS || products[i].dtype != KV_BF16) return false;
        strips += n_strips(&products[i]);
    }
    const int64_t most = rows_at_once(m, k);
    uint16_t *parts = kv_products_kept(kv_products_by_unit_room(m, k));
    if (!parts) return false;
    for (int64_t row = 0; row < m; row += most) {
        kv_product here[KV_MAX_PRODUCTS];
        for (int i = 0; i < n_products; i++) here[i] = products[i], here[i].y += row * products[i].ldy;
        for (int64_t c = 0; c < k; c += STRETCH) {
            struct work work = {.unit = unit,
                                .m = m - row < most ? m - row : most,
                                .k = k - c < STRETCH ? k - c : STRETCH,
                                .whole_k = k,
                                .c = c,
                                .x = {x.x + row * x.row + c, x.row, 1},
                                .parts = parts,
                                .products = here};
            run(&work, strips);
        }
    }
    return true;
}

// Gradients of one slice of a step, apart from the parameters' own until all slices are added up.
#include "core/param_grads.h"

#include "core/param_ranges.h"

#include <stdlib.h>
#include <string.h>

// Rows of a table's gradient, in the order in which they came.
struct rows {
    struct rows *next;
    const int32_t *ids; // [n]
    const float *rows;  // [n, cols]
    int64_t n;
};

struct place {
    float *grad; // NULL before it is first written
    bool written;
    struct rows *first, *last;
};

struct kv_param_grads {
    kv_param **params;    // [n], by address
    struct place *places; // [n]
    int64_t n;
    kv_arena *rows;
    size_t taken; // bytes, in places
};

static int by_address(const void *a, const void *b) {
    const uintptr_t x = (uintptr_t) * (kv_param *const *)a, y = (uintptr_t) * (kv_param *const *)b;
    return (x > y) - (x < y);
}

kv_param_grads *kv_param_grads_create(kv_param *const *params, int64_t n) {
    kv_param_grads *g = calloc(1, sizeof *g);
    if (!g) return NULL;
    g->n = n;
    g->rows = kv_arena_create();
    g->params = malloc((size_t)(n + 1) * sizeof(*g->params));
    g->places = calloc((size_t)(n + 1), sizeof *g->places);
    if (!g->rows || !g->params || !g->places) {
        kv_param_grads_free(g);
        return NULL;
    }
    for (int64_t i = 0; i < n; i++) g->params[i] = params[i];
    qsort(g->params, (size_t)n, sizeof(*g->params), by_address);
    return g;
}

void kv_param_grads_free(kv_param_grads *grads) {
    if (!grads) return;
    for (int64_t i = 0; grads->places && i < grads->n; i++) free(grads->places[i].grad);
    kv_arena_free(grads->rows);
    free(grads->params);
    free(grads->places);
    free(grads);
}

void kv_param_grads_clear(kv_param_grads *grads) {
    kv_arena_reset(grads->rows);
    for (int64_t i = 0; i < grads->n; i++) {
        struct place *p = &grads->places[i];
        p->written = false, p->first = p->last = NULL;
    }
}

size_t kv_param_grads_peak(const kv_param_grads *grads) {
    return grads->taken + kv_arena_peak(grads->rows);
}

// Threads share out the columns, so two rows with the same id never race and always add up in the same order.
void kv_add_rows(float *sum, int64_t cols, const int32_t *ids, int64_t n, const float *rows) {
    enum { STRIP = 16 };
#pragma omp parallel for schedule(static) if (n * cols > 1 << 14)
    for (int64_t j0 = 0; j0 < cols; j0 += STRIP) {
        int64_t j1 = j0 + STRIP < cols ? j0 + STRIP : cols;
        for (int64_t i = 0; i < n; i++) {
            float *row = sum + ids[i] * cols;
            for (int64_t j = j0; j < j1; j++) row[j] += rows[i * cols + j];
        }
    }
}

// ---- Writing -------------------------------------------------------------------------------------------

static int64_t index_of(const kv_param_grads *grads, const kv_param *param) {
    int64_t low = 0, high = grads->n;
    while (low < high) {
        const int64_t middle = (low + high) / 2;
        if (grads->params[middle] == param) return middle;
        if ((uintptr_t)grads->params[middle] < (uintptr_t)param)
            low = middle + 1;
        else
            high = middle;
    }
    return -1;
}

static struct place *find(const kv_param_grads *grads, const kv_param *param) {
    const int64_t index = index_of(grads, param);
    return index < 0 ? NULL : &grads->places[index];
}

static float *new_place(kv_param_grads *grads, int64_t size) {
    enum { LINE = 64 };
    const size_t bytes = ((size_t)size * sizeof(float) + LINE - 1) / LINE * LINE;
    float *grad = aligned_alloc(LINE, bytes);
    if (!grad) return NULL;
    kv_prefer_huge_pages(grad, bytes);
    grads->taken += bytes;
    return grad;
}

float *kv_param_grads_at(kv_param_grads *grads, const kv_param *param, float *beta) {
    struct place *p = find(grads, param);
    if (p && !p->grad) p->grad = new_place(grads, kv_param_size(param));
    if (!p || !p->grad) return NULL;
    *beta = p->written ? 1 : 0;
    p->written = true;
    return p->grad;
}

bool kv_param_grads_add_rows(kv_param_grads *grads, const kv_param *table, const int32_t *ids, int64_t n,
                             const float *rows) {
    struct place *p = find(grads, table);
    if (p && p->written) {
        kv_add_rows(p->grad, table->cols, ids, n, rows);
        return true;
    }
    struct rows *entry = p ? kv_arena_alloc(grads->rows, sizeof *entry) : NULL;
    float *copy = entry ? kv_arena_floats(grads->rows, n * table->cols) : NULL;
    if (!copy) return false;
    memcpy(copy, rows, (size_t)(n * table->cols) * sizeof *copy);
    *entry = (struct rows){.ids = ids, .rows = copy, .n = n};
    if (p->last)
        p->last->next = entry;
    else
        p->first = entry;
    p->last = entry;
    return true;
}

// ---- Adding up -----------------------------------------------------------------------------------------

struct sum {
    kv_param_grads *const *grads;
    int64_t n;
    kv_param *const *params;
};

static void add_rows(const struct rows *r, int64_t cols, int64_t begin, int64_t end, float *restrict sum) {
    for (int64_t i = 0; i < r->n; i++) {
        const int64_t first = r->ids[i] * cols; // of the row, in the table
        const int64_t from = begin > first ? begin - first : 0, to = end - first < cols ? end - first : cols;
        const float *restrict row = r->rows + i * cols;
        for (int64_t j = from; j < to; j++) sum[first + j] += row[j];
    }
}

// A stretch of the sum stays in the first cache while one after the other is added to it.
static void add_range(void *context, int piece, int64_t param, int64_t begin, int64_t end) {
    (void)piece;
    enum { STRETCH = 2048 };
    const struct sum *s = context;
    const kv_param *to = s->params[param];
    const int64_t at = index_of(s->grads[0], to); // in all of them
    float *restrict sum = to->grad;
    for (int64_t from = begin; from < end; from += STRETCH) {
        const int64_t stop = end - from < STRETCH ? end : from + STRETCH;
        for (int64_t g = 0; g < s->n; g++) {
            const struct place *p = &s->grads[g]->places[at];
            const float *restrict grad = p->grad;
            if (!p->written) continue;
            for (int64_t i = from; i < stop; i++) sum[i] += grad[i];
        }
    }
    for (int64_t g = 0; g < s->n; g++)
        for (const struct rows *r = s->grads[g]->places[at].first; r; r = r->next)
            add_rows(r, to->cols, begin, end, sum);
}

void kv_param_grads_add_up(kv_param_grads *const *grads, int64_t n, kv_param *const *params,
                           int64_t n_params) {
    struct sum sum = {grads, n, params};
    if (n > 0) kv_for_ranges(params, n_params, add_range, &sum);
}

// y = [x_0, x_1, …], of every block of columns in turn:
//   y[:, b · Σ w_i + Σ_{j<i} w_j + c] = x_i[:, b · w_i + c],  w_i = x_i.cols / n_blocks
// dx_i is what of dy came from x_i.
#include "core/ops.h"

#include <assert.h>
#include <string.h>

struct concat_saved {
    kv_tensor **parts;
    int64_t n, n_blocks;
};

// Columns of y from one block to the next.
static int64_t block_width(const struct concat_saved *s) {
    int64_t width = 0;
    for (int64_t i = 0; i < s->n; i++) width += s->parts[i]->cols / s->n_blocks;
    return width;
}

static void take_part(kv_tape *tape, const struct concat_saved *s, kv_tensor *x, const kv_tensor *y,
                      int64_t first) {
    float beta, *dx = kv_tape_grad(tape, x, &beta);
    if (!dx) return;
    const int64_t width = x->cols / s->n_blocks, step = block_width(s);
#pragma omp parallel for schedule(static) if (x->rows * x->cols > 1 << 14)
    for (int64_t i = 0; i < x->rows; i++)
        for (int64_t b = 0; b < s->n_blocks; b++) {
            const float *dy = y->grad + i * y->cols + b * step + first;
            float *row = dx + i * x->cols + b * width;
            for (int64_t j = 0; j < width; j++) row[j] = beta == 0 ? dy[j] : row[j] + dy[j];
        }
}

static void concat_backward(kv_tape *tape, const kv_record *r) {
    const struct concat_saved *s = r->saved;
    int64_t first = 0;
    for (int64_t i = 0; i < s->n; i++) {
        take_part(tape, s, s->parts[i], r->out, first);
        first += s->parts[i]->cols / s->n_blocks;
    }
}

static void copy_part(const struct concat_saved *s, const kv_tensor *x, kv_tensor *y, int64_t first) {
    const int64_t width = x->cols / s->n_blocks, step = block_width(s);
#pragma omp parallel for schedule(static) if (x->rows * x->cols > 1 << 14)
    for (int64_t i = 0; i < x->rows; i++)
        for (int64_t b = 0; b < s->n_blocks; b++)
            memcpy(y->data + i * y->cols + b * step + first, x->data + i * x->cols + b * width,
                   (size_t)width * sizeof(float));
}

kv_tensor *kv_concat(kv_tape *tape, kv_tensor *const *parts, int64_t n, int64_t n_blocks) {
    int64_t cols = 0;
    for (int64_t i = 0; i < n; i++) {
        if (!parts[i]) return NULL;
        assert(parts[i]->rows == parts[0]->rows && parts[i]->cols % n_blocks == 0);
        cols += parts[i]->cols;
    }
    if (n == 1) return parts[0];
    kv_tensor *y = kv_tape_tensor(tape, parts[0]->rows, cols);
    kv_tensor **own = kv_arena_alloc(kv_tape_arena(tape), (size_t)n * sizeof(kv_tensor *));
    if (!y || !own) return kv_tape_fail(tape, KV_ERR_MEMORY, "out of memory for what a map reads");
    memcpy(own, parts, (size_t)n * sizeof(kv_tensor *));
    const struct concat_saved saved = {own, n, n_blocks};
    int64_t first = 0;
    for (int64_t i = 0; i < n; i++) {
        copy_part(&saved, parts[i], y, first);
        first += parts[i]->cols / n_blocks;
    }
    if (!kv_tape_wants(tape, (const kv_tensor *const *)parts, (int)n, NULL, NULL)) return y;
    kv_record *r = kv_tape_record(tape, concat_backward, y, sizeof saved);
    if (!r) return NULL;
    memcpy(r->saved, &saved, sizeof saved);
    return y;
}

// y_i = x[rows_i]        dx[rows_i] += dy_i
#include "core/ops.h"

#include <assert.h>
#include <string.h>

struct gather_saved {
    const int64_t *rows;
};

static void gather_backward(kv_tape *tape, const kv_record *r) {
    const int64_t *rows = ((struct gather_saved *)r->saved)->rows;
    kv_tensor *x = r->in[0];
    float beta, *dx = kv_tape_grad(tape, x, &beta);
    if (!dx) return;
    if (beta == 0) memset(dx, 0, (size_t)(x->rows * x->cols) * sizeof *dx);
    for (int64_t i = 0; i < r->out->rows; i++)
        for (int64_t j = 0; j < x->cols; j++) dx[rows[i] * x->cols + j] += r->out->grad[i * x->cols + j];
}

kv_tensor *kv_gather_rows(kv_tape *tape, kv_tensor *x, const int64_t *rows, int64_t n) {
    if (!x) return NULL;
    kv_tensor *y = kv_tape_tensor(tape, n, x->cols);
    if (!y) return NULL;
    for (int64_t i = 0; i < n; i++) {
        assert(rows[i] >= 0 && rows[i] < x->rows);
        memcpy(y->data + i * x->cols, x->data + rows[i] * x->cols, (size_t)x->cols * sizeof(float));
    }
    if (kv_tape_wants(tape, (const kv_tensor *const[]){x}, 1, NULL, NULL)) {
        kv_record *r = kv_tape_record(tape, gather_backward, y, sizeof(struct gather_saved));
        if (!r) return NULL;
        r->in[0] = x;
        ((struct gather_saved *)r->saved)->rows = rows;
    }
    return y;
}

// y = [a, b]        da = dy[:, :a.cols]        db = dy[:, a.cols:]
#include "core/ops.h"

#include <assert.h>
#include <string.h>

// The columns of dy from `first` on, as many as x has, onto dx.
static void take_columns(kv_tape *tape, kv_tensor *x, const kv_tensor *y, int64_t first) {
    float beta, *dx = kv_tape_grad(tape, x, &beta);
    if (!dx) return;
#pragma omp parallel for schedule(static) if (x->rows * x->cols > 1 << 14)
    for (int64_t i = 0; i < x->rows; i++) {
        const float *dy = y->grad + i * y->cols + first;
        float *row = dx + i * x->cols;
        for (int64_t j = 0; j < x->cols; j++) row[j] = beta == 0 ? dy[j] : row[j] + dy[j];
    }
}

static void concat_backward(kv_tape *tape, const kv_record *r) {
    take_columns(tape, r->in[0], r->out, 0);
    take_columns(tape, r->in[1], r->out, r->in[0]->cols);
}

kv_tensor *kv_concat(kv_tape *tape, kv_tensor *a, kv_tensor *b) {
    if (!a || !b) return NULL;
    assert(a->rows == b->rows);
    kv_tensor *y = kv_tape_tensor(tape, a->rows, a->cols + b->cols);
    if (!y) return NULL;
#pragma omp parallel for schedule(static) if (y->rows * y->cols > 1 << 14)
    for (int64_t i = 0; i < y->rows; i++) {
        memcpy(y->data + i * y->cols, a->data + i * a->cols, (size_t)a->cols * sizeof(float));
        memcpy(y->data + i * y->cols + a->cols, b->data + i * b->cols, (size_t)b->cols * sizeof(float));
    }
    if (kv_tape_wants(tape, (const kv_tensor *const[]){a, b}, 2, NULL, NULL)) {
        kv_record *r = kv_tape_record(tape, concat_backward, y, 0);
        if (!r) return NULL;
        r->in[0] = a, r->in[1] = b;
    }
    return y;
}

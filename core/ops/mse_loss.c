// loss = Σ_{kept rows} (x - t)² / (n_kept · cols)        dx = 2 (x - t) / (n_kept · cols) · dloss
#include "core/ops.h"

#include <assert.h>
#include <string.h>

struct mse_saved {
    const kv_tensor *target;
    const uint8_t *keep;
    double n_kept;
};

static void mse_backward(kv_tape *tape, const kv_record *r) {
    const struct mse_saved *s = r->saved;
    kv_tensor *x = r->in[0];
    float beta, *dx = kv_tape_grad(tape, x, &beta);
    if (!dx) return;
    const int64_t cols = x->cols;
    const float step = (float)(2 * (double)*r->out->grad / (s->n_kept * (double)cols));
#pragma omp parallel for schedule(static) if (x->rows * cols > 1 << 14)
    for (int64_t i = 0; i < x->rows; i++) {
        const float *a = x->data + i * cols, *t = s->target->data + i * cols;
        float *d = dx + i * cols;
        if (beta == 0) memset(d, 0, (size_t)cols * sizeof *d);
        // A row that is left out may hold anything, infinity too.
        for (int64_t j = 0; s->keep[i] && j < cols; j++) d[j] += step * (a[j] - t[j]);
    }
}

kv_tensor *kv_mse_loss(kv_tape *tape, kv_tensor *x, const kv_tensor *target, const uint8_t *keep,
                       double n_kept) {
    if (!x || !target) return NULL;
    assert(x->rows == target->rows && x->cols == target->cols && n_kept > 0);
    const int64_t cols = x->cols;
    kv_tensor *loss = kv_tape_tensor(tape, 1, 1);
    float *row_sums = kv_arena_floats(kv_tape_arena(tape), x->rows);
    if (!loss || !row_sums)
        return kv_tape_fail(tape, KV_ERR_MEMORY, "out of memory for the loss of hidden states");
#pragma omp parallel for schedule(static) if (x->rows * cols > 1 << 14)
    for (int64_t i = 0; i < x->rows; i++) {
        const float *a = x->data + i * cols, *t = target->data + i * cols;
        float sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t j = 0; j < cols; j++) sum += (a[j] - t[j]) * (a[j] - t[j]);
        row_sums[i] = keep[i] ? sum : 0;
    }
    double total = 0;
    for (int64_t i = 0; i < x->rows; i++) total += (double)row_sums[i];
    *loss->data = (float)(total / (n_kept * (double)cols));
    if (kv_tape_wants(tape, (const kv_tensor *const[]){x}, 1, NULL, NULL)) {
        kv_record *r = kv_tape_record(tape, mse_backward, loss, sizeof(struct mse_saved));
        if (!r) return NULL;
        r->in[0] = x;
        *(struct mse_saved *)r->saved = (struct mse_saved){.target = target, .keep = keep, .n_kept = n_kept};
    }
    return loss;
}

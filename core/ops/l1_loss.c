// loss = Σ_{kept rows} |x - t| / (n_kept · cols)        dx = sign(x - t) / (n_kept · cols) · dloss
#include "core/ops.h"

#include <assert.h>
#include <math.h>
#include <string.h>

struct l1_saved {
    const kv_tensor *target;
    const uint8_t *keep;
    double n_kept;
};

static void l1_backward(kv_tape *tape, const kv_record *r) {
    const struct l1_saved *s = r->saved;
    kv_tensor *x = r->in[0];
    float beta, *dx = kv_tape_grad(tape, x, &beta);
    if (!dx) return;
    int64_t cols = x->cols;
    float step = (float)((double)*r->out->grad / (s->n_kept * (double)cols));
#pragma omp parallel for schedule(static) if (x->rows * cols > 1 << 14)
    for (int64_t i = 0; i < x->rows; i++) {
        const float *a = x->data + i * cols, *t = s->target->data + i * cols;
        float *d = dx + i * cols, own = s->keep[i] ? step : 0;
        if (beta == 0) memset(d, 0, (size_t)cols * sizeof *d);
        for (int64_t j = 0; j < cols; j++) d[j] += a[j] > t[j] ? own : (a[j] < t[j] ? -own : 0);
    }
}

kv_tensor *kv_l1_loss(kv_tape *tape, kv_tensor *x, const kv_tensor *target, const uint8_t *keep,
                      double n_kept) {
    if (!x || !target) return NULL;
    assert(x->rows == target->rows && x->cols == target->cols && n_kept > 0);
    kv_tensor *loss = kv_tape_tensor(tape, 1, 1);
    float *row_sums = kv_arena_floats(kv_tape_arena(tape), x->rows);
    if (!loss || !row_sums)
        return kv_tape_fail(tape, KV_ERR_MEMORY, "out of memory for the consistency loss");
    int64_t cols = x->cols;
#pragma omp parallel for schedule(static) if (x->rows * cols > 1 << 14)
    for (int64_t i = 0; i < x->rows; i++) {
        const float *a = x->data + i * cols, *t = target->data + i * cols;
        float sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t j = 0; j < cols; j++) sum += fabsf(a[j] - t[j]);
        row_sums[i] = keep[i] ? sum : 0;
    }
    double total = 0;
    for (int64_t i = 0; i < x->rows; i++) total += (double)row_sums[i];
    *loss->data = (float)(total / (n_kept * (double)cols));
    if (kv_tape_wants(tape, (const kv_tensor *const[]){x}, 1, NULL, NULL)) {
        kv_record *r = kv_tape_record(tape, l1_backward, loss, sizeof(struct l1_saved));
        if (!r) return NULL;
        r->in[0] = x;
        *(struct l1_saved *)r->saved = (struct l1_saved){.target = target, .keep = keep, .n_kept = n_kept};
    }
    return loss;
}

// y = x · Wᵀ + b        dx = dy · W        dW = dyᵀ · x        db = Σ_rows dy
#include "core/gemm.h"
#include "core/ops.h"

#include <assert.h>

static void add_bias(kv_tensor *y, const float *bias) {
#pragma omp parallel for schedule(static) if (y->rows * y->cols > 1 << 14)
    for (int64_t i = 0; i < y->rows; i++) {
        float *row = y->data + i * y->cols;
        for (int64_t j = 0; j < y->cols; j++) row[j] += bias[j];
    }
}

// Columns are dealt out to threads in strips, so that the order of additions does not depend on how many
// there are.
static void add_column_sums(float *restrict sum, const float *restrict dy, int64_t rows, int64_t cols) {
    enum { STRIP = 64 };
#pragma omp parallel for schedule(static) if (rows * cols > 1 << 15)
    for (int64_t j0 = 0; j0 < cols; j0 += STRIP) {
        int64_t width = cols - j0 < STRIP ? cols - j0 : STRIP;
        float partial[STRIP] = {0};
        for (int64_t i = 0; i < rows; i++)
            for (int64_t j = 0; j < width; j++) partial[j] += dy[i * cols + j0 + j];
        for (int64_t j = 0; j < width; j++) sum[j0 + j] += partial[j];
    }
}

static void linear_backward(kv_tape *tape, const kv_record *r) {
    kv_tensor *x = r->in[0];
    kv_param *w = r->weight, *bias = r->bias;
    const float *dy = r->out->grad;
    int64_t m = x->rows, in = x->cols, out = w->rows;
    float beta, *dx = kv_tape_grad(tape, x, &beta);
    if (dx && !kv_gemm_weight(kv_tape_arena(tape), m, dy, out, w, 0, out, beta, dx, in))
        kv_tape_fail(tape, KV_ERR_MEMORY, "out of memory for the gradient of %s's input", w->name);
    if (w->grad) kv_gemm_tn(out, in, m, dy, out, x->data, in, 1, w->grad, in);
    if (bias && bias->grad) add_column_sums(bias->grad, dy, m, out);
}

kv_tensor *kv_linear(kv_tape *tape, kv_tensor *x, kv_param *w, kv_param *bias) {
    if (!x) return NULL;
    assert(x->cols == w->cols && (!bias || bias->cols == w->rows));
    kv_tensor *y = kv_tape_tensor(tape, x->rows, w->rows);
    if (!y) return NULL;
    if (!kv_gemm_weight_t(kv_tape_arena(tape), x->rows, x->data, x->cols, w, 0, w->rows, 0, y->data, y->cols))
        return kv_tape_fail(tape, KV_ERR_MEMORY, "out of memory for a product with %s", w->name);
    if (bias) {
        kv_arena_mark mark = kv_arena_get_mark(kv_tape_arena(tape));
        float *wide = kv_arena_floats(kv_tape_arena(tape), bias->cols);
        if (!wide) return kv_tape_fail(tape, KV_ERR_MEMORY, "out of memory for %s", bias->name);
        kv_widen(wide, bias->data, bias->dtype, bias->cols);
        add_bias(y, wide);
        kv_arena_release(kv_tape_arena(tape), mark);
    }
    if (kv_tape_wants(tape, (const kv_tensor *const[]){x}, 1, w, bias)) {
        kv_record *r = kv_tape_record(tape, linear_backward, y, 0);
        if (!r) return NULL;
        r->in[0] = x, r->weight = w, r->bias = bias;
    }
    return y;
}

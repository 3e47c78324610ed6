// y = x · Wᵀ + b        dx = dy · W        dW = dyᵀ · x        db = Σ_rows dy
// In blocks: the same of every block of columns of x and rows of W, which make a block of columns of y.
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
static void add_column_sums(float beta, float *restrict sum, const float *restrict dy, int64_t rows,
                            int64_t cols) {
    enum { STRIP = 64 };
#pragma omp parallel for schedule(static) if (rows * cols > 1 << 15)
    for (int64_t j0 = 0; j0 < cols; j0 += STRIP) {
        int64_t width = cols - j0 < STRIP ? cols - j0 : STRIP;
        float partial[STRIP] = {0};
        for (int64_t i = 0; i < rows; i++)
            for (int64_t j = 0; j < width; j++) partial[j] += dy[i * cols + j0 + j];
        for (int64_t j = 0; j < width; j++) sum[j0 + j] = beta == 0 ? partial[j] : sum[j0 + j] + partial[j];
    }
}

struct linear_saved {
    int64_t n_blocks;
};

static void linear_backward(kv_tape *tape, const kv_record *r) {
    kv_tensor *x = r->in[0];
    kv_param *w = r->weight;
    const float *dy = r->out->grad;
    const int64_t n_blocks = ((const struct linear_saved *)r->saved)->n_blocks;
    const int64_t m = x->rows, out = w->rows / n_blocks, in = w->cols;
    float beta, *dx = kv_tape_grad(tape, x, &beta);
    float w_beta, *dw = kv_tape_param_grad(tape, w, &w_beta);
    float b_beta, *db = kv_tape_param_grad(tape, r->bias, &b_beta);
    for (int64_t b = 0; b < n_blocks; b++) {
        const float *dy_b = dy + b * out;
        if (dx) kv_gemm_weight(m, dy_b, w->rows, w, b * out, out, beta, dx + b * in, x->cols);
        if (dw)
            kv_gemm_tn(out, in, m, dy_b, w->rows, x->data + b * in, x->cols, w_beta, dw + b * out * in, in);
    }
    if (db) add_column_sums(b_beta, db, dy, m, w->rows);
}

kv_tensor *kv_linear(kv_tape *tape, kv_tensor *x, kv_param *w, kv_param *bias) {
    return kv_linear_blocks(tape, x, w, bias, 1);
}

kv_tensor *kv_linear_blocks(kv_tape *tape, kv_tensor *x, kv_param *w, kv_param *bias, int64_t n_blocks) {
    if (!x) return NULL;
    assert(x->cols == w->cols * n_blocks && w->rows % n_blocks == 0 && (!bias || bias->cols == w->rows));
    kv_tensor *y = kv_tape_tensor(tape, x->rows, w->rows);
    if (!y) return NULL;
    const int64_t out = w->rows / n_blocks;
    for (int64_t b = 0; b < n_blocks; b++)
        kv_gemm_weight_t(x->rows, x->data + b * w->cols, x->cols, w, b * out, out, 0, y->data + b * out,
                         y->cols);
    if (bias) {
        kv_arena_mark mark = kv_arena_get_mark(kv_tape_arena(tape));
        float *wide = kv_arena_floats(kv_tape_arena(tape), bias->cols);
        if (!wide) return kv_tape_fail(tape, KV_ERR_MEMORY, "out of memory for %s", bias->name);
        kv_widen(wide, bias->data, bias->dtype, bias->cols);
        add_bias(y, wide);
        kv_arena_release(kv_tape_arena(tape), mark);
    }
    if (kv_tape_wants(tape, (const kv_tensor *const[]){x}, 1, w, bias)) {
        kv_record *r = kv_tape_record(tape, linear_backward, y, sizeof(struct linear_saved));
        if (!r) return NULL;
        r->in[0] = x, r->weight = w, r->bias = bias;
        ((struct linear_saved *)r->saved)->n_blocks = n_blocks;
    }
    return y;
}

// y = x · Wᵀ + b        dx = dy · W        dW = dyᵀ · x        db = Σ_rows dy
// In blocks: the same of every block of columns of x and rows of W, which make a block of columns of y.
// Of several weights: dx = Σ_i dy_i · W_i. Onto r: y = r + x · Wᵀ, dr = dy.
#include "core/gemm.h"
#include "core/ops.h"
#include "core/ops/loops.h"

#include <assert.h>
#include <string.h>

static void add_bias(kv_tensor *y, const float *bias) {
    KV_ROW_LOOP(
        y->rows * y->cols > 1 << 14, for (int64_t i = 0; i < y->rows; i++) {
            float *row = y->data + i * y->cols;
            for (int64_t j = 0; j < y->cols; j++) row[j] += bias[j];
        });
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

// What dy, of y = x · wᵀ + bias, adds to the gradients of all three.
static void give_back(kv_tape *tape, kv_tensor *x, kv_param *w, const kv_param *bias, const float *dy,
                      int64_t n_blocks) {
    const int64_t m = x->rows, out = w->rows / n_blocks, in = w->cols;
    float beta, *dx = kv_tape_grad(tape, x, &beta);
    float w_beta, *dw = kv_tape_param_grad(tape, w, &w_beta);
    float b_beta, *db = kv_tape_param_grad(tape, bias, &b_beta);
    for (int64_t b = 0; b < n_blocks; b++) {
        const float *dy_b = dy + b * out;
        if (dx) kv_gemm_weight(m, dy_b, w->rows, w, b * out, out, beta, dx + b * in, x->cols);
        if (dw)
            kv_gemm_tn(out, in, m, dy_b, w->rows, x->data + b * in, x->cols, w_beta, dw + b * out * in, in);
    }
    if (db) add_column_sums(b_beta, db, dy, m, w->rows);
}

static bool put_bias(kv_tape *tape, kv_tensor *y, const kv_param *bias) {
    if (!bias) return true;
    const kv_arena_mark mark = kv_arena_get_mark(kv_tape_arena(tape));
    float *wide = kv_arena_floats(kv_tape_arena(tape), bias->cols);
    if (!wide) return kv_tape_fail(tape, KV_ERR_MEMORY, "out of memory for %s", bias->name);
    kv_widen(wide, bias->data, bias->dtype, bias->cols);
    add_bias(y, wide);
    kv_arena_release(kv_tape_arena(tape), mark);
    return true;
}

// ---- One weight ----------------------------------------------------------------------------------------

struct linear_saved {
    int64_t n_blocks;
};

static void linear_backward(kv_tape *tape, const kv_record *r) {
    give_back(tape, r->in[0], r->weight, r->bias, r->out->grad,
              ((const struct linear_saved *)r->saved)->n_blocks);
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
    if (!put_bias(tape, y, bias)) return NULL;
    if (kv_tape_wants(tape, (const kv_tensor *const[]){x}, 1, w, bias)) {
        kv_record *r = kv_tape_record(tape, linear_backward, y, sizeof(struct linear_saved));
        if (!r) return NULL;
        r->in[0] = x, r->weight = w, r->bias = bias;
        ((struct linear_saved *)r->saved)->n_blocks = n_blocks;
    }
    return y;
}

// ---- Several weights -----------------------------------------------------------------------------------

struct many_saved {
    int n;
    kv_param *weights[2 * KV_LINEAR_MANY]; // w, then bias or NULL, of each
    kv_tensor *y[KV_LINEAR_MANY];
};

// Those whose gradient nobody has asked for are passed over.
static void many_backward(kv_tape *tape, const kv_record *r) {
    const struct many_saved *s = r->saved;
    for (int i = 0; i < s->n; i++)
        if (s->y[i]->grad)
            give_back(tape, r->in[0], s->weights[2 * i], s->weights[2 * i + 1], s->y[i]->grad, 1);
}

// The record is that of the first output that wants a gradient; `wants` says which do.
static bool record_many(kv_tape *tape, kv_tensor *x, const struct many_saved *all, const bool *wants) {
    int first = 0;
    while (first < all->n && !wants[first]) first++;
    if (first == all->n) return true;
    kv_record *r = kv_tape_record(tape, many_backward, all->y[first], sizeof *all);
    if (!r) return false;
    struct many_saved *saved = r->saved;
    *saved = *all;
    for (int i = 0; i < all->n; i++) all->y[i]->wants_grad = wants[i];
    r->in[0] = x;
    r->more_outputs = saved->y, r->n_more_outputs = saved->n;
    r->more_weights = saved->weights, r->n_more_weights = 2 * saved->n;
    return true;
}

bool kv_linear_many(kv_tape *tape, kv_tensor *x, kv_param *const *w, kv_param *const *bias, int n,
                    kv_tensor **y) {
    kv_gemm_part parts[KV_LINEAR_MANY] = {{0}};
    bool wants[KV_LINEAR_MANY];
    struct many_saved all = {.n = n};
    assert(n <= KV_LINEAR_MANY);
    for (int i = 0; i < n; i++) y[i] = NULL;
    if (!x) return false;
    for (int i = 0; i < n; i++) {
        kv_param *b = bias ? bias[i] : NULL;
        assert(x->cols == w[i]->cols && (!b || b->cols == w[i]->rows));
        all.weights[2 * i] = w[i], all.weights[2 * i + 1] = b,
                        all.y[i] = kv_tape_tensor(tape, x->rows, w[i]->rows);
        if (!all.y[i]) return false;
        wants[i] = kv_tape_wants(tape, (const kv_tensor *const[]){x}, 1, w[i], b);
        parts[i] = (kv_gemm_part){w[i], 0, w[i]->rows, 0, all.y[i]->data, w[i]->rows};
    }
    kv_gemm_weights_t(x->rows, x->data, x->cols, parts, n);
    for (int i = 0; i < n; i++)
        if (!put_bias(tape, all.y[i], all.weights[2 * i + 1])) return false;
    if (!record_many(tape, x, &all, wants)) return false;
    for (int i = 0; i < n; i++) y[i] = all.y[i];
    return true;
}

// ---- Onto what there is --------------------------------------------------------------------------------

static void onto_backward(kv_tape *tape, const kv_record *r) {
    kv_tensor *x = r->in[0], *residual = r->in[1];
    float beta, *dy = r->out->grad;
    give_back(tape, x, r->weight, NULL, dy, 1);
    if (residual->wants_grad && !residual->grad) {
        residual->grad = dy; // nobody reads the output's gradient after this: hand the buffer on
        return;
    }
    float *restrict to = kv_tape_grad(tape, residual, &beta);
    const int64_t n = residual->rows * residual->cols;
    if (!to) return;
#pragma omp parallel for simd schedule(static) if (parallel : n > 1 << 14)
    for (int64_t i = 0; i < n; i++) to[i] += dy[i];
}

kv_tensor *kv_linear_onto(kv_tape *tape, kv_tensor *residual, kv_tensor *x, kv_param *w) {
    if (!residual || !x) return NULL;
    assert(x->cols == w->cols && residual->rows == x->rows && residual->cols == w->rows);
    kv_tensor *y = kv_tape_tensor(tape, x->rows, w->rows);
    if (!y) return NULL;
    memcpy(y->data, residual->data, (size_t)(y->rows * y->cols) * sizeof *y->data);
    kv_gemm_weight_t(x->rows, x->data, x->cols, w, 0, w->rows, 1, y->data, y->cols);
    if (kv_tape_wants(tape, (const kv_tensor *const[]){x, residual}, 2, w, NULL)) {
        kv_record *r = kv_tape_record(tape, onto_backward, y, 0);
        if (!r) return NULL;
        r->in[0] = x, r->in[1] = residual, r->weight = w;
    }
    return y;
}

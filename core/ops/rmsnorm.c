// y = x · s · w, s = (mean(x²) + eps)^(-1/2), over groups of `width` columns
//                                                                          [Zhang & Sennrich 2019, eq. 4]
//
// dx = s · (w ⊙ dy) - x · s³ · mean(w ⊙ dy ⊙ x)        dw = Σ_groups dy ⊙ x · s
#include "core/ops.h"
#include "core/ops/loops.h"

#include <assert.h>
#include <math.h>
#include <omp.h>
#include <string.h>

struct rmsnorm_saved {
    float eps;
};

static inline float inverse_rms(const float *x, int64_t width, float eps) {
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t j = 0; j < width; j++) sum += x[j] * x[j];
    return 1.0f / sqrtf(sum / (float)width + eps);
}

static inline void backward_group(const float *restrict x, const float *restrict w, const float *restrict dy,
                                  float s, int64_t width, float beta, float *restrict dx) {
    float dot = 0;
#pragma omp simd reduction(+ : dot)
    for (int64_t j = 0; j < width; j++) dot += w[j] * dy[j] * x[j];
    float along = dot / (float)width * s * s * s;
    if (beta == 0)
        for (int64_t j = 0; j < width; j++) dx[j] = s * w[j] * dy[j] - along * x[j];
    else
        for (int64_t j = 0; j < width; j++) dx[j] += s * w[j] * dy[j] - along * x[j];
}

static void rmsnorm_backward(kv_tape *tape, const kv_record *r) {
    kv_tensor *x = r->in[0];
    kv_arena *arena = kv_tape_arena(tape);
    int64_t width = r->weight->cols, groups = x->rows * (x->cols / width);
    float eps = ((struct rmsnorm_saved *)r->saved)->eps;
    float beta = 0, *dx = kv_tape_grad(tape, x, &beta);
    float w_beta, *dw = kv_tape_param_grad(tape, r->weight, &w_beta);
    kv_arena_mark mark = kv_arena_get_mark(arena);
    int n_threads = omp_get_max_threads();
    float *w = kv_arena_floats(arena, width), *partial = kv_arena_floats(arena, n_threads * width);
    if (!w || !partial) {
        kv_tape_fail(tape, KV_ERR_MEMORY, "out of memory for the gradient of %s", r->weight->name);
        return;
    }
    kv_widen(w, r->weight->data, r->weight->dtype, width);
    memset(partial, 0, (size_t)(n_threads * width) * sizeof *partial);
#pragma omp parallel num_threads(n_threads) if (groups * width > 1 << 13)
    {
        float *sum = partial + omp_get_thread_num() * width;
#pragma omp for schedule(static)
        for (int64_t i = 0; i < groups; i++) {
            const float *row = x->data + i * width, *dy = r->out->grad + i * width;
            float s = inverse_rms(row, width, eps);
            if (dx) backward_group(row, w, dy, s, width, beta, dx + i * width);
            if (dw)
                for (int64_t j = 0; j < width; j++) sum[j] += dy[j] * row[j] * s;
        }
    }
    if (dw && w_beta == 0) memset(dw, 0, (size_t)width * sizeof *dw);
    if (dw)
        for (int t = 0; t < n_threads; t++)
            for (int64_t j = 0; j < width; j++) dw[j] += partial[t * width + j];
    kv_arena_release(arena, mark);
}

static void norm(const float *restrict x, const float *restrict w, int64_t width, float eps,
                 float *restrict y) {
    const float s = inverse_rms(x, width, eps);
    for (int64_t j = 0; j < width; j++) y[j] = x[j] * s * w[j];
}

kv_tensor *kv_rmsnorm(kv_tape *tape, kv_tensor *x, kv_param *weight, float eps) {
    if (!x) return NULL;
    int64_t width = weight->cols;
    assert(x->cols % width == 0);
    kv_tensor *y = kv_tape_tensor(tape, x->rows, x->cols);
    if (!y) return NULL;
    kv_arena_mark mark = kv_arena_get_mark(kv_tape_arena(tape));
    float *w = kv_arena_floats(kv_tape_arena(tape), width);
    if (!w) return kv_tape_fail(tape, KV_ERR_MEMORY, "out of memory for %s", weight->name);
    kv_widen(w, weight->data, weight->dtype, width);
    int64_t groups = x->rows * (x->cols / width);
    KV_ROW_LOOP(groups * width > 1 << 13, for (int64_t i = 0; i < groups; i++)
                                              norm(x->data + i * width, w, width, eps, y->data + i * width););
    kv_arena_release(kv_tape_arena(tape), mark);
    if (kv_tape_wants(tape, (const kv_tensor *const[]){x}, 1, weight, NULL)) {
        kv_record *r = kv_tape_record(tape, rmsnorm_backward, y, sizeof(struct rmsnorm_saved));
        if (!r) return NULL;
        r->in[0] = x, r->weight = weight;
        ((struct rmsnorm_saved *)r->saved)->eps = eps;
    }
    return y;
}

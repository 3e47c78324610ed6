// y = silu(x), silu(x) = x·σ(x)        dx = dy ⊙ σ(x)·(1 + x·(1 - σ(x)))
//                                                    [Hendrycks & Gimpel 2016; Ramachandran et al. 2017]
#include "core/ops.h"
#include "core/ops/loops.h"
#include "core/vecmath.h"

static inline float sigmoid(float a) {
    return 1.0f / (1.0f + kv_expf(-a));
}

static void silu_backward(kv_tape *tape, const kv_record *r) {
    kv_tensor *in = r->in[0];
    float beta = 0, *restrict dx = kv_tape_grad(tape, in, &beta);
    const float *restrict x = in->data, *restrict dy = r->out->grad;
    const int64_t n = in->rows * in->cols;
    if (!dx) return;
#pragma omp parallel for simd schedule(static) if (parallel : n > 1 << 13)
    for (int64_t i = 0; i < n; i++) {
        const float s = sigmoid(x[i]), d = dy[i] * s * (1 + x[i] * (1 - s));
        dx[i] = beta == 0 ? d : dx[i] + d;
    }
}

kv_tensor *kv_silu(kv_tape *tape, kv_tensor *x) {
    if (!x) return NULL;
    kv_tensor *y = kv_tape_tensor(tape, x->rows, x->cols);
    if (!y) return NULL;
    const float *restrict in = x->data;
    float *restrict out = y->data;
    const int64_t n = x->rows * x->cols;
    KV_ELEMENT_LOOP(n > 1 << 13, for (int64_t i = 0; i < n; i++) out[i] = in[i] * sigmoid(in[i]););
    if (kv_tape_wants(tape, (const kv_tensor *const[]){x}, 1, NULL, NULL)) {
        kv_record *r = kv_tape_record(tape, silu_backward, y, 0);
        if (!r) return NULL;
        r->in[0] = x;
    }
    return y;
}

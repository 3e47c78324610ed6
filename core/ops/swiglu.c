// y = silu(g) ⊙ u, silu(g) = g·σ(g)
//                                                                                   [Shazeer 2020, eq. 6]
//
// dg = dy ⊙ u ⊙ σ(g)·(1 + g·(1 - σ(g)))        du = dy ⊙ silu(g)
#include "core/ops.h"
#include "core/vecmath.h"

#include <assert.h>

static inline float sigmoid(float a) {
    return 1.0f / (1.0f + kv_expf(-a));
}

static void swiglu_backward(kv_tape *tape, const kv_record *r) {
    kv_tensor *gate = r->in[0], *up = r->in[1];
    float gate_beta = 0, up_beta = 0;
    float *restrict dgate = kv_tape_grad(tape, gate, &gate_beta);
    float *restrict dup = kv_tape_grad(tape, up, &up_beta);
    const float *restrict g = gate->data, *restrict u = up->data, *restrict dy = r->out->grad;
    int64_t n = gate->rows * gate->cols;
    if (dgate) {
#pragma omp parallel for simd schedule(static) if (n > 1 << 13)
        for (int64_t i = 0; i < n; i++) {
            float s = sigmoid(g[i]), d = dy[i] * u[i] * s * (1 + g[i] * (1 - s));
            dgate[i] = gate_beta == 0 ? d : dgate[i] + d;
        }
    }
    if (dup) {
#pragma omp parallel for simd schedule(static) if (n > 1 << 13)
        for (int64_t i = 0; i < n; i++) {
            float d = dy[i] * g[i] * sigmoid(g[i]);
            dup[i] = up_beta == 0 ? d : dup[i] + d;
        }
    }
}

kv_tensor *kv_swiglu(kv_tape *tape, kv_tensor *gate, kv_tensor *up) {
    if (!gate || !up) return NULL;
    assert(gate->rows == up->rows && gate->cols == up->cols);
    kv_tensor *y = kv_tape_tensor(tape, gate->rows, gate->cols);
    if (!y) return NULL;
    const float *restrict g = gate->data, *restrict u = up->data;
    float *restrict out = y->data;
    int64_t n = gate->rows * gate->cols;
#pragma omp parallel for simd schedule(static) if (n > 1 << 13)
    for (int64_t i = 0; i < n; i++) out[i] = g[i] * sigmoid(g[i]) * u[i];
    if (kv_tape_wants(tape, (const kv_tensor *const[]){gate, up}, 2, NULL, NULL)) {
        kv_record *r = kv_tape_record(tape, swiglu_backward, y, 0);
        if (!r) return NULL;
        r->in[0] = gate, r->in[1] = up;
    }
    return y;
}

// y = silu(g) ⊙ u, silu(g) = g·σ(g)
//                                                                                   [Shazeer 2020, eq. 6]
//
// dg = dy ⊙ u ⊙ σ(g)·(1 + g·(1 - σ(g)))        du = dy ⊙ silu(g)
#include "core/ops.h"
#include "core/ops/loops.h"
#include "core/vecmath.h"

#include <assert.h>

static inline float sigmoid(float a) {
    return 1.0f / (1.0f + kv_expf(-a));
}

// Both gradients at once share σ(g), which is most of the work. du may be dy.
static void both_gradients(int64_t n, const float *g, const float *u, const float *dy, float *dg, float *du) {
#pragma omp parallel for simd schedule(static) if (parallel : n > 1 << 13)
    for (int64_t i = 0; i < n; i++) {
        const float s = sigmoid(g[i]), silu = g[i] * s, d = dy[i];
        dg[i] = d * u[i] * s * (1 + (g[i] - silu));
        du[i] = d * silu;
    }
}

static void gate_gradient(int64_t n, const float *g, const float *u, const float *dy, float beta, float *dg) {
#pragma omp parallel for simd schedule(static) if (parallel : n > 1 << 13)
    for (int64_t i = 0; i < n; i++) {
        const float s = sigmoid(g[i]), d = dy[i] * u[i] * s * (1 + g[i] * (1 - s));
        dg[i] = beta == 0 ? d : dg[i] + d;
    }
}

static void up_gradient(int64_t n, const float *g, const float *dy, float beta, float *du) {
#pragma omp parallel for simd schedule(static) if (parallel : n > 1 << 13)
    for (int64_t i = 0; i < n; i++) {
        const float d = dy[i] * g[i] * sigmoid(g[i]);
        du[i] = beta == 0 ? d : du[i] + d;
    }
}

static void swiglu_backward(kv_tape *tape, const kv_record *r) {
    kv_tensor *gate = r->in[0], *up = r->in[1];
    float gate_beta = 0, up_beta = 0;
    float *dy = r->out->grad, *dg = kv_tape_grad(tape, gate, &gate_beta), *du;
    const int64_t n = gate->rows * gate->cols;
    if (up->wants_grad && !up->grad)
        up->grad = du = dy; // nobody reads the output's gradient after this: hand the buffer on
    else
        du = kv_tape_grad(tape, up, &up_beta);
    if (dg && du && gate_beta == 0 && up_beta == 0) {
        both_gradients(n, gate->data, up->data, dy, dg, du);
        return;
    }
    if (dg) gate_gradient(n, gate->data, up->data, dy, gate_beta, dg);
    if (du) up_gradient(n, gate->data, dy, up_beta, du);
}

kv_tensor *kv_swiglu(kv_tape *tape, kv_tensor *gate, kv_tensor *up) {
    if (!gate || !up) return NULL;
    assert(gate->rows == up->rows && gate->cols == up->cols);
    kv_tensor *y = kv_tape_tensor(tape, gate->rows, gate->cols);
    if (!y) return NULL;
    const float *restrict g = gate->data, *restrict u = up->data;
    float *restrict out = y->data;
    int64_t n = gate->rows * gate->cols;
    KV_ELEMENT_LOOP(n > 1 << 13, for (int64_t i = 0; i < n; i++) out[i] = g[i] * sigmoid(g[i]) * u[i];);
    if (kv_tape_wants(tape, (const kv_tensor *const[]){gate, up}, 2, NULL, NULL)) {
        kv_record *r = kv_tape_record(tape, swiglu_backward, y, 0);
        if (!r) return NULL;
        r->in[0] = gate, r->in[1] = up;
    }
    return y;
}

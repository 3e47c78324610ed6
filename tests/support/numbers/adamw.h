// AdamW in double precision, and how far a float32 AdamW may be from it when its gradients are known only so
// well.
//
// A step is r = m̂ / (√v̂ + eps), which is ±1 at first whatever the size of the gradient: where the gradient
// is no larger than its own error, a step of either sign is right, and nothing can be said of the weight (it
// is not `clear`). Elsewhere, with e(x) the error of x, and √v a norm of the gradients so far, for which the
// triangle inequality holds:
//   e(m) <= β1 e(m) + (1 - β1) e(g)        e(√v)² <= β2 e(√v)² + (1 - β2) e(g)²
//   e(r) <= (e(m̂) + |r| e(√v̂)) / (√v̂ - e(√v̂) + eps)
// beside the roundings of every operation.
//                                                                 [Loshchilov & Hutter 2019, algorithm 2]
#pragma once

#include "core/optimizer.h"

#include <stdint.h>

typedef struct adamw_twin {
    int64_t n;
    double *p, *m, *v;
    double *p_off, *m_off, *root_off; // errors of p, m and √v; p_off is infinite where nothing can be said
} adamw_twin;

adamw_twin adamw_twin_make(const float *p, int64_t n);
void adamw_twin_free(adamw_twin *twin);

// One step with gradients scale · grad[n], each known to grad_off[n] (NULL: exactly) after scaling; step
// counts from 1.
void adamw_twin_step(adamw_twin *twin, const float *grad, const double *grad_off, const kv_adamw_args *args,
                     bool decay, double lr, double scale, int step);

// The bounds of adamw.h, carried along with a double-precision step for every weight.
#include "tests/support/numbers/adamw.h"
#include "tests/support/numbers/rounding.h"
#include "tests/support/support.h"

#include <math.h>
#include <stdlib.h>

adamw_twin adamw_twin_make(const float *p, int64_t n) {
    adamw_twin t = {.n = n};
    double **arrays[] = {&t.p, &t.m, &t.v, &t.p_off, &t.m_off, &t.root_off};
    for (int i = 0; i < 6; i++) *arrays[i] = test_alloc(n, sizeof(double));
    for (int64_t i = 0; i < n; i++) t.p[i] = (double)p[i];
    return t;
}

void adamw_twin_free(adamw_twin *twin) {
    double *arrays[] = {twin->p, twin->m, twin->v, twin->p_off, twin->m_off, twin->root_off};
    for (int i = 0; i < 6; i++) free(arrays[i]);
    *twin = (adamw_twin){0};
}

void adamw_twin_step(adamw_twin *t, const float *grad, const double *grad_off, const kv_adamw_args *a,
                     bool decay, double lr, double scale, int step) {
    const double b1 = (double)a->beta1, b2 = (double)a->beta2, eps = (double)a->eps;
    const double correction1 = 1 - pow(b1, step), correction2 = 1 - pow(b2, step);
    for (int64_t i = 0; i < t->n; i++) {
        const double g = scale * (double)grad[i], off = grad_off ? grad_off[i] : 0;
        t->m[i] = b1 * t->m[i] + (1 - b1) * g;
        t->v[i] = b2 * t->v[i] + (1 - b2) * g * g;
        // 1 - β, scaling, two products and a sum; half as much is left of v's by the root.
        t->m_off[i] =
            b1 * t->m_off[i] + (1 - b1) * (off + rounding_bound(4, g)) + rounding_bound(2, b1 * t->m[i]);
        t->root_off[i] = sqrt(b2 * t->root_off[i] * t->root_off[i] + (1 - b2) * off * off) +
                         rounding_bound(3, sqrt(t->v[i]));
        const double root = sqrt(t->v[i] / correction2), root_off = t->root_off[i] / sqrt(correction2);
        const double r = t->m[i] / correction1 / (root + eps),
                     shrink = decay ? lr * (double)a->weight_decay : 0;
        const double least = root - root_off + eps;
        const double r_off = (t->m_off[i] / correction1 + fabs(r) * root_off) / least + rounding_bound(6, r);
        t->p[i] -= shrink * t->p[i] + lr * r;
        t->p_off[i] += root > 2 * root_off || root_off == 0
                           ? lr * r_off + rounding_bound(3, fabs(t->p[i]) + lr * fabs(r))
                           : INFINITY;
    }
}

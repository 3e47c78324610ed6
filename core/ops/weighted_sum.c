// y = Σ w_i · x_i        dx_i = w_i · dy
#include "core/ops.h"

#include <assert.h>

struct weighted_sum_saved {
    int64_t n;
    kv_tensor **x;
    float *weights;
};

static void weighted_sum_backward(kv_tape *tape, const kv_record *r) {
    const struct weighted_sum_saved *s = r->saved;
    for (int64_t i = 0; i < s->n; i++) {
        float beta, *dx = kv_tape_grad(tape, s->x[i], &beta);
        if (dx) *dx = (beta == 0 ? 0 : *dx) + s->weights[i] * *r->out->grad;
    }
}

kv_tensor *kv_weighted_sum(kv_tape *tape, kv_tensor *const *x, const float *weights, int64_t n) {
    kv_tensor *y = kv_tape_tensor(tape, 1, 1);
    if (!y) return NULL;
    double sum = 0;
    bool wants = false;
    for (int64_t i = 0; i < n; i++) {
        if (!x[i]) continue;
        assert(x[i]->rows == 1 && x[i]->cols == 1);
        sum += (double)weights[i] * (double)*x[i]->data;
        wants = wants || kv_tape_wants(tape, (const kv_tensor *const[]){x[i]}, 1, NULL, NULL);
    }
    *y->data = (float)sum;
    if (!wants) return y;
    kv_arena *arena = kv_tape_arena(tape);
    kv_record *r = kv_tape_record(tape, weighted_sum_backward, y, sizeof(struct weighted_sum_saved));
    kv_tensor **kept = kv_arena_alloc(arena, (size_t)n * sizeof *kept);
    float *kept_weights = kv_arena_floats(arena, n);
    if (!r || !kept || !kept_weights)
        return kv_tape_fail(tape, KV_ERR_MEMORY, "out of memory for a sum of losses");
    for (int64_t i = 0; i < n; i++) kept[i] = x[i], kept_weights[i] = weights[i];
    *(struct weighted_sum_saved *)r->saved =
        (struct weighted_sum_saved){.n = n, .x = kept, .weights = kept_weights};
    return y;
}

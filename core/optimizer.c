// Moments lie in one block, in the order of the parameters; every sum over all of them is made in that order,
// so that a step does not depend on the number of threads.
#include "core/optimizer.h"

#include "core/arena.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

kv_status kv_adamw_create(kv_param *const *params, int64_t n, const kv_adamw_args *args, kv_adamw **optimizer,
                          kv_error *err) {
    *optimizer = NULL;
    size_t total = 0;
    for (int64_t i = 0; i < n; i++) {
        if (!kv_param_trainable(params[i]))
            return kv_fail(err, KV_ERR_ARGUMENT, "%s is frozen and cannot be optimised", params[i]->name);
        total += (size_t)kv_param_size(params[i]);
    }
    kv_adamw *o = calloc(1, sizeof *o);
    if (!o) return kv_fail(err, KV_ERR_MEMORY, "out of memory");
    *o = (kv_adamw){.args = *args, .n_params = n};
    o->params = malloc((size_t)(n + 1) * sizeof(*o->params));
    o->m = malloc((size_t)(2 * n + 1) * sizeof(*o->m));
    o->scales = malloc((size_t)(n + 1) * sizeof(*o->scales));
    o->storage = calloc(2 * total + 1, sizeof(float));
    if (!o->params || !o->m || !o->scales || !o->storage) {
        kv_adamw_free(o);
        return kv_fail(err, KV_ERR_MEMORY, "out of memory: the optimiser needs %.1f MB",
                       (double)total * 8 / 1e6);
    }
    kv_prefer_huge_pages(o->storage, 2 * total * sizeof(float));
    o->v = o->m + n;
    float *next = o->storage;
    for (int64_t i = 0; i < n; i++) {
        o->params[i] = params[i];
        o->scales[i] = 1;
        o->m[i] = next;
        o->v[i] = next + total;
        next += kv_param_size(params[i]);
    }
    *optimizer = o;
    return KV_OK;
}

void kv_adamw_free(kv_adamw *optimizer) {
    if (!optimizer) return;
    free(optimizer->params);
    free(optimizer->m);
    free(optimizer->scales);
    free(optimizer->storage);
    free(optimizer);
}

// Fixed pieces, summed in order: the result does not depend on the number of threads.
static double sum_of_squares(const float *x, int64_t n) {
    enum { PIECE = 4096 };
    double total = 0;
#pragma omp parallel for ordered schedule(static, 1) if (n > 1 << 18)
    for (int64_t start = 0; start < n; start += PIECE) {
        int64_t end = start + PIECE < n ? start + PIECE : n;
        double sum = 0;
        for (int64_t i = start; i < end; i++) sum += (double)x[i] * (double)x[i];
#pragma omp ordered
        total += sum;
    }
    return total;
}

double kv_grad_norm(kv_param *const *params, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += sum_of_squares(params[i]->grad, kv_param_size(params[i]));
    return sqrt(sum);
}

void kv_grad_zero(kv_param *const *params, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        memset(params[i]->grad, 0, (size_t)kv_param_size(params[i]) * sizeof(float));
}

// The 1e-6 is torch.nn.utils.clip_grad_norm_'s, which the reference training used.
double kv_clip_scale(double norm, double max_norm) {
    if (max_norm <= 0) return 1;
    double scale = max_norm / (norm + 1e-6);
    return scale < 1 ? scale : 1;
}

// m = β1 m + (1-β1) g;  v = β2 v + (1-β2) g²;  p -= lr·wd·p;  p -= lr · (m / (1-β1^t)) / (√(v / (1-β2^t)) +
// eps)
static void update(const kv_adamw *o, int64_t index, double lr, float grad_scale, double correction1,
                   double correction2) {
    const kv_adamw_args *a = &o->args;
    kv_param *param = o->params[index];
    float *restrict p = param->data, *restrict m = o->m[index], *restrict v = o->v[index];
    const float *restrict g = param->grad;
    float keep = param->decay ? (float)(1 - lr * (double)a->weight_decay) : 1;
    float rate = (float)(lr / correction1), root = (float)(1 / sqrt(correction2));
    float beta1 = a->beta1, beta2 = a->beta2, eps = a->eps;
    int64_t n = kv_param_size(param);
#pragma omp parallel for simd schedule(static) if (n > 1 << 14)
    for (int64_t i = 0; i < n; i++) {
        float grad = g[i] * grad_scale;
        m[i] = beta1 * m[i] + (1 - beta1) * grad;
        v[i] = beta2 * v[i] + (1 - beta2) * grad * grad;
        p[i] = keep * p[i] - rate * m[i] / (sqrtf(v[i]) * root + eps);
    }
}

kv_rates kv_same_rate(double lr) {
    kv_rates rates;
    for (int group = 0; group < KV_N_GROUPS; group++) rates.of[group] = lr;
    return rates;
}

void kv_adamw_step(kv_adamw *optimizer, kv_rates rates, double grad_scale) {
    optimizer->step++;
    double correction1 = 1 - pow((double)optimizer->args.beta1, (double)optimizer->step);
    double correction2 = 1 - pow((double)optimizer->args.beta2, (double)optimizer->step);
    for (int64_t i = 0; i < optimizer->n_params; i++) {
        const double lr = optimizer->scales[i] * rates.of[optimizer->params[i]->group];
        update(optimizer, i, lr, (float)grad_scale, correction1, correction2);
    }
}

double kv_schedule_at(const kv_schedule *s, int64_t step) {
    if (step < s->warmup_steps)
        return s->warmup_init + (s->peak - s->warmup_init) * (double)step / (double)s->warmup_steps;
    if (step >= s->total_steps) return s->end;
    double done = (double)(step - s->warmup_steps) / (double)(s->total_steps - s->warmup_steps);
    return s->end + (s->peak - s->end) * 0.5 * (1 + cos(3.14159265358979323846 * done));
}

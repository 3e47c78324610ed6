// Moments lie in one block, in the order of the parameters. Each of zeroing, norm and update is one parallel loop over all
// of them, in pieces that do not depend on the number of threads, and so the step does not.
#include "core/optimizer.h"

#include "core/arena.h"
#include "core/param_ranges.h"

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

struct squares {
    kv_param *const *params;
    double sums[KV_N_PIECES];
};

static void add_squares(void *context, int piece, int64_t param, int64_t begin, int64_t end) {
    struct squares *squares = context;
    const float *g = squares->params[param]->grad;
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = begin; i < end; i++) sum += (double)g[i] * (double)g[i];
    squares->sums[piece] += sum;
}

double kv_grad_norm(kv_param *const *params, int64_t n) {
    struct squares squares = {.params = params};
    kv_for_ranges(params, n, add_squares, &squares);
    double sum = 0;
    for (int piece = 0; piece < KV_N_PIECES; piece++) sum += squares.sums[piece];
    return sqrt(sum);
}

static void zero_range(void *context, int piece, int64_t param, int64_t begin, int64_t end) {
    (void)piece;
    memset(((kv_param *const *)context)[param]->grad + begin, 0, (size_t)(end - begin) * sizeof(float));
}

void kv_grad_zero(kv_param *const *params, int64_t n) {
    kv_for_ranges(params, n, zero_range, (void *)params);
}

// The 1e-6 is torch.nn.utils.clip_grad_norm_'s, which the reference training used.
double kv_clip_scale(double norm, double max_norm) {
    if (max_norm <= 0) return 1;
    double scale = max_norm / (norm + 1e-6);
    return scale < 1 ? scale : 1;
}

// What all parameters of one update share.
struct update {
    const kv_adamw *optimizer;
    kv_rates rates;
    float grad_scale;
    double correction1, correction2; // 1 - β1^t, 1 - β2^t
};

// m = β1 m + (1-β1) g;  v = β2 v + (1-β2) g²;  p -= lr·wd·p;  p -= lr · (m / (1-β1^t)) / (√(v / (1-β2^t)) +
// eps)
static void update_range(void *context, int piece, int64_t index, int64_t begin, int64_t end) {
    (void)piece;
    const struct update *u = context;
    const kv_adamw *o = u->optimizer;
    const kv_adamw_args *a = &o->args;
    const kv_param *param = o->params[index];
    float *restrict p = param->data, *restrict m = o->m[index], *restrict v = o->v[index];
    const float *restrict g = param->grad;
    const double lr = o->scales[index] * u->rates.of[param->group];
    const float keep = param->decay ? (float)(1 - lr * (double)a->weight_decay) : 1;
    const float rate = (float)(lr / u->correction1), root = (float)(1 / sqrt(u->correction2));
    const float beta1 = a->beta1, beta2 = a->beta2, eps = a->eps, scale = u->grad_scale;
#pragma omp simd
    for (int64_t i = begin; i < end; i++) {
        float grad = g[i] * scale;
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
    struct update u = {.optimizer = optimizer,
                       .rates = rates,
                       .grad_scale = (float)grad_scale,
                       .correction1 = 1 - pow((double)optimizer->args.beta1, (double)optimizer->step),
                       .correction2 = 1 - pow((double)optimizer->args.beta2, (double)optimizer->step)};
    kv_for_ranges(optimizer->params, optimizer->n_params, update_range, &u);
}

double kv_schedule_at(const kv_schedule *s, int64_t step) {
    if (step < s->warmup_steps)
        return s->warmup_init + (s->peak - s->warmup_init) * (double)step / (double)s->warmup_steps;
    if (step >= s->total_steps) return s->end;
    double done = (double)(step - s->warmup_steps) / (double)(s->total_steps - s->warmup_steps);
    return s->end + (s->peak - s->end) * 0.5 * (1 + cos(3.14159265358979323846 * done));
}

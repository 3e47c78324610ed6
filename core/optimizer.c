// Moments lie in one block, in the order of the spans: all first ones, then all second ones. Each of zeroing, norm and update is one parallel loop over all
// of them, in pieces that do not depend on the number of threads, and so the step does not.
#include "core/optimizer.h"

#include "core/arena.h"
#include "core/param_ranges.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static kv_status check_trainable(kv_param *const *params, int64_t n, kv_error *err) {
    for (int64_t i = 0; i < n; i++)
        if (!kv_param_trainable(params[i]))
            return kv_fail(err, KV_ERR_ARGUMENT, "%s is frozen and cannot be optimised", params[i]->name);
    return KV_OK;
}

static kv_status check_spans(kv_param *const *params, int64_t n, const kv_param_span *spans, int64_t n_spans,
                             kv_error *err) {
    kv_param_span before = {0};
    for (int64_t i = 0; i < n_spans; i++) {
        const kv_param_span s = spans[i];
        const bool inside = s.param >= 0 && s.param < n && s.begin >= 0 && s.begin <= s.end &&
                            s.end <= kv_param_size(params[s.param]);
        if (!inside || s.param < before.param || (s.param == before.param && s.begin < before.end))
            return kv_fail(err, KV_ERR_ARGUMENT,
                           "span %" PRIi64 " is [%" PRIi64 ", %" PRIi64 ") of parameter %" PRIi64
                           ", expected one behind the last and inside of its parameter",
                           i, s.begin, s.end, s.param);
        before = s;
    }
    return KV_OK;
}

// Room for everything; scales and spans are the caller's to fill.
static kv_status allocate(int64_t n_params, int64_t n_spans, size_t n_moments, kv_adamw **optimizer,
                          kv_error *err) {
    kv_adamw *o = calloc(1, sizeof *o);
    if (!o) return kv_fail(err, KV_ERR_MEMORY, "out of memory");
    *o = (kv_adamw){.n_params = n_params, .n_spans = n_spans};
    o->params = malloc((size_t)(n_params + 1) * sizeof(*o->params));
    o->scales = malloc((size_t)(n_params + 1) * sizeof(*o->scales));
    o->spans = malloc((size_t)(n_spans + 1) * sizeof(*o->spans));
    o->m = malloc((size_t)(2 * n_spans + 1) * sizeof(*o->m));
    o->storage = calloc(2 * n_moments + 1, sizeof(float));
    if (!o->params || !o->scales || !o->spans || !o->m || !o->storage) {
        kv_adamw_free(o);
        return kv_fail(err, KV_ERR_MEMORY, "out of memory: the optimiser needs %.1f MB",
                       (double)n_moments * 8 / 1e6);
    }
    kv_prefer_huge_pages(o->storage, 2 * n_moments * sizeof(float));
    o->v = o->m + n_spans;
    *optimizer = o;
    return KV_OK;
}

// spans NULL: all elements of all parameters.
static kv_status create(kv_param *const *params, int64_t n, const kv_adamw_args *args,
                        const kv_param_span *spans, int64_t n_spans, kv_adamw **optimizer, kv_error *err) {
    *optimizer = NULL;
    size_t total = 0;
    kv_status status = check_trainable(params, n, err);
    if (status == KV_OK && spans) status = check_spans(params, n, spans, n_spans, err);
    if (status != KV_OK) return status;
    for (int64_t i = 0; i < n_spans; i++)
        total += (size_t)(spans ? spans[i].end - spans[i].begin : kv_param_size(params[i]));
    status = allocate(n, n_spans, total, optimizer, err);
    if (status != KV_OK) return status;
    kv_adamw *o = *optimizer;
    o->args = *args;
    for (int64_t i = 0; i < n; i++) {
        o->params[i] = params[i];
        o->scales[i] = 1;
    }
    float *next = o->storage;
    for (int64_t i = 0; i < n_spans; i++) {
        o->spans[i] = spans ? spans[i] : (kv_param_span){i, 0, kv_param_size(params[i])};
        o->m[i] = next;
        o->v[i] = next + total;
        next += o->spans[i].end - o->spans[i].begin;
    }
    return KV_OK;
}

kv_status kv_adamw_create(kv_param *const *params, int64_t n, const kv_adamw_args *args, kv_adamw **optimizer,
                          kv_error *err) {
    return create(params, n, args, NULL, n, optimizer, err);
}

kv_status kv_adamw_create_part(kv_param *const *params, int64_t n, const kv_adamw_args *args,
                               const kv_param_span *spans, int64_t n_spans, kv_adamw **optimizer,
                               kv_error *err) {
    static const kv_param_span none[1];
    return create(params, n, args, n_spans > 0 ? spans : none, n_spans, optimizer, err);
}

void kv_adamw_free(kv_adamw *optimizer) {
    if (!optimizer) return;
    free(optimizer->params);
    free(optimizer->m);
    free(optimizer->scales);
    free(optimizer->spans);
    free(optimizer->storage);
    free(optimizer);
}

struct squares {
    kv_param *const *params;
    const kv_param_span *spans; // NULL: all of params
    double sums[KV_N_PIECES];
};

static void add_squares(void *context, int piece, int64_t index, int64_t begin, int64_t end) {
    struct squares *squares = context;
    const float *g = squares->params[squares->spans ? squares->spans[index].param : index]->grad;
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = begin; i < end; i++) sum += (double)g[i] * (double)g[i];
    squares->sums[piece] += sum;
}

static double sum_of(const struct squares *squares) {
    double sum = 0;
    for (int piece = 0; piece < KV_N_PIECES; piece++) sum += squares->sums[piece];
    return sum;
}

double kv_grad_norm(kv_param *const *params, int64_t n) {
    struct squares squares = {.params = params};
    kv_for_ranges(params, n, add_squares, &squares);
    return sqrt(sum_of(&squares));
}

double kv_grad_squares_of(kv_param *const *params, const kv_param_span *spans, int64_t n_spans) {
    struct squares squares = {.params = params, .spans = spans};
    kv_for_spans(spans, n_spans, add_squares, &squares);
    return sum_of(&squares);
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
    const kv_param_span span = o->spans[index];
    const kv_param *param = o->params[span.param];
    // Counted from where the span begins.
    float *restrict p = (float *)param->data + span.begin, *restrict m = o->m[index],
                    *restrict v = o->v[index];
    const float *restrict g = param->grad + span.begin;
    const double lr = o->scales[span.param] * u->rates.of[param->group];
    const float keep = param->decay ? (float)(1 - lr * (double)a->weight_decay) : 1;
    const float rate = (float)(lr / u->correction1), root = (float)(1 / sqrt(u->correction2));
    const float beta1 = a->beta1, beta2 = a->beta2, eps = a->eps, scale = u->grad_scale;
#pragma omp simd
    for (int64_t i = begin - span.begin; i < end - span.begin; i++) {
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
    kv_for_spans(optimizer->spans, optimizer->n_spans, update_range, &u);
}

double kv_schedule_at(const kv_schedule *s, int64_t step) {
    if (step < s->warmup_steps)
        return s->warmup_init + (s->peak - s->warmup_init) * (double)step / (double)s->warmup_steps;
    if (step >= s->total_steps) return s->end;
    double done = (double)(step - s->warmup_steps) / (double)(s->total_steps - s->warmup_steps);
    return s->end + (s->peak - s->end) * 0.5 * (1 + cos(3.14159265358979323846 * done));
}

// AdamW, gradient clipping by global norm, and the learning-rate schedule.
//                                                                       [core/README.md §4, eq. 21 to 23]
#pragma once

#include "core/api.h"
#include "core/status.h"
#include "core/tensor.h"

KV_API_BEGIN

typedef struct kv_adamw_args {
    float beta1, beta2, eps, weight_decay; // paper: 0.9, 0.95, 1e-8, 0.1
} kv_adamw_args;

typedef struct kv_adamw {
    kv_adamw_args args;
    int64_t step; // updates done
    int64_t n_params;
    kv_param **params; // borrowed
    double *scales;    // [n_params] times the rate of each one's group: 1 unless somebody writes it
    int64_t n_spans;
    kv_param_span *spans; // what is updated; of a whole optimiser spans[i] is all of params[i]
    float **m, **v;       // [n_spans] first and second moments of the elements of each span
    void *storage;
} kv_adamw;

// Moments for params[n], which must be trainable, all elements of all of them. Free with kv_adamw_free.
kv_status kv_adamw_create(kv_param *const *params, int64_t n, const kv_adamw_args *args, kv_adamw **optimizer,
                          kv_error *err);
// An optimiser in parts, for several processes: moments for the elements of spans[n_spans] alone, 8 bytes each, and updates
// of them alone, the same bits as one for all would give them. Spans are copied; they are sorted, inside of their parameters
// and do not overlap, else KV_ERR_ARGUMENT.                                      [ZeRO-1: Rajbhandari et al., arXiv 1910.02054]
kv_status kv_adamw_create_part(kv_param *const *params, int64_t n, const kv_adamw_args *args,
                               const kv_param_span *spans, int64_t n_spans, kv_adamw **optimizer,
                               kv_error *err);
void kv_adamw_free(kv_adamw *optimizer);

// sqrt(Σ grad²) over all parameters, summed in double in a fixed order.
double kv_grad_norm(kv_param *const *params, int64_t n);
// Σ grad² over spans alone, likewise: what each part of an optimiser adds to the square of the norm.
double kv_grad_squares_of(kv_param *const *params, const kv_param_span *spans, int64_t n_spans);
void kv_grad_zero(kv_param *const *params, int64_t n);

// What gradients are multiplied by so that their norm is at most max_norm; 1 when max_norm is 0 (off).
double kv_clip_scale(double norm, double max_norm);

// The learning rates of one step.
typedef struct kv_rates {
    double of[KV_N_GROUPS]; // by kv_group
} kv_rates;
kv_rates kv_same_rate(double lr); // for all groups

// One update with g = grad_scale · grad, lr the rate of the parameter's group times its scale; decoupled decay p -= lr·wd·p on
// parameters with `decay`. What is not in the optimiser's spans stays as it is.
//                                                                 [Loshchilov & Hutter 2019, algorithm 2]
void kv_adamw_step(kv_adamw *optimizer, kv_rates rates, double grad_scale);

// Linear from warmup_init to peak over warmup_steps, then cosine to `end` at step total_steps, then `end`.
typedef struct kv_schedule {
    double peak, warmup_init, end;
    int64_t warmup_steps, total_steps;
} kv_schedule;
double kv_schedule_at(const kv_schedule *schedule, int64_t step); // step counts from 0

KV_API_END

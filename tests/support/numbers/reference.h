// The operators once more, as plain double-precision loops over whole arrays: what the core is measured
// against. Written from the formulas, for nothing but being obviously right. All arrays row-major.
#pragma once

#include "core/ops.h"

// y[m, n] = x[m, k] · w[n, k]ᵀ + bias[n] (NULL: none)
void ref_linear(int64_t m, int64_t n, int64_t k, const double *x, const double *w, const double *bias,
                double *y);

// y = x / sqrt(mean(x²) + eps) · w over groups of `width`; x[m, groups · width]. y may be x.
void ref_rmsnorm(int64_t m, int64_t groups, int64_t width, const double *x, const double *w, double eps,
                 double *y);

void ref_swiglu(int64_t n, const double *gate, const double *up, double *y);

// inv_freq[head_dim / 2]; NULL: no rotation. args->rope is not looked at. Rows of y outside every sequence are
// 0.
void ref_attention(const kv_attention_args *args, const double *inv_freq, int64_t q_rows, const double *q,
                   const double *k, const double *v, double *y);

// importance[k_len] of one sequence alone, from the whole matrix.
void ref_attention_importance(const kv_attention_args *args, const double *inv_freq, int64_t sequence,
                              kv_pooling pooling, const double *q, const double *k, double *importance);

// inv_freq[i] = theta^(-2i / head_dim)
void ref_inv_freq(int64_t head_dim, double theta, double *inv_freq);

// The scalar of kv_lm_loss, from hidden[m, dim] and head[vocabulary, dim]; teacher's are NULL without KL.
// Only the numbers in args are used. *terms may be NULL.
double ref_lm_loss(const kv_lm_loss_args *args, int64_t m, int64_t vocabulary, int64_t dim,
                   const double *hidden, const double *head, int64_t teacher_dim,
                   const double *teacher_hidden, const double *teacher_head, kv_lm_loss_terms *terms);

double ref_mse_loss(int64_t m, int64_t cols, const double *x, const double *target, const uint8_t *keep,
                    double n_kept);
double ref_l1_loss(int64_t m, int64_t cols, const double *x, const double *target, const uint8_t *keep,
                   double n_kept);

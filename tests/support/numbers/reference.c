#include "tests/support/numbers/reference.h"
#include "tests/support/support.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

void ref_linear(int64_t m, int64_t n, int64_t k, const double *x, const double *w, const double *bias,
                double *y) {
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++) {
            double sum = bias ? bias[j] : 0;
            for (int64_t l = 0; l < k; l++) sum += x[i * k + l] * w[j * k + l];
            y[i * n + j] = sum;
        }
}

void ref_rmsnorm(int64_t m, int64_t groups, int64_t width, const double *x, const double *w, double eps,
                 double *y) {
    for (int64_t g = 0; g < m * groups; g++) {
        const double *from = x + g * width;
        double squares = 0;
        for (int64_t i = 0; i < width; i++) squares += from[i] * from[i];
        const double scale = 1 / sqrt(squares / (double)width + eps);
        for (int64_t i = 0; i < width; i++) y[g * width + i] = from[i] * scale * w[i];
    }
}

void ref_swiglu(int64_t n, const double *gate, const double *up, double *y) {
    for (int64_t i = 0; i < n; i++) y[i] = gate[i] / (1 + exp(-gate[i])) * up[i];
}

void ref_inv_freq(int64_t head_dim, double theta, double *inv_freq) {
    for (int64_t i = 0; i < head_dim / 2; i++) inv_freq[i] = pow(theta, -2.0 * (double)i / (double)head_dim);
}

// Features i and i + dim/2 turn by position · inv_freq[i].                     [Su et al. 2021, equation 34]
static void turn(int64_t dim, const double *inv_freq, double position, const double *x, double *y) {
    for (int64_t i = 0; i < dim / 2; i++) {
        const double angle = inv_freq ? position * inv_freq[i] : 0;
        y[i] = x[i] * cos(angle) - x[i + dim / 2] * sin(angle);
        y[i + dim / 2] = x[i + dim / 2] * cos(angle) + x[i] * sin(angle);
    }
}

// One query row of one head: softmax over all keys it sees, written out.
static void probabilities(const kv_attention_args *a, const double *turned_q, const double *turned_k,
                          int64_t n_seen, double *weights) {
    double greatest = -INFINITY, total = 0;
    for (int64_t j = 0; j < n_seen; j++) {
        double score = 0;
        for (int64_t i = 0; i < a->head_dim; i++) score += turned_q[i] * turned_k[j * a->head_dim + i];
        weights[j] = score / sqrt((double)a->head_dim);
        greatest = fmax(greatest, weights[j]);
    }
    for (int64_t j = 0; j < n_seen; j++) total += weights[j] = exp(weights[j] - greatest);
    for (int64_t j = 0; j < n_seen; j++) weights[j] /= total;
}

// matrix[q_len, k_len] of one head of a sequence, with zeros where a query does not see a key.
static double *attention_matrix(const kv_attention_args *a, const double *inv_freq, const kv_sequence *s,
                                int64_t head, const double *q, const double *k) {
    const int64_t dim = a->head_dim, q_stride = a->n_heads * dim, k_stride = a->n_kv_heads * dim;
    const int64_t kv_head = head / (a->n_heads / a->n_kv_heads);
    double *matrix = test_alloc(s->q_len * s->k_len, sizeof *matrix);
    double *turned_k = test_alloc(s->k_len * dim, sizeof(double));
    double *turned_q = test_alloc(dim, sizeof(double));
    for (int64_t j = 0; j < s->k_len; j++) {
        const int64_t row = s->k_row + j, position = a->k_positions ? a->k_positions[row] : j;
        turn(dim, inv_freq, (double)position, k + row * k_stride + kv_head * dim, turned_k + j * dim);
    }
    for (int64_t t = 0; t < s->q_len; t++) {
        const int64_t row = s->q_row + t;
        const int64_t seen = a->visible ? a->visible[row] : s->k_len - s->q_len + t + 1;
        const int64_t position = a->q_positions ? a->q_positions[row] : seen - 1;
        turn(dim, inv_freq, (double)position, q + row * q_stride + head * dim, turned_q);
        probabilities(a, turned_q, turned_k, seen, matrix + t * s->k_len);
    }
    free(turned_k);
    free(turned_q);
    return matrix;
}

static void attend_segment(const kv_attention_args *a, const double *inv_freq, const kv_sequence *s,
                           int64_t head, const double *q, const double *k, const double *v, double *y) {
    const int64_t dim = a->head_dim, q_stride = a->n_heads * dim, k_stride = a->n_kv_heads * dim;
    const int64_t kv_head = head / (a->n_heads / a->n_kv_heads);
    double *matrix = attention_matrix(a, inv_freq, s, head, q, k);
    for (int64_t t = 0; t < s->q_len; t++)
        for (int64_t j = 0; j < s->k_len; j++)
            for (int64_t i = 0; i < dim; i++)
                y[(s->q_row + t) * q_stride + head * dim + i] +=
                    matrix[t * s->k_len + j] * v[(s->k_row + j) * k_stride + kv_head * dim + i];
    free(matrix);
}

void ref_attention(const kv_attention_args *args, const double *inv_freq, int64_t q_rows, const double *q,
                   const double *k, const double *v, double *y) {
    memset(y, 0, (size_t)(q_rows * args->n_heads * args->head_dim) * sizeof *y);
    for (int64_t s = 0; s < args->n_sequences; s++)
        for (int64_t head = 0; head < args->n_heads; head++)
            attend_segment(args, inv_freq, &args->sequences[s], head, q, k, v, y);
}

void ref_attention_importance(const kv_attention_args *args, const double *inv_freq, int64_t sequence,
                              kv_pooling pooling, const double *q, const double *k, double *importance) {
    const kv_sequence *s = &args->sequences[sequence];
    memset(importance, 0, (size_t)s->k_len * sizeof *importance);
    for (int64_t head = 0; head < args->n_heads; head++) {
        double *matrix = attention_matrix(args, inv_freq, s, head, q, k);
        for (int64_t t = 0; t < s->q_len; t++)
            for (int64_t j = 0; j < s->k_len; j++) {
                const double p = matrix[t * s->k_len + j];
                importance[j] = pooling == KV_POOL_MEAN ? importance[j] + p / (double)args->n_heads
                                                        : fmax(importance[j], p);
            }
        free(matrix);
    }
}

static double log_sum_exp(int64_t n, const double *x) {
    double greatest = -INFINITY, total = 0;
    for (int64_t i = 0; i < n; i++) greatest = fmax(greatest, x[i]);
    for (int64_t i = 0; i < n; i++) total += exp(x[i] - greatest);
    return greatest + log(total);
}

// T² Σ p_teacher · (log p_teacher - log p_student), in logits, which are divided by T.
static double divergence(int64_t n, double t, double *teacher, double *student) {
    for (int64_t i = 0; i < n; i++) teacher[i] /= t, student[i] /= t;
    const double teacher_lse = log_sum_exp(n, teacher), student_lse = log_sum_exp(n, student);
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        const double log_p = teacher[i] - teacher_lse;
        sum += exp(log_p) * (log_p - (student[i] - student_lse));
    }
    return t * t * sum;
}

double ref_lm_loss(const kv_lm_loss_args *args, int64_t m, int64_t vocabulary, int64_t dim,
                   const double *hidden, const double *head, int64_t teacher_dim,
                   const double *teacher_hidden, const double *teacher_head, kv_lm_loss_terms *terms) {
    double *logits = test_alloc(vocabulary, sizeof(double)),
           *teacher = test_alloc(vocabulary, sizeof(double));
    kv_lm_loss_terms sum = {0};
    for (int64_t i = 0; i < m; i++) {
        if (args->targets[i] == args->ignore_index) continue;
        ref_linear(1, vocabulary, dim, hidden + i * dim, head, NULL, logits);
        const double lse = log_sum_exp(vocabulary, logits);
        sum.cross_entropy += lse - logits[args->targets[i]];
        sum.z += lse * lse;
        if (!teacher_hidden) continue;
        ref_linear(1, vocabulary, teacher_dim, teacher_hidden + i * teacher_dim, teacher_head, NULL, teacher);
        sum.kl += divergence(vocabulary, args->kl_temperature == 0 ? 1 : (double)args->kl_temperature,
                             teacher, logits);
    }
    free(logits);
    free(teacher);
    const kv_lm_loss_terms mean = {sum.cross_entropy / args->n_valid, sum.z / args->n_valid,
                                   sum.kl / args->n_valid};
    if (terms) *terms = mean;
    return (double)args->weight_ce * mean.cross_entropy + (double)args->weight_z * mean.z +
           (double)args->weight_kl * mean.kl;
}

double ref_l1_loss(int64_t m, int64_t cols, const double *x, const double *target, const uint8_t *keep,
                   double n_kept) {
    double sum = 0;
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; keep[i] && j < cols; j++) sum += fabs(x[i * cols + j] - target[i * cols + j]);
    return sum / (n_kept * (double)cols);
}

double ref_mse_loss(int64_t m, int64_t cols, const double *x, const double *target, const uint8_t *keep,
                    double n_kept) {
    double sum = 0;
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; keep[i] && j < cols; j++)
            sum += (x[i * cols + j] - target[i * cols + j]) * (x[i * cols + j] - target[i * cols + j]);
    return sum / (n_kept * (double)cols);
}

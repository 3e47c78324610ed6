// Cross-entropy, z-loss and distillation of logits z = h·Eᵀ, z' = h'·E'ᵀ (teacher), without keeping the
// logits.
//
//   lse = ln Σ_j e^{z_j},  p = softmax z,  p' = softmax z'
//   CE = lse - z_target      Z = lse²      KL = T² Σ_j q'_j (ln q'_j - ln q_j),  q = softmax(z/T), q' = softmax(z'/T)
//   dz = [ w_ce (p - onehot) + w_z 2 lse p + w_kl T (q - q') ] / n_valid      dh = dz·E      dE = dzᵀ·h
// Of a teacher known by its k largest logits the others share one bucket: with Q, Q' the sums of q, q' over
// them
//   KL = T² ( Σ_top q'_j (ln q'_j - ln q_j) + Q' (ln Q' - ln Q) ),     and q_j Q'/Q stands for their q'_j in dz.
// The factor T² keeps the gradient's size: that of q - q' shrinks with 1/T, that of z/T with another 1/T.
//                                                                         [Hinton et al. 2015, section 2]
// Rows go through in blocks; within one, tiles of the vocabulary are multiplied and folded into a running
// logsumexp while they are still in cache. dz of the whole batch is kept for backward when it is small (a
// vocabulary of a thousand), and computed again, block by block, when it is not.
#include "core/gemm.h"
#include "core/ops.h"
#include "core/vecmath.h"

#include <assert.h>
#include <math.h>
#include <string.h>

enum { BLOCK_FLOATS = 1 << 20, VOCABULARY_TILE = 2048, KEPT_FLOATS = 1 << 24 };

struct lm_loss_saved {
    kv_lm_loss_args args;
    float *dlogits; // [m, vocabulary] or NULL: compute again
};

// A block of rows on its way through: logits become dlogits in place.
struct block {
    float *logits, *teacher; // [block rows, vocabulary]; teacher NULL without KL
    float *max, *sum;        // running logsumexp of each row, student then teacher: [2 · block rows]
    float *picked;           // [block rows, k]: logits of a top-k teacher's ids
    double *ce, *z, *kl;     // [m] each: every row's own terms, added up in order at the end
};

static float temperature(const kv_lm_loss_args *a) {
    return a->kl_temperature == 0 ? 1 : a->kl_temperature;
}

static bool runs_teacher(const kv_lm_loss_args *a) {
    return a->weight_kl != 0 && a->topk.k == 0;
}

static int64_t block_rows(int64_t m, int64_t vocab) {
    int64_t rows = BLOCK_FLOATS / vocab;
    rows = rows < 16 ? 16 : rows;
    return rows < m ? rows : m;
}

// Folds n more logits into a running maximum and Σ e^((z - max) / T).
static void fold(const float *z, int64_t n, bool first, float per_t, float *max, float *sum) {
    float top = first ? -INFINITY : *max, total = 0;
#pragma omp simd reduction(max : top)
    for (int64_t j = 0; j < n; j++) top = z[j] > top ? z[j] : top;
#pragma omp simd reduction(+ : total)
    for (int64_t j = 0; j < n; j++) total += kv_expf((z[j] - top) * per_t);
    *sum = total + (first ? 0 : *sum * kv_expf((*max - top) * per_t));
    *max = top;
}

static void block_logits(const float *h, int64_t rows, const kv_param *head, float per_t, float *logits,
                         float *max, float *sum) {
    int64_t vocab = head->rows;
    for (int64_t c = 0; c < vocab; c += VOCABULARY_TILE) {
        int64_t width = vocab - c < VOCABULARY_TILE ? vocab - c : VOCABULARY_TILE;
        kv_gemm_weight_t(rows, h, head->cols, head, c, width, 0, logits + c, vocab);
#pragma omp parallel for schedule(static) if (rows * width > 1 << 13)
        for (int64_t i = 0; i < rows; i++)
            fold(logits + i * vocab + c, width, c == 0, per_t, max + i, sum + i);
    }
}

// logsumexp(z / T) in two parts, max / T + log_sum: rounded to one float, large logits would lose the digits that
// matter.
struct lse {
    float max, sum, log_sum, per_t;
};

static inline float log_p(float z, struct lse lse) {
    return (z - lse.max) * lse.per_t - lse.log_sum;
}

// The same logits at another temperature, added up as block_logits does.
static struct lse soften(const float *z, int64_t vocab, struct lse lse, float per_t) {
    float max = lse.max, sum = 0;
    if (per_t == lse.per_t) return lse;
    for (int64_t c = 0; c < vocab; c += VOCABULARY_TILE)
        fold(z + c, vocab - c < VOCABULARY_TILE ? vocab - c : VOCABULARY_TILE, c == 0, per_t, &max, &sum);
    return (struct lse){max, sum, logf(sum), per_t};
}

// What a row's KL to a top-k teacher leaves for its gradient.
struct bucket {
    float q_teacher; // of all ids but the top k
    struct lse lse;  // of the student's logits of the same ids
};

// What the softmaxes of a row have in its gradient: p, q and the teacher's q'. At T = 1 q is p, and counted there.
struct shares {
    float p, q, teacher;
};

// The student's part of the bucket is summed up from its logits, not what the top k leave of 1: where that
// is next to nothing, the logarithm would be of a rounding error. Leaves the logits of the top k in picked[k]
// and takes them out of z.
static double topk_kl(const kv_topk_teacher *t, int64_t row, float *z, double temperature, struct lse lse,
                      int64_t vocab, float *picked, struct bucket *rest) {
    const int32_t *ids = t->ids + row * t->k;
    const float *logits = t->logits + row * t->k;
    const double max = (double)lse.max, log_sum = log((double)lse.sum);
    double kl = 0, q_top = 0;
    for (int64_t i = 0; i < t->k; i++) {
        const double log_t = (double)logits[i] / temperature - (double)t->logsumexp[row], q = exp(log_t);
        picked[i] = z[ids[i]];
        z[ids[i]] = -INFINITY;
        kl += q * (log_t - (((double)picked[i] - max) / temperature - log_sum));
        q_top += q;
    }
    *rest = (struct bucket){.q_teacher = 0, .lse = lse};
    if (t->k == vocab) return kl;
    fold(z, vocab, true, lse.per_t, &rest->lse.max, &rest->lse.sum);
    rest->lse.log_sum = logf(rest->lse.sum);
    if (q_top >= 1) return kl; // rounding
    const double log_q = ((double)rest->lse.max - max) / temperature + log((double)rest->lse.sum) - log_sum;
    rest->q_teacher = (float)(1 - q_top);
    return kl + (1 - q_top) * (log1p(-q_top) - log_q);
}

// dz of one logit but for the teacher's part.
static inline float own_gradient(float z, struct lse lse, struct lse soft, struct shares w) {
    const float g = w.p * kv_expf(log_p(z, lse));
    return w.q == 0 ? g : g + w.q * kv_expf(log_p(z, soft));
}

static void topk_gradient(const kv_topk_teacher *t, int64_t row, float *z, struct lse lse, struct lse soft,
                          int64_t vocab, const float *picked, const struct bucket *rest, struct shares w) {
    const int32_t *ids = t->ids + row * t->k;
    const float *logits = t->logits + row * t->k, w_rest = w.teacher * rest->q_teacher;
    const struct lse left = rest->lse;
    if (w.q == 0)
        for (int64_t j = 0; j < vocab; j++)
            z[j] = w.p * kv_expf(log_p(z[j], lse)) - w_rest * kv_expf(log_p(z[j], left));
    else
        for (int64_t j = 0; j < vocab; j++)
            z[j] = own_gradient(z[j], lse, soft, w) - w_rest * kv_expf(log_p(z[j], left));
    for (int64_t i = 0; i < t->k; i++)
        z[ids[i]] = own_gradient(picked[i], lse, soft, w) -
                    w.teacher * kv_expf(logits[i] * soft.per_t - t->logsumexp[row]);
}

// Σ q' (z' - z) / T - (lse' - lse), with the logarithms of the two sums in double precision: they stay as large as ever
// when the rest shrinks with 1/T, and T² makes much of what they are off.
static double whole_kl(const float *z, struct lse lse, const float *teacher, struct lse teacher_lse,
                       int64_t vocab) {
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t j = 0; j < vocab; j++) {
        const float away = ((teacher[j] - teacher_lse.max) - (z[j] - lse.max)) * lse.per_t;
        sum += kv_expf(log_p(teacher[j], teacher_lse)) * away;
    }
    return (double)sum - (log((double)teacher_lse.sum) - log((double)lse.sum));
}

static struct shares shares_of(const kv_lm_loss_args *a, bool kl, double lse) {
    const float scale = (float)(1 / a->n_valid), t = temperature(a), w_kl = kl ? a->weight_kl : 0;
    const float plain = a->weight_ce + 2 * a->weight_z * (float)lse;
    if (t == 1) return (struct shares){(plain + w_kl) * scale, 0, w_kl * scale};
    return (struct shares){plain * scale, w_kl * t * scale, w_kl * t * scale};
}

// Terms of one row from its logits; with `gradient`, the logits become dz.
static void finish_row(const kv_lm_loss_args *a, int64_t row, float *z, struct lse lse, const float *teacher,
                       struct lse teacher_lse, int64_t vocab, bool gradient, const struct block *b,
                       float *picked) {
    const bool topk = a->weight_kl != 0 && a->topk.k > 0;
    const double t = (double)temperature(a), whole = (double)lse.max + (double)lse.log_sum;
    struct bucket rest;
    int32_t target = a->targets[row];
    b->ce[row] = b->z[row] = b->kl[row] = 0;
    if (target == a->ignore_index) {
        if (gradient) memset(z, 0, (size_t)vocab * sizeof *z);
        return;
    }
    b->ce[row] = ((double)lse.max - (double)z[target]) + (double)lse.log_sum;
    b->z[row] = whole * whole;
    const struct lse soft = teacher || topk ? soften(z, vocab, lse, 1 / temperature(a)) : lse;
    if (teacher) b->kl[row] = t * t * whole_kl(z, soft, teacher, teacher_lse, vocab);
    if (topk) b->kl[row] = t * t * topk_kl(&a->topk, row, z, t, soft, vocab, picked, &rest);
    if (!gradient) return;
    const struct shares w = shares_of(a, teacher || topk, whole);
    if (teacher)
        for (int64_t j = 0; j < vocab; j++)
            z[j] = own_gradient(z[j], lse, soft, w) - w.teacher * kv_expf(log_p(teacher[j], teacher_lse));
    else if (topk)
        topk_gradient(&a->topk, row, z, lse, soft, vocab, picked, &rest, w);
    else
        for (int64_t j = 0; j < vocab; j++) z[j] = w.p * kv_expf(log_p(z[j], lse));
    z[target] -= a->weight_ce * (float)(1 / a->n_valid);
}

// Rows [row0, row0 + rows): terms, and dlogits into `logits` when `gradient`.
static void run_block(const kv_lm_loss_args *a, const kv_tensor *hidden, const kv_param *head, int64_t row0,
                      int64_t rows, float *logits, bool gradient, const struct block *b) {
    int64_t vocab = head->rows;
    block_logits(hidden->data + row0 * hidden->cols, rows, head, 1, logits, b->max, b->sum);
    float *teacher_max = b->max + rows, *teacher_sum = b->sum + rows, per_t = 1 / temperature(a);
    if (b->teacher)
        block_logits(a->teacher_hidden->data + row0 * a->teacher_hidden->cols, rows, a->teacher_head, per_t,
                     b->teacher, teacher_max, teacher_sum);
#pragma omp parallel for schedule(static) if (rows * vocab > 1 << 13)
    for (int64_t i = 0; i < rows; i++) {
        struct lse lse = {b->max[i], b->sum[i], logf(b->sum[i]), 1}, teacher_lse = {0};
        if (b->teacher)
            teacher_lse = (struct lse){teacher_max[i], teacher_sum[i], logf(teacher_sum[i]), per_t};
        finish_row(a, row0 + i, logits + i * vocab, lse, b->teacher ? b->teacher + i * vocab : NULL,
                   teacher_lse, vocab, gradient, b, b->picked + i * a->topk.k);
    }
}

static bool allocate_block(kv_arena *arena, struct block *b, int64_t m, int64_t vocab, bool own_logits,
                           const kv_lm_loss_args *args) {
    const bool teacher = runs_teacher(args);
    int64_t rows = block_rows(m, vocab);
    b->logits = own_logits ? kv_arena_floats(arena, rows * vocab) : NULL;
    b->teacher = teacher ? kv_arena_floats(arena, rows * vocab) : NULL;
    b->max = kv_arena_floats(arena, 2 * rows);
    b->sum = kv_arena_floats(arena, 2 * rows);
    b->picked = kv_arena_floats(arena, rows * args->topk.k);
    b->ce = kv_arena_alloc(arena, 3 * (size_t)m * sizeof *b->ce);
    if ((own_logits && !b->logits) || (teacher && !b->teacher) || !b->max || !b->sum || !b->picked || !b->ce)
        return false;
    b->z = b->ce + m, b->kl = b->ce + 2 * m;
    return true;
}

static void lm_loss_backward(kv_tape *tape, const kv_record *r) {
    const struct lm_loss_saved *s = r->saved;
    kv_tensor *hidden = r->in[0];
    kv_param *head = r->weight;
    kv_arena *arena = kv_tape_arena(tape);
    int64_t m = hidden->rows, dim = hidden->cols, vocab = head->rows, step = block_rows(m, vocab);
    float beta = 0, *dh = kv_tape_grad(tape, hidden, &beta), dloss = *r->out->grad;
    float head_beta, *dhead = kv_tape_param_grad(tape, head, &head_beta);
    kv_arena_mark mark = kv_arena_get_mark(arena);
    struct block b = {0};
    bool ok = s->dlogits || allocate_block(arena, &b, m, vocab, true, &s->args);
    for (int64_t row = 0; ok && row < m; row += step) {
        int64_t rows = m - row < step ? m - row : step;
        float *dlogits = s->dlogits ? s->dlogits + row * vocab : b.logits;
        if (ok && !s->dlogits) run_block(&s->args, hidden, head, row, rows, dlogits, true, &b);
        if (dloss != 1) {
#pragma omp parallel for simd schedule(static)
            for (int64_t i = 0; i < rows * vocab; i++) dlogits[i] *= dloss;
        }
        if (ok && dh) kv_gemm_weight(rows, dlogits, vocab, head, 0, vocab, beta, dh + row * dim, dim);
        if (ok && dhead)
            kv_gemm_tn(vocab, dim, rows, dlogits, vocab, hidden->data + row * dim, dim,
                       row == 0 ? head_beta : 1, dhead, dim);
    }
    kv_arena_release(arena, mark);
    if (!ok) kv_tape_fail(tape, KV_ERR_MEMORY, "out of memory for the gradient of the loss");
}

static kv_lm_loss_terms add_terms(const struct block *b, int64_t m, double n_valid) {
    kv_lm_loss_terms t = {0};
    for (int64_t i = 0; i < m; i++) t.cross_entropy += b->ce[i], t.z += b->z[i], t.kl += b->kl[i];
    return (kv_lm_loss_terms){
        .cross_entropy = t.cross_entropy / n_valid, .z = t.z / n_valid, .kl = t.kl / n_valid};
}

static bool targets_fit(kv_tape *tape, const kv_lm_loss_args *a, int64_t m, int64_t vocab) {
    for (int64_t i = 0; i < m; i++)
        if (a->targets[i] != a->ignore_index && (a->targets[i] < 0 || a->targets[i] >= vocab)) {
            kv_tape_fail(tape, KV_ERR_RANGE, "target %lld has id %d, outside the vocabulary of %lld",
                         (long long)i, (int)a->targets[i], (long long)vocab);
            return false;
        }
    return true;
}

// Ids of a row must differ: each stands for its own part of the distribution.
static bool topk_fits(kv_tape *tape, const kv_lm_loss_args *a, int64_t m, int64_t vocab) {
    const int64_t k = a->topk.k;
    if (a->weight_kl == 0 || k == 0) return true;
    kv_arena *arena = kv_tape_arena(tape);
    kv_arena_mark mark = kv_arena_get_mark(arena);
    int64_t *seen =
        kv_arena_alloc(arena, (size_t)vocab * sizeof *seen); // the last row each id was in, from 1
    if (!seen) return kv_tape_fail(tape, KV_ERR_MEMORY, "out of memory for the loss");
    memset(seen, 0, (size_t)vocab * sizeof *seen);
    for (int64_t i = 0; i < m * k; i++) {
        const int32_t id = a->topk.ids[i];
        if (id < 0 || id >= vocab || seen[id] == i / k + 1) {
            kv_tape_fail(tape, KV_ERR_RANGE,
                         "the teacher's logit %lld of row %lld is of id %d, expected another one of the "
                         "vocabulary of %lld",
                         (long long)(i % k), (long long)(i / k), (int)id, (long long)vocab);
            return false;
        }
        seen[id] = i / k + 1;
    }
    kv_arena_release(arena, mark);
    return true;
}

kv_tensor *kv_lm_loss(kv_tape *tape, kv_tensor *hidden, kv_param *head, const kv_lm_loss_args *args,
                      kv_lm_loss_terms *terms) {
    if (!hidden || (runs_teacher(args) && !args->teacher_hidden)) return NULL;
    assert(hidden->cols == head->cols && args->n_valid > 0 && !(args->topk.k > 0 && args->teacher_hidden));
    assert(args->kl_temperature >= 0);
    assert(!runs_teacher(args) ||
           (args->teacher_head->rows == head->rows && args->teacher_hidden->rows == hidden->rows));
    kv_arena *arena = kv_tape_arena(tape);
    int64_t m = hidden->rows, vocab = head->rows, step = block_rows(m, vocab);
    if (!targets_fit(tape, args, m, vocab) || !topk_fits(tape, args, m, vocab)) return NULL;
    bool wants = kv_tape_wants(tape, (const kv_tensor *const[]){hidden}, 1, head, NULL);
    bool keep = wants && m <= KEPT_FLOATS / vocab;
    kv_tensor *loss = kv_tape_tensor(tape, 1, 1);
    float *dlogits = keep ? kv_arena_floats(arena, m * vocab) : NULL;
    kv_arena_mark mark = kv_arena_get_mark(arena);
    struct block b = {0};
    bool ok = loss && (!keep || dlogits) && allocate_block(arena, &b, m, vocab, !keep, args);
    for (int64_t row = 0; ok && row < m; row += step)
        run_block(args, hidden, head, row, m - row < step ? m - row : step,
                  keep ? dlogits + row * vocab : b.logits, keep, &b);
    if (!ok) return kv_tape_fail(tape, KV_ERR_MEMORY, "out of memory for the loss");
    kv_lm_loss_terms t = add_terms(&b, m, args->n_valid);
    kv_arena_release(arena, mark);
    if (terms) *terms = t;
    *loss->data = (float)((double)args->weight_ce * t.cross_entropy + (double)args->weight_z * t.z +
                          (double)args->weight_kl * t.kl);
    if (wants) {
        kv_record *r = kv_tape_record(tape, lm_loss_backward, loss, sizeof(struct lm_loss_saved));
        if (!r) return NULL;
        r->in[0] = hidden, r->weight = head;
        *(struct lm_loss_saved *)r->saved = (struct lm_loss_saved){.args = *args, .dlogits = dlogits};
    }
    return loss;
}

uint64_t kv_lm_loss_flops(int64_t m, int64_t vocabulary, int64_t dim, int64_t teacher_dim, bool hidden_wants,
                          bool head_wants) {
    uint64_t table = 2 * (uint64_t)m * (uint64_t)vocabulary, logits = table * (uint64_t)(dim + teacher_dim);
    bool again = (hidden_wants || head_wants) && m > KEPT_FLOATS / vocabulary;
    return (again ? 2 : 1) * logits + ((uint64_t)hidden_wants + head_wants) * table * (uint64_t)dim;
}

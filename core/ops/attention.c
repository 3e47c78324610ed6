// y = softmax(turn(q)·turn(k)ᵀ/√d, causal)·v for each sequence and head, in tiles.
//
// Forward, per block of queries, running over tiles of keys:
//                                                                          [Dao et al. 2022, algorithm 1]
//   S = Q·Kᵀ;  m' = max(m, rowmax S);  P = e^(S - m');  l = l·e^(m - m') + rowsum P;  O = O·e^(m - m') + P·V
//   y = O / l;  L = m + ln l is kept for backward
// Backward, recomputing P = e^(S - L) tile by tile, with D = rowsum(dO ⊙ O):
//   dV += Pᵀ·dO;  dS = P ⊙ (dO·Vᵀ - D);  dQ += dS·K;  dK += dSᵀ·Q
// The queries of all heads that share a KV head are stacked into one matrix, row t · group + h for query t,
// head h. 1/√d is folded into Q when it is turned.
#include "core/gemm.h"
#include "core/ops/attention_blocks.h"
#include "core/vecmath.h"

#include <assert.h>
#include <math.h>
#include <omp.h>
#include <string.h>

enum { KEY_TILE = 128 };

struct attention_saved {
    kv_attention_args args;
    struct kv_attention_lse *lse; // [n_heads, rows of q]
};

// Scratch of one thread, carved out of one allocation.
struct scratch {
    float *q, *o, *dq, *d_o; // [KV_STACK_ROWS or more, head_dim]
    float *s, *ds;           // [.., KEY_TILE]
    float *max, *sum;        // [..]
    float *log_sum;          // [..]
};

static size_t scratch_floats(int64_t stacked_rows, int64_t head_dim) {
    return (size_t)(stacked_rows * (4 * head_dim + 2 * KEY_TILE + 3) + 16);
}

size_t kv_attention_scratch(int64_t n_heads, int64_t n_kv_heads, int64_t head_dim) {
    const int64_t group = n_heads / n_kv_heads, rows = kv_queries_per_block(group) * group;
    return (size_t)omp_get_max_threads() * scratch_floats(rows, head_dim) * sizeof(float);
}

static struct scratch carve(float *memory, const struct kv_attention_geometry *g) {
    int64_t rows = g->block * g->group, tile = rows * g->args.head_dim;
    struct scratch w = {.q = memory, .o = memory + tile, .dq = memory + 2 * tile, .d_o = memory + 3 * tile};
    w.s = memory + 4 * tile;
    w.ds = w.s + rows * KEY_TILE;
    w.max = w.ds + rows * KEY_TILE;
    w.sum = w.max + rows;
    w.log_sum = w.sum + rows;
    return w;
}

static const float *value_rows(const struct kv_attention_geometry *g, int64_t sequence, int64_t j,
                               int64_t kv_head) {
    return g->v + (g->args.sequences[sequence].k_row + j) * g->kv_dim + kv_head * g->args.head_dim;
}

// dst[queries · group, d] = the stacked rows of a [rows of q, n_heads · d] matrix.
static void stack_rows(const struct kv_attention_geometry *g, const kv_sequence *seq, int64_t kv_head,
                       int64_t t0, int64_t queries, const float *matrix, float *dst) {
    size_t width = (size_t)(g->group * g->args.head_dim);
    for (int64_t t = 0; t < queries; t++)
        memcpy(dst + (size_t)t * width, matrix + (seq->q_row + t0 + t) * g->q_dim + kv_head * (int64_t)width,
               width * sizeof *dst);
}

// One row of scores: running maximum and sum, scores replaced by e^(score - max), O rescaled. `seen` of
// `width` scores are not masked; those behind become 0.
static void online_softmax_row(float *s, int64_t seen, int64_t width, bool first, float *max, float *sum,
                               float *o, int64_t d) {
    float top = first ? -INFINITY : *max;
#pragma omp simd reduction(max : top)
    for (int64_t j = 0; j < seen; j++) top = s[j] > top ? s[j] : top;
    float total = 0;
#pragma omp simd reduction(+ : total)
    for (int64_t j = 0; j < seen; j++) {
        s[j] = kv_expf(s[j] - top);
        total += s[j];
    }
    for (int64_t j = seen; j < width; j++) s[j] = 0;
    if (first) {
        *sum = total;
    } else if (top == *max) {
        *sum += total;
    } else {
        float shrink = kv_expf(*max - top);
        *sum = *sum * shrink + total;
        for (int64_t i = 0; i < d; i++) o[i] *= shrink;
    }
    *max = top;
}

static void forward_block(const struct kv_attention_geometry *g, int64_t sequence, int64_t kv_head,
                          int64_t t0, struct scratch w, float *out) {
    const kv_sequence *seq = &g->args.sequences[sequence];
    int64_t d = g->args.head_dim, queries = kv_min64(g->block, seq->q_len - t0), rows = queries * g->group;
    int64_t keys = kv_visible_keys(&g->args, seq, t0 + queries - 1);
    kv_stack_queries(g, seq, kv_head, t0, queries, w.q);
    for (int64_t j0 = 0; j0 < keys; j0 += KEY_TILE) {
        int64_t width = kv_min64(KEY_TILE, keys - j0);
        kv_gemm_nt(rows, width, d, w.q, d, kv_key_rows(g, sequence, j0, kv_head), g->kv_dim, 0, w.s,
                   KEY_TILE);
        for (int64_t r = 0; r < rows; r++) {
            int64_t seen = kv_visible_keys(&g->args, seq, t0 + r / g->group) - j0;
            seen = seen < 0 ? 0 : kv_min64(seen, width);
            online_softmax_row(w.s + r * KEY_TILE, seen, width, j0 == 0, w.max + r, w.sum + r, w.o + r * d,
                               d);
        }
        kv_gemm_nn(rows, d, width, w.s, KEY_TILE, value_rows(g, sequence, j0, kv_head), g->kv_dim, j0 ? 1 : 0,
                   w.o, d);
    }
    for (int64_t r = 0; r < rows; r++) {
        int64_t row = seq->q_row + t0 + r / g->group, head = kv_head * g->group + r % g->group;
        float *y = out + row * g->q_dim + head * d, inverse = 1.0f / w.sum[r];
        for (int64_t i = 0; i < d; i++) y[i] = w.o[r * d + i] * inverse;
        if (g->lse) g->lse[head * g->lse_stride + row] = (struct kv_attention_lse){w.max[r], logf(w.sum[r])};
    }
}

// One unit of forward work: a block of queries of one sequence, for one KV head.
struct task {
    int32_t sequence, kv_head;
    int64_t t0;
};

static int64_t count_tasks(const struct kv_attention_geometry *g) {
    int64_t n = 0;
    for (int64_t s = 0; s < g->args.n_sequences; s++)
        n += (g->args.sequences[s].q_len + g->block - 1) / g->block * g->args.n_kv_heads;
    return n;
}

static bool attend(kv_arena *arena, const struct kv_attention_geometry *g, float *out) {
    int64_t n_tasks = count_tasks(g), n = 0;
    int n_threads = omp_get_max_threads();
    struct task *tasks = kv_arena_alloc(arena, (size_t)n_tasks * sizeof *tasks);
    size_t floats = scratch_floats(g->block * g->group, g->args.head_dim);
    float *memory = kv_arena_floats(arena, (int64_t)floats * n_threads);
    if (!tasks || !memory) return false;
    for (int64_t s = 0; s < g->args.n_sequences; s++)
        for (int64_t h = 0; h < g->args.n_kv_heads; h++)
            for (int64_t t = 0; t < g->args.sequences[s].q_len; t += g->block)
                tasks[n++] = (struct task){.sequence = (int32_t)s, .kv_head = (int32_t)h, .t0 = t};
#pragma omp parallel for schedule(dynamic) num_threads(n_threads) if (n_tasks > 1)
    for (int64_t i = 0; i < n_tasks; i++) {
        struct scratch w = carve(memory + floats * (size_t)omp_get_thread_num(), g);
        forward_block(g, tasks[i].sequence, tasks[i].kv_head, tasks[i].t0, w, out);
    }
    return true;
}

// Gradients as they are being added up. dk is with respect to the turned keys, packed like g->k.
struct gradients {
    const float *out, *dout;
    float *dq, *dk, *dv;
    float q_beta;
};

// P and dS of one tile from its scores (in s) and dO·Vᵀ (in ds).
static void backward_scores(const struct kv_attention_geometry *g, const kv_sequence *seq,
                            const struct scratch *w, int64_t rows, int64_t t0, int64_t j0, int64_t width) {
    for (int64_t r = 0; r < rows; r++) {
        int64_t seen = kv_visible_keys(&g->args, seq, t0 + r / g->group) - j0;
        seen = seen < 0 ? 0 : kv_min64(seen, width);
        float *restrict s = w->s + r * KEY_TILE, *restrict ds = w->ds + r * KEY_TILE;
        float max = w->max[r], log_sum = w->log_sum[r], dot = w->sum[r];
        for (int64_t j = 0; j < seen; j++) {
            s[j] = kv_expf((s[j] - max) - log_sum);
            ds[j] = s[j] * (ds[j] - dot);
        }
        for (int64_t j = seen; j < width; j++) s[j] = ds[j] = 0;
    }
}

// dq of a block: turned back, scaled, written or added to its place.
static void unstack_query_gradient(const struct kv_attention_geometry *g, const kv_sequence *seq,
                                   int64_t kv_head, int64_t t0, int64_t rows, float *dq_stack,
                                   const struct gradients *grads) {
    int64_t d = g->args.head_dim;
    float scale = 1.0f / sqrtf((float)d);
    for (int64_t r = 0; r < rows; r++) {
        int64_t t = t0 + r / g->group, head = kv_head * g->group + r % g->group;
        float *src = dq_stack + r * d, *dst = grads->dq + (seq->q_row + t) * g->q_dim + head * d;
        if (g->args.rope) kv_rope_turn(g->args.rope, kv_query_position(g, seq, t), true, src, src);
        if (grads->q_beta == 0)
            for (int64_t i = 0; i < d; i++) dst[i] = src[i] * scale;
        else
            for (int64_t i = 0; i < d; i++) dst[i] += src[i] * scale;
    }
}

static void backward_block(const struct kv_attention_geometry *g, int64_t sequence, int64_t kv_head,
                           int64_t t0, struct scratch w, const struct gradients *grads) {
    const kv_sequence *seq = &g->args.sequences[sequence];
    int64_t d = g->args.head_dim, queries = kv_min64(g->block, seq->q_len - t0), rows = queries * g->group;
    int64_t keys = kv_visible_keys(&g->args, seq, t0 + queries - 1);
    kv_stack_queries(g, seq, kv_head, t0, queries, w.q);
    stack_rows(g, seq, kv_head, t0, queries, grads->out, w.o);
    stack_rows(g, seq, kv_head, t0, queries, grads->dout, w.d_o);
    for (int64_t r = 0; r < rows; r++) {
        int64_t row = seq->q_row + t0 + r / g->group, head = kv_head * g->group + r % g->group;
        w.max[r] = g->lse[head * g->lse_stride + row].max;
        w.log_sum[r] = g->lse[head * g->lse_stride + row].log_sum;
        float dot = 0;
        for (int64_t i = 0; i < d; i++) dot += w.o[r * d + i] * w.d_o[r * d + i];
        w.sum[r] = dot;
    }
    for (int64_t j0 = 0; j0 < keys; j0 += KEY_TILE) {
        int64_t width = kv_min64(KEY_TILE, keys - j0);
        const float *k = kv_key_rows(g, sequence, j0, kv_head), *v = value_rows(g, sequence, j0, kv_head);
        kv_gemm_nt(rows, width, d, w.q, d, k, g->kv_dim, 0, w.s, KEY_TILE);
        kv_gemm_nt(rows, width, d, w.d_o, d, v, g->kv_dim, 0, w.ds, KEY_TILE);
        backward_scores(g, seq, &w, rows, t0, j0, width);
        if (grads->dv)
            kv_gemm_tn(width, d, rows, w.s, KEY_TILE, w.d_o, d, 1,
                       grads->dv + (seq->k_row + j0) * g->kv_dim + kv_head * d, g->kv_dim);
        if (grads->dk)
            kv_gemm_tn(width, d, rows, w.ds, KEY_TILE, w.q, d, 1, grads->dk + (k - g->k), g->kv_dim);
        if (grads->dq) kv_gemm_nn(rows, d, width, w.ds, KEY_TILE, k, g->kv_dim, j0 ? 1 : 0, w.dq, d);
    }
    if (grads->dq) unstack_query_gradient(g, seq, kv_head, t0, rows, w.dq, grads);
}

// The gradient of turned keys, turned back and added to the keys' own.
static void turn_back_keys(const struct kv_attention_geometry *g, int64_t sequence, int64_t kv_head,
                           float *turned, float *dk) {
    const kv_sequence *seq = &g->args.sequences[sequence];
    int64_t d = g->args.head_dim;
    for (int64_t j = 0; j < seq->k_len; j++) {
        float *src = turned + (g->turned_row[sequence] + j) * g->kv_dim + kv_head * d;
        float *dst = dk + (seq->k_row + j) * g->kv_dim + kv_head * d;
        int64_t position = g->args.k_positions ? g->args.k_positions[seq->k_row + j] : j;
        kv_rope_turn(g->args.rope, position, true, src, src);
        for (int64_t i = 0; i < d; i++) dst[i] += src[i];
    }
}

static float *zeroed_grad(kv_tape *tape, kv_tensor *x) {
    float beta, *grad = kv_tape_grad(tape, x, &beta);
    if (grad && beta == 0) memset(grad, 0, (size_t)(x->rows * x->cols) * sizeof *grad);
    return grad;
}

static void attention_backward(kv_tape *tape, const kv_record *r) {
    const struct attention_saved *saved = r->saved;
    kv_tensor *q = r->in[0], *k = r->in[1], *v = r->in[2];
    kv_arena *arena = kv_tape_arena(tape);
    struct gradients grads = {.out = r->out->data, .dout = r->out->grad};
    grads.dq = kv_tape_grad(tape, q, &grads.q_beta);
    grads.dv = zeroed_grad(tape, v);
    float *dk = zeroed_grad(tape, k);
    if (grads.dq && grads.q_beta == 0) // rows outside every sequence
        memset(grads.dq, 0, (size_t)(q->rows * q->cols) * sizeof *grads.dq);
    kv_arena_mark mark = kv_arena_get_mark(arena);
    struct kv_attention_geometry g;
    bool ok = kv_attention_prepare(tape, &saved->args, q->data, k->data, &g);
    g.v = v->data, g.lse = saved->lse, g.lse_stride = q->rows;
    int n_threads = omp_get_max_threads();
    size_t floats = scratch_floats(g.block * g.group, g.args.head_dim);
    float *memory = kv_arena_floats(arena, (int64_t)floats * n_threads);
    grads.dk = dk && g.args.rope ? kv_arena_floats(arena, g.n_turned * g.kv_dim) : dk;
    if (!ok || !memory || (dk && !grads.dk)) {
        kv_tape_fail(tape, KV_ERR_MEMORY, "out of memory for the gradient of attention");
        return;
    }
    if (dk && g.args.rope) memset(grads.dk, 0, (size_t)(g.n_turned * g.kv_dim) * sizeof *grads.dk);
    // One thread per (sequence, KV head): only it adds to those keys' and values' gradients.
    int64_t n_heads = g.args.n_kv_heads, n_units = g.args.n_sequences * n_heads;
#pragma omp parallel for schedule(dynamic) num_threads(n_threads) if (n_units > 1)
    for (int64_t unit = 0; unit < n_units; unit++) {
        int64_t sequence = unit / n_heads, head = unit % n_heads;
        struct scratch w = carve(memory + floats * (size_t)omp_get_thread_num(), &g);
        for (int64_t t = 0; t < g.args.sequences[sequence].q_len; t += g.block)
            backward_block(&g, sequence, head, t, w, &grads);
        if (dk && g.args.rope) turn_back_keys(&g, sequence, head, grads.dk, dk);
    }
    kv_arena_release(arena, mark);
}

static bool record_attention(kv_tape *tape, kv_tensor *out, kv_tensor *q, kv_tensor *k, kv_tensor *v,
                             const kv_attention_args *args, struct kv_attention_lse *lse) {
    kv_record *r = kv_tape_record(tape, attention_backward, out, sizeof(struct attention_saved));
    kv_sequence *sequences =
        kv_arena_alloc(kv_tape_arena(tape), (size_t)args->n_sequences * sizeof *sequences);
    if (!r || !sequences) return false;
    memcpy(sequences, args->sequences, (size_t)args->n_sequences * sizeof *sequences);
    r->in[0] = q, r->in[1] = k, r->in[2] = v;
    struct attention_saved *saved = r->saved;
    *saved = (struct attention_saved){.args = *args, .lse = lse};
    saved->args.sequences = sequences;
    return true;
}

kv_tensor *kv_attention(kv_tape *tape, kv_tensor *q, kv_tensor *k, kv_tensor *v,
                        const kv_attention_args *args) {
    if (!q || !k || !v) return NULL;
    assert(q->cols == args->n_heads * args->head_dim && k->cols == args->n_kv_heads * args->head_dim);
    assert(v->cols == k->cols && v->rows == k->rows && args->n_heads % args->n_kv_heads == 0);
    kv_arena *arena = kv_tape_arena(tape);
    kv_tensor *out = kv_tape_tensor(tape, q->rows, q->cols);
    bool wants = kv_tape_wants(tape, (const kv_tensor *const[]){q, k, v}, 3, NULL, NULL);
    struct kv_attention_lse *lse =
        wants ? kv_arena_alloc(arena, (size_t)(args->n_heads * q->rows) * sizeof *lse) : NULL;
    if (!out || (wants && !lse)) return kv_tape_fail(tape, KV_ERR_MEMORY, "out of memory for attention");
    kv_arena_mark mark = kv_arena_get_mark(arena);
    struct kv_attention_geometry g;
    if (!kv_attention_prepare(tape, args, q->data, k->data, &g)) return NULL;
    g.v = v->data, g.lse = lse, g.lse_stride = q->rows;
    if (!attend(arena, &g, out->data))
        return kv_tape_fail(tape, KV_ERR_MEMORY, "out of memory for attention");
    kv_arena_release(arena, mark);
    if (wants && !record_attention(tape, out, q, k, v, args, lse))
        return kv_tape_fail(tape, KV_ERR_MEMORY, "out of memory for attention");
    return out;
}

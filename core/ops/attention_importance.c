// importance_j = Σ_t mean_h p_{t,h,j}  or  max_{t,h} p_{t,h,j}
// with p_{t,h} = softmax(turn(q_{t,h})·turn(k)ᵀ/√d)
//
// One block of stacked queries against all keys it sees is one product; its rows become probabilities and are
// pooled at once. A KV head of a sequence belongs to one thread, which pools into a row of its own; those
// rows come together in the order of heads.
#include "core/gemm.h"
#include "core/ops/attention_blocks.h"
#include "core/vecmath.h"

#include <assert.h>
#include <math.h>
#include <omp.h>
#include <string.h>

// p = e^(s - max s) / Σ, in place.
static void softmax_row(float *s, int64_t n) {
    float top = -INFINITY, total = 0;
#pragma omp simd reduction(max : top)
    for (int64_t j = 0; j < n; j++) top = s[j] > top ? s[j] : top;
#pragma omp simd reduction(+ : total)
    for (int64_t j = 0; j < n; j++) {
        s[j] = kv_expf(s[j] - top);
        total += s[j];
    }
    const float inverse = 1 / total;
    for (int64_t j = 0; j < n; j++) s[j] *= inverse;
}

static void pool_row(kv_pooling pooling, int64_t n, const float *x, float *into) {
    if (pooling == KV_POOL_MEAN)
        for (int64_t j = 0; j < n; j++) into[j] += x[j];
    else
        for (int64_t j = 0; j < n; j++) into[j] = x[j] > into[j] ? x[j] : into[j];
}

// pooled[k_len] over all queries of a sequence and the heads of one KV head. scratch: queries, then scores.
static void pool_kv_head(const struct kv_attention_geometry *g, kv_pooling pooling, int64_t sequence,
                         int64_t kv_head, float *scratch, float *pooled) {
    const kv_sequence *seq = &g->args.sequences[sequence];
    const int64_t d = g->args.head_dim;
    float *stacked = scratch, *s = scratch + g->block * g->group * d;
    memset(pooled, 0, (size_t)seq->k_len * sizeof *pooled);
    for (int64_t t0 = 0; t0 < seq->q_len; t0 += g->block) {
        const int64_t queries = kv_min64(g->block, seq->q_len - t0), rows = queries * g->group;
        const int64_t keys = kv_visible_keys(&g->args, seq, t0 + queries - 1);
        kv_stack_queries(g, seq, kv_head, t0, queries, stacked);
        kv_gemm_nt(rows, keys, d, stacked, d, kv_key_rows(g, sequence, 0, kv_head), g->kv_dim, 0, s, keys);
        for (int64_t r = 0; r < rows; r++) {
            const int64_t seen = kv_visible_keys(&g->args, seq, t0 + r / g->group);
            softmax_row(s + r * keys, seen);
            pool_row(pooling, seen, s + r * keys, pooled);
        }
    }
}

static void pool_heads(const struct kv_attention_geometry *g, kv_pooling pooling, int64_t k_len,
                       float *pooled, float *importance) {
    for (int64_t h = 1; h < g->args.n_kv_heads; h++) pool_row(pooling, k_len, pooled + h * k_len, pooled);
    if (pooling == KV_POOL_MEAN)
        for (int64_t j = 0; j < k_len; j++) pooled[j] /= (float)g->args.n_heads;
    pool_row(pooling, k_len, pooled, importance);
}

// Of one thread: stacked queries, and their scores.
static int64_t scratch_floats(int64_t stacked_rows, int64_t head_dim, int64_t longest) {
    return stacked_rows * (head_dim + longest);
}

size_t kv_attention_importance_scratch(int64_t n_heads, int64_t n_kv_heads, int64_t head_dim,
                                       int64_t longest) {
    const int64_t group = n_heads / n_kv_heads, rows = kv_queries_per_block(group) * group;
    return (size_t)omp_get_max_threads() * (size_t)scratch_floats(rows, head_dim, longest) * sizeof(float);
}

static bool add_up(kv_arena *arena, const struct kv_attention_geometry *g, kv_pooling pooling,
                   float *const *importance) {
    const int64_t n_heads = g->args.n_kv_heads, n_sequences = g->args.n_sequences;
    float **pooled = kv_arena_alloc(arena, (size_t)n_sequences * sizeof *pooled);
    if (!pooled) return false;
    int64_t longest = 0;
    for (int64_t s = 0; s < n_sequences; s++) {
        const int64_t k_len = g->args.sequences[s].k_len;
        longest = k_len > longest ? k_len : longest;
        pooled[s] = kv_arena_floats(arena, n_heads * k_len);
        if (!pooled[s]) return false;
    }
    const int n_threads = omp_get_max_threads();
    const int64_t floats = scratch_floats(g->block * g->group, g->args.head_dim, longest);
    float *scratch = kv_arena_floats(arena, floats * n_threads);
    if (!scratch) return false;
    const int64_t n_units = n_sequences * n_heads;
#pragma omp parallel for schedule(dynamic) num_threads(n_threads) if (n_units > 1)
    for (int64_t unit = 0; unit < n_units; unit++) {
        const int64_t s = unit / n_heads, head = unit % n_heads;
        pool_kv_head(g, pooling, s, head, scratch + floats * omp_get_thread_num(),
                     pooled[s] + head * g->args.sequences[s].k_len);
    }
    for (int64_t s = 0; s < n_sequences; s++)
        pool_heads(g, pooling, g->args.sequences[s].k_len, pooled[s], importance[s]);
    return true;
}

bool kv_attention_importance(kv_tape *tape, const kv_tensor *q, const kv_tensor *k,
                             const kv_attention_args *args, kv_pooling pooling, float *const *importance) {
    if (!q || !k) return false;
    assert(q->cols == args->n_heads * args->head_dim && k->cols == args->n_kv_heads * args->head_dim);
    kv_arena *arena = kv_tape_arena(tape);
    kv_arena_mark mark = kv_arena_get_mark(arena);
    struct kv_attention_geometry g;
    if (!kv_attention_prepare(tape, args, q->data, k->data, &g)) return false;
    if (!add_up(arena, &g, pooling, importance)) {
        kv_tape_fail(tape, KV_ERR_MEMORY, "out of memory for the attention that tokens get");
        return false;
    }
    kv_arena_release(arena, mark);
    return true;
}

// importance_j = Σ_t mean_h p_{t,h,j}  or  max_{t,h} p_{t,h,j}
// with p_{t,h} = softmax(turn(q_{t,h})·turn(k)ᵀ/√d)
//
// The scores of a block of stacked queries are made tile by tile; its rows become probabilities and are pooled at
// once. A KV head of a sequence belongs to one thread, which pools into a row of its own; those
// rows come together in the order of heads.
#include "core/gemm.h"
#include "core/ops/attention_blocks.h"
#include "core/vecmath.h"

#include <assert.h>
#include <math.h>
#include <omp.h>
#include <string.h>

enum { BLOCK_STRIPS = 5 }; // at most

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

// Scratch of one thread: stacked queries, a panel of keys, and scores.
struct scratch {
    float *q;    // [block, head_dim]
    float *rows; // [KV_PANEL, head_dim]
    float *keys; // panels of a tile
    float *s;    // [block, longest]
};

// Returns how many floats that is; with memory NULL nothing else.
static int64_t carve(float *memory, int64_t group, int64_t d, int64_t longest, struct scratch *w) {
    const int64_t block = BLOCK_STRIPS * kv_queries_per_strip(group) * group;
    int64_t used = 0;
    w->q = kv_take_floats(memory, &used, block * d);
    w->rows = kv_take_floats(memory, &used, KV_PANEL * d);
    w->keys = kv_take_floats(memory, &used, KV_KEY_TILE * d);
    w->s = kv_take_floats(memory, &used, block * kv_whole_panels(longest));
    return used;
}

// Scores of a block of stacked queries, rows `ld` apart, strip by strip as far as one sees. Returns the operations.
static uint64_t block_scores(const struct kv_attention_geometry *g, const struct kv_stacked *b,
                             const struct scratch *w, int64_t ld) {
    const kv_sequence *seq = &g->args.sequences[b->sequence];
    const int64_t d = g->args.head_dim, rows = b->queries * g->group, strip = g->strip * g->group;
    const int64_t keys = kv_visible_keys(&g->args, seq, b->t0 + b->queries - 1);
    uint64_t scores = 0;
    kv_stack_queries(g, b, w->q, d);
    for (int64_t j0 = 0; j0 < keys; j0 += KV_KEY_TILE) {
        const int64_t width = kv_min64(KV_KEY_TILE, keys - j0);
        kv_key_panels(g, b->sequence, b->kv_head, j0, width, w->rows, w->keys);
        for (int64_t r0 = 0; r0 < rows; r0 += strip) {
            const int64_t some = kv_min64(strip, rows - r0), seen = kv_seen(g, b, r0 + some - 1, j0, width);
            kv_key_scores(g, w->q + r0 * d, some, w->keys, seen, w->s + r0 * ld + j0, ld);
            scores += (uint64_t)(some * seen);
        }
    }
    return 2 * scores * (uint64_t)d;
}

// pooled[k_len] over all queries of a sequence and the heads of one KV head.
static void pool_kv_head(const struct kv_attention_geometry *g, kv_pooling pooling, int64_t sequence,
                         int64_t kv_head, const struct scratch *w, float *pooled) {
    const kv_sequence *seq = &g->args.sequences[sequence];
    const int64_t block = BLOCK_STRIPS * g->strip, ld = kv_whole_panels(seq->k_len);
    memset(pooled, 0, (size_t)seq->k_len * sizeof *pooled);
    for (int64_t t0 = 0; t0 < seq->q_len; t0 += block) {
        const struct kv_stacked b = {sequence, kv_head, t0, kv_min64(block, seq->q_len - t0)};
        kv_gemm_count(block_scores(g, &b, w, ld));
        for (int64_t r = 0; r < b.queries * g->group; r++) {
            const int64_t seen = kv_visible_keys(&g->args, seq, t0 + r / g->group);
            softmax_row(w->s + r * ld, seen);
            pool_row(pooling, seen, w->s + r * ld, pooled);
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

size_t kv_attention_importance_scratch(int64_t n_heads, int64_t n_kv_heads, int64_t head_dim,
                                       int64_t longest) {
    struct scratch w;
    return (size_t)omp_get_max_threads() * (size_t)carve(NULL, n_heads / n_kv_heads, head_dim, longest, &w) *
           sizeof(float);
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
    const int n_threads = kv_attention_together(&g->args) ? omp_get_max_threads() : 1;
    const int64_t d = g->args.head_dim;
    struct scratch unused;
    const int64_t floats = carve(NULL, g->group, d, longest, &unused);
    float *memory = kv_arena_floats(arena, floats * n_threads);
    if (!memory) return false;
    const int64_t n_units = n_sequences * n_heads;
#pragma omp parallel for schedule(dynamic) num_threads(n_threads) if (n_threads > 1 && n_units > 1)
    for (int64_t unit = 0; unit < n_units; unit++) {
        const int64_t s = unit / n_heads, head = unit % n_heads;
        struct scratch w;
        carve(memory + floats * omp_get_thread_num(), g->group, d, longest, &w);
        pool_kv_head(g, pooling, s, head, &w, pooled[s] + head * g->args.sequences[s].k_len);
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

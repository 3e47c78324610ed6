// y = softmax(turn(q)·turn(k)ᵀ/√d, causal)·v for each sequence and head, in tiles.
//
// Per strip of queries, running over tiles of keys:
//                                                                          [Dao et al. 2022, algorithm 1]
//   S = Q·Kᵀ;  m' = max(m, rowmax S);  P = e^(S - m');  l = l·e^(m - m') + rowsum P;  O = O·e^(m - m') + P·V
//   y = O / l;  L = m + ln l is kept for backward
// The queries of all heads that share a KV head are stacked into one matrix, row t · group + h for query t,
// head h. 1/√d is folded into Q when it is turned. A block of strips shares the work of bringing a tile of keys
// and values into the form that products read; how many those are is no matter for the numbers.
#include "core/gemm.h"
#include "core/ops/attention_backward.h"
#include "core/vecmath.h"

#include <assert.h>
#include <math.h>
#include <omp.h>
#include <string.h>

enum { BLOCK_STRIPS = 10 }; // at most

// Scratch of one thread.
struct scratch {
    float *q;         // [block, head_dim], stacked
    float *o;         // [block, padded]
    float *max, *sum; // [block]
    float *s, *top;   // [strip, KV_KEY_TILE], [strip]
    float *rows;      // [KV_PANEL, head_dim]
    float *keys;      // panels of a tile
    float *values;    // [KV_KEY_TILE, padded]
};

// Returns how many floats that is; with memory NULL nothing else.
static int64_t carve(float *memory, int64_t group, int64_t d, struct scratch *w) {
    const int64_t strip = kv_queries_per_strip(group) * group, rows = BLOCK_STRIPS * strip;
    const int64_t padded = kv_whole_panels(d);
    int64_t used = 0;
    w->q = kv_take_floats(memory, &used, rows * d);
    w->o = kv_take_floats(memory, &used, rows * padded);
    w->max = kv_take_floats(memory, &used, rows);
    w->sum = kv_take_floats(memory, &used, rows);
    w->s = kv_take_floats(memory, &used, strip * KV_KEY_TILE);
    w->top = kv_take_floats(memory, &used, strip);
    w->rows = kv_take_floats(memory, &used, KV_PANEL * d);
    w->keys = kv_take_floats(memory, &used, KV_KEY_TILE * d);
    w->values = kv_take_floats(memory, &used, KV_KEY_TILE * padded);
    return used;
}

size_t kv_attention_scratch(int64_t n_heads, int64_t n_kv_heads, int64_t head_dim) {
    struct scratch w;
    return (size_t)omp_get_max_threads() * (size_t)carve(NULL, n_heads / n_kv_heads, head_dim, &w) *
           sizeof(float);
}

// Scores of a strip, rows KV_KEY_TILE apart, of which n columns, whole panels, hold numbers (masked ones -inf).
static inline float row_max(const float *restrict s, int64_t n, float top) {
#pragma omp simd reduction(max : top)
    for (int64_t j = 0; j < n; j++) top = s[j] > top ? s[j] : top;
    return top;
}

static inline float row_sum(const float *restrict s, int64_t n) {
    float sums[KV_PANEL] = {0};
    for (int64_t j = 0; j < n; j += KV_PANEL)
        for (int l = 0; l < KV_PANEL; l++) sums[l] += s[j + l];
    for (int half = KV_PANEL / 2; half > 0; half /= 2)
        for (int l = 0; l < half; l++) sums[l] += sums[l + half];
    return sums[0];
}

// The scores become e^(score - max); max, sum and O of its rows follow. One row after the other would wait for each
// other's maximum and sum: so each step is done for all of them.
static void online_softmax(float *restrict s, int64_t rows, int64_t n, bool first, float *restrict max,
                           float *restrict sum, float *restrict o, int64_t o_width, float *restrict top) {
    for (int64_t r = 0; r < rows; r++) top[r] = row_max(s + r * KV_KEY_TILE, n, first ? -INFINITY : max[r]);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t j = 0; j < n; j += KV_PANEL) {
            float *restrict panel = s + r * KV_KEY_TILE + j;
#pragma omp simd
            for (int l = 0; l < KV_PANEL; l++) panel[l] = kv_expf(panel[l] - top[r]);
        }
    for (int64_t r = 0; r < rows; r++) {
        const float total = row_sum(s + r * KV_KEY_TILE, n);
        if (first) {
            sum[r] = total;
        } else if (top[r] == max[r]) {
            sum[r] += total;
        } else {
            const float shrink = kv_expf(max[r] - top[r]);
            sum[r] = sum[r] * shrink + total;
            for (int64_t i = 0; i < o_width; i++) o[r * o_width + i] *= shrink;
        }
        max[r] = top[r];
    }
}

// Scores of keys that a row's query does not see, as far as the strip's last one does.
static void mask(const struct kv_attention_geometry *g, const struct kv_stacked *b, int64_t r0, int64_t rows,
                 int64_t j0, int64_t width, float *s) {
    const int64_t n = kv_whole_panels(width);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t j = kv_seen(g, b, r0 + r, j0, width); j < n; j++) s[r * KV_KEY_TILE + j] = -INFINITY;
}

// A tile of keys as the products read it.
struct tile {
    int64_t j0, width;
    const float *values;
    int64_t values_ld;
};

// Values are read where they lie when they are read once only. They are asked for before the keys are worked on: their
// rows are far apart, and a CPU does not see by itself which are next.
static struct tile bring_tile(const struct kv_attention_geometry *g, const struct kv_stacked *b, int64_t j0,
                              int64_t keys, const struct scratch *w) {
    const int64_t width = kv_min64(KV_KEY_TILE, keys - j0), d = g->args.head_dim;
    const float *v = kv_cache_rows(g, g->v, b->sequence, b->kv_head, j0);
    for (int64_t j = 0; j < width; j++)
        for (int64_t i = 0; i < d; i += KV_PANEL) __builtin_prefetch(v + j * g->kv_dim + i, 0, 2);
    kv_key_panels(g, b->sequence, b->kv_head, j0, width, w->rows, w->keys);
    if (b->queries <= g->strip && d == g->padded) return (struct tile){j0, width, v, g->kv_dim};
    for (int64_t j = 0; j < width; j++) {
        float *row = w->values + j * g->padded;
        memcpy(row, v + j * g->kv_dim, (size_t)d * sizeof *row);
        for (int64_t i = d; i < g->padded; i++) row[i] = 0;
    }
    return (struct tile){j0, width, w->values, g->padded};
}

// Rows [r0, r0 + rows) of a block against a tile. Returns the operations of both products.
static uint64_t attend_strip(const struct kv_attention_geometry *g, const struct kv_stacked *b, int64_t r0,
                             int64_t rows, const struct tile *tile, const struct scratch *w) {
    const int64_t d = g->args.head_dim, seen = kv_seen(g, b, r0 + rows - 1, tile->j0, tile->width);
    const bool first = tile->j0 == 0;
    if (seen == 0) return 0;
    kv_key_scores(g, w->q + r0 * d, rows, w->keys, seen, w->s, KV_KEY_TILE);
    if (seen % KV_PANEL != 0 || kv_seen(g, b, r0, tile->j0, seen) < seen)
        mask(g, b, r0, rows, tile->j0, seen, w->s);
    online_softmax(w->s, rows, kv_whole_panels(seen), first, w->max + r0, w->sum + r0, w->o + r0 * g->padded,
                   g->padded, w->top);
    kv_tiles(g->kernels,
             &(kv_tile){.x = w->s,
                        .x_row = KV_KEY_TILE,
                        .x_col = 1,
                        .w = tile->values,
                        .w_step = tile->values_ld,
                        .w_next = KV_PANEL,
                        .k = seen,
                        .beta = first ? 0 : 1,
                        .y = w->o + r0 * g->padded,
                        .ldy = g->padded},
             rows, g->padded);
    return 4 * (uint64_t)(rows * seen) * (uint64_t)d;
}

static void put_out(const struct kv_attention_geometry *g, const struct kv_stacked *b, int64_t rows,
                    const struct scratch *w, float *out) {
    const int64_t d = g->args.head_dim, q_row = g->args.sequences[b->sequence].q_row + b->t0;
    for (int64_t r = 0; r < rows; r++) {
        const int64_t row = q_row + r / g->group, head = b->kv_head * g->group + r % g->group;
        const float *o = w->o + r * g->padded, inverse = 1.0f / w->sum[r];
        float *y = out + row * g->q_dim + head * d;
        for (int64_t i = 0; i < d; i++) y[i] = o[i] * inverse;
        if (g->lse)
            g->lse[head * g->lse_stride + row] = (struct kv_attention_lse){w->max[r], logf(w->sum[r])};
    }
}

static void forward_block(const struct kv_attention_geometry *g, const struct kv_stacked *b,
                          const struct scratch *w, float *out) {
    const int64_t rows = b->queries * g->group, strip = g->strip * g->group;
    const int64_t keys = kv_visible_keys(&g->args, &g->args.sequences[b->sequence], b->t0 + b->queries - 1);
    uint64_t flops = 0;
    kv_stack_queries(g, b, w->q, g->args.head_dim);
    for (int64_t j0 = 0; j0 < keys; j0 += KV_KEY_TILE) {
        const struct tile tile = bring_tile(g, b, j0, keys, w);
        for (int64_t r0 = 0; r0 < rows; r0 += strip)
            flops += attend_strip(g, b, r0, kv_min64(strip, rows - r0), &tile, w);
    }
    kv_gemm_count(flops);
    put_out(g, b, rows, w, out);
}

// ---- Dealing out the work ------------------------------------------------------------------------------

// Queries of a block: small enough that all threads get some.
static int64_t block_queries(const struct kv_attention_geometry *g, int n_threads) {
    const int64_t strip = g->strip;
    int64_t strips = 0;
    for (int64_t s = 0; s < g->args.n_sequences; s++)
        strips += (g->args.sequences[s].q_len + strip - 1) / strip * g->args.n_kv_heads;
    strips = n_threads == 1 ? BLOCK_STRIPS : strips / (4 * n_threads);
    return strip * (strips < 1 ? 1 : kv_min64(strips, BLOCK_STRIPS));
}

static int64_t count_blocks(const struct kv_attention_geometry *g, int64_t block, int64_t *longest) {
    int64_t n = 0;
    *longest = 0;
    for (int64_t s = 0; s < g->args.n_sequences; s++) {
        const int64_t blocks = (g->args.sequences[s].q_len + block - 1) / block;
        n += blocks * g->args.n_kv_heads;
        if (blocks > *longest) *longest = blocks;
    }
    return n;
}

// The last blocks of all sequences first: they see most keys, and small pieces of work at the end even out.
static void list_blocks(const struct kv_attention_geometry *g, int64_t block, int64_t longest,
                        struct kv_stacked *blocks) {
    for (int64_t i = longest - 1; i >= 0; i--)
        for (int64_t s = 0; s < g->args.n_sequences; s++) {
            const int64_t rest = g->args.sequences[s].q_len - i * block;
            for (int64_t h = 0; rest > 0 && h < g->args.n_kv_heads; h++)
                *blocks++ = (struct kv_stacked){s, h, i * block, kv_min64(block, rest)};
        }
}

static void run_block(const struct kv_attention_geometry *g, const struct kv_stacked *block, float *memory,
                      float *out) {
    struct scratch w;
    carve(memory, g->group, g->args.head_dim, &w);
    forward_block(g, block, &w, out);
}

static bool attend(kv_arena *arena, const struct kv_attention_geometry *g, float *out) {
    const int n_threads = kv_attention_together(&g->args) ? omp_get_max_threads() : 1;
    struct scratch unused;
    const int64_t block = block_queries(g, n_threads);
    const int64_t floats = carve(NULL, g->group, g->args.head_dim, &unused);
    int64_t longest;
    const int64_t n = count_blocks(g, block, &longest);
    struct kv_stacked *blocks = kv_arena_alloc(arena, (size_t)n * sizeof *blocks);
    float *memory = kv_arena_floats(arena, floats * n_threads);
    if (!blocks || !memory) return false;
    list_blocks(g, block, longest, blocks);
    if (n_threads == 1 || n == 1) { // no region, which may cost as much as a block: core/ops/loops.h
        for (int64_t i = 0; i < n; i++) run_block(g, &blocks[i], memory, out);
        return true;
    }
#pragma omp parallel for schedule(dynamic) num_threads(n_threads)
    for (int64_t i = 0; i < n; i++) run_block(g, &blocks[i], memory + floats * omp_get_thread_num(), out);
    return true;
}

static bool record_attention(kv_tape *tape, kv_tensor *out, kv_tensor *q, kv_tensor *k, kv_tensor *v,
                             const kv_attention_args *args, struct kv_attention_lse *lse) {
    kv_record *r = kv_tape_record(tape, kv_attention_backward, out, sizeof(struct kv_attention_saved));
    kv_sequence *sequences =
        kv_arena_alloc(kv_tape_arena(tape), (size_t)args->n_sequences * sizeof *sequences);
    if (!r || !sequences) return false;
    memcpy(sequences, args->sequences, (size_t)args->n_sequences * sizeof *sequences);
    r->in[0] = q, r->in[1] = k, r->in[2] = v;
    struct kv_attention_saved *saved = r->saved;
    *saved = (struct kv_attention_saved){.args = *args, .lse = lse};
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

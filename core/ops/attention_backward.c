// With S, P and L as in attention.c, P = e^(S - L) made again tile by tile, and D = rowsum(dO ⊙ O):
//   dV += Pᵀ·dO;  dS = P ⊙ (dO·Vᵀ - D);  dQ += dS·K;  dK += dSᵀ·Q
//                                                                          [Dao et al. 2022, algorithm 4]
// One thread has a sequence and a KV head, so that nobody else adds to those keys' gradients. It holds a span of
// queries, stacked, with the gradients they get; tiles of keys pass by. dK and dQ are those of turned keys and
// queries and are turned back at the end.
#include "core/ops/attention_backward.h"

#include "core/gemm.h"
#include "core/vecmath.h"

#include <math.h>
#include <omp.h>
#include <string.h>

enum { SPAN_STRIPS = 40, BATCH_STRIPS = 4 }; // held at once; whose products over rows are one

// Scratch of one thread. A tile's keys and values are there as rows and as panels.
struct scratch {
    float *q, *d_o, *dq;              // [span, padded], stacked
    float *max, *log_sum, *dot;       // [span]
    float *p, *ds;                    // [batch, KV_KEY_TILE]
    float *rows;                      // [KV_KEY_TILE, padded]
    float *key_panels, *value_panels; // of a tile
    float *dk, *dv;                   // [KV_KEY_TILE, padded]
};

// As in attention.c; a span of so many strips.
static int64_t carve(float *memory, int64_t group, int64_t d, int64_t strips, struct scratch *w) {
    const int64_t strip = kv_queries_per_strip(group) * group, span = strips * strip;
    const int64_t batch = BATCH_STRIPS * strip, padded = kv_whole_panels(d);
    const int64_t tile = KV_KEY_TILE * padded, panels = KV_KEY_TILE * d;
    int64_t used = 0;
    w->q = kv_take_floats(memory, &used, span * padded);
    w->d_o = kv_take_floats(memory, &used, span * padded);
    w->dq = kv_take_floats(memory, &used, span * padded);
    w->max = kv_take_floats(memory, &used, span);
    w->log_sum = kv_take_floats(memory, &used, span);
    w->dot = kv_take_floats(memory, &used, span);
    w->p = kv_take_floats(memory, &used, batch * KV_KEY_TILE);
    w->ds = kv_take_floats(memory, &used, batch * KV_KEY_TILE);
    w->rows = kv_take_floats(memory, &used, tile);
    w->key_panels = kv_take_floats(memory, &used, panels);
    w->value_panels = kv_take_floats(memory, &used, panels);
    w->dk = kv_take_floats(memory, &used, tile);
    w->dv = kv_take_floats(memory, &used, tile);
    return used;
}

static int64_t span_strips(int64_t group, int64_t longest) {
    const int64_t strip = kv_queries_per_strip(group);
    return kv_min64(SPAN_STRIPS, (longest + strip - 1) / strip);
}

size_t kv_attention_backward_scratch(int64_t n_heads, int64_t n_kv_heads, int64_t head_dim, int64_t longest) {
    const int64_t group = n_heads / n_kv_heads;
    struct scratch w;
    return (size_t)omp_get_max_threads() *
           (size_t)carve(NULL, group, head_dim, span_strips(group, longest), &w) * sizeof(float);
}

// Where gradients go; NULL: nobody asks for them. A beta of 0: nothing is there yet.
struct gradients {
    const float *out, *dout;
    float *dq, *dk, *dv;
    float q_beta, k_beta, v_beta;
};

// One span of queries on its way through the tiles.
struct span {
    struct kv_stacked b;
    int64_t rows;
    const struct scratch *w;
    uint64_t flops;
};

static void load_span(const struct kv_attention_geometry *g, const struct span *s,
                      const struct gradients *grads) {
    const int64_t d = g->args.head_dim, q_row = g->args.sequences[s->b.sequence].q_row + s->b.t0;
    const struct scratch *w = s->w;
    kv_stack_queries(g, &s->b, w->q, g->padded);
    for (int64_t r = 0; r < s->rows; r++) {
        const int64_t row = q_row + r / g->group, head = s->b.kv_head * g->group + r % g->group;
        const float *o = grads->out + row * g->q_dim + head * d;
        const float *d_o = grads->dout + row * g->q_dim + head * d;
        const struct kv_attention_lse *lse = &g->lse[head * g->lse_stride + row];
        float dot = 0, *to = w->d_o + r * g->padded;
#pragma omp simd reduction(+ : dot)
        for (int64_t i = 0; i < d; i++) dot += o[i] * d_o[i];
        memcpy(to, d_o, (size_t)d * sizeof *to);
        for (int64_t i = d; i < g->padded; i++) to[i] = 0;
        w->max[r] = lse->max, w->log_sum[r] = lse->log_sum, w->dot[r] = dot;
    }
}

static void bring_tile(const struct kv_attention_geometry *g, const struct span *s, int64_t j0,
                       int64_t width) {
    const struct scratch *w = s->w;
    kv_turned_keys(g, s->b.sequence, s->b.kv_head, j0, width, w->rows, g->padded);
    kv_row_panels(g, w->rows, g->padded, width, w->key_panels);
    kv_row_panels(g, kv_cache_rows(g, g->v, s->b.sequence, s->b.kv_head, j0), g->kv_dim, width,
                  w->value_panels);
}

// P and dS of a row from its score (in p) and dO·Vᵀ (in ds). What is masked becomes 0, as far as `width`.
static void score_gradient(float *restrict p, float *restrict ds, int64_t seen, int64_t width, float max,
                           float log_sum, float dot) {
    const int64_t n = kv_whole_panels(seen);
    for (int64_t j = seen; j < n; j++) p[j] = -INFINITY, ds[j] = 0;
#pragma omp simd
    for (int64_t j = 0; j < n; j++) {
        p[j] = kv_expf((p[j] - max) - log_sum);
        ds[j] = p[j] * (ds[j] - dot);
    }
    for (int64_t j = n; j < width; j++) p[j] = ds[j] = 0;
}

static void count(struct span *s, const struct kv_attention_geometry *g, int64_t rows, int64_t keys) {
    s->flops += 2 * (uint64_t)(rows * keys) * (uint64_t)g->args.head_dim;
}

// P and dS of the rows [r0, r0 + rows) of a strip, into row `at` of the batch, and what dQ gets. Returns how many of
// the tile's keys the strip sees.
static int64_t strip_gradient(const struct kv_attention_geometry *g, struct span *s, int64_t r0, int64_t rows,
                              int64_t at, int64_t j0, int64_t width, bool queries) {
    const struct scratch *w = s->w;
    const int64_t d = g->args.head_dim, seen = kv_seen(g, &s->b, r0 + rows - 1, j0, width);
    float *p = w->p + at * KV_KEY_TILE, *ds = w->ds + at * KV_KEY_TILE;
    if (seen == 0) return 0;
    kv_tile t = {.x = w->q + r0 * g->padded,
                 .x_row = g->padded,
                 .x_col = 1,
                 .w = w->key_panels,
                 .w_step = KV_PANEL,
                 .w_next = d * KV_PANEL,
                 .k = d,
                 .y = p,
                 .ldy = KV_KEY_TILE};
    kv_tiles(g->kernels, &t, rows, seen);
    t.x = w->d_o + r0 * g->padded, t.w = w->value_panels, t.y = ds;
    kv_tiles(g->kernels, &t, rows, seen);
    count(s, g, 2 * rows, seen);
    for (int64_t r = 0; r < rows; r++)
        score_gradient(p + r * KV_KEY_TILE, ds + r * KV_KEY_TILE, kv_seen(g, &s->b, r0 + r, j0, width), seen,
                       w->max[r0 + r], w->log_sum[r0 + r], w->dot[r0 + r]);
    if (!queries) return seen;
    kv_tiles(g->kernels,
             &(kv_tile){.x = ds,
                        .x_row = KV_KEY_TILE,
                        .x_col = 1,
                        .w = w->rows,
                        .w_step = g->padded,
                        .w_next = KV_PANEL,
                        .k = seen,
                        .beta = j0 ? 1 : 0,
                        .y = w->dq + r0 * g->padded,
                        .ldy = g->padded},
             rows, g->padded);
    count(s, g, rows, seen);
    return seen;
}

// grad[keys, padded] += x[rows, keys]ᵀ · w[rows, padded]
static void add_over_rows(const struct kv_attention_geometry *g, struct span *s, const float *x,
                          const float *w, int64_t rows, int64_t keys, float *grad) {
    kv_tiles(g->kernels,
             &(kv_tile){.x = x,
                        .x_row = 1,
                        .x_col = KV_KEY_TILE,
                        .w = w,
                        .w_step = g->padded,
                        .w_next = KV_PANEL,
                        .k = rows,
                        .beta = 1,
                        .y = grad,
                        .ldy = g->padded},
             keys, g->padded);
    count(s, g, rows, keys);
}

static void keys_gradient(const struct kv_attention_geometry *g, struct span *s,
                          const struct gradients *grads, int64_t r0, int64_t rows, int64_t at, int64_t keys) {
    const struct scratch *w = s->w;
    if (grads->dv) add_over_rows(g, s, w->p + at * KV_KEY_TILE, w->d_o + r0 * g->padded, rows, keys, w->dv);
    if (grads->dk) add_over_rows(g, s, w->ds + at * KV_KEY_TILE, w->q + r0 * g->padded, rows, keys, w->dk);
}

// A few strips against a tile. Where all see the whole of it their products over rows are one.
static void batch_gradient(const struct kv_attention_geometry *g, struct span *s,
                           const struct gradients *grads, int64_t begin, int64_t end, int64_t j0,
                           int64_t width) {
    const int64_t strip = g->strip * g->group;
    const bool whole = kv_seen(g, &s->b, kv_min64(begin + strip, end) - 1, j0, width) == width;
    for (int64_t r0 = begin; r0 < end; r0 += strip) {
        const int64_t rows = kv_min64(strip, end - r0);
        const int64_t seen = strip_gradient(g, s, r0, rows, r0 - begin, j0, width, grads->dq != NULL);
        if (!whole && seen > 0) keys_gradient(g, s, grads, r0, rows, r0 - begin, seen);
    }
    if (whole) keys_gradient(g, s, grads, begin, end - begin, 0, width);
}

// What a tile's keys or values got, to where it belongs.
static void put_keys(const struct kv_attention_geometry *g, const struct span *s, int64_t j0, int64_t width,
                     const kv_rope *rope, float *from, float beta, float *to) {
    const int64_t d = g->args.head_dim, first = g->args.sequences[s->b.sequence].k_row + j0;
    float *dst = to + first * g->kv_dim + s->b.kv_head * d;
    for (int64_t j = 0; j < width; j++, from += g->padded, dst += g->kv_dim) {
        if (rope)
            kv_rope_turn(rope, g->args.k_positions ? g->args.k_positions[first + j] : j0 + j, true, from,
                         from);
        for (int64_t i = 0; i < d; i++) dst[i] = beta == 0 ? from[i] : dst[i] + from[i];
    }
}

// dq of a span: turned back, scaled, written or added to its place.
static void put_queries(const struct kv_attention_geometry *g, const struct span *s,
                        const struct gradients *grads) {
    const kv_sequence *seq = &g->args.sequences[s->b.sequence];
    const int64_t d = g->args.head_dim;
    const float scale = 1.0f / sqrtf((float)d);
    for (int64_t r = 0; r < s->rows; r++) {
        const int64_t t = s->b.t0 + r / g->group, head = s->b.kv_head * g->group + r % g->group;
        float *src = s->w->dq + r * g->padded, *dst = grads->dq + (seq->q_row + t) * g->q_dim + head * d;
        if (g->args.rope) kv_rope_turn(g->args.rope, kv_query_position(g, seq, t), true, src, src);
        if (grads->q_beta == 0)
            for (int64_t i = 0; i < d; i++) dst[i] = src[i] * scale;
        else
            for (int64_t i = 0; i < d; i++) dst[i] += src[i] * scale;
    }
}

// The first span of a sequence also writes where no query sees a key.
static void span_backward(const struct kv_attention_geometry *g, struct span *s,
                          const struct gradients *grads) {
    const kv_sequence *seq = &g->args.sequences[s->b.sequence];
    const struct scratch *w = s->w;
    const int64_t batch = BATCH_STRIPS * g->strip * g->group, tile = KV_KEY_TILE * g->padded;
    const int64_t keys = kv_visible_keys(&g->args, seq, s->b.t0 + s->b.queries - 1);
    const bool first = s->b.t0 == 0;
    load_span(g, s, grads);
    for (int64_t j0 = 0; j0 < (first ? seq->k_len : keys); j0 += KV_KEY_TILE) {
        const int64_t width = kv_min64(KV_KEY_TILE, seq->k_len - j0);
        bring_tile(g, s, j0, width);
        if (grads->dk) memset(w->dk, 0, (size_t)tile * sizeof *w->dk);
        if (grads->dv) memset(w->dv, 0, (size_t)tile * sizeof *w->dv);
        for (int64_t r = 0; r < s->rows && j0 < keys; r += batch)
            batch_gradient(g, s, grads, r, kv_min64(r + batch, s->rows), j0, width);
        if (grads->dk) put_keys(g, s, j0, width, g->args.rope, w->dk, first ? grads->k_beta : 1, grads->dk);
        if (grads->dv) put_keys(g, s, j0, width, NULL, w->dv, first ? grads->v_beta : 1, grads->dv);
    }
    if (grads->dq) put_queries(g, s, grads);
}

static void unit_backward(const struct kv_attention_geometry *g, int64_t sequence, int64_t kv_head,
                          int64_t span, const struct scratch *w, const struct gradients *grads) {
    const int64_t q_len = g->args.sequences[sequence].q_len;
    uint64_t flops = 0;
    for (int64_t t = 0; t < q_len; t += span) {
        const int64_t queries = kv_min64(span, q_len - t);
        struct span s = {{sequence, kv_head, t, queries}, queries * g->group, w, 0};
        span_backward(g, &s, grads);
        flops += s.flops;
    }
    kv_gemm_count(flops);
}

// The gradient of x, cleared unless every row of it will be written to.
static float *gradient_of(kv_tape *tape, kv_tensor *x, int64_t rows_written, float *beta) {
    float *grad = kv_tape_grad(tape, x, beta);
    if (grad && *beta == 0 && rows_written != x->rows) {
        memset(grad, 0, (size_t)(x->rows * x->cols) * sizeof *grad);
        *beta = 1;
    }
    return grad;
}

static struct gradients gradients_of(kv_tape *tape, const kv_record *r, const kv_attention_args *args,
                                     int64_t *longest) {
    struct gradients grads = {.out = r->out->data, .dout = r->out->grad};
    int64_t q_rows = 0, k_rows = 0;
    *longest = 0;
    for (int64_t s = 0; s < args->n_sequences; s++) {
        q_rows += args->sequences[s].q_len, k_rows += args->sequences[s].k_len;
        if (args->sequences[s].q_len > *longest) *longest = args->sequences[s].q_len;
    }
    grads.dq = gradient_of(tape, r->in[0], q_rows, &grads.q_beta);
    grads.dk = gradient_of(tape, r->in[1], k_rows, &grads.k_beta);
    grads.dv = gradient_of(tape, r->in[2], k_rows, &grads.v_beta);
    return grads;
}

void kv_attention_backward(kv_tape *tape, const kv_record *r) {
    const struct kv_attention_saved *saved = r->saved;
    kv_arena *arena = kv_tape_arena(tape);
    int64_t longest;
    const struct gradients grads = gradients_of(tape, r, &saved->args, &longest);
    const kv_arena_mark mark = kv_arena_get_mark(arena);
    struct kv_attention_geometry g;
    struct scratch unused;
    bool ok = kv_attention_prepare(tape, &saved->args, r->in[0]->data, r->in[1]->data, &g);
    g.v = r->in[2]->data, g.lse = saved->lse, g.lse_stride = r->in[0]->rows;
    const int n_threads = kv_attention_together(&g.args) ? omp_get_max_threads() : 1;
    const int64_t strips = span_strips(g.group, longest), d = g.args.head_dim;
    const int64_t floats = carve(NULL, g.group, d, strips, &unused);
    float *memory = kv_arena_floats(arena, floats * n_threads);
    if (!ok || !memory || kv_tape_status(tape, NULL) != KV_OK) {
        kv_tape_fail(tape, KV_ERR_MEMORY, "out of memory for the gradient of attention");
        return;
    }
    const int64_t n_heads = g.args.n_kv_heads, n_units = g.args.n_sequences * n_heads;
#pragma omp parallel for schedule(dynamic) num_threads(n_threads) if (n_threads > 1 && n_units > 1)
    for (int64_t unit = 0; unit < n_units; unit++) {
        struct scratch w;
        carve(memory + floats * omp_get_thread_num(), g.group, d, strips, &w);
        unit_backward(&g, unit / n_heads, unit % n_heads, strips * g.strip, &w, &grads);
    }
    kv_arena_release(arena, mark);
}

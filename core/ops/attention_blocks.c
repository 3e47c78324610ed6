// Keys are turned a tile at a time, by whoever needs them, and brought into the panels that the kernels read: for a
// block of queries that costs a few hundredths of the products, and no memory.
#include "core/ops/attention_blocks.h"

#include "core/gemm/isa.h"

#include <math.h>
#include <omp.h>
#include <string.h>

// Widens [*least, *most] to hold positions[0..n).
static void span(const int32_t *positions, int64_t n, int64_t *least, int64_t *most) {
    for (int64_t i = 0; i < n; i++) {
        if (positions[i] < *least) *least = positions[i];
        if (positions[i] > *most) *most = positions[i];
    }
}

// Every position that will be looked up in the table of angles is one of the context and has its angles.
static bool positions_fit(kv_tape *tape, const kv_attention_args *a) {
    for (int64_t s = 0; a->rope && s < a->n_sequences; s++) {
        const kv_sequence *seq = &a->sequences[s];
        int64_t least = 0, most = a->q_positions && a->k_positions ? 0 : seq->k_len - 1;
        if (a->k_positions) span(a->k_positions + seq->k_row, seq->k_len, &least, &most);
        if (a->q_positions) span(a->q_positions + seq->q_row, seq->q_len, &least, &most);
        if (least >= 0 && most < a->rope->n_positions) {
            if (kv_rope_reach(a->rope, most + 1)) continue;
            kv_tape_fail(tape, KV_ERR_MEMORY, "out of memory for the angles of %lld positions",
                         (long long)most + 1);
            return false;
        }
        kv_tape_fail(tape, KV_ERR_RANGE,
                     "sequence %lld reaches position %lld, outside the context of %lld tokens", (long long)s,
                     (long long)(least < 0 ? least : most), (long long)a->rope->n_positions);
        return false;
    }
    return true;
}

bool kv_attention_prepare(kv_tape *tape, const kv_attention_args *args, const float *q, const float *k,
                          struct kv_attention_geometry *g) {
    *g = (struct kv_attention_geometry){
        .args = *args, .kernels = kv_isa(), .group = args->n_heads / args->n_kv_heads};
    g->q = q, g->k = k;
    g->strip = kv_queries_per_strip(g->group);
    g->q_dim = args->n_heads * args->head_dim;
    g->kv_dim = args->n_kv_heads * args->head_dim;
    g->padded = kv_whole_panels(args->head_dim);
    return positions_fit(tape, args);
}

bool kv_attention_together(const kv_attention_args *args) {
    const int64_t worth = 1 << 19; // multiplications of one of the two products
    int64_t scores = 0;
    for (int64_t s = 0; s < args->n_sequences; s++)
        scores += args->sequences[s].q_len * args->sequences[s].k_len;
    return !omp_in_parallel() && scores > worth / (args->n_heads * args->head_dim);
}

void kv_turned_keys(const struct kv_attention_geometry *g, int64_t sequence, int64_t kv_head, int64_t j0,
                    int64_t n, float *rows, int64_t ld) {
    const kv_attention_args *a = &g->args;
    const int64_t d = a->head_dim, first = a->sequences[sequence].k_row + j0;
    const float *src = kv_cache_rows(g, g->k, sequence, kv_head, j0);
    for (int64_t j = 0; j < n; j++, src += g->kv_dim, rows += ld) {
        for (int64_t i = 0; i < d; i += KV_PANEL) __builtin_prefetch(src + 2 * KV_PANEL * g->kv_dim + i);
        const int64_t position = a->k_positions ? a->k_positions[first + j] : j0 + j;
        if (a->rope)
            kv_rope_turn(a->rope, position, false, src, rows);
        else
            memcpy(rows, src, (size_t)d * sizeof *rows);
        for (int64_t i = d; i < ld; i++) rows[i] = 0;
    }
}

void kv_row_panels(const struct kv_attention_geometry *g, const float *rows, int64_t ld, int64_t n,
                   float *panels) {
    const int64_t d = g->args.head_dim;
    for (int64_t j = 0; j < n; j += KV_PANEL, panels += d * KV_PANEL) {
        const int64_t some = kv_min64(KV_PANEL, n - j);
        if (some < KV_PANEL) memset(panels, 0, (size_t)(d * KV_PANEL) * sizeof *panels);
        g->kernels->turn(panels, KV_PANEL, rows + j * ld, KV_F32, ld, some, d);
    }
}

void kv_key_panels(const struct kv_attention_geometry *g, int64_t sequence, int64_t kv_head, int64_t j0,
                   int64_t n, float *rows, float *panels) {
    const int64_t d = g->args.head_dim;
    for (int64_t j = 0; j < n; j += KV_PANEL, panels += d * KV_PANEL) {
        const int64_t some = kv_min64(KV_PANEL, n - j);
        kv_turned_keys(g, sequence, kv_head, j0 + j, some, rows, d);
        kv_row_panels(g, rows, d, some, panels);
    }
}

int64_t kv_query_position(const struct kv_attention_geometry *g, const kv_sequence *seq, int64_t t) {
    if (g->args.q_positions) return g->args.q_positions[seq->q_row + t];
    return kv_visible_keys(&g->args, seq, t) - 1;
}

void kv_stack_queries(const struct kv_attention_geometry *g, const struct kv_stacked *b, float *dst,
                      int64_t ld) {
    const kv_sequence *seq = &g->args.sequences[b->sequence];
    const int64_t d = g->args.head_dim;
    const float scale = 1.0f / sqrtf((float)d);
    for (int64_t t = b->t0; t < b->t0 + b->queries; t++) {
        const float *src = g->q + (seq->q_row + t) * g->q_dim + b->kv_head * g->group * d;
        const int64_t position = kv_query_position(g, seq, t);
        for (int64_t h = 0; h < g->group; h++, src += d, dst += ld) {
            if (g->args.rope)
                kv_rope_turn(g->args.rope, position, false, src, dst);
            else
                memcpy(dst, src, (size_t)d * sizeof *dst);
            for (int64_t i = 0; i < d; i++) dst[i] *= scale;
            for (int64_t i = d; i < ld; i++) dst[i] = 0;
        }
    }
}

void kv_tiles(const kv_kernels *kernels, const kv_tile *first, int64_t rows, int64_t columns) {
    kv_tile t = *first;
    const int64_t n_panels = (columns + KV_PANEL - 1) / KV_PANEL;
    const int64_t n_tiles = (rows + kernels->rows - 1) / kernels->rows, tile = (rows + n_tiles - 1) / n_tiles;
    const int64_t together = tile <= kernels->wide ? KV_TILE_PANELS : 1;
    for (int64_t p = 0; p < n_panels; p += t.panels) {
        t.panels = (int)kv_min64(together, n_panels - p);
        t.w = (const float *)first->w + p * first->w_next;
        for (int64_t r = 0; r < rows; r += t.rows) {
            t.rows = (int)kv_min64(tile, rows - r);
            t.x = first->x + r * first->x_row;
            t.y = first->y + r * first->ldy + p * KV_PANEL;
            kernels->tile(&t);
        }
    }
}

// ---- Counts --------------------------------------------------------------------------------------------

uint64_t kv_attention_flops(int64_t n_heads, int64_t n_kv_heads, int64_t head_dim, int64_t q_len,
                            int64_t k_len) {
    const int64_t strip = kv_queries_per_strip(n_heads / n_kv_heads);
    uint64_t flops = 0;
    for (int64_t t = 0; t < q_len; t += strip) {
        const int64_t queries = kv_min64(strip, q_len - t), keys = k_len - q_len + t + queries;
        flops += 4 * (uint64_t)(n_heads * queries) * (uint64_t)keys * (uint64_t)head_dim;
    }
    return flops;
}

uint64_t kv_attention_flops_visible(int64_t n_heads, int64_t n_kv_heads, int64_t head_dim, int64_t q_len,
                                    const int32_t *visible) {
    const int64_t strip = kv_queries_per_strip(n_heads / n_kv_heads);
    uint64_t flops = 0;
    for (int64_t t = 0; t < q_len; t += strip) {
        const int64_t queries = kv_min64(strip, q_len - t);
        flops += 4 * (uint64_t)(n_heads * queries) * (uint64_t)visible[t + queries - 1] * (uint64_t)head_dim;
    }
    return flops;
}

uint64_t kv_attention_importance_flops(int64_t n_heads, int64_t n_kv_heads, int64_t head_dim, int64_t q_len,
                                       int64_t k_len) {
    return kv_attention_flops(n_heads, n_kv_heads, head_dim, q_len, k_len) / 2;
}

void kv_key_scores(const struct kv_attention_geometry *g, const float *q, int64_t rows, const float *keys,
                   int64_t n, float *scores, int64_t ld) {
    const int64_t d = g->args.head_dim;
    kv_tiles(g->kernels,
             &(kv_tile){.x = q,
                        .x_row = d,
                        .x_col = 1,
                        .w = keys,
                        .w_step = KV_PANEL,
                        .w_next = d * KV_PANEL,
                        .k = d,
                        .y = scores,
                        .ldy = ld},
             rows, n);
}

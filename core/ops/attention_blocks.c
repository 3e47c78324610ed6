// Keys are turned once for a whole call and packed sequence after sequence, so that tiles of them go into the
// products as they lie.
#include "core/ops/attention_blocks.h"

#include <math.h>
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

// Turned keys, packed sequence after sequence, so that tiles go into the products without copying.
static bool turn_keys(kv_arena *arena, struct kv_attention_geometry *g, const float *k) {
    const kv_attention_args *a = &g->args;
    int64_t *first = kv_arena_alloc(arena, (size_t)a->n_sequences * sizeof *first);
    if (!first) return false;
    g->n_turned = 0;
    for (int64_t s = 0; s < a->n_sequences; s++) {
        first[s] = g->n_turned;
        g->n_turned += a->sequences[s].k_len;
    }
    float *turned = kv_arena_floats(arena, g->n_turned * g->kv_dim);
    if (!turned) return false;
#pragma omp parallel for schedule(static) if (g->n_turned * g->kv_dim > 1 << 13)
    for (int64_t s = 0; s < a->n_sequences; s++) {
        const kv_sequence *seq = &a->sequences[s];
        for (int64_t j = 0; j < seq->k_len; j++) {
            const float *src = k + (seq->k_row + j) * g->kv_dim;
            float *dst = turned + (first[s] + j) * g->kv_dim;
            int64_t position = a->k_positions ? a->k_positions[seq->k_row + j] : j;
            for (int64_t h = 0; h < a->n_kv_heads; h++)
                kv_rope_turn(a->rope, position, false, src + h * a->head_dim, dst + h * a->head_dim);
        }
    }
    g->turned_row = first;
    g->k = turned;
    return true;
}

bool kv_attention_prepare(kv_tape *tape, const kv_attention_args *args, const float *q, const float *k,
                          struct kv_attention_geometry *g) {
    *g = (struct kv_attention_geometry){.args = *args, .group = args->n_heads / args->n_kv_heads};
    g->q = q, g->k = k;
    g->block = kv_queries_per_block(g->group);
    g->q_dim = args->n_heads * args->head_dim;
    g->kv_dim = args->n_kv_heads * args->head_dim;
    if (!positions_fit(tape, args)) return false;
    if (!args->rope || turn_keys(kv_tape_arena(tape), g, k)) return true;
    kv_tape_fail(tape, KV_ERR_MEMORY, "out of memory for attention");
    return false;
}

const float *kv_key_rows(const struct kv_attention_geometry *g, int64_t sequence, int64_t j,
                         int64_t kv_head) {
    int64_t row = g->args.rope ? g->turned_row[sequence] : g->args.sequences[sequence].k_row;
    return g->k + (row + j) * g->kv_dim + kv_head * g->args.head_dim;
}

int64_t kv_query_position(const struct kv_attention_geometry *g, const kv_sequence *seq, int64_t t) {
    if (g->args.q_positions) return g->args.q_positions[seq->q_row + t];
    return kv_visible_keys(&g->args, seq, t) - 1;
}

void kv_stack_queries(const struct kv_attention_geometry *g, const kv_sequence *seq, int64_t kv_head,
                      int64_t t0, int64_t queries, float *dst) {
    int64_t d = g->args.head_dim;
    float scale = 1.0f / sqrtf((float)d);
    for (int64_t t = 0; t < queries; t++) {
        const float *src = g->q + (seq->q_row + t0 + t) * g->q_dim + kv_head * g->group * d;
        int64_t position = kv_query_position(g, seq, t0 + t);
        for (int64_t h = 0; h < g->group; h++, src += d, dst += d) {
            if (g->args.rope)
                kv_rope_turn(g->args.rope, position, false, src, dst);
            else
                memcpy(dst, src, (size_t)d * sizeof *dst);
            for (int64_t i = 0; i < d; i++) dst[i] *= scale;
        }
    }
}

uint64_t kv_attention_flops(int64_t n_heads, int64_t n_kv_heads, int64_t head_dim, int64_t q_len,
                            int64_t k_len) {
    int64_t block = kv_queries_per_block(n_heads / n_kv_heads);
    uint64_t flops = 0;
    for (int64_t t = 0; t < q_len; t += block) {
        int64_t queries = kv_min64(block, q_len - t), keys = k_len - q_len + t + queries;
        flops += 4 * (uint64_t)(n_heads * queries) * (uint64_t)keys * (uint64_t)head_dim;
    }
    return flops;
}

uint64_t kv_attention_flops_visible(int64_t n_heads, int64_t n_kv_heads, int64_t head_dim, int64_t q_len,
                                    const int32_t *visible) {
    int64_t block = kv_queries_per_block(n_heads / n_kv_heads);
    uint64_t flops = 0;
    for (int64_t t = 0; t < q_len; t += block) {
        int64_t queries = kv_min64(block, q_len - t);
        flops += 4 * (uint64_t)(n_heads * queries) * (uint64_t)visible[t + queries - 1] * (uint64_t)head_dim;
    }
    return flops;
}

uint64_t kv_attention_importance_flops(int64_t n_heads, int64_t n_kv_heads, int64_t head_dim, int64_t q_len,
                                       int64_t k_len) {
    return kv_attention_flops(n_heads, n_kv_heads, head_dim, q_len, k_len) / 2;
}

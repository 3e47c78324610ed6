// Logits become log-probabilities: folded into running sums tile by tile, so that never more than a tile of them exists.
#include "infer/score/scoring.h"

#include "core/gemm.h"
#include "core/vecmath.h"

#include <assert.h>
#include <math.h>

// Rows and columns of a tile of logits.
enum { TILE_ROWS = 256, TILE_COLS = 2048 };
static_assert(TILE_ROWS * TILE_COLS == KV_SCORE_TILE, "what infer/memory.h counts");

kv_row_sum kv_row_sum_none(void) {
    return (kv_row_sum){.max = -INFINITY, .best = -1, .finite = true};
}

void kv_row_sum_fold(kv_row_sum *r, const float *z, int64_t first, int64_t n, int32_t target) {
    float top = -INFINITY, total = 0;
#pragma omp simd reduction(max : top)
    for (int64_t j = 0; j < n; j++) top = z[j] > top ? z[j] : top;
    if (r->best < 0 || top > r->max) {
        int64_t at = 0;
        while (at < n && z[at] < top) at++;
        r->sum = r->best < 0 ? 0 : r->sum * exp((double)r->max - (double)top);
        r->max = top;
        r->best = first + at;
    }
    const float max = r->max;
#pragma omp simd reduction(+ : total)
    for (int64_t j = 0; j < n; j++) total += kv_expf(z[j] - max);
    r->sum += (double)total;
    r->finite = r->finite && kv_all_finite(z, n);
    if (target >= first && target < first + n) r->target = z[target - first];
}

static double log_p(const kv_row_sum *r) {
    return ((double)r->target - (double)r->max) - log(r->sum);
}

kv_status kv_score_not_finite(const kv_scoring *g, int64_t s, int64_t scored, kv_error *err) {
    g->log_likelihood[s] = NAN;
    return kv_fail(
        err, KV_ERR_NOT_FINITE,
        "token %lld: the logits are not finite: weights are NaN or infinite, or numbers grew too large "
        "for float32",
        (long long)(g->lengths[s] - g->n_scored[s] + scored));
}

kv_status kv_score_add(const kv_scoring *g, int64_t s, int64_t scored, const kv_row_sum *row, int32_t target,
                       kv_error *err) {
    if (!row->finite) return kv_score_not_finite(g, s, scored, err);
    g->log_likelihood[s] += log_p(row);
    if (g->log_p) g->log_p[g->scored_starts[s] + scored] = log_p(row);
    if (g->greedy) g->greedy[s] = g->greedy[s] && row->best == target;
    return KV_OK;
}

bool kv_score_logits(kv_arena *arena, const kv_param *head, const float *hidden, int64_t m,
                     const int32_t *targets, kv_row_sum *rows) {
    kv_arena_mark mark = kv_arena_get_mark(arena);
    float *tile = kv_arena_floats(arena, TILE_ROWS * TILE_COLS);
    bool ok = tile != NULL;
    for (int64_t i = 0; i < m; i++) rows[i] = kv_row_sum_none();
    for (int64_t row = 0; ok && row < m; row += TILE_ROWS) {
        const int64_t height = m - row < TILE_ROWS ? m - row : TILE_ROWS;
        for (int64_t col = 0; ok && col < head->rows; col += TILE_COLS) {
            const int64_t width = head->rows - col < TILE_COLS ? head->rows - col : TILE_COLS;
            kv_gemm_weight_t(height, hidden + row * head->cols, head->cols, head, col, width, 0, tile, width);
#pragma omp parallel for schedule(static) if (height * width > 1 << 13)
            for (int64_t i = 0; i < height; i++)
                kv_row_sum_fold(&rows[row + i], tile + i * width, col, width, targets[row + i]);
        }
    }
    kv_arena_release(arena, mark);
    return ok;
}

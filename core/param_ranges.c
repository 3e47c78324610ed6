// One loop over the numbers of many parameters, dealt out evenly whatever their sizes.
#include "core/param_ranges.h"

// Pieces begin at whole cache lines, where the parameters do; few elements are not worth waking threads.
enum { LINE = 16, SMALL = 1 << 14 };

static int64_t total_size(kv_param *const *params, int64_t n) {
    int64_t total = 0;
    for (int64_t i = 0; i < n; i++) total += kv_param_size(params[i]);
    return total;
}

static int64_t piece_begin(int64_t total, int64_t piece) {
    const int64_t lines = (total + LINE - 1) / LINE, begin = lines * piece / KV_N_PIECES * LINE;
    return begin < total ? begin : total;
}

static void run_piece(kv_param *const *params, int64_t n, int64_t total, int piece, kv_range_fn *fn,
                      void *context) {
    const int64_t begin = piece_begin(total, piece), end = piece_begin(total, piece + 1);
    int64_t first = 0; // where params[i] begins
    for (int64_t i = 0; i < n && first < end; i++) {
        const int64_t size = kv_param_size(params[i]);
        const int64_t from = begin > first ? begin - first : 0, to = end - first < size ? end - first : size;
        if (from < to) fn(context, piece, i, from, to);
        first += size;
    }
}

void kv_for_ranges(kv_param *const *params, int64_t n, kv_range_fn *fn, void *context) {
    const int64_t total = total_size(params, n);
#pragma omp parallel for schedule(static) if (total > SMALL)
    for (int piece = 0; piece < KV_N_PIECES; piece++) run_piece(params, n, total, piece, fn, context);
}

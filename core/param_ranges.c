// One loop over the numbers of many parameters, dealt out evenly whatever their sizes.
#include "core/param_ranges.h"

// Pieces begin at whole cache lines, where the parameters do; few elements are not worth waking threads.
enum { LINE = 16, SMALL = 1 << 14 };

// What a loop goes over: spans, or where there are none whole parameters.
struct list {
    kv_param *const *params;
    const kv_param_span *spans;
    int64_t n;
};

static kv_param_span entry(const struct list *list, int64_t i) {
    return list->spans ? list->spans[i] : (kv_param_span){i, 0, kv_param_size(list->params[i])};
}

static int64_t piece_begin(int64_t total, int64_t piece) {
    const int64_t lines = (total + LINE - 1) / LINE, begin = lines * piece / KV_N_PIECES * LINE;
    return begin < total ? begin : total;
}

static void run_piece(const struct list *list, int64_t total, int piece, kv_range_fn *fn, void *context) {
    const int64_t begin = piece_begin(total, piece), end = piece_begin(total, piece + 1);
    int64_t first = 0; // where entry i begins
    for (int64_t i = 0; i < list->n && first < end; i++) {
        const kv_param_span span = entry(list, i);
        const int64_t size = span.end - span.begin;
        const int64_t from = begin > first ? begin - first : 0, to = end - first < size ? end - first : size;
        if (from < to) fn(context, piece, i, span.begin + from, span.begin + to);
        first += size;
    }
}

static void run(const struct list *list, kv_range_fn *fn, void *context) {
    int64_t total = 0;
    for (int64_t i = 0; i < list->n; i++) total += entry(list, i).end - entry(list, i).begin;
#pragma omp parallel for schedule(static) if (total > SMALL)
    for (int piece = 0; piece < KV_N_PIECES; piece++) run_piece(list, total, piece, fn, context);
}

void kv_for_ranges(kv_param *const *params, int64_t n, kv_range_fn *fn, void *context) {
    run(&(struct list){.params = params, .n = n}, fn, context);
}

void kv_for_spans(const kv_param_span *spans, int64_t n, kv_range_fn *fn, void *context) {
    run(&(struct list){.spans = spans, .n = n}, fn, context);
}

#include "core/gemm/ranges.h"

#include <omp.h>

void kv_ranges_start(kv_ranges *ranges, int64_t n_tasks, int threads) {
    const int n = threads < KV_MAX_RANGES ? threads : KV_MAX_RANGES;
    ranges->n = n;
    ranges->step = n_tasks / (16 * threads) + 1;
    for (int r = 0; r < n; r++) {
        atomic_init(&ranges->of[r].next, n_tasks * r / n);
        ranges->of[r].end = n_tasks * (r + 1) / n;
    }
}

void kv_ranges_run(kv_ranges *ranges, void (*run)(const void *work, int64_t task), const void *work) {
    const int64_t step = ranges->step;
    const int own = omp_get_thread_num() * ranges->n / omp_get_num_threads();
    for (int r = 0; r < ranges->n; r++) {
        struct kv_range *range = &ranges->of[(own + r) % ranges->n];
        for (int64_t i;
             (i = atomic_fetch_add_explicit(&range->next, step, memory_order_relaxed)) < range->end;)
            for (int64_t t = i; t < i + step && t < range->end; t++) run(work, t);
    }
}

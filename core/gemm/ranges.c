// A counter for each range, on a cache line of its own, that its thread and those who help take tasks from.
#include "core/gemm/ranges.h"

#include <omp.h>

int kv_ranges_threads(int64_t m, int64_t n, int64_t k) {
    // Multiplications that make up for waking one thread; the rows up to which reading W takes as long.
    enum { WORK = 1 << 18, READING = 8 };
    if (omp_in_parallel()) return 1;
    const int all = omp_get_max_threads();
    const double work = (double)(m > READING ? m : READING) * (double)n * (double)k;
    return work > (double)WORK * all ? all : 1;
}

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

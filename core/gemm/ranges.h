// How threads share the tasks of a product. Each begins with a range of its own, the same from product to product, so that
// it finds weights in its own caches and its own part of the memory; who is done helps others, who may have been held up.
#pragma once

#include <stdatomic.h>
#include <stdint.h>

enum { KV_MAX_RANGES = 64 };

typedef struct kv_ranges {
    int n;
    int64_t step; // tasks taken at a time
    struct kv_range {
        atomic_int_fast64_t next;
        int64_t end;
    } __attribute__((aligned(64))) of[KV_MAX_RANGES];
} kv_ranges;

// How many threads a product of m rows with an n x k matrix is worth: all, or only the one that asks, also where it is one of
// a team already. Fewer than all would not do: GCC's runtime ends the threads that a smaller team leaves over.
int kv_ranges_threads(int64_t m, int64_t n, int64_t k);

void kv_ranges_start(kv_ranges *ranges, int64_t n_tasks, int threads);

// Called by every thread of a team; returns when no task is left that nobody has taken.
void kv_ranges_run(kv_ranges *ranges, void (*run)(const void *work, int64_t task), const void *work);

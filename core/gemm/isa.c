// The best is found when the first product asks.
#include "core/gemm/isa.h"

#include <stdatomic.h>
#include <string.h>

static bool always(void) {
    return true;
}

#ifdef __x86_64__
static bool has_avx2(void) {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}
static bool has_avx512(void) {
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
#endif

// The plainest first.
static const struct {
    const kv_kernels *kernels;
    bool (*here)(void);
} sets[] = {
    {&kv_kernels_plain, always},
#ifdef __x86_64__
    {&kv_kernels_avx2, has_avx2},
    {&kv_kernels_avx512, has_avx512},
#endif
#ifdef __aarch64__
    {&kv_kernels_neon, always},
#endif
};
enum { N_SETS = sizeof sets / sizeof *sets };

int kv_isa_list(const kv_kernels *list[KV_MAX_ISAS]) {
    int n = 0;
    for (int i = 0; i < N_SETS; i++)
        if (sets[i].here()) list[n++] = sets[i].kernels;
    return n;
}

const kv_kernels *kv_isa_find(const char *name) {
    const kv_kernels *list[KV_MAX_ISAS];
    const int n = kv_isa_list(list);
    for (int i = 0; i < n; i++)
        if (!strcmp(list[i]->name, name)) return list[i];
    return NULL;
}

static _Atomic(const kv_kernels *) chosen;

const kv_kernels *kv_isa(void) {
    const kv_kernels *kernels = atomic_load_explicit(&chosen, memory_order_acquire), *list[KV_MAX_ISAS];
    if (kernels) return kernels;
    kernels = list[kv_isa_list(list) - 1];
    atomic_store_explicit(&chosen, kernels, memory_order_release);
    return kernels;
}

void kv_isa_set(const kv_kernels *kernels) {
    atomic_store_explicit(&chosen, kernels, memory_order_release);
}

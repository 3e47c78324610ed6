// The best is found when the first product asks.
#include "core/gemm/isa.h"

#include <stdatomic.h>
#include <string.h>
#ifdef KV_HAS_AMX
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

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
#ifdef KV_HAS_AMX
// Linux keeps the tiles of a process that has asked for them, once for all its threads.
//                                                              [Documentation/arch/x86/xstate.rst]
static bool has_amx(void) {
    enum { LEAF = 7, AMX_BF16 = 1 << 22, ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 };
    unsigned a, b, c, d;
    return has_avx512() && __get_cpuid_count(LEAF, 0, &a, &b, &c, &d) && (d & AMX_BF16) &&
           syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
}
#endif
#endif

// The plainest first.
static const struct {
    const kv_kernels *kernels;
    bool (*here)(void);
} sets[] = {
    {&kv_kernels_plain, always},
#ifdef __x86_64__
    {&kv_kernels_avx2, has_avx2}, {&kv_kernels_avx512, has_avx512},
#endif
#ifdef KV_HAS_AMX
    {&kv_kernels_amx, has_amx},
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

// Whoever prepares products (data/system/blas.c) asks here first.
#include "data/system/isa.h"

#include "core/gemm/isa.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

kv_status kv_isa_from_environment(kv_error *err) {
    const char *name = getenv("KV_ISA");
    const kv_kernels *kernels = name && *name ? kv_isa_find(name) : NULL, *list[KV_MAX_ISAS];
    kv_isa_set(kernels);
    if (kernels || !name || !*name) return KV_OK;
    char names[64] = "";
    const int n = kv_isa_list(list);
    for (int i = 0; i < n; i++)
        snprintf(names + strlen(names), sizeof names - strlen(names), "%s%s", i ? ", " : "", list[i]->name);
    return kv_fail(err, KV_ERR_ARGUMENT, "KV_ISA: found '%s', expected what this CPU has: %s", name, names);
}

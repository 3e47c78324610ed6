// KV_ISA names the instruction set of a test's products, as it does for the programs.
#include "core/gemm/isa.h"

#include <stdio.h>
#include <stdlib.h>

__attribute__((constructor)) static void take_isa(void) {
    const char *name = getenv("KV_ISA");
    if (!name || !*name) return;
    kv_isa_set(kv_isa_find(name));
    if (kv_isa_find(name)) return;
    fprintf(stderr, "KV_ISA: this CPU has no %s\n", name);
    exit(1);
}

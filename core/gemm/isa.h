// Which kernels multiply.
#pragma once

#include "core/gemm/kernels.h"

// Those that multiply: the best this CPU has, until kv_isa_set says otherwise.
const kv_kernels *kv_isa(void);

// Those the CPU has, the plainest first; returns how many there are, at most KV_MAX_ISAS.
enum { KV_MAX_ISAS = 4 };
int kv_isa_list(const kv_kernels *list[KV_MAX_ISAS]);

// The one of that list with this name ("plain", "avx2", "avx512", "amx", "neon"); NULL: there is none.
const kv_kernels *kv_isa_find(const char *name);

// From now on these multiply, in all threads; NULL: the best. No product may be under way.
void kv_isa_set(const kv_kernels *kernels);

// Which kernels multiply.
#pragma once

#include "core/gemm/kernels.h"

// The best that this CPU has, or what the environment variable KV_ISA names: "plain", "avx2", "avx512", "neon".
// A name that is unknown, or whose instructions the CPU lacks, is said on stderr once, and the best taken.
const kv_kernels *kv_isa(void);

// Those the CPU has, the plainest first; returns how many there are, at most KV_MAX_ISAS.
enum { KV_MAX_ISAS = 4 };
int kv_isa_list(const kv_kernels *list[KV_MAX_ISAS]);

// For tests and benches: from now on these multiply, in all threads; NULL: as at the start. No product may be under way.
void kv_isa_set(const kv_kernels *kernels);

// What a system's first token costs, whatever the system: worked out, not run.
//                                                                                     [core/README.md §7]
#pragma once

#include "infer/session/system.h"

// Operations (2 per multiply-add) of all matrix products that the prefill of one prompt of n tokens executes
// up to the first token's logits: exactly what kv_gemm_flops() counts meanwhile.
uint64_t kv_system_flops(const kv_system *system, int64_t n);

// The paper's reduction of the time to the first token over `base`: parameters of the base over those of the
// model that reads the prompt, times what pruning leaves out of it.
double kv_system_paper_reduction(const kv_system *system, const kv_system *base);

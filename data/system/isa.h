// The instruction set that products use, by the environment.
#pragma once

#include "core/status.h"

// Lets the set that the environment variable KV_ISA names multiply (core/gemm/isa.h), which is for tests and comparisons; unset or
// empty: the best this CPU has. KV_ERR_ARGUMENT, naming those there are, where the CPU lacks it or nothing has that name.
kv_status kv_isa_from_environment(kv_error *err);

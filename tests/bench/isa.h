// Sets of instructions that products are computed with, one process each: OpenBLAS chooses once, before main.
#pragma once

#include <stdbool.h>

enum { BENCH_MAX_ISAS = 8 };

// Those this CPU has, the plainest first.
int bench_isa_list(const char *names[BENCH_MAX_ISAS]);
const char *bench_isa_now(void);

// Starts the program again with this set, in our kernels (KV_ISA) and in OpenBLAS (OPENBLAS_CORETYPE, unless it is set), if
// it does not run with it already. Returns when it does.
void bench_isa_become(const char *isa, char **argv);

// Runs the program with these arguments and --isa NAME; its exit status, 128 + the signal that ended it. A signal to
// stop is passed on.
int bench_isa_run(const char *isa, char **argv);

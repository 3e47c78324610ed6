// Who else was at work: times taken beside others say little.
#pragma once

// What others may take before it is said.
#define BENCH_DISTURBED 0.05

typedef struct bench_load {
    double wall, busy, own; // seconds: of the clock, of all processors, of this process
} bench_load;

void bench_load_begin(bench_load *load);

// The share of all processors that others took since then, the host's share of a virtual machine included; 0 where the
// system does not say, or too little time has passed to tell.
double bench_load_others(const bench_load *load);

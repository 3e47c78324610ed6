// The command line of kvbench.
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum { BENCH_MAX_THREADS = 16 };

typedef struct bench_options {
    const char *isa;   // NULL: every set of instructions but the plain one, a process each
    const char *only;  // groups, with commas; NULL: all
    const char *match; // only phases with this in their name; NULL: all
    bool quick;        // tiny shapes: to see that it works
    bool paper;
    bool check;
    int64_t runs;
    int threads[BENCH_MAX_THREADS]; // rising; the last one's times are the phase's
    int n_threads;
    bool small_pages;
    const char *json;    // history that a line is appended to; NULL: none
    const char *history; // folder of those that --check compares with
    bool peers;
    const char *python;
    const char *llama_bench, *gguf; // NULL: not asked for
    const char *folder;             // tests/bench: where peers.py and history/ lie
} bench_options;

// Wrong ones end the program with 2 and what was expected.
void bench_options_read(int argc, char **argv, bench_options *options);

// Names of the groups; NULL behind the last.
extern const char *const bench_groups[];
bool bench_wants(const bench_options *options, const char *group);
bool bench_wants_phase(const bench_options *options, const char *name);

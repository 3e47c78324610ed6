// Where ranks run: which cores each may use, and whether they get in each other's way. One rank a NUMA node, with as many threads
// as it has cores, is what to aim for; launchers do other things by default (configs/slurm/README.md).
#pragma once

#include "core/api.h"

#include <stdint.h>
#include <stdio.h>

KV_API_BEGIN

enum { KV_PLACEMENT_CPUS = 1024 };

// Sets of CPUs, as bits. A core of several hardware threads is several CPUs; in `cores` it is the first of them.
typedef struct kv_cpu_set {
    uint64_t bits[KV_PLACEMENT_CPUS / 64];
} kv_cpu_set;

// What a rank knows of itself and its host.
typedef struct kv_placement {
    char host[64];
    int n_threads;
    kv_cpu_set cpus, cores;    // that it may use
    int host_cpus, host_numa;  // that the host has
    char bind[16], places[64]; // OMP_PROC_BIND, where it binds threads, and OMP_PLACES; else ""
} kv_placement;

void kv_placement_here(kv_placement *here);

// A line on all ranks, without the program's name: "4 ranks on 2 hosts (a, b), 8 threads each, each on 8 of 16 CPUs, ...".
void kv_placement_line(const kv_placement *all, int n_ranks, FILE *out);
// Lines of what is wrong, one each; none where nothing is: a rank with more threads than CPUs, and ranks of one host that share
// cores while they have more threads than those.
void kv_placement_doubts(const kv_placement *all, int n_ranks, FILE *out);

// Collective. Rank 0 prints both on standard error, the doubts as warnings. Nothing for a process that is alone.
void kv_placement_announce(const char *program);

KV_API_END

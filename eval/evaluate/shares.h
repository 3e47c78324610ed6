// Who asks what, where several ranks share an evaluation (data/ranks/ranks.h): each block of units that is not answered yet is
// one rank's, and stays the block that one process alone would ask.
#pragma once

#include "eval/evaluate/evaluation.h"

typedef struct kv_shares {
    int64_t n_tasks;
    int64_t *begins; // [n_systems · n_tasks + 1] where in `owners` the units of each system on each task are
    int32_t *owners; // [begins[…]] whose each unit is; -1: nobody's, as its answer is there or none is needed
} kv_shares;

// Collective; systems are loaded. Rank 0 looks at what is there, all journals that an evaluation left, and deals out the rest,
// the dearest blocks first, each to the rank that has least to do. What goes on from what the systems before were asked
// (kv_benchmark_kept) stays with one rank. What fails has been agreed on. Free with kv_shares_free (accepts zeros).
kv_status kv_shares_make(const kv_evaluation *evaluation, kv_shares *shares, kv_error *err);
void kv_shares_free(kv_shares *shares);

// [n_units] of a system on a task.
const int32_t *kv_shares_of(const kv_shares *shares, int64_t system, int64_t task);
// How many of these are rank's; of -1: nobody's.
int64_t kv_shares_count(const kv_shares *shares, int64_t system, int64_t task, int rank);

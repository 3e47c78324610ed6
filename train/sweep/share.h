// Which of a sweep's runs are whose: of a pattern, of one share among several, of one rank among several.
#pragma once

#include "train/sweep/sweep.h"

// "2/4": the share, from 1, and how many there are. False where the text is no such thing, as a pattern of names is not, which
// have no '/'; an impossible share, as 5/4, is one of 0.
bool kv_sweep_read_share(const char *text, kv_sweep_share *share);

// Deals n things out to n_parts: the one that costs most first, each to the part that has least so far, of several to the first. Things that cost
// the same go round. part[n]: 0 .. n_parts - 1. A function of its arguments alone.
kv_status kv_sweep_deal(const double *cost, size_t n, size_t n_parts, size_t *part, kv_error *err);

// Sets `wanted` of all runs by args: those of the pattern and, of these, of the share, dealt by the tokens they are trained
// on. Looks at nothing but their configurations, so that every process with the same files finds the same.
kv_status kv_sweep_choose(const kv_sweep_args *args, kv_sweep *sweep, kv_error *err);

// Sets `rank` of those that are to be trained (look), dealt by the work that is left of each.
kv_status kv_sweep_share_ranks(kv_sweep *sweep, kv_error *err);

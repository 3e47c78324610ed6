// Shares of work that nobody hands out: who has which is worked out by everybody alike.
#pragma once

#include "core/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// The i-th of n parts of the runs, from 1; n = 0: all. Other processes have the other parts, at the same time.
typedef struct kv_sweep_share {
    int64_t i, n;
} kv_sweep_share;

// "2/4": the share, from 1, and how many there are. False where the text is no such thing, as a pattern of names is not, which
// have no '/'; an impossible share, as 5/4, is one of 0.
bool kv_sweep_read_share(const char *text, kv_sweep_share *share);

// Deals n things out to n_parts: the one that costs most first, each to the part that has least so far, of several to the first. Things that cost
// the same go round. part[n]: 0 .. n_parts - 1. A function of its arguments alone.
kv_status kv_sweep_deal(const double *cost, size_t n, size_t n_parts, size_t *part, kv_error *err);

// Token pruning: which part of a prompt is read at all.
#pragma once

#include "core/model.h"

typedef enum {
    KV_PRUNE_NONE,
    KV_PRUNE_RANDOM,
    KV_PRUNE_STATIC,
    KV_PRUNE_LAZY,
    KV_PRUNE_SPECULATIVE
} kv_prune_kind;

typedef struct kv_pruning {
    kv_prune_kind kind;
    double keep;                      // random, static, speculative: fraction of the prompt kept
    double start, end;                // lazy
    int64_t lookahead, window, chunk; // speculative: 8, 13, 32
    uint64_t seed;                    // random
} kv_pruning;

// Token pruning: which tokens of a prompt a model reads at all, or how far up its layers each of them goes.
//
// A policy that the prefill consults (kv_system.pruning): every one runs the same layers on the same cache.
//                                                                                   [method.md section 6]
#pragma once

#include "core/model.h"

typedef enum kv_prune_kind {
    KV_PRUNE_NONE,
    KV_PRUNE_RANDOM,      // RP: a random part of the prompt
    KV_PRUNE_STATIC,      // SP: what the first quarter of the layers attends to most
    KV_PRUNE_LAZY,        // L: fewer tokens layer by layer           [LazyLLM, arXiv 2407.14057]
    KV_PRUNE_SPECULATIVE, // SPF: what an aux's look-ahead attends to [Speculative Prefill, arXiv 2502.02789]
} kv_prune_kind;

typedef struct kv_pruning {
    kv_prune_kind kind;
    double keep;       // random, static, speculative: part of the prompt's tokens kept, in (0, 1]
    double start, end; // lazy: part kept at 30 % and from 90 % of the depth on, 0 < end <= start <= 1
    // speculative; 0 stands for 8, 13, 32
    int64_t lookahead, window, chunk;
    uint64_t seed; // random
} kv_pruning;

// The paper's reduction of the time to the first token over the unpruned base, in closed form (no pruning:
// 1):
//   random 1 / keep;  static 1 / (1/4 + keep);  lazy 1 / (mean of the schedule over the depth);
//   speculative, by parameters, 1 / (aux / base · (1 + lookahead / 59) + keep): the look-ahead's share is
//   that of a prompt of the paper's mean length, 59 tokens.
// aux is asked for in the speculative case only.                                   [method.md sections 6, 7]
double kv_pruning_paper_reduction(const kv_pruning *pruning, const kv_model_spec *base,
                                  const kv_model_spec *aux);

// Token pruning: which tokens of a prompt a model reads at all, or how far up its layers each of them goes.
//
// A policy that the prefill consults (kv_system.pruning): every one runs the same layers on the same cache.
// The last prompt token always stays, a part of 1 leaves everything as it is, and a sequence's tokens are
// chosen without regard to the others of its batch.
//                                                                                     [core/README.md §6]
#pragma once

#include "core/api.h"
#include "core/model.h"

KV_API_BEGIN

typedef enum kv_prune_kind {
    KV_PRUNE_NONE,
    // RP: tokens drawn by (seed, the prompt's ids) make a shorter prompt, positions counted anew. The first
    // one stays if it is the base's BOS and two are kept.
    KV_PRUNE_RANDOM,
    // SP: those that receive the most attention in the first quarter of the base's layers, over all queries
    // and heads, are read again from the start, at their original positions.
    KV_PRUNE_STATIC,
    // L, LazyLLM (arXiv 2407.14057): fewer tokens layer by layer, by the newest token's attention (mean over
    // heads), at their original positions. A decoding step starts from all tokens of the context, decoded
    // ones included, and goes by the same schedule; a token it wants at a layer before which that one stopped
    // goes on from there, so that none passes a layer twice.
    KV_PRUNE_LAZY,
    // SPF, Speculative Prefill (arXiv 2502.02789): chunks of the prompt that the look-ahead of an aux attends
    // to, cut to a fixed number of tokens, with the first and the last one, at their original positions.
    KV_PRUNE_SPECULATIVE,
} kv_prune_kind;

typedef struct kv_pruning {
    kv_prune_kind kind;
    double keep;       // random, static, speculative: part of the prompt's tokens kept, in (0, 1]
    double start, end; // lazy: part kept at 30 % and from 90 % of the depth on, 0 < end <= start <= 1
    // Speculative; 0 stands for 8, 13, 32: tokens to look ahead, tokens that the mean filter goes over (odd),
    // tokens of a chunk.
    int64_t lookahead, window, chunk;
    uint64_t seed; // random
} kv_pruning;

// Zeros that stand for defaults replaced by them.
kv_pruning kv_pruning_resolved(const kv_pruning *pruning);

// KV_OK, or KV_ERR_ARGUMENT naming the value that makes no sense for its kind.
kv_status kv_pruning_check(const kv_pruning *pruning, kv_error *err);

// Tokens that an aux reads behind a prompt to choose from it: 0 but for speculative pruning, whose settings
// make sense.
int64_t kv_pruning_lookahead(const kv_pruning *pruning);

// Tokens that stay of a prompt of n >= 1: random, static, speculative keep · n, rounded, but at least the
// last one (speculative: and the first). n for the other kinds.
int64_t kv_pruning_kept(const kv_pruning *pruning, int64_t n);

// Tokens of a context of n >= 1 that a layer works on with lazy pruning: all at the first layer, then n times
// the schedule at the middle of the layer's share of the depth, (layer + 1/2) / n_layers, rounded, but at
// least one. Never rises from layer to layer.
int64_t kv_lazy_kept(const kv_pruning *pruning, int64_t n_layers, int64_t layer, int64_t n);

// Layers that static pruning runs on the whole prompt: a quarter, rounded, at least one.
int64_t kv_static_layers(int64_t n_layers);

// The paper's reduction of the time to the first token over the unpruned base (no pruning: 1):
//   random 1 / keep;  static 1 / (1/4 + keep);  lazy 1 / (mean of the schedule over the depth);
//   speculative, by parameters, 1 / (aux / base · (1 + lookahead / 59) + keep): the look-ahead's share is
//   that of a prompt of the paper's mean length, 59 tokens.
// aux is asked for in the speculative case only.
//                                                  [core/README.md §6, eq. 24, 25, 27 and 29; §7, eq. 31]
double kv_pruning_paper_reduction(const kv_pruning *pruning, const kv_model_spec *base,
                                  const kv_model_spec *aux);

KV_API_END

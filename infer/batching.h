// Any number of prompts answered in batches: which go together, and how many at a time memory allows.
//
// Prompts are taken longest first, so that those of a batch are of like length and the largest batch comes first: what fits
// then fits to the end. As many sequences go on at a time as `most` says and `memory` has room for; a batch of long
// prompts may be smaller, down to one at a time, and those that are at most half as long come after it in a larger one. In
// which batches prompts meet is a pure function of their tokens, max_tokens, `most`, `memory` and of where answers end.
//
// A sequence's logits do not depend on the others but for rounding: products of few rows and of many may add in another
// order (core/gemm.h). Under kv_gemm_batch_invariant answers are the same bits in any batch.
#pragma once

#include "core/api.h"
#include "infer/generate.h"

KV_API_BEGIN

// So many sequences at a time, where nobody says how many: weights are then read once for as many tokens as keep a CPU's
// arithmetic busy, and more brings nothing.
enum { KV_BATCH_MOST = 64 };

typedef struct kv_batching {
    const kv_system *system;
    int64_t most;  // sequences at a time; 0: KV_BATCH_MOST
    double memory; // bytes that a batch may take, beside weights (kv_answer_bytes); 0: nobody counts
    // What all prompts begin with, read before: its rows, of which all prompts have more tokens. NULL: nothing.
    const kv_saved_prompt *shared;
} kv_batching;

// Half of what memory is left beside the system's weights, which mapped files may lose when it runs short.
double kv_batching_memory(const kv_system *system);

// How many sequences go on together, of prompts of at most prompt_tokens and answers of at most answer_tokens: `most`, or the
// largest half, quarter, … of it that fits the memory; at least 1.
int64_t kv_batching_fit(const kv_batching *b, int64_t prompt_tokens, int64_t answer_tokens);

// What answering n such prompts takes at most, the longest of them of prompt_tokens.
double kv_batching_bytes(const kv_batching *b, int64_t n, int64_t prompt_tokens, int64_t answer_tokens);

// As kv_generate_in_turn (`order` is not looked at). *session, NULL at first, is kept for the next call and made anew where it
// does not fit; of the same system. The caller frees it.
kv_status kv_generate_batched(const kv_batching *b, kv_session **session, const kv_prompts *prompts,
                              const kv_generation *how, kv_answers *answers, kv_error *err);

KV_API_END

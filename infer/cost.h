// What a system's first token costs, whatever the system: worked out, not run.
//                                                                                     [core/README.md §7]
#pragma once

#include "core/api.h"
#include "infer/session/system.h"

KV_API_BEGIN

// Operations (2 per multiply-add) of all matrix products that the prefill of one prompt of n tokens executes
// up to the first token's logits: exactly what kv_gemm_flops() counts meanwhile.
uint64_t kv_system_flops(const kv_system *system, int64_t n);

// The same of n tokens behind `cached` ones, in a session for turns; unread: of those what an aux has still to read
// (kv_session_unread). With KV prediction there are predicted entries: of the new tokens, or before them.
uint64_t kv_system_turn_flops(const kv_system *system, int64_t n, int64_t cached, int64_t unread);

// What follows the first token of an answer of n_answer tokens behind a prompt of n_prompt: n_answer - 1 steps of one
// token. Exact but for lazy pruning, whose steps bring back what the text wants: there it is the most that can be.
uint64_t kv_system_decode_flops(const kv_system *system, int64_t n_prompt, int64_t n_answer);

// What kv_score executes for one sequence of n tokens of which the last n_scored are scored. (With pruning that is a
// prompt and an answer: kv_system_flops and kv_system_decode_flops.)
uint64_t kv_system_score_flops(const kv_system *system, int64_t n, int64_t n_scored);

// What kv_score_behind_prompt executes for one sequence: the prompt, and all scored tokens but the last behind it.
uint64_t kv_system_behind_flops(const kv_system *system, int64_t n, int64_t n_scored);

// What kv_score_prefix executes for one window, whose state went through the first `from` layers before.
uint64_t kv_system_prefix_flops(const kv_system *system, int64_t from, int64_t window, int64_t n_scored);

// kv_system_flops with nothing that depends on the token alone looked up, and with all of it: between them, or at one of them,
// lies kv_system_flops, by what is tabulated (core/predictor/tabulated.h).
uint64_t kv_system_flops_computed(const kv_system *system, int64_t n);
uint64_t kv_system_flops_looked_up(const kv_system *system, int64_t n);
// Numbers that are read from tables for each token of a prompt that is predicted; 0: there are none.
int64_t kv_system_lookups(const kv_system *system);

// The paper's reduction of the time to the first token over `base`: parameters of the base over those of the
// model that reads the prompt, times what pruning leaves out of it.
double kv_system_paper_reduction(const kv_system *system, const kv_system *base);

KV_API_END

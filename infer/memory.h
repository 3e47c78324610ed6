// What systems take of memory while they read and answer, worked out from shapes before any of it is taken. Of models
// and predictors shapes and types are read, no weights: they need not be there, and are not counted.
#pragma once

#include "core/api.h"
#include "infer/session/system.h"

KV_API_BEGIN

// A session that reads n_seq prompts of n_tokens, with their ids and logits, in bytes: caches, what pruning remembers,
// an aux that looks ahead, activations at their largest. Never less than it takes, and at most a tenth and 0.6 MB more
// (tests/infer/test_ttft_memory.c).
double kv_prefill_bytes(const kv_system *system, int64_t n_seq, int64_t n_tokens);

// A session for turns (kv_session_create_turns), of which none has more than prompt_tokens new tokens, with those that
// an aux has still to read. Above what it takes as kv_answer_bytes is.
double kv_turns_bytes(const kv_system *system, int64_t n_seq, int64_t prompt_tokens, int64_t capacity);

// kv_score of sequences with so many tokens in all, the longest of `longest`; ragged: others are shorter.
double kv_score_bytes(const kv_system *system, int64_t tokens, int64_t longest, bool ragged);

// kv_score_behind_prompt of n_seq sequences of n tokens of which the last n_scored are scored.
double kv_behind_bytes(const kv_system *system, int64_t n_seq, int64_t n, int64_t n_scored);

// kv_score_prefix of windows of so many tokens, its states left out.
double kv_prefix_bytes(const kv_system *system, int64_t window);

// A session that reads prompts of at most prompt_tokens and goes on for at most answer_tokens, as kv_generate does it.
// Prompts of many lengths leave gaps in what activations are laid into, so that what is said may be twice as much as is
// taken, but never less (tests/programs/test_kveval_plan.c).
double kv_answer_bytes(const kv_system *system, int64_t n_seq, int64_t prompt_tokens, int64_t answer_tokens);

KV_API_END

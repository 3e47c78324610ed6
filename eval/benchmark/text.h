// Perplexity of a text: windows of a corpus, of which each system reads the first tokens as a prompt and is scored on the
// rest.
#pragma once

#include "eval/benchmark/benchmark.h"

// Kind "text". Windows of `window` tokens are cut from the corpus from its beginning on, `stride` apart; only whole
// ones. An item and its one unit is a window; its record:
//   {"first": 1536,                        the corpus's token that it begins with
//    "tail": 240.1, "tail_tokens": 128,    Σ -log p, in nats, of the tokens behind the first `prompt` ones
//    "whole": 1001.9, "whole_tokens": 511, the same of all tokens but the first
//    "bytes": 489}                         of text that the tail stands for
//
// The tail is scored behind the prompt as the system reads it (kv_score_behind_prompt): by the base, against a predicted
// cache, or one of which tokens were pruned. The whole is kv_score: with predictors the predicted cache at every position,
// as in training; with pruning what the base makes of it alone, since there is no prompt to prune.
//
//   tail_nll         tail / tail_tokens, mean over the windows      tail_perplexity   e to that
//   bits_per_byte    Σ tail / ln 2 / Σ bytes over the windows: values are those of each window, weighed by its bytes
//   whole_nll, whole_perplexity                                     likewise of the whole
//
// KV_ERR_RANGE when the corpus has fewer tokens than one window; otherwise errors as of kv_text_tokens_read.
// Models must not be freed, nor others come in their place, as long as the benchmark is asked.
kv_status kv_text_benchmark(const kv_eval_task *config, const kv_prompting *prompting, uint64_t seed,
                            kv_benchmark **benchmark, kv_error *err);

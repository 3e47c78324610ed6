// How probable given texts are to a system.
#pragma once

#include "infer/session/system.h"

// What goes through at once: tokens of a pack of whole sequences, unless one is longer, and logits of a tile; and sequences
// of at most `longest` tokens that share a session where they are read behind prompts.
enum { KV_SCORE_ROWS = 1024, KV_SCORE_TILE = 256 * 2048 };
int64_t kv_score_together(const kv_system *system, int64_t longest);

// log_likelihood[s] = Σ log p of the last n_scored[s] tokens of each sequence, every one given all before it;
// greedy[s] (may be NULL): each of them was the argmax. ids of all sequences one after the other,
// lengths[n_seq] (each >= 1), n_scored[s] in [0, lengths[s]), because nothing comes before the first token;
// of none the sum is 0.
//
// A model alone reads whole sequences. With a predicted cache the base attends to nothing but predicted
// entries at every position, as in training.
//                                                                             [core/README.md §4, eq. 15]
// With pruning it is what kv_score_by_decoding gives.
//
// Memory is bounded, however many sequences there are: they go through in packs of about a thousand tokens,
// and never more than a tile of the vocabulary's logits exists. Results do not depend on the batch but for
// rounding. KV_ERR_ARGUMENT or KV_ERR_RANGE names the sequence that is empty, longer than the context, has a
// bad id or too many scored tokens; KV_ERR_NOT_FINITE names the token whose logits are NaN or infinite, and
// the log_likelihood of its sequence is NAN, all others' are numbers; KV_ERR_INTERRUPTED on a signal to stop.
kv_status kv_score(const kv_system *system, const int32_t *ids, const int64_t *lengths,
                   const int64_t *n_scored, int64_t n_seq, double *log_likelihood, bool *greedy,
                   kv_error *err);

// The same the way text is generated: the system prefills all tokens that are not scored, as a prompt, and
// decodes the others one by one. The only way with pruning, where what is kept depends on the prompt. Without
// pruning and aux it equals kv_score; with a predicted cache it does not, as there the scored tokens' own
// entries come from the base.
kv_status kv_score_by_decoding(const kv_system *system, const int32_t *ids, const int64_t *lengths,
                               const int64_t *n_scored, int64_t n_seq, double *log_likelihood, bool *greedy,
                               kv_error *err);

// The same as kv_score_by_decoding but for rounding, and as fast as reading whole sequences: behind the prompt's
// cache all scored tokens are read at once. With lazy pruning, which looks at its cache anew with every token, they
// are decoded.
kv_status kv_score_behind_prompt(const kv_system *system, const int32_t *ids, const int64_t *lengths,
                                 const int64_t *n_scored, int64_t n_seq, double *log_likelihood, bool *greedy,
                                 kv_error *err);

// kv_score, and log_p[Σ n_scored] of each scored token.
kv_status kv_score_tokens(const kv_system *system, const int32_t *ids, const int64_t *lengths,
                          const int64_t *n_scored, int64_t n_seq, double *log_p, double *log_likelihood,
                          kv_error *err);

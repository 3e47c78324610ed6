// How probable given texts are to a system.
#pragma once

#include "core/api.h"
#include "infer/session/system.h"

KV_API_BEGIN

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

// ---- Prefixes ------------------------------------------------------------------------------------------
// Windows of a text scored behind prefixes of one base, each deeper prefix from where the one before it ended:
//
//   base     h_0 ─ layer 0 ─ h_1 ─ layer 1 ─ h_2 ─ …      of all tokens, read once: the states
//   prefix 1                 h_1 ─ maps ─ layers 1, 2, … behind the predicted cache: whole, tail
//   prefix 2                                h_2 ─ maps ─ layers 2, …
//
// Below its prefix such a system is the base, whatever it reads: what stands there is right for the prompt, for the tail
// behind it and for every position of the whole, and the same for all prefixes.

// What enters layer n_layers[s] of the base, of each of n windows without its last token.
typedef struct kv_prefix_states {
    kv_model *base; // borrowed
    int64_t n, rows;
    int64_t *n_layers; // [n]
    float *x;          // [n, rows, model_dim]
} kv_prefix_states;

// Of windows of so many tokens, none of which is read yet. On failure *states is NULL. Free with kv_prefix_states_free
// (accepts NULL).
kv_status kv_prefix_states_create(kv_model *base, int64_t n, int64_t window, kv_prefix_states **states,
                                  kv_error *err);
void kv_prefix_states_free(kv_prefix_states *states);
double kv_prefix_states_bytes(const kv_model_spec *base, int64_t n, int64_t window);
// Forgets what was read.
void kv_prefix_states_restart(kv_prefix_states *states);

// Whether a system can be scored so: its maps read what enters the layer behind its prefix, or of the token alone. Of
// `system` shapes are enough.
bool kv_prefix_scorable(const kv_system *system);

// whole[n]: what kv_score makes of all tokens but the first of each of windows ids[n, window]; tail[n]: what
// kv_score_behind_prompt makes of the last n_scored of them, at least one and fewer than window - 1; both but for
// rounding. The windows are those of `states` from `first` on, which are read on to the system's prefix, or anew where
// they were read further. KV_ERR_NOT_FINITE names the token whose logits are NaN or infinite: whole or tail of the first
// such window is NAN, and what follows is not computed. Other errors as of kv_score.
kv_status kv_score_prefix(const kv_system *system, kv_prefix_states *states, int64_t first,
                          const int32_t *ids, int64_t n, int64_t n_scored, double *whole, double *tail,
                          kv_error *err);

KV_API_END

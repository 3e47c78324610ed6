// Prefill, predicted prefill and decoding for a batch of sequences of different lengths.
//                                                                           [core/README.md §3 and §5]
//
//   const kv_system system = {.base = base, .aux = aux, .predictor = predictor}; // or {.base = base} alone
//   kv_session *session;
//   if (kv_session_create(&system, 1, 64, &session, &err) != KV_OK) fail(&err);
//   float *logits = malloc((size_t)kv_session_vocab_size(session) * sizeof *logits);
//   kv_status status = kv_session_prefill(session, ids, &n, logits, &err); // ids[n]: one prompt
//   for (int i = 0; i < 16 && status == KV_OK; i++) {
//       int32_t next;
//       kv_argmax(logits, 1, kv_session_vocab_size(session), &next); // infer/session/sample.h
//       printf("%d ", next);
//       status = kv_session_decode(session, &next, NULL, logits, &err);
//   }
//   kv_session_free(session);
//
// A session holds the batch's KV cache; keys are kept after k_norm and before RoPE, and turned as attention
// reads them. infer/generate.h does the loop for whole batches.
#pragma once

#include "core/api.h"
#include "data/prompt/saved_prompt.h"
#include "infer/session/system.h"

KV_API_BEGIN

typedef struct kv_session kv_session;

// Room for n_seq sequences of up to `capacity` tokens each, those that pruning leaves out included. capacity
// beyond the base's (or aux's, less a look-ahead) context length is KV_ERR_RANGE; pruning that makes no sense
// (kv_pruning_check), or an aux, predictor and pruning that do not go together, is KV_ERR_ARGUMENT. The
// system is borrowed. Free with kv_session_free (accepts NULL).
kv_status kv_session_create(const kv_system *system, int64_t n_seq, int64_t capacity, kv_session **session,
                            kv_error *err);
void kv_session_free(kv_session *session);
void kv_session_reset(kv_session *session); // forget all tokens, keep the memory

// The same for prompts that go on behind others, turn by turn: beside the base's cache it keeps the tokens and, of KV
// prediction, what a separate aux has read (of a prefix that is the base's own cache). One that prunes keeps nothing
// and takes a prompt at the beginning alone.
kv_status kv_session_create_turns(const kv_system *system, int64_t n_seq, int64_t capacity,
                                  kv_session **session, kv_error *err);
// Whether prompts can be read behind what is there: sessions of a model alone that does not prune, and those for turns.
bool kv_session_appends(const kv_session *session);

// Forgets all but the first `length` tokens of every sequence, so that others can be read behind them: the session is
// what it was when it had read so many. Where kv_session_appends.
void kv_session_rewind(kv_session *session, int64_t length);

// The same of all tokens of sequence s alone, of any system, whose place another one can then take (kv_session_join).
void kv_session_forget(kv_session *session, int64_t s);

// Sequence `to` becomes what `from` is: the same prompt, read once, then goes on in several ways.
void kv_session_copy(kv_session *session, int64_t from, int64_t to);

// Reads the prompts: ids of all sequences one after the other, lengths[n_seq] (each >= 1). The first token's
// logits: [n_seq, vocab_size]. With an aux: aux reads n - 1 tokens up to its last layer's keys and values,
// predictors fill the cache, the base reads the last token. Without: nothing but the last token goes through
// the last layer's queries, attention and FFN. May be called again to append more tokens where kv_session_appends
// (chunked prefill). With KV prediction the aux then first reads what it has not read (the last token of the prompt
// before, and what was decoded behind it), and the new tokens but the last get predicted entries, the same as if all
// had been read at once; what the base has read and written keeps the base's own. Fails with KV_ERR_RANGE on an id outside
// kv_system_vocab_size or a prompt longer than the capacity, naming both. On failure what was there before is left.
kv_status kv_session_prefill(kv_session *session, const int32_t *ids, const int64_t *lengths, float *logits,
                             kv_error *err);

// Prompts for some sequences while others are under way: lengths[s] 0 lets a sequence rest, as it is; the others are
// empty (new, or forgotten), else KV_ERR_ARGUMENT. Any system. logits as of kv_session_decode. On failure those that were to join
// are empty.
//                                  [Yu et al. 2022, "Orca", section 4: sequences join and leave a batch step by step]
kv_status kv_session_join(kv_session *session, const int32_t *ids, const int64_t *lengths, float *logits,
                          kv_error *err);

// Either of them: prompts for some sequences, lengths[s] 0 lets one rest, behind what they hold.
kv_status kv_session_append(kv_session *session, const int32_t *ids, const int64_t *lengths, float *logits,
                            kv_error *err);

// What leaves a session are numbers: reading fails with KV_ERR_NOT_FINITE, and no token is read, when a logit
// of any sequence is NaN or infinite, be it for the weights of the base, of the aux or of the predictors. The
// first such sequence of the last reading that failed so; -1 before that.
int64_t kv_session_not_finite(const kv_session *session);

// One more token for every sequence that is active (active NULL: all), ids[n_seq]: the logits of the next,
// [n_seq, vocab_size]; rows of inactive sequences are left alone.
kv_status kv_session_decode(kv_session *session, const int32_t *ids, const bool *active, float *logits,
                            kv_error *err);

// Several more tokens at once for every sequence that has any: ids of all sequences one after the other,
// lengths[n_seq] (0: the sequence rests). hidden [Σ lengths, model_dim]: what the final norm of the base gives for
// each, which kv_model_head makes logits of; nobody has looked whether they are finite. The same cache, and but for
// rounding the same logits, as decoding them one by one. Not for lazy pruning, which looks at its cache anew with
// every token: KV_ERR_ARGUMENT.
kv_status kv_session_read(kv_session *session, const int32_t *ids, const int64_t *lengths, float *hidden,
                          kv_error *err);

const kv_system *kv_session_system(const kv_session *session); // with defaults filled in
int64_t kv_session_n_seq(const kv_session *session);
int64_t kv_session_capacity(const kv_session *session);
int64_t kv_session_vocab_size(const kv_session *session); // the base's: the length of a row of logits

// Tokens that sequence s has read, and so the position of the next one. (Those that pruning left out count,
// but for random pruning, which makes the prompt itself a shorter one.)
int64_t kv_session_length(const kv_session *session, int64_t s);

// Of these, tokens that an aux has still to read before it goes on; of a prefix and of a model alone none.
int64_t kv_session_unread(const kv_session *session, int64_t s);

// What sequence s of a session for turns holds: all tokens that it has read, with their entries and, of a separate aux, what
// that has read; not whose they are (maker) nor any text. *prompt is the caller's to free. And the other way: it
// takes the place of what the sequence held, and is borrowed for the call. Of other shapes it is KV_ERR_MISMATCH, too long
// KV_ERR_RANGE, and the sequence stays as it was.
kv_status kv_session_save(const kv_session *session, int64_t s, kv_saved_prompt **prompt, kv_error *err);
kv_status kv_session_load(kv_session *session, int64_t s, const kv_saved_prompt *prompt, kv_error *err);

// How many tokens of sequence s have keys and values in a layer of the base's cache, and (positions may be
// NULL) which, in rising order. All of them, unless pruned.
int64_t kv_session_cached(const kv_session *session, int64_t layer, int64_t s, int32_t *positions);

// Copies those keys and values, each [kv_session_cached, kv_dim]; for tests and analysis.
void kv_session_copy_cache(const kv_session *session, int64_t layer, int64_t s, float *k, float *v);

KV_API_END

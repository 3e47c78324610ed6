// Batched decoding, greedy or sampled: a batch that stays, or one that prompts join as others leave it.
#pragma once

#include "core/api.h"
#include "infer/session/engine.h"
#include "infer/session/sample.h"

KV_API_BEGIN

// Asked after each new token of a sequence: is generated[n], the newest last, the end of it?
typedef kv_status kv_stop_fn(void *context, int64_t sequence, const int32_t *generated, int64_t n, bool *stop,
                             kv_error *err);

typedef struct kv_generation {
    int64_t max_tokens;
    kv_sampling sampling; // zero: greedy
    int64_t n_ids;        // ids from here on are never drawn: rows that pad the vocabulary; 0: all are drawn
    bool append;          // the prompts go on from what the session has read, see kv_session_prefill
    // [n_seq] random stream of each sequence: what is drawn depends on the seed, this and how many tokens of
    // the sequence came before, and so not on the batch it is in. NULL: 0, 1, …
    const uint64_t *streams;
    kv_stop_fn *stop; // NULL: never
    void *context;    // of stop
} kv_generation;

// Prompts as for kv_session_prefill, into an empty session (it is reset first, unless they append). Each
// sequence goes on until `stop` says so, or after max_tokens, or when its cache is full; those that have
// ended cost nothing more. generated [n_seq, max_tokens]: sequence s owns row s; n_generated [n_seq]. A
// failure of `stop` is passed on; a sampling that makes no sense, or n_ids beyond the vocabulary, is
// KV_ERR_ARGUMENT. Logits that are not finite end all of it with KV_ERR_NOT_FINITE, which names the token of the
// answer (kv_session_not_finite: the sequence). Between tokens a signal to stop is obeyed: KV_ERR_INTERRUPTED.
kv_status kv_generate(kv_session *session, const int32_t *ids, const int64_t *lengths,
                      const kv_generation *how, int32_t *generated, int64_t *n_generated, kv_error *err);

typedef struct kv_prompts {
    int32_t *const *ids;    // of each prompt
    const int64_t *lengths; // likewise, >= 1
    const int64_t *order;   // [n] which of them are taken, in this order; NULL: the first n
    int64_t n;
    // Tokens that all of them begin with, fewer than any has, and that the last sequence of a session for turns holds: it
    // answers nothing, each prompt goes on from a copy of it. 0: there are none.
    int64_t n_shared;
} kv_prompts;

typedef struct kv_answers {
    int32_t *generated;   // row i, of max_tokens: the answer to prompt i
    int64_t *n_generated; // how many tokens it has
    int64_t failed;       // after KV_ERR_NOT_FINITE: the prompt whose answer ended so
} kv_answers;

// The same for any number of prompts: the session's sequences take the first of them, and as answers end the next ones take
// their places (continuous batching). `sequence` of stop, streams and answers are by prompt. A prompt that is the same as the one
// taken before it, and joins with it, is read once. Not with `append`.
//                                                                             [Yu et al. 2022, section 4]
kv_status kv_generate_in_turn(kv_session *session, const kv_prompts *prompts, const kv_generation *how,
                              kv_answers *answers, kv_error *err);

KV_API_END

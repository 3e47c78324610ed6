// Batched greedy decoding.
#pragma once

#include "infer/engine.h"

// Asked after each new token of a sequence: is generated[n], the newest last, the end of it?
typedef kv_status kv_stop_fn(void *context, int64_t sequence, const int32_t *generated, int64_t n, bool *stop,
                             kv_error *err);

// Prompts as for kv_session_prefill, into an empty session (it is reset first). Each sequence goes on until
// `stop` says so (NULL: never), or after max_tokens, or when its cache is full; those that have ended cost
// nothing more. generated [n_seq, max_tokens]: sequence s owns row s; n_generated [n_seq]. A failure of
// `stop` is passed on. Between tokens a signal to stop is obeyed: KV_ERR_INTERRUPTED.
kv_status kv_generate_greedy(kv_session *session, const int32_t *ids, const int64_t *lengths,
                             int64_t max_tokens, kv_stop_fn *stop, void *context, int32_t *generated,
                             int64_t *n_generated, kv_error *err);

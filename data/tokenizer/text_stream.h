// Token ids, one after the other, into text that can be shown at once and ends before a stop string.
//
// What comes out is always whole characters of valid UTF-8: bytes that are not part of one, and never can
// become one, are given as U+FFFD, the way SentencePiece does it. All of it together is what
// kv_decode_continuation makes of all ids, with such bytes replaced likewise. Costs the same for every token,
// however many there were before.
#pragma once

#include "core/api.h"
#include "data/tokenizer/tokenizer.h"

#include <stdbool.h>

KV_API_BEGIN

typedef struct kv_text_stream kv_text_stream;

// Tokenizer and stops[n_stops] (none of them empty, see stop_filter.h) are borrowed. NULL when out of memory.
// Free with kv_text_stream_free (accepts NULL).
kv_text_stream *kv_text_stream_create(const kv_tokenizer *tokenizer, const char *const *stops,
                                      size_t n_stops);
void kv_text_stream_free(kv_text_stream *stream);

// The text that has become certain with one more token; NUL-terminated, *length bytes (often 0), valid until
// the next call. *stopped: a stop string is complete, and nothing comes any more. Errors as of
// kv_tokenizer_decode.
kv_status kv_text_stream_push(kv_text_stream *stream, int32_t id, const char **text, size_t *length,
                              bool *stopped, kv_error *err);
// What was still waiting for more bytes: no more come. The stream may be used again from the start.
kv_status kv_text_stream_finish(kv_text_stream *stream, const char **text, size_t *length, bool *stopped,
                                kv_error *err);

KV_API_END

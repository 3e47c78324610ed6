// Text that goes on from another one.
#pragma once

#include "data/tokenizer/tokenizer.h"

// Text of ids[n] as it reads behind other text. Decoded alone a generation would lose the white space it
// begins with to some tokenizers: SentencePiece models with a dummy prefix, or that remove extra white space,
// drop it in front of the first piece. Caller frees *text; errors as of kv_tokenizer_decode.
kv_status kv_decode_continuation(const kv_tokenizer *tokenizer, const int32_t *ids, int64_t n, char **text,
                                 size_t *length, kv_error *err);

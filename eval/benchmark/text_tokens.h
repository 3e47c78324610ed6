// The tokens of a corpus, in whatever form it comes: a token shard, a corpus of several, or text files, which are
// tokenized on the way as kvdata tokenize does it.
#pragma once

#include "data/tokenizer/tokenizer.h"

#include <stdint.h>

typedef struct kv_text_tokens {
    int32_t *ids;   // [n] of all documents, one after the other, BOS and EOS included
    int32_t *bytes; // [n] of text that each stands for (data/tokenizer/token_bytes.h)
    int64_t n;
    int64_t *documents; // [n_documents + 1] where each begins, the end last
    int64_t n_documents;
} kv_text_tokens;

// The first `most` tokens (0: all), or what there is. path: a token shard, the directory of a corpus, a text file or a
// directory of text files (data/text/files.h; JSON lines or plain, .gz or not). A corpus that was made with another
// tokenizer is KV_ERR_MISMATCH, saying with which; one of the same pieces that cuts text in another way gets a
// warning. A document that is bad is KV_ERR_FORMAT naming file and line. Free with kv_text_tokens_free, also after a
// failure.
kv_status kv_text_tokens_read(const char *path, const kv_tokenizer *tokenizer, int64_t most,
                              kv_text_tokens *tokens, kv_error *err);
void kv_text_tokens_free(kv_text_tokens *tokens);

// Trains a SentencePiece tokenizer with the program spm_train (package sentencepiece).
#pragma once

#include "core/api.h"
#include "core/status.h"
#include "data/text/documents.h"

#include <stddef.h>
#include <stdint.h>

KV_API_BEGIN

// Byte-pair encoding with byte fallback, so that any text can be written; text is taken as it is (identity
// normalisation, no space put in front), so that decoding gives back what was encoded and the tokens of a
// prompt begin the tokens of prompt + answer. Digits stand alone. Ids 0, 1, 2: unknown, BOS, EOS.
//
// inputs[n_inputs]: files of documents, read as `text` says (NULL: by content, the key "text"). The model appears at `path` whole or not at
// all; the same text gives the same bytes.
kv_status kv_tokenizer_train_as(const char *const *inputs, size_t n_inputs, const kv_documents_options *text,
                                int64_t vocab_size, const char *path, kv_error *err);
kv_status kv_tokenizer_train(const char *const *inputs, size_t n_inputs, int64_t vocab_size, const char *path,
                             kv_error *err);

KV_API_END

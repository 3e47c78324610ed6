// How a passage reads: the frame around words, which is measured in one place and written in another.
#pragma once

#include "data/synthetic/recall.h"
#include "data/system/buffers.h"

// Each appends to a text that stays NUL-terminated: "Remember:", " key is value.", "\nWhat is key?",
// " key is".
kv_status kv_recall_put_head(kv_bytes *text, kv_error *err);
kv_status kv_recall_put_statement(kv_bytes *text, const char *key, const char *value, kv_error *err);
kv_status kv_recall_put_question(kv_bytes *text, const char *key, kv_error *err);
kv_status kv_recall_put_key(kv_bytes *text, const char *key, kv_error *err);

// Tokens of a text that begins a document, with its BOS.
kv_status kv_recall_count(const kv_recall *recall, const char *text, int64_t *n, kv_error *err);

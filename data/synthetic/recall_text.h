// How a passage reads: the frame around words, which is measured in one place and written in another.
#pragma once

#include "data/synthetic/recall.h"
#include "data/system/buffers.h"

// Each appends to a text that stays NUL-terminated: "Remember:", on a new line where it is not the first; " key is
// value."; and "\nWhat is key? key is", with " value." behind where a value is given.
kv_status kv_recall_put_head(kv_bytes *text, kv_error *err);
kv_status kv_recall_put_statement(kv_bytes *text, const char *key, const char *value, kv_error *err);
kv_status kv_recall_put_question(kv_bytes *text, const char *key, const char *value, kv_error *err);

// Tokens of a text that begins a document, with its BOS.
kv_status kv_recall_count(const kv_recall *recall, const char *text, int64_t *n, kv_error *err);

// The pieces of a tokenizer by id and by spelling.
#pragma once

#include "core/status.h"

#include <stddef.h>
#include <stdint.h>

typedef struct kv_vocabulary kv_vocabulary;

// Ids 0 to size - 1, all holes at first.
kv_status kv_vocabulary_create(int64_t size, kv_vocabulary **vocabulary, kv_error *err);
void kv_vocabulary_free(kv_vocabulary *vocabulary);

// The spelling, not empty, is copied. KV_ERR_FORMAT: the id has another one, or the spelling has another id;
// the same pair twice is fine.
kv_status kv_vocabulary_add(kv_vocabulary *vocabulary, int32_t id, const char *piece, size_t length,
                            kv_error *err);

int64_t kv_vocabulary_size(const kv_vocabulary *vocabulary);
// NULL: a hole, or no such id.
const char *kv_vocabulary_piece(const kv_vocabulary *vocabulary, int32_t id);
// -1: no such piece.
int32_t kv_vocabulary_find(const kv_vocabulary *vocabulary, const char *piece, size_t length);

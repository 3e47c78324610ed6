// A part of a tokenizer.json, which nests as deep as it likes, with its place for messages:
// "tokenizer.json: pre_tokenizer.pretokenizers[0]". Files of one flat object: data/file/json.h.
#pragma once

#include "core/status.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct kv_json_part {
    const json_t *value; // NULL: there is no such part
    char where[512];
} kv_json_part;

// The member `key` of an object, the entry `index` of a list.
kv_json_part kv_json_member(const kv_json_part *part, const char *key);
kv_json_part kv_json_entry(const kv_json_part *part, size_t index);
bool kv_json_absent(const kv_json_part *part); // missing or null

// KV_ERR_FORMAT: where, what is found there, what was expected.
kv_status kv_json_part_wrong(const kv_json_part *part, const char *expected, kv_error *err);

// Members of an object by their type. A flag that is absent leaves *value, its default, as it is.
kv_status kv_json_flag(const kv_json_part *part, const char *key, bool *value, kv_error *err);
kv_status kv_json_string(const kv_json_part *part, const char *key, const char **value, kv_error *err);
// One of n names; *value is its index. KV_ERR_FORMAT lists them.
kv_status kv_json_choice(const kv_json_part *part, const char *key, const char *const *names, int n,
                         int *value, kv_error *err);
// Pattern of a Split or Replace: {"String": …} or {"Regex": …}, not empty.
kv_status kv_json_pattern(const kv_json_part *part, const char *key, const char **pattern, bool *is_regex,
                          kv_error *err);

// Calls `each` for the part itself or, where it is an object of type "Sequence" with its list under
// `list_key`, for each of the list's entries, in order and however nested (up to 16 deep). Absent parts are
// none.
typedef kv_status kv_json_each_fn(void *context, const kv_json_part *part, kv_error *err);
kv_status kv_json_sequence(const kv_json_part *part, const char *list_key, kv_json_each_fn *each,
                           void *context, kv_error *err);

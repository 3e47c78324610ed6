// JSON values as Python's json reads them. json.h is about files of them.
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

// JSON as Python's json reads it; nothing else calls jansson's loaders. A byte order mark in front is skipped, the
// last of several members of one name counts, and what jansson has no value for becomes one that is of no kind
// anybody expects, and that kv_json_kind names: NaN, infinities, numbers beyond a double, halves of surrogate pairs, and
// without JSON_ALLOW_NUL texts with a NUL (so that what json_string_value gives is the whole text). flags: as of jansson. With
// JSON_DISABLE_EOF_CHECK why->position is where the first value ended.
json_t *kv_json_parse(const char *text, size_t size, size_t flags, json_error_t *why);

// What a value is, for "found ...": "a list", "NaN", "text with a NUL character", "missing" for NULL.
const char *kv_json_kind(const json_t *value);
// Whether it stands for something that is no JSON.
bool kv_json_is_odd(const json_t *value);
// Whether a key has lost a NUL or half a surrogate pair, and may be another's.
bool kv_json_is_odd_key(const char *key);
// Puts for each such value in the tree its kind, a text, so that it can be shown and written.
void kv_json_spell_out(json_t *tree);
// The value as a line of JSON, or the kind of an odd one; caller frees. NULL: out of memory.
char *kv_json_show(const json_t *value);

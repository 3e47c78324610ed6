// JSON files that describe something: every field is fetched with its type and range, and what is wrong is
// named with file, key, found and expected.
#pragma once

#include "core/status.h"

#include <jansson.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

typedef struct kv_json_file {
    char path[PATH_MAX];
    json_t *root; // an object
} kv_json_file;

// Reads dir/name. Close with kv_json_close, also after a failure.
kv_status kv_json_open(const char *dir, const char *name, kv_json_file *file, kv_error *err);
void kv_json_close(kv_json_file *file);

// JSON as Python's json reads it; nothing else calls jansson's loaders. A byte order mark in front is skipped, the
// last of several members of one name counts, and what jansson has no value for becomes one that is of no kind
// anybody expects, and that kv_json_kind names: NaN, infinities, numbers beyond a double, halves of surrogate pairs, and
// without JSON_ALLOW_NUL texts with a NUL (so that what json_string_value gives is the whole text). flags: as of jansson. With
// JSON_DISABLE_EOF_CHECK why->position is where the first value ended.
json_t *kv_json_parse(const char *text, size_t size, size_t flags, json_error_t *why);

// The object that a file of at most max_size bytes holds; free with json_decref. *root is NULL after a failure.
kv_status kv_json_read(const char *path, size_t max_size, json_t **root, kv_error *err);

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

// KV_ERR_FORMAT saying what `key` is and what was expected; for a list's entry index >= 0.
kv_status kv_json_wrong(const kv_json_file *file, const char *key, int64_t index, const char *expected,
                        kv_error *err);

// Required fields.
kv_status kv_json_int(const kv_json_file *file, const char *key, int64_t min, int64_t max, int64_t *value,
                      kv_error *err);
kv_status kv_json_real(const kv_json_file *file, const char *key, double min, double max, double *value,
                       kv_error *err);
// Lists of exactly n entries.
kv_status kv_json_ints(const kv_json_file *file, const char *key, int64_t n, int64_t min, int64_t max,
                       int64_t *values, kv_error *err);
kv_status kv_json_reals(const kv_json_file *file, const char *key, int64_t n, double min, double max,
                        double *values, kv_error *err);
// An optional field: *value stays what it was when the key is absent.
kv_status kv_json_bool(const kv_json_file *file, const char *key, bool *value, kv_error *err);

static inline bool kv_json_has(const kv_json_file *file, const char *key) {
    return json_object_get(file->root, key) != NULL;
}

// ---- JSON lines ----------------------------------------------------------------------------------------

// Writes a value, which is taken over, and a new line. False when it is NULL or could not be written.
bool kv_json_put(FILE *file, json_t *value, size_t flags);

// `entry` is borrowed; where is "FILE:LINE", for errors.
typedef kv_status kv_json_line_fn(void *context, const json_t *entry, const char *where, kv_error *err);

// Calls `each` for every line of content[size] but blank ones, from a file called `path`. A line that is not
// JSON is KV_ERR_FORMAT saying that one `what` a line was expected, as is a file of JSON that is not in lines. flags:
// as of jansson.
kv_status kv_json_lines(const char *path, const char *content, size_t size, size_t flags, const char *what,
                        kv_json_line_fn *each, void *context, kv_error *err);

// What the text is, and how to make lines of it, when it is JSON but not one object a line: an array of objects (of
// anything, with `any`), or objects over several lines. NULL: it is neither. whole: the text is all there is, and
// not only its beginning.
const char *kv_json_not_lines(const char *text, size_t size, bool whole, bool any);

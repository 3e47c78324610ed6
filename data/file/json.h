// JSON files that describe something: every field is fetched with its type and range, and what is wrong is
// named with file, key, found and expected.
#pragma once

#include "core/status.h"
#include "data/file/json_value.h"

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

// The object that a file of at most max_size bytes holds; free with json_decref. *root is NULL after a failure.
kv_status kv_json_read(const char *path, size_t max_size, json_t **root, kv_error *err);

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

// Writes a value, which is taken over, as a whole file (kv_write_file); NULL: KV_ERR_MEMORY. flags: as of jansson.
kv_status kv_json_write(const char *path, json_t *value, size_t flags, kv_error *err);

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
// anything, with `any`), objects over several lines, or several on one. NULL: it is none of these. whole: the text is all there is, and
// not only its beginning.
const char *kv_json_not_lines(const char *text, size_t size, bool whole, bool any);

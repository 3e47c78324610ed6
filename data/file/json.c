#include "data/file/json.h"

#include "core/text.h"
#include "data/file/content.h"
#include "data/file/mistaken.h"
#include "data/file/path.h"
#include "data/file/plain.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_JSON_BYTES = 16 << 20 };

// ---- Files ---------------------------------------------------------------------------------------------

static kv_status read_object(const char *path, size_t max_size, json_t **root, kv_error *err) {
    char *text;
    size_t size;
    json_error_t why;
    *root = NULL;
    kv_status status = kv_read_file(path, max_size, &text, &size, err);
    if (status) return status;
    json_t *value = kv_json_parse(text, size, 0, &why);
    free(text);
    if (!value) return kv_fail(err, KV_ERR_FORMAT, "%s:%d: bad JSON: %s", path, why.line, why.text);
    if (json_is_object(value)) {
        *root = value;
        return KV_OK;
    }
    status = kv_fail(err, KV_ERR_FORMAT, "%s: found %s, expected a JSON object", path, kv_json_kind(value));
    json_decref(value);
    return status;
}

kv_status kv_json_read(const char *path, size_t max_size, json_t **root, kv_error *err) {
    return kv_mistaken(path, KV_FILE_JSON, read_object(path, max_size, root, err), err);
}

kv_status kv_json_open(const char *dir, const char *name, kv_json_file *file, kv_error *err) {
    *file = (kv_json_file){.root = NULL};
    if (snprintf(file->path, sizeof file->path, "%s/%s", dir, name) >= (int)sizeof file->path)
        return kv_path_too_long(dir, err);
    return kv_json_read(file->path, MAX_JSON_BYTES, &file->root, err);
}

void kv_json_close(kv_json_file *file) {
    json_decref(file->root);
    file->root = NULL;
}

static const json_t *entry(const kv_json_file *file, const char *key, int64_t index) {
    const json_t *value = json_object_get(file->root, key);
    return index < 0 ? value : json_array_get(value, (size_t)index);
}

kv_status kv_json_wrong(const kv_json_file *file, const char *key, int64_t index, const char *expected,
                        kv_error *err) {
    char place[24] = "";
    const json_t *value = entry(file, key, index);
    char *found = value ? kv_json_show(value) : NULL;
    if (index >= 0) snprintf(place, sizeof place, "[%lld]", (long long)index);
    kv_status status = value ? kv_fail(err, KV_ERR_FORMAT, "%s: '%s'%s is %.*s, expected %s", file->path, key,
                                       place, KV_HEAD(found ? found : "of another kind", 60), expected)
                             : kv_fail(err, KV_ERR_FORMAT, "%s: '%s'%s is missing, expected %s", file->path,
                                       key, place, expected);
    free(found);
    return status;
}

static kv_status get_int(const kv_json_file *file, const char *key, int64_t index, int64_t min, int64_t max,
                         int64_t *value, kv_error *err) {
    char expected[96];
    const json_t *found = entry(file, key, index);
    if (json_is_integer(found) && json_integer_value(found) >= min && json_integer_value(found) <= max) {
        *value = json_integer_value(found);
        return KV_OK;
    }
    snprintf(expected, sizeof expected, "a whole number from %lld to %lld", (long long)min, (long long)max);
    return kv_json_wrong(file, key, index, expected, err);
}

static kv_status get_real(const kv_json_file *file, const char *key, int64_t index, double min, double max,
                          double *value, kv_error *err) {
    char expected[96];
    const json_t *found = entry(file, key, index);
    if (json_is_number(found) && json_number_value(found) >= min && json_number_value(found) <= max) {
        *value = json_number_value(found);
        return KV_OK;
    }
    snprintf(expected, sizeof expected, "a number from %g to %g", min, max);
    return kv_json_wrong(file, key, index, expected, err);
}

static kv_status check_list(const kv_json_file *file, const char *key, int64_t n, kv_error *err) {
    const json_t *list = json_object_get(file->root, key);
    char expected[64];
    snprintf(expected, sizeof expected, "a list of %lld numbers", (long long)n);
    if (!json_is_array(list)) return kv_json_wrong(file, key, -1, expected, err);
    if (json_array_size(list) != (size_t)n)
        return kv_fail(err, KV_ERR_FORMAT, "%s: '%s' has %zu entries, expected %s", file->path, key,
                       json_array_size(list), expected);
    return KV_OK;
}

kv_status kv_json_int(const kv_json_file *file, const char *key, int64_t min, int64_t max, int64_t *value,
                      kv_error *err) {
    return get_int(file, key, -1, min, max, value, err);
}

kv_status kv_json_real(const kv_json_file *file, const char *key, double min, double max, double *value,
                       kv_error *err) {
    return get_real(file, key, -1, min, max, value, err);
}

kv_status kv_json_ints(const kv_json_file *file, const char *key, int64_t n, int64_t min, int64_t max,
                       int64_t *values, kv_error *err) {
    kv_status status = check_list(file, key, n, err);
    for (int64_t i = 0; i < n && !status; i++) status = get_int(file, key, i, min, max, &values[i], err);
    return status;
}

kv_status kv_json_reals(const kv_json_file *file, const char *key, int64_t n, double min, double max,
                        double *values, kv_error *err) {
    kv_status status = check_list(file, key, n, err);
    for (int64_t i = 0; i < n && !status; i++) status = get_real(file, key, i, min, max, &values[i], err);
    return status;
}

kv_status kv_json_bool(const kv_json_file *file, const char *key, bool *value, kv_error *err) {
    const json_t *found = json_object_get(file->root, key);
    if (found && !json_is_boolean(found)) return kv_json_wrong(file, key, -1, "true or false", err);
    if (found) *value = json_is_true(found);
    return KV_OK;
}

// ---- JSON lines ----------------------------------------------------------------------------------------

bool kv_json_put(FILE *file, json_t *value, size_t flags) {
    const bool ok = value && json_dumpf(value, file, flags) == 0 && fputc('\n', file) != EOF;
    json_decref(value);
    return ok;
}

kv_status kv_json_write(const char *path, json_t *value, size_t flags, kv_error *err) {
    char *text = value ? json_dumps(value, flags) : NULL;
    json_decref(value);
    kv_status status =
        text ? kv_write_file(path, text, strlen(text), err) : kv_fail(err, KV_ERR_MEMORY, "out of memory");
    free(text);
    return status;
}

static bool is_white(const char *text, size_t size) {
    for (size_t i = 0; i < size; i++)
        if (!text[i] || !strchr(" \t\r\n", text[i])) return false;
    return true;
}

// Bytes of text[size], the beginning of something longer, up to where no token is cut in two.
static size_t before_last_token(const char *text, size_t size) {
    size_t n = size;
    while (n > 0 && text[n - 1] != ' ' && text[n - 1] != ',') n--;
    return n > 0 ? n : size;
}

const char *kv_json_not_lines(const char *text, size_t size, bool whole, bool any) {
    json_error_t why;
    const size_t mark = kv_byte_order_mark(text, size);
    text += mark, size -= mark;
    while (size > 0 && is_white(text, 1)) text++, size--;
    if (size == 0 || (*text != '{' && *text != '[')) return NULL;
    if (!whole) size = before_last_token(text, size);
    const bool list = *text == '[';
    const size_t line = kv_line_length(text, size);
    size_t second = 1; // what a list or an object begins with
    while (second < size && is_white(text + second, 1)) second++;
    if (list && !any && (second == size || text[second] != '{')) return NULL;
    if (!list && (second == size || !strchr("\"}", text[second]))) return NULL;
    json_t *value = kv_json_parse(text, size, JSON_DISABLE_EOF_CHECK, &why);
    const size_t end = value ? (size_t)why.position : size;
    json_decref(value);
    if (!value && (whole || json_error_code(&why) != json_error_premature_end_of_input)) return NULL;
    size_t next = end;
    while (next < size && is_white(text + next, 1)) next++;
    if (!list && end > 2 && next < line && text[next] == '{')
        return "JSON objects side by side on a line, expected one a line (jq -c . FILE makes them)";
    if (!list && end <= line) return NULL;
    if (list && next == size) return "a JSON array, expected one object a line (jq -c '.[]' FILE makes them)";
    if (!list && (next == size || text[next] == '{'))
        return "a JSON object over several lines, expected one a line (jq -c . FILE makes them)";
    return NULL;
}

kv_status kv_json_lines(const char *path, const char *content, size_t size, size_t flags, const char *what,
                        kv_json_line_fn *each, void *context, kv_error *err) {
    const char *end = content + size, *text;
    size_t length;
    int64_t number = 0, n = 0;
    for (const char *at = content; kv_take_line(&at, end, &text, &length);) {
        number++;
        if (is_white(text, length)) continue;
        char where[PATH_MAX + 32];
        snprintf(where, sizeof where, "%s:%" PRIi64, path, number);
        json_error_t fault;
        json_t *entry = kv_json_parse(text, length, flags, &fault);
        const char *shape = NULL;
        if (!entry || (n == 0 && json_is_array(entry)))
            shape = kv_json_not_lines(text, (size_t)(end - text), true, n == 0);
        n++;
        if (shape || !entry) {
            json_decref(entry);
            return shape ? kv_fail(err, KV_ERR_FORMAT, "%s: found %s", where, shape)
                         : kv_fail(err, KV_ERR_FORMAT, "%s: not valid JSON (%s), expected one %s a line",
                                   where, fault.text, what);
        }
        kv_status status = each(context, entry, where, err);
        json_decref(entry);
        if (status != KV_OK) return status;
    }
    return KV_OK;
}

#include "data/file/json.h"

#include "core/text.h"
#include "data/file/content.h"
#include "data/file/path.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_JSON_BYTES = 16 << 20 };

// ---- Numbers that no integer type holds ----------------------------------------------------------------

// Its last five digits become the exponent that stands for them: the text keeps its length and its lines.
static void shorten(char *digits, size_t n) {
    static const char largest[] = "9223372036854775807", exponent[] = "e0005";
    const size_t most = strlen(largest), cut = strlen(exponent);
    if (n > most || (n == most && memcmp(digits, largest, n) > 0)) memcpy(digits + n - cut, exponent, cut);
}

// Python has no largest integer, and transformers writes its "no limit" as 1000000000000000019884624838656.
static void shorten_all(char *text, size_t size) {
    bool in_string = false;
    for (size_t i = 0; i < size; i++) {
        if (in_string && text[i] == '\\') {
            i++;
        } else if (text[i] == '"') {
            in_string = !in_string;
        } else if (!in_string && isdigit((unsigned char)text[i])) {
            size_t n = 1;
            bool whole = i == 0 || !strchr(".eE+", text[i - 1]); // and no fraction or exponent
            while (i + n < size && isdigit((unsigned char)text[i + n])) n++;
            if (i + n < size && strchr(".eE", text[i + n])) whole = false;
            if (whole) shorten(text + i, n);
            i += n - 1;
        }
    }
}

json_t *kv_json_parse(char *text, size_t size, size_t flags, json_error_t *why) {
    shorten_all(text, size);
    return json_loadb(text, size, flags, why);
}

// ---- Files ---------------------------------------------------------------------------------------------

kv_status kv_json_open(const char *dir, const char *name, kv_json_file *file, kv_error *err) {
    char *text;
    size_t size;
    json_error_t why;
    *file = (kv_json_file){.root = NULL};
    if (snprintf(file->path, sizeof file->path, "%s/%s", dir, name) >= (int)sizeof file->path)
        return kv_path_too_long(dir, err);
    kv_status status = kv_read_file(file->path, MAX_JSON_BYTES, &text, &size, err);
    if (status) return status;
    file->root = kv_json_parse(text, size, JSON_REJECT_DUPLICATES, &why);
    free(text);
    if (!file->root)
        return kv_fail(err, KV_ERR_FORMAT, "%s:%d: bad JSON: %s", file->path, why.line, why.text);
    if (!json_is_object(file->root))
        return kv_fail(err, KV_ERR_FORMAT, "%s: expected a JSON object", file->path);
    return KV_OK;
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
    char *found = value ? json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT) : NULL;
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

kv_status kv_json_lines(const char *path, const char *content, size_t size, size_t flags, const char *what,
                        kv_json_line_fn *each, void *context, kv_error *err) {
    const char *end = content + size;
    int64_t number = 1;
    for (const char *line = content; line < end; number++) {
        const char *stop = memchr(line, '\n', (size_t)(end - line));
        const size_t length = (size_t)((stop ? stop : end) - line);
        const char *text = line;
        line += length + 1;
        if (strspn(text, " \t\r") >= length) continue;
        char where[PATH_MAX + 32];
        snprintf(where, sizeof where, "%s:%" PRIi64, path, number);
        json_error_t fault;
        json_t *entry = json_loadb(text, length, flags, &fault);
        if (!entry)
            return kv_fail(err, KV_ERR_FORMAT, "%s: not valid JSON (%s), expected one %s a line", where,
                           fault.text, what);
        kv_status status = each(context, entry, where, err);
        json_decref(entry);
        if (status != KV_OK) return status;
    }
    return KV_OK;
}

#include "data/tokenizer/json_part.h"

#include "core/text.h"
#include "data/file/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_NESTING = 16 };

kv_json_part kv_json_member(const kv_json_part *part, const char *key) {
    kv_json_part member = {.value = json_object_get(part->value, key)};
    size_t used = strlen(part->where);
    bool first = used > 1 && part->where[used - 1] == ' '; // "FILE: "
    if (snprintf(member.where, sizeof member.where, "%s%s%s", part->where, first ? "" : ".", key) < 0)
        member.where[0] = 0;
    return member;
}

kv_json_part kv_json_entry(const kv_json_part *part, size_t index) {
    kv_json_part entry = {.value = json_array_get(part->value, index)};
    if (snprintf(entry.where, sizeof entry.where, "%s[%zu]", part->where, index) < 0) entry.where[0] = 0;
    return entry;
}

bool kv_json_absent(const kv_json_part *part) {
    return !part->value || json_is_null(part->value);
}

kv_status kv_json_part_wrong(const kv_json_part *part, const char *expected, kv_error *err) {
    static const char *const kinds[] = {"an object", "a list", "text",  "a whole number",
                                        "a number",  "true",   "false", "null"};
    if (!part->value) return kv_fail(err, KV_ERR_FORMAT, "%s is missing, expected %s", part->where, expected);
    if (kv_json_is_odd(part->value))
        return kv_fail(err, KV_ERR_FORMAT, "%s is %s, expected %s", part->where, kv_json_kind(part->value),
                       expected);
    int kind = (int)json_typeof(part->value);
    if (kind == JSON_OBJECT || kind == JSON_ARRAY)
        return kv_fail(err, KV_ERR_FORMAT, "%s is %s, expected %s", part->where, kinds[kind], expected);
    char *found = json_dumps(part->value, JSON_ENCODE_ANY | JSON_COMPACT);
    kv_status status = kv_fail(err, KV_ERR_FORMAT, "%s is %.*s, expected %s", part->where,
                               KV_HEAD(found ? found : kinds[kind], 100), expected);
    free(found);
    return status;
}

kv_status kv_json_flag(const kv_json_part *part, const char *key, bool *value, kv_error *err) {
    kv_json_part member = kv_json_member(part, key);
    if (kv_json_absent(&member)) return KV_OK;
    if (!json_is_boolean(member.value)) return kv_json_part_wrong(&member, "true or false", err);
    *value = json_is_true(member.value);
    return KV_OK;
}

kv_status kv_json_string(const kv_json_part *part, const char *key, const char **value, kv_error *err) {
    kv_json_part member = kv_json_member(part, key);
    *value = json_string_value(member.value);
    return *value ? KV_OK : kv_json_part_wrong(&member, "text", err);
}

kv_status kv_json_choice(const kv_json_part *part, const char *key, const char *const *names, int n,
                         int *value, kv_error *err) {
    const char *found = NULL;
    kv_status status = kv_json_string(part, key, &found, err);
    if (status) return status;
    char expected[256] = "";
    for (int i = 0; i < n; i++) {
        *value = i;
        if (strcmp(found, names[i]) == 0) return KV_OK;
        size_t used = strlen(expected);
        snprintf(expected + used, sizeof expected - used, "%s%s",
                 i == 0      ? ""
                 : i + 1 < n ? ", "
                             : " or ",
                 names[i]);
    }
    kv_json_part member = kv_json_member(part, key);
    return kv_json_part_wrong(&member, expected, err);
}

kv_status kv_json_pattern(const kv_json_part *part, const char *key, const char **pattern, bool *is_regex,
                          kv_error *err) {
    kv_json_part member = kv_json_member(part, key);
    const char *string = json_string_value(json_object_get(member.value, "String"));
    const char *regex = json_string_value(json_object_get(member.value, "Regex"));
    *is_regex = regex != NULL;
    *pattern = regex ? regex : string;
    if (*pattern && **pattern && json_object_size(member.value) == 1) return KV_OK;
    return kv_json_part_wrong(&member, "an object of one text that is not empty, \"String\" or \"Regex\"",
                              err);
}

static kv_status visit(const kv_json_part *part, const char *list_key, int depth, kv_json_each_fn *each,
                       void *context, kv_error *err) {
    const char *type = NULL;
    kv_status status = kv_json_string(part, "type", &type, err);
    if (status) return status;
    if (strcmp(type, "Sequence") != 0) return each(context, part, err);
    if (depth == MAX_NESTING)
        return kv_fail(err, KV_ERR_FORMAT, "%s is nested too deeply, expected at most %d Sequences",
                       part->where, MAX_NESTING);
    kv_json_part list = kv_json_member(part, list_key);
    if (!json_is_array(list.value)) return kv_json_part_wrong(&list, "a list", err);
    for (size_t i = 0; i < json_array_size(list.value) && !status; i++) {
        kv_json_part entry = kv_json_entry(&list, i);
        status = visit(&entry, list_key, depth + 1, each, context, err);
    }
    return status;
}

kv_status kv_json_sequence(const kv_json_part *part, const char *list_key, kv_json_each_fn *each,
                           void *context, kv_error *err) {
    return kv_json_absent(part) ? KV_OK : visit(part, list_key, 0, each, context, err);
}

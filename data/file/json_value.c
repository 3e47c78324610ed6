// The one call of jansson's loaders, and what a value is that jansson has no kind for.
#include "data/file/json_value.h"

#include "data/file/json_text.h"
#include "data/file/plain.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void complain(json_error_t *why, const char *format, const char *a, const char *b) {
    snprintf(why->text, sizeof why->text - 1, format, a, b);
}

// str() of a dictionary, where JSON has a quotation mark. at: behind the character that was refused, or before it.
static bool is_single_quote(const char *text, size_t size, size_t at) {
    return (at > 0 && at <= size && text[at - 1] == '\'') || (at < size && text[at] == '\'');
}

// What jansson says of bytes that are no text, and of Python's own notation, leaves a reader guessing.
static void explain(const char *text, size_t size, size_t at, json_error_t *why) {
    const char *wide = kv_wide_encoding(text, size);
    if (wide)
        complain(why, KV_WIDE_ADVICE, wide, wide);
    else if (memchr(text, 0, size))
        complain(why, "%s%s", "a NUL byte, as binary or damaged files have", "");
    else if (is_single_quote(text, size, at))
        complain(why, "%s%s", "single quotes, as Python's str() writes them: json.dumps writes JSON", "");
}

json_t *kv_json_parse(const char *text, size_t size, size_t flags, json_error_t *why) {
    json_error_t unused;
    kv_json_text made;
    const bool nuls = flags & JSON_ALLOW_NUL, first = flags & JSON_DISABLE_EOF_CHECK;
    const size_t mark = kv_byte_order_mark(text, size);
    text += mark, size -= mark;
    if (!why) why = &unused;
    if (!kv_json_text_make(text, size, nuls, first, &made)) {
        *why = (json_error_t){.line = 1, .text = "out of memory"};
        return NULL;
    }
    json_t *value = json_loadb(made.text, made.size, flags, why);
    size_t position = why->position > 0 ? (size_t)why->position : 0;
    if (value)
        position = made.end;
    else if (made.copy)
        position = kv_json_text_origin(text, size, nuls, first, position);
    if (!value) explain(text, size < position + 16 ? size : position + 16, position, why);
    why->position = (int)(position + mark);
    free(made.copy);
    return value;
}

static const char *odd_kind(const json_t *value) {
    return json_object_size(value) == 1 ? json_string_value(json_object_get(value, KV_JSON_ODD)) : NULL;
}

bool kv_json_is_odd(const json_t *value) {
    return odd_kind(value) != NULL;
}

void kv_json_spell_out(json_t *tree) {
    const char *key;
    json_t *value;
    size_t i;
    json_object_foreach(tree, key, value) {
        if (kv_json_is_odd(value))
            json_object_set_new(tree, key, json_string(kv_json_kind(value)));
        else
            kv_json_spell_out(value);
    }
    json_array_foreach(tree, i, value) {
        if (kv_json_is_odd(value))
            json_array_set_new(tree, i, json_string(kv_json_kind(value)));
        else
            kv_json_spell_out(value);
    }
}

bool kv_json_is_odd_key(const char *key) {
    return strstr(key, KV_JSON_ODD) != NULL;
}

const char *kv_json_kind(const json_t *value) {
    static const char *const names[] = {
        [JSON_OBJECT] = "an object", [JSON_ARRAY] = "a list",  [JSON_STRING] = "a string",
        [JSON_INTEGER] = "a number", [JSON_REAL] = "a number", [JSON_TRUE] = "true",
        [JSON_FALSE] = "false",      [JSON_NULL] = "null"};
    if (!value) return "missing";
    return kv_json_is_odd(value) ? odd_kind(value) : names[json_typeof(value)];
}

char *kv_json_show(const json_t *value) {
    if (kv_json_is_odd(value)) return strdup(odd_kind(value));
    json_t *shown = json_deep_copy(value);
    kv_json_spell_out(shown);
    char *text = shown ? json_dumps(shown, JSON_ENCODE_ANY | JSON_COMPACT) : NULL;
    json_decref(shown);
    return text;
}

// Five lines tell JSON lines from prose that begins with a brace; what they leave open, documents.c says in a warning.
#include "data/text/first_lines.h"

#include "core/text.h"
#include "data/file/json.h"
#include "data/file/plain.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

enum { LOOKED_AT = 5 };

bool kv_is_blank(const char *line, size_t length) {
    for (size_t i = 0; i < length; i++)
        if (line[i] != ' ' && line[i] != '\t') return false;
    return true;
}

void kv_count_first_lines(const char *text, size_t size, kv_first_lines *first) {
    const char *at = text, *end = text + size, *line;
    size_t length;
    while (first->n < LOOKED_AT && kv_take_line(&at, end, &line, &length)) {
        if (kv_is_blank(line, length)) continue;
        if (line + length == end && !first->whole) break; // perhaps not all of it
        json_t *value = kv_json_parse(line, length, JSON_ALLOW_NUL, NULL);
        const bool object = json_is_object(value);
        json_decref(value);
        while (length > 0 && kv_is_blank(line + length - 1, 1)) length--;
        if (first->n == 0) first->begins = object || line[length - 1] == '}';
        if (first->n == 0) first->tag = line[strspn(line, " \t")] == '<';
        first->n++;
        first->n_objects += object;
    }
}

const char *kv_not_as_named(const char *text, size_t size, char shape[KV_SHAPE]) {
    const char *at = text, *line = "";
    size_t length = 0;
    kv_take_line(&at, text + size, &line, &length);
    const int shown = (int)kv_text_whole(line, length < 40 ? length : 40);
    snprintf(
        shape, KV_SHAPE,
        "its name promises JSON, but its first lines hold no object: it begins with \"%.*s\" (--format text reads "
        "it as text)",
        shown, line);
    for (char *c = shape; *c; c++)
        if ((unsigned char)*c < ' ' || *c == 127) *c = '?';
    return shape;
}

bool kv_looks_like_object(const char *line, size_t length) {
    while (length > 0 && (kv_is_blank(line + length - 1, 1) || line[length - 1] == ',')) length--;
    while (length > 0 && kv_is_blank(line, 1)) line++, length--;
    const bool begins = length > 4 && line[0] == '{' && (line[1] == '"' || line[1] == '\'' || line[1] == ' ');
    return begins && line[length - 1] == '}' && memchr(line, ':', length);
}

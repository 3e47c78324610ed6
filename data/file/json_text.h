// JSON as Python's json module writes and reads it, turned into JSON that jansson takes.
//
// jansson has no place for NaN, the infinities, numbers beyond a double, half a surrogate pair or (where texts are C
// strings) a NUL. Where one of them is a value, an object takes its place that says what it was: a value that nobody
// reads hurts nobody, and one that is read is of a wrong kind, under its key. Whole numbers beyond 64 bits become reals.
// A key with such a character gets U+FDD0 for it, which no text of Unicode holds.
#pragma once

#include <stdbool.h>
#include <stddef.h>

// The only key of an object that stands for something else, whose value says for what; and what odd keys hold.
#define KV_JSON_ODD "\xEF\xB7\x90"

typedef struct kv_json_text {
    const char *text; // [size] for jansson: the original, or `copy`
    size_t size;
    char *copy; // NULL where nothing had to be changed
    size_t end; // of the original: behind its first value, where only that was asked for
} kv_json_text;

// nuls: texts may hold NUL characters. first: what stands behind the first value is left alone. False: out of
// memory. Free `copy`.
bool kv_json_text_make(const char *text, size_t size, bool nuls, bool first, kv_json_text *made);

// Where in the original the byte `position` of what was made of it comes from.
size_t kv_json_text_origin(const char *text, size_t size, bool nuls, bool first, size_t position);

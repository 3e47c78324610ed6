// Characters of UTF-8 text that may hold invalid bytes.
#pragma once

#include "core/api.h"
#include "data/system/buffers.h"

#include <stdbool.h>

KV_API_BEGIN

// Bytes of the character that text[length] begins with, 1 to 4, its code point in *point; 0: text is empty or
// begins with no character (a stray or cut-off byte, an overlong form, a surrogate).
size_t kv_utf8_next(const char *text, size_t length, int32_t *point);
// The same for the character that text[length] ends with.
size_t kv_utf8_last(const char *text, size_t length, int32_t *point);

// Characters of text[length]: all bytes but those that continue one. What Python's len() says of valid UTF-8.
int64_t kv_utf8_count(const char *text, size_t length);

// Length of the longest beginning of text[length] that is valid UTF-8, and of the longest without a valid
// character.
size_t kv_utf8_valid(const char *text, size_t length);
size_t kv_utf8_invalid(const char *text, size_t length);

// Bytes of UTF-8 at the beginning of text[length]: > 0 of a whole valid character; 0 when more bytes could
// still make one (or length is 0); -1 when the first byte can be part of none.
int kv_utf8_character(const char *text, size_t length);

// General categories N*, the property White_Space, and what regular expressions call \w.
bool kv_is_number(int32_t point);
bool kv_is_white_space(int32_t point);
bool kv_is_word(int32_t point);

// What the evaluation harness does to text it does in Python; these do the same, str.strip() (moves *text and
// returns the length), the end alone (returns the length), str.lower() and str.capitalize() (both append).
// Invalid bytes stay as they are and are neither white space nor letters.
size_t kv_strip(const char **text, size_t length);
size_t kv_strip_end(const char *text, size_t length);
kv_status kv_lower(const char *text, size_t length, kv_bytes *out, kv_error *err);
kv_status kv_capitalize(const char *text, size_t length, kv_bytes *out, kv_error *err);

// Appends text[length] in normalisation form C; invalid bytes stay as they are. Time is linear, whatever the
// text.
//                                                                    [Unicode Standard Annex 15]
kv_status kv_nfc(const char *text, size_t length, kv_bytes *out, kv_error *err);

KV_API_END

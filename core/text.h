// Text, as far as every floor asks about it. A character is one of UTF-8, 1 to 4 bytes.
#pragma once

#include "core/api.h"

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

KV_API_BEGIN

static inline bool kv_ends_with(const char *text, const char *ending) {
    const size_t n = strlen(text), m = strlen(ending);
    return n >= m && memcmp(text + n - m, ending, m) == 0;
}

// Bytes of text[n], which was cut off behind them, without the character that the cut went through.
static inline size_t kv_text_whole(const char *text, size_t n) {
    size_t back = 1;
    while (back < 4 && back <= n && ((unsigned char)text[n - back] & 0xC0) == 0x80) back++;
    if (back > n) return n;
    const unsigned char first = (unsigned char)text[n - back];
    const size_t length = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : first >= 0xC0 ? 2 : 1;
    return length > back ? n - back : n;
}

// Bytes of the longest beginning of text that has at most `most` and cuts no character in two; both arguments
// of a "%.*s" that shows no more than that (`text` stands there twice).
#define KV_HEAD(text, most) kv_text_head((text), (most)), (text)
static inline int kv_text_head(const char *text, int most) {
    size_t n = 0;
    while (n <= (size_t)most && text[n]) n++;
    return (int)(n <= (size_t)most ? n : kv_text_whole(text, (size_t)most));
}

KV_API_END

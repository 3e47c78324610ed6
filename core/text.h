// Text, as far as every floor asks about it.
#pragma once

#include <stdbool.h>
#include <string.h>

static inline bool kv_ends_with(const char *text, const char *ending) {
    const size_t n = strlen(text), m = strlen(ending);
    return n >= m && memcmp(text + n - m, ending, m) == 0;
}

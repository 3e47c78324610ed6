// The C library reads numbers as its own source has them, and skips white space: what it takes beyond ours is looked for here.
#include "data/system/number.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

bool kv_take_whole(const char **text, int64_t *value) {
    char *end;
    if (isspace((unsigned char)**text)) return false;
    errno = 0;
    *value = strtoll(*text, &end, 10);
    if (errno || end == *text) return false;
    *text = end;
    return true;
}

bool kv_take_real(const char **text, double *value) {
    char *end;
    if (isspace((unsigned char)**text)) return false;
    *value = strtod(*text, &end);
    if (end == *text || !isfinite(*value) || memchr(*text, 'x', (size_t)(end - *text)) ||
        memchr(*text, 'X', (size_t)(end - *text)))
        return false;
    *text = end;
    return true;
}

bool kv_read_whole(const char *text, int64_t *value) {
    return kv_take_whole(&text, value) && !*text;
}

bool kv_read_unsigned(const char *text, uint64_t *value) {
    char *end;
    if (isspace((unsigned char)*text) || *text == '-') return false;
    errno = 0;
    *value = strtoull(text, &end, 10);
    return !errno && end != text && !*end;
}

bool kv_read_real(const char *text, double *value) {
    return kv_take_real(&text, value) && !*text;
}

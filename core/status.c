// Messages are written into the caller's own kv_error: failing needs no memory.
#include "core/status.h"

#include "core/text.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

// A message too long for its room ends before the character that would not fit.
static void end_whole(kv_error *err) {
    err->message[kv_text_whole(err->message, strlen(err->message))] = 0;
}

// A message is one line and leaves a terminal as it is, whatever stands in the names it was given.
static void keep_to_a_line(kv_error *err) {
    for (char *at = err->message; *at; at++)
        if ((unsigned char)*at < ' ' || *at == 0x7f) *at = '?';
}

kv_status kv_fail(kv_error *err, kv_status code, const char *format, ...) {
    if (!err) return code;
    err->code = code;
    va_list args;
    va_start(args, format);
    const int written = vsnprintf(err->message, sizeof err->message, format, args);
    va_end(args);
    if (written >= (int)sizeof err->message) end_whole(err);
    keep_to_a_line(err);
    return code;
}

kv_status kv_fail_within(kv_error *err, kv_status code, const char *format, ...) {
    if (!err) return code;
    char inner[sizeof err->message];
    memcpy(inner, err->message, sizeof inner);
    va_list args;
    va_start(args, format);
    int written = vsnprintf(err->message, sizeof err->message, format, args);
    va_end(args);
    size_t used = written < 0 ? 0 : (size_t)written, size = sizeof err->message;
    for (const char *next = ": "; *next && used < size - 1; next++) err->message[used++] = *next;
    for (const char *next = inner; *next && used < size - 1; next++) err->message[used++] = *next;
    if (used >= size) used = size - 1;
    err->message[used] = 0;
    if (used == size - 1) end_whole(err);
    keep_to_a_line(err);
    err->code = code;
    return code;
}

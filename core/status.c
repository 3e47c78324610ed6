#include "core/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

kv_status kv_fail(kv_error *err, kv_status code, const char *format, ...) {
    if (!err) return code;
    err->code = code;
    va_list args;
    va_start(args, format);
    vsnprintf(err->message, sizeof err->message, format, args);
    va_end(args);
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
    if (used < size) err->message[used] = 0;
    err->code = code;
    return code;
}

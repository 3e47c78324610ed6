// Warnings come from every floor above core; only here is it decided how they are shown.
#include "data/system/warning.h"

#include "data/system/console.h"
#include "data/system/fold.h"
#include "data/system/width.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// More than this many different ones are no longer told apart.
enum { MOST = 64 };

static bool said_before(char *text) {
    static char *said[MOST];
    static int n;
    for (int i = 0; i < n; i++)
        if (strcmp(said[i], text) == 0) return true;
    if (n < MOST && (said[n] = strdup(text))) n++;
    return false;
}

void kv_warn(const char *format, ...) {
    char text[2048];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    char *safe = kv_text_printable(text, false);
    if (!safe) return;
#pragma omp critical(kv_warning)
    if (!said_before(safe)) {
        const char *over_the_bar = kv_console_redraws(STDERR_FILENO) ? "\r\033[K" : "";
        fputs(over_the_bar, stderr);
        kv_fold_complaint("warning: %s", safe);
        fflush(stderr);
    }
    free(safe);
}

bool kv_much_is_lost(int64_t lost, int64_t all) {
    return lost > 0 && (double)lost > 0.1 * (double)all;
}

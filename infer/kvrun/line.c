// Standard input, and lines typed at a terminal.
#include "infer/kvrun/kvrun.h"

#include "data/system/console.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// Reading itself would go on after a signal.
kv_status kvrun_wait_for_input(kv_error *err) {
    struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
    const int ready = kv_console_poll(&input, 1, -1);
    if (kv_console_interrupted()) return kv_fail(err, KV_ERR_INTERRUPTED, "interrupted");
    if (ready < 0) return kv_fail(err, KV_ERR_IO, "standard input: %s", strerror(errno));
    return KV_OK;
}

static kv_status put(kvrun_line *line, const char *text, size_t n, kv_error *err) {
    kv_status status = kv_bytes_reserve(&line->text, n + 1, err);
    if (status == KV_OK) status = kv_bytes_add(&line->text, text, n, err);
    if (status == KV_OK) line->text.data[line->text.length] = '\0';
    return status;
}

kv_status kvrun_line_read(kvrun_line *line, bool *end, kv_error *err) {
    line->text.length = 0;
    *end = false;
    kv_status status = put(line, "", 0, err);
    while (status == KV_OK) {
        const char *stop = memchr(line->ahead, '\n', line->n_ahead);
        const size_t n = stop ? (size_t)(stop - line->ahead) : line->n_ahead;
        status = put(line, line->ahead, n, err);
        line->n_ahead -= n + (stop != NULL);
        if (stop) memmove(line->ahead, stop + 1, line->n_ahead);
        if (stop || status != KV_OK) break;
        status = kvrun_wait_for_input(err);
        if (status != KV_OK) break;
        const ssize_t got = read(STDIN_FILENO, line->ahead, sizeof line->ahead);
        if (got < 0 && errno != EIO) status = kv_fail(err, KV_ERR_IO, "standard input: %s", strerror(errno));
        if (got > 0) line->n_ahead = (size_t)got;
        if (got <= 0) { // Ctrl-D, or the terminal is gone
            *end = line->text.length == 0;
            break;
        }
    }
    return status;
}

// Standard input, and lines typed at a terminal.
#include "infer/kvrun/kvrun.h"

#include "data/system/console.h"
#include "infer/kvrun/edit.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
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

// What the terminal itself keeps of a line until Enter: the rest is lost, and it says so to nobody.
static bool is_cut(const kvrun_line *line) {
    enum { most = 4095 };
    struct termios settings;
    return line->text.length == most && tcgetattr(STDIN_FILENO, &settings) == 0 && settings.c_lflag & ICANON;
}

static kv_status read_plain(kvrun_line *line, bool *end, kv_error *err) {
    line->text.length = 0;
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
    if (status != KV_OK || !is_cut(line)) return status;
    fputs(
        "[this terminal hands on no more than 4095 bytes of a line, and the rest is lost: nothing was said; --file "
        "takes any length]\n",
        stderr);
    line->text.length = 0;
    return put(line, "", 0, err);
}

kv_status kvrun_line_open(kvrun_line *line, bool keep, const char *const *commands, kv_error *err) {
    *line = (kvrun_line){0};
    return kvrun_editor_open(&line->editor, keep, commands, err);
}

void kvrun_line_close(kvrun_line *line) {
    kvrun_editor_close(line->editor);
    kv_bytes_free(&line->text);
    line->editor = NULL;
}

kv_status kvrun_line_read(kvrun_line *line, const char **text, bool *end, kv_error *err) {
    *end = false;
    if (line->editor) {
        kv_status status = kvrun_editor_read(line->editor, end, err);
        *text = line->editor->text.data;
        return status;
    }
    fputs("> ", stderr);
    fflush(stderr);
    kv_status status = read_plain(line, end, err);
    if (status != KV_OK || *end) fputc('\n', stderr);
    *text = line->text.data;
    return status;
}

// Standard output becomes a stream of our own, which hands lines on to the terminal once they are whole.
#include "data/system/fold.h"

#include "data/system/width.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

// ---- Lines ---------------------------------------------------------------------------------------------

enum { NARROWEST = 20, FURTHEST = 34 };

// Where what a line says begins, behind its title; 0: it has none.
static size_t value_at(const char *line) {
    const size_t margin = strspn(line, " ");
    const char *gap = margin < 8 ? strstr(line + margin, "  ") : NULL;
    const size_t n = gap ? (size_t)(gap - line) + strspn(gap, " ") : 0;
    return n <= FURTHEST && line[n] ? n : 0;
}

// Columns that the lines behind the first begin with.
static int hanging(const char *line, int width) {
    const int margin = (int)strspn(line, " ");
    const size_t n = value_at(line);
    char front[FURTHEST + 1];
    memcpy(front, line, n);
    front[n] = '\0';
    const int indent = n ? kv_text_width(front) : margin > 0 ? margin : 2;
    return indent < width / 2 ? indent : margin < width / 2 ? margin + 2 : 2;
}

// Bytes of text that go into so many columns: whole words, at least one.
static size_t words_that_fit(const char *text, int columns) {
    const size_t fit = kv_text_fit(text, columns);
    if (!text[fit]) return fit;
    size_t end = fit;
    while (end > 0 && text[end] != ' ') end--;
    while (end > 0 && text[end - 1] == ' ') end--;
    return end > 0 ? end : strcspn(text + strspn(text, " "), " ") + strspn(text, " ");
}

static void fold_line(const char *line, int width, FILE *out) {
    if (*line == '{' || *line == '[' || kv_text_width(line) <= width) {
        fputs(line, out);
        return;
    }
    const int indent = hanging(line, width);
    const size_t margin = strspn(line, " ");
    size_t n = margin + words_that_fit(line + margin, width - (int)margin), value = value_at(line);
    if (n < value) n = value + strcspn(line + value, " "); // a title does not stand alone
    for (bool first = true; *line; first = false) {
        if (!first) fprintf(out, "\n%*s", indent, "");
        fwrite(line, 1, n, out);
        line += n;
        line += strspn(line, " ");
        n = words_that_fit(line, width - indent);
    }
}

static void fold_help_line(const char *line, int width, FILE *out) {
    if (strncmp(line, "  ", 2) == 0) {
        const char *gap = line + 2 + strspn(line + 2, "abcdefghijklmnopqrstuvwxyz._");
        const bool listed =
            gap > line + 2 && strncmp(gap, "  ", 2) == 0 && isalpha((unsigned char)gap[strspn(gap, " ")]);
        if (listed)
            fold_line(line, width, out);
        else
            fputs(line, out);
        return;
    }
    for (bool first = true; *line; first = false) {
        if (!first) fputc('\n', out);
        const size_t n = words_that_fit(line, width);
        fwrite(line, 1, n, out);
        line += n;
        line += strspn(line, " ");
    }
}

static void fold_lines(const char *text, int width, void (*fold)(const char *line, int width, FILE *out),
                       FILE *out) {
    char *copy = strdup(text), *rest = copy;
    if (!copy || width < NARROWEST) {
        fputs(text, out);
        free(copy);
        return;
    }
    for (char *line; (line = strsep(&rest, "\n"));) {
        fold(line, width, out);
        if (rest) fputc('\n', out);
    }
    free(copy);
}

void kv_fold(const char *text, int width, FILE *out) {
    fold_lines(text, width, fold_line, out);
}

void kv_fold_help(const char *text, int width, FILE *out) {
    fold_lines(text, width, fold_help_line, out);
}

void kv_fold_complaint(const char *format, ...) {
    char text[4096];
    va_list arguments;
    va_start(arguments, format);
    const int n = snprintf(text, sizeof text, "%s: ", program_invocation_short_name);
    vsnprintf(text + n, sizeof text - (size_t)n, format, arguments);
    va_end(arguments);
    kv_fold(text, kv_console_width(stderr), stderr);
    fputc('\n', stderr);
}

// ---- The stream ----------------------------------------------------------------------------------------

static struct {
    FILE *terminal, *stream; // NULL: nothing is folded
    int width;
    char *text; // what is not a line yet
    size_t n;
} folding;

static int terminal_width(FILE *stream) {
    struct winsize size;
    const int file = fileno(stream);
    if (file < 0 || !isatty(file) || ioctl(file, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return 0;
    const char *columns = getenv("COLUMNS");
    const int wanted = columns ? atoi(columns) : 0;
    return wanted >= NARROWEST && wanted < size.ws_col ? wanted : size.ws_col;
}

int kv_console_width(FILE *stream) {
    return folding.stream && stream == folding.stream ? folding.width : terminal_width(stream);
}

static bool hand_on(void) {
    if (folding.n == 0) return true;
    folding.text[folding.n] = '\0';
    if (strlen(folding.text) == folding.n)
        kv_fold(folding.text, folding.width, folding.terminal);
    else
        fwrite(folding.text, 1, folding.n, folding.terminal); // bytes, no text
    folding.n = 0;
    return fflush(folding.terminal) == 0 && !ferror(folding.terminal);
}

static ssize_t take(void *cookie, const char *bytes, size_t size) {
    (void)cookie;
    char *more = realloc(folding.text, folding.n + size + 1);
    if (!more) {
        errno = ENOMEM;
        return 0;
    }
    folding.text = more;
    memcpy(more + folding.n, bytes, size);
    folding.n += size;
    const bool whole = folding.text[folding.n - 1] == '\n';
    return !whole || hand_on() ? (ssize_t)size : 0;
}

static void end(int status, void *unused) {
    (void)status;
    (void)unused;
    if (fflush(folding.stream) == 0) hand_on();
}

void kv_fold_begin(void) {
    const int width = terminal_width(stdout);
    if (folding.stream || width < NARROWEST) return;
    FILE *stream = fopencookie(NULL, "w", (cookie_io_functions_t){.write = take});
    if (!stream) return;
    static char buffer[1 << 16];
    setvbuf(stream, buffer, _IOLBF, sizeof buffer);
    folding.terminal = stdout;
    folding.stream = stream;
    folding.width = width;
    on_exit(end, NULL);
    stdout = stream;
}

void kv_fold_stop(void) {
    folding.width = 0;
}

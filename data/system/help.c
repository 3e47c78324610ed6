// argp has one margin for all of a page of help, and none for lines that must stay whole.
#include "data/system/help.h"

#include "data/system/fold.h"

#include <argp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { ARGP_WIDTH = 79, LEAST = 30 };

static int margin; // 0: argp's own

void kv_help_fit(void) {
    struct winsize size;
    const int terminal = ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 ? size.ws_col : 0;
    const char *columns = getenv("COLUMNS");
    const int wanted = columns ? atoi(columns) : 0, width = (wanted > 0 ? wanted : terminal) - 1;
    char format[64];
    if (getenv("ARGP_HELP_FMT") || width <= 0 || width >= ARGP_WIDTH) return;
    margin = width < LEAST ? LEAST : width;
    // Narrower than that, the words about an option begin further to the left.
    snprintf(format, sizeof format, "rmargin=%d%s", margin, margin < 60 ? ",opt-doc-col=18" : "");
    setenv("ARGP_HELP_FMT", format, 1);
}

// ---- Room ----------------------------------------------------------------------------------------------

// Where its buffer is full glibc's argp (2.36) writes margins to the stream ahead of what is in the buffer, loses letters, or
// writes behind its end. The buffer grows with the longest text that is put into it, and so one is that long: a line that never
// reaches the real stream.
enum { ROOM = 1 << 16, FILLER = '\x01' };

static FILE *printed;

static ssize_t pass_on(void *cookie, const char *text, size_t n) {
    (void)cookie;
    for (size_t i = 0; i < n; i++) {
        static bool in_filler;
        const bool ends = in_filler && text[i] == '\n';
        in_filler = text[i] == FILLER;
        if (!in_filler && !ends) fputc(text[i], printed);
    }
    const bool ok = fflush(printed) == 0 && !ferror(printed);
    clearerr(printed);
    return ok ? (ssize_t)n : -1;
}

static void close_printed(void) {
    fflush(stdout);
}

// Help goes to what stdout is when argp begins.
void kv_help_make_room(char **argv) {
    bool wanted = false;
    for (int i = 1; argv[0] && argv[i]; i++)
        wanted = wanted || strncmp(argv[i], "--h", 3) == 0 || strncmp(argv[i], "-?", 2) == 0;
    FILE *stream = wanted ? fopencookie(NULL, "w", (cookie_io_functions_t){.write = pass_on}) : NULL;
    if (!stream) return;
    printed = stdout;
    stdout = stream;
    atexit(close_printed);
}

static char *with_room(const char *text) {
    char *longer = malloc(ROOM + strlen(text) + 2);
    if (!longer) return (char *)text;
    memset(longer, FILLER, ROOM);
    longer[ROOM] = '\n';
    strcpy(longer + ROOM + 1, text);
    return longer;
}

// ---- The text behind the options -----------------------------------------------------------------------

static struct {
    FILE *stream; // NULL: nothing is to be printed
    char *text;
    size_t n;
} behind;

static void print_behind(void) {
    if (fclose(behind.stream) == 0) fputs(behind.text, stdout);
    free(behind.text);
}

char *kv_help_filter(int key, const char *text, void *input) {
    (void)input;
    kv_fold_stop(); // help is what is printed from here on
    if (key == ARGP_KEY_HELP_PRE_DOC && printed && text) return with_room(text);
    if (key != ARGP_KEY_HELP_POST_DOC || !text || margin == 0) return (char *)text;
    if (!behind.stream) {
        behind.stream = open_memstream(&behind.text, &behind.n);
        if (!behind.stream) return (char *)text;
        atexit(print_behind);
    }
    fputc('\n', behind.stream);
    kv_fold_help(text, margin, behind.stream);
    fputc('\n', behind.stream);
    return NULL;
}

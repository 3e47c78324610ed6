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

enum { ARGP_WIDTH = 79, LEAST = 30, NARROW = 60, COLUMN = 29, NARROW_COLUMN = 18, WORDS = 21 };

static int margin; // 0: argp's own

// Where the words about an option begin: narrower than that, further to the left than argp's own.
static int option_column(void) {
    const int column = margin < NARROW ? NARROW_COLUMN : COLUMN;
    return column < margin - WORDS ? column : margin - WORDS;
}

void kv_help_fit(void) {
    struct winsize size;
    const int terminal = ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 ? size.ws_col : 0;
    const char *columns = getenv("COLUMNS");
    const int wanted = columns ? atoi(columns) : 0, width = (wanted > 0 ? wanted : terminal) - 1;
    char format[64];
    if (getenv("ARGP_HELP_FMT") || width <= 0 || width >= ARGP_WIDTH) return;
    margin = width < LEAST ? LEAST : width;
    snprintf(format, sizeof format, "rmargin=%d,opt-doc-col=%d", margin, option_column());
    setenv("ARGP_HELP_FMT", format, 1);
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

static bool of_an_option(int key) {
    return key < ARGP_KEY_HELP_PRE_DOC || key > ARGP_KEY_HELP_ARGS_DOC;
}

// In lines that argp need not break itself: where words fill its lines to the last column glibc 2.36 loses letters of the next
// option, and writes behind its buffer. The first line is `less` shorter. argp frees what is not its own.
static char *break_lines(const char *text, int width, size_t less) {
    char *lines = NULL, *longer = NULL;
    size_t n = 0;
    FILE *stream =
        asprintf(&longer, "%.*s%s", (int)less, "________", text) >= 0 ? open_memstream(&lines, &n) : NULL;
    if (!stream) return (char *)text;
    kv_fold_help(longer, width, stream);
    free(longer);
    if (fclose(stream) != 0) return (char *)text;
    memmove(lines, lines + less, n - less + 1);
    return lines;
}

// By so much an option's name that reaches into the column of words pushes the first of them to the right.
enum { PUSHED = 6 };

char *kv_help_filter(int key, const char *text, void *input) {
    (void)input;
    kv_fold_stop(); // help is what is printed from here on
    if (!text || margin == 0 || key == ARGP_KEY_HELP_ARGS_DOC) return (char *)text;
    if (of_an_option(key)) return break_lines(text, margin - option_column() - 1, PUSHED);
    if (key != ARGP_KEY_HELP_POST_DOC) return break_lines(text, margin - 2, 0);
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

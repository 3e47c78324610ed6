// argp has one margin for all of a page of help, and none for lines that must stay whole.
#include "data/system/help.h"

#include "data/system/fold.h"

#include <argp.h>
#include <stdio.h>
#include <stdlib.h>
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

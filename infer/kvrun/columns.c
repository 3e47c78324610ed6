// Two texts beside each other on a terminal.
#include "data/system/width.h"
#include "infer/kvrun/kvrun.h"

#include <stdlib.h>
#include <string.h>

static const char gap[] = " | ";

// A line of at most `width` columns.
struct line {
    const char *text;
    size_t length;
    int columns;
};

// Takes a line from *text, which moves behind it: up to a new line, or as many words as fit, or as much of
// one word. Spaces that a line is broken at are dropped.
static struct line take_line(const char **text, int width) {
    struct line line = {.text = *text}, word = line; // word: the line up to the last space
    bool broken = false;
    const char *at = *text, *behind_word = *text;
    while (*at && *at != '\n') {
        size_t length;
        const int columns = kv_text_character(at, &length);
        const bool blank = *at == ' ' && length == 1;
        if (line.columns + columns > width && (line.length > 0 || blank)) {
            broken = true;
            break;
        }
        if (blank) word = line, behind_word = at + 1;
        line.columns += columns;
        line.length += length;
        at += length;
    }
    if (!broken) {
        *text = *at == '\n' ? at + 1 : at;
        return line;
    }
    if (*at == ' ') {
        *text = at + 1;
        return line;
    }
    if (behind_word > line.text && word.length > 0) {
        *text = behind_word;
        return word;
    }
    *text = at;
    return line;
}

static void print_row(FILE *out, int width, struct line left, struct line right) {
    fwrite(left.text, 1, left.length, out);
    fprintf(out, "%*s%s", width - left.columns, "", gap);
    fwrite(right.text, 1, right.length, out);
    fputc('\n', out);
}

void kvrun_columns_print(FILE *out, int width, const char *const titles[2], const char *const texts[2]) {
    const int half = (width - (int)strlen(gap)) / 2;
    char *copies[2] = {kv_text_printable(texts[0], true), kv_text_printable(texts[1], true)};
    const char *left = titles[0], *right = titles[1];
    print_row(out, half, take_line(&left, half), take_line(&right, half));
    for (int i = 0; i < half; i++) fputc('-', out);
    fputs("-+-", out);
    for (int i = 0; i < half; i++) fputc('-', out);
    fputc('\n', out);
    left = copies[0] ? copies[0] : "(out of memory)", right = copies[1] ? copies[1] : "(out of memory)";
    while (*left || *right) {
        const struct line first = take_line(&left, half);
        print_row(out, half, first, take_line(&right, half));
    }
    free(copies[0]);
    free(copies[1]);
}

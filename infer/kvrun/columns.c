// Two texts beside each other on a terminal.
#include "infer/kvrun/kvrun.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

static const char gap[] = " | ";

// Columns that the character at text takes, and its bytes in *length. Invalid ones count as one byte.
static int character_width(const char *text, int *length) {
    utf8proc_int32_t point;
    const utf8proc_ssize_t n = utf8proc_iterate((const utf8proc_uint8_t *)text, -1, &point);
    *length = n > 0 ? (int)n : 1;
    return n > 0 ? utf8proc_charwidth(point) : 1;
}

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
        int length;
        const int columns = character_width(at, &length);
        if (line.columns + columns > width && (line.length > 0 || *at == ' ')) {
            broken = true;
            break;
        }
        if (*at == ' ') word = line, behind_word = at + 1;
        line.columns += columns;
        line.length += (size_t)length;
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

// Tabs become spaces and other control characters U+FFFD: they would take the cursor elsewhere.
static char *printable(const char *text) {
    static const char tab[] = "    ", other[] = "\xEF\xBF\xBD";
    char *copy = malloc(4 * strlen(text) + 1), *end = copy;
    if (!copy) return NULL;
    for (const unsigned char *c = (const unsigned char *)text; *c; c++) {
        const bool c1 = c[0] == 0xC2 && c[1] >= 0x80 && c[1] <= 0x9F;
        if (*c == '\t')
            end = stpcpy(end, tab);
        else if ((*c < ' ' && *c != '\n') || *c == 0x7F || c1)
            end = stpcpy(end, other);
        else
            *end++ = (char)*c;
        c += c1;
    }
    *end = '\0';
    return copy;
}

static void print_row(FILE *out, int width, struct line left, struct line right) {
    fwrite(left.text, 1, left.length, out);
    fprintf(out, "%*s%s", width - left.columns, "", gap);
    fwrite(right.text, 1, right.length, out);
    fputc('\n', out);
}

void kvrun_columns_print(FILE *out, int width, const char *const titles[2], const char *const texts[2]) {
    const int half = (width - (int)strlen(gap)) / 2;
    char *copies[2] = {printable(texts[0]), printable(texts[1])};
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

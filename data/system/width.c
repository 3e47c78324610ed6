// utf8proc knows how wide a character is; a terminal shows clusters of them, in the width of the widest.
#include "data/system/width.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

// The code point at text and its bytes; -1, and 1 byte, where there is none.
static utf8proc_int32_t decode(const char *text, size_t *length) {
    utf8proc_int32_t point;
    const utf8proc_ssize_t n = utf8proc_iterate((const utf8proc_uint8_t *)text, -1, &point);
    *length = n > 0 ? (size_t)n : 1;
    return n > 0 ? point : -1;
}

// Symbols that are text by default, and the keys of a telephone: U+FE0F behind them makes them emoji, which
// are wide.
static bool may_be_emoji(utf8proc_int32_t point) {
    return utf8proc_get_property(point)->boundclass == UTF8PROC_BOUNDCLASS_EXTENDED_PICTOGRAPHIC ||
           (point < 0x80 && strchr("0123456789#*", point));
}

int kv_text_character(const char *text, size_t *length) {
    utf8proc_int32_t point = decode(text, length), state = 0;
    if (point < 0) return 1;
    const bool emoji = may_be_emoji(point);
    int columns = utf8proc_charwidth(point);
    while (text[*length]) {
        size_t more;
        const utf8proc_int32_t next = decode(text + *length, &more);
        if (next < 0 || utf8proc_grapheme_break_stateful(point, next, &state)) break;
        columns += emoji && next == 0xFE0F ? 1 : utf8proc_charwidth(next);
        *length += more;
        point = next;
    }
    return columns < 2 ? columns : 2;
}

int kv_text_width(const char *text) {
    int columns = 0;
    for (size_t length; *text; text += length) {
        columns += kv_text_character(text, &length);
        if (columns > INT_MAX / 2) break;
    }
    return columns;
}

int kv_text_pad(const char *text, int columns) {
    const int width = kv_text_width(text);
    return width < columns ? columns - width : 0;
}

size_t kv_text_fit(const char *text, int columns) {
    size_t bytes = 0;
    for (size_t length; text[bytes]; bytes += length) {
        columns -= kv_text_character(text + bytes, &length);
        if (columns < 0) break;
    }
    return bytes;
}

// Marks that change the direction of all that follows on the line, in other columns of a table too.
static bool turns_text(utf8proc_int32_t point) {
    return (point >= 0x202A && point <= 0x202E) || (point >= 0x2066 && point <= 0x2069);
}

char *kv_text_printable(const char *text, bool lines) {
    char *copy = malloc(4 * strlen(text) + 1), *end = copy;
    if (!copy) return NULL;
    for (size_t length; *text; text += length) {
        const utf8proc_int32_t point = decode(text, &length);
        if (point == '\t')
            end = stpcpy(end, "    ");
        else if (point == '\n')
            *end++ = lines ? '\n' : ' ';
        else if (point < ' ' || (point >= 0x7F && point <= 0x9F) || turns_text(point))
            end = stpcpy(end, "\xEF\xBF\xBD");
        else
            end = mempcpy(end, text, length);
    }
    *end = '\0';
    return copy;
}

// What editors of other systems do to text is undone in one place, so that all readers agree on what a line is.
#include "data/file/plain.h"

#include "data/file/content.h"

#include <stdlib.h>
#include <string.h>

size_t kv_byte_order_mark(const char *text, size_t size) {
    return size >= 3 && memcmp(text, "\xEF\xBB\xBF", 3) == 0 ? 3 : 0;
}

// In steps: a text may have no LF for gigabytes, but a CR in every line.
size_t kv_line_length(const char *text, size_t size) {
    for (size_t at = 0; at < size;) {
        const size_t step = size - at < 1024 ? size - at : 1024;
        const char *feed = memchr(text + at, '\n', step);
        const size_t n = feed ? (size_t)(feed - text) - at : step;
        const char *returned = memchr(text + at, '\r', n);
        if (returned) return (size_t)(returned - text);
        if (feed) return (size_t)(feed - text);
        at += step;
    }
    return size;
}

bool kv_take_line(const char **at, const char *end, const char **line, size_t *length) {
    if (*at >= end) return false;
    *line = *at + kv_byte_order_mark(*at, (size_t)(end - *at));
    *length = kv_line_length(*line, (size_t)(end - *line));
    *at = *line + *length;
    if (*at < end) *at += end - *at > 1 && (*at)[0] == '\r' && (*at)[1] == '\n' ? 2 : 1;
    return true;
}

size_t kv_mend_text(char *text, size_t size) {
    const size_t mark = kv_byte_order_mark(text, size);
    if (!mark && !memchr(text, '\r', size)) return size;
    size_t n = 0;
    for (size_t i = mark; i < size; i++) {
        const bool returned = text[i] == '\r';
        text[n++] = returned ? '\n' : text[i];
        i += returned && i + 1 < size && text[i + 1] == '\n';
    }
    return n;
}

const char *kv_wide_encoding(const char *text, size_t size) {
    const unsigned char *b = (const unsigned char *)text;
    if (size < 4) return NULL;
    if (memcmp(b, "\xFF\xFE\0\0", 4) == 0 || memcmp(b, "\0\0\xFE\xFF", 4) == 0) return "UTF-32";
    if (memcmp(b, "\xFF\xFE", 2) == 0 || memcmp(b, "\xFE\xFF", 2) == 0) return "UTF-16";
    // Without a mark: ASCII and zeros in turn.
    const bool little = b[0] && b[0] < 0x80 && !b[1], big = !b[0] && b[1] && b[1] < 0x80;
    if ((little && b[2] && !b[3]) || (big && !b[2] && b[3])) return "UTF-16";
    if ((little && !b[2] && !b[3]) || (!b[0] && !b[1] && !b[2] && b[3] && b[3] < 0x80)) return "UTF-32";
    return NULL;
}

static kv_status mend(const char *path, kv_status status, char **content, size_t *size, kv_error *err) {
    if (status) return status;
    const char *wide = kv_wide_encoding(*content, *size);
    if (wide) {
        free(*content);
        *content = NULL;
        return kv_fail(err, KV_ERR_FORMAT, "%s: found " KV_WIDE_ADVICE, path, wide, wide);
    }
    *size = kv_mend_text(*content, *size);
    (*content)[*size] = '\0';
    return KV_OK;
}

kv_status kv_read_text(const char *path, size_t max_size, char **content, size_t *size, kv_error *err) {
    return mend(path, kv_read_file(path, max_size, content, size, err), content, size, err);
}

kv_status kv_read_input_text(const char *path, size_t max_size, char **content, size_t *size, kv_error *err) {
    return mend(path, kv_read_input(path, max_size, content, size, err), content, size, err);
}

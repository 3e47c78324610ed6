#include "data/text/unicode.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

// ---- UTF-8 ---------------------------------------------------------------------------------------------

static bool continues(unsigned char byte) {
    return (byte & 0xC0) == 0x80;
}

size_t kv_utf8_next(const char *text, size_t length, int32_t *point) {
    const utf8proc_ssize_t n =
        utf8proc_iterate((const utf8proc_uint8_t *)text, length < 4 ? (utf8proc_ssize_t)length : 4, point);
    if (n > 0) return (size_t)n;
    *point = -1;
    return 0;
}

size_t kv_utf8_last(const char *text, size_t length, int32_t *point) {
    for (size_t n = 1; n <= 4 && n <= length; n++) {
        if (continues((unsigned char)text[length - n])) continue;
        if (kv_utf8_next(text + length - n, n, point) == n) return n;
        break;
    }
    *point = -1;
    return 0;
}

int64_t kv_utf8_count(const char *text, size_t length) {
    int64_t n = 0;
    for (size_t i = 0; i < length; i++) n += !continues((unsigned char)text[i]);
    return n;
}

size_t kv_utf8_valid(const char *text, size_t length) {
    size_t i = 0;
    while (i < length) {
        uint64_t eight;
        if (length - i >= 8 && (memcpy(&eight, text + i, 8), (eight & 0x8080808080808080u) == 0)) {
            i += 8;
            continue;
        }
        int32_t point;
        size_t n = kv_utf8_next(text + i, length - i, &point);
        if (n == 0) break;
        i += n;
    }
    return i;
}

size_t kv_utf8_invalid(const char *text, size_t length) {
    size_t i = 0;
    int32_t point;
    while (i < length && kv_utf8_next(text + i, length - i, &point) == 0) i++;
    return i;
}

int kv_utf8_character(const char *text, size_t length) {
    if (length == 0) return 0;
    int32_t point;
    const size_t whole = kv_utf8_next(text, length, &point);
    if (whole > 0) return (int)whole;
    // Where the second byte has a smaller range (E0, ED, F0, F4) the lowest or the highest value is in it.
    for (int fill = 0x80; fill <= 0xBF; fill += 0x3F)
        for (size_t more = 1; length + more <= 4; more++) {
            char guess[4];
            memcpy(guess, text, length);
            memset(guess + length, fill, more);
            if (kv_utf8_next(guess, length + more, &point) == length + more) return 0;
        }
    return -1;
}

// ---- Classes -------------------------------------------------------------------------------------------

bool kv_is_number(int32_t point) {
    if (point < 0x80) return point >= '0' && point <= '9';
    utf8proc_category_t category = utf8proc_category(point);
    return category == UTF8PROC_CATEGORY_ND || category == UTF8PROC_CATEGORY_NL ||
           category == UTF8PROC_CATEGORY_NO;
}

bool kv_is_white_space(int32_t point) {
    if (point < 0x80) return point == ' ' || (point >= 9 && point <= 13);
    return point == 0x85 || point == 0xA0 || point == 0x1680 || (point >= 0x2000 && point <= 0x200A) ||
           point == 0x2028 || point == 0x2029 || point == 0x202F || point == 0x205F || point == 0x3000;
}

// Letters in circles and squares: symbols that are Alphabetic.
static bool is_framed_letter(int32_t point) {
    return (point >= 0x24B6 && point <= 0x24E9) || (point >= 0x1F130 && point <= 0x1F149) ||
           (point >= 0x1F150 && point <= 0x1F169) || (point >= 0x1F170 && point <= 0x1F189);
}

bool kv_is_word(int32_t point) {
    switch (utf8proc_category(point)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC: return true;
    default: return point == 0x200C || point == 0x200D || is_framed_letter(point); // Join_Control
    }
}

// ---- Normalisation form C ------------------------------------------------------------------------------

static const utf8proc_option_t nfc_options = UTF8PROC_STABLE | UTF8PROC_COMPOSE;

static int combining_class(int32_t point) {
    return utf8proc_get_property(point)->combining_class;
}

// Stable sort of a run of combining marks by their class. utf8proc's own is an insertion sort, which a long
// run would make quadratic.
static void order_marks(int32_t *points, size_t n, int32_t *scratch) {
    if (n < 2) return;
    size_t starts[257] = {0};
    for (size_t i = 0; i < n; i++) starts[combining_class(points[i]) + 1]++;
    for (int c = 1; c < 257; c++) starts[c] += starts[c - 1];
    for (size_t i = 0; i < n; i++) scratch[starts[combining_class(points[i])]++] = points[i];
    memcpy(points, scratch, n * sizeof *points);
}

// Canonical decomposition of valid UTF-8 into points[4 · length + 1]; returns how many.
static size_t decompose(const char *text, size_t length, int32_t *points) {
    size_t n = 0;
    int boundary_class = UTF8PROC_BOUNDCLASS_START;
    for (size_t i = 0; i < length;) {
        int32_t point;
        i += kv_utf8_next(text + i, length - i, &point);
        n += (size_t)utf8proc_decompose_char(point, points + n, 4, nfc_options, &boundary_class);
    }
    return n;
}

static void order_all_marks(int32_t *points, size_t n, int32_t *scratch) {
    for (size_t i = 0; i < n;) {
        size_t end = i;
        while (end < n && combining_class(points[end]) != 0) end++;
        order_marks(points + i, end - i, scratch);
        i = end + (end == i);
    }
}

static kv_status compose(const char *text, size_t length, kv_bytes *out, kv_error *err) {
    if (length > SIZE_MAX / 64) return kv_fail(err, KV_ERR_MEMORY, "out of memory for %zu bytes", length);
    // No character decomposes into more than 4.
    int32_t *points = malloc((4 * length + 1) * sizeof *points),
            *scratch = malloc((4 * length + 1) * sizeof *scratch);
    kv_status status = KV_OK;
    if (!points || !scratch) {
        status = kv_fail(err, KV_ERR_MEMORY, "out of memory for %zu bytes", length);
    } else {
        size_t n = decompose(text, length, points);
        order_all_marks(points, n, scratch);
        utf8proc_ssize_t bytes = utf8proc_reencode(points, (utf8proc_ssize_t)n, nfc_options); // in place
        if (bytes < 0)
            status = kv_fail(err, KV_ERR_FORMAT, "cannot normalise a text of %zu bytes: %s", length,
                             utf8proc_errmsg(bytes));
        else
            status = kv_bytes_add(out, (const char *)points, (size_t)bytes, err);
    }
    free(points);
    free(scratch);
    return status;
}

// Everything below U+0300 is composed as it is: the length of such a beginning, less its last character, on
// which what follows may combine.
static size_t composed_prefix(const char *text, size_t length) {
    size_t i = 0, before = 0;
    while (i < length && (unsigned char)text[i] < 0xCC)
        before = i, i += (unsigned char)text[i] < 0x80 ? 1 : 2;
    return i < length ? before : length;
}

// From text[0] on what cannot be copied: up to and without the last of two ASCII characters in a row.
static size_t uncertain_length(const char *text, size_t length) {
    for (size_t i = 1; i < length; i++)
        if (!(text[i - 1] & 0x80) && !(text[i] & 0x80)) return i;
    return length;
}

kv_status kv_nfc(const char *text, size_t length, kv_bytes *out, kv_error *err) {
    kv_status status = KV_OK;
    while (length > 0 && !status) {
        size_t valid = kv_utf8_valid(text, length), done = 0;
        while (done < valid && !status) {
            size_t copied = composed_prefix(text + done, valid - done);
            status = kv_bytes_add(out, text + done, copied, err);
            done += copied;
            size_t uncertain = uncertain_length(text + done, valid - done);
            if (!status) status = compose(text + done, uncertain, out, err);
            done += uncertain;
        }
        size_t invalid = kv_utf8_invalid(text + valid, length - valid);
        if (!status) status = kv_bytes_add(out, text + valid, invalid, err);
        text += valid + invalid;
        length -= valid + invalid;
    }
    return status;
}

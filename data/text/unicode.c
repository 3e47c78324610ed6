// utf8proc and PCRE2 know the characters; here stands what neither does: texts with invalid bytes in them,
// composition in linear time, and Python's case mappings, whose rules look at more than one character.
#define PCRE2_CODE_UNIT_WIDTH 8
#include "data/text/unicode.h"

#include <pcre2.h>
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
    utf8proc_category_t category = utf8proc_category(point);
    return point == 0x85 || category == UTF8PROC_CATEGORY_ZS || category == UTF8PROC_CATEGORY_ZL ||
           category == UTF8PROC_CATEGORY_ZP;
}

// What Python's str.isspace() is true of: the four separators of ASCII as well.
static bool is_python_space(int32_t point) {
    return kv_is_white_space(point) || (point >= 0x1C && point <= 0x1F);
}

size_t kv_strip_end(const char *text, size_t length) {
    int32_t point;
    for (size_t n; (n = kv_utf8_last(text, length, &point)) > 0 && is_python_space(point);) length -= n;
    return length;
}

size_t kv_strip(const char **text, size_t length) {
    int32_t point;
    for (size_t n; (n = kv_utf8_next(*text, length, &point)) > 0 && is_python_space(point);)
        *text += n, length -= n;
    return kv_strip_end(*text, length);
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

// ---- Case ----------------------------------------------------------------------------------------------

// Capital letters at the beginning of a word that are more than one character; utf8proc knows the others.
//                                                                    [Unicode, SpecialCasing.txt]
// clang-format off
static const struct long_title {
    int32_t point;
    const char *title;
} long_titles[] = {
    {0x00DF, "Ss"}, {0x0149, "\xCA\xBCN"}, {0x01F0, "J\xCC\x8C"}, {0x0390, "\xCE\x99\xCC\x88\xCC\x81"},
    {0x03B0, "\xCE\xA5\xCC\x88\xCC\x81"}, {0x0587, "\xD4\xB5\xD6\x82"}, {0x1E96, "H\xCC\xB1"},
    {0x1E97, "T\xCC\x88"}, {0x1E98, "W\xCC\x8A"}, {0x1E99, "Y\xCC\x8A"}, {0x1E9A, "A\xCA\xBE"},
    {0x1F50, "\xCE\xA5\xCC\x93"}, {0x1F52, "\xCE\xA5\xCC\x93\xCC\x80"},
    {0x1F54, "\xCE\xA5\xCC\x93\xCC\x81"}, {0x1F56, "\xCE\xA5\xCC\x93\xCD\x82"},
    {0x1FB2, "\xE1\xBE\xBA\xCD\x85"}, {0x1FB4, "\xCE\x86\xCD\x85"}, {0x1FB6, "\xCE\x91\xCD\x82"},
    {0x1FB7, "\xCE\x91\xCD\x82\xCD\x85"}, {0x1FC2, "\xE1\xBF\x8A\xCD\x85"}, {0x1FC4, "\xCE\x89\xCD\x85"},
    {0x1FC6, "\xCE\x97\xCD\x82"}, {0x1FC7, "\xCE\x97\xCD\x82\xCD\x85"},
    {0x1FD2, "\xCE\x99\xCC\x88\xCC\x80"}, {0x1FD3, "\xCE\x99\xCC\x88\xCC\x81"},
    {0x1FD6, "\xCE\x99\xCD\x82"}, {0x1FD7, "\xCE\x99\xCC\x88\xCD\x82"},
    {0x1FE2, "\xCE\xA5\xCC\x88\xCC\x80"}, {0x1FE3, "\xCE\xA5\xCC\x88\xCC\x81"},
    {0x1FE4, "\xCE\xA1\xCC\x93"}, {0x1FE6, "\xCE\xA5\xCD\x82"}, {0x1FE7, "\xCE\xA5\xCC\x88\xCD\x82"},
    {0x1FF2, "\xE1\xBF\xBA\xCD\x85"}, {0x1FF4, "\xCE\x8F\xCD\x85"}, {0x1FF6, "\xCE\xA9\xCD\x82"},
    {0x1FF7, "\xCE\xA9\xCD\x82\xCD\x85"}, {0xFB00, "Ff"}, {0xFB01, "Fi"}, {0xFB02, "Fl"}, {0xFB03, "Ffi"},
    {0xFB04, "Ffl"}, {0xFB05, "St"}, {0xFB06, "St"}, {0xFB13, "\xD5\x84\xD5\xB6"},
    {0xFB14, "\xD5\x84\xD5\xA5"}, {0xFB15, "\xD5\x84\xD5\xAB"}, {0xFB16, "\xD5\x8E\xD5\xB6"},
    {0xFB17, "\xD5\x84\xD5\xAD"},
};
// clang-format on

// The last letter of a word, U+03C2 in lower case: behind a cased letter and not in front of one, whatever
// marks, apostrophes and the like stand between.
//                                               [Unicode 3.13, Final_Sigma; CPython, unicodeobject.c]
static const char final_sigma[] = "(?!\\p{Case_Ignorable})\\p{Cased}\\p{Case_Ignorable}*+"
                                  "(?=\\x{3A3}(?!\\p{Case_Ignorable}*+\\p{Cased}))";

// The final sigmas of a text, one after the other.
struct sigmas {
    pcre2_code *pattern; // NULL: none, or none any more
    pcre2_match_data *match;
    size_t next;
};

static kv_status next_sigma(struct sigmas *s, const char *text, size_t length, kv_error *err) {
    const int found =
        pcre2_match(s->pattern, (PCRE2_SPTR)text, length, s->next, PCRE2_NO_UTF_CHECK, s->match, NULL);
    s->next = found > 0 ? pcre2_get_ovector_pointer(s->match)[1] : length;
    if (found > 0 || found == PCRE2_ERROR_NOMATCH) return KV_OK;
    return kv_fail(err, KV_ERR_MEMORY, "cannot find the end of words in a text of %zu bytes (PCRE2: %d)",
                   length, found);
}

static kv_status first_sigma(struct sigmas *s, const char *text, size_t length, kv_error *err) {
    *s = (struct sigmas){.next = length};
    if (!memmem(text, length, "\xCE\xA3", 2)) return KV_OK;
    int code;
    PCRE2_SIZE at;
    s->pattern = pcre2_compile((PCRE2_SPTR)final_sigma, PCRE2_ZERO_TERMINATED, PCRE2_UTF, &code, &at, NULL);
    if (s->pattern) s->match = pcre2_match_data_create_from_pattern(s->pattern, NULL);
    if (!s->match) return kv_fail(err, KV_ERR_MEMORY, "out of memory for a text of %zu bytes", length);
    s->next = 0;
    return next_sigma(s, text, length, err);
}

static void free_sigmas(struct sigmas *s) {
    pcre2_match_data_free(s->match);
    pcre2_code_free(s->pattern);
}

static kv_status add_point(kv_bytes *out, int32_t point, kv_error *err) {
    utf8proc_uint8_t bytes[4];
    return kv_bytes_add(out, (const char *)bytes, (size_t)utf8proc_encode_char(point, bytes), err);
}

static kv_status add_title(kv_bytes *out, int32_t point, kv_error *err) {
    for (size_t i = 0; i < sizeof long_titles / sizeof *long_titles; i++)
        if (long_titles[i].point == point)
            return kv_bytes_add(out, long_titles[i].title, strlen(long_titles[i].title), err);
    return add_point(out, utf8proc_totitle(point), err);
}

static kv_status add_lower(kv_bytes *out, int32_t point, bool final, kv_error *err) {
    if (point == 0x130) return kv_bytes_add(out, "i\xCC\x87", 3, err); // I with a dot: the dot stays
    if (point == 0x3A3 && final) return add_point(out, 0x3C2, err);
    return add_point(out, utf8proc_tolower(point), err);
}

// Valid UTF-8. capital: its first character gets its capital form.
static kv_status change_case(const char *text, size_t length, bool capital, kv_bytes *out, kv_error *err) {
    struct sigmas sigmas;
    kv_status status = first_sigma(&sigmas, text, length, err);
    for (size_t i = 0; i < length && status == KV_OK;) {
        int32_t point;
        const size_t n = kv_utf8_next(text + i, length - i, &point);
        const bool final = i == sigmas.next;
        status = capital && i == 0 ? add_title(out, point, err) : add_lower(out, point, final, err);
        if (final && status == KV_OK) status = next_sigma(&sigmas, text, length, err);
        i += n;
    }
    free_sigmas(&sigmas);
    return status;
}

static kv_status change_all(const char *text, size_t length, bool capital, kv_bytes *out, kv_error *err) {
    kv_status status = KV_OK;
    for (size_t done = 0; done < length && status == KV_OK;) {
        const size_t valid = kv_utf8_valid(text + done, length - done);
        status = change_case(text + done, valid, capital && done == 0, out, err);
        done += valid;
        const size_t invalid = kv_utf8_invalid(text + done, length - done);
        if (status == KV_OK) status = kv_bytes_add(out, text + done, invalid, err);
        done += invalid;
    }
    return status;
}

kv_status kv_lower(const char *text, size_t length, kv_bytes *out, kv_error *err) {
    return change_all(text, length, false, out, err);
}

kv_status kv_capitalize(const char *text, size_t length, kv_bytes *out, kv_error *err) {
    return change_all(text, length, true, out, err);
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

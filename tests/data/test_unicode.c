// UTF-8 with invalid bytes, case and white space as Python has them, and normalisation form C.
#define PCRE2_CODE_UNIT_WIDTH 8
#include "tests/support/tokenizer.h"

#include "data/text/unicode.h"

#include <pcre2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

// ---- UTF-8 ---------------------------------------------------------------------------------------------

// All code points, and nothing but them: the encoder of the tests is the inverse.
static void all_characters(void **state) {
    (void)state;
    for (int32_t point = 0; point <= 0x10FFFF; point++) {
        char text[5];
        int32_t found = -1;
        size_t n = test_put_utf8(point, text), expected = point >= 0xD800 && point < 0xE000 ? 0 : n;
        assert_int_equal(kv_utf8_next(text, n, &found), expected);
        assert_int_equal(found, expected ? point : -1);
        assert_int_equal(kv_utf8_last(text, n, &found), expected);
        assert_int_equal(found, expected ? point : -1);
        if (n > 1) assert_int_equal(kv_utf8_next(text, n - 1, &found), 0);
    }
}

static void no_characters(void **state) {
    (void)state;
    static const char *const wrong[] = {
        "\x80", "\xBF",     "\xC0\x80",         "\xC1\xBF",         "\xE0\x9F\xBF", "\xF0\x8F\xBF\xBF",
        "\xFF", "\xC3\xC3", "\xF4\x90\x80\x80", "\xF5\x80\x80\x80", "\xE2\x96",     "\xED\xA0\x80"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        int32_t point;
        char text[16] = "x";
        strcat(text, wrong[i]);
        strcat(text, "y");
        size_t n = strlen(wrong[i]);
        assert_int_equal(kv_utf8_next(wrong[i], n, &point), 0);
        assert_int_equal(kv_utf8_last(wrong[i], n, &point), 0);
        assert_int_equal(kv_utf8_valid(text, n + 2), 1);
        assert_int_equal(kv_utf8_invalid(text + 1, n + 1), n);
    }
    int32_t point;
    assert_int_equal(kv_utf8_next("", 0, &point), 0);
    assert_int_equal(kv_utf8_last("", 0, &point), 0);
    assert_int_equal(kv_utf8_valid("", 0), 0);
    assert_int_equal(kv_utf8_invalid("", 0), 0);
}

// Stretches of the two kinds take turns and cover the text.
static void stretches_cover_any_bytes(void **state) {
    (void)state;
    char text[300];
    for (uint64_t seed = 0; seed < 300; seed++) {
        size_t length = (size_t)test_below(seed, -1, sizeof text), done = 0;
        test_bytes(seed, (int64_t)length, text);
        while (done < length) {
            size_t valid = kv_utf8_valid(text + done, length - done);
            for (size_t i = 0; i < valid;) {
                int32_t point;
                size_t n = kv_utf8_next(text + done + i, valid - i, &point);
                assert_true(n > 0);
                i += n;
            }
            done += valid;
            size_t invalid = kv_utf8_invalid(text + done, length - done);
            assert_true(done == length || invalid > 0);
            done += invalid;
        }
    }
}

static void white_space(void **state) {
    (void)state;
    static const int32_t expected[] = {9,      10,     11,     12,     13,     32,     0x85,   0xA0,   0x1680,
                                       0x2000, 0x2001, 0x2002, 0x2003, 0x2004, 0x2005, 0x2006, 0x2007, 0x2008,
                                       0x2009, 0x200A, 0x2028, 0x2029, 0x202F, 0x205F, 0x3000};
    size_t n = 0;
    for (int32_t point = 0; point <= 0x10FFFF; point++) {
        bool found = n < sizeof expected / sizeof *expected && expected[n] == point;
        assert_int_equal(kv_is_white_space(point), found);
        n += found;
    }
    assert_int_equal(n, sizeof expected / sizeof *expected);
}

static pcre2_code *compile(const char *pattern) {
    int code;
    PCRE2_SIZE at;
    pcre2_code *made =
        pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED, PCRE2_UTF | PCRE2_UCP, &code, &at, NULL);
    assert_non_null(made);
    return made;
}

// Letters, marks, digits and connectors, as regular expressions have them by the Unicode standard's annex 18.
static void words(void **state) {
    (void)state;
    pcre2_code *word = compile("[\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\p{Join_Control}]"),
               *known = compile("\\P{Cn}");
    pcre2_match_data *match = pcre2_match_data_create(1, NULL);
    int64_t n = 0;
    for (int32_t point = 0; point <= 0x10FFFF; point++) {
        char text[5];
        if ((point >= 0xD800 && point < 0xE000) || utf8proc_category(point) == UTF8PROC_CATEGORY_CN) continue;
        const size_t length = test_put_utf8(point, text);
        if (pcre2_match(known, (PCRE2_SPTR)text, length, 0, 0, match, NULL) < 0)
            continue; // in a later Unicode
        const bool expected = pcre2_match(word, (PCRE2_SPTR)text, length, 0, 0, match, NULL) >= 0;
        if (kv_is_word(point) != expected) fail_msg("U+%04X", (unsigned)point);
        n += expected;
    }
    assert_true(n > 130000);
    pcre2_match_data_free(match);
    pcre2_code_free(known);
    pcre2_code_free(word);
}

// ---- As Python does --------------------------------------------------------------------------------------

// dir/known.txt: ranges of the code points that utf8proc and PCRE2 both know.
static void write_known(const char *path) {
    pcre2_code *unknown = compile("\\p{Cn}");
    pcre2_match_data *match = pcre2_match_data_create_from_pattern(unknown, NULL);
    FILE *file = fopen(path, "w");
    assert_true(match && file);
    int32_t first = -1;
    for (int32_t point = 0; point <= 0x110000; point++) {
        char text[5];
        bool known = point < 0x110000 && !(point >= 0xD800 && point < 0xE000) &&
                     utf8proc_category(point) != UTF8PROC_CATEGORY_CN;
        if (known) {
            const size_t n = test_put_utf8(point, text);
            known = pcre2_match(unknown, (PCRE2_SPTR)text, n, 0, 0, match, NULL) == PCRE2_ERROR_NOMATCH;
        }
        if (known && first < 0) first = point;
        if (!known && first >= 0) fprintf(file, "%d %d\n", first, point - 1), first = -1;
    }
    assert_int_equal(fclose(file), 0);
    pcre2_match_data_free(match);
    pcre2_code_free(unknown);
}

static size_t from_hex(const char *hex, char *bytes) {
    size_t n = 0;
    for (; hex[0] != '-' && hex[0]; hex += 2) {
        const char digits[3] = {hex[0], hex[1]};
        bytes[n++] = (char)strtol(digits, NULL, 16);
    }
    return n;
}

enum { LONGEST = 20000 };

static void expect_bytes(const char *what, const char *line, const char *found, size_t length,
                         const char *hex) {
    static char expected[LONGEST];
    const size_t n = from_hex(hex, expected);
    if (length != n || (n > 0 && memcmp(found, expected, n) != 0))
        fail_msg("%s differs from Python's, of the text %.200s", what, line);
}

static void expect_as_python(const char *line) {
    static char hex[5][LONGEST], text[LONGEST];
    assert_true(strlen(line) < LONGEST);
    const int n = sscanf(line, "%s %s %s %s %s", hex[0], hex[1], hex[2], hex[3], hex[4]);
    assert_true(n == 1 || n == 5);
    for (int i = n; i < 5; i++) strcpy(hex[i], hex[0]);
    const size_t length = from_hex(hex[0], text);
    const char *inner = text;
    kv_bytes lower = {0}, capital = {0};
    assert_int_equal(kv_lower(text, length, &lower, NULL), KV_OK);
    assert_int_equal(kv_capitalize(text, length, &capital, NULL), KV_OK);
    const size_t stripped = kv_strip(&inner, length);
    expect_bytes("lower()", line, lower.data, lower.length, hex[1]);
    expect_bytes("capitalize()", line, capital.data, capital.length, hex[2]);
    expect_bytes("strip()", line, inner, stripped, hex[3]);
    expect_bytes("rstrip()", line, text, kv_strip_end(text, length), hex[4]);
    kv_bytes_free(&lower);
    kv_bytes_free(&capital);
}

static void as_python_does(void **state) {
    (void)state;
    char command[512];
    write_known(test_path(test_dir, "known.txt"));
    snprintf(command, sizeof command, "python3 %s %s", test_fixture("data/python_text.py"),
             test_path(test_dir, "known.txt"));
    FILE *python = popen(command, "r");
    assert_non_null(python);
    char *line = NULL;
    size_t room = 0;
    int64_t n = 0;
    for (; getline(&line, &room, python) > 0; n++) expect_as_python(line);
    free(line);
    assert_int_equal(pclose(python), 0);
    assert_true(n > 150000);
}

static void case_beside_bytes_that_are_none(void **state) {
    (void)state;
    static const char *const pairs[][2] = {
        {"", ""},
        {"\xFF"
         "A",
         "\xFF"
         "a"},
        {"A\xCE\xA3\xFF"
         "B",
         "a\xCF\x82\xFF"
         "b"}, // what is no character is no letter: a final sigma
        {"A\xFF\xCE\xA3", "a\xFF\xCF\x83"},
        {"CUT \xC3", "cut \xC3"},
        {"\xE1\xBB", "\xE1\xBB"},
    };
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        kv_bytes found = {0};
        assert_int_equal(kv_lower(pairs[i][0], strlen(pairs[i][0]), &found, NULL), KV_OK);
        assert_int_equal(found.length, strlen(pairs[i][1]));
        if (found.length) assert_memory_equal(found.data, pairs[i][1], found.length);
        kv_bytes_free(&found);
    }
    kv_bytes capital = {0};
    assert_int_equal(kv_capitalize("bad \xC3 BYTES", 11, &capital, NULL), KV_OK);
    assert_int_equal(capital.length, 11);
    assert_memory_equal(capital.data, "Bad \xC3 bytes", 11);
    kv_bytes_free(&capital);
}

// A run of marks beside many sigmas is looked at twice, not once for each of them.
static void long_texts_with_sigmas(void **state) {
    (void)state;
    enum { N = 200000 };
    char *text = test_alloc(2 * N, 1);
    for (int i = 0; i < N; i++) memcpy(text + 2 * i, i % 1000 ? "\xCC\x81" : "\xCE\xA3", 2);
    kv_bytes found = {0};
    assert_int_equal(kv_lower(text, 2 * N, &found, NULL), KV_OK);
    assert_int_equal(found.length, 2 * N);
    assert_memory_equal(found.data, "\xCF\x83\xCC\x81", 4);
    assert_memory_equal(found.data + 2 * (N - 1000), "\xCF\x82\xCC\x81", 4);
    kv_bytes_free(&found);
    free(text);
}

// ---- Form C --------------------------------------------------------------------------------------------

static void expect_nfc(const char *text, size_t length, const char *expected, size_t n_expected) {
    kv_bytes found = {0};
    assert_int_equal(kv_nfc(text, length, &found, NULL), KV_OK);
    if (found.length != n_expected || (n_expected && memcmp(found.data, expected, n_expected) != 0))
        fail_msg("'%s' became '%.*s', not '%s'", text, (int)found.length, found.data ? found.data : "",
                 expected);
    kv_bytes_free(&found);
}

static void known_forms(void **state) {
    (void)state;
    static const char *const forms[][2] = {
        {"", ""},
        {"plain", "plain"},
        {"e\xCC\x81t\xC3\xA9", "\xC3\xA9t\xC3\xA9"},
        {"e\xCC\x81", "\xC3\xA9"},
        {"a\xCC\xA7\xCC\x81", "\xC3\xA1\xCC\xA7"},                // cedilla under an acute
        {"a\xCC\x81\xCC\xA7", "\xC3\xA1\xCC\xA7"},                // the other way round
        {"\xE2\x84\xAB", "\xC3\x85"},                             // angstrom sign
        {"\xE1\x84\x92\xE1\x85\xA1\xE1\x86\xAB", "\xED\x95\x9C"}, // Hangul
        {"\xE0\xA5\x98", "\xE0\xA4\x95\xE0\xA4\xBC"},             // never composed
        {"\xEF\xAC\x81", "\xEF\xAC\x81"},                         // a ligature stays
        {"\xFF"
         "e\xCC\x81\xFF",
         "\xFF"
         "\xC3\xA9\xFF"}, // invalid bytes do, too
        {"e\xFF\xCC\x81", "e\xFF\xCC\x81"},
    };
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++)
        expect_nfc(forms[i][0], strlen(forms[i][0]), forms[i][1], strlen(forms[i][1]));
}

// Against utf8proc's own way, which is slow on long runs of marks.
static void random_text_by_the_library(void **state) {
    (void)state;
    static const int32_t marks[] = {0x301, 0x316, 0x327, 0x345, 0x338, 0x3099, 0x93C, 0x1161, 0x11A8};
    static char text[4 * 400 + 1];
    for (uint64_t seed = 0; seed < 400; seed++) {
        size_t length = test_unicode(seed, 100, true, text);
        // Marks behind characters of all kinds, in runs.
        for (int64_t i = 0; i < 100; i++) {
            int64_t what = test_below(seed, 1000 + i, 12);
            if (what < 9)
                length += test_put_utf8(marks[what], text + length);
            else
                length += test_unicode(seed * 1000 + (uint64_t)i, 1, false, text + length);
        }
        utf8proc_uint8_t *expected = NULL;
        utf8proc_ssize_t n = utf8proc_map((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)length, &expected,
                                          UTF8PROC_STABLE | UTF8PROC_COMPOSE);
        assert_true(n >= 0);
        expect_nfc(text, length, (const char *)expected, (size_t)n);
        expect_nfc((const char *)expected, (size_t)n, (const char *)expected, (size_t)n);
        free(expected);
    }
}

// 200,000 marks in the wrong order: sorted in linear time, or this test does not end soon.
static void a_long_run_of_marks(void **state) {
    (void)state;
    enum { N = 200000 };
    char *text = test_alloc(4 * N + 2, 1);
    text[0] = 'x';
    for (int i = 0; i < N; i++) memcpy(text + 1 + 2 * i, i % 2 ? "\xCC\x96" : "\xCC\x81", 2); // above, below
    kv_bytes found = {0};
    assert_int_equal(kv_nfc(text, 2 * N + 1, &found, NULL), KV_OK);
    assert_int_equal(found.length, 2 * N + 1);
    for (int i = 0; i < N; i++)
        assert_memory_equal(found.data + 1 + 2 * i, i < N / 2 ? "\xCC\x96" : "\xCC\x81", 2);
    kv_bytes_free(&found);
    free(text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_characters),
        cmocka_unit_test(no_characters),
        cmocka_unit_test(stretches_cover_any_bytes),
        cmocka_unit_test(white_space),
        cmocka_unit_test(words),
        cmocka_unit_test(as_python_does),
        cmocka_unit_test(case_beside_bytes_that_are_none),
        cmocka_unit_test(long_texts_with_sigmas),
        cmocka_unit_test(known_forms),
        cmocka_unit_test(random_text_by_the_library),
        cmocka_unit_test(a_long_run_of_marks),
    };
    return cmocka_run_group_tests(tests, test_dir_set_up, test_dir_tear_down);
}

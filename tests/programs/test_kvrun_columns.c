// Two answers side by side: where lines break, and that the columns are straight whatever the characters.
#include "tests/support/support.h"

#include "infer/kvrun/kvrun.h"

#include <stdlib.h>
#include <string.h>

static char *printed(int width, const char *left, const char *right) {
    static char text[8192];
    FILE *file = tmpfile();
    assert_non_null(file);
    kvrun_columns_print(file, width, (const char *const[]){"base", "KVP"},
                        (const char *const[]){left, right});
    rewind(file);
    text[fread(text, 1, sizeof text - 1, file)] = '\0';
    fclose(file);
    return text;
}

static void breaks_between_words(void **state) {
    (void)state;
    assert_string_equal(printed(23, "The quick brown fox", "one\ntwo three four\n\nfive"),
                        "base       | KVP\n"
                        "-----------+-----------\n"
                        "The quick  | one\n"
                        "brown fox  | two three\n"
                        "           | four\n"
                        "           | \n"
                        "           | five\n");
    // Words that fill the line, and one that does not fit it.
    assert_string_equal(printed(23, "0123456789 0123456789abcdef", " x 0123456789"),
                        "base       | KVP\n"
                        "-----------+-----------\n"
                        "0123456789 |  x\n"
                        "0123456789 | 0123456789\n"
                        "abcdef     | \n");
    assert_string_equal(printed(23, "", "a          b"), "base       | KVP\n"
                                                         "-----------+-----------\n"
                                                         "           | a         \n"
                                                         "           | b\n");
}

// Chinese characters take two columns, combining marks none.
static void widths_of_characters(void **state) {
    (void)state;
    assert_string_equal(printed(23, "中文字符测试",
                                "e\xCC\x81"
                                "e\xCC\x81 caf\xC3\xA9"),
                        "base       | KVP\n"
                        "-----------+-----------\n"
                        "中文字符测 | e\xCC\x81"
                        "e\xCC\x81 caf\xC3\xA9\n"
                        "试         | \n");
    // Nine columns are used: the next one would need two.
    assert_string_equal(printed(23, "a中中中中中", "x"), "base       | KVP\n"
                                                         "-----------+-----------\n"
                                                         "a中中中中  | x\n"
                                                         "中         | \n");
}

static void nothing_moves_the_cursor(void **state) {
    (void)state;
    assert_string_equal(printed(31, "\033[2J\tx\r\x7F",
                                "\xC2\x9B"
                                "1m"),
                        "base           | KVP\n"
                        "---------------+---------------\n"
                        "\xEF\xBF\xBD[2J    x\xEF\xBF\xBD\xEF\xBF\xBD    | \xEF\xBF\xBD"
                        "1m\n");
}

// Whatever the text: all of it but white space is there, in lines that fit.
static void random_texts(void **state) {
    (void)state;
    static const char *const pieces[] = {"a", "bc", " ", "  ", "\n", "中", "e\xCC\x81", "0123456789012"};
    for (uint64_t trial = 0; trial < 300; trial++) {
        char text[400] = "", dense[400] = "", found[400] = "";
        for (int64_t i = 0; i < 25; i++) {
            const char *piece = pieces[test_below(trial, i, 8)];
            strcat(text, piece);
            if (*piece != ' ' && *piece != '\n') strcat(dense, piece);
        }
        char *out = printed(31, text, ""), *save = NULL;
        int n_line = 0;
        for (char *line = strtok_r(out, "\n", &save); line; line = strtok_r(NULL, "\n", &save), n_line++) {
            if (n_line < 2) continue;
            char *bar = strstr(line, " | ");
            assert_non_null(bar);
            int columns = 0;
            for (const char *c = line; c < bar; c++)
                columns += ((unsigned char)*c & 0xC0) != 0x80 && !(c[0] == '\xCC') ? 1 + (*c == '\xE4') : 0;
            assert_int_equal(columns, 14);
            for (const char *c = line; c < bar; c++)
                if (*c != ' ') strncat(found, c, 1);
        }
        assert_string_equal(found, dense);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(breaks_between_words),
        cmocka_unit_test(widths_of_characters),
        cmocka_unit_test(nothing_moves_the_cursor),
        cmocka_unit_test(random_texts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

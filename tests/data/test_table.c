// Tables whose columns are straight whatever the characters, and the widths and cuts of text behind them.
#include "core/status.h"
#include "core/text.h"
#include "data/system/width.h"
#include "data/table/table.h"
#include "tests/support/support.h"

#include <stdlib.h>
#include <string.h>

#define FAMILY   "\xF0\x9F\x91\xA9\xE2\x80\x8D\xF0\x9F\x91\xA9\xE2\x80\x8D\xF0\x9F\x91\xA7" // joined by U+200D
#define FLAG     "\xF0\x9F\x87\xAB\xF0\x9F\x87\xB7"
#define WAVE     "\xF0\x9F\x91\x8B\xF0\x9F\x8F\xBD" // with the tone of a skin
#define HEART    "\xE2\x9D\xA4"
#define AS_EMOJI "\xEF\xB8\x8F" // U+FE0F
#define ACUTE    "\xCC\x81"     // combining

// One character each, and the columns it takes.
static const struct {
    const char *text;
    int columns;
} characters[] = {
    {"a", 1},
    {"\xC3\xA9", 1},
    {"e" ACUTE, 1},
    {"e" ACUTE ACUTE ACUTE, 1},
    {"中", 2},
    {"Ａ", 2},
    {"ｱ", 1},
    {"한", 2},
    {"\xE1\x84\x92\xE1\x85\xA1\xE1\x86\xAB", 2}, // 한 in three parts
    {FAMILY, 2},
    {FLAG, 2},
    {WAVE, 2},
    {"\xF0\x9F\x98\x80", 2},
    {HEART, 1},
    {HEART AS_EMOJI, 2},
    {"1" AS_EMOJI "\xE2\x83\xA3", 2},
    {"a" AS_EMOJI, 1},
    {"…", 1},
    {"\xE2\x80\x8B", 0}, // U+200B
    {"\xFF", 1},
    {"\xE4\xB8", 1 + 1 /* two bytes, each by itself */},
};
enum { N_CHARACTERS = sizeof characters / sizeof *characters };

static void widths(void **state) {
    (void)state;
    assert_int_equal(kv_text_width(""), 0);
    assert_int_equal(kv_text_width("plain text"), 10);
    assert_int_equal(kv_text_width("中文 " FAMILY FLAG FLAG "e" ACUTE), 4 + 1 + 2 + 2 + 2 + 1);
    assert_int_equal(kv_text_width("a\xFF\xFE"
                                   "b\xC3"),
                     5);
    assert_int_equal(kv_text_pad("中", 5), 3);
    assert_int_equal(kv_text_pad("中文字", 5), 0);
    for (int i = 0; i < N_CHARACTERS; i++) {
        assert_int_equal(kv_text_width(characters[i].text), characters[i].columns);
        size_t length;
        if ((unsigned char)characters[i].text[0] == 0xE4) continue;
        kv_text_character(characters[i].text, &length);
        if (strcmp(characters[i].text, "\xE4\xB8") != 0) assert_int_equal(length, strlen(characters[i].text));
    }
}

// Characters one behind the other: their columns add up, and no cut goes through one.
static void cuts(void **state) {
    (void)state;
    for (uint64_t trial = 0; trial < 500; trial++) {
        char text[1000] = "";
        size_t ends[21] = {0};
        int columns[21] = {0};
        for (int i = 0; i < 20; i++) {
            int64_t which = test_below(trial, i, N_CHARACTERS);
            if (characters[which].columns == 0) which = 0; // would go with the cut before it
            // A blank between, as marks and joiners would take hold of what stands before them.
            strcat(strcat(text, characters[which].text), " ");
            ends[i + 1] = strlen(text);
            columns[i + 1] = columns[i] + characters[which].columns + 1;
        }
        assert_int_equal(kv_text_width(text), columns[20]);
        for (int i = 0; i <= 20; i++) assert_int_equal(kv_text_fit(text, columns[i]), ends[i]);
    }
    assert_int_equal(kv_text_fit("a中", 2), 1); // half of it is none
    assert_int_equal(kv_text_fit("e" ACUTE "e" ACUTE, 1), 3);
    assert_int_equal(kv_text_fit(FAMILY "x", 2), strlen(FAMILY));
    assert_int_equal(kv_text_fit("abc", 0), 0);
    assert_int_equal(kv_text_fit("abc", -1), 0);
}

// Of bytes: what is left ends with a whole character.
static void heads(void **state) {
    (void)state;
    static const char text[] = "aé中\xF0\x9F\x98\x80"
                               "b"; // ends at 1, 3, 6, 10, 11
    static const int expected[] = {0, 1, 1, 3, 3, 3, 6, 6, 6, 6, 10, 11, 11, 11};
    for (int most = 0; most < 14; most++) {
        assert_int_equal(kv_text_head(text, most), expected[most]);
        if (most <= 11) assert_int_equal(kv_text_whole(text, (size_t)most), expected[most]);
    }
    // What is no UTF-8 is cut at the byte, and left alone where nothing is cut.
    assert_int_equal(kv_text_head("\x80\x80\x80\x80\x80\x80", 5), 5);
    assert_int_equal(kv_text_head("caf\xE9", 4), 4);
    kv_error err;
    char name[1200] = "";
    for (int i = 0; i < 1190; i++) name[i] = "中"[i % 3];
    for (int i = 0; i < 3; i++) { // whichever byte of a character the room ends with
        kv_fail(&err, KV_ERR_IO, "%.*s%s", i, "abc", name);
        const size_t n = strlen(err.message);
        assert_true(n > sizeof err.message - 5);
        assert_string_equal(err.message + n - 3, "中");
        kv_fail_within(&err, KV_ERR_IO, "%.*s", 1 + i, "abc");
        assert_string_equal(err.message + strlen(err.message) - 3, "中");
    }
}

static void printable(void **state) {
    (void)state;
    static const char text[] = "a\tb\nc\r\033[2J\x7F\xC2\x9B"
                               "1\xFF"
                               "中\u202E\u2067";
    static const char *const expected[] = {"a    b c\uFFFD\uFFFD[2J\uFFFD\uFFFD"
                                           "1\uFFFD中\uFFFD\uFFFD",
                                           "a    b\nc\uFFFD\uFFFD[2J\uFFFD\uFFFD"
                                           "1\uFFFD中\uFFFD\uFFFD"};
    for (int lines = 0; lines < 2; lines++) {
        char *copy = kv_text_printable(text, lines);
        assert_string_equal(copy, expected[lines]);
        free(copy);
    }
}

static void print(const kv_table *table, int width, char text[4096]) {
    FILE *file = tmpfile();
    assert_non_null(file);
    kv_table_print_within(table, width, file);
    rewind(file);
    text[fread(text, 1, 4095, file)] = '\0';
    fclose(file);
}

static void straight_columns(void **state) {
    (void)state;
    char text[4096];
    kv_table *table = kv_table_create();
    kv_table_column(table, "", "name", true);
    kv_table_column(table, "精度", "x", false);
    kv_table_column(table, "精度", "y", false);
    static const char *const names[] = {"plain", "中文系统", ("cafe" ACUTE), FAMILY, "two\nlines", "\xFF"};
    for (int i = 0; i < 6; i++) {
        kv_table_cell(table, "%s", names[i]);
        kv_table_cell(table, "%d", i);
        kv_table_cell(table, "%s", i == 2 ? "–" : "2");
    }
    print(table, 0, text);
    assert_string_equal(text, "           精度\n"
                              "name       x  y\n"
                              "plain      0  2\n"
                              "中文系统   1  2\n"
                              "cafe" ACUTE "       2  –\n" FAMILY "         3  2\n"
                              "two lines  4  2\n"
                              "\uFFFD          5  2\n");
    kv_table_free(table);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(widths),
        cmocka_unit_test(cuts),
        cmocka_unit_test(heads),
        cmocka_unit_test(printable),
        cmocka_unit_test(straight_columns),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

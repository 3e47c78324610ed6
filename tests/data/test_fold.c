// Lines for a narrow terminal: whole words, below the place where what a line says begins, and nothing is lost.
#include "data/system/fold.h"
#include "data/system/width.h"
#include "tests/support/support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char *folded_by(void (*fold)(const char *, int, FILE *), const char *text, int width) {
    char *out = NULL;
    size_t size;
    FILE *stream = open_memstream(&out, &size);
    fold(text, width, stream);
    assert_int_equal(fclose(stream), 0);
    return out;
}

static char *folded(const char *text, int width) {
    return folded_by(kv_fold, text, width);
}

static void expect(const char *text, int width, const char *expected) {
    char *out = folded(text, width);
    assert_string_equal(out, expected);
    free(out);
}

static void test_places(void **state) {
    (void)state;
    expect("short\n", 30, "short\n");
    expect("memory       about 33.6 GB: 7.41 of trained weights\n", 30,
           "memory       about 33.6 GB:\n             7.41 of trained\n             weights\n");
    expect("             does not fit: 20 GB are allowed", 30,
           "             does not fit: 20\n             GB are allowed");
    expect("one two three four five six seven", 20, "one two three four\n  five six seven");
    expect("ä ö ü ä ö ü ä ö ü ä ö ü", 21, "ä ö ü ä ö ü ä ö ü ä ö\n  ü");
}

// A path is to be copied, JSON to be read by a program.
static void test_whole(void **state) {
    (void)state;
    expect("path         a/very/long/path/that/does/not/fit/here and more", 30,
           "path         a/very/long/path/that/does/not/fit/here\n             and more");
    expect("{\"a\": \"a line of JSON that is too long\"}\n", 20,
           "{\"a\": \"a line of JSON that is too long\"}\n");
    expect("any width at all is taken where there is no terminal", 0,
           "any width at all is taken where there is no terminal");
}

static void test_nothing_is_lost(void **state) {
    (void)state;
    static const char text[] = "key   some words and 中文 that go on, and on; with  two blanks  in between\n"
                               "    margin of four and a long line behind it, with words\n\nend";
    for (int width = 20; width < 90; width++) {
        char *out = folded(text, width), *line, *rest = out;
        const char *at = text;
        for (const char *c = out; *c; c++) {
            if (*c == ' ' || *c == '\n') continue;
            at += strspn(at, " \n");
            assert_true(*c == *at++);
        }
        assert_true(at[strspn(at, " \n")] == '\0');
        while ((line = strsep(&rest, "\n"))) assert_true(kv_text_width(line) <= width);
        free(out);
    }
}

// What is to be pasted stays as it is, what is to be read does not.
static void test_help(void **state) {
    (void)state;
    char *out = folded_by(kv_fold_help,
                          "Commands:\n"
                          "  sample     draw text from a model, to train on\n"
                          "\n"
                          "Sentences go on at the margin, as here:\n"
                          "  loss.kl: [0, 2]        # with a remark behind it\n"
                          "    - {name: ours, set: {predictor.init: random}}\n"
                          "  kvdata sample --model models/one --out text.jsonl\n",
                          30);
    assert_string_equal(out, "Commands:\n"
                             "  sample     draw text from a\n"
                             "             model, to train\n"
                             "             on\n"
                             "\n"
                             "Sentences go on at the margin,\n"
                             "as here:\n"
                             "  loss.kl: [0, 2]        # with a remark behind it\n"
                             "    - {name: ours, set: {predictor.init: random}}\n"
                             "  kvdata sample --model models/one --out text.jsonl\n");
    free(out);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_places),
        cmocka_unit_test(test_whole),
        cmocka_unit_test(test_nothing_is_lost),
        cmocka_unit_test(test_help),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

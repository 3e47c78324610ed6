// TriviaQA's two file formats, plain and gzipped, and the exact match of the evaluation harness.
#include "tests/support/corpus.h"

#include "data/benchmark/triviaqa.h"

#include <stdlib.h>
#include <string.h>
#include <zlib.h>

static void expect_both_questions(const char *path) {
    kv_error err = {0};
    kv_questions questions;
    if (kv_triviaqa_read(path, &questions, &err)) fail_msg("%s", err.message);
    assert_int_equal(questions.n, 2);
    const kv_question *first = &questions.items[0], *second = &questions.items[1];
    assert_string_equal(first->id, "made_up_1");
    assert_string_equal(first->text, "Which room of the made-up lighthouse of Orr is painted blue?");
    assert_string_equal(first->value, "Lamp Room");
    assert_int_equal(first->n_aliases, 3); // the value is one of them already
    assert_string_equal(first->aliases[0], "Lamp Room");
    assert_true(kv_exact_match(" the lamp room", first));
    assert_string_equal(second->value, "\xC3\x96rebj\xC3\xB6rn");
    assert_int_equal(second->n_aliases, 1);
    kv_questions_free(&questions);
}

static void both_formats_say_the_same(void **state) {
    (void)state;
    expect_both_questions(test_fixture("fixtures/trivia_original.json"));
    expect_both_questions(test_fixture("fixtures/trivia_lines.jsonl"));
}

static void both_formats_gzipped(void **state) {
    (void)state;
    static const char *const names[] = {"fixtures/trivia_original.json", "fixtures/trivia_lines.jsonl"};
    const char *packed = test_path(test_dir, "packed.gz");
    for (int i = 0; i < 2; i++) {
        char *text = test_read_text(test_fixture(names[i]));
        gzFile file = gzopen(packed, "wb");
        assert_true(gzwrite(file, text, (unsigned)strlen(text)) > 0);
        gzclose(file);
        free(text);
        expect_both_questions(packed);
    }
}

static void a_minified_original(void **state) {
    (void)state;
    kv_questions questions;
    const char *path = test_path(test_dir, "small.json");
    test_write_text(path, "{\"Data\":[{\"Question\":\"q?\",\"Answer\":{\"Value\":\"a\"}}]}");
    assert_int_equal(kv_triviaqa_read(path, &questions, NULL), KV_OK);
    assert_int_equal(questions.n, 1);
    assert_string_equal(questions.items[0].id, "");
    kv_questions_free(&questions);
}

static void bad_files_are_named(void **state) {
    (void)state;
    static const struct {
        const char *content, *expected;
    } cases[] = {
        {"", "bad.json:1: not valid JSON"},
        {"[]", "bad.json: expected TriviaQA questions"},
        {"{\"Data\": 3}", "bad.json: expected TriviaQA questions"},
        {"{\"Data\": []}", "bad.json: holds no questions"},
        {"{\"Data\": [{\"Question\": \"q\", \"Answer\": {}}]}",
         "bad.json: Data[0]: expected a string \"Answer\".\"Value\""},
        {"{\"question\": \"q\"}\n", "bad.json:1: expected an object \"answer\""},
        {"{\"question\": \"q\", \"answer\": {\"value\": \"a\"}}\n\n{\"question\": 4}\n",
         "bad.json:3: expected a string \"question\""},
        {"{\"question\": \"q\", \"answer\": {\"value\": \"a\"}}\n{\"question\": \"cut of",
         "bad.json:2: not valid JSON"},
        {"{\"question\": \"q\", \"answer\": {\"value\": \"a\", \"aliases\": [1]}}",
         "bad.json:1: expected the answer's aliases"},
        {"{\"question\": \"q\", \"answer\": {\"value\": \"a\", \"aliases\": \"b\"}}",
         "bad.json:1: expected the answer's aliases"},
    };
    const char *path = test_path(test_dir, "bad.json");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        kv_error err = {0};
        kv_questions questions;
        test_write_text(path, cases[i].content);
        assert_int_equal(kv_triviaqa_read(path, &questions, &err), KV_ERR_FORMAT);
        if (!strstr(err.message, cases[i].expected))
            fail_msg("'%s' does not say '%s'", err.message, cases[i].expected);
        assert_int_equal(questions.n, 0);
        assert_null(questions.items);
    }
    kv_error err = {0};
    kv_questions questions;
    assert_int_equal(kv_triviaqa_read(test_path(test_dir, "missing.json"), &questions, &err), KV_ERR_IO);
    assert_non_null(strstr(err.message, "missing.json"));
}

static void normalisation(void **state) {
    (void)state;
    static const char *const pairs[][2] = {
        {"", ""},
        {"  Botswana \n", "botswana"},
        {"The U.S. (of A)!", "the us of a"},
        {"Rock 'n' Roll -", "rock n roll"},
        {"!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~", ""},
        {"in-between  spaces", "inbetween  spaces"},
        {"\xC3\x96REBRO \xCE\x91 \xD0\x96", "\xC3\xB6rebro \xCE\xB1 \xD0\xB6"},
        {"\xE2\x82\xAC 5", "\xE2\x82\xAC 5"},
        {"cut \xC3", "cut \xC3"},
    };
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        char text[64];
        strcpy(text, pairs[i][0]);
        kv_normalize_answer(text);
        assert_string_equal(text, pairs[i][1]);
    }
}

static void exact_match(void **state) {
    (void)state;
    char *aliases[] = {"Botswana", "Republic of Botswana", "!!!"};
    kv_question question = {.value = aliases[0], .aliases = aliases, .n_aliases = 3};
    assert_true(kv_exact_match("botswana", &question));
    assert_true(kv_exact_match(" BOTSWANA.", &question));
    assert_true(kv_exact_match("republic of Botswana", &question));
    assert_false(kv_exact_match("Botswana and Namibia", &question));
    assert_false(kv_exact_match("Botswan", &question));
    assert_false(kv_exact_match("", &question));
    assert_false(kv_exact_match(" .", &question));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_formats_say_the_same),
        cmocka_unit_test(both_formats_gzipped),
        cmocka_unit_test(a_minified_original),
        cmocka_unit_test(bad_files_are_named),
        cmocka_unit_test(normalisation),
        cmocka_unit_test(exact_match),
    };
    return cmocka_run_group_tests(tests, test_dir_set_up, test_dir_tear_down);
}

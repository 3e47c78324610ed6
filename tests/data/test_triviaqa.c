// TriviaQA's two file formats, plain and gzipped, and the exact match of the evaluation harness.
#include "tests/support/corpus.h"

#include "data/benchmark/triviaqa.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

static void expect_match(const char *generation, const kv_question *question, bool expected) {
    bool match = !expected;
    assert_int_equal(kv_exact_match(generation, question, &match, NULL), KV_OK);
    assert_int_equal(match, expected);
}

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
    expect_match(" the lamp room", first, true);
    assert_true(!strncmp(first->where, path, strlen(path)) && !strncmp(second->where, path, strlen(path)));
    assert_string_equal(second->where + strlen(path), strstr(first->where, "Data[0]") ? ": Data[1]" : ":3");
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

// Each accepted answer once, in the order of their first appearance, however many there are.
static void answers_that_come_again(void **state) {
    (void)state;
    enum { N = 3000 };
    kv_questions questions;
    const char *path = test_path(test_dir, "again.jsonl");
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fprintf(file, "{\"question\": \"q\", \"answer\": {\"value\": \"7\", \"aliases\": [\"\"");
    for (int i = 0; i < 3 * N; i++) fprintf(file, ", \"%d\"", i % N);
    fprintf(file, "]}}\n");
    assert_int_equal(fclose(file), 0);
    assert_int_equal(kv_triviaqa_read(path, &questions, NULL), KV_OK);
    const kv_question *q = &questions.items[0];
    assert_int_equal(q->n_aliases, N + 1);
    assert_string_equal(q->aliases[0], "7");
    assert_string_equal(q->aliases[1], "");
    for (int i = 0; i < N; i++)
        if (i != 7) assert_int_equal(strtol(q->aliases[i + (i < 7 ? 2 : 1)], NULL, 10), i);
    kv_questions_free(&questions);
}

// As people write them: the same as an object with a value, and aliases.
static void plain_answers(void **state) {
    (void)state;
    kv_questions questions;
    kv_error err = {0};
    const char *path = test_path(test_dir, "plain.jsonl");
    test_write_text(path, "{\"question\": \"q\", \"answer\": \"a\"}\n"
                          "{\"question\": \"q\", \"answer\": [\"b\", \"c\", \"b\"]}\n"
                          "{\"question\": \"q\", \"answer\": {\"value\": \"d\", \"aliases\": [\"e\"]}}\n");
    if (kv_triviaqa_read(path, &questions, &err)) fail_msg("%s", err.message);
    static const char *const expected[][2] = {{"a", NULL}, {"b", "c"}, {"d", "e"}};
    assert_int_equal(questions.n, 3);
    for (int i = 0; i < 3; i++) {
        const kv_question *q = &questions.items[i];
        assert_string_equal(q->value, expected[i][0]);
        assert_int_equal(q->n_aliases, expected[i][1] ? 2 : 1);
        for (int64_t a = 0; a < q->n_aliases; a++) assert_string_equal(q->aliases[a], expected[i][a]);
    }
    kv_questions_free(&questions);
    path = test_path(test_dir, "plain.json");
    test_write_text(path, "{\"Data\": [{\"Question\": \"q\", \"Answer\": [\"b\", \"c\"]}]}");
    if (kv_triviaqa_read(path, &questions, &err)) fail_msg("%s", err.message);
    assert_int_equal(questions.items[0].n_aliases, 2);
    kv_questions_free(&questions);
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

// What Python's json writes and reads, and what editors add, in both formats.
static void files_of_every_writer(void **state) {
    (void)state;
#define ODD                                                                                                  \
    "\"score\": NaN, \"id\": 123456789012345678901234567890, \"n\\u0000\": [-Infinity, 1e999, \"\\udc00\"], "
    static const char *const contents[] = {
        "\xEF\xBB\xBF\r\n{" ODD
        "\"question\": \"q?\", \"question\": \"which?\", \"answer\": {\"value\": \"a\"}}\r\n"
        "\xEF\xBB\xBF{\"question\": \"two?\", \"answer\": {" ODD "\"value\": \"b\"}}",
        "{" ODD "\"question\": \"which?\", \"answer\": {\"value\": \"a\"}}\r"
        "{\"question\": \"two?\", \"answer\": {\"value\": \"b\"}}\r",
        "\xEF\xBB\xBF{\r\n" ODD "\"Data\": [{" ODD
        "\"Question\": \"which?\", \"Answer\": {\"Value\": \"a\"}},\r\n"
        "{\"Question\": \"two?\", \"Answer\": {\"Value\": \"b\"}}]}\r\n",
    };
    const char *path = test_path(test_dir, "odd.data");
    for (size_t i = 0; i < sizeof contents / sizeof *contents; i++) {
        kv_error err = {0};
        kv_questions questions;
        test_write_text(path, contents[i]);
        if (kv_triviaqa_read(path, &questions, &err)) fail_msg("%s", err.message);
        assert_int_equal(questions.n, 2);
        assert_string_equal(questions.items[0].text, "which?");
        assert_string_equal(questions.items[1].value, "b");
        kv_questions_free(&questions);
    }
}

static void bad_files_are_named(void **state) {
    (void)state;
    static const struct {
        const char *content, *expected;
    } cases[] = {
        {"", "bad.json: an empty file"},
        {"[]", "bad.json: found a JSON array, expected one object a line"},
        {"[{\"question\": \"q\", \"answer\": {\"value\": \"a\"}}]", "bad.json: found a JSON array"},
        {"{\n\"question\": \"q\",\n\"answer\": {\"value\": \"a\"}\n}",
         "bad.json: found a JSON object over several lines"},
        {"{\"Data\": 3}", "bad.json: \"Data\" is a number, expected TriviaQA questions"},
        {"{\"Data\": NaN}", "bad.json: \"Data\" is NaN, expected TriviaQA questions"},
        {"{\"Data\": []}", "bad.json: holds no questions"},
        {"{\"Data\": [{\"Question\": \"q\", \"Answer\": {}}]}",
         "bad.json: Data[0]: \"Answer\".\"Value\" is missing, expected a string"},
        {"{\"question\": \"q\", \"answer\": []}",
         "bad.json:1: \"answer\" is an empty list, expected at least one answer"},
        {"{\"question\": \"q\", \"answer\": [\"a\", 2]}",
         "bad.json:1: \"answer\"[1] is a number, expected a string"},
        {"{\"question\": \"q\"}\n",
         "bad.json:1: \"answer\" is missing, expected a string, a list of strings, or an object with \"value\""},
        {"{\"question\": \"q\", \"answer\": {\"value\": \"a\"}}\n\n{\"question\": 4}\n",
         "bad.json:3: \"question\" is a number, expected a string"},
        {"{\"question\": \"q\", \"answer\": {\"value\": \"a\"}}\n{\"question\": \"cut of",
         "bad.json:2: not valid JSON"},
        {"{\"question\": \"q\", \"answer\": {\"value\": \"a\", \"aliases\": [1]}}",
         "bad.json:1: \"answer\".\"aliases\"[0] is a number, expected a string"},
        {"{\"question\": \"q\", \"answer\": {\"value\": \"a\", \"aliases\": \"b\"}}",
         "bad.json:1: \"answer\".\"aliases\" is a string, expected a list of strings"},
        {"{\"question\": \"q\", \"answer\": NaN}",
         "bad.json:1: \"answer\" is NaN, expected a string, a list"},
        {"{\"question\": \"q\", \"answer\": {\"value\": \"\\ud800\"}}",
         "bad.json:1: \"answer\".\"value\" is text with U+D800, half a character, expected a string"},
        {"{\"question\": \"q\\u0000\", \"answer\": {\"value\": \"a\"}}",
         "bad.json:1: \"question\" is text with a NUL character, expected a string"},
        {"{\"question_id\": Infinity, \"question\": \"q\", \"answer\": {\"value\": \"a\"}}",
         "bad.json:1: \"question_id\" is Infinity, expected a string"},
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

// What string.punctuation and str.lower() leave of a text; white space stays where it is.
static void normalisation(void **state) {
    (void)state;
    static const char *const pairs[][2] = {
        {"", ""},
        {"Botswana", "botswana"},
        {" Botswana \n", " botswana \n"},
        {"The U.S. (of A)!", "the us of a"},
        {"Rock 'n' Roll -", "rock n roll "},
        {"!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~", ""},
        {"in-between  spaces", "inbetween  spaces"},
        {"\xC3\x96REBRO \xCE\x91 \xD0\x96", "\xC3\xB6rebro \xCE\xB1 \xD0\xB6"},
        {"NGUY\xE1\xBB\x84N", "nguy\xE1\xBB\x85n"},         // three bytes
        {"\xC4\xB0ZM\xC4\xB0R", "i\xCC\x87zmi\xCC\x87r"},   // I with a dot becomes two characters
        {"\xC8\xBA \xE1\xBA\x9E", "\xE2\xB1\xA5 \xC3\x9F"}, // to more and to fewer bytes
        {"\xF0\x90\x90\x80", "\xF0\x90\x90\xA8"},           // four bytes
        {"\xCE\xA3\xCE\x9F\xCE\xA6\xCE\x9F\xCE\xA3. \xCE\xA3",
         "\xCF\x83\xCE\xBF\xCF\x86\xCE\xBF\xCF\x82 \xCF\x83"},
        {"\xE2\x82\xAC 5", "\xE2\x82\xAC 5"},
        {"CUT \xC3", "cut \xC3"},
    };
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        kv_bytes found = {0};
        assert_int_equal(kv_normalize_answer(pairs[i][0], strlen(pairs[i][0]), &found, NULL), KV_OK);
        assert_string_equal(found.data, pairs[i][1]);
        assert_int_equal(found.length, strlen(pairs[i][1]));
        kv_bytes_free(&found);
    }
}

static void exact_match(void **state) {
    (void)state;
    char *aliases[] = {"Botswana", "Republic of Botswana", "!!!", "Nguy\xE1\xBB\x85n", "-\xC3\x89lan "};
    kv_question question = {.value = aliases[0], .aliases = aliases, .n_aliases = 5};
    expect_match("botswana", &question, true);
    expect_match(" BOTSWANA.", &question, true);
    expect_match("republic of Botswana", &question, true);
    expect_match("NGUY\xE1\xBB\x84N", &question, true);
    expect_match("\xE3\x80\x80NGUY\xE1\xBB\x84N\xC2\xA0", &question, true); // white space beyond ASCII
    expect_match("nguyen", &question, false);
    expect_match("Botswana and Namibia", &question, false);
    expect_match("Botswan", &question, false);
    expect_match("", &question, false);
    expect_match(" .", &question, false);
    expect_match("\xC3\xA9lan", &question, false); // the harness strips no alias
    expect_match("( botswana", &question, false);  // and nothing once punctuation is gone
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_formats_say_the_same),
        cmocka_unit_test(both_formats_gzipped),
        cmocka_unit_test(answers_that_come_again),
        cmocka_unit_test(plain_answers),
        cmocka_unit_test(a_minified_original),
        cmocka_unit_test(files_of_every_writer),
        cmocka_unit_test(bad_files_are_named),
        cmocka_unit_test(normalisation),
        cmocka_unit_test(exact_match),
    };
    return cmocka_run_group_tests(tests, test_dir_set_up, test_dir_tear_down);
}

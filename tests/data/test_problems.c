// Formats of programming problems, and text that goes on from other text.
#include "tests/support/corpus.h"

#include "data/benchmark/problems.h"
#include "data/tokenizer/tokenizer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

static void expect_problems(const char *path) {
    kv_error err = {0};
    kv_problems problems;
    if (kv_problems_read(path, kv_problem_kind_find("humaneval"), &problems, NULL, &err))
        fail_msg("%s", err.message);
    assert_int_equal(problems.n, 4);
    assert_string_equal(problems.items[0].task_id, "Made/0");
    assert_string_equal(problems.items[0].entry_point, "double");
    assert_string_equal(problems.items[0].canonical_solution, "    return 2 * x\n");
    assert_non_null(strstr(problems.items[1].test, "\xC3\xBC\xC3\xBC"));
    assert_string_equal(
        problems.items[3].prompt,
        "def is_settled(grid):\n    \"\"\" Whether every row of the grid is sorted. \"\"\"\n");
    kv_problems_free(&problems);
    assert_int_equal(problems.n, 0);
}

static void plain_and_gzipped(void **state) {
    (void)state;
    const char *plain = test_fixture("fixtures/code_problems.jsonl"),
               *packed = test_path(test_dir, "problems.jsonl.gz");
    expect_problems(plain);
    char *text = test_read_text(plain);
    gzFile file = gzopen(packed, "wb");
    assert_true(gzwrite(file, text, (unsigned)strlen(text)) > 0);
    gzclose(file);
    free(text);
    expect_problems(packed);
}

#define PROBLEM(id, entry)                                                                                   \
    "{\"task_id\": \"" id "\", \"prompt\": \"p\", \"entry_point\": \"" entry                                 \
    "\", \"canonical_solution\": \"\", \"test\": \"t\"}"

// What Python's json writes and reads, and what editors add. Of two members of one name the last counts, as in Python.
static void files_of_every_writer(void **state) {
    (void)state;
    kv_problems problems;
    kv_error err = {0};
    const char *path = test_path(test_dir, "odd.jsonl");
    test_write_text(
        path,
        "\xEF\xBB\xBF{\"pass_rate\": NaN, \"seed\": 123456789012345678901234567890, \"\\ud800\": \"\\ud800\", "
        "\"task_id\": \"a\", \"task_id\": \"b\", \"prompt\": \"p\\r\\n\", \"entry_point\": \"f\", "
        "\"canonical_solution\": \"\", \"test\": \"t\"}\r\n\r\n" PROBLEM("c", "f") "\r" PROBLEM("d", "f"));
    if (kv_problems_read(path, kv_problem_kind_find("humaneval"), &problems, NULL, &err))
        fail_msg("%s", err.message);
    assert_int_equal(problems.n, 3);
    assert_string_equal(problems.items[0].task_id, "b");
    assert_string_equal(problems.items[0].prompt, "p\r\n"); // an escape is the text's own
    assert_string_equal(problems.items[2].task_id, "d");
    kv_problems_free(&problems);
}

static void bad_files_are_named(void **state) {
    (void)state;
    static const struct {
        const char *content, *expected;
    } cases[] = {
        {"", "bad.jsonl: an empty file"},
        {"\n \n", "bad.jsonl: holds no problems"},
        {"[]", "bad.jsonl:1: found a JSON array, expected one object a line"},
        {PROBLEM("a", "f") "\n[]", "bad.jsonl:2: found a list, expected an object"},
        {"3", "bad.jsonl: nothing but the text \"3\""},
        {PROBLEM("a", "f") "\n\n{\"task_id\": \"b", "bad.jsonl:3: not valid JSON"},
        {PROBLEM("a", "f") "\n{}", "bad.jsonl:2: \"task_id\" is missing, expected a string"},
        {"{\"task_id\": \"a\"}", "bad.jsonl:1: \"prompt\" is missing"},
        {"{\"task_id\": \"a\", \"prompt\": \"p\"}", "bad.jsonl:1: \"entry_point\" is missing"},
        {"{\"task_id\": \"a\", \"prompt\": \"p\", \"entry_point\": 3}",
         "bad.jsonl:1: \"entry_point\" is a number, expected a string"},
        {"{\"task_id\": \"a\", \"prompt\": \"p\", \"entry_point\": \"f\"}",
         "bad.jsonl:1: \"canonical_solution\" is missing"},
        {"{\"task_id\": \"a\", \"prompt\": \"p\", \"entry_point\": \"f\", \"canonical_solution\": \"\"}",
         "bad.jsonl:1: \"test\" is missing"},
        {"{\"task_id\": \"a\", \"prompt\": null, \"entry_point\": \"f\"}",
         "bad.jsonl:1: \"prompt\" is null, expected a string"},
        {"{\"task_id\": \"a\\u0000b\"}",
         "bad.jsonl:1: \"task_id\" is text with a NUL character, expected a string"},
        {"{\"task_id\": NaN}", "bad.jsonl:1: \"task_id\" is NaN, expected a string"},
        {"\xFF\xFE{", "bad.jsonl:1: not valid JSON"},
        {"{\"task_id\": \"a\xFF\"}", "bad.jsonl:1: not valid JSON"},
        {PROBLEM("", "f"), "bad.jsonl:1: \"task_id\" is empty"},
        {PROBLEM("a", "f") "\n" PROBLEM("b", "f") "\n" PROBLEM("a", "g"),
         "bad.jsonl:3: \"task_id\" 'a' is that of /tmp/"},
        {PROBLEM("a", "f) or exit("),
         "bad.jsonl:1: \"entry_point\" is 'f) or exit(', expected the name of a function"},
        {PROBLEM("a", ""), "bad.jsonl:1: \"entry_point\" is ''"},
        {PROBLEM("a", "2f"), "bad.jsonl:1: \"entry_point\" is '2f'"},
    };
    const char *path = test_path(test_dir, "bad.jsonl");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        kv_error err = {0};
        kv_problems problems;
        test_write_text(path, cases[i].content);
        assert_int_equal(kv_problems_read(path, kv_problem_kind_find("humaneval"), &problems, NULL, &err),
                         KV_ERR_FORMAT);
        if (!strstr(err.message, cases[i].expected))
            fail_msg("'%s' does not say '%s'", err.message, cases[i].expected);
        assert_int_equal(problems.n, 0);
        assert_null(problems.items);
    }
    // Whose it is already, and where every problem stands.
    kv_error err = {0};
    kv_problems problems;
    test_write_text(path, "\n" PROBLEM("a", "f") "\n\n" PROBLEM("b", "f") "\n" PROBLEM("b", "g"));
    assert_int_equal(kv_problems_read(path, kv_problem_kind_find("humaneval"), &problems, NULL, &err),
                     KV_ERR_FORMAT);
    assert_non_null(strstr(err.message, "bad.jsonl:4 already, expected another one"));
    test_write_text(path, "\n" PROBLEM("a", "f") "\n\n" PROBLEM("b", "f"));
    assert_int_equal(kv_problems_read(path, kv_problem_kind_find("humaneval"), &problems, NULL, &err), KV_OK);
    assert_non_null(strstr(problems.items[0].where, "/bad.jsonl:2"));
    assert_non_null(strstr(problems.items[1].where, "/bad.jsonl:4"));
    kv_problems_free(&problems);
    assert_int_equal(kv_problems_read(test_path(test_dir, "missing.jsonl"), kv_problem_kind_find("humaneval"),
                                      &problems, NULL, &err),
                     KV_ERR_IO);
    assert_non_null(strstr(err.message, "missing.jsonl"));
}

// Cut anywhere, the file is refused or, where the cut falls between lines, shorter.
static void truncated_files(void **state) {
    (void)state;
    char *text = test_read_text(test_fixture("fixtures/code_problems.jsonl"));
    const char *path = test_path(test_dir, "cut.jsonl");
    for (size_t length = strlen(text) - 1; length > 0; length -= length > 37 ? 37 : length) {
        kv_error err = {0};
        kv_problems problems;
        text[length] = '\0';
        test_write_text(path, text);
        if (kv_problems_read(path, kv_problem_kind_find("humaneval"), &problems, NULL, &err) != KV_OK)
            assert_non_null(strstr(err.message, "cut.jsonl"));
        else
            assert_in_range(problems.n, 1, 4);
        kv_problems_free(&problems);
    }
    free(text);
}

// ---- MBPP and evalplus's formats -----------------------------------------------------------------------

static kv_problems read_fixture(const char *name, const char *kind) {
    char path[64];
    kv_problems problems;
    const kv_problem_kind *guessed;
    kv_error err = {0};
    snprintf(path, sizeof path, "fixtures/problems/%s", name);
    if (kv_problems_read(test_fixture(path), NULL, &problems, &guessed, &err)) fail_msg("%s", err.message);
    assert_string_equal(guessed->name, kind);
    kv_problems_free(&problems);
    if (kv_problems_read(test_fixture(path), kv_problem_kind_find(kind), &problems, NULL, &err))
        fail_msg("%s", err.message);
    return problems;
}

static void mbpp(void **state) {
    (void)state;
    kv_problems problems = read_fixture("mbpp.jsonl", "mbpp");
    assert_int_equal(problems.n, 4);
    const kv_problem *p = &problems.items[1];
    assert_string_equal(p->task_id, "11");
    assert_string_equal(p->prompt,
                        "\"\"\"\nWrite a function to add up the prices of a shopping list, given by a "
                        "table.\nassert sum (['tea', 'bread']) == 5\n\"\"\"\n");
    assert_string_equal(p->entry_point, "sum"); // of two functions the one that is called
    assert_string_equal(p->test, "prices = {'tea': 3, 'bread': 2}\nassert sum (['tea', 'bread']) == 5\n"
                                 "assert sum(['tea']) == 3\n");
    assert_false(p->calls_check);
    assert_false(kv_problem_has_base(p));
    assert_string_equal(problems.items[3].entry_point, ""); // no def
    kv_problems_free(&problems);
    problems = read_fixture("mbpp_sanitized.jsonl", "mbpp");
    assert_non_null(strstr(problems.items[0].prompt, "\"\"\"\nWrite a function to find the longest side"));
    assert_int_equal(strncmp(problems.items[0].test, "import math\nassert math.isclose(", 32), 0);
    kv_problems_free(&problems);
}

static void more_tests_as_programs(void **state) {
    (void)state;
    kv_problems problems = read_fixture("mbppplus.jsonl", "mbppplus");
    assert_int_equal(problems.n, 2);
    assert_string_equal(problems.items[1].base_test, "assert last_of(['a', 'b']) == 'b'\n");
    assert_int_equal(strncmp(problems.items[1].test, "import numpy as np\n", 19), 0);
    assert_true(kv_problem_has_base(&problems.items[1]));
    kv_problems_free(&problems);
    kv_error err = {0};
    const char *humaneval = test_fixture("fixtures/code_problems.jsonl");
    if (kv_problems_read(humaneval, kv_problem_kind_find("humanevalplus"), &problems, NULL, &err))
        fail_msg("%s", err.message);
    assert_true(problems.items[0].calls_check);
    assert_false(kv_problem_has_base(&problems.items[0]));
    kv_problems_free(&problems);
}

static void more_tests_as_inputs(void **state) {
    (void)state;
    kv_problems problems = read_fixture("evalplus_humaneval.jsonl", "humanevalplus");
    const kv_problem *p = &problems.items[0];
    assert_null(p->test);
    assert_string_equal(p->base_input, " [[2], [3]]");
    assert_string_equal(p->plus_input, " [[-7], [123456789012345678901234567890], [0]]"); // all digits
    assert_true(kv_problem_has_base(p));
    assert_true(problems.items[1].atol == 1e-6);
    kv_problems_free(&problems);
    problems = read_fixture("evalplus_mbpp.jsonl", "mbppplus");
    assert_string_equal(problems.items[1].prompt,
                        "'''\nWrite a function to find the digits in a text, each once.\n'''\n");
    assert_string_equal(problems.items[0].plus_input, " [[[], []], [[\"a\", \"'\\\\\\u00fc\"], [0]]]");
    kv_problems_free(&problems);
}

#define INPUTS(id, base, plus)                                                                               \
    "{\"a\": \"base_input\", \"b\": [{\"plus_input\": [1]}], \"base_input\": [[0]], \"task_id\": \"" id      \
    "\", \"prompt\": \"p\", \"entry_point\": \"f\", \"canonical_solution\": \"\", \"plus_input\":" plus      \
    ",\"base_input\":" base ", \"atol\": 0}"

// The values themselves, whatever else of that name or with those letters is there; of two the last.
static void inputs_among_others(void **state) {
    (void)state;
    static const char *const values[] = {
        "[]", "[[]]", "[[\"]\"]]", "[[\"\\\"\"]]", "[[{\"a\": 1e400}]] ", "[[\"\\\\\"], [NaN, -0]]"};
    const char *path = test_path(test_dir, "inputs.jsonl");
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        char text[600];
        kv_problems problems;
        kv_error err = {0};
        snprintf(text, sizeof text, "\n" INPUTS("a", "[[1]]", "%s") "\n \n" INPUTS("b", "[[2] ]", "[[7]]"),
                 values[i]);
        test_write_text(path, text);
        if (kv_problems_read(path, NULL, &problems, NULL, &err)) fail_msg("%s", err.message);
        assert_string_equal(problems.items[0].plus_input, values[i]);
        assert_string_equal(problems.items[0].base_input, "[[1]]");
        assert_string_equal(problems.items[1].base_input, "[[2] ]");
        kv_problems_free(&problems);
    }
}

#define MBPP(id, rest) "{\"task_id\": " id ", \"text\": \"t\", \"code\": \"c\"" rest "}"

static void bad_fields_are_named(void **state) {
    (void)state;
    static const struct {
        const char *kind, *content, *expected;
    } cases[] = {
        {NULL, "{\"task_id\": \"a\"}", "bad.jsonl:1: neither \"test\" nor \"test_list\" nor \"base_input\""},
        {NULL, "{\"question\": \"a\"}", "bad.jsonl:1: neither \"test\""},
        {"mbpp", PROBLEM("a", "f"),
         "bad.jsonl:1: \"code\" is missing, expected a string; it looks like a problem of HumanEval"},
        {"humaneval", MBPP("1", ", \"test_list\": [\"a\"]"),
         "expected a string; it looks like a problem of MBPP"},
        {"mbpp", "{}", "bad.jsonl:1: \"task_id\" is missing, expected a string"},
        {"mbpp", "{\"task_id\": 1.5}", "bad.jsonl:1: \"task_id\" is a number, expected a string"},
        {"mbpp", "{\"task_id\": 1}", "bad.jsonl:1: \"code\" is missing, expected a string"},
        {"mbpp", MBPP("1", ""), "bad.jsonl:1: \"test_list\" is missing, expected a list of strings"},
        {"mbpp", MBPP("1", ", \"test_list\": \"t\""),
         "\"test_list\" is a string, expected a list of strings"},
        {"mbpp", MBPP("1", ", \"test_list\": []"), "\"test_list\" is an empty list, expected tests"},
        {"mbpp", MBPP("1", ", \"test_list\": [\"a\", 3]"), "\"test_list\"[1] is a number, expected a string"},
        {"mbpp", MBPP("1", ", \"test_list\": [\"a\"], \"test_imports\": \"math\""),
         "\"test_imports\" is a string, expected a list of strings"},
        {"mbpp", MBPP("1", ", \"test_list\": [\"a\"], \"test_setup_code\": null"),
         "\"test_setup_code\" is null, expected a string"},
        {"mbpp", "{\"task_id\": 1, \"code\": \"\", \"test_list\": [\"a\"]}", "\"prompt\" is missing"},
        {"mbpp", "{\"task_id\": 1, \"code\": \"\", \"test_list\": [\"a\"], \"text\": \"\"}",
         "\"text\" is empty"},
        {"mbpp", MBPP("1", ", \"test_list\": [\"a\"]") "\n" MBPP("\"1\"", ", \"test_list\": [\"a\"]"),
         "bad.jsonl:2: \"task_id\" '1' is that of"},
        {"mbppplus", MBPP("1", ", \"test_list\": [\"a\"]"), "\"test\" is missing, expected a string"},
        {"mbppplus", MBPP("1", ", \"test_list\": [\"a\"], \"test\": \"\""), "\"test\" is empty"},
        {"humanevalplus", INPUTS("a", "[]", "[]"), "\"base_input\" is an empty list, expected inputs"},
        {"humanevalplus",
         "{\"task_id\": \"a\", \"prompt\": \"p\", \"entry_point\": \"f\", \"canonical_solution\": \"\", "
         "\"base\\u005finput\": [[1]], \"plus_input\": [], \"atol\": 0}",
         "the name \"base_input\" is written with escapes"},
        {"humanevalplus", INPUTS("a", "3", "[]"), "\"base_input\" is a number, expected a list of lists"},
        {"humanevalplus", INPUTS("a", "[[1]]", "[[1], 2]"),
         "\"plus_input\"[1] is a number, expected a list of arg"},
        {"humanevalplus",
         "{\"task_id\": \"a\", \"prompt\": \"p\", \"entry_point\": \"f\", \"canonical_solution\": \"\", "
         "\"base_input\": [[1]], \"plus_input\": [], \"atol\": -1}",
         "\"atol\" is below 0, expected 0 or more"},
        {"humanevalplus",
         "{\"task_id\": \"a\", \"prompt\": \"p\", \"entry_point\": \"f\", \"canonical_solution\": \"\", "
         "\"base_input\": [[1]], \"plus_input\": []}",
         "\"atol\" is missing, expected 0 or more"},
        {"humanevalplus",
         "{\"task_id\": \"a\", \"prompt\": \"p\", \"entry_point\": \"f\", \"canonical_solution\": \"\", "
         "\"base_input\": [[1]]}",
         "\"plus_input\" is missing, expected a list of lists"},
        {"humanevalplus", INPUTS("a", "[[1]]", "[]") "\n" PROBLEM("b", "f"),
         "bad.jsonl:2: has one set of tests alone, and"},
        {"humanevalplus", PROBLEM("b", "f") "\n" INPUTS("a", "[[1]]", "[]"),
         "bad.jsonl:2: has tests of the original benchmark apart, and"},
    };
    const char *path = test_path(test_dir, "bad.jsonl");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        kv_error err = {0};
        kv_problems problems;
        const kv_problem_kind *kind = cases[i].kind ? kv_problem_kind_find(cases[i].kind) : NULL;
        test_write_text(path, cases[i].content);
        assert_int_equal(kv_problems_read(path, kind, &problems, NULL, &err), KV_ERR_FORMAT);
        if (!strstr(err.message, cases[i].expected))
            fail_msg("'%s' does not say '%s'", err.message, cases[i].expected);
        assert_null(problems.items);
    }
}

// ---- Continuations -------------------------------------------------------------------------------------

static void train_with(const char *name, const char *option) {
    char input[300], prefix[300], out[4096], err[16384];
    snprintf(input, sizeof input, "--input=%s", test_path(test_dir, "code.txt"));
    snprintf(prefix, sizeof prefix, "--model_prefix=%s", test_path(test_dir, name));
    const char *const arguments[] = {"/usr/bin/env",
                                     "spm_train",
                                     input,
                                     prefix,
                                     "--model_type=bpe",
                                     "--vocab_size=300",
                                     "--byte_fallback=true",
                                     "--normalization_rule_name=identity",
                                     "--minloglevel=2",
                                     option,
                                     "--allow_whitespace_only_pieces=true",
                                     "--remove_extra_whitespaces=false",
                                     "--hard_vocab_limit=false",
                                     NULL};
    if (test_run(arguments, -1, out, err, sizeof out) != 0) fail_msg("spm_train: %s", err);
}

static void write_code(void) {
    FILE *file = fopen(test_path(test_dir, "code.txt"), "w");
    assert_non_null(file);
    for (int i = 0; i < 200; i++)
        fprintf(file, "def f%d(x):\n    return x + %d\n        if x > y: print(x)\n", i, i);
    assert_int_equal(fclose(file), 0);
}

static void expect_continuation(const kv_tokenizer *tokenizer, const char *prompt, const char *completion) {
    char whole[256];
    kv_error err = {0};
    int32_t *ids;
    int64_t n_prompt, n;
    snprintf(whole, sizeof whole, "%s%s", prompt, completion);
    assert_int_equal(kv_tokenizer_encode(tokenizer, prompt, strlen(prompt), &ids, &n_prompt, NULL), KV_OK);
    free(ids);
    assert_int_equal(kv_tokenizer_encode(tokenizer, whole, strlen(whole), &ids, &n, NULL), KV_OK);
    // What a model would generate behind the prompt: the rest of the tokens, where the seam is one of tokens
    // too.
    char *text = NULL, *front = NULL;
    size_t length = 0, front_length = 0;
    assert_int_equal(kv_tokenizer_decode(tokenizer, ids, n_prompt, &front, &front_length, NULL), KV_OK);
    assert_string_equal(front, prompt);
    if (kv_decode_continuation(tokenizer, ids + n_prompt, n - n_prompt, &text, &length, &err))
        fail_msg("%s", err.message);
    assert_string_equal(text, completion);
    assert_int_equal(length, strlen(completion));
    free(text);
    free(front);
    free(ids);
}

static void completions_keep_their_white_space(void **state) {
    (void)state;
    static const char *const options[] = {"--add_dummy_prefix=true", "--add_dummy_prefix=false"};
    static const char *const names[] = {"dummy", "plain"};
    write_code();
    for (int i = 0; i < 2; i++) {
        char name[32];
        kv_tokenizer *tokenizer = NULL;
        kv_error err = {0};
        train_with(names[i], options[i]);
        snprintf(name, sizeof name, "%s.model", names[i]);
        if (kv_tokenizer_open(test_path(test_dir, name), &tokenizer, &err)) fail_msg("%s", err.message);
        expect_continuation(tokenizer, "def f(x):\n", " return x");
        expect_continuation(tokenizer, "def f(x):\n", "    return x\n\nx");
        expect_continuation(tokenizer, "def f(x):\n", "        ");
        expect_continuation(tokenizer, "def f(x):\n", "\n    y");
        expect_continuation(tokenizer, "def f(x):\n", "\xE2\x82\xAC");
        expect_continuation(tokenizer, "def f(x):\n", "x");
        expect_continuation(tokenizer, "def f(x):\n", "");
        kv_tokenizer_free(tokenizer);
    }
}

// The dummy prefix is real: decoded alone, the blank is lost.
static void decoding_alone_would_not_do(void **state) {
    (void)state;
    kv_tokenizer *tokenizer = NULL;
    int32_t *ids;
    int64_t n;
    char *text;
    size_t length;
    assert_int_equal(kv_tokenizer_open(test_path(test_dir, "dummy.model"), &tokenizer, NULL), KV_OK);
    assert_int_equal(kv_tokenizer_encode(tokenizer, " return", 7, &ids, &n, NULL), KV_OK);
    assert_int_equal(kv_tokenizer_decode(tokenizer, ids + 1, n - 1, &text, &length, NULL), KV_OK);
    assert_true(length < 7);
    free(text);
    assert_int_equal(kv_decode_continuation(tokenizer, (const int32_t[]){1 << 20}, 1, &text, &length, NULL),
                     KV_ERR_RANGE);
    assert_null(text);
    free(ids);
    kv_tokenizer_free(tokenizer);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_and_gzipped),
        cmocka_unit_test(files_of_every_writer),
        cmocka_unit_test(bad_files_are_named),
        cmocka_unit_test(truncated_files),
        cmocka_unit_test(mbpp),
        cmocka_unit_test(more_tests_as_programs),
        cmocka_unit_test(more_tests_as_inputs),
        cmocka_unit_test(inputs_among_others),
        cmocka_unit_test(bad_fields_are_named),
        cmocka_unit_test(completions_keep_their_white_space),
        cmocka_unit_test(decoding_alone_would_not_do),
    };
    return cmocka_run_group_tests(tests, test_dir_set_up, test_dir_tear_down);
}

// The code benchmark: stop strings, pass@k, records that do not depend on batches, and checking a file's own
// solutions.
#include "tests/support/eval.h"
#include "tests/support/numbers/rounding.h"
#include "tests/support/sandbox.h"

#include "core/text.h"
#include "data/checkpoint/checkpoint.h"
#include "data/tokenizer/stop_filter.h"
#include "eval/benchmark/check_tests.h"
#include "eval/benchmark/code.h"
#include "eval/benchmark/program.h"
#include "eval/statistics/stats.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

// Of numbers up to 1, after so many operations in double precision.
static void assert_close(double found, double expected, double operations) {
    expect_double("figure", found, expected, operations, 1);
}

static bool unsafe; // where bubblewrap cannot work, these tests do without: test_sandbox.c is about it

// ---- Parts ---------------------------------------------------------------------------------------------

static bool cut(const char *kind, char *text) {
    size_t n;
    const char *const *stops = kv_code_stops(kv_problem_kind_find(kind), false, &n);
    return kv_cut_at_stop(text, stops, n);
}

static void completions_end_at_stop_strings(void **state) {
    (void)state;
    static const struct {
        const char *kind, *raw, *text;
    } cases[] = {{"humaneval", "    return 1\n\nprint(f())", "    return 1\n"},
                 {"humaneval", "    return 1\nclass A:", "    return 1"},
                 {"humaneval", "    return 1\ndef g():\nclass", "    return 1"},
                 {"humaneval", "    return 1\n# so\ndef g()", "    return 1"},
                 {"humaneval", "    x\nif y:", "    x"},
                 {"humaneval", "    x\n    if y:\n        def z(): pass\n", NULL},
                 {"humaneval", "def g(): # not behind a newline", NULL},
                 {"humaneval", "\n    x\n", NULL},
                 {"humaneval", "\ndefine", ""},
                 {"humanevalplus", "\ndefine", ""},
                 {"humaneval", "", NULL},
                 {"mbpp", "import re\n# so\ndef f():\n    pass\ndef g():\n    pass\n", NULL},
                 {"mbpp", "def f():\n    pass\nassert f()", "def f():\n    pass"},
                 {"mbpp", "def f():\n    pass\n\"\"\"\nWrite", "def f():\n    pass"},
                 {"mbpp", "def f():\n    \"\"\"x\"\"\"\n", NULL},
                 {"mbppplus", "x\n```\n", "x"},
                 {"mbppplus", "x\n<|/", "x"},
                 {"mbppplus", "x\nprint(2)", "x"},
                 {"mbppplus", "x\nif 1:", "x"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[80];
        strcpy(text, cases[i].raw);
        assert_int_equal(cut(cases[i].kind, text), cases[i].text != NULL);
        assert_string_equal(text, cases[i].text ? cases[i].text : cases[i].raw);
    }
}

// Share of the k-subsets of n samples that hold one of the first c.
static double count_subsets(int n, int c, int k) {
    int all = 0, good = 0;
    for (int set = 0; set < 1 << n; set++) {
        if (__builtin_popcount((unsigned)set) != k) continue;
        all++;
        good += (set & ((1 << c) - 1)) != 0;
    }
    return (double)good / all;
}

static void pass_at_k(void **state) {
    (void)state;
    for (int n = 1; n <= 9; n++)
        for (int c = 0; c <= n; c++)
            for (int k = 1; k <= n; k++)
                assert_close(kv_pass_at_k(n, c, k), count_subsets(n, c, k),
                             3 * n + 2); // a factor takes three
    assert_close(kv_pass_at_k(100000, 1, 1), 1e-5, 5);
    assert_close(kv_pass_at_k(100000, 1, 50000), 0.5, 5);
    assert_close(kv_pass_at_k(200, 100, 10), 0.99922897393728227, 3 * 10 + 2);
    assert_close(kv_pass_at_k(190000, 1900, 100), 0.6340640041572698, 3 * 100 + 2);
    assert_true(kv_pass_at_k(100000, 50000, 50000) == 1);
    assert_true(kv_pass_at_k(100000, 0, 100000) == 0);
}

// ---- A benchmark on a tiny system ----------------------------------------------------------------------

static kv_tokenizer *tokenizer;
static kv_system tiny_system;

static int set_up(void **state) {
    test_dir_set_up(state);
    test_make_family(test_dir, 96);
    assert_int_equal(kv_tokenizer_open(test_path(test_dir, "tokenizer.model"), &tokenizer, NULL), KV_OK);
    assert_int_equal(kv_checkpoint_load(test_path(test_dir, "base"), &tiny_system.base, NULL), KV_OK);
    // A comment that goes on: most of what a random model writes is harmless there.
    test_write_text(
        test_path(test_dir, "problems.jsonl"),
        "{\"task_id\": \"t/0\", \"prompt\": \"def f():\\n  return 1\\n#\", \"entry_point\": \"f\", "
        "\"canonical_solution\": \" x\", \"test\": \"def check(c):\\n  assert c() == 1\\n\"}\n"
        "{\"task_id\": \"t/1\", \"prompt\": \"def g():\\n  return 1\\n#\", \"entry_point\": \"g\", "
        "\"canonical_solution\": \"\", \"test\": \"def check(c):\\n  assert c() == 2, c()\\n\"}\n"
        "{\"task_id\": \"t/2\", \"prompt\": \"def h(x):\\n  return x\\n#\", \"entry_point\": \"h\", "
        "\"canonical_solution\": \"\", \"test\": \"def check(c):\\n  assert c('\xC3\xBC') == '\xC3\xBC'\\n\"}\n");
    return 0;
}

static int tear_down(void **state) {
    kv_tokenizer_free(tokenizer);
    kv_model_free(tiny_system.base);
    return test_dir_tear_down(state);
}

// A base with one more end than the tokenizer has, as chat models do: the byte 0x01's piece.
static const kv_model_spec base = {.bos_id = 1, .eos_id = 2, .stop_ids = {3 + 1}, .n_stop_ids = 1};

static const kv_asking *speaking(void) {
    static kv_model model;
    static kv_system system;
    static kv_asking asking;
    model.spec = base, system.base = &model;
    asking = (kv_asking){.system = &system, .tokenizer = tokenizer};
    return &asking;
}

static void expect_completion(const char *generated, bool eos, const char *expected) {
    int32_t *ids;
    int64_t n;
    char *text;
    assert_int_equal(kv_tokenizer_encode(tokenizer, generated, strlen(generated), &ids, &n, NULL), KV_OK);
    ids = realloc(ids, (size_t)(n + 1) * sizeof *ids);
    assert_non_null(ids);
    if (eos) ids[n++] = kv_tokenizer_eos(tokenizer);
    assert_int_equal(kv_code_completion(kv_problem_kind_find("humaneval"), speaking(), ids, n, &text, NULL),
                     KV_OK);
    assert_string_equal(text, expected);
    free(text);
    free(ids);
}

static void completions_of_tokens(void **state) {
    (void)state;
    expect_completion("    return 1\n", false, "    return 1\n");
    expect_completion("    return 1\n", true, "    return 1\n");
    expect_completion("    return 1\nprint(1)", false, "    return 1");
    expect_completion("    return 1\n\n#", true, "    return 1\n");
    expect_completion("", true, "");
    expect_completion("", false, "");
    // The piece of a NUL: behind unknown, BOS, EOS come the 256 bytes.
    char *text;
    assert_int_equal(kv_code_completion(kv_problem_kind_find("humaneval"), speaking(),
                                        (const int32_t[]){3, 3 + 'a', 3}, 3, &text, NULL),
                     KV_OK);
    assert_string_equal(text, "?a?");
    free(text);
    assert_int_equal(kv_code_completion(kv_problem_kind_find("humaneval"), speaking(),
                                        (const int32_t[]){3 + 'a', 3 + 1}, 2, &text, NULL),
                     KV_OK);
    assert_string_equal(text, "a");
    free(text);
    assert_int_equal(kv_code_completion(kv_problem_kind_find("humaneval"), speaking(),
                                        (const int32_t[]){4000}, 1, &text, NULL),
                     KV_ERR_RANGE);
    assert_null(text);
}

static int64_t two[] = {1, 2};

static kv_eval_task row(void) {
    static char name[] = "made up", split[] = "test", kind[] = "humaneval", file[300];
    snprintf(file, sizeof file, "%s", test_path(test_dir, "problems.jsonl"));
    return (kv_eval_task){.name = name,
                          .split = split,
                          .kind = kind,
                          .file = file,
                          .max_tokens = 4,
                          .samples = 3,
                          .temperature = 1,
                          .top_p = 0.95,
                          .k = two,
                          .n_k = 2,
                          .timeout = 60,
                          .memory_mb = 128};
}

static kv_status try_make(const kv_eval_task *config, kv_benchmark **b, kv_error *err) {
    return kv_code_benchmark(config, &(kv_prompting){.tokenizer = tokenizer}, 7, b, err);
}

static kv_benchmark *make(const kv_eval_task *config) {
    kv_error err = {0};
    kv_benchmark *b = NULL;
    if (try_make(config, &b, &err) != KV_OK) fail_msg("%s", err.message);
    return b;
}

static void ask(kv_benchmark *b, int64_t first, int64_t n, json_t **records) {
    kv_error err = {0};
    kv_asking asking = {
        .system = &tiny_system, .tokenizer = tokenizer, .seed = 7, .unsafe_execution = unsafe};
    if (b->ops->answer(b, &asking, first, n, records, &err) != KV_OK) fail_msg("%s", err.message);
    kv_session_free(asking.session);
}

static void shape(void **state) {
    (void)state;
    kv_eval_task config = row();
    kv_benchmark *b = make(&config);
    assert_int_equal(b->n_items, 3);
    assert_int_equal(b->n_units, 9);
    assert_int_equal(b->n_metrics, 2);
    assert_string_equal(b->metrics[0], "pass@1");
    assert_string_equal(b->metrics[1], "pass@2");
    int32_t *ids;
    int64_t n;
    assert_int_equal(kv_tokenizer_encode(tokenizer, "def h(x):\n  return x\n#", 22, &ids, &n, NULL), KV_OK);
    free(ids);
    assert_int_equal(b->prompt_tokens[2], n + 1); // BOS
    assert_int_equal(b->longest, b->prompt_tokens[2] + 4);
    assert_int_equal(strlen(b->hash), 16);
    b->ops->free(b);
    config.limit = 2;
    config.n_k = 0;
    b = make(&config);
    assert_int_equal(b->n_units, 6);
    assert_int_equal(b->n_metrics, 1);
    assert_string_equal(b->metrics[0], "pass@1");
    b->ops->free(b);
}

static const char *text_of(const json_t *record, const char *key) {
    const char *text = json_string_value(json_object_get(record, key));
    assert_non_null(text);
    return text;
}

static void records(void **state) {
    (void)state;
    kv_eval_task config = row();
    kv_benchmark *b = make(&config);
    json_t *all[9];
    int passed = 0;
    ask(b, 0, 9, all);
    kv_problems problems;
    assert_int_equal(kv_problems_read(config.file, kv_problem_kind_find("humaneval"), &problems, NULL, NULL),
                     KV_OK);
    kv_sandbox_options options = kv_sandbox_defaults();
    options.unsafe = unsafe;
    kv_sandbox *sandbox = test_open_sandbox(&options);
    for (int i = 0; i < 9; i++) {
        assert_int_equal(json_object_size(all[i]), 5);
        assert_string_equal(text_of(all[i], "task_id"), problems.items[i / 3].task_id);
        assert_int_equal(json_integer_value(json_object_get(all[i], "sample")), i % 3);
        const bool said = json_is_true(json_object_get(all[i], "passed"));
        assert_true(said || json_is_false(json_object_get(all[i], "passed")));
        // The program of the record, tried once more.
        char *program =
            kv_problem_program(&problems.items[i / 3], text_of(all[i], "completion"), KV_TESTS_ALL);
        const kv_sandbox_result result = test_run_program(sandbox, program);
        assert_string_equal(text_of(all[i], "result"), result.text);
        assert_int_equal(said, result.verdict == KV_VERDICT_PASSED);
        assert_true(i / 3 != 1 || !said);
        passed += said;
        free(program);
    }
    assert_true(passed > 0);
    assert_true(strcmp(text_of(all[0], "completion"), text_of(all[1], "completion")) != 0);
    // The same units in other batches.
    json_t *again[9];
    ask(b, 4, 1, again + 4);
    ask(b, 5, 3, again + 5);
    for (int i = 4; i < 8; i++) {
        assert_true(json_equal(all[i], again[i]));
        json_decref(again[i]);
    }
    kv_records_free(all, 9);
    kv_sandbox_free(sandbox);
    kv_problems_free(&problems);
    b->ops->free(b);
}

static void greedy(void **state) {
    (void)state;
    kv_eval_task config = row();
    config.temperature = 0;
    config.samples = 1;
    config.n_k = 1;
    kv_benchmark *b = make(&config);
    json_t *all[3], *again[3];
    ask(b, 0, 3, all);
    ask(b, 0, 3, again);
    for (int i = 0; i < 3; i++) assert_true(json_equal(all[i], again[i]));
    kv_records_free(all, 3);
    kv_records_free(again, 3);
    b->ops->free(b);
}

static void failures_leave_no_records(void **state) {
    (void)state;
    if (unsafe) skip();
    kv_eval_task config = row();
    kv_benchmark *b = make(&config);
    kv_error err = {0};
    json_t *all[9];
    kv_asking asking = {.system = &tiny_system, .tokenizer = tokenizer, .seed = 7};
    char *path = strdup(getenv("PATH"));
    setenv("PATH", test_dir, 1);
    assert_int_equal(b->ops->answer(b, &asking, 0, 9, all, &err), KV_ERR_IO);
    setenv("PATH", path, 1);
    free(path);
    assert_non_null(strstr(err.message, "install the package bubblewrap"));
    for (int i = 0; i < 9; i++) assert_null(all[i]);
    assert_null(asking.session); // refused before anything was generated
    b->ops->free(b);
}

// ---- Scores --------------------------------------------------------------------------------------------

static json_t *record(const char *task_id, bool passed) {
    return json_pack("{s:s, s:s, s:b, s:s}", "task_id", task_id, "completion", "", "passed", passed, "result",
                     "");
}

static void scores(void **state) {
    (void)state;
    kv_eval_task config = row();
    kv_benchmark *b = make(&config);
    json_t *all[9];
    double values[6];
    kv_error err = {0};
    // 1, 0 and 3 of 3 pass.
    static const char *const ids[] = {"t/0", "t/1", "t/2"};
    for (int i = 0; i < 9; i++) all[i] = record(ids[i / 3], i == 1 || i >= 6);
    assert_int_equal(b->ops->score(b, all, values, &err), KV_OK);
    const double expected[] = {1.0 / 3, 0, 1, 2.0 / 3, 0, 1};
    for (int i = 0; i < 6; i++) assert_close(values[i], expected[i], 5);
    json_object_set_new(all[5], "passed", json_string("yes"));
    assert_int_equal(b->ops->score(b, all, values, &err), KV_ERR_FORMAT);
    assert_non_null(strstr(err.message, "record 6"));
    json_object_del(all[5], "passed");
    assert_int_equal(b->ops->score(b, all, values, &err), KV_ERR_FORMAT);
    json_object_set_new(all[2], "task_id", json_string("t/1"));
    assert_int_equal(b->ops->score(b, all, values, &err), KV_ERR_FORMAT);
    assert_non_null(strstr(err.message, "record 3"));
    assert_non_null(strstr(err.message, "t/0"));
    kv_records_free(all, 9);
    b->ops->free(b);
}

static void hash(void **state) {
    (void)state;
    enum { N = 9 };
    char hashes[N][17];
    for (int i = 0; i < N; i++) {
        kv_eval_task config = row();
        int64_t one[] = {1};
        if (i == 1) config.samples = 2;
        if (i == 2) config.temperature = 0.5;
        if (i == 3) config.top_p = 1;
        if (i == 4) config.max_tokens = 5;
        if (i == 5) config.limit = 2;
        if (i == 6) config.timeout = 61;
        if (i == 7) config.memory_mb = 256;
        if (i == 8) config.k = one, config.n_k = 1;
        kv_benchmark *b = make(&config);
        memcpy(hashes[i], b->hash, 17);
        b->ops->free(b);
        for (int j = 0; j < i; j++) assert_int_equal(strcmp(hashes[i], hashes[j]) == 0, i == 8 && j == 0);
    }
}

static void wrong_configs_name_the_key(void **state) {
    (void)state;
    static int64_t three[] = {1, 3}, four[] = {4, 1}, none[] = {0}, twice[] = {2, 2};
    static const char *const expected[] = {"key `shots`",
                                           "key `samples`",
                                           "key `temperature`",
                                           "key `temperature`",
                                           "key `top_p`",
                                           "key `max_tokens`",
                                           "key `timeout`",
                                           "key `memory_mb`",
                                           "key `workers`",
                                           "key `k`: found 4, expected 1 to 3",
                                           "key `k`: found 0",
                                           "key `k`: found 2, expected every number once",
                                           "key `samples`: found 3, expected 1: with temperature 0",
                                           NULL};
    for (int i = 0; i < 14; i++) {
        kv_eval_task config = row();
        kv_benchmark *b = NULL;
        kv_error err = {0};
        if (i == 0) config.shots = 1;
        if (i == 1) config.samples = 0;
        if (i == 2) config.temperature = -1;
        if (i == 3) config.temperature = 0.0 / 0.0;
        if (i == 4) config.top_p = 0;
        if (i == 5) config.max_tokens = 0;
        if (i == 6) config.timeout = -1;
        if (i == 7) config.memory_mb = 1;
        if (i == 8) config.workers = 1000;
        if (i == 9) config.k = four;
        if (i == 10) config.k = none, config.n_k = 1;
        if (i == 11) config.k = twice;
        if (i == 12) config.temperature = 0;
        if (i == 13) config.k = three;
        const kv_status status = try_make(&config, &b, &err);
        if (!expected[i]) {
            assert_int_equal(status, KV_OK);
            b->ops->free(b);
            continue;
        }
        assert_int_equal(status, KV_ERR_RANGE);
        assert_null(b);
        if (!strstr(err.message, expected[i]) || !strstr(err.message, "task `made up`"))
            fail_msg("'%s' does not say '%s'", err.message, expected[i]);
    }
}

// ---- Tests of the original benchmark apart -------------------------------------------------------------

static kv_eval_task plus_row(void) {
    static char name[] = "plus", kind[] = "mbppplus", file[300];
    snprintf(file, sizeof file, "%s", test_fixture("fixtures/problems/mbppplus.jsonl"));
    kv_eval_task config = row();
    config.name = name, config.kind = kind, config.file = file;
    return config;
}

static void two_scores(void **state) {
    (void)state;
    kv_eval_task config = plus_row();
    kv_benchmark *b = make(&config);
    static const char *const names[] = {"pass@1", "pass@2", "base_pass@1", "base_pass@2"};
    assert_int_equal(b->n_metrics, 4);
    for (int m = 0; m < 4; m++) assert_string_equal(b->metrics[m], names[m]);
    json_t *all[6];
    double values[8];
    kv_error err = {0};
    ask(b, 0, 6, all);
    for (int i = 0; i < 6; i++) { // what a random model writes
        assert_true(json_is_false(json_object_get(all[i], "passed")));
        assert_true(json_is_false(json_object_get(all[i], "base_passed")));
        assert_int_equal(json_object_size(all[i]), 6);
    }
    // Of 3: 1 passes all and 2 the base tests; 0 and 3.
    for (int i = 0; i < 6; i++) {
        json_object_set_new(all[i], "passed", json_boolean(i == 0));
        json_object_set_new(all[i], "base_passed", json_boolean(i != 2));
    }
    assert_int_equal(b->ops->score(b, all, values, &err), KV_OK);
    const double expected[] = {1.0 / 3, 0, 2.0 / 3, 0, 2.0 / 3, 1, 1, 1};
    for (int i = 0; i < 8; i++) assert_close(values[i], expected[i], 5);
    json_object_del(all[4], "base_passed");
    assert_int_equal(b->ops->score(b, all, values, &err), KV_ERR_FORMAT);
    assert_non_null(strstr(err.message, "record 5"));
    assert_non_null(strstr(err.message, "\"base_passed\""));
    kv_records_free(all, 6);
    b->ops->free(b);
    static int64_t five[] = {1, 2, 3, 4, 5};
    config.samples = 5, config.k = five, config.n_k = 5;
    assert_int_equal(try_make(&config, &b, &err), KV_ERR_RANGE);
    assert_non_null(
        strstr(err.message, "key `k`: found 5, expected at most 4 of them: each is given for all"));
}

// ---- MBPP's splits -------------------------------------------------------------------------------------

static void splits(void **state) {
    (void)state;
    static const struct {
        const char *split, *first;
        int64_t n;
    } cases[] = {{"test", ":2", 2},
                 {"prompt", ":1", 1},
                 {"train", ":4", 1},
                 {"all", ":1", 4},
                 {"validation", NULL, 0}};
    kv_eval_task config = plus_row();
    static char kind[] = "mbpp", file[300], split[20];
    snprintf(file, sizeof file, "%s", test_fixture("fixtures/problems/mbpp.jsonl"));
    config.kind = kind, config.file = file, config.split = split;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        kv_benchmark *b = NULL;
        kv_error err = {0};
        strcpy(split, cases[i].split);
        const kv_status status = try_make(&config, &b, &err);
        if (cases[i].n == 0) {
            assert_int_equal(status, KV_ERR_RANGE);
            assert_non_null(strstr(
                err.message, "mbpp.jsonl:1 and below: no \"task_id\" is of split `validation`, 511 to 600"));
            continue;
        }
        if (status != KV_OK) fail_msg("%s", err.message);
        assert_int_equal(b->n_items, cases[i].n);
        assert_true(kv_ends_with(b->items[0].where, cases[i].first));
        b->ops->free(b);
    }
}

// ---- Checking a file's own solutions -------------------------------------------------------------------

static void expect_report(const char *path, const char *expected, const char *format, int64_t n_failed) {
    kv_sandbox_options options = kv_sandbox_defaults();
    options.unsafe = unsafe;
    kv_error err = {0};
    char *text = NULL;
    size_t size = 0;
    int64_t n = 0, failed = 0;
    FILE *out = open_memstream(&text, &size);
    assert_non_null(out);
    if (kv_check_tests(path, &options, out, &n, &failed, &err) != KV_OK) fail_msg("%s", err.message);
    assert_int_equal(fclose(out), 0);
    if (strncmp(text, expected, strlen(expected)) != 0 || !strstr(text, format))
        fail_msg("'%s', expected '%s'", text, expected);
    assert_int_equal(failed, n_failed);
    free(text);
}

static void own_solutions(void **state) {
    (void)state;
    expect_report(test_fixture("fixtures/code_problems.jsonl"), "4 of 4 canonical solutions pass (",
                  "; read as HumanEval)", 0);
    expect_report(test_fixture("fixtures/problems/mbpp.jsonl"), "4 of 4 canon", "; read as MBPP)", 0);
    expect_report(test_fixture("fixtures/problems/mbpp_sanitized.jsonl"), "1 of 1 canon", "; read as MBPP)",
                  0);
    expect_report(test_fixture("fixtures/problems/mbppplus.jsonl"), "2 of 2 canon", "; read as MBPP+)", 0);
    expect_report(test_fixture("fixtures/problems/evalplus_mbpp.jsonl"), "2 of 2 canon", "; read as MBPP+)",
                  0);
    expect_report(test_fixture("fixtures/problems/evalplus_humaneval.jsonl"), "2 of 2 canon",
                  "; read as HumanEval+)", 0);
    expect_report(test_path(test_dir, "problems.jsonl"),
                  "t/1: failed: AssertionError: 1\n2 of 3 canonical solutions pass (", "HumanEval", 1);
    kv_sandbox_options options = kv_sandbox_defaults();
    kv_error err = {0};
    int64_t n, failed;
    assert_int_equal(kv_check_tests(test_path(test_dir, "none"), &options, stdout, &n, &failed, &err),
                     KV_ERR_IO);
}

int main(void) {
    unsafe = !test_bwrap_works();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(completions_end_at_stop_strings),
        cmocka_unit_test(pass_at_k),
        cmocka_unit_test(completions_of_tokens),
        cmocka_unit_test(shape),
        cmocka_unit_test(records),
        cmocka_unit_test(greedy),
        cmocka_unit_test(failures_leave_no_records),
        cmocka_unit_test(scores),
        cmocka_unit_test(hash),
        cmocka_unit_test(wrong_configs_name_the_key),
        cmocka_unit_test(two_scores),
        cmocka_unit_test(splits),
        cmocka_unit_test(own_solutions),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}

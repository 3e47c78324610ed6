// Kind recall on a file written by hand, with a stand-in for the model: what is asked, what counts as right, where items lie on
// the grid, and what is wrong with a file that cannot be asked.
#include "tests/support/eval.h"

#include "data/checkpoint/checkpoint.h"
#include "eval/benchmark/benchmark.h"
#include "eval/benchmark/recall.h"
#include "infer/generate.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { N = 7, MAX_TOKENS = 12, EOS = 2 };

// ---- The stand-in --------------------------------------------------------------------------------------

static int32_t *said[N];
static int64_t n_said[N];

kv_status __wrap_kv_generate_in_turn(kv_session *session, const kv_prompts *prompts, const kv_generation *how,
                                     kv_answers *answers, kv_error *err);
kv_status __wrap_kv_generate_in_turn(kv_session *session, const kv_prompts *prompts, const kv_generation *how,
                                     kv_answers *answers, kv_error *err) {
    (void)session;
    for (int64_t at = 0; at < prompts->n; at++) {
        const int64_t s = prompts->order[at];
        bool stop = false;
        for (int64_t i = 0; i < how->max_tokens && !stop; i++) {
            int32_t *row = answers->generated + s * how->max_tokens;
            row[i] = i < n_said[s] ? said[s][i] : EOS;
            answers->n_generated[s] = i + 1;
            kv_status status = how->stop(how->context, s, row, i + 1, &stop, err);
            if (status) return status;
        }
    }
    return KV_OK;
}

// ---- A small world -------------------------------------------------------------------------------------

static kv_system system_alone;
static kv_tokenizer *tokenizer;
static char file[300];
static char name[] = "recall", split[] = "test", kind[] = "recall";

static int set_up(void **state) {
    test_dir_set_up(state);
    test_make_family(test_dir, 200);
    assert_int_equal(kv_tokenizer_open(test_path(test_dir, "tokenizer.model"), &tokenizer, NULL), KV_OK);
    assert_int_equal(kv_checkpoint_load(test_path(test_dir, "base"), &system_alone.base, NULL), KV_OK);
    snprintf(file, sizeof file, "%s", test_path(test_dir, "recall.jsonl"));
    return 0;
}

static int tear_down(void **state) {
    kv_tokenizer_free(tokenizer);
    kv_model_free(system_alone.base);
    return test_dir_tear_down(state);
}

static kv_eval_task task(void) {
    return (kv_eval_task){
        .name = name, .split = split, .kind = kind, .file = file, .max_tokens = MAX_TOKENS, .samples = 1};
}

static kv_status create(const kv_eval_task *config, kv_benchmark **benchmark, kv_error *err) {
    return kv_benchmark_create(config, &(kv_prompting){.tokenizer = tokenizer}, 1, benchmark, err);
}

static const char good[] =
    "{\"prompt\": \"ox is red. ant is blue.\\nWhat is ox? ox is\", \"answer\": \"red\", \"length\": 16, \"depth\": 0}\n"
    "{\"prompt\": \"ox is red. ant is blue.\\nWhat is ant? ant is\", \"answer\": \"blue\", \"length\": 16, \"depth\": 1}\n"
    "{\"prompt\": \"a is b. c is d. e is f.\\nWhat is c? c is\", \"answer\": \"d\", \"length\": 24, \"depth\": 0.5}\n"
    "{\"prompt\": \"x is y.\\nWhat is x? x is\", \"answer\": \"y\", \"length\": 24, \"depth\": 0.25, \"key\": \"x\"}\n"
    "\n"
    "{\"prompt\": \"x is y z.\\nWhat is x? x is\", \"answer\": \"y z\", \"length\": 24, \"depth\": 1}\n"
    "{\"prompt\": \"x is y.\\nWhat is x? x is\", \"answer\": \"y\", \"length\": 24, \"depth\": 1}\n"
    "{\"prompt\": \"x is y.\\nWhat is x? x is\", \"answer\": \"y\", \"length\": 24, \"depth\": 1}\n";

// ---- Tests ---------------------------------------------------------------------------------------------

static void items_lie_on_the_grid(void **state) {
    (void)state;
    static const int64_t lengths[N] = {16, 16, 24, 24, 24, 24, 24};
    static const double depths[N] = {0, 1, 0.5, 0.25, 1, 1, 1};
    static const int lines[N] = {1, 2, 3, 4, 6, 7, 8};
    kv_eval_task config = task();
    kv_benchmark *b;
    kv_error err = {0};
    test_write_text(file, good);
    if (create(&config, &b, &err)) fail_msg("%s", err.message);
    assert_int_equal(b->n_items, N);
    assert_int_equal(b->n_units, N);
    assert_int_equal(b->answer_tokens, MAX_TOKENS);
    assert_string_equal(b->metrics[0], "exact_match");
    for (int i = 0; i < N; i++) {
        char where[320];
        snprintf(where, sizeof where, "%s:%d", file, lines[i]);
        assert_int_equal(b->items[i].length, lengths[i]);
        assert_true(b->items[i].depth == depths[i]);
        assert_string_equal(b->items[i].where, where);
    }
    // What is asked is the prompt alone.
    static const char first[] = "ox is red. ant is blue.\nWhat is ox? ox is";
    int32_t *ids;
    int64_t n;
    assert_int_equal(kv_tokenizer_encode(tokenizer, first, strlen(first), &ids, &n, NULL), KV_OK);
    assert_int_equal(b->prompt_tokens[0], n + 1);
    assert_memory_equal(b->items[0].ids + 1, ids, (size_t)n * sizeof *ids);
    free(ids);
    kv_benchmark_free(b);
    config.limit = 2;
    assert_int_equal(create(&config, &b, &err), KV_OK);
    assert_int_equal(b->n_items, 2);
    kv_benchmark_free(b);
}

// A part of the file, another length or another answer is another task.
static void another_file_is_another_task(void **state) {
    (void)state;
    const char *const changes[][2] = {{"\"length\": 16", "\"length\": 17"},
                                      {"\"depth\": 0}", "\"depth\": 0.1}"},
                                      {"\"answer\": \"red\"", "\"answer\": \"rad\""},
                                      {"ox is red.", "ox is rad."}};
    char hash[17], *text = NULL;
    kv_eval_task config = task();
    kv_benchmark *b;
    test_write_text(file, good);
    assert_int_equal(create(&config, &b, NULL), KV_OK);
    strcpy(hash, b->hash);
    kv_benchmark_free(b);
    for (int i = 0; i < 4; i++) {
        const char *at = strstr(good, changes[i][0]);
        assert_int_not_equal(
            asprintf(&text, "%.*s%s%s", (int)(at - good), good, changes[i][1], at + strlen(changes[i][0])),
            -1);
        test_write_text(file, text);
        free(text);
        assert_int_equal(create(&config, &b, NULL), KV_OK);
        assert_string_not_equal(hash, b->hash);
        kv_benchmark_free(b);
    }
}

static void answers_are_cut_stripped_and_the_same(void **state) {
    (void)state;
    static const char *const texts[N] = {" red.", " blu", "d\nWhat is", " Y.", "  y z , and", "", "y. x is"};
    static const char *const written[N] = {"red", "blu", "d", "Y", "y z", "", "y"};
    static const double wanted[N] = {1, 0, 1, 0, 1, 0, 1};
    kv_eval_task config = task();
    kv_benchmark *b;
    kv_error err = {0};
    json_t *records[N];
    double values[N];
    test_write_text(file, good);
    if (create(&config, &b, &err)) fail_msg("%s", err.message);
    for (int s = 0; s < N; s++)
        assert_int_equal(
            kv_tokenizer_encode(tokenizer, texts[s], strlen(texts[s]), &said[s], &n_said[s], NULL), KV_OK);
    kv_asking asking = {.system = &system_alone, .tokenizer = tokenizer, .seed = 7};
    if (b->ops->answer(b, &asking, 0, N, records, &err)) fail_msg("%s", err.message);
    if (b->ops->score(b, records, values, &err)) fail_msg("%s", err.message);
    for (int s = 0; s < N; s++) {
        assert_string_equal(json_string_value(json_object_get(records[s], "generation")), written[s]);
        assert_string_equal(json_string_value(json_object_get(records[s], "verdict")),
                            wanted[s] > 0 ? "correct" : "wrong");
        assert_null(json_object_get(records[s], "prompt"));
        assert_true(values[s] == wanted[s]);
        free(said[s]);
    }
    json_object_del(records[3], "verdict");
    assert_int_equal(b->ops->score(b, records, values, &err), KV_ERR_FORMAT);
    assert_non_null(strstr(err.message, "recall.jsonl:4: the record of this question has no `verdict`"));
    kv_records_free(records, N);
    kv_session_free(asking.session);
    kv_benchmark_free(b);
}

static void a_bad_line_names_its_field(void **state) {
    (void)state;
#define LINE(prompt, answer, length, depth)                                                                  \
    "{\"prompt\": " prompt ", \"answer\": " answer ", \"length\": " length ", \"depth\": " depth "}\n"
#define GOOD LINE("\"x is\"", "\"y\"", "8", "0")
    static const struct {
        const char *text, *says;
    } cases[] = {
        {"", "empty"},
        {GOOD "[7]\n", "recall.jsonl:2: found a list, expected an object with a prompt and its answer"},
        {GOOD "{\"answer\": \"y\"}\n", "recall.jsonl:2: \"prompt\" is missing, expected a string"},
        {LINE("\"\"", "\"y\"", "8", "0"), "recall.jsonl:1: \"prompt\" is "},
        {GOOD LINE("\"x is\"", "[\"y\"]", "8", "0"),
         "recall.jsonl:2: \"answer\" is a list, expected a string"},
        {LINE("\"x is\"", "\"1,5\"", "8", "0"),
         "recall.jsonl:1: \"answer\" is \"1,5\", expected a string without"},
        {LINE("\"x is\"", "\" y\"", "8", "0"),
         "recall.jsonl:1: \"answer\" is \" y\", expected a string without"},
        {LINE("\"x is\"", "\"\"", "8", "0"), "recall.jsonl:1: \"answer\" is \"\", expected a string without"},
        {LINE("\"x is\"", "\"y\"", "8.5", "0"),
         "recall.jsonl:1: \"length\" is 8.5, expected a whole number from 1"},
        {LINE("\"x is\"", "\"y\"", "0", "0"),
         "recall.jsonl:1: \"length\" is 0, expected a whole number from 1"},
        {LINE("\"x is\"", "\"y\"", "8", "1.01"),
         "recall.jsonl:1: \"depth\" is 1.01, expected a number from 0 to 1"},
        {LINE("\"x is\"", "\"y\"", "8", "NaN"),
         "recall.jsonl:1: \"depth\" is NaN, expected a number from 0 to 1"},
        {LINE("\"x is\"", "\"y\"", "8", "\"0\""),
         "recall.jsonl:1: \"depth\" is \"0\", expected a number from 0 to 1"},
        {LINE("\"x is\"", "\"abcdefghijklmnopqrstuvwxyz0123456789\"", "8", "0"),
         "recall.jsonl:1: \"answer\" is "},
    };
    kv_eval_task config = task();
    kv_benchmark *b;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        kv_error err = {0};
        test_write_text(file, cases[i].text);
        assert_int_not_equal(create(&config, &b, &err), KV_OK);
        if (!strstr(err.message, cases[i].says)) fail_msg("case %zu: %s", i, err.message);
        assert_null(strchr(err.message, '\n'));
        assert_null(b);
    }
    kv_error err = {0};
    char key[KV_TASK_KEY];
    assert_int_equal(kv_recall_task_check(&config, key, &err), KV_OK);
    config.shots = 1;
    assert_int_equal(kv_recall_task_check(&config, key, &err), KV_ERR_ARGUMENT);
    assert_string_equal(key, "shots");
    assert_non_null(strstr(err.message, "found 1, expected 0"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(items_lie_on_the_grid),
        cmocka_unit_test(another_file_is_another_task),
        cmocka_unit_test(answers_are_cut_stripped_and_the_same),
        cmocka_unit_test(a_bad_line_names_its_field),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}

// The parts of an evaluation: prompts, stop strings, scoring, the config's checks, table and files.
#include "data/config/options.h"
#include "tests/support/eval.h"

#include "data/table/table.h"
#include "eval/benchmark/benchmark.h"
#include "eval/benchmark/trivia.h"
#include "eval/benchmark/written.h"
#include "eval/config/config.h"

#include <glob.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// ---- Questions -----------------------------------------------------------------------------------------

static kv_questions made_up(kv_question items[3]) {
    static const char *const texts[] = {"Where is A?", "Where is B?", "Where is C?"};
    static const char *const values[] = {"North", "South", "East"};
    for (int i = 0; i < 3; i++)
        items[i] = (kv_question){.id = (char *)"", .text = (char *)texts[i], .value = (char *)values[i]};
    return (kv_questions){.items = items, .n = 3};
}

static void prompt_layout(void **state) {
    (void)state;
    kv_question items[3];
    const kv_questions questions = made_up(items);
    char *text = kv_trivia_prompt(&items[1], &questions, NULL, 0);
    assert_string_equal(text, "Question: Where is B?\nAnswer:");
    free(text);
    text = kv_trivia_prompt(&items[1], &questions, (const int64_t[]){2, 0}, 2);
    assert_string_equal(text, "Question: Where is C?\nAnswer: East\nQuestion: Where is A?\nAnswer: North\n"
                              "Question: Where is B?\nAnswer:");
    free(text);
}

static void shots_are_others_and_repeatable(void **state) {
    (void)state;
    int64_t shots[4], again[4], different = 0;
    for (int64_t asked = 0; asked < 5; asked++) {
        kv_draw_shots(7, 5, asked, true, 4, shots);
        kv_draw_shots(7, 5, asked, true, 4, again);
        assert_memory_equal(shots, again, sizeof shots);
        int64_t seen = 1 << asked;
        for (int i = 0; i < 4; i++) seen |= 1 << shots[i];
        assert_int_equal(seen, 31); // all the others, once each
        kv_draw_shots(8, 5, asked, true, 4, again);
        different += memcmp(shots, again, sizeof shots) != 0;
    }
    assert_true(different > 0);
    // Of a file of their own no example is the question.
    bool itself = false;
    for (int64_t asked = 0; asked < 40; asked++) {
        kv_draw_shots(7, 4, asked, false, 4, shots);
        int64_t seen = 0;
        for (int i = 0; i < 4; i++) seen |= 1 << shots[i];
        assert_int_equal(seen, 15);
        kv_draw_shots(7, 4, asked, false, 1, shots);
        itself = itself || shots[0] == asked % 4;
    }
    assert_true(itself);
}

static void answers_end_at_stop_strings(void **state) {
    (void)state;
    static const struct {
        const char *raw, *text;
        bool cut;
    } cases[] = {{" North", "North", false},
                 {" North\nQuestion: ", "North", true},
                 {" North. South", "North", true},
                 {"North, or South.", "North", true},
                 {"\n North", "", true},
                 {" the  North ", "the  North", false},
                 {"", "", false},
                 {" \t ", "", false}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[64];
        strcpy(text, cases[i].raw);
        assert_int_equal(kv_written_cut(text, kv_trivia_stops, KV_TRIVIA_STOPS), cases[i].cut);
        assert_string_equal(text, cases[i].text);
    }
}

// A record shows the prompt; what it costs counts BOS too.
static void shots_drawn_once(void **state) {
    (void)state;
    kv_eval_task task = {.shots = 3, .shots_file = (char *)"shown.jsonl", .shots_drawn = KV_SHOTS_ONCE};
    int64_t first[3], shots[3], different = 0;
    kv_task_shots(&task, 7, 50, 0, first);
    for (int64_t asked = 1; asked < 20; asked++) {
        kv_task_shots(&task, 7, 50, asked, shots);
        assert_memory_equal(shots, first, sizeof shots);
    }
    kv_task_shots(&task, 8, 50, 0, shots);
    assert_memory_not_equal(shots, first, sizeof shots);
    assert_int_not_equal(kv_shots_way(&task, 1), 1);
    task.shots_drawn = KV_SHOTS_EACH;
    assert_int_equal(kv_shots_way(&task, 1), 1); // hashes of before stay
    for (int64_t asked = 0; asked < 20; asked++) {
        kv_task_shots(&task, 7, 50, asked, shots);
        different += memcmp(shots, first, sizeof shots) != 0;
    }
    assert_true(different > 15);
}

static void prompts_start_with_bos(void **state) {
    (void)state;
    kv_error err = {0};
    kv_tokenizer *tokenizer;
    kv_benchmark *benchmark;
    const char *file = test_path(test_dir, "questions_trained.jsonl");
    kv_eval_task config = {.name = (char *)"atlas",
                           .kind = (char *)"triviaqa",
                           .file = (char *)file,
                           .shots = 1,
                           .limit = 3,
                           .max_tokens = 4};
    if (kv_tokenizer_open(test_path(test_dir, "tokenizer.model"), &tokenizer, &err))
        fail_msg("%s", err.message);
    if (kv_benchmark_create(&config, &(kv_prompting){.tokenizer = tokenizer}, 1, &benchmark, &err))
        fail_msg("%s", err.message);
    assert_int_equal(benchmark->n_items, 3);
    assert_int_equal(benchmark->n_units, 3);
    assert_string_equal(benchmark->metrics[0], "exact_match");
    int64_t longest = 0;
    int32_t *ids;
    for (int64_t i = 0; i < 3; i++)
        if (benchmark->prompt_tokens[i] > longest) longest = benchmark->prompt_tokens[i];
    assert_int_equal(benchmark->longest, longest + 4);
    assert_int_equal(
        kv_prompt_ids(&(kv_prompting){.tokenizer = tokenizer}, "Question: Where?", &ids, &longest, &err),
        KV_OK);
    assert_int_equal(ids[0], kv_tokenizer_bos(tokenizer));
    char *text;
    size_t length;
    assert_int_equal(kv_tokenizer_decode(tokenizer, ids + 1, longest - 1, &text, &length, &err), KV_OK);
    assert_string_equal(text, "Question: Where?");
    free(text), free(ids);
    // What is asked decides the hash, how it is called does not.
    char hash[17];
    memcpy(hash, benchmark->hash, sizeof hash);
    kv_benchmark_free(benchmark);
    config.name = (char *)"other";
    if (kv_benchmark_create(&config, &(kv_prompting){.tokenizer = tokenizer}, 1, &benchmark, &err))
        fail_msg("%s", err.message);
    assert_string_equal(benchmark->hash, hash);
    kv_benchmark_free(benchmark);
    config.max_tokens = 5;
    if (kv_benchmark_create(&config, &(kv_prompting){.tokenizer = tokenizer}, 1, &benchmark, &err))
        fail_msg("%s", err.message);
    assert_string_not_equal(benchmark->hash, hash);
    kv_benchmark_free(benchmark);
    config.shots = 100000;
    assert_int_equal(
        kv_benchmark_create(&config, &(kv_prompting){.tokenizer = tokenizer}, 1, &benchmark, &err),
        KV_ERR_RANGE);
    assert_null(benchmark);
    config.kind = (char *)"riddles";
    assert_int_equal(
        kv_benchmark_create(&config, &(kv_prompting){.tokenizer = tokenizer}, 1, &benchmark, &err),
        KV_ERR_ARGUMENT);
    kv_tokenizer_free(tokenizer);
}

// ---- Config --------------------------------------------------------------------------------------------

static void expect_config_error(const char *override, const char *part) {
    kv_config *config;
    const kv_eval_config *eval;
    kv_error err = {0};
    const char *const overrides[] = {override};
    kv_status status =
        kv_eval_config_load(test_path(test_dir, "eval.yaml"), overrides, 1, &config, &eval, &err);
    if (status == KV_OK || !strstr(err.message, part))
        fail_msg("%s: expected '%s', found: %s", override, part, err.message);
    assert_null(config);
    assert_null(eval);
}

static void config_mistakes_are_named(void **state) {
    (void)state;
    expect_config_error("batch_size=0", "key `batch_size`: found 0, expected at least 1");
    expect_config_error("ttft.repeats=0", "key `ttft.repeats`: found 0, expected at least 1");
    expect_config_error("tasks[1].shots=-1", "key `tasks[1].shots`: found -1, expected at least 0");
    expect_config_error("tasks[0].max_tokens=0", "key `tasks[0].max_tokens`: found 0, expected at least 1");
    expect_config_error("tasks[1].split=trained", "tasks[0] is `atlas` with split `trained` already");
    expect_config_error("systems[1].name=base", "`base` is the name of systems[0] already");
    expect_config_error("systems[1].aux=x", "found both `model` and `aux`");
    expect_config_error("systems=[{name: a, base: b}]", "expected either `model`, or `base` and `predictor`");
    expect_config_error("systems=[{name: a, base: b, aux: c, predictor: d}]",
                        "expected the base as a `model` alone");
    expect_config_error("systems[1].pruning=lazy", "expected `start`, a fraction of the prompt");
    expect_config_error("systems[1].keep=0.5", "key `systems[1].keep`: belongs to pruning: random static");
    expect_config_error("systems[1]={name: r, model: m, pruning: random, keep: 1.5}",
                        "key `systems[1].keep`: found 1.5, expected a number above 0, up to 1");
    expect_config_error("systems[1]={name: r, model: m, pruning: lazy, start: 0.5, end: 0.75}",
                        "key `systems[1].end`: found 0.75, expected at most `start`, 0.5");
    expect_config_error("systems[1]={name: r, model: m, pruning: odd}", "expected random, static, lazy or");
    expect_config_error(
        "systems=[{name: m, model: m}, {name: r, base: b, aux: a, predictor: p, pruning: random, keep: 1}]",
        "random pruning takes a `model` alone");
    expect_config_error("systems[1]={name: r, model: m, pruning: speculative, keep: 1}",
                        "speculative pruning takes `base` and `aux`");
    expect_config_error("systems[0]={name: r, model: m, pruning: random, keep: 1}",
                        "expected the base as a `model` alone");
    expect_config_error("tasks[0].kind=riddles", "found `riddles`, expected one of triviaqa");
    expect_config_error("tasks[0].k=[1, 2]", "key `tasks[0].k`: found pass@2, expected 1 to the 1 `samples`");
    expect_config_error(
        "tasks[0]={name: q, file: f, kind: recall, shots: 2}",
        "key `tasks[0].shots`: found 2, expected 0: a passage with its question is all of a prompt");
    expect_config_error(
        "tasks[0]={name: q, file: f, kind: mbpp, shots: 1}",
        "key `tasks[0].shots`: found 1, expected 0: prompts of kind: mbpp stand for themselves");
    expect_config_error(
        "tasks[0]={name: q, file: f, kind: mbpp, split: tset}",
        "key `tasks[0].split`: found `tset`, expected one of MBPP's: test, validation, train, "
        "prompt, or all of them: all");
    expect_config_error("tasks[0].top_p=0", "key `tasks[0].top_p`: found 0, expected a number above 0");
    expect_config_error("budgets=[0.5, 0]", "key `budgets[1]`: found 0, expected a number above 0");
    expect_config_error("ttft.prompts=[8]", "expected both `prompts` and `batches`, or neither");
    expect_config_error("picture.published=none",
                        "key `picture.published`: no published table `none`, expected one of: ");
    expect_config_error("picture.x=size", "key `picture.x`: found `size`, expected exact, paper or clock");
    expect_config_error("picture.y=size", "key `picture.y`: found `size`, expected accuracy or retention");
    expect_config_error("systems=[]", "found a list of 0");
    expect_config_error("system=1", "found an unknown key");
    expect_config_error("seed=x", "expected a whole number");
}

static void config_defaults_and_output(void **state) {
    (void)state;
    kv_config *config;
    const kv_eval_config *eval;
    kv_error err = {0};
    // The command line's --output, quoted for YAML, comes after the other overrides.
    char *argv[] = {"kveval",    "--output", "it's: here", "-s", "tasks=[{name: t, file: f}]",
                    "eval.yaml", NULL};
    kv_config_options options = {0};
    assert_int_equal(argp_parse(&kv_config_argp, 6, argv, ARGP_NO_EXIT, NULL, &options), 0);
    assert_int_equal(options.n_overrides, 2);
    assert_string_equal(options.config, "eval.yaml");
    if (kv_eval_config_load(test_path(test_dir, "eval.yaml"), options.overrides, 2, &config, &eval, &err))
        fail_msg("%s", err.message);
    assert_string_equal(eval->output, "it's: here");
    assert_string_equal(eval->systems[0].family, "base");
    assert_string_equal(eval->tasks[0].split, "validation");
    assert_int_equal(eval->tasks[0].max_tokens, 24);
    assert_int_equal(eval->tasks[0].limit, 0);
    assert_int_equal(eval->seed, 1);
    assert_int_equal(eval->ttft.batch_size, 2);
    kv_config_free(config);
}

// Every configuration for kveval that the project ships is one it accepts.
static void shipped_configs_load(void **state) {
    (void)state;
    static const char *const patterns[] = {"configs/*/eval*.yaml",
                                           "configs/openelm/{humaneval,mcqa,triviaqa,ttft}*.yaml"};
    int n = 0;
    char before[4096];
    assert_non_null(getcwd(before, sizeof before));
    assert_int_equal(chdir(test_path(getenv("KV_TEST_DIR"), "..")), 0);
    for (size_t p = 0; p < sizeof patterns / sizeof *patterns; p++) {
        glob_t found;
        assert_int_equal(glob(patterns[p], GLOB_BRACE, NULL, &found), 0);
        for (size_t i = 0; i < found.gl_pathc; i++) {
            kv_config *config;
            const kv_eval_config *eval;
            kv_error err = {0};
            if (kv_eval_config_load(found.gl_pathv[i], NULL, 0, &config, &eval, &err))
                fail_msg("%s", err.message);
            assert_true(eval->n_systems > 1);
            kv_config_free(config);
            n++;
        }
        globfree(&found);
    }
    assert_true(n >= 8);
    assert_int_equal(chdir(before), 0);
}

// ---- Table and files -----------------------------------------------------------------------------------

static void table_layout(void **state) {
    (void)state;
    char *text = NULL;
    size_t size;
    FILE *stream = open_memstream(&text, &size);
    kv_table *table = kv_table_create();
    kv_table_column(table, "", "name", true);
    kv_table_column(table, "a long heading", "x", false);
    kv_table_column(table, "a long heading", "y", false);
    kv_table_column(table, "", "z", false);
    const char *cells[] = {"one", "1", "22", "3", "zwölf", "4.5", "-", "666"};
    for (size_t i = 0; i < 8; i++) kv_table_cell(table, "%s", cells[i]);
    kv_table_print(table, stream);
    kv_table_free(table);
    fclose(stream);
    assert_string_equal(text, "       a long heading     \n"
                              "name            x   y    z\n"
                              "one             1  22    3\n"
                              "zwölf         4.5   -  666\n");
    free(text);
}

static void expect_within(int width, const char *expected) {
    static const char *const cells[] = {"*", "one", "1", "22", "3", "44", "", "two", "5", "66", "7", "88"};
    char *text = NULL;
    size_t size;
    FILE *stream = open_memstream(&text, &size);
    kv_table *table = kv_table_create();
    kv_table_column(table, "", "", true);
    kv_table_column(table, "", "name", true);
    kv_table_column(table, "head", "x", false);
    kv_table_column(table, "head", "y", false);
    kv_table_column(table, "", "z", false);
    kv_table_column(table, "", "u", false);
    for (size_t i = 0; i < 12; i++) kv_table_cell(table, "%s", cells[i]);
    kv_table_print_within(table, width, stream);
    kv_table_free(table);
    fclose(stream);
    assert_string_equal(text, expected);
    free(text);
}

static void wide_tables_are_broken_into_blocks(void **state) {
    (void)state;
    static const char whole[] = "          head       \n"
                                "   name  x   y  z   u\n"
                                "*  one   1  22  3  44\n"
                                "   two   5  66  7  88\n";
    expect_within(0, whole);
    expect_within(21, whole);
    expect_within(20, "          head   \n"
                      "   name  x   y  z\n"
                      "*  one   1  22  3\n"
                      "   two   5  66  7\n"
                      "\n"
                      "           \n"
                      "   name   u\n"
                      "*  one   44\n"
                      "   two   88\n");
    // What is under one heading stays together, unless it is too wide by itself.
    expect_within(14, "          head\n"
                      "   name  x   y\n"
                      "*  one   1  22\n"
                      "   two   5  66\n"
                      "\n"
                      "              \n"
                      "   name  z   u\n"
                      "*  one   3  44\n"
                      "   two   7  88\n");
    expect_within(11, "         head\n"
                      "   name  x\n"
                      "*  one   1\n"
                      "   two   5\n"
                      "\n"
                      "         head\n"
                      "   name   y\n"
                      "*  one   22\n"
                      "   two   66\n"
                      "\n"
                      "          \n"
                      "   name  z\n"
                      "*  one   3\n"
                      "   two   7\n"
                      "\n"
                      "           \n"
                      "   name   u\n"
                      "*  one   44\n"
                      "   two   88\n");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(prompt_layout),
        cmocka_unit_test(shots_are_others_and_repeatable),
        cmocka_unit_test(shots_drawn_once),
        cmocka_unit_test(answers_end_at_stop_strings),
        cmocka_unit_test(prompts_start_with_bos),
        cmocka_unit_test(config_mistakes_are_named),
        cmocka_unit_test(config_defaults_and_output),
        cmocka_unit_test(shipped_configs_load),
        cmocka_unit_test(table_layout),
        cmocka_unit_test(wide_tables_are_broken_into_blocks),
    };
    return cmocka_run_group_tests(tests, test_family_set_up, test_dir_tear_down);
}

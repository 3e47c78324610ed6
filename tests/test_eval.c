// The parts of an evaluation: prompts, stop strings, scoring, the config's checks, table and files.
#include "data/config_options.h"
#include "eval_support.h"

#include "eval/output.h"
#include "eval/table.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// ---- Questions -----------------------------------------------------------------------------------------

static char *accepted[] = {"North", "The North"};

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
    char *text = kv_trivia_prompt(&questions, 1, NULL, 0);
    assert_string_equal(text, "Question: Where is B?\nAnswer:");
    free(text);
    text = kv_trivia_prompt(&questions, 1, (const int64_t[]){2, 0}, 2);
    assert_string_equal(text, "Question: Where is C?\nAnswer: East\nQuestion: Where is A?\nAnswer: North\n"
                              "Question: Where is B?\nAnswer:");
    free(text);
}

static void shots_are_others_and_repeatable(void **state) {
    (void)state;
    int64_t shots[4], again[4], different = 0;
    for (int64_t asked = 0; asked < 5; asked++) {
        kv_trivia_draw_shots(7, 5, asked, 4, shots);
        kv_trivia_draw_shots(7, 5, asked, 4, again);
        assert_memory_equal(shots, again, sizeof shots);
        int64_t seen = 1 << asked;
        for (int i = 0; i < 4; i++) seen |= 1 << shots[i];
        assert_int_equal(seen, 31); // all the others, once each
        kv_trivia_draw_shots(8, 5, asked, 4, again);
        different += memcmp(shots, again, sizeof shots) != 0;
    }
    assert_true(different > 0);
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
        assert_int_equal(kv_trivia_cut(text), cases[i].cut);
        assert_string_equal(text, cases[i].text);
    }
}

static void prompts_start_with_bos(void **state) {
    (void)state;
    kv_error err = {0};
    kv_tokenizer *tokenizer;
    kv_trivia_task *task;
    const char *file = test_path(test_dir, "questions_trained.jsonl");
    kv_eval_task config = {
        .name = (char *)"atlas", .file = (char *)file, .shots = 1, .limit = 3, .max_tokens = 4};
    if (kv_tokenizer_open(test_path(test_dir, "tokenizer.model"), &tokenizer, &err))
        fail_msg("%s", err.message);
    if (kv_trivia_task_create(&config, tokenizer, 1, &task, &err)) fail_msg("%s", err.message);
    assert_int_equal(task->n, 3);
    for (int64_t i = 0; i < task->n; i++) {
        char *text;
        size_t length;
        assert_int_equal(task->ids[i][0], kv_tokenizer_bos(tokenizer));
        assert_int_equal(
            kv_tokenizer_decode(tokenizer, task->ids[i] + 1, task->lengths[i] - 1, &text, &length, &err),
            KV_OK);
        assert_string_equal(text, task->prompts[i]);
        free(text);
    }
    assert_int_equal(kv_trivia_task_fits(task, 4096, "base", &err), KV_OK);
    assert_int_equal(kv_trivia_task_fits(task, task->lengths[0] + 3, "base", &err), KV_ERR_RANGE);
    assert_non_null(strstr(err.message, "question 1: "));
    kv_trivia_task_free(task);
    config.shots = 100000;
    assert_int_equal(kv_trivia_task_create(&config, tokenizer, 1, &task, &err), KV_ERR_RANGE);
    assert_null(task);
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
    expect_config_error("systems=[{name: a, base: b}]", "expected either `model`, or all of");
    expect_config_error("systems=[{name: a, base: b, aux: c, predictor: d}]",
                        "expected the base as a `model` alone");
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

// Two systems on one task of two questions, the second never timed.
struct made_up_results {
    kv_question items[3];
    kv_eval_system systems[2];
    kv_eval_task tasks[1];
    kv_eval_config config;
    kv_trivia_task task, *task_list[1];
    char *prompts[2], *texts[2][2];
    bool correct[2][2];
    kv_answers answers[2];
    kv_cost costs[2];
    kv_results results;
};

static void make_results(struct made_up_results *m) {
    memset(m, 0, sizeof *m);
    m->systems[0] = (kv_eval_system){.name = (char *)"base", .family = (char *)"base"};
    m->systems[1] = (kv_eval_system){.name = (char *)"small, \"fast\"", .family = (char *)"aux"};
    m->tasks[0] =
        (kv_eval_task){.name = (char *)"atlas", .split = (char *)"trained", .file = (char *)"f", .shots = 1};
    m->config = (kv_eval_config){.systems = m->systems, .n_systems = 2, .tasks = m->tasks, .n_tasks = 1};
    m->config.ttft = (kv_eval_ttft){.batch_size = 8, .repeats = 5};
    m->task =
        (kv_trivia_task){.config = m->tasks, .questions = made_up(m->items), .n = 2, .prompts = m->prompts};
    m->items[0].aliases = accepted, m->items[0].n_aliases = 2;
    m->task_list[0] = &m->task;
    m->prompts[0] = (char *)"Question: Where is A?\nAnswer:", m->prompts[1] = (char *)"p1";
    m->texts[0][0] = (char *)"the north", m->texts[0][1] = (char *)"South";
    m->texts[1][0] = (char *)"\xFF?", m->texts[1][1] = (char *)"South";
    m->correct[0][0] = m->correct[0][1] = m->correct[1][1] = true;
    for (int s = 0; s < 2; s++)
        m->answers[s] =
            (kv_answers){.n = 2, .n_correct = 2 - s, .texts = m->texts[s], .correct = m->correct[s]};
    m->costs[0] = (kv_cost){1, 3000, 1, {0.5, 0.01}, 1};
    m->costs[1] = (kv_cost){4, 1000, 3, {NAN, NAN}, NAN};
    m->results = (kv_results){.config = &m->config,
                              .config_text = (char *)"seed: 1\n",
                              .tasks = m->task_list,
                              .answers = m->answers,
                              .costs = m->costs,
                              .prompt_tokens = 59};
}

static void csv_columns(void **state) {
    (void)state;
    struct made_up_results m;
    kv_error err = {0};
    make_results(&m);
    if (kv_results_write_csv(&m.results, test_path(test_dir, "r.csv"), &err)) fail_msg("%s", err.message);
    char *text = test_read_text(test_path(test_dir, "r.csv"));
    assert_string_equal(
        text,
        "system,family,task,split,metric,accuracy,retention,flops_reduction_paper,flops_reduction_exact,"
        "ttft_seconds,ttft_reduction,ttft_spread,shots,n_questions,flops_exact,prompt_tokens\n"
        "base,base,atlas,trained,exact_match,1,1,1,1,0.5,1,0.01,1,2,3000,59\n"
        "\"small, \"\"fast\"\"\",aux,atlas,trained,exact_match,0.5,0.5,4,3,,,,1,2,1000,59\n");
    free(text);
}

static void retention_needs_a_base_that_knows_something(void **state) {
    (void)state;
    struct made_up_results m;
    make_results(&m);
    m.answers[0].n_correct = 0;
    assert_true(isnan(kv_result_retention(&m.results, 1, 0)));
    assert_true(kv_result_accuracy(&m.results, 1, 0) == 0.5);
}

static void samples_are_json_lines(void **state) {
    (void)state;
    struct made_up_results m;
    kv_error err = {0};
    make_results(&m);
    if (kv_results_write_samples(&m.results, test_path(test_dir, "s.jsonl"), &err))
        fail_msg("%s", err.message);
    char *text = test_read_text(test_path(test_dir, "s.jsonl"));
    static const char first[] = "{\"task\":\"atlas\",\"split\":\"trained\",\"system\":\"base\",\"id\":\"\","
                                "\"question\":\"Where is A?\",\"prompt\":\"Question: Where is A?\\nAnswer:\","
                                "\"generation\":\"the north\",\"answers\":[\"North\",\"The North\"],"
                                "\"verdict\":\"correct\"}\n";
    assert_memory_equal(text, first, sizeof first - 1);
    assert_non_null(strstr(text, "\"generation\":\"??\"")); // not UTF-8
    assert_non_null(strstr(text, "\"verdict\":\"wrong\""));
    free(text);
}

static void table_shows_what_is_missing(void **state) {
    (void)state;
    struct made_up_results m;
    char *text = NULL;
    size_t size;
    make_results(&m);
    FILE *stream = open_memstream(&text, &size);
    kv_results_print(&m.results, stream);
    fclose(stream);
    assert_non_null(strstr(text, "atlas, trained"));
    assert_non_null(strstr(text, "time to first token, 8 x 59"));
    assert_non_null(strstr(text, "500.00 ± 10.00"));
    const char *line = strstr(text, "small, \"fast\"");
    assert_non_null(line);
    assert_non_null(strstr(line, "50.0 %"));
    assert_non_null(strstr(line, "4.00x"));
    const char *end = strstr(line, "3.00x");
    assert_non_null(end);
    char times[2][8] = {"", ""}, behind[8] = "";
    assert_int_equal(sscanf(end + 5, "%7s %7s %7s", times[0], times[1], behind), 2);
    assert_string_equal(times[0], "-");
    assert_string_equal(times[1], "-");
    free(text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(prompt_layout),
        cmocka_unit_test(shots_are_others_and_repeatable),
        cmocka_unit_test(answers_end_at_stop_strings),
        cmocka_unit_test(prompts_start_with_bos),
        cmocka_unit_test(config_mistakes_are_named),
        cmocka_unit_test(config_defaults_and_output),
        cmocka_unit_test(table_layout),
        cmocka_unit_test(csv_columns),
        cmocka_unit_test(retention_needs_a_base_that_knows_something),
        cmocka_unit_test(samples_are_json_lines),
        cmocka_unit_test(table_shows_what_is_missing),
    };
    return cmocka_run_group_tests(tests, test_family_set_up, test_dir_tear_down);
}

// What a plan says that an evaluation will compute against what the product wrapper counts while it runs: every way to
// read a prompt at every kind of task. Of what is scored it is the same number; of answers in words it is the most.
#include "core/gemm.h"
#include "eval/evaluate/evaluate.h"
#include "eval/evaluate/plan.h"
#include "tests/support/eval.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char systems[] = "systems:\n"
                              "  - {name: base, model: @/base}\n"
                              "  - {name: aux, model: @/aux}\n"
                              "  - {name: KVP, base: @/base, aux: @/aux, predictor: @/predictor}\n"
                              "  - {name: prefix, base: @/base, predictor: @/prefix}\n"
                              "  - {name: as deep, base: @/base, predictor: @/prefix}\n"
                              "  - {name: RP, model: @/base, pruning: random, keep: 0.5}\n"
                              "  - {name: SP, model: @/base, pruning: static, keep: 0.5}\n"
                              "  - {name: SPF, base: @/base, aux: @/aux, pruning: speculative, keep: 0.5,\n"
                              "     lookahead: 2, window: 3, chunk: 4}\n";
static const char lazy[] = "  - {name: L, model: @/base, pruning: lazy, start: 0.75, end: 0.25}\n";

static const char scored[] =
    "tasks:\n"
    "  - {name: choices, kind: sciq, file: %/choices/sciq.jsonl}\n"
    "  - {name: own, kind: custom, file: @/own.jsonl, template: \"{q}\", choices: [\"{o}\"], label: \"{l}\"}\n"
    "  - {name: text, kind: text, corpus: @/train.jsonl, window: 24, prompt: 9, limit: 7}\n"
    "ttft: {prompt_tokens: 20, batch_size: 2, repeats: 3, prompts: [7, 12], batches: [1, 3]}\n"
    "analysis: {corpus: @/shard.h5, sequences: 9, seq_len: 16}\n";
static const char written[] =
    "tasks:\n"
    "  - {name: atlas, file: @/questions_trained.jsonl, limit: 12, max_tokens: 9}\n";

static void open_evaluation(kv_evaluation *e, const char *rows, const char *more, const char *tasks) {
    kv_error err = {0};
    const char *path = test_path(test_dir, "plan.yaml");
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    test_put_config(file, "output: @/planned\ntokenizer: @/tokenizer.model\nbatch_size: 5\n");
    test_put_config(file, rows), test_put_config(file, more), test_put_config(file, tasks);
    assert_int_equal(fclose(file), 0);
    *e = (kv_evaluation){.measure = true};
    if (kv_eval_config_load(path, NULL, 0, &e->source, &e->config, &err) || kv_evaluation_open(e, &err))
        fail_msg("%s", err.message);
}

static double planned(const kv_evaluation *e, const kv_plan *plan) {
    double sum = 0;
    for (int64_t s = 0; s < e->systems->n; s++) {
        const kv_plan_system *own = &plan->systems[s];
        sum += own->answers.reading + own->answers.steps + own->clock + own->analysis;
    }
    return sum;
}

// What is announced before weights are there, and what then is executed.
static void run(const char *more, const char *tasks, double *said, double *done) {
    kv_evaluation e;
    kv_plan plan;
    kv_results results;
    kv_error err = {0};
    open_evaluation(&e, systems, more, tasks);
    if (kv_plan_make(&e, &plan, &err) || kv_plan_check(&plan, &err)) fail_msg("%s", err.message);
    *said = planned(&e, &plan);
    kv_plan_free(&plan);
    if (kv_evaluation_load(&e, &err)) fail_msg("%s", err.message);
    kv_gemm_flops_reset();
    if (kv_evaluation_run(&e, &results, &err)) fail_msg("%s", err.message);
    *done = (double)kv_gemm_flops();
    kv_results_free(&results);
    kv_evaluation_close(&e);
    char command[128];
    snprintf(command, sizeof command, "rm -r %s/planned", test_dir);
    assert_int_equal(system(command), 0);
}

static void what_is_scored_is_exact(void **state) {
    (void)state;
    double said, done;
    run("", scored, &said, &done);
    if (said != done) fail_msg("%.0f announced, %.0f executed", said, done);
}

// Lazy pruning brings back what the text wants.
static void what_is_written_is_at_most(void **state) {
    (void)state;
    double said, done;
    run(lazy, scored, &said, &done);
    if (!(said >= done && said < 1.5 * done)) fail_msg("scored: %.0f announced, %.0f executed", said, done);
    run(lazy, written, &said, &done);
    if (!(said >= done && said < 2 * done)) fail_msg("written: %.0f announced, %.0f executed", said, done);
}

// Tokens of a task, by hand: two questions, a choice of which is longer.
static void tokens_are_counted(void **state) {
    (void)state;
    kv_evaluation e;
    kv_plan plan;
    kv_error err = {0};
    open_evaluation(&e, systems, "", written);
    if (kv_plan_make(&e, &plan, &err)) fail_msg("%s", err.message);
    double tokens = 0;
    int64_t longest = 0;
    for (int64_t i = 0; i < 12; i++) {
        tokens += (double)e.benchmarks[0]->prompt_tokens[i];
        if (e.benchmarks[0]->prompt_tokens[i] > longest) longest = e.benchmarks[0]->prompt_tokens[i];
    }
    assert_true(plan.tasks[0].prompt_tokens == tokens);
    assert_int_equal(plan.tasks[0].longest, longest);
    assert_int_equal(plan.tasks[0].sequences, 12);
    assert_true(plan.tasks[0].answer_tokens == 12 * 9);
    kv_plan_free(&plan);
    kv_evaluation_close(&e);
}

// A beginning that is read once is one more sequence, and lies beside them as it was saved; who prunes has none.
static void shared_prompts_are_counted(void **state) {
    (void)state;
    static const char own[] =
        "tasks:\n"
        "  - {name: own, kind: custom, file: @/questions_trained.jsonl, limit: 12, max_tokens: 9,\n"
        "     preamble: \"Answer these questions shortly.\\n\", template: \"{question}\",\n"
        "     target: \"{answer.value}\", prompt_cache: \"@/nowhere/%s.h5\"}\n";
    double bytes[2][8];
    for (int shared = 0; shared < 2; shared++) {
        char tasks[600];
        kv_evaluation e;
        kv_plan plan;
        kv_error err = {0};
        snprintf(tasks, sizeof tasks, own, "{system}");
        if (!shared) strcpy(strstr(tasks, ", prompt_cache"), "}\n");
        open_evaluation(&e, systems, "", tasks);
        e.measure = false;
        if (kv_plan_make(&e, &plan, &err)) fail_msg("%s", err.message);
        for (int s = 0; s < 8; s++) bytes[shared][s] = plan.systems[s].bytes;
        kv_plan_free(&plan);
        kv_evaluation_close(&e);
    }
    for (int s = 0; s < 8; s++)
        if (!(s < 5 ? bytes[1][s] > bytes[0][s] : bytes[1][s] == bytes[0][s]))
            fail_msg("system %d: %.0f bytes with, %.0f without", s, bytes[1][s], bytes[0][s]);
}

static int set_up(void **state) {
    char command[600];
    test_family_set_up(state);
    test_write_text(
        test_path(test_dir, "own.jsonl"),
        "{\"q\": \"Where is A?\", \"o\": [\"North\", \"to the South of B\"], \"l\": 1}\n"
        "{\"q\": \"Which of them is it, then?\", \"o\": [\"this\", \"that\", \"none\"], \"l\": 0}\n");
    snprintf(command, sizeof command,
             "%s tokenize -c 0 -m 0 -t %s/tokenizer.model -o %s/shard.h5 %s/train.jsonl 2>&1",
             getenv("KVDATA"), test_dir, test_dir, test_dir);
    FILE *out = popen(command, "r");
    assert_non_null(out);
    while (fgetc(out) != EOF) {
    }
    return pclose(out);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_scored_is_exact),
        cmocka_unit_test(what_is_written_is_at_most),
        cmocka_unit_test(tokens_are_counted),
        cmocka_unit_test(shared_prompts_are_counted),
    };
    return cmocka_run_group_tests(tests, set_up, test_dir_tear_down);
}

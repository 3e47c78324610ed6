// kveval on every kind of system and of task at once, on a family of random models. KVEVAL names the program.
#include "tests/support/eval.h"
#include "tests/support/numbers/rounding.h"
#include "tests/support/sandbox.h"

#include "eval/results/results.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char out[1 << 16], err[1 << 16];

#define EXPECT(status, ...)                                                                                  \
    test_expect_run("KVEVAL", status, (const char *const[]){__VA_ARGS__, NULL}, out, err, sizeof out)

static kv_results read_results(const char *name) {
    kv_results results;
    kv_error error = {0};
    if (kv_results_read_h5(test_path(test_dir, name), &results, &error)) fail_msg("%s", error.message);
    return results;
}

static const char systems[] =
    "systems:\n"
    "  - {name: base, model: @/base}\n"
    "  - {name: aux, model: @/aux}\n"
    "  - {name: KVP, family: KVP-C, base: @/base, aux: @/aux, predictor: @/predictor}\n"
    "  - {name: RP-0.50, family: RP, model: @/base, pruning: random, keep: 0.5}\n"
    "  - {name: SP-0.50, family: SP, model: @/base, pruning: static, keep: 0.5}\n"
    "  - {name: L0.75-0.25, family: L, model: @/base, pruning: lazy, start: 0.75, end: 0.25}\n"
    "  - {name: SPF-0.50, family: SPF, base: @/base, aux: @/aux, pruning: speculative, keep: 0.5,\n"
    "     lookahead: 2, window: 3, chunk: 4}\n";

static const char common[] = "tokenizer: @/tokenizer.model\nbatch_size: 3\nbootstrap: 200\n";

// A policy that keeps everything answers as the base does, and costs the same.
static void policies_that_keep_all_are_the_base(void **state) {
    (void)state;
    char text[4096];
    snprintf(text, sizeof text,
             "%soutput: @/all\n"
             "systems:\n"
             "  - {name: base, model: @/base}\n"
             "  - {name: RP, model: @/base, pruning: random, keep: 1}\n"
             "  - {name: SP, model: @/base, pruning: static, keep: 1}\n"
             "  - {name: L, model: @/base, pruning: lazy, start: 1, end: 1}\n"
             "  - {name: SPF, base: @/base, aux: @/aux, pruning: speculative, keep: 1}\n"
             "tasks:\n"
             "  - {name: atlas, file: @/questions_trained.jsonl, limit: 8, max_tokens: 6}\n"
             "  - {name: sciq, kind: sciq, file: %%/choices/sciq.jsonl}\n",
             common);
    test_write_config(test_path(test_dir, "all.yaml"), text);
    EXPECT(0, test_path(test_dir, "all.yaml"), "--no-ttft");
    kv_results r = read_results("all/results.h5");
    for (int64_t s = 1; s < r.n_systems; s++) {
        for (int64_t u = 0; u < r.tasks[0].n_units; u++) {
            json_t *own = json_loads(kv_results_outcome(&r, s, 0)->records[u], 0, NULL);
            json_t *base = json_loads(kv_results_outcome(&r, 0, 0)->records[u], 0, NULL);
            assert_true(json_equal(json_object_get(own, "generation"), json_object_get(base, "generation")));
            json_decref(own), json_decref(base);
        }
        assert_true(kv_results_outcome(&r, s, 0)->exact_reduction == 1);
        for (int64_t u = 0; u < r.tasks[1].n_units; u++) {
            json_t *own = json_loads(kv_results_outcome(&r, s, 1)->records[u], 0, NULL);
            json_t *base = json_loads(kv_results_outcome(&r, 0, 1)->records[u], 0, NULL);
            const json_t *a = json_object_get(own, "loglikelihoods");
            const json_t *b = json_object_get(base, "loglikelihoods");
            for (size_t c = 0; c < json_array_size(b); c++)
                // Sums over tokens of what a model's sums over some dozens of terms made, twice.
                rounding_expect("log-likelihood", json_real_value(json_array_get(a, c)),
                                json_real_value(json_array_get(b, c)),
                                2 * rounding_of_sum(64, pow(json_real_value(json_array_get(b, c)), 2)));
            json_decref(own), json_decref(base);
        }
    }
    kv_results_free(&r);
}

// Table, files and reductions of all systems on questions and multiple choice.
static void all_kinds_together(void **state) {
    (void)state;
    char text[8192];
    snprintf(text, sizeof text,
             "%soutput: @/kinds\n%s"
             "tasks:\n"
             "  - {name: atlas, file: @/questions_trained.jsonl, limit: 5, max_tokens: 4}\n"
             "  - {name: ARC-c, kind: arc_challenge, file: %%/choices/arc.jsonl}\n"
             "  - {name: BoolQ, kind: boolq, file: %%/choices/boolq.jsonl}\n"
             "  - {name: HellaSwag, kind: hellaswag, file: %%/choices/hellaswag.jsonl}\n"
             "  - {name: PIQA, kind: piqa, file: %%/choices/piqa.jsonl}\n"
             "  - {name: WinoGrande, kind: winogrande, file: %%/choices/winogrande.jsonl}\n"
             "ttft: {prompt_tokens: 20, batch_size: 2, repeats: 2, prompts: [8, 16], batches: [1, 2]}\n"
             "picture: {x: paper, y: retention, published: triviaqa-openelm-1.1b}\n",
             common, systems);
    test_write_config(test_path(test_dir, "kinds.yaml"), text);
    EXPECT(0, test_path(test_dir, "kinds.yaml"));
    static const char *const parts[] = {
        "all tasks, first metric", "average", "acc_norm", "L0.75-0.25", "2 prompts of", "0.35 of the base"};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (!strstr(out, parts[i])) fail_msg("no '%s' in\n%s", parts[i], out);
    kv_results r = read_results("kinds/results.h5");
    assert_int_equal(r.n_tasks, 6);
    assert_int_equal(r.n_timings, 5);
    assert_string_equal(r.tasks[1].metrics[0], "acc_norm");
    const double paper[] = {1, 0,        0,
                            2, 1 / 0.75, 1 / (0.3 + 0.6 * 0.5 + 0.1 * 0.25)}; // 0: not a matter of tokens
    for (int s = 0; s < 6; s++)
        if (paper[s] > 0) assert_true(fabs(r.systems[s].paper_reduction - paper[s]) < 1e-9);
    for (int64_t s = 1; s < r.n_systems; s++) assert_true(kv_results_outcome(&r, s, 0)->exact_reduction > 1);
    for (int64_t i = 0; i < r.n_timings; i++)
        for (int64_t s = 0; s < r.n_systems; s++) assert_true(r.timings[i].seconds[s] > 0);
    kv_results_free(&r);
    char *csv = test_read_text(test_path(test_dir, "kinds/ttft.csv"));
    int lines = 0;
    for (const char *c = csv; *c; c++) lines += *c == '\n';
    assert_int_equal(lines, 1 + 5 * 7);
    free(csv);
}

static const char code_config[] = "output: @/code\n"
                                  "tokenizer: @/tokenizer.model\n"
                                  "batch_size: 4\n"
                                  "systems:\n"
                                  "  - {name: base, model: @/base}\n"
                                  "  - {name: KVP, base: @/base, aux: @/aux, predictor: @/predictor}\n"
                                  "tasks:\n"
                                  "  - name: made up\n"
                                  "    kind: humaneval\n"
                                  "    file: %/code_problems.jsonl\n"
                                  "    samples: 3\n"
                                  "    k: [1, 2]\n"
                                  "    max_tokens: 8\n"
                                  "  - {name: more, kind: mbppplus, file: %/problems/mbppplus.jsonl, "
                                  "max_tokens: 8, too_long: cut}\n";

// Models that know nothing solve nothing; what counts is that programs are made, run and kept as they should.
static void programs_in_a_sandbox(void **state) {
    (void)state;
    if (!test_bwrap_works()) skip();
    test_write_config(test_path(test_dir, "code.yaml"), code_config);
    EXPECT(0, test_path(test_dir, "code.yaml"), "--no-ttft");
    assert_non_null(strstr(out, "pass@1"));
    assert_non_null(strstr(out, "pass@2"));
    assert_non_null(strstr(out, "base_pass@1"));
    char *text = test_read_text(test_path(test_dir, "code/samples/made_up-validation/base.jsonl")),
         *save = NULL;
    int n = 0;
    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save), n++) {
        json_t *sample = json_loads(line, 0, NULL);
        assert_true(json_is_string(json_object_get(sample, "task_id")));
        assert_true(json_is_string(json_object_get(sample, "completion")));
        assert_true(json_is_boolean(json_object_get(sample, "passed")));
        json_decref(sample);
    }
    kv_results r = read_results("code/results.h5");
    assert_int_equal(r.tasks[0].n_units, n);
    assert_int_equal(r.tasks[0].n_units, 3 * r.tasks[0].n_items);
    assert_string_equal(r.tasks[0].metrics[1], "pass@2");
    assert_string_equal(r.tasks[1].metrics[1], "base_pass@1");
    kv_results_free(&r);
    free(text);
    char file[512];
    snprintf(file, sizeof file, "%s/fixtures/code_problems.jsonl", getenv("KV_TEST_DIR"));
    EXPECT(0, "--check-tests", file);
    assert_non_null(strstr(out, "canonical solutions pass"));
    EXPECT(1, "--check-tests", "/nowhere.jsonl");
    assert_non_null(strstr(err, "/nowhere.jsonl"));
}

// A question and a problem of more than all contexts, in files of their own.
static void write_too_long(void) {
    char word[2401];
    memset(word, 'x', sizeof word - 1);
    word[sizeof word - 1] = '\0';
    FILE *file = fopen(test_path(test_dir, "long.jsonl"), "w");
    assert_non_null(file);
    for (int i = 0; i < 5; i++)
        fprintf(file, "{\"question\": \"%s?\", \"answer\": {\"value\": \"b\"}}\n",
                i == 3   ? word
                : i == 1 ? word + 1200
                         : "Who");
    assert_int_equal(fclose(file), 0);
}

// Which `too_long` says what about in table, files and report; and that no two ways are taken for the same.
static void questions_that_are_too_long(void **state) {
    (void)state;
    static const char *const ways[] = {"refuse", "skip", "cut"};
    char text[4096];
    write_too_long();
    for (int w = 0; w < 3; w++) {
        snprintf(
            text, sizeof text,
            "%soutput: @/long\n%stasks:\n  - {name: q, file: @/long.jsonl, max_tokens: 4, too_long: %s}\n",
            common, systems, ways[w]);
        test_write_config(test_path(test_dir, "long.yaml"), text);
        EXPECT(w ? 0 : 1, test_path(test_dir, "long.yaml"), "--no-ttft", "-s", "budgets=[]", "-o",
               test_path(test_dir, ways[w]));
        const char *place = test_path(test_dir, "long.jsonl:4: prompt and answer of ");
        if (!strstr(err, place)) fail_msg("no '%s' in %s", place, err);
        // SPF's aux is to look two tokens ahead.
        assert_non_null(
            strstr(err, "do not fit the context of 1022 tokens of the aux of `SPF-0.50` (less 2 to look "
                        "ahead)"));
        assert_non_null(strstr(err, "2 of 5 items"));
    }
    assert_int_equal(test_dir_count(test_path(test_dir, "refuse")), -1); // nothing has been done
    kv_results r = read_results("skip/results.h5");
    assert_int_equal(r.tasks[0].n_items, 3);
    assert_int_equal(r.tasks[0].n_skipped, 2);
    kv_results_free(&r);
    r = read_results("cut/results.h5");
    assert_int_equal(r.tasks[0].n_items, 5);
    assert_int_equal(r.tasks[0].n_cut, 2);
    kv_results_free(&r);
    char *skipped = test_read_text(test_path(test_dir, "skip/samples/q-validation/skipped.json"));
    assert_non_null(strstr(skipped, "long.jsonl:2\""));
    assert_non_null(strstr(skipped, "long.jsonl:4\""));
    free(skipped);
    EXPECT(0, "report", test_path(test_dir, "skip/results.h5"), test_path(test_dir, "cut/results.h5"));
    assert_non_null(strstr(out, "q, validation: 3 items (2 of 5 skipped: too long), prompts of "));
    assert_non_null(
        strstr(out, "q, validation (2): 5 items (2 of 5 cut from the left: too long), prompts of "));
    assert_non_null(strstr(err, "cut/results.h5: q, validation is not the task of that name before it"));
    EXPECT(0, "report", test_path(test_dir, "skip/results.h5"), test_path(test_dir, "skip/results.h5"));
    assert_string_equal(err, "");
}

// The same directory asked in another way: no answer is taken over, and no list of what was skipped stays.
static void another_way_asks_anew(void **state) {
    (void)state;
    const char *config = test_path(test_dir, "long.yaml"); // as the test before left it: cut
    EXPECT(0, config, "--no-ttft", "-o", test_path(test_dir, "cut"));
    assert_non_null(strstr(err, "5 answered before"));
    EXPECT(0, config, "--no-ttft", "-o", test_path(test_dir, "skip"));
    assert_null(strstr(err, "answered before"));
    assert_int_equal(test_dir_count(test_path(test_dir, "skip/samples/q-validation")), 7); // systems
    EXPECT(0, config, "--dry-run");
    assert_non_null(
        strstr(out, "q, validation: 5 items, 5 answers of each system, scored by exact_match; 2 cut from the "
                    "left: too long"));
}

// What no system can get right is asked all the same, and said.
static void items_without_hope(void **state) {
    (void)state;
    char text[1024];
    test_write_text(test_path(test_dir, "hopeless.jsonl"),
                    "{\"question\": \"a\", \"answer\": {\"value\": \"b\"}}\n"
                    "{\"question\": \"\", \"answer\": {\"value\": \"\"}}\n"
                    "{\"question\": \"a\", \"answer\": {\"value\": \"?!\"}}\n");
    test_write_text(test_path(test_dir, "empty.jsonl"),
                    "{\"goal\": \"\", \"sol1\": \"a\", \"sol2\": \"\", \"label\": 1}\n");
    snprintf(text, sizeof text,
             "%soutput: @/hopeless\nsystems: [{name: base, model: @/base}]\nbudgets: []\ntasks:\n"
             "  - {name: q, file: @/hopeless.jsonl, max_tokens: 4}\n"
             "  - {name: c, kind: piqa, file: @/empty.jsonl}\n",
             common);
    test_write_config(test_path(test_dir, "hopeless.yaml"), text);
    EXPECT(0, test_path(test_dir, "hopeless.yaml"), "--no-ttft");
    if (!strstr(err, "/hopeless.jsonl:2: no accepted answer") ||
        !strstr(err, "with 2 of 3 items, which count as wrong"))
        fail_msg("no warning of questions in %s", err);
    if (!strstr(err, "/empty.jsonl:1: a choice is empty")) fail_msg("no warning of choices in %s", err);
}

// No sandbox, no programs: said before any question is asked.
static void programs_need_a_sandbox(void **state) {
    (void)state;
    test_write_config(test_path(test_dir, "code.yaml"), code_config);
    char *path = strdup(getenv("PATH"));
    setenv("PATH", test_dir, 1);
    EXPECT(1, test_path(test_dir, "code.yaml"), "--no-ttft", "-o", test_path(test_dir, "none"));
    setenv("PATH", path, 1);
    free(path);
    assert_non_null(strstr(err, "--unsafe-execution"));
    assert_int_equal(test_dir_count(test_path(test_dir, "none")), -1);
}

static int set_up(void **state) {
    test_dir_set_up(state);
    test_make_family(test_dir, 1024);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(policies_that_keep_all_are_the_base),
        cmocka_unit_test(all_kinds_together),
        cmocka_unit_test(questions_that_are_too_long),
        cmocka_unit_test(another_way_asks_anew),
        cmocka_unit_test(items_without_hope),
        cmocka_unit_test(programs_in_a_sandbox),
        cmocka_unit_test(programs_need_a_sandbox),
    };
    return cmocka_run_group_tests(tests, set_up, test_dir_tear_down);
}

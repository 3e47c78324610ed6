// Settings of an evaluation that cannot do what they say: kveval goes on, with a warning at the place where the key was
// set. KVEVAL names the program.
#include "tests/support/eval.h"
#include "tests/support/support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char out[1 << 16], err[1 << 16];

// Models with room for a program's problem.
static int set_up(void **state) {
    (void)state;
    test_dir_make(test_dir);
    test_make_family(test_dir, 512);
    test_write_config(
        test_path(test_dir, "doubts.yaml"),
        "output: @/out\ntokenizer: @/tokenizer.model\n"
        "systems:\n"
        "  - {name: base, model: @/base}\n"
        "  - {name: RP, model: @/base, pruning: random, keep: 0.5}\n"
        "  - {name: L, model: @/base, pruning: lazy, start: 1, end: 0.5}\n"
        "  - {name: KVP, base: @/base, aux: @/aux, predictor: @/predictor}\n"
        "tasks:\n"
        "  - {name: atlas, file: @/questions_trained.jsonl, limit: 3, max_tokens: 4}\n"
        "  - {name: sciq, kind: sciq, file: %/choices/sciq.jsonl}\n"
        "  - {name: code, kind: humaneval, file: %/code_problems.jsonl, limit: 2, max_tokens: 4}\n"
        "analysis: {corpus: @/corpus.h5, sequences: 2, seq_len: 16}\n");
    char *shard = strdup(test_path(test_dir, "corpus.h5")),
         *text = strdup(test_path(test_dir, "held_out.jsonl"));
    const char *const arguments[] = {getenv("KVDATA"),
                                     "tokenize",
                                     "-f",
                                     "-c0",
                                     "-m0",
                                     "-t",
                                     test_path(test_dir, "tokenizer.model"),
                                     "-o",
                                     shard,
                                     text,
                                     NULL};
    const int status = test_run(arguments, -1, out, err, sizeof out);
    free(shard);
    free(text);
    return status;
}

// A dry run with these settings: its warnings, and how often `text` is among them.
static int warnings(const char *set, const char *second, const char *text, int *n_warnings) {
    const char *const arguments[] = {
        getenv("KVEVAL"), test_path(test_dir, "doubts.yaml"), "--dry-run", "-s", set, "-s", second, NULL};
    const int status = test_run(arguments, -1, out, err, sizeof out);
    if (status != 0) fail_msg("%s %s: exit status %d: %s", set, second, status, err);
    int n = 0;
    *n_warnings = 0;
    for (const char *at = err; (at = strstr(at, "kveval: warning: ")); at++) ++*n_warnings;
    for (const char *at = err; (at = strstr(at, text)); at++) n++;
    return n;
}

static void test_each_once(void **state) {
    (void)state;
    static const char same[] = "seed=1";
    static const struct {
        const char *set, *second, *text; // NULL: no warning
    } cases[] = {
        {same, same, NULL},
        {"systems[1].keep=1", same,
         "-s systems[1].keep=1: key `systems[1].keep`: random pruning that keeps all of the prompt"},
        {"systems[2].end=1", same, "key `systems[2].end`: lazy pruning that keeps all of the prompt"},
        {"systems[1].keep=0.99", same, NULL},
        {"tasks[0].limit=500", same, "key `tasks[0].limit`: found 500, but "},
        {"tasks[0].limit=0", same, NULL},
        {"tasks[0].samples=5", same,
         "key `tasks[0].samples`: without effect: kind: triviaqa has no programs to draw and to run (those are "
         "of kind: humaneval"},
        {"tasks[1].timeout=5", same, "key `tasks[1].timeout`: without effect"},
        {"tasks[1].max_tokens=5", same,
         "key `tasks[1].max_tokens`: without effect: kind: sciq has no answers to write"},
        {"tasks[2].top_p=0.9", same, "key `tasks[2].top_p`: 0.9 without effect at temperature 0"},
        {"tasks[2].top_p=0.9", "tasks[2].temperature=0.5", NULL},
        {"tasks[2].samples=3", "tasks[2].k=[1, 3]", NULL},
        {"bootstrap=10", same,
         "key `bootstrap`: from 10 resamples no 95 % interval can be told, expected at least 40"},
        {"bootstrap=40", same, NULL},
        {"analysis.sequences=1000000", same, "key `analysis.sequences`: found 1000000, but "},
        {"picture.draw_published=true", same, "key `picture.draw_published`: without effect"},
        {"picture.draw_published=Off", same, NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int n_warnings;
        const int n =
            warnings(cases[i].set, cases[i].second, cases[i].text ? cases[i].text : "warning", &n_warnings);
        const int expected = cases[i].text != NULL;
        if (n != expected || n_warnings != expected)
            fail_msg("%s %s: expected %s, found %s", cases[i].set, cases[i].second,
                     cases[i].text ? cases[i].text : "no warning", err);
    }
}

// The words of a key in one configuration for kveval: merge keys, and truth values of YAML 1.1.
static void test_yaml_of_others(void **state) {
    (void)state;
    test_write_config(test_path(test_dir, "merged.yaml"),
                      "x-pair: &pair {base: @/base, aux: @/aux}\n"
                      "output: @/merged\ntokenizer: @/tokenizer.model\n"
                      "systems:\n"
                      "  - &base {name: base, model: @/base}\n"
                      "  - {<<: *pair, name: KVP, predictor: @/predictor}\n"
                      "  - {<<: *base, name: RP, pruning: random, keep: .5}\n"
                      "tasks:\n"
                      "  - &task {name: atlas, file: @/questions_trained.jsonl, limit: 3, max_tokens: 4}\n"
                      "  - {<<: *task, split: again, limit: 2}\n"
                      "picture: {draw_published: False}\n");
    const char *const arguments[] = {getenv("KVEVAL"), test_path(test_dir, "merged.yaml"), "--no-ttft", NULL};
    if (test_run(arguments, -1, out, err, sizeof out)) fail_msg("%s", err);
    assert_non_null(strstr(out, "atlas, again: 2 items"));
    assert_non_null(strstr(out, "RP"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_once),
        cmocka_unit_test(test_yaml_of_others),
    };
    return cmocka_run_group_tests(tests, set_up, test_dir_tear_down);
}

// {seed} in the paths of an evaluation: every one of them, and nowhere else.
#include "eval/config/config.h"

#include "tests/support/corpus.h"

#include <stdlib.h>
#include <string.h>

static const char evaluation[] =
    "output: runs/{seed}/eval\n"
    "tokenizer: 'tok{seed}.model'\n"
    "systems:\n"
    "  - {name: 'base {seed}', model: \"s{seed}/base\"}\n"
    "  - {name: kvp, base: \"s{seed}/base\", aux: \"s{seed}/aux\", predictor: \"s{seed}/maps\", tabulated: \"s{seed}/t\"}\n"
    "tasks:\n"
    "  - {name: q, split: '{seed}', file: \"q{seed}.jsonl\", shots: 1, shots_file: \"shots{seed}.jsonl\"}\n"
    "  - {name: t, kind: text, corpus: \"text{seed}.h5\"}\n"
    "  - {name: c, kind: custom, file: f, template: 'n {seed}', target: t}\n"
    "analysis: {corpus: \"text{seed}.h5\"}\n";

static void paths_have_the_seed(void **state) {
    (void)state;
    const char *path = test_path(test_dir, "eval.yaml");
    static const char *const overrides[] = {"seed=3"};
    kv_config *config;
    const kv_eval_config *e;
    kv_error err = {0};
    test_write_text(path, evaluation);
    if (kv_eval_config_load(path, overrides, 1, &config, &e, &err) != KV_OK) fail_msg("%s", err.message);
    assert_string_equal(e->output, "runs/3/eval");
    assert_string_equal(e->tokenizer, "tok3.model");
    assert_string_equal(e->systems[0].model, "s3/base");
    assert_string_equal(e->systems[1].base, "s3/base");
    assert_string_equal(e->systems[1].aux, "s3/aux");
    assert_string_equal(e->systems[1].predictor, "s3/maps");
    assert_string_equal(e->systems[1].tabulated, "s3/t");
    assert_string_equal(e->tasks[0].file, "q3.jsonl");
    assert_string_equal(e->tasks[0].shots_file, "shots3.jsonl");
    assert_string_equal(e->tasks[1].corpus, "text3.h5");
    assert_string_equal(e->analysis.corpus, "text3.h5");
    // What no path is stays: a name, a split, a field of the questions.
    assert_string_equal(e->systems[0].name, "base {seed}");
    assert_string_equal(e->tasks[0].split, "{seed}");
    assert_string_equal(e->tasks[2].template, "n {seed}");
    char *text = kv_config_text(config);
    assert_non_null(strstr(text, "s3/maps"));
    free(text);
    kv_config_free(config);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(paths_have_the_seed)};
    return cmocka_run_group_tests(tests, test_dir_set_up, test_dir_tear_down);
}

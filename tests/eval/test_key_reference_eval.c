// The tables of keys in eval/README.md against what kveval loads.
#include "tests/support/key_reference.h"

#include "eval/config/config.h"
#include "tests/support/corpus.h"

static kv_status load_evaluation(const char *path, const char *const *overrides, size_t n_overrides,
                                 kv_config **config, const void **data, kv_error *err) {
    const kv_eval_config *eval;
    const kv_status status = kv_eval_config_load(path, overrides, n_overrides, config, &eval, err);
    *data = eval;
    return status;
}

#define BASE "output: o\ntokenizer: t\nsystems:\n  - {name: base, model: m}\n"

static const char *const evaluations[] = {
    BASE "tasks: [{name: q, file: f}]\nbudgets: [0.5]\n",
    BASE "tasks: [{name: q, kind: humaneval, file: f}]\n",
    BASE "tasks: [{name: q, kind: humanevalplus, file: f}]\n",
    BASE "tasks: [{name: q, kind: mbpp, file: f}]\n",
    BASE "tasks: [{name: q, kind: mbppplus, file: f}]\n",
    BASE "tasks: [{name: q, kind: humaneval, file: f, k: [1]}]\n",
    BASE "tasks: [{name: q, kind: text, corpus: c}]\n",
    BASE "tasks: [{name: q, kind: custom, file: f, template: p, target: t}]\n",
    BASE "tasks: [{name: q, kind: custom, file: f, template: p, choices: [a, b], label: a}]\n",
    BASE
    "tasks: [{name: q, kind: custom, file: f, template: p, metric: choice, choices: [a, b], label: a}]\n",
    BASE "tasks: [{name: q, kind: custom, file: f, template: p, metric: regex, pattern: a}]\n",
    BASE "  - {name: p, base: m, aux: a, predictor: p}\ntasks: [{name: q, file: f}]\nanalysis: {corpus: c}\n"
         "picture: {published: triviaqa-openelm-1.1b}\n",
    BASE "  - {name: r, model: m, pruning: random, keep: 0.5}\ntasks: [{name: q, file: f}]\n",
    BASE "  - {name: l, model: m, pruning: lazy, start: 1, end: 0.25}\ntasks: [{name: q, file: f}]\n",
    BASE "  - {name: s, base: m, aux: a, pruning: speculative, keep: 0.5}\ntasks: [{name: q, file: f}]\n",
    "output: o\nsystems: [{name: base, model: m}]\n"
    "ttft: {prompt_tokens: 59, prompts: [128], batches: [8]}\n",
    NULL};

static void evaluations_are_described(void **state) {
    (void)state;
    assert_key_reference(&(key_reference){.readme = "eval/README.md",
                                          .heading = "## Every key of a configuration",
                                          .schema = &kv_eval_schema,
                                          .load = load_evaluation,
                                          .paths = kv_eval_paths,
                                          .examples = evaluations},
                         test_dir);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(evaluations_are_described)};
    return cmocka_run_group_tests(tests, test_dir_set_up, test_dir_tear_down);
}

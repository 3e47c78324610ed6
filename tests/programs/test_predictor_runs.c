// Every kind of predictor through all programs: kvtrain makes it, kvdata inspect tells what it is, kvrun and
// kveval use it, and what kveval says it costs is what it costs.
#include "tests/support/eval.h"
#include "tests/support/predictors/paper.h"

#include "core/flops.h"
#include "data/checkpoint/checkpoint.h"
#include "eval/results/results.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static char out[1 << 16], err[1 << 16];

static const char *in_dir(const char *name) {
    return test_path(test_dir, name);
}

static void run(const char *program, const char *const *arguments) {
    const char *all[32] = {getenv(program)};
    assert_non_null(all[0]);
    for (int i = 0; arguments[i]; i++) all[i + 1] = arguments[i];
    const int status = test_run(all, -1, out, err, sizeof out);
    if (status != 0) fail_msg("%s ended with %d: %s", program, status, err);
}
#define RUN(program, ...) run(program, (const char *const[]){__VA_ARGS__, NULL})

static int set_up(void **state) {
    if (test_family_set_up(state)) return -1;
    RUN("KVDATA", "tokenize", "--min-chars", "0", "--min-tokens", "0", "--tokenizer",
        in_dir("tokenizer.model"), "--out", in_dir("train.h5"), in_dir("train.jsonl"));
    char yaml[2048];
    snprintf(yaml, sizeof yaml,
             "task: kvp\noutput: %s/run\nbase: %s/base\naux: %s/aux\n"
             "data: {train: %s/train.h5, seq_len: 24, batch_size: 4}\n"
             "predictor: {init: least_squares, least_squares_tokens: 2000}\n"
             "train: {steps: 6, lr: 1e-3, checkpoint_every: 3, log_every: 1}\n",
             test_dir, test_dir, test_dir, test_dir);
    test_write_text(in_dir("kvp.yaml"), yaml);
    return 0;
}

// What a number behind a word of a text is.
static double number_behind(const char *text, const char *word) {
    const char *at = strstr(text, word);
    if (!at) fail_msg("no `%s` in %s", word, text);
    return strtod(at + strlen(word), NULL);
}

static kv_results read_results(const char *path) {
    kv_results results;
    kv_error error = {0};
    if (kv_results_read_h5(path, &results, &error)) fail_msg("%s", error.message);
    return results;
}

// The family's own systems, with this predictor in the last one.
static void evaluate(kv_predictor *predictor, const kv_model_spec *base, const kv_model_spec *aux) {
    char with_aux[256], with_predictor[256];
    snprintf(with_aux, sizeof with_aux, "systems[2].aux=%s", in_dir("run/final/aux"));
    snprintf(with_predictor, sizeof with_predictor, "systems[2].predictor=%s", in_dir("run/final/predictor"));
    RUN("KVEVAL", in_dir("eval.yaml"), "-o", in_dir("evaluated"), "-s", with_aux, "-s", with_predictor);
    kv_results r = read_results(in_dir("evaluated/results.h5"));
    const double alone = (double)kv_flops_prefill(base, 20),
                 predicted = (double)kv_flops_kvp_prefill(base, aux, predictor, 20);
    const double *flops = r.timings[0].flops;
    assert_float_equal(flops[0] / flops[2], alone / predicted, 1e-9);
    assert_float_equal(r.systems[2].paper_reduction, kv_paper_reduction(base, aux), 1e-12);
    kv_results_free(&r);
}

static void a_kind(const char *predictor_keys, test_kind kind, const char *inspected) {
    kv_model_spec base, aux;
    kv_predictor *predictor = NULL;
    kv_error error = {0};
    RUN("KVTRAIN", in_dir("kvp.yaml"), "--force", "-s", predictor_keys);
    // Of the first layer's keys, in percent.
    const double explained = number_behind(err, kind.aux_layers == 2 ? " 0+1  " : " 0          0  ");
    assert_true(explained > 0 && explained <= 100);
    if (kv_checkpoint_spec(in_dir("base"), &base, &error) ||
        kv_checkpoint_spec(in_dir("aux"), &aux, &error) ||
        kv_predictor_load(in_dir("run/final/predictor"), &base, &aux, NULL, NULL, &predictor, &error))
        fail_msg("%s", error.message);
    assert_true(test_is_kind(predictor, kind));
    RUN("KVDATA", "inspect", in_dir("run/final/predictor"));
    if (!strstr(out, inspected)) fail_msg("expected %s in %s", inspected, out);
    RUN("KVRUN", "--base", in_dir("base"), "--aux", in_dir("run/final/aux"), "--predictor",
        in_dir("run/final/predictor"), "--tokenizer", in_dir("tokenizer.model"), "--max-tokens", "3", "Who");
    evaluate(predictor, &base, &aux);
    kv_predictor_free(predictor);
}

static void low_rank(void **state) {
    (void)state;
    a_kind("predictor.rank=4", (test_kind){4, 1}, "rank         4");
}

static void two_layers(void **state) {
    (void)state;
    a_kind("predictor.aux_layers=2", (test_kind){0, 2}, "mapping      0+1 0+1 1+0");
}

static void low_rank_of_two_layers(void **state) {
    (void)state;
    a_kind("predictor={rank: 5, aux_layers: 2}", (test_kind){5, 2},
           "layers 0 to 0: [8, 5] · [5, 18] for keys and for values");
}

// Where not said otherwise files are as they always were.
static void the_usual_kind(void **state) {
    (void)state;
    a_kind("predictor.rank=0", (test_kind){0, 1}, "rank         full");
    char *text = test_read_text(in_dir("run/final/predictor/predictor.json"));
    assert_null(strstr(text, "\"rank\""));
    assert_null(strstr(text, "\"aux_layers\""));
    free(text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(low_rank),
        cmocka_unit_test(two_layers),
        cmocka_unit_test(low_rank_of_two_layers),
        cmocka_unit_test(the_usual_kind),
    };
    return cmocka_run_group_tests(tests, set_up, test_dir_tear_down);
}

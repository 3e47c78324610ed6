// kveval curve as its users meet it: files, going on, predictors that kvrun takes, and what is refused. KVEVAL, KVRUN and KVTRAIN name the programs.
#include "tests/support/eval.h"

#include "data/file/csv.h"
#include "data/file/json.h"

#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char out[1 << 16], err[1 << 16];

static const char *in_dir(const char *name) {
    return test_path(test_dir, name);
}

enum { MOST = 48 };

// A curve of the family's base on the text that its tokenizer was trained on, and `more` (NULL behind the last).
static int curve(const char *output, const char *const *more) {
    const char *all[MOST] = {getenv("KVEVAL"), "curve",
                             "--text",         in_dir("train.jsonl"),
                             "--tokenizer",    in_dir("tokenizer.model"),
                             "--window",       "48",
                             "--prompt",       "36",
                             "--windows",      "8",
                             "--tokens",       "2000",
                             "--out",          in_dir(output)};
    int n = 0, given = 0;
    while (all[n]) n++;
    for (int i = 0; more[i]; i++) {
        given |= !strcmp(more[i], "--base");
        all[n++] = more[i];
    }
    if (!given) all[n++] = "--base", all[n++] = in_dir("base");
    return test_run(all, -1, out, err, sizeof out);
}

#define curve(output, ...) curve(output, (const char *const[]){__VA_ARGS__, NULL})

static void expect(int status, int expected, const char *part) {
    if (status != expected || !strstr(err, part))
        fail_msg("%d, expected %d and '%s': %s", status, expected, part, err);
}

static double number(const kv_csv_table *t, int64_t row, const char *column) {
    const char *cell = kv_csv_cell(t, row, kv_csv_column(t, column));
    return *cell ? atof(cell) : NAN;
}

static void files(void **state) {
    (void)state;
    kv_csv_table t;
    kv_error error = {0};
    json_t *root;
    if (curve("curve", "--aux", in_dir("aux"), "--repeats", "3")) fail_msg("%s", err);
    assert_non_null(strstr(out, "of the way"));
    assert_non_null(strstr(out, "2 of 3"));
    if (kv_csv_read(in_dir("curve/curve.csv"), &t, &error)) fail_msg("%s", error.message);
    assert_int_equal(t.n_rows, 4);
    static const char *const rows[] = {"base", "aux", "1 of 3", "2 of 3"};
    for (int64_t r = 0; r < 4; r++) {
        assert_string_equal(kv_csv_cell(&t, r, 0), rows[r]);
        assert_true(number(&t, r, "tail_nll_low") <= number(&t, r, "tail_nll"));
        assert_true(fabs(exp(number(&t, r, "whole_nll")) / number(&t, r, "whole_perplexity") - 1) < 1e-6);
        assert_true(number(&t, r, "ttft_seconds") > 0);
        const double way = (number(&t, 1, "tail_nll") - number(&t, r, "tail_nll")) /
                           (number(&t, 1, "tail_nll") - number(&t, 0, "tail_nll"));
        const double told = number(&t, r, "tail_of_the_way");
        if (number(&t, 1, "tail_nll") > number(&t, 0, "tail_nll"))
            assert_true(fabs(told - way) < 1e-4 * (1 + fabs(way)));
        else
            assert_true(isnan(told));
    }
    assert_true(number(&t, 2, "flops_reduction") > number(&t, 3, "flops_reduction"));
    assert_true(number(&t, 3, "prefix_layers") == 2 && isnan(number(&t, 0, "prefix_layers")));
    assert_true(isnan(number(&t, 1, "keys_explained")) && number(&t, 2, "keys_explained") < 1);
    assert_true(number(&t, 3, "keys_explained") > 0.999 && number(&t, 3, "values_explained") > 0.999);
    // Of a layer that is not far the keys and values are a linear map of what the maps read.
    assert_true(fabs(number(&t, 3, "whole_nll") - number(&t, 0, "whole_nll")) < 0.01);
    if (kv_json_read(in_dir("curve/curve.json"), 1 << 20, &root, &error)) fail_msg("%s", error.message);
    assert_int_equal(json_array_size(json_object_get(root, "systems")), 4);
    assert_int_equal(json_integer_value(json_object_get(json_object_get(root, "settings"), "tokens")), 2000);
    json_decref(root);
    kv_csv_table_free(&t);
    const char *const made[] = {"results.csv", "results.h5",  "pareto.gp",
                                "eval.yaml",   "held_out.h5", "prefix_01/predictor/predictor.json"};
    for (size_t i = 0; i < sizeof made / sizeof *made; i++) {
        char path[256];
        snprintf(path, sizeof path, "%s/%s", in_dir("curve"), made[i]);
        if (access(path, R_OK)) fail_msg("no %s", path);
    }
}

static void goes_on(void **state) {
    (void)state;
    char *before = test_read_text(in_dir("curve/curve.csv")), *after;
    if (curve("curve", "--aux", in_dir("aux"), "--no-ttft")) fail_msg("%s", err);
    assert_non_null(strstr(err, "8 answered before"));
    assert_null(strstr(err, "sums of")); // nothing is fitted again
    assert_int_equal(unlink(in_dir("curve/prefix_02/fit.json")), 0);
    if (curve("curve", "--no-ttft")) fail_msg("%s", err);
    assert_non_null(strstr(err, "sums of 1 depth"));
    assert_non_null(strstr(err, "8 answered before")); // the same weights
    after = test_read_text(in_dir("curve/curve.csv"));
    assert_non_null(strstr(after, "2 of 3"));
    free(before), free(after);
    // eval.yaml is a configuration like any other.
    const char *const again[] = {getenv("KVEVAL"), in_dir("curve/eval.yaml"), "--no-ttft", NULL};
    if (test_run(again, -1, out, err, sizeof out)) fail_msg("%s", err);
    assert_non_null(strstr(err, "8 answered before"));
}

static void killed(void **state) {
    (void)state;
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        if (!freopen("/dev/null", "w", stderr) || !freopen("/dev/null", "w", stdout)) _exit(3);
        execl(getenv("KVEVAL"), "kveval", "curve", "--base", in_dir("base"), "--text", in_dir("train.jsonl"),
              "--tokenizer", in_dir("tokenizer.model"), "--window", "48", "--prompt", "36", "--windows", "8",
              "--tokens", "2000", "--out", in_dir("killed"), (char *)NULL);
        _exit(3);
    }
    usleep(150000); // wherever that is
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    if (curve("killed", "--no-ttft")) fail_msg("%s", err);
    assert_non_null(strstr(out, "2 of 3"));
}

static void kvrun_takes_them(void **state) {
    (void)state;
    const char *const run[] = {getenv("KVRUN"),
                               "--base",
                               in_dir("base"),
                               "--tokenizer",
                               in_dir("tokenizer.model"),
                               "--predictor",
                               in_dir("curve/prefix_01/predictor"),
                               "-n",
                               "4",
                               "Question",
                               NULL};
    if (test_run(run, -1, out, err, sizeof out)) fail_msg("%s", err);
}

// With no step what it leaves is what it began with; and with steps it goes on from there.
static void kvtrain_goes_on(void **state) {
    (void)state;
    test_write_config(in_dir("go.yaml"),
                      "task: kvp\noutput: @/go\nbase: @/base\naux: prefix\nprefix_layers: 1\n"
                      "data: {train: @/curve/held_out.h5, seq_len: 32, batch_size: 2}\n"
                      "predictor: {init: checkpoint, path: @/curve/prefix_01/predictor}\n"
                      "train: {steps: 0, lr: 1.0e-3}\n");
    const char *const train[] = {getenv("KVTRAIN"), in_dir("go.yaml"), NULL};
    if (test_run(train, -1, out, err, sizeof out)) fail_msg("%s", err);
    const char *const differ[] = {"/usr/bin/cmp", in_dir("go/final/predictor/predictor.safetensors"),
                                  in_dir("curve/prefix_01/predictor/predictor.safetensors"), NULL};
    if (test_run(differ, -1, out, err, sizeof out)) fail_msg("%s", out);
    const char *const two[] = {getenv("KVTRAIN"), in_dir("go.yaml"), "-s", "train.steps=2", "-f", NULL};
    if (test_run(two, -1, out, err, sizeof out)) fail_msg("%s", err);
    const char *const other[] = {getenv("KVTRAIN"), in_dir("go.yaml"), "-s", "prefix_layers=2", "-f", NULL};
    expect(test_run(other, -1, out, err, sizeof out), 1, "other predictors than the config describes");
    // A run that goes on does not need what it began with.
    const char *const moved[] = {"/bin/mv", in_dir("go/final/predictor"), in_dir("begun"), NULL};
    static const char *const more[] = {"train.steps=1", "train.steps=3"};
    if (test_run(moved, -1, out, err, sizeof out)) fail_msg("%s", err);
    test_write_config(in_dir("more.yaml"), "extends: go.yaml\noutput: @/more\npredictor: {path: @/begun}\n");
    for (int i = 0; i < 2; i++) {
        const char *const step[] = {getenv("KVTRAIN"), in_dir("more.yaml"), "-s",
                                    more[i],           i ? "-r" : "-f",     NULL};
        const char *const lose[] = {"/bin/rm", "-r", in_dir("begun"), NULL};
        if (test_run(step, -1, out, err, sizeof out)) fail_msg("%s", err);
        if (i == 0 && test_run(lose, -1, out, err, sizeof out)) fail_msg("%s", err);
    }
    const char *const none[] = {getenv("KVTRAIN"),
                                in_dir("go.yaml"),
                                "-n",
                                "-o",
                                in_dir("fresh"),
                                "-s",
                                "predictor.path=nowhere",
                                NULL};
    if (test_run(none, -1, out, err, sizeof out) != 1 || !strstr(err, "key `predictor.path`: "))
        fail_msg("%s", err);
    const char *const lost[] = {
        getenv("KVTRAIN"), in_dir("go.yaml"), "-s", "predictor.init=random", "-f", NULL};
    expect(test_run(lost, -1, out, err, sizeof out), 1, "predictor.path");
}

static void refused(void **state) {
    (void)state;
    test_write_text(in_dir("short.txt"), "too short");
    mkdir(in_dir("other"), 0777);
    test_write_text(in_dir("other/file"), "mine");
    expect(curve("new", "--depths", "3"), 1,
           "--depths: found 3, expected all, some, or numbers of layers from 1 to 2");
    expect(curve("new", "--depths", "1,x"), 1, "found 1,x");
    expect(curve("new", "--text", in_dir("short.txt")), 1, "expected at least 144");
    expect(curve("new", "--held-out", in_dir("train.jsonl")), 1, "expected another one");
    expect(curve("new", "--base", in_dir("nothing")), 1, "nothing");
    expect(curve("new", "--prompt", "48"), 2, "less than the window's 48");
    expect(curve("new", "--window", "200"), 1, "--window: found 200 tokens, expected at most the context");
    expect(curve("other", "--depths", "1"), 1, "found files of something else");
    expect(curve("curve", "--tokens", "1000"), 1, "found another curve");
    expect(curve("curve", "--ridge", "0.1"), 1, "ridge 0.001");
    if (curve("singular", "--ridge", "0", "--tokens", "3") != 1 ||
        !strstr(err, "--ridge 0, --tokens 3: least squares for base layer"))
        fail_msg("%s", err);
    const char *const bare[] = {getenv("KVEVAL"), "curve",       "--base",
                                in_dir("base"),   "--text",      in_dir("train.jsonl"),
                                "--out",          in_dir("new"), NULL};
    expect(test_run(bare, -1, out, err, sizeof out), 1, "has no tokenizer");
    assert_int_not_equal(access(in_dir("new"), F_OK), 0);
    if (curve("new", "--dry-run")) fail_msg("%s", err);
    assert_non_null(strstr(out, "memory"));
    assert_non_null(strstr(out, "to judge"));
    assert_int_not_equal(access(in_dir("new"), F_OK), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files),           cmocka_unit_test(goes_on),
        cmocka_unit_test(killed),          cmocka_unit_test(kvrun_takes_them),
        cmocka_unit_test(kvtrain_goes_on), cmocka_unit_test(refused),
    };
    return cmocka_run_group_tests(tests, test_family_set_up, test_dir_tear_down);
}

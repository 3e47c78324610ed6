// kvtrain --sweep with `seeds`: every run and what it stands on trained with each, asked with each, one row of means.
#include "tests/support/sweep.h"

#include "core/spread.h"
#include "data/file/csv.h"
#include "data/file/path.h"
#include "tests/support/corpus.h"

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// A small model of each seed's own, another that all share, and predictors of both.
static const char own_yaml[] = "extends: alone.yaml\noutput: own/s{seed}\ntrain: {steps: 3}\n";
static const char shared_yaml[] = "extends: alone.yaml\noutput: shared\nseed: 5\ntrain: {steps: 2}\n";
static const char predictor_yaml[] = "extends: pair.yaml\naux: own/s{seed}/final/model\ntrain: {steps: 4}\n";
static const char asked_yaml[] =
    "tokenizer: family/tokenizer.model\n"
    "systems:\n"
    "  - {name: base, model: family/base}\n"
    "  - {name: own, model: 'own/s{seed}/final/model'}\n"
    "tasks:\n"
    "  - {name: atlas, split: trained, file: family/questions_trained.jsonl, limit: 6, max_tokens: 3}\n"
    "  - {name: text, kind: text, corpus: family/train.jsonl, window: 32, prompt: 24, limit: 4}\n"
    "ttft: {prompt_tokens: 20, batch_size: 2, repeats: 1}\n"
    "picture: {line: own}\n";

static int set_up(void **state) {
    if (sweep_setup(state)) return -1;
    put_file("own.yaml", own_yaml);
    put_file("shared.yaml", shared_yaml);
    put_file("predictor.yaml", predictor_yaml);
    put_file("asked.yaml", asked_yaml);
    return 0;
}

static kv_csv_table read_table(const char *path) {
    kv_csv_table table;
    kv_error err = {0};
    if (kv_csv_read(path, &table, &err)) fail_msg("%s", err.message);
    return table;
}

static const char *cell(const kv_csv_table *table, int64_t row, const char *column) {
    assert_true(kv_csv_column(table, column) >= 0);
    return kv_csv_cell(table, row, kv_csv_column(table, column));
}

// ---- Expansion -----------------------------------------------------------------------------------------

static void test_expansion(void **state) {
    (void)state;
    static const char *const rows[] = {
        "shared (all seeds)  ", "own/s1 ",           "own/s2 ",           "ours-kl=0-seed=1 ",
        "ours-kl=0-seed=2 ",    "ours-kl=1-seed=1 ", "ours-kl=1-seed=2 ", "late-kl=0-rank=1-seed=1 "};
    put_sweep(
        "names.yaml",
        "output: names\nprepare: [shared.yaml, own.yaml]\ntrain: predictor.yaml\n"
        "grid: {loss.kl: [0, 1]}\nseeds: 2\n"
        "arms: [{name: ours}, {name: late, set: {predictor.map: low_rank}, grid: {predictor.rank: [1]}}]\n");
    sweep(0, "names.yaml", ARGS("--dry-run"));
    expect_said("8 runs in names, seeds 1, 2\n");
    const char *at = train_output();
    for (int i = 0; i < 8; i++) {
        const char *next = strstr(at, rows[i]);
        if (!next) fail_msg("expected %s behind\n%s", rows[i], at);
        at = next;
    }
    // Of a pattern's seeds alone is what they stand on trained.
    sweep(0, "names.yaml", ARGS("--dry-run", "--only", "ours-*-seed=2"));
    expect_line("own/s1 ", "left out", true);
    expect_line("own/s2 ", "to do", true);
    expect_line("ours-kl=0-seed=1 ", "left out", true);
    expect_said("4 to be trained"); // shared, own/s2 and two runs
    // A list; alone, the configuration's name is the run's.
    put_sweep("alone.yaml", "output: x\ntrain: pair.yaml\nseeds: [7, 0x10]\n");
    sweep(0, "alone.yaml", ARGS("--dry-run"));
    expect_said("2 runs in x, seeds 7, 16\n");
    expect_said("\npair-seed=7 ");
    expect_said("\npair-seed=16 ");
}

static void test_mistakes(void **state) {
    (void)state;
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"seeds: 0\n",
         "m.yaml:3: key `seeds`: found 0, expected a whole number from 1 to 1000, or a list of seeds"},
        {"seeds: many\n", "m.yaml:3: key `seeds`: found many"},
        {"seeds: {a: 1}\n", "m.yaml:3: key `seeds`: found a group of keys"},
        {"seeds: []\n", "m.yaml:3: key `seeds`: found a list of 0, expected 1 to 1000 seeds"},
        {"seeds: [1, 2,\n  1]\n", "m.yaml:4: key `seeds`: found 1 twice"},
        {"seeds: [1, -2]\n", "m.yaml:3: key `seeds`: found -2, expected whole numbers from 0"},
        {"seeds: 2\nset: {seed: 3}\n", "m.yaml:4: key `seed`: found beside `seeds` on line 3"},
        {"seeds: 2\ngrid: {seed: [3]}\n", "m.yaml:4: key `seed`: found beside `seeds` on line 3"},
        {"seeds: 2\narms: [{name: a, set: {seed: 3}}]\n", "m.yaml:4: key `seed`: found beside `seeds`"},
        {"seeds: 300\n", "found more than 250 runs"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[256];
        snprintf(text, sizeof text, "output: m\ntrain: pair.yaml\n%s", cases[i].text);
        put_sweep("m.yaml", text);
        train_refuse(cases[i].message, ARGS("--sweep", "sweeps/m.yaml"));
        assert_false(kv_path_exists("m"));
    }
    put_sweep("m.yaml", "output: m\ntrain: pair.yaml\nseeds: 2\n");
    train_refuse("-s seed=3: key `seed`: varies by `seeds` on line 3",
                 ARGS("--sweep", "sweeps/m.yaml", "-s", "seed=3"));
    // Each seed's aux would be written over by the next.
    put_file("clash.yaml", "extends: own.yaml\noutput: clash\nmodel: {path: 'family/aux{seed}'}\n");
    put_sweep("m.yaml", "output: m\nprepare:\n  - ../clash.yaml\ntrain: pair.yaml\nseeds: [4, 6]\n");
    train_refuse("m.yaml:3: key `prepare`: clash.yaml: two seeds would write the same output, clash, but "
                 "`model.path` is `family/aux4` with seed 4: expected {seed} in `output`, too",
                 ARGS("--sweep", "sweeps/m.yaml"));
}

// ---- All of it -----------------------------------------------------------------------------------------

// "56.8 ± 1.2 %" of the rows of table.csv that are of one run, task and metric, as the terminal has it.
static void expect_mean(const kv_csv_table *table, const char *run, const char *metric, int64_t n,
                        const char *format, double unit) {
    double values[8];
    int64_t found = 0;
    for (int64_t r = 0; r < table->n_rows; r++)
        if (!strcmp(cell(table, r, "run"), run) && !strcmp(cell(table, r, "metric"), metric))
            values[found++] = unit * strtod(cell(table, r, "accuracy"), NULL);
    assert_int_equal(found, n);
    const kv_spread spread = kv_spread_of(values, found);
    char text[64], begin[64], title[64];
    snprintf(title, sizeof title, ": %s; ", metric);
    snprintf(text, sizeof text, format, spread.mean, spread.sd);
    snprintf(begin, sizeof begin, "\n%s  ", run);
    const char *block = strstr(train_output(), title);
    assert_non_null(block);
    const char *line = strstr(block, begin);
    assert_non_null(line);
    char whole[512];
    snprintf(whole, sizeof whole, "%.*s", (int)strcspn(line + 1, "\n"), line + 1);
    if (!strstr(whole, text)) fail_msg("expected %s in\n%s", text, whole);
}

static const char seeds_yaml[] = "output: swept\nprepare: [own.yaml]\ntrain: predictor.yaml\n"
                                 "grid: {loss.kl: [0, 1]}\nseeds: 2\neval: asked.yaml\n";

static void test_table(void **state) {
    (void)state;
    put_sweep("seeds.yaml", seeds_yaml);
    sweep(0, "seeds.yaml", ARGS(NULL));
    expect_said("own.yaml, seed=2, which the runs of this seed start from (2 of 2)");
    expect_said("run 2 of 4, kl=0-seed=2");
    expect_said("atlas, trained: exact_match; mean ± standard deviation over seeds");
    // Each stands on its own seed's.
    for (int seed = 1; seed <= 2; seed++) {
        char path[64], text[64];
        snprintf(path, sizeof path, "swept/kl=1-seed=%d/config.yaml", seed);
        snprintf(text, sizeof text, "aux: own/s%d/final/model", seed);
        char *config = test_read_text(path);
        assert_non_null(strstr(config, text));
        free(config);
    }
    assert_false(same_file("own/s1/final/model/model.safetensors", "own/s2/final/model/model.safetensors"));
    kv_csv_table table = read_table("swept/table.csv");
    static const char *const columns[] = {"run", "arm", "loss.kl", "seed", "task"};
    for (int i = 0; i < 5; i++) assert_string_equal(table.names[i], columns[i]);
    // Two systems and two runs, each with two seeds, at one metric and six.
    assert_int_equal(table.n_rows, 4 * 2 * 6);
    assert_string_equal(cell(&table, 0, "run"), "base");
    assert_string_equal(cell(&table, 0, "seed"), "1");
    assert_string_equal(cell(&table, 12, "seed"), "2");
    assert_string_equal(cell(&table, 24, "run"), "kl=0");
    assert_string_equal(cell(&table, 24, "seed"), "1");
    assert_string_equal(cell(&table, 30, "run"), "kl=0");
    assert_string_equal(cell(&table, 30, "seed"), "2");
    expect_mean(&table, "kl=0", "exact_match", 2, "%.1f ± %.1f %%", 100);
    expect_mean(&table, "kl=1", "tail_nll", 2, "%.4f ± %.4f", 1);
    expect_mean(&table, "own", "whole_perplexity", 2, "%.4f ± %.4f", 1);
    kv_csv_table_free(&table);
    // kveval seeds says the same, and more.
    kv_csv_table means = read_table("swept/seeds.csv");
    assert_int_equal(means.n_rows, 4 * 6);
    for (int64_t r = 0; r < means.n_rows; r++) assert_string_equal(cell(&means, r, "n"), "2");
    assert_string_equal(cell(&means, 7, "system"), "own");
    assert_string_equal(cell(&means, 7, "metric"), "tail_nll");
    assert_string_equal(cell(&means, 7, "way_mean"), "0"); // picture.line of the eval file
    kv_csv_table_free(&means);
    kv_csv_table tests = read_table("swept/significance.csv");
    for (int64_t r = 0; r < tests.n_rows; r++) {
        if (strcmp(cell(&tests, r, "system"), "kl=1") || strcmp(cell(&tests, r, "metric"), "tail_nll"))
            continue;
        char p[32];
        snprintf(p, sizeof p, "  %.3f  ", strtod(cell(&tests, r, "p_seeds"), NULL));
        assert_string_equal(cell(&tests, r, "against"), "base");
        const char *line = strstr(strstr(train_output(), ": tail_nll; "), "\nkl=1  ");
        char whole[512];
        snprintf(whole, sizeof whole, "%.*s", (int)strcspn(line + 1, "\n"), line + 1);
        if (!strstr(whole, p)) fail_msg("expected %s in\n%s", p, whole);
    }
    kv_csv_table_free(&tests);
    assert_true(kv_path_exists("swept/pareto.gp"));
    assert_true(kv_path_exists("swept/eval/seed=2/results.h5"));
    assert_false(kv_path_exists("swept/results.csv"));
    char *list = test_read_text("swept/sweep.yaml");
    assert_non_null(strstr(list, "row: \"kl=1\"\n    seed: 2"));
    free(list);
    assert_nothing_half_written();
    // Again: nothing is trained, nothing asked.
    sweep(0, "seeds.yaml", ARGS(NULL));
    expect_said("4 of 4 runs are done already");
    expect_line("kl=1 on atlas trained: 6/6", ", 6 answered before", true);
    // Without kveval the means are those of what is there.
    sweep(0, "seeds.yaml", ARGS("--no-eval"));
    expect_said("atlas, trained: exact_match; mean ± standard deviation over seeds");
    expect_said("\nmade by kvtrain ");
    assert_true(kv_path_exists("swept/made_by.json"));
    // For a program: means, and each run by itself.
    sweep(0, "seeds.yaml", ARGS("--no-eval", "--format", "csv"));
    expect_said("\nsweep,atlas,trained,exact_match,higher,1,kl=1,2,");
    expect_said("\nsweep_seeds,atlas,trained,exact_match,higher,1,kl=1,,");
}

// One seed of one run is missing: its mean is that of the others.
static void test_missing(void **state) {
    (void)state;
    put_sweep("missing.yaml",
              "output: missing\nprepare: [own.yaml]\ntrain: predictor.yaml\n"
              "arms: [{name: a}, {name: b, set: {loss.kl: 1}}]\nseeds: 3\neval: asked.yaml\n");
    sweep(0, "missing.yaml", ARGS("--only", "*-seed=1"));
    assert_false(kv_path_exists("own/s3"));
    assert_false(kv_path_exists("missing/eval/seed=2"));
    expect_said("a: without seed 2, which is not trained\n");
    expect_not_said(" ± 0");
    kv_error err = {0};
    assert_int_equal(kv_remove_tree("own", &err), KV_OK);
    assert_int_equal(kv_remove_tree("missing", &err), KV_OK);
    sweep(0, "missing.yaml", ARGS("--only", "?-seed=[13]", "--jobs", "2"));
    // Two at a time, each with a log of its own.
    expect_said("own.yaml, seed=3, which the runs of this seed start from (3 of 3)");
    assert_false(same_file("own/s1/final/model/model.safetensors", "own/s3/final/model/model.safetensors"));
    char *log = test_read_text("missing/logs/prepare-own.yaml-seed=3.log");
    assert_non_null(strstr(log, "train: 3/3"));
    free(log);
    assert_false(kv_path_exists("own/s2"));
    // A run that cannot be: something else is in its way.
    put_file("missing/b-seed=2", "no directory\n");
    sweep(1, "missing.yaml", ARGS(NULL));
    expect_said("b: without seed 2, ");
    kv_csv_table means = read_table("missing/seeds.csv");
    int64_t n_two = 0;
    for (int64_t r = 0; r < means.n_rows; r++) {
        const bool short_one = !strcmp(cell(&means, r, "system"), "b");
        assert_string_equal(cell(&means, r, "n"), short_one ? "2" : "3");
        assert_string_equal(cell(&means, r, "seeds"), short_one ? "1 3" : "1 2 3");
        n_two += short_one;
    }
    assert_int_equal(n_two, 6);
    kv_csv_table_free(&means);
}

static void test_stopped(void **state) {
    (void)state;
    put_sweep("long.yaml", "output: long\ntrain: pair.yaml\nseeds: [3, 9]\n"
                           "set: {train.steps: 30, train.checkpoint_every: 12, data.batch_size: 96}\n");
    const pid_t pid = train_start(ARGS("--sweep", "sweeps/long.yaml"), 0);
    train_wait_for_file(pid, "long/pair-seed=9/metrics.jsonl", 1000);
    assert_int_equal(kill(pid, SIGINT), 0);
    assert_int_equal(train_finish(pid), 130);
    assert_true(kv_path_exists("long/pair-seed=3/final"));
    assert_false(kv_path_exists("long/pair-seed=9/final"));
    sweep(0, "long.yaml", ARGS(NULL));
    expect_said("run 1 of 1, pair-seed=9, from step ");
    expect_said("not evaluated\n");
    expect_line("pair  ", " 2  ", true); // both
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_expansion), cmocka_unit_test(test_mistakes),
                                       cmocka_unit_test(test_table), cmocka_unit_test(test_missing),
                                       cmocka_unit_test(test_stopped)};
    return cmocka_run_group_tests(tests, set_up, train_teardown);
}

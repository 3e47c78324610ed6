// kvtrain --sweep as its users see it: what a file is expanded to, trainings that are stopped, fail or
// change, and the table that is left. On a family of random models and text that counts upwards.
#include "data/file/csv.h"
#include "data/file/path.h"
#include "tests/support/eval.h"
#include "tests/support/sweep.h"

#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

// ---- Expansion -----------------------------------------------------------------------------------------

static const char product_yaml[] = "output: product\n"
                                   "train: pair.yaml\n"
                                   "set: {train.steps: 2, loss.kl: 1}\n"
                                   "grid:\n"
                                   "  loss.consistency: [0, auto]\n"
                                   "  predictor:\n"
                                   "    - {mapping: explicit, layers: [0, 1, 1]}\n"
                                   "    - {mapping: separate}\n"
                                   "arms:\n"
                                   "  - {name: plain}\n"
                                   "  - name: ours\n"
                                   "    set: {loss.kl: 3}\n"
                                   "    grid: {train.lr: [1e-3, 2e-3]}\n";

static void test_names_and_order(void **state) {
    (void)state;
    static const char *const names[] = {
        "plain-consistency=0-mapping=explicit-layers=0.1.1",
        "plain-consistency=0-mapping=separate",
        "plain-consistency=auto-mapping=explicit-layers=0.1.1",
        "plain-consistency=auto-mapping=separate",
        "ours-consistency=0-mapping=explicit-layers=0.1.1-lr=1e-3",
        "ours-consistency=0-mapping=explicit-layers=0.1.1-lr=2e-3",
        "ours-consistency=0-mapping=separate-lr=1e-3",
        "ours-consistency=0-mapping=separate-lr=2e-3",
        "ours-consistency=auto-mapping=explicit-layers=0.1.1-lr=1e-3",
        "ours-consistency=auto-mapping=explicit-layers=0.1.1-lr=2e-3",
        "ours-consistency=auto-mapping=separate-lr=1e-3",
        "ours-consistency=auto-mapping=separate-lr=2e-3",
    };
    put_sweep("product.yaml", product_yaml);
    sweep(0, "product.yaml", ARGS("--dry-run"));
    expect_said("sweeps/product.yaml: 12 runs in product");
    expect_said("12 to be trained, at least ");
    const char *at = train_output();
    for (int i = 0; i < 12; i++) {
        char row[128];
        snprintf(row, sizeof row, "\n%s ", names[i]);
        const char *next = strstr(at, row);
        if (!next) fail_msg("expected %s behind\n%s", names[i], at);
        at = next + 1;
    }
    assert_null(strchr(strchr(at, '\n') + 1, '=')); // no thirteenth
    assert_false(kv_path_exists("product"));
    sweep(0, "product.yaml", ARGS("--dry-run", "--only", "plain-*", "-o", "elsewhere"));
    expect_said("12 runs in elsewhere");
    expect_said("left out");
    expect_said("4 to be trained");
}

// What each run was trained with, by the configuration it leaves.
static void test_what_wins(void **state) {
    (void)state;
    put_sweep("wins.yaml",
              "output: wins\ntrain: pair.yaml\nset: {loss.kl: 1, loss.aux: 0.5, train.steps: 0}\n"
              "grid: {loss: [{consistency: 0}, {consistency: 0.25}]}\n"
              "arms: [{name: a}, {name: b, set: {loss.kl: 2, seed: 7}}]\n");
    sweep(0, "wins.yaml", ARGS("-s", "seed=9"));
    kv_csv_table table;
    kv_error err = {0};
    assert_int_equal(kv_csv_read("wins/table.csv", &table, &err), KV_OK);
    assert_int_equal(table.n_rows, 4);
    static const char *const names[] = {"run", "arm", "loss.consistency", "loss.kl", "seed", "task"};
    for (int i = 0; i < 6; i++) assert_string_equal(table.names[i], names[i]);
    static const char *const rows[4][5] = {{"a-consistency=0", "a", "0", "1", "9"},
                                           {"a-consistency=0.25", "a", "0.25", "1", "9"},
                                           {"b-consistency=0", "b", "0", "2", "9"},
                                           {"b-consistency=0.25", "b", "0.25", "2", "9"}};
    for (int64_t r = 0; r < 4; r++) {
        for (int64_t c = 0; c < 5; c++) assert_string_equal(kv_csv_cell(&table, r, c), rows[r][c]);
        assert_string_equal(kv_csv_cell(&table, r, kv_csv_column(&table, "steps")), "0");
        assert_string_equal(kv_csv_cell(&table, r, kv_csv_column(&table, "accuracy")), "");
        assert_string_equal(kv_csv_cell(&table, r, kv_csv_column(&table, "train_loss")), "");
    }
    kv_csv_table_free(&table);
    expect_said("not evaluated");
    char *config = test_read_text("wins/b-consistency=0.25/config.yaml");
    assert_non_null(strstr(config, "kl: 2"));
    assert_non_null(strstr(config, "aux: 0.5"));
    assert_non_null(strstr(config, "consistency: 0.25"));
    free(config);
}

// Each mistake is one line that names the place, and nothing is trained.
static void test_mistakes(void **state) {
    (void)state;
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"train: pair.yaml\ngrid: {loss.kl: [1, 2]}\n", "m.yaml:1: key `output`: found nothing"},
        {"output: m\ntrain: pair.yaml\n", "m.yaml:1: key `grid`: found nothing to vary"},
        {"output: m\ngrid: {loss.kl: [1, 2]}\n", "m.yaml:1: key `train`: found nothing, expected"},
        {"output: m\ntrain: pair.yaml\ngrid:\n  loss.kl: [1]\n  loss.klx: [2]\n",
         "m.yaml:5: run kl=1-klx=2: key `loss.klx`: found an unknown key"},
        {"output: m\ntrain: pair.yaml\ngrid:\n  loss.kl: [1, -1]\n",
         "m.yaml:4: run kl=-1: key `loss.kl`: found -1, expected 0 to"},
        {"output: m\ntrain: pair.yaml\ngrid:\n  loss.kl: [10, 1, word]\n",
         "m.yaml:4: run kl=word: key `loss.kl`: found `word`, expected a number"},
        {"output: m\ntrain: pair.yaml\ngrid:\n  loss.kl: [1,\n    2, 1]\n",
         "m.yaml:5: key `loss.kl`: found 1 twice, first on line 4"},
        {"output: m\ntrain: pair.yaml\ngrid:\n  loss.kl: [1, 1.0]\n",
         "run kl=1.0 is the same training as run kl=1"},
        {"output: m\ntrain: pair.yaml\narms: [{name: a}, {name: b}]\n",
         "run b is the same training as run a"},
        {"output: m\ntrain: pair.yaml\narms: [{name: a}, {name: a}]\n",
         "m.yaml:3: key `arms[1].name`: found `a` twice"},
        {"output: m\ntrain: pair.yaml\narms:\n  - {name: ../a}\n",
         "m.yaml:4: key `arms[0].name`: found `../a`"},
        {"output: m\ntrain: pair.yaml\narms: [{name: samples}]\n", "the name of another file there"},
        {"output: m\ntrain: pair.yaml\narms:\n  - {name: a, lr: 3}\n",
         "m.yaml:4: key `arms[0].lr`: found an unknown key, expected one of: name, train, set, grid"},
        {"output: m\ntrain: pair.yaml\ngrids: {}\n", "m.yaml:3: key `grids`: found an unknown key"},
        {"output: m\noutput: n\n", "m.yaml:2: key `output`: found twice"},
        {"output: m\ntrain: pair.yaml\ngrid: {loss.kl: 1}\n", "m.yaml:3: key `loss.kl`: expected a list"},
        {"output: m\ntrain: pair.yaml\ngrid: {output: [a, b]}\n", "m.yaml:3: key `output`: every run"},
        {"output: m\ntrain: pair.yaml\ngrid:\n  loss.kl: [1]\n  loss: [{aux: 1}]\n",
         "m.yaml:5: key `loss`: found beside `loss.kl` on line 4"},
        {"output: m\ntrain: pair.yaml\ngrid: {loss.kl: [1]}\narms:\n  - {name: a, grid: {loss.kl: [2]}}\n",
         "m.yaml:5: key `loss.kl`: varies on line 3 already"},
        {"output: m\ntrain: none.yaml\ngrid: {loss.kl: [1]}\n", "none.yaml"},
        {"output: m\ntrain: pair.yaml\nprepare:\n  - none.yaml\ngrid: {loss.kl: [1]}\n",
         "m.yaml:4: key `prepare`: none.yaml"},
        {"output: m\ntrain: pair.yaml\ngrid: {loss.kl: [1]}\nkeep: all\n",
         "m.yaml:4: key `keep`: found `all`, expected one of: final, checkpoints"},
        {"output: m\ntrain: alone.yaml\ngrid:\n  loss.hidden: [1]\n",
         "m.yaml:4: run hidden=1: key `loss.hidden`: found a key without effect"},
        {"output: m\ntrain: pair.yaml\nset: {loss.kl: 1}\ngrid:\n  loss.kl: [1x]\n",
         "m.yaml:5: run kl=1x: key `loss.kl`: found `1x`"}, // which -s loss.kl=1 begins as well
        {"output: m\ntrain: pair.yaml\narms:\n  - {set: {loss.kl: 1}}\n",
         "m.yaml:4: key `arms[0].name`: found nothing"},
        {"output: m\ntrain: pair.yaml\nprepare: base.yaml\n", "m.yaml:3: key `prepare`: found `base.yaml`"},
        {"output: m\ntrain: pair.yaml\nset: [1]\n", "m.yaml:3: key `set`: expected `key: value` lines"},
        {"output: [m\n", "m.yaml:2: not valid YAML"},
        {"- 1\n", "m.yaml:1: found a list"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        put_sweep("m.yaml", cases[i].text);
        train_refuse(cases[i].message, ARGS("--sweep", "sweeps/m.yaml"));
        assert_false(kv_path_exists("m"));
    }
    put_sweep("m.yaml", "output: m\ntrain: pair.yaml\ngrid: {loss.kl: [1, 2]}\n");
    train_refuse("-s loss.kl=3: key `loss.kl`: varies on line 3",
                 ARGS("--sweep", "sweeps/m.yaml", "-s", "loss.kl=3"));
    train_refuse("run kl=1: -s seed=x: key `seed`", ARGS("--sweep", "sweeps/m.yaml", "-s", "seed=x"));
    train_refuse("sweeps/none.yaml", ARGS("--sweep", "sweeps/none.yaml"));
    train_refuse("--only x: found no such run among the 2", ARGS("--sweep", "sweeps/m.yaml", "--only", "x"));
    train_expect(2, ARGS("--sweep", "sweeps/m.yaml", "pair.yaml"));
    train_expect(2, ARGS("--sweep", "sweeps/m.yaml", "--jobs", "0"));
    train_expect(2, ARGS("pair.yaml", "--only", "x"));
}

// The files at fault are found before the first run is trained: models after what is to be prepared.
static void test_models_are_checked_first(void **state) {
    (void)state;
    put_sweep("late.yaml", "output: late\ntrain: pair.yaml\ngrid:\n  aux: [family/aux, family/stranger]\n");
    train_expect(1, ARGS("--sweep", "sweeps/late.yaml"));
    expect_said("sweeps/late.yaml:4: run aux=family_stranger: key `aux`");
    assert_false(kv_path_exists("late/aux=family_aux"));
    put_sweep("late.yaml", "output: late\ntrain: pair.yaml\neval: q.yaml\ngrid: {loss.kl: [1]}\n");
    train_expect(1, ARGS("--sweep", "sweeps/late.yaml"));
    expect_said("sweeps/late.yaml:3: key `eval`: q.yaml");
    put_file("q.yaml", "tokenizer: family/tokenizer.model\ntasks: [{name: a, file: none.jsonl}]\n"
                       "systems: [{name: base, model: family/base}]\n");
    train_expect(1, ARGS("--sweep", "sweeps/late.yaml"));
    expect_said("none.jsonl");
    assert_false(kv_path_exists("late/kl=1"));
    train_expect(0, ARGS("--sweep", "sweeps/late.yaml", "--no-eval", "-s", "train.steps=1"));
    assert_true(kv_path_exists("late/kl=1/final"));
    put_sweep("namesake.yaml", "output: namesake\ntrain: pair.yaml\neval: questions.yaml\n"
                               "arms: [{name: base, set: {loss.kl: 1}}]\n");
    train_expect(1, ARGS("--sweep", "sweeps/namesake.yaml"));
    expect_said("questions.yaml:3: key `systems[0].name`: base is also the name of a run of "
                "sweeps/namesake.yaml");
    assert_false(kv_path_exists("namesake/base"));
}

// ---- The table -----------------------------------------------------------------------------------------

// kveval's cell in the same row of system, task and split.
static const char *result_of(const kv_csv_table *results, const char *system, const char *split,
                             const char *column) {
    for (int64_t r = 0; r < results->n_rows; r++)
        if (!strcmp(kv_csv_cell(results, r, kv_csv_column(results, "system")), system) &&
            !strcmp(kv_csv_cell(results, r, kv_csv_column(results, "split")), split))
            return kv_csv_cell(results, r, kv_csv_column(results, column));
    fail_msg("no result of %s, %s", system, split);
    return NULL;
}

static const char *cell(const kv_csv_table *table, int64_t row, const char *column) {
    assert_true(kv_csv_column(table, column) >= 0);
    return kv_csv_cell(table, row, kv_csv_column(table, column));
}

static const char both_yaml[] = "output: both\n"
                                "train: pair.yaml\n"
                                "set: {data.validation: counting.h5, train.validate_every: 5}\n"
                                "arms:\n"
                                "  - {name: kvp, grid: {loss.kl: [0, 2]}}\n"
                                "  - {name: rival, train: alone.yaml}\n"
                                "eval: questions.yaml\n";

static double last_validation(const char *run) {
    static const char key[] = "\"validation\": {\"loss\": ";
    char path[160];
    snprintf(path, sizeof path, "%s/metrics.jsonl", run);
    char *text = test_read_text(path), *last = NULL;
    for (char *at = text; (at = strstr(at, key)); at++) last = at;
    assert_non_null(last);
    const double loss = strtod(last + sizeof key - 1, NULL);
    free(text);
    return loss;
}

static void check_training_cells(const kv_csv_table *table, int64_t row, const char *run) {
    char path[128];
    double sum = 0;
    snprintf(path, sizeof path, "both/%s", run);
    for (int64_t step = 3; step <= 12; step++) sum += metric(path, step, "loss"); // the last ten
    assert_true(fabs(strtod(cell(table, row, "train_loss"), NULL) - sum / 10) < 1e-6 * sum);
    assert_string_equal(cell(table, row, "steps"), "12");
    assert_true(fabs(strtod(cell(table, row, "seconds"), NULL) - metric(path, 12, "seconds")) < 1e-5);
    assert_true(fabs(strtod(cell(table, row, "validation_loss"), NULL) - last_validation(path)) < 1e-6);
}

static void check_table(void) {
    static const char *const runs[] = {"base", "aux, alone", "kvp-kl=0", "kvp-kl=2", "rival"};
    static const char *const arms[] = {"", "", "kvp", "kvp", "rival"}, *const kl[] = {"", "", "0", "2", "0"};
    static const char *const pairs[][2] = {{"accuracy", "accuracy"},
                                           {"low", "accuracy_low"},
                                           {"high", "accuracy_high"},
                                           {"retention", "retention"},
                                           {"retention_low", "retention_low"},
                                           {"retention_high", "retention_high"},
                                           {"p_value", "p_value"},
                                           {"paper_reduction", "flops_reduction_paper"},
                                           {"exact_reduction", "flops_reduction_exact"}};
    kv_csv_table table, results;
    kv_error err = {0};
    if (kv_csv_read("both/table.csv", &table, &err) || kv_csv_read("both/results.csv", &results, &err))
        fail_msg("%s", err.message);
    assert_int_equal(table.n_rows, 10);
    assert_int_equal(results.n_rows, 10);
    for (int64_t r = 0; r < 10; r++) {
        const char *split = r % 2 ? "held-out" : "trained";
        assert_string_equal(cell(&table, r, "run"), runs[r / 2]);
        assert_string_equal(cell(&table, r, "arm"), arms[r / 2]);
        assert_string_equal(cell(&table, r, "loss.kl"), kl[r / 2]);
        assert_string_equal(cell(&table, r, "task"), "atlas");
        assert_string_equal(cell(&table, r, "split"), split);
        assert_string_equal(cell(&table, r, "metric"), "exact_match");
        for (int i = 0; i < 7; i++)
            assert_string_equal(cell(&table, r, pairs[i][0]),
                                result_of(&results, runs[r / 2], split, pairs[i][1]));
        assert_string_equal(cell(&table, r, "better"), "higher");
        if (r >= 4) check_training_cells(&table, r, runs[r / 2]);
        if (r < 4) assert_string_equal(cell(&table, r, "steps"), "");
    }
    // The aux has as many weights in all arms; the predictors come on top.
    const double rival = strtod(cell(&table, 9, "trained_parameters"), NULL);
    assert_true(rival > 1000 && strtod(cell(&table, 5, "trained_parameters"), NULL) > rival);
    kv_csv_table_free(&table);
    kv_csv_table_free(&results);
}

// Figures that are all different, as those of models that know nothing are not.
static void put_results(bool lower) {
    static const char *const systems[] = {"base", "\"aux, alone\"", "kvp-kl=0", "kvp-kl=2", "rival"};
    kv_csv_table old;
    kv_error err = {0};
    assert_int_equal(kv_csv_read("both/results.csv", &old, &err), KV_OK);
    FILE *out = fopen("both/results.csv", "w");
    assert_non_null(out);
    for (int64_t c = 0; c < old.n_columns; c++) fprintf(out, "%s%s", c ? "," : "", old.names[c]);
    for (int64_t r = 0; r < 10; r++) {
        fprintf(out, "\n%s,family,atlas,%s,%s", systems[r / 2], r % 2 ? "held-out" : "trained",
                lower ? "tail_nll" : "exact_match");
        for (int64_t c = 5; c < old.n_columns; c++)
            if (!strcmp(old.names[c], "better"))
                fprintf(out, ",%s", lower ? "lower" : "higher");
            else
                fprintf(out, ",0.%02d%02d", (int)r, (int)c);
    }
    fputc('\n', out);
    assert_int_equal(fclose(out), 0);
    kv_csv_table_free(&old);
}

static void test_table(void **state) {
    (void)state;
    put_sweep("both.yaml", both_yaml);
    sweep(0, "both.yaml", ARGS("-s", "train.log_every=1"));
    expect_said("run 1 of 3, kvp-kl=0\n");
    expect_said("run 3 of 3, rival; about ");
    expect_said("atlas, held-out: exact_match\n");
    expect_said("1.00x"); // the base's reductions of FLOPs
    check_table();
    assert_nothing_half_written();
    assert_true(kv_path_exists("both/rival/final/model"));
    assert_false(kv_path_exists("both/rival/checkpoints"));
    char *list = test_read_text("both/sweep.yaml");
    const char *first = strstr(list, "name: \"kvp-kl=0\""), *last = strstr(list, "name: \"rival\"");
    assert_true(first && last && first < last);
    free(list);
    // Again: nothing is trained, nothing asked.
    sweep(0, "both.yaml", ARGS("-s", "train.log_every=1"));
    expect_said("3 of 3 runs are done already");
    expect_not_said("run 1 of");
    expect_line("kvp-kl=2 on atlas trained: 12/12", ", 12 answered before", true);
    check_table();
    put_results(true);
    sweep(0, "both.yaml", ARGS("-s", "train.log_every=1", "--no-eval"));
    expect_said("atlas, held-out: tail_nll; lower is better\n");
    expect_line("rival   ", " 0.0805  0.0816-0.0817  8.1 % ", true); // nats as they are
    put_results(false);
    sweep(0, "both.yaml", ARGS("-s", "train.log_every=1", "--no-eval"));
    check_table();
    expect_line("rival   ", " 8.1 %  8.2-8.2  8.1 % ", true);
    // One more: it alone is trained and asked.
    put_sweep(
        "both.yaml",
        "output: both\ntrain: pair.yaml\n"
        "set: {data.validation: counting.h5, train.validate_every: 5}\narms:\n  - {name: kvp, grid: {loss.kl: [0, 2, 4]}}\n"
        "  - {name: rival, train: alone.yaml}\neval: questions.yaml\nkeep: checkpoints\n");
    sweep(0, "both.yaml", ARGS("-s", "train.log_every=1"));
    expect_said("run 1 of 1, kvp-kl=4");
    expect_line("kvp-kl=2 on atlas trained: 12/12", ", 12 answered before", true);
    expect_line("kvp-kl=4 on atlas trained: 12/12", "answered before", false);
    assert_true(kv_path_exists("both/kvp-kl=4/checkpoints"));
    // Figures of before a run was trained anew are not its own.
    sweep(0, "both.yaml", ARGS("-s", "train.log_every=1", "--no-eval"));
    expect_not_said("not evaluated");
    kv_error err = {0};
    assert_int_equal(kv_remove_tree("both/kvp-kl=2", &err), KV_OK);
    sweep(0, "both.yaml", ARGS("-s", "train.log_every=1", "--no-eval"));
    expect_said("not evaluated\n");
}

// ---- What goes wrong -----------------------------------------------------------------------------------

// Of the base's own first layers there is no aux to ask with.
static void test_prefix(void **state) {
    (void)state;
    put_sweep("own.yaml", "output: own\ntrain: pair.yaml\n"
                          "set: {aux: prefix, loss.aux: 0, train.steps: 0, predictor.init: base}\n"
                          "grid: {prefix_layers: [1, 2]}\neval: questions.yaml\n");
    sweep(0, "own.yaml", ARGS(NULL));
    kv_csv_table results;
    kv_error err = {0};
    if (kv_csv_read("own/results.csv", &results, &err)) fail_msg("%s", err.message);
    // The longer one costs more: less is predicted.
    const char *shorter = result_of(&results, "prefix_layers=1", "trained", "flops_reduction_exact"),
               *longer = result_of(&results, "prefix_layers=2", "trained", "flops_reduction_exact");
    assert_true(strtod(shorter, NULL) > strtod(longer, NULL) && strtod(longer, NULL) > 0);
    kv_csv_table_free(&results);
}

static void test_failing_run(void **state) {
    (void)state;
    put_sweep("fails.yaml",
              "output: fails\ntrain: pair.yaml\nset: {train.steps: 2}\n"
              "arms: [{name: a}, {name: b, set: {train.memory_gb: 0.001}}, {name: c, set: {seed: 2}}]\n"
              "eval: questions.yaml\n");
    sweep(1, "fails.yaml", ARGS(NULL));
    expect_said("run b failed with exit status 1; the others go on");
    expect_said("1 of 3 runs failed (see above); the same command tries them again");
    kv_csv_table table;
    kv_error err = {0};
    assert_int_equal(kv_csv_read("fails/table.csv", &table, &err), KV_OK);
    assert_int_equal(table.n_rows, 8);
    assert_string_equal(cell(&table, 7, "run"), "c");
    assert_true(*cell(&table, 7, "accuracy"));
    kv_csv_table_free(&table);
    // Mended, it alone is trained.
    put_sweep("fails.yaml", "output: fails\ntrain: pair.yaml\nset: {train.steps: 2}\n"
                            "arms: [{name: a}, {name: b, set: {loss.kl: 1}}, {name: c, set: {seed: 2}}]\n"
                            "eval: questions.yaml\n");
    sweep(0, "fails.yaml", ARGS(NULL));
    expect_said("run 1 of 1, b");
}

static void test_changed_configuration(void **state) {
    (void)state;
    put_sweep("changes.yaml", "output: changes\ntrain: pair.yaml\nset: {train.steps: 2}\n"
                              "arms: [{name: a}, {name: b, set: {loss.kl: 1}}]\n");
    sweep(0, "changes.yaml", ARGS(NULL));
    struct stat before, after;
    assert_int_equal(stat("changes/a/final", &before), 0);
    put_sweep("changes.yaml",
              "output: changes\ntrain: pair.yaml\nset: {train.steps: 2}\n"
              "arms:\n  - {name: a}\n  - {name: b, set: {loss.kl: 5}}\n  - {name: c, set: {seed: 3}}\n");
    train_expect(1, ARGS("--sweep", "sweeps/changes.yaml"));
    expect_said("sweeps/changes.yaml:6: run b: key `loss.kl`: found `5`, expected `1` as in "
                "changes/b/config.yaml, which is to be resumed; --force trains it anew");
    assert_false(kv_path_exists("changes/c"));
    sweep(0, "changes.yaml", ARGS("--dry-run"));
    expect_said("1 were trained by another configuration: --force replaces them");
    // The one that is left out is none of this call's business.
    sweep(0, "changes.yaml", ARGS("--only", "c"));
    sweep(0, "changes.yaml", ARGS("--force"));
    expect_said("run 1 of 1, b");
    assert_int_equal(stat("changes/a/final", &after), 0);
    assert_int_equal(after.st_ino, before.st_ino);
    char *config = test_read_text("changes/b/config.yaml");
    assert_non_null(strstr(config, "kl: 5"));
    free(config);
    sweep(0, "changes.yaml", ARGS(NULL));
    expect_said("3 of 3 runs are done already");
}

static void test_prepare(void **state) {
    (void)state;
    put_file("first.yaml", "extends: alone.yaml\noutput: prepared\ntrain: {steps: 3}\n");
    put_file("second.yaml", "extends: pair.yaml\naux: prepared/final/model\n");
    put_sweep("prepare.yaml", "output: after\nprepare: [first.yaml]\ntrain: second.yaml\n"
                              "set: {train.steps: 2}\ngrid: {loss.kl: [0, 1]}\n");
    sweep(0, "prepare.yaml", ARGS("--dry-run"));
    expect_said("prepared  to do");
    expect_said("3 to be trained");
    expect_said("2 not counted whose models are still to be trained");
    assert_false(kv_path_exists("prepared"));
    sweep(0, "prepare.yaml", ARGS(NULL));
    expect_said("first.yaml, which the runs start from (1 of 1)");
    assert_true(kv_path_exists("prepared/final"));
    sweep(0, "prepare.yaml", ARGS("--force")); // not of what is prepared
    expect_not_said("which the runs start from");
    expect_said("2 of 2 runs are done already");
    put_file("first.yaml", "extends: alone.yaml\noutput: prepared\ntrain: {steps: 4}\n");
    train_expect(1, ARGS("--sweep", "sweeps/prepare.yaml", "--force"));
    expect_said("sweeps/prepare.yaml:2: key `prepare`: first.yaml:3: key `train.steps`");
}

// ---- Stopping and going on -----------------------------------------------------------------------------

// Steps long enough that a second signal, were there one, would come within one.
static const char long_yaml[] = "train: pair.yaml\n"
                                "set: {train.steps: 30, train.checkpoint_every: 12, data.batch_size: 96}\n"
                                "grid: {loss.kl: [0, 1]}\n"
                                "arms: [{name: kvp}]\n";

static void expect_same_as_whole(const char *output) {
    static const char *const runs[] = {"kvp-kl=0", "kvp-kl=1"};
    static const char *const files[] = {"aux/model.safetensors", "predictor/predictor.safetensors"};
    char a[128], b[128];
    for (int r = 0; r < 2; r++)
        for (int f = 0; f < 2; f++) {
            snprintf(a, sizeof a, "%s/%s/final/%s", output, runs[r], files[f]);
            snprintf(b, sizeof b, "whole/%s/final/%s", runs[r], files[f]);
            assert_true(same_file(a, b));
        }
}

// The second run is stopped on its way, by Ctrl-C and by the end of the sweep itself.
static void test_interrupted(void **state) {
    (void)state;
    put_sweep("long.yaml", long_yaml);
    sweep(0, "long.yaml", ARGS("-o", "whole"));
    pid_t pid = train_start(ARGS("--sweep", "sweeps/long.yaml", "-o", "stopped"), 0);
    train_wait_for_file(pid, "stopped/kvp-kl=1/metrics.jsonl", 1000);
    train_refuse("another kvtrain is at work there", ARGS("--sweep", "sweeps/long.yaml", "-o", "stopped"));
    assert_int_equal(kill(pid, SIGINT), 0);
    const int code = train_finish(pid);
    if (code != 130) fail_msg("exit status %d: %s", code, train_output());
    expect_said("interrupted after step ");
    expect_said("the same command goes on from there");
    expect_not_said("--resume");
    assert_true(kv_path_exists("stopped/kvp-kl=0/final"));
    assert_false(kv_path_exists("stopped/kvp-kl=1/final"));
    assert_false(kv_path_exists("stopped/table.csv"));
    sweep(0, "long.yaml", ARGS("-o", "stopped"));
    expect_said("run 1 of 1, kvp-kl=1, from step ");
    expect_said("resuming from stopped/kvp-kl=1/checkpoints/step-");
    expect_same_as_whole("stopped");
}

static void test_killed(void **state) {
    (void)state;
    put_sweep("long.yaml", long_yaml);
    const pid_t pid = train_start(ARGS("--sweep", "sweeps/long.yaml", "-o", "killed"), 0);
    train_wait_for_file(pid, "killed/kvp-kl=1/metrics.jsonl", 1000);
    // Of several threads each would tell the training, the second time for good.
    char threads[64];
    snprintf(threads, sizeof threads, "/proc/%d/task", (int)pid);
    assert_int_equal(test_dir_count(threads), 1);
    assert_int_equal(kill(pid, SIGKILL), 0);
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    // Its training is told, and ends with a checkpoint; until then it holds its directory.
    const int dir = open("killed/kvp-kl=1", O_RDONLY | O_DIRECTORY);
    assert_true(dir >= 0);
    for (int i = 0; i < 30000 && flock(dir, LOCK_EX | LOCK_NB); i++) usleep(2000);
    assert_int_equal(close(dir), 0);
    assert_true(test_dir_count("killed/kvp-kl=1/checkpoints") > 0);
    assert_false(kv_path_exists("killed/kvp-kl=1/final"));
    sweep(0, "long.yaml", ARGS("-o", "killed"));
    expect_same_as_whole("killed");
}

// Two at a time, each by itself.
static void test_jobs(void **state) {
    (void)state;
    put_sweep("jobs.yaml", "output: jobs\ntrain: pair.yaml\ngrid: {loss.kl: [0, 1, 2]}\n");
    sweep(0, "jobs.yaml", ARGS("--jobs", "2"));
    expect_not_said("train: 12/12");
    for (int i = 0; i < 3; i++) {
        char path[64];
        snprintf(path, sizeof path, "jobs/kl=%d/final", i);
        assert_true(kv_path_exists(path));
        snprintf(path, sizeof path, "jobs/logs/kl=%d.log", i);
        char *log = test_read_text(path);
        assert_non_null(strstr(log, "train: 12/12"));
        free(log);
    }
    kv_csv_table table;
    kv_error err = {0};
    assert_int_equal(kv_csv_read("jobs/table.csv", &table, &err), KV_OK);
    assert_int_equal(table.n_rows, 3);
    for (int64_t i = 0; i < 3; i++) assert_int_equal(strtol(cell(&table, i, "loss.kl"), NULL, 10), i);
    kv_csv_table_free(&table);
}

// The project's own, whose models need not be there for that.
static void test_shipped_sweeps(void **state) {
    (void)state;
    static const struct {
        const char *name;
        int n_runs;
        bool seeds; // 1, 2, 3
    } sweeps[] = {{"lambda", 3, false},    {"loss_terms", 8, false},  {"kl_weight", 5, false},
                  {"start", 5, false},     {"layer_map", 6, false},   {"aux", 4, false},
                  {"predictor", 8, false}, {"budget", 9, false},      {"table", 9, true},
                  {"sources", 36, true},   {"consistency", 15, true}, {"base_text", 15, true},
                  {"steps", 21, true},     {"prefix", 18, true},      {"prefix_near", 9, true}};
    assert_int_equal(test_link_configs(), 0);
    for (size_t i = 0; i < sizeof sweeps / sizeof *sweeps; i++) {
        char path[512], said[80];
        snprintf(path, sizeof path, "configs/ablations/%s.yaml", sweeps[i].name);
        train_expect(0, ARGS("--sweep", path, "--dry-run"));
        snprintf(said, sizeof said, ": %d runs in runs/ablations/%s%s\n", sweeps[i].n_runs, sweeps[i].name,
                 sweeps[i].seeds ? ", seeds 1, 2, 3" : "");
        expect_said(said);
    }
    assert_false(kv_path_exists("runs"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names_and_order), cmocka_unit_test(test_what_wins),
        cmocka_unit_test(test_mistakes),        cmocka_unit_test(test_models_are_checked_first),
        cmocka_unit_test(test_table),           cmocka_unit_test(test_prefix),
        cmocka_unit_test(test_failing_run),     cmocka_unit_test(test_changed_configuration),
        cmocka_unit_test(test_prepare),         cmocka_unit_test(test_interrupted),
        cmocka_unit_test(test_killed),          cmocka_unit_test(test_jobs),
        cmocka_unit_test(test_shipped_sweeps),
    };
    return cmocka_run_group_tests(tests, sweep_setup, train_teardown);
}

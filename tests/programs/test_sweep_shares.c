// kvtrain --sweep by several processes at once: shares (--only I/N), as an array of a batch system starts them, and ranks of one
// MPI launcher.
#include "data/file/csv.h"
#include "tests/support/corpus.h"
#include "tests/support/launch.h"
#include "tests/support/sweep.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static const char first_yaml[] = "extends: alone.yaml\noutput: prepared\ntrain: {steps: 20}\n";
static const char runs_yaml[] = "prepare: [first.yaml]\ntrain: pair.yaml\n"
                                "set: {train.steps: 6, aux: prepared/final/model}\n"
                                "grid: {loss.kl: [0, 1, 2, 3]}\n";

static int set_up(void **state) {
    if (sweep_setup(state)) return -1;
    put_file("first.yaml", first_yaml);
    put_sweep("runs.yaml", runs_yaml);
    sweep(0, "runs.yaml", ARGS("-o", "whole"));
    return 0;
}

static void forget_prepared(void) {
    kv_error err = {0};
    assert_int_equal(kv_remove_tree("prepared", &err), KV_OK);
}

static const char weights[] = "%s/%s/final/predictor/predictor.safetensors";

// All four runs of runs.yaml are there and what one process alone makes of them, in one thread or two.
static void expect_as_whole(const char *output) {
    for (int kl = 0; kl < 4; kl++) {
        char name[16], a[128], b[128];
        snprintf(name, sizeof name, "kl=%d", kl);
        snprintf(a, sizeof a, weights, "whole", name);
        snprintf(b, sizeof b, weights, output, name);
        if (!same_file(a, b)) fail_msg("%s differs from %s", b, a);
    }
}

static int64_t n_lines(const char *path) {
    char *text = test_read_text(path);
    int64_t n = 0;
    for (const char *at = text; (at = strchr(at, '\n')); at++) n++;
    free(text);
    return n;
}

// ---- Shares --------------------------------------------------------------------------------------------

// The line of --dry-run that is the run's says whether it is left out.
static bool is_left_out(const char *run) {
    char begin[64];
    snprintf(begin, sizeof begin, "\n%s ", run);
    const char *line = strstr(train_output(), begin), *word = line ? strstr(line, "left out") : NULL;
    assert_non_null(line);
    return word && word < strchr(line + 1, '\n');
}

// Every run is in one share; shares are alike in work, and each process finds the same.
static void test_shares(void **state) {
    (void)state;
    put_sweep("cost.yaml",
              "output: cost\ntrain: pair.yaml\n"
              "arms: [{name: long, set: {train.steps: 30}}, {name: short, set: {train.steps: 10}}]\n"
              "grid: {loss.kl: [0, 1, 2]}\n");
    static const char *const names[] = {"long-kl=0",  "long-kl=1",  "long-kl=2",
                                        "short-kl=0", "short-kl=1", "short-kl=2"};
    static const int share_of[2][6] = {{1, 2, 1, 2, 2, 2}, {1, 2, 3, 1, 2, 3}};
    for (int n = 2; n <= 3; n++)
        for (int i = 1; i <= n; i++) {
            char only[16];
            snprintf(only, sizeof only, "%d/%d", i, n);
            sweep(0, "cost.yaml", ARGS("--dry-run", "--only", only));
            for (int r = 0; r < 6; r++)
                if (is_left_out(names[r]) != (share_of[n - 2][r] != i))
                    fail_msg("%s of %s: %s", names[r], only, train_output());
        }
    // Of a pattern's runs.
    sweep(0, "cost.yaml", ARGS("--dry-run", "--only", "*-kl=1", "--only", "2/2"));
    expect_said("1 to be trained");
    assert_false(is_left_out("short-kl=1"));
    assert_false(kv_path_exists("cost"));
}

static void test_mistakes(void **state) {
    (void)state;
    train_expect(2, ARGS("--sweep", "sweeps/runs.yaml", "--only", "5/4"));
    expect_said("--only 5/4: expected I/N, a share from 1 to N");
    train_expect(2, ARGS("--sweep", "sweeps/runs.yaml", "--only", "0/4"));
    train_expect(2, ARGS("pair.yaml", "--only", "1/4"));
    // More shares than runs: there is nothing to do for some.
    sweep(0, "runs.yaml", ARGS("-o", "few", "--only", "5/5"));
    expect_said("share 5/5 is done");
    expect_not_said("run 1 of");
    assert_false(kv_path_exists("few/kl=0"));
    train_refuse("--only x*: found no such run among the 4",
                 ARGS("--sweep", "sweeps/runs.yaml", "-o", "few", "--only", "x*", "--only", "1/2"));
}

// An array's tasks, which begin in the same moment; what they start from is trained by one of them.
static void test_array(void **state) {
    (void)state;
    enum { N = 3 };
    static const char *const only[N] = {"1/3", "2/3", "3/3"};
    pid_t pids[N];
    int n_prepared = 0, n_runs = 0;
    forget_prepared();
    for (int i = 0; i < N; i++)
        pids[i] = train_start(ARGS("--sweep", "sweeps/runs.yaml", "-o", "array", "--only", only[i]), 0);
    for (int i = 0; i < N; i++) {
        const int code = train_finish(pids[i]);
        if (code != 0) fail_msg("share %s: exit status %d: %s", only[i], code, train_output());
        n_prepared += strstr(train_output(), "first.yaml, which the runs start from") != NULL;
        for (const char *at = train_output(); (at = strstr(at, "kvtrain: run ")); at++) n_runs++;
        expect_said("is done; without it in --only the same command evaluates and makes the table");
        expect_not_said("retention");
    }
    assert_int_equal(n_prepared, 1);
    assert_int_equal(n_lines("prepared/machines.jsonl"), 1);
    assert_int_equal(n_runs, 4);
    for (int kl = 0; kl < 4; kl++) {
        char path[64];
        snprintf(path, sizeof path, "array/kl=%d/machines.jsonl", kl);
        assert_int_equal(n_lines(path), 1);
    }
    assert_false(kv_path_exists("array/table.csv"));
    assert_true(same_file("array/sweep.yaml", "whole/sweep.yaml") || n_lines("array/sweep.yaml") > 20);
    assert_nothing_half_written();
    expect_as_whole("array");
    // The last job.
    sweep(0, "runs.yaml", ARGS("-o", "array"));
    expect_said("4 of 4 runs are done already");
    kv_csv_table table;
    kv_error err = {0};
    assert_int_equal(kv_csv_read("array/table.csv", &table, &err), KV_OK);
    assert_int_equal(table.n_rows, 4);
    kv_csv_table_free(&table);
}

// Steps that last, so that a share is still at work when another comes.
static const char slow_yaml[] =
    "output: slow\ntrain: pair.yaml\n"
    "set: {train.steps: 2000, train.checkpoint_every: 1000, data.batch_size: 96}\n"
    "grid: {loss.kl: [0, 1]}\n";

static void stop(pid_t pid) {
    assert_int_equal(kill(pid, SIGTERM), 0);
    const int code = train_finish(pid);
    if (code != 143) fail_msg("exit status %d: %s", code, train_output());
}

static void test_who_is_refused(void **state) {
    (void)state;
    put_sweep("slow.yaml", slow_yaml);
    pid_t pid = train_start(ARGS("--sweep", "sweeps/slow.yaml", "--only", "2/2"), 0);
    train_wait_for_file(pid, "slow/kl=1/metrics.jsonl", 1);
    // All of it, or a part with the same run.
    train_refuse("slow: another kvtrain is at work there", ARGS("--sweep", "sweeps/slow.yaml"));
    train_refuse("slow: another kvtrain is at work there",
                 ARGS("--sweep", "sweeps/slow.yaml", "--only", "kl=0", "--no-eval"));
    train_refuse("slow: another kvtrain is at work on kl=1",
                 ARGS("--sweep", "sweeps/slow.yaml", "--only", "2/2"));
    train_refuse("slow: another kvtrain is at work on kl=1",
                 ARGS("--sweep", "sweeps/slow.yaml", "--only", "1/1"));
    sweep(0, "slow.yaml", ARGS("--only", "1/2", "-s", "train.steps=2"));
    assert_true(kv_path_exists("slow/kl=0/final"));
    stop(pid);
    assert_true(test_dir_count("slow/kl=1/checkpoints") > 0);
    // And the other way round.
    pid = train_start(ARGS("--sweep", "sweeps/slow.yaml", "--only", "kl=1"), 0);
    train_wait_for_text(pid, "resuming from");
    train_refuse("slow: another kvtrain is at work there",
                 ARGS("--sweep", "sweeps/slow.yaml", "--only", "1/2", "-s", "train.steps=2"));
    stop(pid);
}

// Who prepares is killed: another that waits goes on with it.
static void test_killed_while_preparing(void **state) {
    (void)state;
    put_file("long.yaml", "extends: alone.yaml\noutput: long\ntrain: {steps: 150, checkpoint_every: 10}\n"
                          "data: {batch_size: 32}\n");
    put_sweep("after.yaml", "output: after\nprepare: [long.yaml]\ntrain: pair.yaml\n"
                            "set: {train.steps: 2, aux: long/final/model}\ngrid: {loss.kl: [0, 1]}\n");
    const pid_t a = train_start(ARGS("--sweep", "sweeps/after.yaml", "--only", "1/2"), 0);
    train_wait_for_file(a, "long/metrics.jsonl", 1);
    const pid_t b = train_start(ARGS("--sweep", "sweeps/after.yaml", "--only", "2/2"), 0);
    train_wait_for_text(b, "waiting for another kvtrain, which is at work on long");
    assert_int_equal(kill(a, SIGKILL), 0);
    int status;
    assert_int_equal(waitpid(a, &status, 0), a);
    const int code = train_finish(b);
    if (code != 0) fail_msg("exit status %d: %s", code, train_output());
    expect_said("long.yaml, which the runs start from");
    expect_said("resuming from long/checkpoints/step-");
    assert_int_equal(n_lines("long/machines.jsonl"), 2);
    assert_true(kv_path_exists("after/kl=1/final"));
    assert_false(kv_path_exists("after/kl=0"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shares),
        cmocka_unit_test(test_mistakes),
        cmocka_unit_test(test_array),
        cmocka_unit_test(test_who_is_refused),
        cmocka_unit_test(test_killed_while_preparing),
    };
    return cmocka_run_group_tests(tests, set_up, train_teardown);
}

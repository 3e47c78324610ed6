// mpirun -n N kvtrain --sweep: runs are shared among ranks, each trained by a program of its own that knows of no others.
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

static const char runs_yaml[] = "train: pair.yaml\nprepare: [first.yaml]\n"
                                "set: {train.steps: 6, aux: 'prepared/s{seed}/final/model'}\n"
                                "grid: {loss.kl: [0, 1]}\nseeds: 2\neval: questions.yaml\n";

static int set_up(void **state) {
    if (sweep_setup(state)) return -1;
    setenv("OMP_NUM_THREADS", "1", 1); // as launch() has it
    put_file("first.yaml", "extends: alone.yaml\noutput: 'prepared/s{seed}'\ntrain: {steps: 5}\n");
    put_sweep("runs.yaml", runs_yaml);
    sweep(0, "runs.yaml", ARGS("-o", "whole"));
    return 0;
}

// ---- Running it ----------------------------------------------------------------------------------------

static char said[1 << 16], printed[1 << 16];

static pid_t start(const char *launcher, const char *arguments) {
    char command[1024];
    snprintf(command, sizeof command, "exec %s %s --sweep %s >out.txt 2>err.txt", launcher, getenv("KVTRAIN"),
             arguments);
    const pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) execl("/bin/sh", "sh", "-c", command, NULL);
    return pid;
}

static void read_all(const char *path, char *text, size_t size) {
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    text[fread(text, 1, size - 1, file)] = '\0';
    fclose(file);
}

static int finish(pid_t pid) {
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    read_all("err.txt", said, sizeof said);
    read_all("out.txt", printed, sizeof printed);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static void expect(int code, const char *launcher, const char *arguments) {
    const int found = finish(start(launcher, arguments));
    if (found != code) fail_msg("exit status %d instead of %d: %s", found, code, said);
}

static int count(const char *text, const char *part) {
    int n = 0;
    for (const char *at = text; (at = strstr(at, part)); at++) n++;
    return n;
}

static void expect_in(const char *text, const char *part, int times) {
    if (count(text, part) != times)
        fail_msg("%d times %s, expected %d, in\n%s", count(text, part), part, times, text);
}

// ---- All is well ---------------------------------------------------------------------------------------

static void expect_as_whole(const char *output) {
    static const char *const names[] = {"kl=0-seed=1", "kl=0-seed=2", "kl=1-seed=1", "kl=1-seed=2"};
    for (int i = 0; i < 4; i++) {
        char a[128], b[128];
        snprintf(a, sizeof a, "whole/%s/final/predictor/predictor.safetensors", names[i]);
        snprintf(b, sizeof b, "%s/%s/final/predictor/predictor.safetensors", output, names[i]);
        if (!same_file(a, b)) fail_msg("%s differs from %s", b, a);
    }
}

// The columns that no clock has been at.
static void expect_same_table(const char *output) {
    kv_csv_table a, b;
    kv_error err = {0};
    char path[64];
    snprintf(path, sizeof path, "%s/table.csv", output);
    if (kv_csv_read("whole/table.csv", &a, &err) || kv_csv_read(path, &b, &err)) fail_msg("%s", err.message);
    assert_int_equal(a.n_rows, b.n_rows);
    assert_int_equal(a.n_columns, b.n_columns);
    for (int64_t r = 0; r < a.n_rows; r++)
        for (int64_t c = 0; c < a.n_columns; c++)
            if (strcmp(a.names[c], "seconds"))
                assert_string_equal(kv_csv_cell(&a, r, c), kv_csv_cell(&b, r, c));
    kv_csv_table_free(&a);
    kv_csv_table_free(&b);
}

static void check_ranks(int kind, int n_ranks) {
    kv_error err = {0};
    char arguments[160], output[32];
    snprintf(output, sizeof output, "r%d-%d", kind, n_ranks);
    snprintf(arguments, sizeof arguments, "sweeps/runs.yaml -o %s", output);
    assert_int_equal(kv_remove_tree("prepared", &err), KV_OK);
    expect(0, launch_with(kind, n_ranks), arguments);
    snprintf(arguments, sizeof arguments,
             "kvtrain: 4 runs to be trained by %d ranks; what they say is in %s/logs\n", n_ranks, output);
    expect_in(said, arguments, 1);
    expect_in(printed, "atlas, held-out: exact_match", 1); // by one of them
    expect_as_whole(output);
    expect_same_table(output);
    for (int seed = 1; seed <= 2; seed++) {
        char path[96];
        snprintf(path, sizeof path, "prepared/s%d/machines.jsonl", seed);
        char *text = test_read_text(path);
        assert_int_equal(count(text, "\n"), 1);
        free(text);
        snprintf(path, sizeof path, "%s/logs/kl=1-seed=%d.log", output, seed);
        text = test_read_text(path);
        assert_int_equal(count(text, "train: 6/6"), 1);
        free(text);
    }
}

static void test_same_as_alone(void **state) {
    (void)state;
    launch_or_skip();
    for (int kind = 0; kind < launch_n_kinds(); kind++) check_ranks(kind, kind == 0 ? 3 : 2);
}

// ---- What goes wrong -----------------------------------------------------------------------------------

static void test_failing_run(void **state) {
    (void)state;
    launch_or_skip();
    put_sweep("fails.yaml",
              "output: fails\ntrain: pair.yaml\nset: {train.steps: 2}\n"
              "arms: [{name: a}, {name: b, set: {train.memory_gb: 0.001}}, {name: c, set: {seed: 2}}]\n");
    for (int kind = 0; kind < launch_n_kinds(); kind++) {
        kv_error err = {0};
        assert_int_equal(kv_remove_tree("fails", &err), KV_OK);
        expect(1, launch_with(kind, 2), "sweeps/fails.yaml");
        expect_in(said, "kvtrain: run b failed on rank 1 (", 1);
        expect_in(said, ") with exit status 1, see fails/logs/b.log\n", 1);
        expect_in(said, "kvtrain: 1 of 3 runs failed (see above); the same command tries them again\n", 1);
        assert_true(kv_path_exists("fails/a/final") && kv_path_exists("fails/c/final"));
        kv_csv_table table;
        assert_int_equal(kv_csv_read("fails/table.csv", &table, &err), KV_OK);
        assert_int_equal(table.n_rows, 2);
        kv_csv_table_free(&table);
    }
    // A mistake that all see is said once.
    put_sweep("wrong.yaml", "output: wrong\ntrain: pair.yaml\ngrid: {loss.klx: [1]}\n");
    expect(1, launch(3), "sweeps/wrong.yaml");
    expect_in(said, "key `loss.klx`: found an unknown key", 1);
    expect(1, launch(2), "sweeps/wrong.yaml --dry-run");
    expect_in(said, "key `loss.klx`: found an unknown key", 1);
    // What is to be there first fails on one of them.
    put_file("bad.yaml", "extends: alone.yaml\noutput: 'bad/s{seed}'\ntrain: {memory_gb: 0.001}\n");
    put_sweep("wrong.yaml", "output: wrong\nprepare: [bad.yaml]\ntrain: pair.yaml\nseeds: 2\n");
    expect(1, launch(2), "sweeps/wrong.yaml");
    expect_in(
        said,
        "key `prepare`: its training with seed=1 failed, so no run can begin, see wrong/logs/prepare-bad.yaml-seed=1.log\n",
        1);
    expect_in(said, "seed=2 failed", 0);
}

static bool is_writing(const char *path) {
    return kv_path_exists(path) && test_dir_count("stopped/kl=0") > 0;
}

static void test_interrupted(void **state) {
    (void)state;
    launch_or_skip();
    put_sweep("long.yaml", "output: stopped\ntrain: pair.yaml\n"
                           "set: {train.steps: 40, train.checkpoint_every: 1000, data.batch_size: 96}\n"
                           "grid: {loss.kl: [0, 1]}\n");
    sweep(0, "long.yaml", ARGS("-o", "unstopped"));
    const pid_t pid = start(launch(2), "sweeps/long.yaml");
    while (test_alive(pid) &&
           !(is_writing("stopped/kl=0/metrics.jsonl") && is_writing("stopped/kl=1/metrics.jsonl")))
        usleep(2000);
    // Which Open MPI's launcher passes on at once, unlike SIGTERM.
    assert_int_equal(kill(pid, SIGUSR1), 0);
    finish(pid); // with a status of the launcher's own
    expect_in(said, "kvtrain: interrupted\n", 1);
    expect_in(said, "kvtrain: the same command goes on from there\n", 1);
    assert_false(kv_path_exists("stopped/table.csv"));
    for (int kl = 0; kl < 2; kl++) {
        char path[64];
        snprintf(path, sizeof path, "stopped/kl=%d/checkpoints", kl);
        if (test_dir_count(path) != 1) fail_msg("%s", said);
    }
    sweep(0, "long.yaml", ARGS(NULL));
    assert_true(same_file("stopped/kl=0/final/predictor/predictor.safetensors",
                          "unstopped/kl=0/final/predictor/predictor.safetensors"));
    assert_true(same_file("stopped/kl=1/final/predictor/predictor.safetensors",
                          "unstopped/kl=1/final/predictor/predictor.safetensors"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_as_alone),
        cmocka_unit_test(test_failing_run),
        cmocka_unit_test(test_interrupted),
    };
    return cmocka_run_group_tests(tests, set_up, train_teardown);
}

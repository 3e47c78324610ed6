// kvtrain status on runs as kvtrain leaves them: running, interrupted, failed, killed and finished ones,
// damaged ones, directories of them; as text, as JSON and drawn.
#include "data/file/csv.h"
#include "data/file/metrics.h"
#include "data/file/path.h"
#include "data/system/width.h"
#include "tests/support/launch.h"
#include "tests/support/train.h"

#include <fcntl.h>
#include <jansson.h>
#include <limits.h>
#include <math.h>
#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int set_up(void **state) {
    unsetenv("COLUMNS");
    setenv("LC_ALL", "C.UTF-8", 1);
    if (train_setup(state)) return -1;
    make_shard("held.h5", TEST_VOCAB, 1);
    put_file("run.yaml", "extends: kvp.yaml\noutput: run\ndata: {validation: held.h5}\n"
                         "loss: {consistency: 0}\n"
                         "train: {validate_every: 8, validation_tokens: 100, keep_best: true}\n");
    train_expect(0, ARGS("run.yaml"));
    return 0;
}

#define expect(...) check_text((const char *const[]){__VA_ARGS__, NULL})

static void check_text(const char *const *parts) {
    for (; *parts; parts++)
        if (!strstr(train_output(), *parts)) fail_msg("'%s' not in\n%s", *parts, train_output());
}

// The JSON about a run; the caller lets go of it.
static json_t *facts(const char *run) {
    train_expect(0, ARGS("status", "--json", run));
    json_error_t why;
    json_t *root = json_loads(train_output(), 0, &why);
    if (!root) fail_msg("%s in %s", why.text, train_output());
    return root;
}

static double number(const json_t *root, const char *key) {
    const json_t *value = json_object_get(root, key);
    if (!json_is_number(value)) fail_msg("no number at %s", key);
    return json_number_value(value);
}

static const char *text(const json_t *root, const char *key) {
    const char *value = json_string_value(json_object_get(root, key));
    return value ? value : "";
}

// ---- Finished ------------------------------------------------------------------------------------------

static void test_finished(void **state) {
    (void)state;
    train_expect(0, ARGS("status", "run"));
    expect("run\ntask         kvp: base base/final/model, aux aux/final/model\n",
           "text         shard.h5, held out held.h5\n", "state        finished, step 20 of 20 (100 %)\n",
           "loss         ", "terms        base ", ", aux ", ", kl ", "validation   ",
           "cache        mean |error| of keys ", "; of values ", "speed        lr ", " tokens/s, ",
           " GFLOP/s\n", "time         ", " spent\n",
           "holds        checkpoints of step 8, 16; best/ of step ", "; final/\n", "training loss",
           "validation loss", "·", "●");
    train_expect(0, ARGS("status", "base/"));
    expect("base\ntask         lm: a language model, from scratch\n", "step 40 of 40");
    assert_null(strstr(train_output(), "validation"));
}

// Every figure from the log, worked out here once more.
static void test_json(void **state) {
    (void)state;
    json_t *root = facts("run");
    assert_string_equal(text(root, "state"), "finished");
    assert_string_equal(text(root, "task"), "kvp");
    assert_true(number(root, "step") == 20 && number(root, "steps") == 20 && number(root, "left") == 0);
    assert_true(fabs(number(root, "loss") - metric("run", 20, "loss")) < 1e-8);
    double sum = 0, kl = 0;
    for (int64_t step = 1; step <= 20; step++)
        sum += metric("run", step, "loss"), kl += metric("run", step, "kl");
    assert_true(fabs(number(root, "loss_smoothed") - sum / 20) < 1e-7);
    const json_t *term = json_object_get(json_object_get(root, "terms"), "kl");
    assert_true(fabs(number(term, "last") - metric("run", 20, "kl")) < 1e-8);
    assert_true(fabs(number(term, "smoothed") - kl / 20) < 1e-7);
    assert_null(json_object_get(json_object_get(root, "terms"), "grad_norm"));
    const json_t *validation = json_object_get(root, "validation");
    assert_true(number(validation, "step") == 20);
    assert_true(number(validation, "best_loss") <= number(validation, "loss"));
    assert_int_equal(json_array_size(json_object_get(validation, "key_error")), 3);
    assert_true(number(root, "best") == number(validation, "best_step"));
    assert_int_equal(json_array_size(json_object_get(root, "checkpoints")), 2);
    assert_true(json_is_true(json_object_get(root, "final")));
    assert_true(json_is_null(json_object_get(root, "resumes_at")));
    assert_true(number(root, "elapsed") >= metric("run", 20, "seconds"));
    assert_true(number(root, "ranks") == 1 && number(root, "nodes") == 1);
    assert_true(number(root, "threads") == atoi(getenv("OMP_NUM_THREADS")));
    json_decref(root);
    // The smoothed loss is of the last 20 steps, not of all.
    root = facts("base");
    sum = 0;
    for (int64_t step = 21; step <= 40; step++) sum += metric("base", step, "loss");
    assert_true(fabs(number(root, "loss_smoothed") - sum / 20) < 1e-7);
    assert_true(json_is_null(json_object_get(root, "validation")));
    json_decref(root);
}

// ---- All that was logged -------------------------------------------------------------------------------

static void read_csv(kv_csv_table *table) {
    kv_error err;
    if (kv_csv_parse("table", train_output(), table, &err) != KV_OK) fail_msg("%s", err.message);
}

static const char *csv_cell(const kv_csv_table *table, int64_t row, const char *name) {
    const int64_t column = kv_csv_column(table, name);
    if (column < 0) fail_msg("no column %s", name);
    return kv_csv_cell(table, row, column);
}

static double csv_number(const kv_csv_table *table, int64_t row, const char *name) {
    const char *cell = csv_cell(table, row, name);
    return *cell ? strtod(cell, NULL) : (double)NAN;
}

// Every step that something was logged of, with training and held-out text side by side, to the last digit.
// Who trains it now: the last start counts. Speeds are those of all ranks.
static void test_ranks(void **state) {
    (void)state;
    launch_or_skip();
    char command[512];
    snprintf(command, sizeof command, "%s %s run.yaml -o ranks -s train.steps=4 > printed.txt 2>&1",
             launch(3), getenv("KVTRAIN"));
    assert_int_equal(system(command), 0);
    train_expect(0, ARGS("status", "ranks"));
    expect("ranks        3 on 1 node, 3 threads in all; lately ");
    json_t *root = facts("ranks");
    assert_true(number(root, "ranks") == 3 && number(root, "nodes") == 1 && number(root, "threads") == 3);
    json_decref(root);
    // Six digits of each are logged.
    const double a_token = metric("ranks", 4, "gflops_per_second") / metric("ranks", 4, "tokens_per_second"),
                 alone = metric("run", 4, "gflops_per_second") / metric("run", 4, "tokens_per_second");
    assert_true(fabs(a_token - alone) <= 2e-5 * alone);
    train_expect(0, ARGS("run.yaml", "-o", "ranks", "-s", "train.steps=6", "--resume"));
    train_expect(0, ARGS("status", "ranks"));
    assert_null(strstr(train_output(), "ranks        "));
    expect("step 6 of 6");
}

static void test_csv(void **state) {
    (void)state;
    kv_csv_table table;
    kv_metrics m;
    kv_error err;
    json_t *root = facts("run");
    const json_t *series = json_object_get(root, "metrics");
    train_expect(0, ARGS("status", "--csv", "run"));
    read_csv(&table);
    assert_string_equal(table.names[0], "step");
    assert_int_equal(table.n_rows, 21); // step 0 was validated alone
    assert_int_equal(json_array_size(json_object_get(series, "step")), 21);
    assert_int_equal(json_object_size(series), table.n_columns);
    if (kv_metrics_read("run/metrics.jsonl", &m, &err) != KV_OK) fail_msg("%s", err.message);
    for (int64_t row = 0; row <= 20; row++) {
        assert_true(csv_number(&table, row, "step") == (double)row);
        for (int64_t c = 0; c < table.n_columns; c++) {
            const json_t *listed = json_array_get(json_object_get(series, table.names[c]), (size_t)row);
            const double value = csv_number(&table, row, table.names[c]);
            assert_true(isnan(value) ? json_is_null(listed) : json_number_value(listed) == value);
        }
        const bool validated = row % 8 == 0 || row == 20;
        assert_true(isnan(csv_number(&table, row, "validation_loss")) != validated);
        assert_true(isnan(csv_number(&table, row, "validation_key_error_2")) != validated);
        assert_true(isnan(csv_number(&table, row, "loss")) == (row == 0));
        assert_false(isnan(csv_number(&table, row, "seconds")));
        for (int c = 0; row > 0 && c < m.training.n_columns; c++)
            assert_true(csv_number(&table, row, m.training.columns[c].name) ==
                        m.training.columns[c].values[row - 1]);
    }
    assert_true(csv_number(&table, 8, "validation_kl") == kv_metrics_values(&m.validation, "kl")[1]);
    kv_metrics_free(&m);
    kv_csv_table_free(&table);
    json_decref(root);
}

static void test_csv_of_several(void **state) {
    (void)state;
    kv_error err;
    assert_int_equal(kv_make_dirs("many/a,b", &err) || kv_make_dirs("many/c", &err), KV_OK);
    put_file("many/a,b/config.yaml", "task: lm\n");
    put_file("many/a,b/metrics.jsonl",
             "{\"step\": 1, \"loss\": 0.1}\n{\"step\": 2, \"loss\": NaN, \"x\": -Infinity}\n\0{");
    put_file("many/c/config.yaml", "task: lm\n");
    put_file("many/c/metrics.jsonl",
             "{\"step\": 5, \"loss\": 0.30000000000000004, \"y\": [1, null, 3]}\n{\"ste\n");
    train_expect(0, ARGS("status", "--csv", "many"));
    assert_string_equal(train_output(),
                        "run,step,loss,x,y_0,y_2\n\"many/a,b\",1,0.1,,,\n\"many/a,b\",2,,-inf,,\n"
                        "many/c,5,0.30000000000000004,,1,3\n");
    // One run by its own name has no column for that; a directory of one run has.
    train_expect(0, ARGS("status", "--csv", "many/c"));
    assert_string_equal(train_output(), "step,loss,y_0,y_2\n5,0.30000000000000004,1,3\n");
    assert_int_equal(kv_remove_tree("many/a,b", &err), KV_OK);
    train_expect(0, ARGS("status", "--csv", "many"));
    assert_string_equal(train_output(), "run,step,loss,y_0,y_2\nmany/c,5,0.30000000000000004,1,3\n");
    // JSON has no infinity.
    put_file("many/c/metrics.jsonl", "{\"step\": 5, \"loss\": Infinity}\n");
    json_t *root = facts("many/c");
    assert_true(json_is_null(json_array_get(json_object_get(json_object_get(root, "metrics"), "loss"), 0)));
    json_decref(root);
    put_file("many/c/metrics.jsonl", "");
    train_expect(0, ARGS("status", "--csv", "many/c"));
    assert_string_equal(train_output(), "step\n");
    train_expect(2, ARGS("status", "--csv", "--json", "run"));
    train_expect(2, ARGS("status", "--csv", "--watch", "run"));
    train_expect(1, ARGS("status", "--csv", "none", "run"));
    expect("kvtrain: none: No such file", "run,step,", "\nrun,20,");
}

// ---- On the way ----------------------------------------------------------------------------------------

static void test_running_and_interrupted(void **state) {
    (void)state;
    const char *const args[] = {
        "run.yaml",          "-o", "long", "-s", "train.steps=100000", "-s", "train.checkpoint_every=5", "-s",
        "train.log_every=2", NULL};
    const pid_t pid = train_start(args, 0);
    train_wait_for_file(pid, "long/checkpoints/step-000010", 0);
    json_t *root = facts("long");
    assert_string_equal(text(root, "state"), "running");
    assert_true(number(root, "step") >= 10 && number(root, "step") < 100000);
    assert_true(number(root, "left") > 0); // how much depends on the machine
    assert_true(json_is_null(json_object_get(root, "resumes_at")));
    json_decref(root);
    train_expect(0, ARGS("status", "long"));
    expect("state        running, step ", " of 100000 (0 %)\n", " left\n");
    // A watch goes on until the run does not.
    const pid_t watch = train_start(ARGS("status", "--watch=0.1", "long"), 0);
    train_wait_for_text(watch, "\n\nlong\n"); // for the second time
    assert_true(test_alive(watch));
    assert_int_equal(kill(pid, SIGINT), 0);
    assert_int_equal(train_finish(pid), 130);
    assert_int_equal(train_finish(watch), 0);
    expect("state        running", "state        interrupted");
    root = facts("long");
    assert_string_equal(text(root, "state"), "interrupted");
    const json_t *checkpoints = json_object_get(root, "checkpoints");
    const double last = json_number_value(json_array_get(checkpoints, json_array_size(checkpoints) - 1));
    assert_true(number(root, "resumes_at") == last && number(root, "step") == last &&
                number(root, "left") > 0);
    json_decref(root);
    train_expect(0, ARGS("status", "long"));
    expect("state        interrupted, step ", "; --resume goes on from step ", ", would need ");
}

// The mean of the loss over the last 20 steps up to `step`.
static double smoothed_until(const char *run, int64_t step) {
    double sum = 0;
    for (int64_t i = step - 19; i <= step; i++) sum += metric(run, i, "loss");
    return sum / 20;
}

static void make_older(const char *path, double seconds) {
    struct stat info;
    assert_int_equal(stat(path, &info), 0);
    const struct timespec then[2] = {{.tv_sec = info.st_mtime - (time_t)seconds},
                                     {.tv_sec = info.st_mtime - (time_t)seconds}};
    assert_int_equal(utimensat(AT_FDCWD, path, then, 0), 0);
}

// What was done before counts, steps that are done again too; the pause does not.
static void test_right_after_a_resume(void **state) {
    (void)state;
    const double day = 86400;
    const char *const begun[] = {"run.yaml",
                                 "-o",
                                 "twice",
                                 "-s",
                                 "train.steps=100000",
                                 "-s",
                                 "train.checkpoint_every=30",
                                 "-s",
                                 "train.keep_last=1000",
                                 NULL};
    const pid_t killed = train_start(begun, 0);
    train_wait_for_file(killed, "twice/checkpoints/step-000060", 0);
    kill(killed, SIGKILL);
    waitpid(killed, NULL, 0);
    json_t *root = facts("twice");
    const double before = number(root, "elapsed"), from = number(root, "resumes_at");
    assert_string_equal(text(root, "state"), "killed");
    assert_true(number(root, "starts") == 1);
    json_decref(root);
    kv_error err;
    char last[64];
    snprintf(last, sizeof last, "twice/checkpoints/step-%06d", (int)from);
    assert_int_equal(kv_remove_tree(last, &err),
                     KV_OK); // some steps are done again, however busy the machine was
    make_older("twice/metrics.jsonl", day);
    const char *const resumed[] = {"run.yaml", "--resume",
                                   "-o",       "twice",
                                   "-s",       "train.steps=100000",
                                   "-s",       "train.checkpoint_every=30",
                                   "-s",       "train.log_every=100000",
                                   "-s",       "train.keep_last=1000",
                                   "-s",       "train.validate_every=100000",
                                   NULL};
    const pid_t pid = train_start(resumed, 0);
    train_wait_for_file(pid, "twice/starts.json", 100);
    root = facts("twice");
    assert_string_equal(text(root, "state"), "running");
    assert_true(json_is_true(json_object_get(root, "resuming")));
    assert_true(number(root, "starts") == 2 && number(root, "lost") > 0);
    assert_true(number(root, "elapsed") >= before - 1e-3 && number(root, "elapsed") < before + day / 2);
    assert_true(number(root, "left") > 0);
    assert_true(fabs(number(root, "loss_smoothed") - smoothed_until("twice", (int64_t)from - 30)) < 1e-7);
    json_decref(root);
    train_expect(0, ARGS("status", "twice"));
    expect("logged steps, of before the resume)\n", " GFLOP/s (before the resume)\n", " spent in 2 starts",
           " left\n");
    // Stopped where no line was logged of.
    train_wait_for_file(pid, last, 0);
    assert_int_equal(kill(pid, SIGTERM), 0);
    assert_int_equal(train_finish(pid), 143);
    root = facts("twice");
    assert_true(number(root, "step") >= from);
    assert_true(number(root, "elapsed") > before && number(root, "elapsed") < before + day / 2);
    assert_true(json_is_false(json_object_get(root, "resuming")) && number(root, "left") > 0);
    json_decref(root);
    // Begun anew it has no past.
    train_expect(0, ARGS("run.yaml", "-o", "twice", "--force", "-s", "train.steps=2"));
    root = facts("twice");
    assert_true(number(root, "starts") == 1 && number(root, "lost") == 0);
    json_decref(root);
}

static void test_watch_is_stopped(void **state) {
    (void)state;
    const pid_t pid = train_start(ARGS("run.yaml", "-o", "watched", "-s", "train.steps=100000"), 0);
    train_wait_for_file(pid, "watched/metrics.jsonl", 0);
    const pid_t watch = train_start(ARGS("status", "--watch=1000", "watched"), 0);
    train_wait_for_text(watch, "state        running");
    assert_int_equal(kill(watch, SIGINT), 0);
    assert_int_equal(train_finish(watch), 130);
    assert_int_equal(kill(pid, SIGTERM), 0);
    assert_int_equal(train_finish(pid), 143);
}

// Ctrl-C while it looks, here at the moment when its gnuplot is at work, ends the wait that comes after.
static void test_watch_is_stopped_while_it_looks(void **state) {
    (void)state;
    kv_error err;
    char *path = strdup(getenv("PATH")), *with, here[PATH_MAX];
    assert_int_equal(kv_make_dirs("bin", &err), KV_OK);
    put_file("bin/gnuplot", "#!/bin/sh\nkill -INT $PPID\n");
    assert_int_equal(chmod("bin/gnuplot", 0755), 0);
    assert_int_equal(kv_make_dirs("looked_at", &err), KV_OK);
    put_file("looked_at/config.yaml", "task: lm\n");
    put_file("looked_at/metrics.jsonl", "{\"step\": 1, \"loss\": 4}\n{\"step\": 2, \"loss\": 3}\n");
    const int lock = open("looked_at", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(flock(lock, LOCK_EX | LOCK_NB), 0); // as a kvtrain at work in it has
    assert_non_null(getcwd(here, sizeof here));
    assert_true(asprintf(&with, "%s/bin:%s", here, path) > 0);
    setenv("PATH", with, 1);
    train_expect(130, ARGS("status", "--watch=1000", "looked_at"));
    expect("state        running");
    setenv("PATH", path, 1);
    free(path);
    free(with);
    close(lock);
}

static void test_killed_and_failed(void **state) {
    (void)state;
    const pid_t pid = train_start(
        ARGS("run.yaml", "-o", "dead", "-s", "train.steps=100000", "-s", "train.checkpoint_every=5"), 0);
    train_wait_for_file(pid, "dead/checkpoints/step-000005", 0);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    train_expect(0, ARGS("status", "dead"));
    expect("state        killed, step ", "; --resume goes on from step ", "it ended without saying why");
    train_expect(1, ARGS("run.yaml", "-o", "bad", "-s", "train.lr=1000", "-s", "train.warmup_steps=0", "-s",
                         "train.grad_clip=0", "-s", "train.steps=1000", "-s", "train.keep_best=false"));
    train_expect(0, ARGS("status", "bad"));
    expect("state        failed, step ", "expected ", "finite number");
    json_t *root = facts("bad");
    assert_string_equal(text(root, "state"), "failed");
    assert_non_null(strstr(text(root, "message"), "finite number"));
    json_decref(root);
    // Begun again, it has not failed.
    train_expect(0, ARGS("run.yaml", "-o", "bad", "--force", "-s", "train.steps=2"));
    train_expect(0, ARGS("status", "bad"));
    expect("state        finished, step 2 of 2 (100 %)");
}

// Asking does not get in the way of a run that starts.
static void test_lock_is_let_go(void **state) {
    (void)state;
    for (int i = 0; i < 5; i++) {
        const pid_t watch = train_start(ARGS("status", "run"), 0);
        train_expect(0, ARGS("run.yaml", "--resume"));
        assert_int_equal(train_finish(watch), 0);
    }
}

// ---- Several -------------------------------------------------------------------------------------------

static void test_several(void **state) {
    (void)state;
    train_expect(0, ARGS("status", "run", "base"));
    expect("run   state      ", "\nrun   finished  20/20  100 %  ", "\nbase  finished  40/40  100 %  ");
    assert_null(strstr(train_output(), "training loss"));
    kv_error err;
    assert_int_equal(kv_make_dirs("sweep/a/nothing", &err), KV_OK);
    put_file("sweep/eval.yaml", "tasks: []\n");
    train_expect(0, ARGS("run.yaml", "-o", "sweep/b", "-s", "train.steps=3"));
    train_expect(0, ARGS("run.yaml", "-o", "sweep/c", "-s", "train.steps=2"));
    train_expect(0, ARGS("status", "sweep/"));
    expect("\nsweep/b  finished   3/3  100 %", "\nsweep/c  finished   2/2  100 %");
    assert_null(strstr(train_output(), "sweep/a"));
    train_expect(0, ARGS("status", "--json", "sweep", "run"));
    int n = 0;
    for (const char *line = train_output(); *line; line = strchr(line, '\n') + 1, n++) {
        json_t *root = json_loads(line, JSON_DISABLE_EOF_CHECK, NULL);
        assert_string_equal(text(root, "state"), "finished");
        json_decref(root);
    }
    assert_int_equal(n, 3);
    // What cannot be read is named, the others are shown.
    train_expect(1, ARGS("status", "run", "none", "base"));
    expect("kvtrain: none: No such file or directory (looked for from /tmp/", "\nrun ", "\nbase ");
}

// ---- Damage --------------------------------------------------------------------------------------------

static void test_damage(void **state) {
    (void)state;
    kv_error err;
    train_refuse(", expected the directory of a run", ARGS("status", "run.yaml"));
    assert_int_equal(kv_make_dirs("empty", &err), KV_OK);
    train_refuse("empty: an empty directory, expected a run of kvtrain, or a directory of runs",
                 ARGS("status", "empty"));
    train_expect(2, ARGS("status"));
    train_expect(2, ARGS("status", "--watch=x", "run"));
    train_expect(0, ARGS("base.yaml", "-o", "hurt", "-s", "train.steps=4"));
    // The end of a line that is being written.
    FILE *file = fopen("hurt/metrics.jsonl", "a");
    fputs("{\"step\": 5, \"lr\": 0.0", file);
    fclose(file);
    train_expect(0, ARGS("status", "hurt"));
    expect("step 4 of 4");
    file = fopen("hurt/metrics.jsonl", "a");
    fputs("\n{\"step\": 6, \"lr\": 0.01, \"loss\": 1}\n", file);
    fclose(file);
    train_refuse("hurt/metrics.jsonl:5: ", ARGS("status", "hurt"));
    put_file("hurt/metrics.jsonl", "{\"step\": 1, \"loss\": \"much\"}\n");
    train_refuse("hurt/metrics.jsonl:1: \"loss\": found a string, expected a number", ARGS("status", "hurt"));
    put_file("hurt/metrics.jsonl", "{\"step\": 1, \"validation\": {}}\n");
    train_refuse("hurt/metrics.jsonl:1: expected a logged step", ARGS("status", "hurt"));
    put_file("hurt/metrics.jsonl", "");
    train_expect(0, ARGS("status", "hurt"));
    expect("loss         no step logged yet");
    unlink("hurt/metrics.jsonl");
    train_expect(0, ARGS("status", "hurt"));
    put_file("hurt/final/state.json", "{\"step\": -1}");
    train_refuse("hurt/final/state.json", ARGS("status", "hurt"));
    put_file("hurt/config.yaml", "task: [");
    train_refuse("hurt/config.yaml:", ARGS("status", "hurt"));
    put_file("hurt/config.yaml", "task: soup\n");
    train_refuse("hurt/config.yaml: not a configuration of kvtrain", ARGS("status", "hurt"));
    unlink("hurt/config.yaml");
    train_refuse("hurt: a directory, expected a run of kvtrain", ARGS("status", "hurt"));
}

// ---- The curve -----------------------------------------------------------------------------------------

static size_t longest_line(const char *output) {
    size_t longest = 0;
    for (const char *line = strstr(output, "\n\n"); line && *line; line += strcspn(line, "\n") + 1) {
        size_t n = strcspn(line, "\n");
        if (n > longest) longest = n;
        if (!line[n]) break;
    }
    return longest;
}

static void test_curve(void **state) {
    (void)state;
    // Falls in a straight line from 10 to 2: the first mark is high on the left, the last low on the right.
    train_expect(0, ARGS("base.yaml", "-o", "drawn", "-s", "train.steps=1"));
    FILE *file = fopen("drawn/metrics.jsonl", "w");
    for (int step = 1; step <= 1000; step++)
        fprintf(file, "{\"step\": %d, \"lr\": 1, \"loss\": %g}\n", step, 10 - 0.008 * step);
    fclose(file);
    setenv("LC_ALL", "C", 1);
    setenv("COLUMNS", "60", 1);
    train_expect(0, ARGS("status", "drawn"));
    for (const char *c = train_output(); *c; c++)
        assert_true((unsigned char)*c < 128 && *c != '\f' && *c != '\033');
    const char *picture = strstr(train_output(), "\n\n");
    assert_non_null(picture);
    assert_true(longest_line(train_output()) <= 60);
    long previous = -1;
    int rows = 0;
    for (const char *line = picture + 2; *line; line += strcspn(line, "\n") + 1) {
        const size_t n = strcspn(line, "\n");
        const char *axis = memchr(line, '|', n),
                   *mark = axis ? memchr(axis, '*', n - (size_t)(axis - line)) : NULL;
        if (!mark || memmem(line, n, "loss", 4)) continue;
        assert_true(mark - line > previous);
        previous = mark - line;
        rows++;
    }
    assert_true(rows > 8);
    assert_true(previous > 50 - 8);
    setenv("LC_ALL", "C.UTF-8", 1);
    unsetenv("COLUMNS");
    // Without gnuplot the figures alone, and why.
    char *path = strdup(getenv("PATH"));
    setenv("PATH", "/nowhere", 1);
    train_expect(0, ARGS("status", "run"));
    expect("state        finished", "(no loss curve: gnuplot is not installed (package gnuplot-nox))");
    setenv("PATH", path, 1);
    free(path);
}

// In a terminal the picture is as wide as that is.
static void test_terminal(void **state) {
    (void)state;
    const struct winsize size = {.ws_row = 30, .ws_col = 52};
    int terminal;
    const pid_t pid = forkpty(&terminal, NULL, NULL, &size);
    if (pid < 0) skip();
    if (pid == 0) {
        execl(getenv("KVTRAIN"), "kvtrain", "status", "run", (char *)NULL);
        _exit(99);
    }
    char output[1 << 14];
    size_t n = 0;
    for (ssize_t got; n + 1 < sizeof output && (got = read(terminal, output + n, sizeof output - 1 - n)) > 0;)
        n += (size_t)got;
    output[n] = '\0';
    close(terminal);
    int status;
    waitpid(pid, &status, 0);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    for (const char *line = output; *line; line += strcspn(line, "\n"), line += *line == '\n') {
        char *copy = strndup(line, strcspn(line, "\r\n"));
        if (kv_text_width(copy) > 52) fail_msg("wider than the terminal: %s", copy);
        free(copy);
    }
    const char *axis = strstr(output, "+------");
    if (!axis) fail_msg("no axis in %s", output);
    size_t width = strspn(axis, "+-");
    assert_true(width > 30 && width < 52);
}

// ---- The reader ----------------------------------------------------------------------------------------

static void test_metrics(void **state) {
    (void)state;
    put_file("m.jsonl", "{\"step\": 0, \"validation\": {\"loss\": 5, \"key_error\": [1]}, \"seconds\": 0}\n"
                        "{\"step\": 1, \"loss\": 4, \"lr\": 0.5}\n"
                        "{\"step\": 2, \"loss\": 3, \"kl\": 0.25}\n"
                        "{\"step\": 2, \"validation\": {\"loss\": 2.5}, \"seconds\": 1}\n"
                        "{\"step\": 3, \"validation\": {\"loss\": 2.5}, \"seconds\": 2}\n{\"step\"");
    kv_metrics m;
    kv_error err = {0};
    if (kv_metrics_read("m.jsonl", &m, &err) != KV_OK) fail_msg("%s", err.message);
    assert_int_equal(m.training.n, 2);
    assert_int_equal(m.validation.n, 3);
    assert_int_equal(m.best, 1); // the first of equal ones
    assert_int_equal(m.validation.steps[m.best], 2);
    const double *kl = kv_metrics_values(&m.training, "kl"), *lr = kv_metrics_values(&m.training, "lr");
    assert_true(isnan(kl[0]) && kl[1] == 0.25 && lr[0] == 0.5 && isnan(lr[1]));
    assert_true(kv_metrics_last(&m.training, "lr") == 0.5 && kv_metrics_mean(&m.training, "loss", 20) == 3.5);
    assert_true(kv_metrics_mean(&m.training, "loss", 1) == 3 &&
                kv_metrics_sum(&m.validation, "seconds") == 3);
    assert_null(kv_metrics_values(&m.training, "none"));
    assert_true(isnan(kv_metrics_last(&m.training, "none")));
    kv_metrics_free(&m);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_finished),
        cmocka_unit_test(test_json),
        cmocka_unit_test(test_ranks),
        cmocka_unit_test(test_csv),
        cmocka_unit_test(test_csv_of_several),
        cmocka_unit_test(test_running_and_interrupted),
        cmocka_unit_test(test_right_after_a_resume),
        cmocka_unit_test(test_watch_is_stopped),
        cmocka_unit_test(test_watch_is_stopped_while_it_looks),
        cmocka_unit_test(test_killed_and_failed),
        cmocka_unit_test(test_lock_is_let_go),
        cmocka_unit_test(test_several),
        cmocka_unit_test(test_damage),
        cmocka_unit_test(test_curve),
        cmocka_unit_test(test_terminal),
        cmocka_unit_test(test_metrics),
    };
    return cmocka_run_group_tests(tests, set_up, train_teardown);
}

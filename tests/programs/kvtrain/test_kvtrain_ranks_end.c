// kvtrain with several ranks when something goes wrong: one message that names rank and host, no rank left behind, and a last
// good checkpoint that the run goes on from; and ranks that have not read the same are refused.
#include "tests/support/launch.h"
#include "tests/support/shell.h"
#include "tests/support/spoil.h"
#include "tests/support/train.h"

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

// base, aux and kvp as train_setup makes them, and rank, which starts kvtrain with the arguments that follow "RANK" as those of that
// rank alone, and under the limit on addresses that LIMIT (kB) says. Each leaves its process id.
static int setup(void **state) {
    if (train_shell_setup(state)) return -1;
    put_file(
        "rank",
        "rank=${OMPI_COMM_WORLD_RANK:-$PMI_RANK}\n"
        "echo $$ >pid.$rank.new && mv pid.$rank.new pid.$rank\n"
        "who=$1 && shift\n"
        "all= own= && for a; do if [ \"$a\" = -- ]; then own=1; elif [ \"$own\" ]; then extra=\"$extra $a\"; "
        "else all=\"$all $a\"; fi; done\n"
        "if [ $rank = $who ] && [ \"$LIMIT\" ]; then ulimit -v $LIMIT; fi\n"
        "if [ $rank = $who ]; then exec \"$T\" $all $extra; else exec \"$T\" $all; fi\n");
    return 0;
}

#define FOR_EACH_KIND(kind)                                                                                  \
    launch_or_skip();                                                                                        \
    for (int kind = 0; kind < launch_n_kinds(); kind++)

// "kvtrain ARGUMENTS" under n ranks, with further arguments behind "--" for rank `who`.
static const char *command_of(int kind, int n, int who, const char *arguments) {
    static char command[2048];
    snprintf(command, sizeof command, "exec %s sh rank %d %s", launch_with(kind, n), who, arguments);
    return command;
}

static int run(int kind, int n, int who, const char *arguments) {
    return shell(command_of(kind, n, who, arguments));
}

static int n_lines(const char *text, const char *with) {
    int n = 0;
    for (const char *at = text; (at = strstr(at, with)); at += strlen(with)) n++;
    return n;
}

// Fails with status 1 and one message, of this rank.
static void refuse(int kind, int n, int who, const char *arguments, const char *message) {
    const int status = run(kind, n, who, arguments);
    char host[64] = "", line[512];
    gethostname(host, sizeof host - 1);
    snprintf(line, sizeof line, "kvtrain: rank %d (%s): %s", who, host, message);
    if (status != 1 || n_lines(shell_err, line) != 1 || n_lines(shell_err, "kvtrain: rank") != 1)
        fail_msg("%s: kvtrain %s: exit status %d, expected 1 and '%s', found:\n%s", launch_kind(kind),
                 arguments, status, line, shell_err);
}

// ---- Not the same --------------------------------------------------------------------------------------

static void test_other_inputs(void **state) {
    (void)state;
    make_text("other.h5", 60, 9);
    make_text("held_out.h5", 20, 10);
    train_expect(0, ARGS("base.yaml", "-o", "other", "-s", "train.lr=2e-2"));
    assert_int_equal(shell("mkdir -p copy && cp shard.h5 copy/same.h5 && cp -r aux copy/aux"), 0);
    FOR_EACH_KIND(kind) {
        refuse(kind, 3, 2, "base.yaml -o x -- -s train.lr=3e-3",
               "-s train.lr=3e-3: key `train.lr`: found `3e-3`, expected `1e-2` as rank 0 (");
        refuse(kind, 2, 1, "base.yaml -o x -- -s data.train=other.h5", "shard 0 of data.train differs");
        refuse(kind, 2, 1, "base.yaml -o x -s data.validation=held_out.h5 -- -s data.validation=other.h5",
               "the text of data.validation differs");
        // Found where the weights are loaded.
        refuse(kind, 2, 1, "kvp.yaml -o x -s frozen_dtype=stored -- -s base=other/final/model",
               "the base (its weights) differs");
        refuse(kind, 2, 1,
               "base.yaml -o x -s model=null -s model.from=checkpoint -s model.path=base/final/model -- -s "
               "model.path=other/final/model",
               "what is trained (the weights it starts with) differs");
        assert_false(kv_path_exists_in(".", "x"));
        // A copy elsewhere is the same.
        assert_int_equal(run(kind, 2, 1,
                             "kvp.yaml -o copied --force -s train.steps=2 -s train.warmup_steps=1 -- -s "
                             "data.train=copy/same.h5 -s aux=copy/aux/final/model -s train.memory_gb=64"),
                         0);
    }
}

// Rank 1 has another directory of that name, with nothing in it.
static void test_other_beginning(void **state) {
    (void)state;
    train_expect(0, ARGS("base.yaml", "-o", "begun", "-s", "train.steps=15"));
    refuse(0, 2, 1, "base.yaml -o begun --resume -- -o nowhere", "what the run goes on from");
}

// ---- One fails -----------------------------------------------------------------------------------------

static void test_failures(void **state) {
    (void)state;
    assert_int_equal(shell("cp -r base/final/model spoilt"), 0);
    test_spoil("spoilt", "model.safetensors", "embed_tokens.weight", 3, (float)NAN);
    FOR_EACH_KIND(kind) {
        refuse(kind, 3, 1, "base.yaml -o x -- -s data.train=gone.h5",
               "-s data.train=gone.h5: key `data.train`: gone.h5: No such file or directory");
        refuse(kind, 2, 1, "base.yaml -o x -- -s train.memory_gb=0.0001", "");
        assert_non_null(strstr(shell_err, "memory"));
        refuse(kind, 2, 1,
               "base.yaml -o x -s model=null -s model.from=checkpoint -s model.path=base/final/model -- -s "
               "model.path=spoilt",
               "");
        assert_non_null(strstr(shell_err, "NaN"));
        assert_false(kv_path_exists_in(".", "x"));
    }
}

// OpenBLAS would ask for ever.
static void test_no_memory(void **state) {
    (void)state;
    if (test_under_asan()) skip();
    FOR_EACH_KIND(kind) {
        setenv("LIMIT", "420000", 1);
        refuse(kind, 2, 1, "base.yaml -o x", "matrix products with 1 thread need 0.268 GB of address space");
        unsetenv("LIMIT");
    }
}

static void test_usage(void **state) {
    (void)state;
    FOR_EACH_KIND(kind) {
        assert_int_equal(run(kind, 3, 0, "base.yaml --nonsense"), 2);
        assert_int_equal(n_lines(shell_err, "unrecognized option"), 1);
        assert_int_equal(run(kind, 3, 0, "--help"), 0);
        assert_int_equal(n_lines(shell_out, "Usage: kvtrain"), 1);
        assert_string_equal(shell_err, "");
    }
}

// ---- Killed, and stopped -------------------------------------------------------------------------------

static pid_t start(int kind, int n, const char *arguments) {
    assert_int_equal(shell("rm -f pid.*"), 0);
    const char *command = command_of(kind, n, 0, arguments);
    const pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGTERM); // a test that failed waits for nobody
        if (!freopen("said", "w", stdout) || dup2(STDOUT_FILENO, STDERR_FILENO) < 0) _exit(99);
        execl("/bin/sh", "sh", "-c", command, (char *)NULL);
        _exit(99);
    }
    return pid;
}

static pid_t rank_pid(pid_t launcher, int rank) {
    char name[32];
    int pid = 0;
    snprintf(name, sizeof name, "pid.%d", rank);
    train_wait_for_file(launcher, name, 1);
    FILE *file = fopen(name, "r");
    if (!file || fscanf(file, "%d", &pid) != 1) fail_msg("%s cannot be read", name);
    fclose(file);
    return pid;
}

static int finish(pid_t launcher) {
    int status = 0;
    assert_int_equal(waitpid(launcher, &status, 0), launcher);
    assert_int_equal(shell("cat said >&2"), 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

// Something is in the way of rank 0's checkpoint.
static void test_no_checkpoint(void **state) {
    (void)state;
    FOR_EACH_KIND(kind) {
        assert_int_equal(shell("rm -rf full"), 0);
        const pid_t launcher =
            start(kind, 2, "base.yaml -o full -s train.steps=100000 -s train.checkpoint_every=2000");
        train_wait_for_file(launcher, "full/metrics.jsonl", 1);
        put_file("full/checkpoints", "");
        const int status = finish(launcher);
        if (status != 1 || n_lines(shell_err, "full/checkpoints") != 1 || n_lines(shell_err, "rank 0 (") != 1)
            fail_msg("%s: exit status %d, expected 1 and one complaint about full/checkpoints, found: %s",
                     launch_kind(kind), status, shell_err);
    }
}

// Whether none of the ranks is at work any more; a launcher may be slow to wait for them.
static void expect_gone(const pid_t *ranks, int n) {
    for (int r = 0; r < n; r++) {
        char name[64];
        snprintf(name, sizeof name, "/proc/%d/exe", (int)ranks[r]);
        for (int i = 0; i < 5000 && access(name, F_OK) == 0; i++) usleep(2000);
        if (access(name, F_OK) == 0) fail_msg("rank %d is left behind", r);
    }
}

// Kills rank `who` once `file` is there; then the run goes on to the weights of one that nobody stopped.
static void kill_when(int kind, int who, const char *file) {
    enum { N = 3 };
    char line[256], host[64] = "";
    pid_t ranks[N];
    assert_int_equal(shell("rm -rf killed"), 0);
    const pid_t launcher = start(kind, N, "base.yaml -o killed -s train.checkpoint_every=5");
    for (int r = 0; r < N; r++) ranks[r] = rank_pid(launcher, r);
    train_wait_for_file(launcher, file, 0);
    kill(ranks[who], SIGKILL);
    const int status = finish(launcher);
    expect_gone(ranks, N);
    gethostname(host, sizeof host - 1);
    snprintf(line, sizeof line, "kvtrain: rank %d (host %s, process %d) has died", who, host,
             (int)ranks[who]);
    if (status == 0 || n_lines(shell_err, line) != 1 || n_lines(shell_err, "has died") != 1)
        fail_msg("%s: exit status %d, expected '%s', found:\n%s", launch_kind(kind), status, line, shell_err);
    if (run(kind, N, 0, "base.yaml -o killed -s train.checkpoint_every=5 --resume") != 0)
        fail_msg("%s", shell_err);
    assert_true(same_file("killed/final/model/model.safetensors", "whole/final/model/model.safetensors"));
}

static void test_killed(void **state) {
    (void)state;
    assert_int_equal(run(0, 3, 0, "base.yaml -o whole"), 0);
    FOR_EACH_KIND(kind) {
        kill_when(kind, 2, "killed/config.yaml");                // it begins
        kill_when(kind, kind, "killed/checkpoints/step-000005"); // in the midst of it
        kill_when(kind, 1, "killed/checkpoints/step-000035");    // near its end
    }
}

// A checkpoint, and the signal's exit status: all ranks stop after the same step, whichever of them was told.
static void stop(int kind, int number, int who) {
    pid_t ranks[2];
    assert_int_equal(shell("rm -rf stopped"), 0);
    const pid_t launcher =
        start(kind, 2, "base.yaml -o stopped -s train.steps=100000 -s train.checkpoint_every=100000");
    for (int r = 0; r < 2; r++) ranks[r] = rank_pid(launcher, r);
    train_wait_for_file(launcher, "stopped/metrics.jsonl", 100);
    // A launcher that is signalled passes it on; MPICH's then at times exits with 0, whatever the ranks do.
    kill(who < 0 ? launcher : ranks[who], number);
    const int status = finish(launcher);
    expect_gone(ranks, 2);
    if ((status != 128 + number && (who >= 0 || status != 0)) || test_dir_count("stopped/checkpoints") != 1 ||
        n_lines(shell_err, "kvtrain: to go on: ") != 1)
        fail_msg("%s: exit status %d, expected %d and a checkpoint: %s", launch_kind(kind), status,
                 128 + number, shell_err);
}

static void test_stopped(void **state) {
    (void)state;
    FOR_EACH_KIND(kind) {
        stop(kind, SIGTERM, 0);
        stop(kind, SIGTERM, 1);
        stop(kind, SIGUSR1, -1);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_other_inputs),  cmocka_unit_test(test_other_beginning),
        cmocka_unit_test(test_failures),      cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_no_checkpoint), cmocka_unit_test(test_usage),
        cmocka_unit_test(test_killed),        cmocka_unit_test(test_stopped),
    };
    return cmocka_run_group_tests(tests, setup, train_teardown);
}

// The programs under limits that batch systems and careful people set: each ends with a word, by itself. A watchdog
// (alarm) ends what spins.
#include "data/file/content.h"
#include "tests/support/train.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { WATCHDOG_SECONDS = 120, MB = 1 << 20, MAX_ARGS = 20 };

static char *printed; // both streams

// Runs the program of that variable with so many threads under a limit (0: none); exit status, or the signal's number,
// negative.
static int run(const char *variable, int resource, rlim_t bytes, const char *threads,
               const char *const *args) {
    const char *argv[MAX_ARGS] = {getenv(variable)};
    for (int i = 0; args[i]; i++) {
        assert_true(i + 2 < MAX_ARGS);
        argv[i + 1] = args[i];
    }
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        const struct rlimit limit = {bytes, bytes};
        const int out = open("printed.txt", O_WRONLY | O_CREAT | O_TRUNC, 0666);
        dup2(out, STDOUT_FILENO), dup2(out, STDERR_FILENO);
        close(out);
        setenv("OMP_NUM_THREADS", threads, 1);
        alarm(WATCHDOG_SECONDS);
        if (bytes && setrlimit((__rlimit_resource_t)resource, &limit)) _exit(99);
        execv(argv[0], (char *const *)argv);
        _exit(99);
    }
    int status;
    size_t size;
    kv_error err = {0};
    assert_int_equal(waitpid(child, &status, 0), child);
    free(printed);
    if (kv_read_file("printed.txt", 1 << 20, &printed, &size, &err) != KV_OK) fail_msg("%s", err.message);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static void expect(int code, int found, const char *part) {
    if (found != code || !strstr(printed, part))
        fail_msg("expected %d and `%s`, found %d and: %s", code, part, found, printed);
}

#define KVRUN_IDS ARGS("-q", "-b", "base/final/model", "--prompt-ids", "3 4", "--ids", "-n", "3")

// ---- Products ------------------------------------------------------------------------------------------

static void too_few_addresses_for_products(void **state) {
    (void)state;
    if (test_under_asan()) return;
    put_file("eval.yaml", "output: eval\nsystems: [{name: base, model: base/final/model}]\n"
                          "ttft: {prompt_tokens: 8, batch_size: 1, repeats: 1}\n");
    const struct {
        const char *variable;
        const char *const *args;
    } all[] = {
        {"KVRUN", KVRUN_IDS},
        {"KVTRAIN", ARGS("base.yaml", "-o", "limited")},
        {"KVTRAIN", ARGS("base.yaml", "-o", "limited", "--dry-run")},
        {"KVEVAL", ARGS("eval.yaml")},
        {"KVDATA",
         ARGS("cache", "--base", "base/final/model", "--seq-len", "8", "--out", "limited", "shard.h5")},
    };
    static const struct {
        int resource;
        const char *name;
    } limits[] = {{RLIMIT_AS, "the limit on address space (ulimit -v); raise"},
                  {RLIMIT_DATA, "the limit on data (ulimit -d); raise"}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        for (size_t l = 0; l < 2; l++) {
            const char *const threads[] = {"1", "3"};
            for (int t = 0; t < 2; t++) {
                expect(1, run(all[i].variable, limits[l].resource, 220 * MB, threads[t], all[i].args),
                       limits[l].name);
                expect(1, 1, t ? " with 3 threads need " : " with 1 thread need ");
            }
        }
    assert_false(kv_path_exists("limited"));
    expect(1, run("KVRUN", RLIMIT_AS, (rlim_t)900 * MB, "8", KVRUN_IDS),
           "raise that limit, or set OMP_NUM_THREADS=");
    expect(0, run("KVRUN", RLIMIT_AS, (rlim_t)900 * MB, "1", KVRUN_IDS), "");
}

// OpenBLAS would take its buffers as it is loaded.
static void what_multiplies_nothing_needs_none(void **state) {
    (void)state;
    if (test_under_asan()) return;
    expect(0, run("KVDATA", RLIMIT_AS, 200 * MB, "8", ARGS("--help")), "Usage: kvdata");
    expect(0, run("KVTRAIN", RLIMIT_AS, 200 * MB, "8", ARGS("--help")), "Usage: kvtrain");
    expect(0, run("KVRUN", RLIMIT_AS, 200 * MB, "8", ARGS("--version")), "kvrun ");
    expect(0, run("KVEVAL", RLIMIT_AS, 200 * MB, "8", ARGS("--version")), "kveval ");
    expect(0, run("KVDATA", RLIMIT_AS, 200 * MB, "8", ARGS("inspect", "shard.h5")), "documents");
    expect(0, run("KVTRAIN", RLIMIT_AS, 200 * MB, "8", ARGS("status", "base")), "finished");
    // OpenMP would end it without naming the limit.
    expect(1, run("KVEVAL", RLIMIT_AS, 200 * MB, "64", ARGS("report", "any.h5")),
           "kveval: cannot start 64 threads");
    expect(0,
           run("KVDATA", RLIMIT_AS, 200 * MB, "8", ARGS("snippets", "-n", "40", "-f", "20", "-o", "tasks")),
           "");
}

// Wherever memory ends, be it while libraries are loaded: a word, and no signal.
static void at_any_limit(void **state) {
    (void)state;
    if (test_under_asan()) return;
    for (rlim_t limit = 40; limit < 900; limit += limit < 200 ? 20 : 50) {
        const int answered = run("KVRUN", RLIMIT_AS, limit * MB, "2", KVRUN_IDS);
        if (answered < 0 || !*printed)
            fail_msg("kvrun at %llu MB: %d %s", (unsigned long long)limit, answered, printed);
        const int trained = run("KVTRAIN", RLIMIT_AS, limit * MB, "2",
                                ARGS("base.yaml", "-o", "any", "--force", "-s", "train.steps=1"));
        if (trained < 0 || !*printed)
            fail_msg("kvtrain at %llu MB: %d %s", (unsigned long long)limit, trained, printed);
    }
}

// What does not fit is refused before it is begun, with the limit's name.
static void models_that_do_not_fit(void **state) {
    (void)state;
    if (test_under_asan()) return;
    expect(1,
           run("KVRUN", RLIMIT_AS, (rlim_t)1200 * MB, "1",
               ARGS("-q", "-b", "random:openelm-3b", "--prompt-ids", "5", "--ids", "-n", "1")),
           "random:openelm-3b: needs 12.1 GB of memory, found 0.");
    expect(1, 1, " GB left by the limit on address space (ulimit -v)");
    expect(1,
           run("KVTRAIN", RLIMIT_AS, (rlim_t)800 * MB, "1",
               ARGS("base.yaml", "-o", "x", "-s", "data={seq_len: 8, batch_size: 1048576}")),
           "GB by the limit on address space (ulimit -v); it needs");
    expect(0, run("KVTRAIN", RLIMIT_AS, (rlim_t)800 * MB, "1", ARGS("base.yaml", "-o", "x", "--dry-run")),
           "GB are allowed by the limit on address space (ulimit -v)");
}

// ---- Others --------------------------------------------------------------------------------------------

static void a_small_stack(void **state) {
    (void)state;
    static const char *const programs[] = {"KVDATA", "KVTRAIN", "KVRUN", "KVEVAL"};
    for (int i = 0; i < 4; i++)
        expect(1, run(programs[i], RLIMIT_STACK, 200 << 10, "2", ARGS("--version")),
               "found a limit on the stack of 200 kB (ulimit -s), expected at least 512 kB");
    expect(0, run("KVRUN", RLIMIT_STACK, 1 * MB, "2", KVRUN_IDS), "");
}

// Steps go on until the limit is near; then it is as if someone had sent SIGTERM.
static void cpu_time(void **state) {
    (void)state;
    expect(
        128 + SIGXCPU,
        run("KVTRAIN", RLIMIT_CPU, 4, "1", ARGS("base.yaml", "-o", "timed", "-s", "train.steps=100000000")),
        "kvtrain: interrupted after step");
    expect(0, run("KVTRAIN", 0, 0, "1", ARGS("status", "timed")), "interrupted");
    assert_nothing_half_written();
}

static void few_descriptors(void **state) {
    (void)state;
    for (rlim_t n = 4; n < 24; n += 2) {
        const int code = run("KVTRAIN", RLIMIT_NOFILE, n, "1",
                             ARGS("base.yaml", "-o", "few", "--force", "-s", "train.steps=1"));
        if (code < 0 || (code && !*printed))
            fail_msg("%llu descriptors: %d %s", (unsigned long long)n, code, printed);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(too_few_addresses_for_products),
        cmocka_unit_test(what_multiplies_nothing_needs_none),
        cmocka_unit_test(at_any_limit),
        cmocka_unit_test(models_that_do_not_fit),
        cmocka_unit_test(a_small_stack),
        cmocka_unit_test(cpu_time),
        cmocka_unit_test(few_descriptors),
    };
    return cmocka_run_group_tests(tests, train_setup, train_teardown);
}

// Callers of the sandbox: what their programs leave, when they are stopped too, and what becomes of them on
// machines and as users that make it harder.
#include "tests/support/sandbox.h"

#include "data/system/console.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

// ---- What is left --------------------------------------------------------------------------------------

struct counted {
    int64_t calls, passed, index_sum;
};

static void count(void *context, int64_t index, const kv_sandbox_result *result) {
    struct counted *c = context;
    c->calls++;
    c->index_sum += index;
    c->passed += result->verdict == KV_VERDICT_PASSED;
}

// Every tenth one leaves a daemon behind. KV_LONG_TESTS: a thousand of them.
static void many_programs_leave_nothing(void **state) {
    (void)state;
    static const char daemon[] = "import os, time, signal\n"
                                 "if os.fork() == 0:\n"
                                 "    os.setsid()\n"
                                 "    if os.fork(): os._exit(0)\n"
                                 "    for n in (1, 2, 3, 15): signal.signal(n, signal.SIG_IGN)\n"
                                 "    for n in range(20): os.close(n) if n > 4 else None\n"
                                 "    while True: time.sleep(1)\n"
                                 "open('/tmp/left', 'w').write('x')\n";
    const int64_t n = getenv("KV_LONG_TESTS") ? 1000 : 60;
    kv_sandbox_options o = test_sandbox_options(60, true);
    const int64_t descriptors = test_count_descriptors();
    kv_sandbox *sandbox = test_open_sandbox(&o);
    kv_program *programs = test_alloc(n, sizeof *programs);
    kv_sandbox_result *results = test_alloc(n, sizeof *results);
    for (int64_t i = 0; i < n; i++) {
        programs[i].source = i % 10 == 3 ? daemon : i % 10 == 5 ? "assert False" : "pass";
        programs[i].length = strlen(programs[i].source);
    }
    struct counted counted = {0};
    kv_error err = {0};
    if (kv_sandbox_run(sandbox, programs, n, results, count, &counted, &err) != KV_OK)
        fail_msg("%s", err.message);
    for (int64_t i = 0; i < n; i++)
        if ((results[i].verdict == KV_VERDICT_PASSED) != (i % 10 != 5))
            fail_msg("program %lld: %s", (long long)i, results[i].text);
    assert_int_equal(counted.calls, n);
    assert_int_equal(counted.index_sum, n * (n - 1) / 2);
    assert_int_equal(test_count_left(getpid(), true), 0);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
    assert_int_equal(errno, ECHILD);
    assert_int_equal(test_count_descriptors(), descriptors);
    free(programs);
    free(results);
    kv_sandbox_free(sandbox);
}

// In a child that is stopped half-way: by Ctrl-C, and by SIGKILL, of which it knows nothing.
static void write_one(void *context, int64_t index, const kv_sandbox_result *result) {
    (void)index, (void)result;
    if (write(*(const int *)context, "x", 1) != 1) _exit(9);
}

static pid_t start_a_caller(int *progress) {
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child > 0) {
        close(ends[1]);
        *progress = ends[0];
        return child;
    }
    static const char hold[] =
        "import os, time\nos.fork()\nos.setsid() if os.getpid() != 2 else None\ntime.sleep(1000)";
    kv_console_catch_signals();
    kv_sandbox_options o = test_sandbox_options(600, true);
    kv_sandbox *sandbox = NULL;
    kv_error err = {0};
    if (kv_sandbox_open(&o, &sandbox, &err) != KV_OK) _exit(1);
    kv_program programs[40];
    kv_sandbox_result results[40];
    for (int i = 0; i < 40; i++)
        programs[i] = i < 4 ? (kv_program){"pass", 4} : (kv_program){hold, sizeof hold - 1};
    _exit(kv_sandbox_run(sandbox, programs, 40, results, write_one, &ends[1], &err) == KV_ERR_INTERRUPTED
              ? 42
              : 2);
}

static void stopped_callers_leave_nothing(void **state) {
    (void)state;
    static const int signals[] = {SIGINT, SIGKILL};
    for (int i = 0; i < 2; i++) {
        int progress, status;
        char done[4];
        const pid_t child = start_a_caller(&progress);
        for (int n = 0; n < 4; n++) assert_int_equal(read(progress, done + n, 1), 1);
        // Ctrl-C comes while some are still being built. For SIGKILL all have to run, each as bwrap, its
        // process inside, Python and Python's child: who is killed while bwrap starts another process leaves
        // that waiting.
        const int enough = signals[i] == SIGINT ? TEST_WORKERS : 4 * TEST_WORKERS;
        for (int tries = 0; tries < 6000 && test_count_left(child, false) < enough; tries++) usleep(10000);
        assert_true(test_count_left(child, false) > 0);
        assert_int_equal(kill(child, signals[i]), 0);
        assert_int_equal(waitpid(child, &status, 0), child);
        if (signals[i] == SIGINT) {
            assert_true(WIFEXITED(status));
            assert_int_equal(WEXITSTATUS(status), 42);
            assert_int_equal(test_count_left(child, true), 0);
        } else {
            for (int tries = 0; tries < 1000 && test_count_left(child, false) > 0; tries++) usleep(10000);
        }
        assert_int_equal(test_count_left(child, false), 0);
        close(progress);
    }
}

// ---- Other callers and other machines ------------------------------------------------------------------

// The same limits hold when the caller is not root. In a child, as users are changed for good.
static void other_users(void **state) {
    (void)state;
    if (geteuid() != 0) skip();
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        if (setgid(65534) != 0 || setuid(65534) != 0) _exit(10);
        kv_sandbox_options o = test_sandbox_options(60, true);
        kv_sandbox *sandbox = NULL;
        kv_error err = {0};
        if (kv_sandbox_open(&o, &sandbox, &err) != KV_OK) {
            print_error("%s\n", err.message);
            _exit(11);
        }
        const char *const sources[] = {test_fork_bomb, test_thread_bomb, "pass"};
        kv_program programs[3];
        kv_sandbox_result results[3];
        for (int i = 0; i < 3; i++) programs[i] = (kv_program){sources[i], strlen(sources[i])};
        if (kv_sandbox_run(sandbox, programs, 3, results, NULL, NULL, &err) != KV_OK) _exit(12);
        if (strcmp(results[0].text, "failed: ValueError: 11") != 0) _exit(13);
        if (strcmp(results[1].text, "failed: RuntimeError: can't start new thread") != 0) _exit(14);
        if (results[2].verdict != KV_VERDICT_PASSED) _exit(15);
        kv_sandbox_free(sandbox);
        _exit(test_count_left(getpid(), true) == 0 ? 0 : 16);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

static void expect_refusal(const kv_sandbox_options *o, const char *const *parts) {
    kv_sandbox *sandbox = NULL;
    kv_error err = {0};
    assert_int_equal(kv_sandbox_open(o, &sandbox, &err), KV_ERR_IO);
    assert_null(sandbox);
    assert_null(strchr(err.message, '\n'));
    for (; *parts; parts++)
        if (!strstr(err.message, *parts)) fail_msg("'%s' does not say '%s'", err.message, *parts);
}

static void machines_without_bubblewrap(void **state) {
    (void)state;
    kv_sandbox_options o = test_sandbox_options(60, false);
    char *path = strdup(getenv("PATH"));
    const char *fake = test_path(test_dir, "bwrap");
    assert_int_equal(setenv("PATH", test_dir, 1), 0);
    const char *const missing[] = {"install the package bubblewrap", "--unsafe-execution", NULL};
    expect_refusal(&o, missing);
    // One that says what bwrap says where the kernel forbids namespaces, and one that says nothing.
    test_write_text(fake, "#!/bin/sh\necho 'bwrap: No permissions to create a new namespace' >&2\nexit 1\n");
    assert_int_equal(chmod(fake, 0755), 0);
    assert_int_equal(chmod(test_dir, 0755), 0);
    const char *const forbidden[] = {"No permissions to create a new namespace", "unprivileged_userns_clone",
                                     "--unsafe-execution", NULL};
    expect_refusal(&o, forbidden);
    test_write_text(fake, "#!/bin/sh\nexit 3\n");
    assert_int_equal(chmod(fake, 0755), 0);
    const char *const silent[] = {"user namespaces", "--unsafe-execution", NULL};
    expect_refusal(&o, silent);
    setenv("PATH", path, 1);
    free(path);
    unlink(fake);
}

static void without_a_sandbox(void **state) {
    (void)state;
    kv_sandbox_options o = test_sandbox_options(2, false);
    o.unsafe = true;
    const char *tmp = test_path(test_dir, "tmp");
    assert_int_equal(mkdir(tmp, 0700), 0);
    assert_int_equal(chmod(test_dir, 0755) + chmod(tmp, 0777), 0);
    assert_int_equal(setenv("TMPDIR", tmp, 1), 0);
    const int64_t descriptors = test_count_descriptors();
    kv_sandbox *sandbox = test_open_sandbox(&o);
    const char *keep = test_path(test_dir, "keep");
    char source[512];
    test_write_text(keep, "kept");
    setenv("KV_TEST_SECRET", "hush", 1);
    test_expect_passed(sandbox,
                       "import os\n"
                       "assert '/tmp/kv-program-' in os.getcwd() and os.listdir('.') == []\n"
                       "assert os.environ['HOME'] == os.getcwd() and 'KV_TEST_SECRET' not in os.environ\n"
                       "os.makedirs('a/b')\n"
                       "open('a/b/c', 'w').write('x')\n");
    snprintf(source, sizeof source, "import os\nos.symlink('%s', 'link')\nos.symlink('/', 'root')", test_dir);
    test_expect_passed(sandbox, source);
    unsetenv("KV_TEST_SECRET");
    test_expect_failure(sandbox, "assert 1 == 2", "failed: AssertionError");
    test_expect_failure(sandbox, "import os\nos.fork()", "failed: BlockingIOError");
    test_expect_failure(sandbox, "x = bytearray(10 ** 12)", "out of memory");
    test_expect_failure(sandbox, "while True: print('x' * 1000)", "output flood");
    test_expect_failure(sandbox, "while True: pass", "timed out");
    test_expect_failure(sandbox, "import os\nos._exit(0)", "failed: ended before");
    test_expect_failure(sandbox, "import os\nos.write(3, b'passed')", "failed: wrote where");
    test_expect_failure(sandbox, "import time\ntime.sleep(1000)", "timed out");
    kv_sandbox_free(sandbox);
    assert_int_equal(access(keep, F_OK), 0);
    assert_int_equal(test_count_left(getpid(), true), 0);
    assert_int_equal(test_count_descriptors(), descriptors);
    assert_int_equal(test_dir_count(tmp), 0);
    assert_int_equal(unsetenv("TMPDIR"), 0);
}

static void options_out_of_range(void **state) {
    (void)state;
    kv_sandbox *sandbox = NULL;
    kv_error err = {0};
    for (int i = 0; i < 7; i++) {
        kv_sandbox_options o = kv_sandbox_defaults();
        if (i == 0) o.limits.seconds = 0;
        if (i == 1) o.limits.seconds = 0.0 / 0.0;
        if (i == 2) o.limits.memory_bytes = 1 << 20;
        if (i == 3) o.workers = -1;
        if (i == 4) o.workers = KV_MAX_WORKERS + 1;
        if (i == 5) o.limits.tasks = 1;
        if (i == 6) o.limits.descriptors = 2;
        assert_int_equal(kv_sandbox_open(&o, &sandbox, &err), KV_ERR_RANGE);
        assert_null(sandbox);
    }
}

int main(void) {
    if (!test_bwrap_works()) {
        printf("bubblewrap cannot work on this machine: no test of the sandbox is run\n");
        return 77; // meson: skipped
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(many_programs_leave_nothing),
        cmocka_unit_test(stopped_callers_leave_nothing),
        cmocka_unit_test(other_users),
        cmocka_unit_test(machines_without_bubblewrap),
        cmocka_unit_test(without_a_sandbox),
        cmocka_unit_test(options_out_of_range),
    };
    return cmocka_run_group_tests(tests, test_dir_set_up, test_dir_tear_down);
}

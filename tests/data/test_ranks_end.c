// How ranks end: together, or all because one has died, failed, called exit() or does not move any more; with one line that says
// who and where, and with nobody left. Started by hand or by meson it starts itself under the launchers there are.
#include "data/ranks/joining.h"
#include "data/ranks/launch.h"
#include "data/ranks/ranks.h"

#include "data/system/console.h"
#include "tests/support/launch.h"
#include "tests/support/shell.h"
#include "tests/support/support.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// ---- A rank --------------------------------------------------------------------------------------------

// Its process id in a file of its number, for the test to look whether it has gone.
static void leave_trace(void) {
    char name[64];
    snprintf(name, sizeof name, "pid.%d", kv_rank());
    FILE *file = fopen(name, "w");
    if (!file) _exit(99);
    fprintf(file, "%d\n", (int)getpid());
    fclose(file);
    kv_ranks_barrier();
}

_Noreturn static void be_at_work(void) {
    for (;;) pause();
}

static int fail_alone(bool fails) {
    if (!fails) kv_ranks_barrier();
    kv_ranks_last_words("my.h5: no such file");
    return kv_ranks_end(1);
}

static int fail_together(bool fails) {
    kv_error err = {0};
    const kv_status status = fails ? kv_fail(&err, KV_ERR_IO, "my.h5: no such file") : KV_OK;
    if (kv_ranks_agree(status, &err) == KV_OK) return kv_ranks_end(99);
    fprintf(stderr, "agreed: %s\n", err.message);
    return kv_ranks_end(1);
}

static int differ(bool differs) {
    kv_error err = {0};
    if (kv_ranks_same("the first thing", "0123", &err) != KV_OK) return kv_ranks_end(99);
    if (kv_ranks_same("the second thing", differs ? "abcd" : "0123", &err) == KV_OK) return kv_ranks_end(99);
    fprintf(stderr, "agreed: %s\n", err.message);
    return kv_ranks_end(1);
}

static int be_stopped(bool it) {
    kv_console_catch_signals();
    if (it) raise(SIGTERM);
    while (!kv_ranks_interrupted()) usleep(1000);
    kv_error err = {0};
    kv_ranks_agree(kv_fail(&err, KV_ERR_INTERRUPTED, "stopped"), &err);
    return kv_ranks_end(128 + kv_console_signal());
}

// what: what happens, to rank `who`.
static int rank_main(const char *what, int who) {
    kv_error err = {0};
    if (strcmp(what, "die before") == 0 && kv_launch_rank() == who) {
        kv_joining_begin();
        sleep(1); // the others wait for it in MPI
        raise(SIGKILL);
    }
    if (kv_ranks_start(&err) != KV_OK) {
        fprintf(stderr, "%s\n", err.message);
        return kv_ranks_end(1);
    }
    leave_trace();
    const bool it = kv_rank() == who;
    if (strcmp(what, "leave") == 0) return kv_ranks_end(0);
    if (strcmp(what, "die") == 0 && it) raise(SIGKILL);
    if (strcmp(what, "die") == 0) kv_ranks_barrier(); // waits in MPI
    if (strcmp(what, "die at work") == 0 && it) raise(SIGKILL);
    if (strcmp(what, "die at the end") == 0 && it) raise(SIGKILL);
    if (strcmp(what, "die at the end") == 0) return kv_ranks_end(0);
    if (strcmp(what, "abort") == 0 && it) abort();
    if (strcmp(what, "abort after a death") == 0 && it) raise(SIGKILL);
    if (strcmp(what, "abort after a death") == 0) abort();
    if (strcmp(what, "fail") == 0) return fail_alone(it);
    if (strcmp(what, "all fail") == 0) return fail_alone(true);
    if (strcmp(what, "agree") == 0) return fail_together(it);
    if (strcmp(what, "differ") == 0) return differ(it);
    if (strcmp(what, "exit") == 0 && it) exit(3);
    if (strcmp(what, "all exit") == 0) exit(3);
    if (strcmp(what, "exit and leave") == 0) it ? exit(0) : exit(kv_ranks_end(0));
    if (strcmp(what, "stop") == 0 && it) raise(SIGSTOP);
    if (strcmp(what, "stop") == 0) return fail_alone(true);
    if (strcmp(what, "signal") == 0) return be_stopped(it);
    be_at_work();
}

// ---- Under launchers -----------------------------------------------------------------------------------

static char self[1024], module_dir[1100];

// Whether none of the ranks is left, be it as a zombie that a launcher has not waited for.
static bool all_gone(int n_ranks) {
    for (int r = 0; r < n_ranks; r++) {
        char name[64], state = 0;
        int pid = 0;
        snprintf(name, sizeof name, "pid.%d", r);
        FILE *file = fopen(test_path(test_dir, name), "r");
        if (!file || fscanf(file, "%d", &pid) != 1) fail_msg("rank %d did not begin", r);
        fclose(file);
        snprintf(name, sizeof name, "/proc/%d/stat", pid);
        file = fopen(name, "r");
        const bool there = file && fscanf(file, "%*d (%*[^)]) %c", &state) == 1 && state != 'Z';
        if (file) fclose(file);
        if (there) return false;
    }
    return true;
}

static int n_lines(const char *text, const char *with) {
    int n = 0;
    for (const char *at = text; (at = strstr(at, with)); at += strlen(with)) n++;
    return n;
}

// Runs it so; its exit status. No time is asserted, but a hang ends as a failure. All have gone when the launcher has, or soon
// after, as it reaps.
static int run(int kind, int n_ranks, const char *what, int who) {
    char command[2048];
    snprintf(command, sizeof command, "cd $D && rm -f pid.* && timeout -s KILL 100 %s %s '%s' %d",
             launch_with(kind, n_ranks), self, what, who);
    const int status = shell(command);
    for (int i = 0; i < 5000 && !all_gone(n_ranks); i++) usleep(2000);
    if (!all_gone(n_ranks)) fail_msg("%s: ranks are left behind", command);
    return status;
}

static void expect(int kind, int n_ranks, const char *what, int who, bool succeeds, const char *line) {
    const int status = run(kind, n_ranks, what, who);
    if ((status == 0) != succeeds) fail_msg("%s: %s: exit status %d", launch_kind(kind), what, status);
    if (line && n_lines(shell_err, line) != 1)
        fail_msg("%s: %s: expected '%s' once, found:\n%s", launch_kind(kind), what, line, shell_err);
}

static const char *line_of(const char *format, int rank) {
    static char line[256];
    char host[64] = "";
    gethostname(host, sizeof host - 1);
    snprintf(line, sizeof line, format, rank, host);
    return line;
}

static void said(const char *words) {
    if (!strstr(shell_err, words)) fail_msg("'%s' expected in: %s", words, shell_err);
}

#define FOR_EACH_KIND(kind)                                                                                  \
    launch_or_skip();                                                                                        \
    for (int kind = 0; kind < launch_n_kinds(); kind++)

static void test_leaving(void **state) {
    (void)state;
    FOR_EACH_KIND(kind) {
        expect(kind, 3, "leave", 0, true, NULL);
        assert_string_equal(shell_err, "");
        expect(kind, 2, "exit and leave", 1, true, NULL);
        assert_string_equal(shell_err, "");
    }
}

// Whoever it is, and whatever the others are doing.
static void test_death(void **state) {
    (void)state;
    static const char line[] = "test_ranks_end: rank %d (host %s, process ";
    FOR_EACH_KIND(kind) {
        for (int who = 0; who < 3; who++) {
            expect(kind, 3, "die", who, false, line_of(line, who));
            assert_int_equal(n_lines(shell_err, ") has died"), 1);
        }
        expect(kind, 2, "die at work", 1, false, line_of(line, 1));
        expect(kind, 4, "die at the end", 2, false, line_of(line, 2));
    }
}

// When MPI has not started yet. A slow machine may not have started them all by then, either.
static void test_death_before(void **state) {
    (void)state;
    FOR_EACH_KIND(kind) {
        char command[2048];
        snprintf(command, sizeof command, "timeout -s KILL 100 %s %s 'die before' 1", launch_with(kind, 3),
                 self);
        const int status = shell(command);
        const int known = n_lines(shell_err, line_of("test_ranks_end: rank %d (host %s, process ", 1)),
                  unknown = n_lines(shell_err, "a rank of this machine (");
        if (status == 0 || known + unknown != 1 || n_lines(shell_err, "has died before all") != 1)
            fail_msg("%s: exit status %d: %s", launch_kind(kind), status, shell_err);
    }
}

static void test_failure(void **state) {
    (void)state;
    FOR_EACH_KIND(kind) {
        expect(kind, 3, "fail", 0, false, line_of("test_ranks_end: rank %d (%s): my.h5: no such file\n", 0));
        expect(kind, 3, "fail", 2, false, line_of("test_ranks_end: rank %d (%s): my.h5: no such file\n", 2));
        assert_int_equal(n_lines(shell_err, "my.h5"), 1);
        expect(kind, 3, "all fail", 0, false, "test_ranks_end: my.h5: no such file\n");
        assert_int_equal(n_lines(shell_err, "my.h5"), 1);
    }
}

static void test_agreement(void **state) {
    (void)state;
    FOR_EACH_KIND(kind) {
        assert_int_equal(run(kind, 3, "agree", 1), 1);
        said(line_of("agreed: rank %d (%s): my.h5: no such file\n", 1));
        assert_int_equal(n_lines(shell_err, "my.h5"), 1);
        assert_int_equal(run(kind, 2, "differ", 1), 1);
        said(line_of("agreed: rank %d (%s): the second thing differs from that of rank 0", 1));
        assert_int_equal(n_lines(shell_err, "thing"), 1);
    }
}

// MPI's libraries do that, often because another rank has died, be it a moment later as far as anybody can see.
static void test_abort(void **state) {
    (void)state;
    FOR_EACH_KIND(kind) {
        expect(kind, 3, "abort", 1, false,
               line_of("test_ranks_end: rank %d (%s): a library has called abort()", 1));
        expect(kind, 3, "abort after a death", 2, false,
               line_of("test_ranks_end: rank %d (host %s, process ", 2));
        assert_int_equal(n_lines(shell_err, "test_ranks_end: "), 1);
    }
}

// libgomp and argp do that.
static void test_exit(void **state) {
    (void)state;
    FOR_EACH_KIND(kind) {
        assert_int_equal(run(kind, 3, "all exit", 0), 3);
        assert_int_equal(n_lines(shell_err, "test_ranks_end:"), 0);
    }
    expect(0, 2, "exit", 1, false, line_of("test_ranks_end: rank %d (host %s, process ", 1));
    said(" has called exit() while others go on");
}

// One that is stopped cannot be asked to end.
static void test_stopped(void **state) {
    (void)state;
    FOR_EACH_KIND(kind) {
        expect(kind, 3, "stop", 1, false, "my.h5: no such file\n");
    }
}

static void test_signal(void **state) {
    (void)state;
    FOR_EACH_KIND(kind) {
        assert_int_equal(run(kind, 3, "signal", 1), 128 + SIGTERM);
    }
}

// Rank 1 has a program of the same name that is another one: a byte more behind its end changes nothing else.
static void test_other_program(void **state) {
    (void)state;
    FOR_EACH_KIND(kind) {
        char command[4096];
        snprintf(
            command, sizeof command,
            "mkdir -p $D/other && cp %s $D/other && echo >>$D/other/test_ranks_end && export LD_LIBRARY_PATH=%s && "
            "timeout -s KILL 100 %s %s leave 0 : -n 1 $D/other/test_ranks_end leave 0",
            self, module_dir, launch_with(kind, 2), self);
        assert_int_equal(shell(command), 1);
        said(line_of("rank %d (%s): the program, or its module for MPI, differs from that of rank 0", 2));
        assert_int_equal(n_lines(shell_err, "differs"), 1);
    }
}

static int set_up(void **state) {
    (void)state;
    shell_set_up();
    if (readlink("/proc/self/exe", self, sizeof self - 1) <= 0) return -1;
    // As the program finds them (build_rpath).
    const int dir = (int)(strrchr(self, '/') - self);
    snprintf(module_dir, sizeof module_dir, "%.*s/../data", dir, self);
    return 0;
}

int main(int argc, char **argv) {
    if (argc == 3) return rank_main(argv[1], atoi(argv[2]));
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_leaving),      cmocka_unit_test(test_death),
        cmocka_unit_test(test_death_before), cmocka_unit_test(test_failure),
        cmocka_unit_test(test_agreement),    cmocka_unit_test(test_exit),
        cmocka_unit_test(test_abort),        cmocka_unit_test(test_stopped),
        cmocka_unit_test(test_signal),       cmocka_unit_test(test_other_program),
    };
    return cmocka_run_group_tests(tests, set_up, test_dir_tear_down);
}

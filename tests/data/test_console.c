// Progress lines on a terminal and off it, durations, and signals that set a flag.
#include "tests/support/support.h"

#include "data/system/console.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <omp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static void durations(void **state) {
    (void)state;
    char text[32];
    assert_string_equal(kv_duration(0, text), "0 s");
    assert_string_equal(kv_duration(48.4, text), "48 s");
    assert_string_equal(kv_duration(59.6, text), "1m 00s");
    assert_string_equal(kv_duration(192, text), "3m 12s");
    assert_string_equal(kv_duration(3720, text), "1h 02m");
    assert_string_equal(kv_duration(-1, text), "?");
    assert_string_equal(kv_duration(0.0 / 0.0, text), "?");
}

static void the_clock_runs_forward(void **state) {
    (void)state;
    double before = kv_now();
    usleep(2000);
    double passed = kv_now() - before;
    assert_true(passed >= 0.002 && passed < 10);
}

static void plain_lines_off_a_terminal(void **state) {
    (void)state;
    char text[512];
    FILE *file = tmpfile();
    kv_progress progress;
    kv_progress_begin(&progress, file, "steps", 200);
    assert_false(progress.terminal);
    for (int64_t i = 1; i <= 100; i++) kv_progress_show(&progress, i, "loss 1.5");
    assert_int_equal(ftell(file), 0); // nothing yet: it is too early for a line
    progress.last_time -= 60;
    kv_progress_show(&progress, 150, "loss 1.2");
    kv_progress_show(&progress, 200, "loss 1.0");
    kv_progress_end(&progress, "done");
    rewind(file);
    size_t n = fread(text, 1, sizeof text - 1, file);
    text[n] = '\0';
    fclose(file);
    assert_string_equal(text, "steps: 150/200 (75 %)  0 s  loss 1.2\nsteps: 200/200 (100 %)  0 s  done\n");
}

// A name of others' choosing in a title or a note stays on its line and moves nothing.
static void no_control_characters(void **state) {
    (void)state;
    char text[512];
    FILE *file = tmpfile();
    kv_progress progress;
    kv_progress_begin(&progress, file, "a\tb\033[31m", 2);
    kv_progress_line(&progress, "x\ny");
    kv_progress_show(&progress, 2, NULL);
    kv_progress_end(&progress, "n\r\x9F");
    rewind(file);
    text[fread(text, 1, sizeof text - 1, file)] = '\0';
    fclose(file);
#define NONE "\xEF\xBF\xBD"
    assert_string_equal(text,
                        "a    b" NONE "[31m: x y\na    b" NONE "[31m: 2/2 (100 %)  0 s  n" NONE NONE "\n");
}

// What the terminal got, up to and with `ending`: the kernel hands it over when it likes, and in pieces.
static void read_until(int control, const char *ending, char *text, size_t size) {
    size_t used = 0;
    text[0] = '\0';
    while (!strstr(text, ending)) {
        struct pollfd wait = {.fd = control, .events = POLLIN};
        assert_int_equal(poll(&wait, 1, 10000), 1);
        ssize_t n = read(control, text + used, size - 1 - used);
        assert_true(n > 0);
        used += (size_t)n;
        text[used] = '\0';
    }
}

static void one_line_redrawn_on_a_terminal(void **state) {
    (void)state;
    int control = posix_openpt(O_RDWR | O_NOCTTY);
    if (control < 0 || grantpt(control) != 0 || unlockpt(control) != 0) skip();
    FILE *terminal = fopen(ptsname(control), "w");
    if (!terminal) skip();
    char text[1024];
    kv_progress progress;
    kv_progress_begin(&progress, terminal, "steps", 200);
    assert_true(progress.terminal);
    kv_progress_show(&progress, 50, "early");
    progress.last_time += 60;
    kv_progress_show(&progress, 51, "too soon for another");
    progress.last_time -= 120;
    kv_progress_show(&progress, 100, "half");
    read_until(control, "half", text, sizeof text);
    assert_null(strchr(text, '\n'));
    assert_non_null(strstr(text, "\r\033[Ksteps [######------------------]  25 %"));
    assert_non_null(strstr(text, "\r\033[Ksteps [############------------]  50 %"));
    assert_null(strstr(text, "too soon"));
    // Cut between characters: of eleven columns ten are used, as the next character would take two.
    struct winsize narrow = {.ws_row = 24, .ws_col = 12};
    assert_int_equal(ioctl(control, TIOCSWINSZ, &narrow), 0);
    progress.title = "ab中文字测试";
    progress.last_time -= 60;
    kv_progress_show(&progress, 100, "half");
    progress.title = "caf\xC3\xA9 e\xCC\x81\xCC\x81 12345";
    progress.last_time -= 60;
    kv_progress_show(&progress, 100, "half");
    read_until(control, "123", text, sizeof text);
    assert_non_null(strstr(text, "\r\033[Kab中文字测\r\033[Kcaf\xC3\xA9 e\xCC\x81\xCC\x81 123"));
    progress.title = "steps";
    narrow.ws_col = 20;
    assert_int_equal(ioctl(control, TIOCSWINSZ, &narrow), 0);
    progress.last_time -= 60;
    kv_progress_show(&progress, 150, "three quarters");
    // The bar is what goes first, then parts of the note, whole ones.
    narrow.ws_col = 40;
    assert_int_equal(ioctl(control, TIOCSWINSZ, &narrow), 0);
    progress.last_time -= 60;
    progress.left = 5;
    kv_progress_show(&progress, 150, "loss 1.5  12 k tokens/s");
    kv_progress_end(&progress, "done");
    read_until(control, "done", text, sizeof text);
    // Cut to fit, so that it does not wrap.
    assert_non_null(strstr(text, "\r\033[Ksteps  75 %  "));
    assert_null(strstr(text, "three quarters"));
    assert_non_null(strstr(text, "\r\033[Ksteps  75 %  5 s left  loss 1.5\r\033[Ksteps: 150/200"));
    fclose(terminal);
    close(control);
}

static void an_unknown_total(void **state) {
    (void)state;
    char text[128];
    FILE *file = tmpfile();
    kv_progress progress;
    kv_progress_begin(&progress, file, "reading", 0);
    kv_progress_show(&progress, 7, NULL);
    kv_progress_end(&progress, NULL);
    rewind(file);
    assert_non_null(fgets(text, sizeof text, file));
    assert_string_equal(text, "reading: 7  0 s\n");
    fclose(file);
}

enum { LATER = 600 * 1000 }; // µs: what comes now is a second request

// In a child: the first signal sets the flag, a second one that comes later ends it.
static void signals(void **state) {
    (void)state;
    static const int numbers[] = {SIGINT, SIGTERM};
    for (int i = 0; i < 2; i++) {
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            kv_console_catch_signals();
            if (kv_console_interrupted()) _exit(1);
            raise(numbers[i]);
            if (!kv_console_interrupted()) _exit(2);
            raise(numbers[1 - i]); // the same request, sent twice
            usleep(LATER);
            raise(numbers[1 - i]);
            _exit(3);
        }
        int status = 0;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFSIGNALED(status));
        assert_int_equal(WTERMSIG(status), numbers[1 - i]);
    }
}

enum { NOTHING = 0, PAUSE = -1 };

// In a child that catches signals, of which `ignored` is ignored from the start: sends what is listed, up to NOTHING. Its
// exit status is then the signal it thinks it was stopped by, 255 if it was killed.
static int sent(int ignored, const int *numbers) {
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        if (ignored) signal(ignored, SIG_IGN);
        kv_console_catch_signals();
        for (; *numbers; numbers++)
            if (*numbers == PAUSE)
                usleep(LATER);
            else
                raise(*numbers);
        _exit(kv_console_signal());
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 255;
}
#define SENT(ignored, ...) sent(ignored, (const int[]){__VA_ARGS__, NOTHING})

// Terminals and batch systems say it more than once; the first one counts. Only who asks twice for an end gets it at once.
static void repeated_signals(void **state) {
    (void)state;
    static const int others[] = {SIGHUP, SIGXCPU, SIGUSR1, SIGUSR2};
    for (int i = 0; i < 4; i++) {
        assert_int_equal(SENT(0, others[i]), others[i]);
        assert_int_equal(SENT(0, others[i], others[i], others[i]), others[i]);
        assert_int_equal(SENT(0, others[i], SIGTERM), others[i]);
        assert_int_equal(SENT(0, SIGTERM, others[i]), SIGTERM);
        assert_int_equal(SENT(0, SIGINT, others[i]), others[i]); // Ctrl-C may have been meant for less
        assert_int_equal(SENT(0, others[i], SIGTERM, PAUSE, SIGTERM), 255);
        assert_int_equal(SENT(0, SIGINT, PAUSE, others[i], SIGINT), 255);
    }
    // `timeout` sends two in a row; a sweep under a batch system passes on what its runs have got, too.
    assert_int_equal(SENT(0, SIGTERM, SIGTERM), SIGTERM);
    assert_int_equal(SENT(0, SIGTERM, SIGINT, SIGTERM), SIGTERM);
    assert_int_equal(SENT(0, SIGINT, SIGINT, PAUSE, SIGHUP), SIGHUP);
}

// nohup, and `&` in a script without job control.
static void ignored_signals(void **state) {
    (void)state;
    static const int numbers[] = {SIGINT, SIGTERM, SIGHUP, SIGXCPU, SIGUSR1, SIGUSR2};
    for (int i = 0; i < 6; i++) {
        assert_int_equal(SENT(numbers[i], numbers[i], numbers[i]), 0);
        assert_int_equal(SENT(numbers[i], numbers[i], numbers[i] == SIGHUP ? SIGTERM : SIGHUP),
                         numbers[i] == SIGHUP ? SIGTERM : SIGHUP);
    }
}

static void forgetting(void **state) {
    (void)state;
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        kv_console_catch_signals();
        for (int i = 0; i < 3; i++) { // none of these is the second
            raise(SIGINT);
            if (kv_console_signal() != SIGINT) _exit(1);
            kv_console_forget_interrupt();
            if (kv_console_interrupted()) _exit(2);
        }
        raise(SIGINT), raise(SIGHUP);
        kv_console_forget_interrupt();
        _exit(kv_console_signal() == SIGHUP ? 0 : 3);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

// `ulimit -t` would kill without a warning: the soft limit goes below the hard one, unless it is there already.
static void limit_on_cpu_time(void **state) {
    (void)state;
    static const struct rlimit cases[][2] = {
        {{100, 100}, {90, 100}}, {{7, 7}, {6, 7}}, {{50, 100}, {50, 100}}, {{1, 1}, {1, 1}}};
    for (int i = 0; i < 4; i++) {
        const pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            struct rlimit found;
            if (setrlimit(RLIMIT_CPU, &cases[i][0])) _exit(1);
            kv_console_catch_signals();
            if (getrlimit(RLIMIT_CPU, &found)) _exit(2);
            _exit(found.rlim_cur == cases[i][1].rlim_cur && found.rlim_max == cases[i][1].rlim_max ? 0 : 3);
        }
        int status = 0;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_int_equal(status, 0);
    }
}

// In a child whose standard output is a pipe that nobody reads, or a full disk: what kv_console_flush says, and errno.
static void flush_into(const char *path, bool expected, int why) {
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        close(ends[0]);
        const int out = path ? open(path, O_WRONLY) : ends[1];
        if (out < 0 || dup2(out, STDOUT_FILENO) < 0) _exit(1);
        kv_console_survive_writes();
        for (int i = 0; i < 100000; i++) printf("a line\n");
        errno = 0;
        if (kv_console_flush() != expected) _exit(2);
        _exit(errno == why ? 0 : 3);
    }
    close(ends[0]), close(ends[1]);
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

static void output_that_is_lost(void **state) {
    (void)state;
    flush_into(NULL, true, EPIPE); // a reader that had enough
    flush_into("/dev/full", false, ENOSPC);
}

// Nothing of it is passed on: what a child starts with is the system's default.
static void children_start_afresh(void **state) {
    (void)state;
    int status = 0;
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        signal(SIGPIPE, SIG_DFL), signal(SIGXFSZ, SIG_DFL);
        kv_console_survive_writes();
        kv_console_catch_signals();
        execl("/bin/sh", "sh", "-c", "exec grep -qx 'SigIgn:\t0000000000000000' /proc/self/status", NULL);
        _exit(127);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

static void *interrupt_all(void *begun) {
    pthread_barrier_wait(begun);
    kill(getpid(), SIGINT); // taken by this thread: the other one does not let it in
    return NULL;
}

// In a child. A signal ends a wait that begins after it, and one that the system wakes another thread for.
static void signals_end_waits(void **state) {
    (void)state;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        sigset_t stops;
        pthread_t thread;
        pthread_barrier_t begun;
        kv_console_catch_signals();
        pthread_barrier_init(&begun, NULL, 2);
        if (pthread_create(&thread, NULL, interrupt_all, &begun)) _exit(1);
        sigemptyset(&stops);
        sigaddset(&stops, SIGINT);
        pthread_sigmask(SIG_BLOCK, &stops, NULL);
        pthread_barrier_wait(&begun);
        if (kv_console_poll(NULL, 0, -1) != 0 || !kv_console_interrupted()) _exit(2);
        if (kv_console_poll(NULL, 0, -1) != 0) _exit(3);
        _exit(0);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

static void waits_for_input_or_time(void **state) {
    (void)state;
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    struct pollfd input = {.fd = ends[0], .events = POLLIN};
    const double before = kv_now();
    assert_int_equal(kv_console_poll(&input, 1, 0.15), 0); // more than a slice
    assert_true(kv_now() - before >= 0.15);
    assert_int_equal(write(ends[1], "x", 1), 1);
    assert_int_equal(kv_console_poll(&input, 1, -1), 1);
    assert_true(input.revents & POLLIN);
    close(ends[0]), close(ends[1]);
}

// What this program does when it is started again with a word: how many places its threads can be bound to.
static int count_places(char **argv) {
    kv_console_start(argv);
    if (!strcmp(argv[1], "--leave")) { // what it would start then
        cpu_set_t all;
        kv_console_leave_place();
        return sched_getaffinity(0, sizeof all, &all) == 0 && CPU_COUNT(&all) < 255 ? CPU_COUNT(&all) : 255;
    }
    const int n = omp_get_num_places();
    return n < 255 ? n : 255;
}

// A program that starts itself again has as many places as before for threads that are bound.
static void places_outlive_the_start(void **state) {
    (void)state;
    cpu_set_t all;
    char path[PATH_MAX], command[PATH_MAX + 128];
    assert_int_equal(sched_getaffinity(0, sizeof all, &all), 0);
    const ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);
    assert_true(n > 0);
    path[n] = '\0';
    static const char *const words[] = {"--places", "--leave"};
    for (int i = 0; i < 2; i++) {
        snprintf(command, sizeof command,
                 "env -u GOMP_SPINCOUNT -u OMP_WAIT_POLICY OMP_PROC_BIND=close OMP_PLACES=threads '%s' %s",
                 path, words[i]);
        const int status = system(command);
        assert_true(WIFEXITED(status));
        const int places = CPU_COUNT(&all);
        assert_int_equal(WEXITSTATUS(status), places < 255 ? places : 255);
    }
}

int main(int argc, char **argv) {
    if (argc == 2 && (!strcmp(argv[1], "--places") || !strcmp(argv[1], "--leave"))) return count_places(argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(durations),
        cmocka_unit_test(places_outlive_the_start),
        cmocka_unit_test(the_clock_runs_forward),
        cmocka_unit_test(no_control_characters),
        cmocka_unit_test(plain_lines_off_a_terminal),
        cmocka_unit_test(one_line_redrawn_on_a_terminal),
        cmocka_unit_test(an_unknown_total),
        cmocka_unit_test(signals),
        cmocka_unit_test(repeated_signals),
        cmocka_unit_test(ignored_signals),
        cmocka_unit_test(forgetting),
        cmocka_unit_test(limit_on_cpu_time),
        cmocka_unit_test(output_that_is_lost),
        cmocka_unit_test(children_start_afresh),
        cmocka_unit_test(signals_end_waits),
        cmocka_unit_test(waits_for_input_or_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

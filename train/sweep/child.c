// fork and exec with what a sweep needs of them: no child outlives us, and Ctrl-C reaches each once.
#include "train/sweep/child.h"

#include "data/system/console.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

kv_status kv_own_program(char *path, size_t size, kv_error *err) {
    const ssize_t n = readlink("/proc/self/exe", path, size);
    if (n <= 0 || (size_t)n == size)
        return kv_fail(err, KV_ERR_IO, "/proc/self/exe: cannot read where this program lies");
    path[n] = '\0';
    return KV_OK;
}

// Our environment with OMP_NUM_THREADS=n_threads, which shares the strings of ours; NULL: out of memory.
static char **threads_environment(int n_threads, char setting[32]) {
    static const char name[] = "OMP_NUM_THREADS=";
    size_t n = 0, kept = 0;
    while (environ[n]) n++;
    char **copy = calloc(n + 2, sizeof *copy);
    if (!copy) return NULL;
    for (size_t i = 0; i < n; i++)
        if (n_threads <= 0 || strncmp(environ[i], name, sizeof name - 1) != 0) copy[kept++] = environ[i];
    snprintf(setting, 32, "%s%d", name, n_threads);
    if (n_threads > 0) copy[kept] = setting;
    return copy;
}

// Between fork and exec: nothing but system calls.
static void become(const char *const *argv, char **environment, int log, int null, pid_t parent) {
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent) _exit(1); // it died before we could ask to be told
    setpgid(0, 0);
    // Out of the foreground, yet it draws its progress on the terminal.
    signal(SIGTTOU, SIG_IGN);
    dup2(null, STDIN_FILENO);
    dup2(null, STDOUT_FILENO);
    if (log >= 0) dup2(log, STDERR_FILENO);
    execve(argv[0], (char *const *)argv, environment);
    _exit(127);
}

kv_status kv_child_start(const char *const *argv, const char *log, int n_threads, pid_t *child,
                         kv_error *err) {
    *child = 0;
    if (access(argv[0], X_OK) != 0)
        return kv_fail(err, KV_ERR_IO, "%s: cannot run: %s", argv[0], strerror(errno));
    char setting[32], **environment = threads_environment(n_threads, setting);
    if (!environment) return kv_fail(err, KV_ERR_MEMORY, "out of memory");
    const int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    const int file = log ? open(log, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666) : -1;
    if (null < 0 || (log && file < 0)) {
        kv_fail(err, KV_ERR_IO, "%s: cannot open: %s", null < 0 ? "/dev/null" : log, strerror(errno));
        if (null >= 0) close(null);
        free(environment);
        return KV_ERR_IO;
    }
    kv_console_leave_place(); // trainings share the machine, not the place of this thread
    const pid_t parent = getpid(), pid = fork();
    if (pid == 0) become(argv, environment, file, null, parent);
    const int reason = errno;
    if (pid > 0) setpgid(pid, pid); // whoever of the two comes first
    close(null);
    if (file >= 0) close(file);
    free(environment);
    if (pid < 0) return kv_fail(err, KV_ERR_IO, "cannot start %s: %s", argv[0], strerror(reason));
    *child = pid;
    return KV_OK;
}

size_t kv_child_wait(const pid_t *pids, size_t n, int *told, int *code) {
    const struct timespec pause = {.tv_nsec = 20 * 1000 * 1000};
    for (;;) {
        const int number = kv_console_signal();
        for (size_t i = 0; number && !*told && i < n; i++)
            if (pids[i]) kill(pids[i], number);
        if (number) *told = number;
        for (size_t i = 0; i < n; i++) {
            int status;
            if (!pids[i] || waitpid(pids[i], &status, WNOHANG) != pids[i]) continue;
            *code = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
            return i;
        }
        nanosleep(&pause, NULL); // a signal ends it early
    }
}

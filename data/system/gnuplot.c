#include "data/system/gnuplot.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

// Where the child's standard streams lead: descriptors, -1: nowhere.
static int redirect(posix_spawn_file_actions_t *actions, int input, int output) {
    int failure = input >= 0
                      ? posix_spawn_file_actions_adddup2(actions, input, STDIN_FILENO)
                      : posix_spawn_file_actions_addopen(actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    if (!failure)
        failure = output >= 0
                      ? posix_spawn_file_actions_adddup2(actions, output, STDOUT_FILENO)
                      : posix_spawn_file_actions_addopen(actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
    if (!failure)
        failure = posix_spawn_file_actions_addopen(actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
    return failure;
}

static int spawn(const char *dir, char *argument, int input, int output, int *exit_status) {
    posix_spawn_file_actions_t actions;
    if (posix_spawn_file_actions_init(&actions) != 0) return ENOMEM;
    char program[] = "gnuplot";
    char *const argv[] = {program, argument, NULL};
    int failure = dir ? posix_spawn_file_actions_addchdir_np(&actions, dir) : 0;
    if (!failure) failure = redirect(&actions, input, output);
    pid_t child;
    if (!failure) failure = posix_spawnp(&child, program, &actions, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    if (failure) return failure;
    while (waitpid(child, exit_status, 0) < 0)
        if (errno != EINTR) return errno;
    return 0;
}

int kv_gnuplot_file(const char *dir, const char *script, int *exit_status) {
    char argument[NAME_MAX];
    snprintf(argument, sizeof argument, "%s", script);
    return spawn(dir, argument, -1, -1, exit_status);
}

char *kv_gnuplot_why(int failure, char text[128]) {
    if (failure == ENOENT)
        snprintf(text, 128, "gnuplot is not installed (package gnuplot-nox)");
    else
        snprintf(text, 128, "gnuplot did not start: %s", strerror(failure));
    return text;
}

// ---- In memory -----------------------------------------------------------------------------------------

static bool put_all(int fd, const char *text, size_t size) {
    while (size > 0) {
        const ssize_t n = write(fd, text, size);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return false;
        text += n, size -= (size_t)n;
    }
    return lseek(fd, 0, SEEK_SET) == 0;
}

static char *get_all(int fd) {
    struct stat info;
    if (fstat(fd, &info) != 0) return NULL;
    const size_t size = (size_t)info.st_size;
    char *text = malloc(size + 1);
    const bool whole = text && pread(fd, text, size, 0) == (ssize_t)size;
    if (whole) text[size] = '\0';
    if (!whole) free(text);
    return whole ? text : NULL;
}

// Files in memory rather than pipes: neither side waits for the other, and no disk needs to have room.
kv_status kv_gnuplot_text(const char *script, size_t size, char **output, kv_error *err) {
    const int input = memfd_create("gnuplot script", MFD_CLOEXEC),
              out = memfd_create("gnuplot output", MFD_CLOEXEC);
    char argument[] = "-", why[128];
    int exit_status = 0;
    *output = NULL;
    int failure = input < 0 || out < 0 || !put_all(input, script, size) ? errno : 0;
    if (!failure) failure = spawn(NULL, argument, input, out, &exit_status);
    kv_status status = KV_OK;
    if (failure)
        status = kv_fail(err, KV_ERR_IO, "%s", kv_gnuplot_why(failure, why));
    else if (exit_status != 0)
        status = kv_fail(err, KV_ERR_IO, "gnuplot failed");
    else if (!(*output = get_all(out)))
        status = kv_fail(err, KV_ERR_MEMORY, "out of memory for what gnuplot printed");
    if (input >= 0) close(input);
    if (out >= 0) close(out);
    return status;
}

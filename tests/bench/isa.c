// OpenBLAS chooses its kernels before main, so every set of instructions is a process of its own.
#include "tests/bench/isa.h"

#include "core/gemm/isa.h"
#include "data/system/console.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

int bench_isa_list(const char *names[BENCH_MAX_ISAS]) {
    static_assert((int)KV_MAX_ISAS <= (int)BENCH_MAX_ISAS, "room for all");
    const kv_kernels *list[KV_MAX_ISAS];
    const int n = kv_isa_list(list);
    for (int i = 0; i < n; i++) names[i] = list[i]->name;
    return n;
}

const char *bench_isa_now(void) {
    return kv_isa()->name;
}

// What OpenBLAS calls its kernels of that kind; NULL: it chooses by itself, as it does for the best that the CPU has.
static const char *core_type(const char *isa) {
    const char *names[BENCH_MAX_ISAS];
    if (!strcmp(isa, names[bench_isa_list(names) - 1])) return NULL;
    return !strcmp(isa, "plain")    ? "Prescott"
           : !strcmp(isa, "avx2")   ? "Haswell"
           : !strcmp(isa, "avx512") ? "SkylakeX"
                                    : NULL;
}

static bool own_path(char path[PATH_MAX]) {
    const ssize_t n = readlink("/proc/self/exe", path, PATH_MAX - 1);
    path[n > 0 ? n : 0] = '\0';
    return n > 0;
}

void bench_isa_become(const char *isa, char **argv) {
    const char *now = getenv("KV_ISA"), *core = core_type(isa);
    char path[PATH_MAX];
    if (now && !strcmp(now, isa) && (!core || getenv("OPENBLAS_CORETYPE"))) return;
    kv_console_leave_place();
    if (!own_path(path) || setenv("KV_ISA", isa, 1) || (core && setenv("OPENBLAS_CORETYPE", core, 0))) return;
    execv(path, argv);
    fprintf(stderr, "kvbench: cannot start itself again: %s\n", strerror(errno));
    exit(1);
}

static char **with_isa(char **argv, char *option) {
    int n = 0;
    while (argv[n]) n++;
    char **all = malloc((size_t)(n + 2) * sizeof *all);
    if (!all) return NULL;
    memcpy(all, argv, (size_t)n * sizeof *all);
    all[n] = option, all[n + 1] = NULL;
    return all;
}

// A terminal's Ctrl-C reaches the child by itself; passing it on once more half a second later would end it at once.
static int wait_for(pid_t child) {
    int status;
    bool passed_on = false;
    while (waitpid(child, &status, WNOHANG) == 0) {
        if (kv_console_interrupted() && !passed_on && kv_console_signal() != SIGINT) {
            kill(child, kv_console_signal());
            passed_on = true;
        }
        nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int bench_isa_run(const char *isa, char **argv) {
    char path[PATH_MAX], option[32];
    snprintf(option, sizeof option, "--isa=%s", isa);
    char **all = with_isa(argv, option);
    pid_t child;
    kv_console_leave_place();
    if (!all || !own_path(path) || posix_spawn(&child, path, NULL, NULL, all, environ)) {
        fprintf(stderr, "kvbench: cannot start itself again\n");
        free(all);
        return 1;
    }
    const int status = wait_for(child);
    free(all);
    return status;
}

// Each limit is compared with what the programs need of it, and named where it is too low.
#include "data/system/limits.h"

#include "data/system/memory.h"

#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

// ---- Stack ---------------------------------------------------------------------------------------------

// JSON and YAML of the greatest depth that is read take about half of it.
static const rlim_t stack_needed = 512 << 10;

void kv_limits_raise_stack(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_STACK, &limit) != 0 || limit.rlim_cur >= stack_needed) return;
    const rlim_t found = limit.rlim_max;
    limit.rlim_cur = stack_needed;
    if (found >= stack_needed && setrlimit(RLIMIT_STACK, &limit) == 0) return;
    fprintf(stderr, "%s: found a limit on the stack of %llu kB (ulimit -s), expected at least %llu kB\n",
            program_invocation_short_name, (unsigned long long)found >> 10,
            (unsigned long long)stack_needed >> 10);
    _exit(1);
}

// ---- Threads -------------------------------------------------------------------------------------------

static void *wait_for_all(void *all_are_there) {
    pthread_mutex_lock(all_are_there);
    pthread_mutex_unlock(all_are_there);
    return NULL;
}

// The caller is one of the n.
static int try_threads(int n, pthread_t *threads) {
    static pthread_mutex_t all_are_there = PTHREAD_MUTEX_INITIALIZER;
    int started = 0, failure = 0;
    pthread_mutex_lock(&all_are_there);
    while (started < n - 1 &&
           !(failure = pthread_create(&threads[started], NULL, wait_for_all, &all_are_there)))
        started++;
    pthread_mutex_unlock(&all_are_there);
    for (int i = 0; i < started; i++) pthread_join(threads[i], NULL);
    return failure;
}

static size_t thread_stack(void) {
    size_t size = 0;
    pthread_attr_t defaults;
    if (pthread_getattr_default_np(&defaults) != 0) return 0;
    pthread_attr_getstacksize(&defaults, &size);
    pthread_attr_destroy(&defaults);
    return size;
}

kv_status kv_limits_try_threads(int n, kv_error *err) {
    if (n < 2) return KV_OK;
    pthread_t *threads = malloc((size_t)n * sizeof *threads);
    if (!threads) return kv_fail(err, KV_ERR_MEMORY, "out of memory");
    const int failure = try_threads(n, threads);
    free(threads);
    if (!failure) return KV_OK;
    const kv_memory_limit limit = kv_address_space_left("");
    const bool addresses = limit.left < (int64_t)thread_stack() * (n - 1);
    return kv_fail(err, KV_ERR_MEMORY,
                   "cannot start %d threads: %s: stopped by %s; raise it, or set a smaller OMP_NUM_THREADS",
                   n, strerror(failure),
                   addresses ? limit.by
                             : "the limit on processes (ulimit -u, or pids.max of the control group)");
}

// ---- Memory --------------------------------------------------------------------------------------------

void kv_limits_need_memory(void) {
    static const int64_t needed = 4 << 20;
    const kv_memory_limit limit = kv_address_space_left("");
    if (limit.left >= needed) return;
    fprintf(stderr, "%s: found %.2g GB of memory left by %s, expected at least %.2g GB; raise that limit\n",
            program_invocation_short_name, (double)limit.left / 1e9, limit.by, (double)needed / 1e9);
    _exit(1);
}

char *kv_limits_reason(const kv_error *err, char text[KV_LIMITS_TEXT]) {
    const kv_memory_limit limit = kv_address_space_left("");
    text[0] = '\0';
    if (err->code == KV_ERR_MEMORY && limit.left != INT64_MAX && !strstr(err->message, "ulimit"))
        snprintf(text, KV_LIMITS_TEXT, " (%.3g GB more are allowed by %s)", (double)limit.left / 1e9,
                 limit.by);
    return text;
}

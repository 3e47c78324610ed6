#include "tests/support/sandbox.h"

#include <ctype.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

bool test_bwrap_works(void) {
    return system(
               "bwrap --unshare-user --unshare-pid --unshare-net --unshare-ipc --unshare-uts --ro-bind / / "
               "--proc /proc --dev /dev true >/dev/null 2>&1") == 0;
}

kv_sandbox_options test_sandbox_options(double seconds, bool processes) {
    kv_sandbox_options o = kv_sandbox_defaults();
    o.workers = TEST_WORKERS;
    o.limits.seconds = seconds;
    o.limits.processes = processes;
    o.limits.memory_bytes = (int64_t)128 << 20;
    o.limits.tmp_bytes = (int64_t)8 << 20;
    o.limits.file_bytes = (int64_t)4 << 20;
    return o;
}

const char test_fork_bomb[] = "import os, time\n"
                              "n = 0\n"
                              "try:\n"
                              "    while True:\n"
                              "        if os.fork() == 0: time.sleep(100)\n"
                              "        n += 1\n"
                              "except OSError as fault:\n"
                              "    assert n < 16, n\n"
                              "    raise ValueError(fault.errno)";

const char test_thread_bomb[] =
    "import threading, time\n"
    "threading.stack_size(1 << 16)\n"
    "while True: threading.Thread(target=time.sleep, args=(100,), daemon=True).start()";

kv_sandbox *test_open_sandbox(const kv_sandbox_options *options) {
    kv_error err = {0};
    kv_sandbox *sandbox = NULL;
    if (kv_sandbox_open(options, &sandbox, &err) != KV_OK) fail_msg("%s", err.message);
    return sandbox;
}

kv_sandbox_result test_run_program(kv_sandbox *sandbox, const char *source) {
    const kv_program program = {source, strlen(source)};
    kv_sandbox_result result;
    kv_error err = {0};
    if (kv_sandbox_run(sandbox, &program, 1, &result, NULL, NULL, &err) != KV_OK) fail_msg("%s", err.message);
    return result;
}

void test_expect_passed(kv_sandbox *sandbox, const char *source) {
    const kv_sandbox_result result = test_run_program(sandbox, source);
    if (result.verdict != KV_VERDICT_PASSED) fail_msg("%s\nbrought '%s'", source, result.text);
}

void test_expect_failure(kv_sandbox *sandbox, const char *source, const char *expected) {
    const kv_sandbox_result result = test_run_program(sandbox, source);
    if (strncmp(result.text, expected, strlen(expected)) != 0)
        fail_msg("%s\nbrought '%s', expected '%s'", source, result.text, expected);
}

// Text of /proc/PID/NAME, with blanks for its NULs; "" for a process that is gone.
static void read_proc(const char *pid, const char *name, char *text, size_t size) {
    char path[300];
    snprintf(path, sizeof path, "/proc/%s/%s", pid, name);
    FILE *file = fopen(path, "r");
    const size_t n = file ? fread(text, 1, size - 1, file) : 0;
    if (file) fclose(file);
    for (size_t i = 0; i < n; i++)
        if (text[i] == '\0') text[i] = ' ';
    text[n] = '\0';
}

static long field(const char *status, const char *name) {
    const char *at = strstr(status, name);
    return at ? strtol(at + strlen(name), NULL, 10) : -1;
}

int test_count_left(pid_t caller, bool zombies) {
    char mark[48], text[4096];
    snprintf(mark, sizeof mark, "kv-program-of-%d ", (int)caller);
    const long first = 0x50000000L + (caller & 0xFFFFFF) * (long)KV_MAX_WORKERS;
    int n = 0;
    DIR *proc = opendir("/proc");
    assert_non_null(proc);
    for (struct dirent *entry; (entry = readdir(proc));) {
        if (!isdigit((unsigned char)entry->d_name[0])) continue;
        read_proc(entry->d_name, "cmdline", text, sizeof text);
        bool ours = strstr(text, mark) != NULL;
        read_proc(entry->d_name, "status", text, sizeof text);
        const long user = field(text, "\nUid:"), parent = field(text, "\nPPid:");
        ours = ours || parent == caller || (user >= first && user < first + KV_MAX_WORKERS);
        n += ours && (zombies || !strstr(text, "\nState:\tZ"));
    }
    closedir(proc);
    return n;
}

int64_t test_count_descriptors(void) {
    return test_dir_count("/proc/self/fd");
}

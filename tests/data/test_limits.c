// Limits of the system, each in a child that sets it for itself: what comes back is a status or a line, never a hang or
// a signal. A watchdog (alarm) ends what spins.
#include "core/gemm.h"
#include "data/file/h5.h"
#include "data/system/blas.h"
#include "data/system/limits.h"
#include "data/system/memory.h"
#include "tests/support/support.h"

#include <inttypes.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum { WATCHDOG_SECONDS = 120 };

static char said[2048]; // by the child, on stderr

// Exit status of the child, or the number of the signal that killed it, negative.
static int in_child(int (*work)(void)) {
    int ends[2], status;
    assert_int_equal(pipe(ends), 0);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        alarm(WATCHDOG_SECONDS);
        dup2(ends[1], STDERR_FILENO);
        close(ends[0]);
        _exit(work());
    }
    close(ends[1]);
    size_t used = 0;
    for (ssize_t n; (n = read(ends[0], said + used, sizeof said - 1 - used)) > 0;) used += (size_t)n;
    said[used] = '\0';
    close(ends[0]);
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static void expect_line(const char *part) {
    if (!strstr(said, part)) fail_msg("expected %s\nfound    %s", part, said);
    assert_ptr_equal(strchr(said, '\n'), said + strlen(said) - 1);
}

// So many bytes more than the process has.
static void limit_addresses(int64_t more) {
    int64_t kilobytes = 0;
    char line[256];
    FILE *file = fopen("/proc/self/status", "r");
    while (file && fgets(line, sizeof line, file)) sscanf(line, "VmSize: %" SCNi64, &kilobytes);
    if (file) fclose(file);
    const struct rlimit limit = {(rlim_t)(1024 * kilobytes + more), (rlim_t)(1024 * kilobytes + more)};
    if (kilobytes == 0 || setrlimit(RLIMIT_AS, &limit)) _exit(90);
}

// ---- OpenBLAS ------------------------------------------------------------------------------------------

static void multiply(void) {
    enum { N = 192 };
    static double a[N * N], c[8][N * N]; // what the library is asked for on every CPU
    kv_gemm_tn_f64(N, N, N, a, a, c[0]); // with helpers
#pragma omp parallel for
    for (int i = 0; i < 8; i++) kv_gemm_tn_f64(N, N, N, a, a, c[i]);
}

// Where it can be known beforehand the reason is an error; where OpenBLAS is the first to notice, an end.
static int reserve(void) {
    kv_error err = {0};
    if (kv_blas_reserve(&err) == KV_OK) return 91;
    fprintf(stderr, "test_limits: %s\n", err.message);
    return err.code == KV_ERR_MEMORY ? 1 : 92;
}

static int reserve_too_little(void) {
    omp_set_num_threads(2);
    limit_addresses(20 << 20);
    return reserve();
}

static int reserve_for_fewer(void) {
    omp_set_num_threads(16);
    limit_addresses((int64_t)1 << 30);
    return reserve();
}

static int multiply_unprepared(void) {
    limit_addresses(20 << 20);
    multiply();
    return 91;
}

static void no_room_for_buffers(void **state) {
    (void)state;
    if (test_under_asan()) return;
    assert_int_equal(in_child(reserve_too_little), 1);
    expect_line("test_limits: matrix products with 2 threads need 0.");
    expect_line(" GB left by the limit on address space (ulimit -v); raise that limit\n");
    assert_int_equal(in_child(reserve_for_fewer), 1);
    expect_line("raise that limit, or set OMP_NUM_THREADS=");
    // Nobody prepared it: the same words, and an end.
    assert_int_equal(in_child(multiply_unprepared), 1);
    expect_line("ulimit -v");
}

// Once reserved products ask for no buffer more, from one thread or from all; only for a list of what each helper is to do.
static int reserve_then_limit(void) {
    kv_error err = {0};
    if (kv_blas_reserve(&err) != KV_OK) return 92;
    limit_addresses(test_under_asan() ? (int64_t)1 << 46 : 8 << 20);
    multiply();
    return 0;
}

static void nothing_is_missing_later(void **state) {
    (void)state;
    const int code = in_child(reserve_then_limit);
    if (code != 0) fail_msg("%d: %s", code, said);
    assert_string_equal(said, "");
}

// ---- Threads -------------------------------------------------------------------------------------------

static int try_many(void) {
    kv_error err = {0};
    limit_addresses(64 << 20);
    if (kv_limits_try_threads(200, &err) != KV_ERR_MEMORY) return 91;
    fprintf(stderr, "%s\n", err.message);
    return 0;
}

static void threads(void **state) {
    (void)state;
    kv_error err = {0};
    for (int n = 0; n < 9; n++) assert_int_equal(kv_limits_try_threads(n, &err), KV_OK);
    if (test_under_asan()) return;
    assert_int_equal(in_child(try_many), 0);
    expect_line("cannot start 200 threads: ");
    expect_line("stopped by the limit on address space (ulimit -v)");
}

// ---- Stack ---------------------------------------------------------------------------------------------

static int stack(rlim_t soft, rlim_t hard) {
    struct rlimit limit = {soft, hard};
    if (setrlimit(RLIMIT_STACK, &limit)) return 90;
    kv_limits_raise_stack();
    if (getrlimit(RLIMIT_STACK, &limit)) return 90;
    return limit.rlim_cur >= 512 << 10 ? 0 : 91;
}
static int small_stack(void) {
    return stack(100 << 10, 100 << 10);
}
static int stack_to_raise(void) {
    return stack(100 << 10, 4 << 20);
}
static int large_stack(void) {
    return stack(4 << 20, 4 << 20);
}

static void stacks(void **state) {
    (void)state;
    assert_int_equal(in_child(large_stack), 0);
    assert_int_equal(in_child(stack_to_raise), 0);
    assert_string_equal(said, "");
    assert_int_equal(in_child(small_stack), 1);
    expect_line("test_limits: found a limit on the stack of 100 kB (ulimit -s), expected at least 512 kB");
}

// ---- Hardly any memory ---------------------------------------------------------------------------------

static int nothing_left(void) {
    limit_addresses(1 << 20);
    kv_limits_need_memory();
    return 91;
}

static int hdf5_has_no_room(void) {
    kv_error err = {0};
    hid_t file = 0;
    limit_addresses(3 << 20);
    if (kv_h5_create("no_room.h5", &file, &err) != KV_ERR_MEMORY || file >= 0) return 91;
    fprintf(stderr, "%s\n", err.message);
    return 0;
}

static void hardly_any_memory(void **state) {
    (void)state;
    if (test_under_asan()) return;
    assert_int_equal(in_child(nothing_left), 1);
    expect_line(" GB of memory left by the limit on address space (ulimit -v), expected at least 0.0042 GB");
    // It would crash, or say that the disk was full.
    assert_int_equal(in_child(hdf5_has_no_room), 0);
    expect_line("no_room.h5: HDF5 needs 0.0042 GB of memory to work in, found 0.00");
}

// ---- Out of memory -------------------------------------------------------------------------------------

static int explain(void) {
    char text[KV_LIMITS_TEXT];
    kv_error err = {KV_ERR_MEMORY, "out of memory"};
    if (*kv_limits_reason(&err, text)) return 91; // under no limit there is nothing to add
    limit_addresses((int64_t)1 << 40);
    fprintf(stderr, "%s%s\n", err.message, kv_limits_reason(&err, text));
    err.code = KV_ERR_IO;
    if (*kv_limits_reason(&err, text)) return 92;
    err = (kv_error){KV_ERR_MEMORY, "stopped by ulimit -v"};
    return *kv_limits_reason(&err, text) ? 93 : 0;
}

static void out_of_memory_is_explained(void **state) {
    (void)state;
    if (test_under_asan()) return;
    assert_int_equal(in_child(explain), 0);
    expect_line("out of memory (1.1e+03 GB more are allowed by the limit on address space (ulimit -v))");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_room_for_buffers),
        cmocka_unit_test(nothing_is_missing_later),
        cmocka_unit_test(threads),
        cmocka_unit_test(stacks),
        cmocka_unit_test(hardly_any_memory),
        cmocka_unit_test(out_of_memory_is_explained),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

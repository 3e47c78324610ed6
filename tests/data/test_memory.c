// What data/system/memory.c makes of the system's files, and the sizes of checkpoints.
#include "data/file/content.h"
#include "data/system/memory.h"
#include "tests/support/support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>

static char dir[64];

static void put(const char *name, const char *text) {
    char path[512];
    kv_error err = {0};
    snprintf(path, sizeof path, "%s/%s", dir, name);
    if (kv_write_file(path, text, strlen(text), &err)) fail_msg("%s", err.message);
}

static int setup(void **state) {
    (void)state;
    test_dir_make(dir);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    test_dir_remove(dir);
    return 0;
}

static const int64_t kB = 1024;

static void nothing_known(void **state) {
    (void)state;
    assert_true(kv_memory_available(dir) == INT64_MAX);
    put("proc/meminfo", "MemTotal:       1000 kB\n");
    assert_true(kv_memory_available(dir) == INT64_MAX);
    put("proc/meminfo", "MemAvailable:       lots\n");
    assert_true(kv_memory_available(dir) == INT64_MAX);
}

static void system_alone(void **state) {
    (void)state;
    put("proc/meminfo", "MemTotal:       1000 kB\nMemFree:  1 kB\nMemAvailable:     600 kB\nCached: 9 kB\n");
    assert_int_equal(kv_memory_available(dir), 600 * kB);
    put("proc/self/cgroup", "0::/\n");
    assert_int_equal(kv_memory_available(dir), 600 * kB); // no such files
}

// Version 2: the tightest of a group and those above it; cached files do not count as used.
static void groups(void **state) {
    (void)state;
    put("proc/self/cgroup", "0::/user/job\n");
    put("sys/fs/cgroup/user/job/memory.max", "max\n");
    put("sys/fs/cgroup/user/job/memory.current", "100\n");
    assert_int_equal(kv_memory_available(dir), 600 * kB);
    put("sys/fs/cgroup/user/memory.max", "300000\n");
    put("sys/fs/cgroup/user/memory.current", "100000\n");
    assert_int_equal(kv_memory_available(dir), 200000);
    put("sys/fs/cgroup/user/memory.stat", "anon 5\ninactive_file 20000\nactive_file 10000\n");
    assert_int_equal(kv_memory_available(dir), 230000);
    put("sys/fs/cgroup/user/job/memory.max", "50000\n");
    assert_int_equal(kv_memory_available(dir), 49900);
    put("sys/fs/cgroup/user/job/memory.current", "60000\n"); // more than allowed
    assert_int_equal(kv_memory_available(dir), 0);
    put("sys/fs/cgroup/user/job/memory.stat", "inactive_file 999999\n"); // more than is used
    assert_int_equal(kv_memory_available(dir), 50000);
    // A container that sees the host's path, but its own group as the top.
    put("proc/self/cgroup", "0::/somewhere/else\n");
    assert_int_equal(kv_memory_available(dir), 600 * kB);
    put("sys/fs/cgroup/memory.max", "70000\n");
    put("sys/fs/cgroup/memory.current", "10000\n");
    assert_int_equal(kv_memory_available(dir), 60000);
}

static void groups_of_version_1(void **state) {
    (void)state;
    put("proc/self/cgroup", "nonsense\n12:cpu,cpuacct:/a\n7:memory:/job\n1:name=systemd:/\n");
    assert_int_equal(kv_memory_available(dir), 600 * kB);
    put("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
    put("sys/fs/cgroup/memory/memory.usage_in_bytes", "123\n");
    assert_int_equal(kv_memory_available(dir), 600 * kB);
    put("sys/fs/cgroup/memory/job/memory.limit_in_bytes", "40000\n");
    put("sys/fs/cgroup/memory/job/memory.usage_in_bytes", "30000\n");
    put("sys/fs/cgroup/memory/job/memory.stat",
        "inactive_file 1\ntotal_inactive_file 2000\ntotal_active_file 300\n");
    assert_int_equal(kv_memory_available(dir), 12300);
    put("sys/fs/cgroup/memory/job/memory.limit_in_bytes", "99999999999999999999\n"); // no such number
    assert_int_equal(kv_memory_available(dir), 600 * kB);
}

// The tighter of two limits of version 2: from memory.high on, processes hardly go on.
static void limit_that_slows(void **state) {
    (void)state;
    put("proc/self/cgroup", "0::/user/slowed\n");
    put("sys/fs/cgroup/user/slowed/memory.max", "max\n");
    put("sys/fs/cgroup/user/slowed/memory.high", "45000\n");
    put("sys/fs/cgroup/user/slowed/memory.current", "1000\n");
    assert_int_equal(kv_memory_available(dir), 44000);
    assert_string_equal(kv_memory_left(dir).by, "the control group (cgroup)");
    put("sys/fs/cgroup/user/slowed/memory.max", "40000\n");
    assert_int_equal(kv_memory_available(dir), 39000);
    put("proc/self/cgroup", "0::/somewhere/else\n");
    put("sys/fs/cgroup/memory.max", "max\n");
    assert_string_equal(kv_memory_left(dir).by, "the machine");
}

// What the process has is taken off, and never below 0.
static int64_t left_under(int resource, rlim_t soft, const char **by) {
    struct rlimit before;
    assert_int_equal(getrlimit(resource, &before), 0);
    const struct rlimit limit = {soft, before.rlim_max};
    assert_int_equal(setrlimit(resource, &limit), 0);
    const kv_memory_limit all = kv_memory_left(dir), addresses = kv_address_space_left(dir);
    assert_int_equal(setrlimit(resource, &before), 0);
    assert_int_equal(all.left, addresses.left);
    assert_string_equal(all.by, addresses.by);
    *by = addresses.by;
    return addresses.left;
}

// Of more than the terabytes that AddressSanitizer takes.
static void limits_of_the_process(void **state) {
    (void)state;
    const char *by;
    put("proc/self/status", "Name:\tx\nVmPeak:\t 9 kB\nVmSize:\t     300 kB\nVmData:\t     200 kB\n");
    put("proc/meminfo", "MemAvailable:     2000000000000 kB\n");
    assert_true(kv_address_space_left(dir).left == INT64_MAX);
    assert_int_equal(left_under(RLIMIT_AS, (rlim_t)1 << 50, &by), ((int64_t)1 << 50) - 300 * kB);
    assert_non_null(strstr(by, "ulimit -v"));
    assert_int_equal(left_under(RLIMIT_DATA, (rlim_t)1 << 50, &by), ((int64_t)1 << 50) - 200 * kB);
    assert_non_null(strstr(by, "ulimit -d"));
    put("proc/self/status", "VmSize:\t     2000000000000 kB\nVmData:\t    1 kB\n");
    assert_int_equal(left_under(RLIMIT_AS, (rlim_t)1 << 50, &by), 0);
}

// More than any machine has.
static void checks(void **state) {
    (void)state;
    kv_error err = {0};
    assert_int_equal(kv_memory_check(1000, "a thing", &err), KV_OK);
    assert_int_equal(kv_memory_check(1e18, "a thing", &err), KV_ERR_MEMORY);
    assert_int_equal(strncmp(err.message, "a thing: needs 1e+09 GB of memory, found ", 41), 0);
    assert_non_null(strstr(err.message, " GB left by the "));
}

static void this_process(void **state) {
    (void)state;
    enum { SIZE = 64 << 20 };
    assert_true(kv_memory_available("") > 0);
    const int64_t before = kv_memory_held();
    char *block = malloc(SIZE);
    assert_non_null(block);
    memset(block, 1, SIZE);
    assert_true(kv_memory_held() >= before + SIZE / 2);
    // Nobody else has these pages; the program's own code others may have.
    assert_true(kv_memory_shared() > 0 && kv_memory_shared() <= kv_memory_held() - SIZE / 2);
    free(block);
    char *common = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(common, MAP_FAILED);
    memset(common, 1, SIZE);
    assert_true(kv_memory_shared() >= SIZE / 2);
    munmap(common, SIZE);
    assert_true(kv_memory_peak() >= before + SIZE / 2);
    assert_true(kv_memory_held() <= kv_memory_peak());
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_known),    cmocka_unit_test(system_alone),
        cmocka_unit_test(groups),           cmocka_unit_test(groups_of_version_1),
        cmocka_unit_test(limit_that_slows), cmocka_unit_test(limits_of_the_process),
        cmocka_unit_test(checks),           cmocka_unit_test(this_process),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}

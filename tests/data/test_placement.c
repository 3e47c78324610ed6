// Where ranks run, in a line, and what is wrong with that. Started by hand or by meson it starts itself under the launchers there are.
#include "data/ranks/placement.h"

#include "data/ranks/ranks.h"
#include "tests/support/launch.h"
#include "tests/support/shell.h"
#include "tests/support/support.h"

#include <omp.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// ---- Facts that are made up ----------------------------------------------------------------------------

// A rank that may use CPUs [first, first + n) of a host with 16, whose CPU c + 8 is the second hardware thread of core c.
static kv_placement on(const char *host, int n_threads, int first, int n) {
    kv_placement p = {
        .n_threads = n_threads, .host_cpus = 16, .host_numa = 2, .bind = "close", .places = "cores"};
    snprintf(p.host, sizeof p.host, "%s", host);
    for (int cpu = first; cpu < first + n; cpu++) {
        p.cpus.bits[0] |= (uint64_t)1 << cpu;
        p.cores.bits[0] |= (uint64_t)1 << cpu % 8;
    }
    return p;
}

static void expect(const kv_placement *all, int n_ranks, const char *line, const char *doubts) {
    char found[2][2048] = {"", ""};
    for (int i = 0; i < 2; i++) {
        FILE *out = fmemopen(found[i], sizeof found[i], "w");
        assert_non_null(out);
        (i == 0 ? kv_placement_line : kv_placement_doubts)(all, n_ranks, out);
        assert_int_equal(fclose(out), 0);
    }
    if (line) assert_string_equal(found[0], line);
    if (!*doubts) assert_string_equal(found[1], "");
    if (!strstr(found[1], doubts)) fail_msg("expected %s in %s", doubts, found[1]);
}

static void test_line(void **state) {
    (void)state;
    const kv_placement two[] = {on("a", 4, 0, 4), on("a", 4, 4, 4)};
    expect(
        two, 2,
        "2 ranks on 1 host (a); 4 threads a rank, pinned to 4 of 16 CPUs, threads bound (OMP_PROC_BIND=close, "
        "OMP_PLACES=cores); 2 NUMA nodes a host",
        "");
    kv_placement many[] = {on("a", 4, 0, 16), on("a", 4, 0, 16), on("b", 3, 0, 16)};
    for (int r = 0; r < 3; r++) many[r].bind[0] = many[r].places[0] = '\0';
    many[2].host_numa = 1;
    expect(
        many, 3,
        "3 ranks on 2 hosts (a, b), 1 to 2 on each; 3 to 4 threads a rank, not pinned, 16 CPUs, threads not bound "
        "(OMP_PROC_BIND); 1 to 2 NUMA nodes a host",
        "");
    kv_placement hosts[] = {on("a", 1, 0, 1), on("b", 1, 0, 2), on("c", 1, 0, 2), on("d", 1, 0, 2),
                            on("e", 1, 0, 2)};
    hosts[3].bind[0] = '\0';
    expect(
        hosts, 5,
        "5 ranks on 5 hosts (a, b, c, d, ...), 1 on each; 1 thread a rank, pinned to 1 to 2 of 16 CPUs, threads "
        "bound differently from rank to rank; 2 NUMA nodes a host",
        "");
    expect(
        hosts, 4,
        "4 ranks on 4 hosts (a, b, c, d), 1 on each; 1 thread a rank, pinned to 1 to 2 of 16 CPUs, threads "
        "bound differently from rank to rank; 2 NUMA nodes a host",
        "");
}

static void test_doubts(void **state) {
    (void)state;
    // As Open MPI binds two ranks by itself: each to one core.
    const kv_placement bound[] = {on("a", 8, 0, 1), on("a", 8, 1, 1)};
    expect(bound, 2, NULL,
           "rank 0 (a) has 8 threads on 1 CPU, and 1 more rank likewise: OMP_NUM_THREADS and the");
    const kv_placement one[] = {on("a", 4, 0, 4), on("b", 5, 0, 4)};
    expect(one, 2, NULL, "rank 1 (b) has 5 threads on 4 CPUs: OMP_NUM_THREADS");
    // As MPICH leaves them: each everywhere. 16 CPUs are 8 cores.
    const kv_placement free[] = {on("a", 4, 0, 16), on("b", 8, 0, 16), on("a", 5, 0, 16)};
    expect(free, 3, NULL,
           "ranks 0 and 2 share cores on a, whose 2 ranks have 9 threads on 8 cores; one rank a NUMA node");
    const kv_placement room[] = {on("a", 4, 0, 16), on("a", 4, 0, 16)};
    expect(room, 2, NULL, "");
    // CPUs 0-7 and 8-15 are the same cores.
    const kv_placement siblings[] = {on("a", 8, 0, 8), on("a", 8, 8, 8)};
    expect(siblings, 2, NULL, "ranks 0 and 1 share cores on a, whose 2 ranks have 16 threads on 8 cores");
    // The same CPUs of different hosts are different ones.
    const kv_placement apart[] = {on("a", 8, 0, 8), on("b", 8, 0, 8)};
    expect(apart, 2, NULL, "");
    const kv_placement some[] = {on("a", 2, 0, 2), on("a", 2, 2, 2), on("a", 2, 2, 2)};
    expect(some, 3, NULL, "ranks 1 and 2 share cores on a, whose 3 ranks have 6 threads on 4 cores");
}

// ---- What the system says ------------------------------------------------------------------------------

static int n_in(const kv_cpu_set *set) {
    int n = 0;
    for (int i = 0; i < KV_PLACEMENT_CPUS / 64; i++) n += __builtin_popcountll(set->bits[i]);
    return n;
}

static void test_here(void **state) {
    (void)state;
    kv_placement here;
    cpu_set_t allowed, last;
    assert_int_equal(sched_getaffinity(0, sizeof allowed, &allowed), 0);
    kv_placement_here(&here);
    assert_int_equal(n_in(&here.cpus), CPU_COUNT(&allowed));
    assert_int_equal(here.n_threads, omp_get_max_threads());
    assert_true(here.host_cpus >= n_in(&here.cpus) && here.host_numa >= 1);
    assert_true(n_in(&here.cores) >= 1 && n_in(&here.cores) <= n_in(&here.cpus));
    assert_string_equal(here.host, kv_rank_host(0));
    int cpu = 0;
    for (int c = 0; c < CPU_SETSIZE; c++)
        if (CPU_ISSET(c, &allowed)) cpu = c;
    CPU_ZERO(&last);
    CPU_SET(cpu, &last);
    assert_int_equal(sched_setaffinity(0, sizeof last, &last), 0);
    kv_placement_here(&here);
    assert_int_equal(sched_setaffinity(0, sizeof allowed, &allowed), 0);
    assert_int_equal(n_in(&here.cpus), 1);
    assert_true(here.cpus.bits[cpu / 64] >> cpu % 64 & 1);
}

// ---- Under the launchers -------------------------------------------------------------------------------

static int be_rank(void) {
    kv_error err = {0};
    if (kv_ranks_start(&err) != KV_OK) return 99;
    kv_placement_announce("test");
    return kv_ranks_end(0);
}

static void expect_times(const char *part, int times) {
    int n = 0;
    for (const char *at = shell_err; (at = strstr(at, part)); at++) n++;
    if (n != times) fail_msg("%d times '%s', expected %d, in: %s", n, part, times, shell_err);
}

static void test_announced(void **state) {
    (void)state;
    char self[512], command[1024];
    const ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    assert_true(n > 0);
    self[n] = '\0';
    snprintf(command, sizeof command, "%s rank", self);
    shell_succeed(command);
    assert_string_equal(shell_err, ""); // alone
    for (int kind = 0; kind < launch_n_kinds(); kind++) {
        // All on one CPU: two threads each are too many, and they are in each other's way.
        snprintf(command, sizeof command, "%s taskset -c 0 env OMP_NUM_THREADS=2 OMP_PROC_BIND=false %s rank",
                 launch_with(kind, 3), self);
        shell_succeed(command);
        expect_times("test: 3 ranks on 1 host (", 1);
        expect_times("; 2 threads a rank, ", 1);
        expect_times(" CPUs, threads not bound (OMP_PROC_BIND); ", 1);
        expect_times("warning: rank 0 (", 1);
        expect_times(") has 2 threads on 1 CPU, and 2 more ranks likewise: ", 1);
        expect_times("warning: ranks 0 and 1 share cores on ", 1);
        expect_times(", whose 3 ranks have 6 threads on 1 core;", 1);
        snprintf(command, sizeof command,
                 "%s taskset -c 0 env OMP_PROC_BIND=close OMP_PLACES=threads %s rank", launch_with(kind, 1),
                 self);
        shell_succeed(command);
        assert_string_equal(shell_err, "");
        snprintf(command, sizeof command, "%s env OMP_PROC_BIND=close OMP_PLACES=threads %s rank",
                 launch_with(kind, 2), self);
        shell_succeed(command);
        expect_times("threads bound (OMP_PROC_BIND=close, OMP_PLACES=threads)", 1);
    }
}

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "rank") == 0) return be_rank();
    shell_set_up();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_line),
        cmocka_unit_test(test_doubts),
        cmocka_unit_test(test_here),
        cmocka_unit_test(test_announced),
    };
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    test_dir_remove(test_dir);
    return failed;
}

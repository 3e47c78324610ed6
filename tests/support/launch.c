// Which launchers there are the build says in the environment of all tests.
#include "tests/support/launch.h"

#include "tests/support/support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// In containers there may be no network interface but loopback, no right to read another process's memory and no ssh; and
// this may be root. Under LeakSanitizer every rank would fail for what MPI libraries leave behind.
static const struct {
    const char *name, *variable, *options;
} all[] = {
    {"openmpi", "KV_RUN_OPENMPI",
     "env OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_plm_rsh_agent=sh OMPI_MCA_btl_vader_single_copy_mechanism=none "
     "OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_hwloc_base_binding_policy=none ASAN_OPTIONS=allocator_may_return_null=1:detect_leaks=0 OMP_NUM_THREADS=1"},
    {"mpich", "KV_RUN_MPICH",
     "env ASAN_OPTIONS=allocator_may_return_null=1:detect_leaks=0 OMP_NUM_THREADS=1"}};
enum { N_ALL = sizeof all / sizeof *all };

static int find(int kind) {
    for (int i = 0; i < N_ALL; i++) {
        const char *launcher = getenv(all[i].variable);
        if (launcher && *launcher && kind-- == 0) return i;
    }
    return -1;
}

int launch_n_kinds(void) {
    int n = 0;
    while (find(n) >= 0) n++;
    return n;
}

void launch_or_skip(void) {
    if (launch_n_kinds() > 0) return;
    print_message("skipped: this build has no module for an MPI library whose launcher is here\n");
    skip();
}

const char *launch_kind(int kind) {
    return all[find(kind)].name;
}

const char *launch_with(int kind, int n_ranks) {
    static char commands[8][512];
    static int next;
    const int i = find(kind);
    char *command = commands[next++ % 8];
    snprintf(command, sizeof commands[0], "%s %s -n %d", all[i].options, getenv(all[i].variable), n_ranks);
    return command;
}

const char *launch(int n_ranks) {
    return launch_with(0, n_ranks);
}

// Programs under an MPI launcher, for tests: as many ranks as asked for on this machine, with one thread each, however few
// cores there are.
#pragma once

#include <stdbool.h>

// MPI libraries that this build has a module for and that have a launcher here: "openmpi", "mpich". 0: none, and the test is to
// skip() itself.
int launch_n_kinds(void);
// Skips the test, with a word why, where there is none.
void launch_or_skip(void);
const char *launch_kind(int kind);

// What to put before a program and its arguments in a shell: "mpirun.openmpi … -n 3". In a place of its own that the next
// but seven calls overwrite.
const char *launch_with(int kind, int n_ranks);
// The same of the first kind, which most tests are content with.
const char *launch(int n_ranks);

// What tests of running programs share.
#pragma once

#include "corpus_support.h"

#include "eval/sandbox.h"

#include <sys/types.h>

// Whether bubblewrap can make a sandbox on this machine at all, found out without our own code.
bool test_bwrap_works(void);

kv_sandbox *test_open_sandbox(const kv_sandbox_options *options);

// Runs one program; fails the test when it could not be run.
kv_run_result test_run_program(kv_sandbox *sandbox, const char *source);

// Processes that belong to programs started by process `caller`: by the mark in their command line, by the
// users that root gives them, and by being children of it. zombies: also
// those that have ended and that nobody has waited for.
int test_count_left(pid_t caller, bool zombies);

// Entries of /proc/self/fd.
int64_t test_count_descriptors(void);

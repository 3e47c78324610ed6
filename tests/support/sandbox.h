// What tests of running programs share.
#pragma once

#include "tests/support/corpus.h"

#include "eval/sandbox/sandbox.h"

#include <sys/types.h>

// Whether bubblewrap can make a sandbox on this machine at all, found out without our own code.
bool test_bwrap_works(void);

// Small limits, and more workers than cores: many programs wait rather than compute.
enum { TEST_WORKERS = 6 };
kv_sandbox_options test_sandbox_options(double seconds, bool processes);

// Two programs that start as many processes (threads) as they can, hold them, and fail with what the kernel
// said.
extern const char test_fork_bomb[], test_thread_bomb[];

kv_sandbox *test_open_sandbox(const kv_sandbox_options *options);

// Runs one program; fails the test when it could not be run.
kv_sandbox_result test_run_program(kv_sandbox *sandbox, const char *source);

// The same and what is expected of it: that it passes, or how its result begins.
void test_expect_passed(kv_sandbox *sandbox, const char *source);
void test_expect_failure(kv_sandbox *sandbox, const char *source, const char *expected);

// Processes that belong to programs started by process `caller`: by the mark in their command line, by the
// users that root gives them, and by being children of it. zombies: also
// those that have ended and that nobody has waited for.
int test_count_left(pid_t caller, bool zombies);

// Entries of /proc/self/fd.
int64_t test_count_descriptors(void);

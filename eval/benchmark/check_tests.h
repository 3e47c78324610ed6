// Whether a file of problems and the sandbox work: every problem's own solution must pass its own tests.
#pragma once

#include "eval/sandbox/sandbox.h"

#include <stdio.h>

// Runs the canonical solution of every problem of a file of programming problems, with progress on stderr. A line to `out`
// for each that fails, in the file's order, then how many passed, how long it took and what the file was taken for.
// options->limits.seconds 0: what is usual for that. *n_failed of
// *n_problems; problems whose solution fails are no error.
kv_status kv_check_tests(const char *path, const kv_sandbox_options *options, FILE *out, int64_t *n_problems,
                         int64_t *n_failed, kv_error *err);

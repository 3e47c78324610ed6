// Programs share their interpreter with the tests that judge them, and may have passed by changing what these rely
// on. How many did is said beside the score, which stays as HumanEval has it.
#pragma once

#include "data/benchmark/problems.h"
#include "eval/sandbox/sandbox.h"

// Runs every program that passed once more, looking on (eval/benchmark/redefined.py says what for): completions[n] of
// problems[n], results[n] what they came to. found[n]: names of what it redefined, separated by ", "; NULL: nothing was
// seen, or it did not pass. Each is the caller's to free, also after a failure. done: as of
// kv_sandbox_run, of the programs that run.
kv_status kv_redefined_find(kv_sandbox *sandbox, const kv_problem *const *problems,
                            const char *const *completions, const kv_sandbox_result *results, int64_t n,
                            char **found, kv_sandbox_done_fn *done, void *context, kv_error *err);

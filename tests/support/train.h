// Runs of kvtrain for tests: a directory with a shard and configurations, the program started in it, and what
// it printed and left behind.
#pragma once

#include "data/file/path.h"
#include "tests/support/support.h"

#include <stdbool.h>
#include <sys/resource.h>
#include <sys/types.h>

enum { TEST_VOCAB = 32 };

// Arguments of the program.
#define ARGS(...) ((const char *const[]){__VA_ARGS__, NULL})

// cmocka group setup and teardown. Makes a directory and goes there: shard.h5 (60 documents of 14 tokens),
// base.yaml (trained: base/final/model), aux.yaml (trained: aux/final/model), kvp.yaml (not run yet).
int train_setup(void **state);
// The same, and commands of tests/support/shell.h run there: $T is kvtrain, $K kvdata.
int train_shell_setup(void **state);
int train_teardown(void **state);

// Starts kvtrain (the environment's KVTRAIN); no file it writes may grow beyond max_file_size bytes (0: no
// limit).
pid_t train_start(const char *const *args, rlim_t max_file_size);
// Waits for it; the exit status.
int train_finish(pid_t pid);
// Waits until it has written so much of a file (0: until that is there), or printed a text; fails the test when it
// ends before.
void train_wait_for_file(pid_t pid, const char *path, int64_t size);
void train_wait_for_text(pid_t pid, const char *text);
// What it printed, both streams.
const char *train_output(void);

// Runs it and fails the test unless it exits with this status.
void train_expect(int code, const char *const *args);
// Runs it and fails the test unless it exits with 1 and its message, one line behind warnings, contains `message`.
void train_refuse(const char *message, const char *const *args);

void put_file(const char *name, const char *text);
bool same_file(const char *a, const char *b);
// Fails the test when a temporary file or directory was left behind.
void assert_nothing_half_written(void);

// Value of `key` in the line of metrics.jsonl that logs `step`; NAN when the line or the key is missing.
double metric(const char *run, int64_t step, const char *key);

// How far what two runs log at a step may differ where they compute the same in another order: x is one of the two,
// `run` has trained all weights of its final/.
double train_allowed(const char *run, int64_t step, double x);

void make_shard(const char *path, int64_t vocab_size, int32_t bos);
// n documents of 14 random tokens, with the same tokenizer, BOS and EOS as shard.h5.
void make_text(const char *path, int64_t n, uint64_t seed);

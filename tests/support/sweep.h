// Sweeps of kvtrain for tests: a family of random models with text that counts upwards, files of sweeps, and what the program
// said. In the directory of tests/support/train.h.
#pragma once

#include "tests/support/train.h"

// cmocka group setup, torn down by train_teardown: family/ (tests/support/eval.h), counting.h5 made with its tokenizer, pair.yaml (task kvp) and
// alone.yaml (task lm) of 12 steps, questions.yaml (kveval's), sweeps/.
int sweep_setup(void **state);

// Exit status 0, 1, ... of `kvtrain --sweep sweeps/NAME` with more arguments, up to NULL.
void sweep(int code, const char *name, const char *const *more);
void put_sweep(const char *name, const char *text);

void expect_said(const char *text);
void expect_not_said(const char *text);
// Whether the first line that begins with `begin` goes on with `part`.
void expect_line(const char *begin, const char *part, bool there);

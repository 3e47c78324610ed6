// What the tests of the corpus programs share: small texts, a trained tokenizer, and running a program.
#pragma once

#include <stdio.h>

#include "tests/support/support.h"

#include "data/tokenizer/tokenizer.h"

// A file of tests/, in a buffer as of test_path.
const char *test_fixture(const char *name);

// Writes text to path.
void test_write_text(const char *path, const char *text);

// Writes a configuration, "@" standing for test_dir and "%" for the fixtures; test_put_config: a part of one, into `file`.
void test_write_config(const char *path, const char *text);
void test_put_config(FILE *file, const char *text);

// Whole content of a file, NUL-terminated; fails the test when it cannot be read. Caller frees.
char *test_read_text(const char *path);

// The first 300 facts of the real lists, as a corpus, and a tokenizer of 400 pieces trained on them:
// dir/train.jsonl and dir/tokenizer.model.
void test_small_corpus(const char *dir);

// text[length] as programs show it, with U+FFFD for every byte that is part of no character of UTF-8; *n
// bytes (may be NULL), NUL-terminated. Caller frees.
char *test_repaired(const char *text, size_t length, size_t *n);

// Runs a program to its end, its output in out[size] and what it said on stderr in err[size], both cut there.
// max_file_bytes: a full disk, as test_limit_file_size; -1 none. Returns the exit status, or -signal.
int test_run(const char *const *arguments, int64_t max_file_bytes, char *out, char *err, size_t size);
// The program that a variable of the environment names (KVEVAL, …), with these arguments: fails unless it ends with `status`.
void test_expect_run(const char *variable, int status, const char *const *arguments, char *out, char *err,
                     size_t size);

// What several test programs share: cmocka with the headers it needs, repeatable values, 16-bit float formats
// spelled out, temporary directories.
#pragma once

// clang-format off
#include <stdarg.h>
#include <stddef.h>
#include <stdbool.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
// clang-format on

#include "core/tensor.h"

#include <sys/types.h>

// Uniform in (-1, 1): a pure function of seed and index, and no part of the code under test.
double test_value(uint64_t seed, int64_t index);

// A whole number in [0, bound).
int64_t test_below(uint64_t seed, int64_t index, int64_t bound);

// x[n] = scale · test_value.
void test_fill(float *x, int64_t n, uint64_t seed, double scale);

// malloc of n zeroed elements that fails the test instead of returning NULL.
void *test_alloc(int64_t n, size_t size);

// The real number that the bits of an element of a 16-bit type stand for, and the bits nearest to x (ties to
// even), found by searching the type's values.
double test_half_value(kv_dtype dtype, uint16_t bits);
uint16_t test_half_nearest(kv_dtype dtype, double x);

// An owned parameter (zeros), with a zeroed gradient when trainable. test_param_free takes back both.
kv_param test_param(const char *name, int64_t rows, int64_t cols, kv_dtype dtype, bool trainable);
void test_param_free(kv_param *param);

// Whether the test runs under AddressSanitizer, which takes terabytes of addresses and memory of its own: no limit on
// either, and no measuring, says anything then.
bool test_under_asan(void);

// Creates a directory of its own under /tmp, and removes it with everything in it.
void test_dir_make(char path[64]);
void test_dir_remove(const char *path);

// The same as a test group's set-up and tear-down, for the one directory of the whole program.
extern char test_dir[64];
int test_dir_set_up(void **state);
int test_dir_tear_down(void **state);

// Number of entries of a directory, -1 when it does not exist.
int64_t test_dir_count(const char *path);

// The repository's configs/ as configs/ of the working directory, from where these name each other. 0, or -1.
int test_link_configs(void);

// dir/name, in a buffer that lasts for seven more calls.
const char *test_path(const char *dir, const char *name);

// Whether a child is still at work; it is waited for later. Tests wait for what a program does as long as there
// is somebody to do it, not for a time in which a busy machine may not get there.
bool test_alive(pid_t child);

// A full disk: no file of this process may grow beyond so many bytes; negative ends that.
void test_limit_file_size(int64_t bytes);

// What the tests of checkpoints share: the goldens, copies of them to be damaged, and comparisons.
#pragma once

#include "data/checkpoint/checkpoint.h"
#include "data/checkpoint/safetensors.h"
#include "tests/support/support.h"

// What every call of a test fills.
extern kv_error err;

void must(kv_status status, const kv_error *why);

// The call fails with that status and one line that holds all the parts.
#define assert_refused(call, expected_status, ...)                                                           \
    do {                                                                                                     \
        kv_status got = (call);                                                                              \
        check_refusal(got, expected_status, (const char *const[]){__VA_ARGS__, NULL});                       \
    } while (0)
void check_refusal(kv_status got, kv_status expected, const char *const *parts);

// A file or directory of tests/golden, in a buffer that lasts for a few calls (test_path).
const char *golden(const char *name);

void copy_file(const char *from, const char *to);
// All files of a golden directory, to be damaged in test_dir.
void copy_golden(const char *name);

// Write a file of test_dir.
void write_bytes(const char *name, const void *bytes, size_t size);
void write_text(const char *name, const char *text);
// Sets a key of a JSON file in test_dir to a JSON value, or removes it when value is NULL.
void set_key(const char *name, const char *key, const char *value);

enum change { LEAVE_OUT, ADD_COPY, ADD_ROW, FLATTEN };
// Rewrites a safetensors file of test_dir with one tensor changed; `copy` is what ADD_COPY calls its copy.
void change_tensor(const char *file_name, const char *name, enum change change, const char *copy);

// Rewrites dir/model.safetensors with every tensor in a 16-bit type.
void narrow_weights(kv_dtype dtype);

// The same values in all parameters and the same fingerprint, whatever the stored types.
void assert_same_weights(kv_model *a, kv_model *b);
void assert_same_spec(const kv_model_spec *a, const kv_model_spec *b);

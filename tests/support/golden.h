// Files that other implementations left (tests/golden, or the directory KV_GOLDEN_DIR names), and comparisons
// with them.
//
// Every directory below it that holds an expected.h5 is a case: with base/ and aux/ beside it, KV prediction
// by the reference implementation; with a config.json beside it, a plain language model. All sizes come from
// the files.
#pragma once

#include "core/objective.h"
#include "data/file/h5.h"
#include "tests/support/numbers/rounding.h"
#include "tests/support/support.h"

#include <limits.h>

// A call that sees `err`; fails the test with its message.
#define golden_check(call)                                                                                   \
    do {                                                                                                     \
        kv_error error_;                                                                                     \
        error_.message[0] = 0;                                                                               \
        kv_error *err = &error_;                                                                             \
        if ((call) != KV_OK) fail_msg("%s", error_.message);                                                 \
    } while (0)

// ---- Reading what is expected --------------------------------------------------------------------------

typedef struct golden_array {
    float *data; // the caller's to free
    int n_dims;
    int64_t shape[8], size;
} golden_array;

golden_array golden_read(hid_t file, const char *format, ...) __attribute__((format(printf, 2, 3)));
double golden_number(hid_t file, const char *name);
int32_t *golden_ids(hid_t file, const char *name, int64_t *rows, int64_t *cols);
double golden_attribute(hid_t file, const char *name); // of the file itself

// Theirs and ours are both float32: each has its own error.
void golden_expect(const char *what, const float *got, const golden_array *expected,
                   const rounding_spread *spread, int64_t from);
void golden_expect_number(const char *what, double got, double expected, double allowed);

// [tokens, heads · d] of n_seq sequences → [n_seq, heads, tokens per sequence, d], as the reference lays
// caches out, and back.
void golden_lay_out(const golden_array *like, const float *from, float *to, bool back);

// ---- One case ------------------------------------------------------------------------------------------

// With an aux the base is frozen and the others are trained; without one there is the base alone, and neither
// predictor, target_ids nor weights.
typedef struct golden_case {
    char dir[PATH_MAX];
    hid_t expected;
    kv_model *base, *aux;
    kv_predictor *predictor;
    kv_tape *tape;
    int32_t *input_ids, *target_ids;
    int64_t n_seq, seq_len;
    kv_kvp_weights weights;
    int32_t ignore_index;
} golden_case;

golden_case golden_open(const char *dir);
void golden_close(golden_case *g);

// ---- All cases -----------------------------------------------------------------------------------------

// Adds a case's tests; each gets the case's directory as its initial state.
typedef void golden_add_fn(const char *dir, bool predicts);
void golden_add_test(const char *dir, const char *name, CMUnitTestFunction function);

// Runs them, as main's result: fails where there is no case at all.
int golden_run(const char *group, golden_add_fn *add);

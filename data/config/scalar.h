// Truth values and numbers as YAML writes them: the words of YAML 1.1 and 1.2 alike, for files are written for both.
#pragma once

#include <stdbool.h>
#include <stdint.h>

// true, yes, on, y and their opposites; each lower case, capitalised or in capitals.
bool kv_yaml_truth(const char *text, bool *value);

// Digits with a sign, 1_000, 0x10, 0o17, and what is whole in another form: 1e4, 20.0. A 0 in front is refused: 010 is
// eight in YAML 1.1 and ten in 1.2.
bool kv_yaml_whole(const char *text, int64_t *value);
bool kv_yaml_unsigned(const char *text, uint64_t *value);

// Also 1_000.5, .5 and 1.; finite ones only.
bool kv_yaml_real(const char *text, double *value);

// Nothing at all, ~, null, Null or NULL.
bool kv_yaml_null(const char *text);

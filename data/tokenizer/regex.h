// The regular expressions of tokenizer files, which are written for Oniguruma, run by PCRE2.
#pragma once

#include "core/status.h"

#include <stdbool.h>
#include <stddef.h>

typedef struct kv_regex kv_regex;

// Pattern, UTF-8. What would mean something else to PCRE2 is put into its words (\s, \S, \w, and that ^ and $
// stand at any line) or refused: classes within classes, [:name:] but alpha, digit and space, &&, {...}+, and
// \W, \b, \B, \h, \H. KV_ERR_FORMAT names the pattern and the place. Which characters are letters or numbers
// is as the installed PCRE2's version of Unicode has it.
kv_status kv_regex_compile(const char *pattern, kv_regex **regex, kv_error *err);
void kv_regex_free(kv_regex *regex);

// What one thread needs for matching.
typedef struct kv_regex_work kv_regex_work;
kv_regex_work *kv_regex_work_create(void); // NULL: out of memory
void kv_regex_work_free(kv_regex_work *work);

// The first match in text[length], which must be valid UTF-8, at or after `from`, the beginning of a
// character: *found, *start and *end (equal for an empty one). Looking back sees the text before `from`.
// KV_ERR_FORMAT: the pattern needs absurdly many steps on this text.
kv_status kv_regex_find(const kv_regex *regex, kv_regex_work *work, const char *text, size_t length,
                        size_t from, bool *found, size_t *start, size_t *end, kv_error *err);

// Whether a written answer is one of the accepted ones: what custom tasks can be scored by.
//
//   exact     the answer is one of them
//   contains  one of them stands somewhere in the answer
//   regex     what a pattern finds in the answer is one of them
//   numeric   the last number of the answer is the last of one of them: "so it is $1,234.50." and "1234.5"
#pragma once

#include "data/system/buffers.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum kv_match_kind {
    KV_MATCH_EXACT,
    KV_MATCH_CONTAINS,
    KV_MATCH_REGEX,
    KV_MATCH_NUMERIC
} kv_match_kind;

typedef struct kv_matching {
    kv_match_kind kind;
    bool ignore_case, ignore_punctuation; // as TriviaQA's exact match ignores them; not of numbers
    const char *pattern;                  // regex: of PCRE2, borrowed
} kv_matching;

typedef struct kv_matcher kv_matcher;

// KV_ERR_FORMAT: the pattern is none, and from which of its characters on. Free with kv_matcher_free (accepts NULL).
kv_status kv_matcher_create(const kv_matching *how, kv_matcher **matcher, kv_error *err);
void kv_matcher_free(kv_matcher *matcher);

// Outer white space counts nowhere, and an answer or a target of which nothing else is left never matches. A pattern's
// first match counts: what its first group that took part found, or without groups all of it. Where there are no targets
// (n = 0) a match is enough. An answer on which it tries more than a million ways has none.
kv_status kv_matcher_judge(const kv_matcher *matcher, const char *answer, char *const *targets, int64_t n,
                           bool *right, kv_error *err);

// Whether any answer could match the target that ends at the first of stops[n_stops].
kv_status kv_matcher_can(const kv_matcher *matcher, const char *target, const char *const *stops,
                         size_t n_stops, bool *can, kv_error *err);

// ---- The parts -----------------------------------------------------------------------------------------

// The last number in a text as its sign, its digits without zeros at either end and a power of ten, so that numbers of
// one value read alike: "-1.50" and "-1.5" are "-15e-1". Commas between groups of three digits belong to it, as do "-" or
// U+2212 directly in front, a "$", "€", "£" or "¥" between, and an exponent ("2e3"). A "-" behind a letter or digit is no
// sign. Replaces *out, NUL-terminated; empty: there is none.
kv_status kv_last_number(const char *text, kv_bytes *out, kv_error *err);

// TriviaQA's files: JSON lines as Hugging Face exports them (question, answer.{value,aliases}) and the
// original JSON (Data[].Question, .Answer.{Value,Aliases}); plain or gzip. An answer may also be a string, or a list of
// all accepted ones with that of few-shot examples first.
#pragma once

#include "data/system/buffers.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct kv_question {
    char *id, *text;
    char *value;    // the answer shown in few-shot examples
    char **aliases; // every accepted answer, value included
    int64_t n_aliases;
    char *where; // "FILE:LINE", or "FILE: Data[INDEX]"
} kv_question;

typedef struct kv_questions {
    kv_question *items;
    int64_t n;
} kv_questions;

// A bad line is an error naming file, line and what was expected.
kv_status kv_triviaqa_read(const char *path, kv_questions *questions, kv_error *err);
void kv_questions_free(kv_questions *questions);

// What the harness compares for exact match (ignore_case, ignore_punctuation): text[length] in lower case, as
// Python's str.lower() has it, then without ASCII punctuation. Replaces *out, NUL-terminated.
//                                                                    [EleutherAI evaluation harness]
kv_status kv_normalize_answer(const char *text, size_t length, kv_bytes *out, kv_error *err);
// Either of both, or neither.
kv_status kv_simplify_answer(const char *text, size_t length, bool ignore_case, bool ignore_punctuation,
                             kv_bytes *out, kv_error *err);

// *match: whether the generation, stripped of outer white space, is one of the question's aliases. An empty
// one is none.
kv_status kv_exact_match(const char *generation, const kv_question *question, bool *match, kv_error *err);

// TriviaQA's files: JSON lines as Hugging Face exports them (question, answer.{value,aliases}) and the
// original JSON (Data[].Question, .Answer.{Value,Aliases}); plain or gzip.
#pragma once

#include "core/status.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct kv_question {
    char *id, *text;
    char *value;    // the answer shown in few-shot examples
    char **aliases; // every accepted answer, value included
    int64_t n_aliases;
} kv_question;

typedef struct kv_questions {
    kv_question *items;
    int64_t n;
} kv_questions;

// A bad line is an error naming file, line and what was expected.
kv_status kv_triviaqa_read(const char *path, kv_questions *questions, kv_error *err);
void kv_questions_free(kv_questions *questions);

// Harness normalisation for exact match: lower case, ASCII punctuation removed, outer white space stripped.
// In place.
void kv_normalize_answer(char *text);
bool kv_exact_match(const char *generation, const kv_question *question);

// Passages to recall from, as `kvdata recall` writes them: JSON lines with "prompt", "answer", "length" and "depth",
// plain or gzip.
#pragma once

#include "core/status.h"

#include <stdint.h>

typedef struct kv_recall_question {
    char *prompt, *answer;
    int64_t length; // tokens that the passage was made for: a row of the grid
    double depth;   // where in it the answer stands, from 0 (the beginning) to 1
    char *where;    // "FILE:LINE"
} kv_recall_question;

typedef struct kv_recall_questions {
    kv_recall_question *items;
    int64_t n;
} kv_recall_questions;

// Where an answer ends that a model writes: none may hold one of these.
enum { KV_RECALL_STOPS = 3 };
extern const char *const kv_recall_stops[KV_RECALL_STOPS];

// A bad line is an error naming file, line and field, what was found and what was expected. Free with
// kv_recall_questions_free.
kv_status kv_recall_read(const char *path, kv_recall_questions *questions, kv_error *err);
void kv_recall_questions_free(kv_recall_questions *questions);

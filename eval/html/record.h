// What a record of an answer says to a reader, whatever kind of task it is of.
#pragma once

#include "eval/results/results.h"

// Texts longer than that are cut in a page, in bytes: prompts at their beginning, others at their end.
enum { KV_ANSWER_MOST = 4096 };

// Texts that are not said are "". All the caller's: kv_answer_free.
typedef struct kv_answer {
    char *head;     // what the question is known by
    char *prompt;   // or what stands for it
    char *expected; // which answers are right
    char *text;     // the answer
    int right;      // 1, 0; -1: the record does not say
} kv_answer;

// What `task`'s record of `unit` says. A record that is no JSON object says nothing. False: out of memory; *answer is then empty.
bool kv_answer_read(const kv_result_task *task, int64_t unit, const char *record, kv_answer *answer);
// The verdict alone: 1, 0; -1: the record, which may be NULL, does not say.
int kv_answer_right(const kv_result_task *task, const char *record);
void kv_answer_free(kv_answer *answer);

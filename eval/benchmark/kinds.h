// What each kind of task is, by its name: the keys it takes, what it needs, and how it is made. Whoever treats kinds
// differently asks these rows and no names.
#pragma once

#include "eval/benchmark/benchmark.h"

// Keys of `tasks[]` that only some kinds take, in groups.
enum {
    KV_KEYS_QUESTIONS = 1, // file, shots, too_long, chat: items of a file
    KV_KEYS_WRITTEN = 2,   // max_tokens: of answers that are written
    KV_KEYS_PROGRAMS = 4,  // samples, temperature, …: of programs that are drawn and run
    KV_KEYS_TEXT = 8,      // corpus, window, …: of text that is scored
    KV_KEYS_CUSTOM = 16,   // template, target, …: of questions of one's own
    KV_KEYS_CHOICES = 32,  // behind_prompt: of choices that are scored
};

typedef struct kv_benchmark_kind {
    const char *name;   // as `kind` in a config has it; NULL: there is no such kind
    unsigned keys;      // the groups that it takes
    bool decodes;       // ids become text again: the tokenizer must be able to (kv_tokenizer_speaks)
    int64_t max_tokens; // of a written answer, unless the config says; 0: 24
    double timeout;     // of a program, unless the config says; 0: 10
    const char *split;  // of the items, unless the config says; NULL: validation
    kv_status (*create)(const kv_eval_task *config, const kv_prompting *prompting, uint64_t seed,
                        kv_benchmark **benchmark, kv_error *err);
    // Whether the task's keys go together, without a look into any file; on failure *key is the one that is wrong. NULL:
    // nothing to say.
    kv_status (*check)(const kv_eval_task *config, char key[KV_TASK_KEY], kv_error *err);
} kv_benchmark_kind;

// The i-th, from 0 on; without a name behind the last.
kv_benchmark_kind kv_benchmark_kind_at(int i);
// The one of that name; without a name where there is none.
kv_benchmark_kind kv_benchmark_kind_find(const char *name);

// What the items of a task are taken from, and the key that says so.
const char *kv_task_source(const kv_eval_task *task);
const char *kv_task_source_key(const kv_eval_task *task);

// All names whose kinds take one of these groups, as in "triviaqa, humaneval".
enum { KV_KIND_NAMES = 400 };
void kv_benchmark_kind_names(unsigned keys, char names[KV_KIND_NAMES]);

// A key of `tasks[]` that only kinds with this group take.
typedef struct kv_benchmark_key {
    const char *name;
    unsigned group;
    const char *what; // that such kinds have and others have not, as in "programs to draw and to run"
} kv_benchmark_key;

// The i-th, from 0 on; without a name behind the last.
kv_benchmark_key kv_benchmark_key_at(int i);

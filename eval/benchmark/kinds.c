// The lists: adding a kind is a row here and a file beside, adding a key that not all kinds take another row. Kinds of
// programs are those that data/benchmark/problems.h has, kinds of multiple choice those of data/benchmark/choices.h.
#include "eval/benchmark/kinds.h"

#include "data/benchmark/choices.h"
#include "data/benchmark/problems.h"
#include "eval/benchmark/choice.h"
#include "eval/benchmark/code.h"
#include "eval/benchmark/custom.h"
#include "eval/benchmark/recall.h"
#include "eval/benchmark/text.h"
#include "eval/benchmark/trivia.h"

#include <stdio.h>
#include <string.h>

static const kv_benchmark_kind kinds[] = {
    {.name = "triviaqa",
     .keys = KV_KEYS_QUESTIONS | KV_KEYS_WRITTEN,
     .decodes = true,
     .max_tokens = 24,
     .create = kv_trivia_benchmark},
    {.name = "recall",
     .keys = KV_KEYS_QUESTIONS | KV_KEYS_WRITTEN,
     .decodes = true,
     .max_tokens = 8, // the rest of the context is for passages
     .create = kv_recall_benchmark,
     .check = kv_recall_task_check},
    {.name = "custom",
     .keys = KV_KEYS_QUESTIONS | KV_KEYS_WRITTEN | KV_KEYS_CUSTOM | KV_KEYS_CHOICES,
     .decodes = true,
     .max_tokens = 24,
     .create = kv_custom_benchmark,
     .check = kv_custom_check},
    {.name = "text", .keys = KV_KEYS_TEXT, .decodes = true, .create = kv_text_benchmark},
};
enum { N_KINDS = sizeof kinds / sizeof *kinds };

static const char questions[] = "questions to ask", written[] = "answers to write",
                  programs[] = "programs to draw and to run", text[] = "windows of a text",
                  custom[] = "templates of its own", choices[] = "choices to score";

static const kv_benchmark_key keys[] = {
    {"file", KV_KEYS_QUESTIONS, questions},
    {"shots", KV_KEYS_QUESTIONS, questions},
    {"shots_file", KV_KEYS_QUESTIONS, questions},
    {"shots_drawn", KV_KEYS_QUESTIONS, questions},
    {"too_long", KV_KEYS_QUESTIONS, questions},
    {"chat", KV_KEYS_QUESTIONS, questions},
    {"system_prompt", KV_KEYS_QUESTIONS, questions},
    {"behind_prompt", KV_KEYS_CHOICES, choices},
    {"max_tokens", KV_KEYS_WRITTEN, written},
    {"template", KV_KEYS_CUSTOM, custom},
    {"preamble", KV_KEYS_CUSTOM, custom},
    {"target", KV_KEYS_CUSTOM, custom},
    {"choices", KV_KEYS_CUSTOM, custom},
    {"label", KV_KEYS_CUSTOM, custom},
    {"labels", KV_KEYS_CUSTOM, custom},
    {"stop", KV_KEYS_CUSTOM, custom},
    {"metric", KV_KEYS_CUSTOM, custom},
    {"pattern", KV_KEYS_CUSTOM, custom},
    {"ignore_case", KV_KEYS_CUSTOM, custom},
    {"ignore_punctuation", KV_KEYS_CUSTOM, custom},
    {"target_delimiter", KV_KEYS_CUSTOM, custom},
    {"shots_delimiter", KV_KEYS_CUSTOM, custom},
    {"samples", KV_KEYS_PROGRAMS, programs},
    {"temperature", KV_KEYS_PROGRAMS, programs},
    {"top_p", KV_KEYS_PROGRAMS, programs},
    {"k", KV_KEYS_PROGRAMS, programs},
    {"timeout", KV_KEYS_PROGRAMS, programs},
    {"memory_mb", KV_KEYS_PROGRAMS, programs},
    {"workers", KV_KEYS_PROGRAMS, programs},
    {"corpus", KV_KEYS_TEXT, text},
    {"window", KV_KEYS_TEXT, text},
    {"prompt", KV_KEYS_TEXT, text},
    {"stride", KV_KEYS_TEXT, text},
};
enum { N_KEYS = sizeof keys / sizeof *keys };

static kv_benchmark_kind of_choices(const kv_choice_kind *choice) {
    if (!choice) return (kv_benchmark_kind){0};
    return (kv_benchmark_kind){
        .name = choice->name, .keys = KV_KEYS_QUESTIONS | KV_KEYS_CHOICES, .create = kv_choice_benchmark};
}

static kv_benchmark_kind of_problems(const kv_problem_kind *problems) {
    return (kv_benchmark_kind){.name = problems->name,
                               .keys = KV_KEYS_QUESTIONS | KV_KEYS_WRITTEN | KV_KEYS_PROGRAMS,
                               .decodes = true,
                               .max_tokens = 256,
                               .timeout = problems->timeout,
                               .split = problems->splits ? "test" : NULL,
                               .create = kv_code_benchmark,
                               .check = kv_code_check};
}

kv_benchmark_kind kv_benchmark_kind_at(int i) {
    int n_problems = 0;
    if (i < N_KINDS) return kinds[i];
    while (kv_problem_kind_at(n_problems)) n_problems++;
    i -= N_KINDS;
    return i < n_problems ? of_problems(kv_problem_kind_at(i))
                          : of_choices(kv_choice_kind_at(i - n_problems));
}

kv_benchmark_kind kv_benchmark_kind_find(const char *name) {
    for (int i = 0; i < N_KINDS; i++)
        if (!strcmp(kinds[i].name, name)) return kinds[i];
    const kv_problem_kind *problems = kv_problem_kind_find(name);
    return problems ? of_problems(problems) : of_choices(kv_choice_kind_find(name));
}

static bool is_text(const kv_eval_task *task) {
    return kv_benchmark_kind_find(task->kind).keys & KV_KEYS_TEXT;
}

const char *kv_task_source(const kv_eval_task *task) {
    return is_text(task) ? task->corpus : task->file;
}

const char *kv_task_source_key(const kv_eval_task *task) {
    return is_text(task) ? "corpus" : "file";
}

void kv_benchmark_kind_names(unsigned groups, char names[KV_KIND_NAMES]) {
    size_t n = 0;
    names[0] = '\0';
    for (int i = 0; kv_benchmark_kind_at(i).name && n < KV_KIND_NAMES; i++) {
        const kv_benchmark_kind kind = kv_benchmark_kind_at(i);
        if (kind.keys & groups)
            n += (size_t)snprintf(names + n, KV_KIND_NAMES - n, "%s%s", n ? ", " : "", kind.name);
    }
}

kv_benchmark_key kv_benchmark_key_at(int i) {
    return i < N_KEYS ? keys[i] : (kv_benchmark_key){0};
}

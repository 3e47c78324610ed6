// Everything an evaluation found out, and the files and the table it leaves.
#pragma once

#include "eval/systems.h"
#include "eval/trivia_task.h"
#include "infer/ttft.h"

// What it costs a system to bring out the first token of a prompt, beside the base (the first system).
typedef struct kv_cost {
    double paper_reduction; // method.md section 7: parameters of the base over those of what reads the prompt
    uint64_t flops;         // of all matrix products
    double exact_reduction; // the base's over these
    kv_ttft ttft;           // NAN when not measured
    double ttft_reduction;
} kv_cost;

typedef struct kv_results {
    const kv_eval_config *config;
    char *config_text;      // resolved
    kv_trivia_task **tasks; // [n_tasks]
    kv_answers *answers;    // [n_systems, n_tasks]
    kv_cost *costs;         // [n_systems]
    int64_t prompt_tokens;  // what costs were counted and timed with
    double *ttft_samples;   // [n_systems, repeats], seconds; NULL when not measured
} kv_results;

// Empty results for these tasks and systems, everything still to be found out: costs NAN. Takes over nothing
// but config_text. Free with kv_results_free.
kv_status kv_results_init(kv_results *results, const kv_config *config, const kv_eval_config *eval,
                          kv_error *err);
void kv_results_free(kv_results *results);

// Share of questions answered exactly, and that over the base's; NAN where there is none.
double kv_result_accuracy(const kv_results *results, int64_t system, int64_t task);
double kv_result_retention(const kv_results *results, int64_t system, int64_t task);

// Fills costs but for what is measured, for prompts of results->prompt_tokens.
void kv_results_count(kv_results *results, const kv_systems *systems);

// One line a system.
void kv_results_print(const kv_results *results, FILE *stream);

// results.csv: a row per system, task and split; accuracy and retention as fractions of 1, fields empty where
// a number could not be had. samples.jsonl: a line per system and question. results.h5: all of it, with the
// resolved config. Written to `path` as it is: the caller sees to it that they appear whole.
kv_status kv_results_write_csv(const kv_results *results, const char *path, kv_error *err);
kv_status kv_results_write_samples(const kv_results *results, const char *path, kv_error *err);
kv_status kv_results_write_h5(const kv_results *results, const char *path, kv_error *err);

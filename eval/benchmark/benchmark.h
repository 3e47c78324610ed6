// What all kinds of tasks have in common. Items (questions, problems) are put to systems in units: one
// answer, or one of several samples of a program. Everything a unit brings is one JSON object, its record,
// and scores are worked out from the records alone: so an evaluation that was interrupted goes on from the
// records it wrote and ends with the figures of one that never stopped.
#pragma once

#include "eval/benchmark/items.h"
#include "eval/benchmark/prompt.h"
#include "eval/benchmark/task.h"
#include "infer/batching.h"

#include <jansson.h>

// Key of records: names of what a program redefined. A text, never empty; most records have none.
#define KV_REDEFINES "redefines"

enum { KV_MAX_METRICS = 8, KV_METRIC_NAME = 24 };

// What a system is asked with. `session` belongs to the benchmark that asks, from one batch to the next;
// whoever made the kv_asking frees it at the end.
typedef struct kv_asking {
    const kv_system *system;
    const kv_tokenizer *tokenizer;
    const kv_chat_template *chat; // NULL: the task is none
    uint64_t seed;
    bool unsafe_execution; // programs may run without a sandbox
    int64_t most;          // sequences at a time, and bytes for them: see kv_batching
    double memory;
    const kv_saved_prompt *shared; // what all its prompts begin with, read before; NULL: nothing
    kv_session *session;           // NULL at first
    // Told, while units are answered, how many of them are. NULL: nobody listens.
    void (*answered)(void *listener, int64_t n);
    void *listener;
    int64_t not_finite; // after KV_ERR_NOT_FINITE: which unit of the batch it was
} kv_asking;

// Whether a token ends an answer: the tokenizer's EOS, one of the base's own ends, or in a chat what ends a turn.
bool kv_ends_answer(const kv_asking *asking, int32_t id);

typedef struct kv_benchmark kv_benchmark;

// FLOPs of answering one unit, at most: of reading many tokens at once, and of steps of one token a sequence.
typedef struct kv_unit_cost {
    double reading, steps;
} kv_unit_cost;

typedef struct kv_benchmark_ops {
    // Tries what the answers will need, before hours of work on other tasks. NULL: nothing.
    kv_status (*prepare)(kv_benchmark *benchmark, bool unsafe_execution, kv_error *err);
    // What becomes of items that do not fit; NULL: kv_benchmark_fit.
    kv_status (*fit)(kv_benchmark *benchmark, const kv_fit *fit, kv_error *err);
    // records[n]: new JSON objects for units [first, first + n). A unit's record does not depend on the batch
    // it is asked in, but for rounding. On failure none is left to free. KV_ERR_NOT_FINITE: what the system
    // computes for asking->not_finite is no number.
    kv_status (*answer)(kv_benchmark *benchmark, kv_asking *asking, int64_t first, int64_t n,
                        json_t **records, kv_error *err);
    // values[n_metrics, n_items], as each metric's row in eval/statistics/metric.h has them, from records[n_units]. KV_ERR_FORMAT when a record lacks
    // something.
    kv_status (*score)(const kv_benchmark *benchmark, json_t *const *records, double *values, kv_error *err);
    // Where answering is something else than kv_benchmark_cost and kv_benchmark_bytes take it for; else NULL.
    void (*cost)(const kv_benchmark *benchmark, const kv_system *systems, int64_t row, int64_t item,
                 kv_unit_cost *cost);
    double (*bytes)(const kv_benchmark *benchmark, const kv_system *system, int64_t batch_size);
    // What is kept from one system to the next, in bytes, and giving it back. NULL: nothing is.
    double (*kept)(const kv_benchmark *benchmark, const kv_system *system);
    void (*forget)(kv_benchmark *benchmark);
    void (*free)(kv_benchmark *benchmark);
} kv_benchmark_ops;

struct kv_benchmark {
    const kv_benchmark_ops *ops;
    const kv_eval_task *config; // borrowed
    int64_t n_items, n_units;   // unit u belongs to item u / (n_units / n_items)
    int64_t most_units;         // that are worth asking together; 0: as many as the config says
    int n_metrics;
    char metrics[KV_MAX_METRICS][KV_METRIC_NAME]; // the first is the one drawn and compared
    kv_item *items;                               // [n_items]
    int64_t answer_tokens;    // that may be generated behind a prompt; 0: choices are scored
    kv_prompting prompting;   // borrowed
    int64_t front, back;      // tokens of each prompt that are not its text's: kv_prompt_frame
    uint64_t chat;            // kv_prompt_hash
    int64_t n_skipped, n_cut; // items that are left out, and that have lost tokens: kv_benchmark_fit
    json_t *
        skipped; // [{"item": "FILE:LINE", "tokens": N}, …], of a grid with its "length" and "depth", too; NULL: none are left out
    int64_t *prompt_tokens; // [n_items] tokens that are read before the first one comes out
    int64_t longest;        // context that the longest unit needs: its prompt and what is generated
    char hash[17];          // of all that decides what is asked and how it is scored
    uint64_t way;           // of what of that is alike for all items; 0: items have no hashes (kv_items_hash)
};

// The benchmark of one row of `tasks`, of one of the kinds in eval/benchmark/kinds.h; what `prompting` points to must outlive
// it. On failure *benchmark is NULL. Free with kv_benchmark_free (accepts
// NULL).
kv_status kv_benchmark_create(const kv_eval_task *config, const kv_prompting *prompting, uint64_t seed,
                              kv_benchmark **benchmark, kv_error *err);
void kv_benchmark_free(kv_benchmark *benchmark);

// What answering takes, worked out; of systems shapes are enough. cost: of a unit of `item` by systems[row], which those
// before it were asked, exactly unless an answer of words ends before answer_tokens, or (at most) with lazy pruning.
// bytes: of units that are answered together, beside weights and records; of what is scored as many as `most` says. kept:
// what stays until kv_benchmark_forget once this system was asked.
void kv_benchmark_cost(const kv_benchmark *benchmark, const kv_system *systems, int64_t row, int64_t item,
                       kv_unit_cost *cost);
double kv_benchmark_bytes(const kv_benchmark *benchmark, const kv_batching *batching);
// How many of its units go through the system at a time, at most.
int64_t kv_benchmark_together(const kv_benchmark *benchmark, const kv_batching *batching);
double kv_benchmark_kept(const kv_benchmark *benchmark, const kv_system *system);
void kv_benchmark_forget(kv_benchmark *benchmark);

// ---- For those who implement one -----------------------------------------------------------------------

// A JSON string of a text from a model or a file of any kind: one that is not UTF-8 gets "?" for what is not
// ASCII. NULL when out of memory.
json_t *kv_record_text(const char *text);

// Whether choices are scored behind a prompt that is read apart from them (tasks[].behind_prompt). Systems without
// predictors make the same of both ways.
bool kv_choices_behind_prompt(const kv_benchmark *benchmark, const kv_system *system);

// Gives records[n] back and sets them to NULL.
void kv_records_free(json_t **records, int64_t n);

// Whether so many shots can be drawn from n examples, those of `shots_file` or, without one, of the task's own file.
// KV_ERR_RANGE naming the file when there are too few.
kv_status kv_check_shots(const kv_eval_task *config, int64_t n, kv_error *err);
// shots[n_shots]: different examples among n for the item `asked`, with `own` none of them itself; a pure function of the
// arguments. n_shots < n, or without `own` <= n.
void kv_draw_shots(uint64_t seed, int64_t n, int64_t asked, bool own, int64_t n_shots, int64_t *shots);
// Those of a task's item among n examples: where they are drawn once, the same for all items.
void kv_task_shots(const kv_eval_task *config, uint64_t seed, int64_t n, int64_t asked, int64_t *shots);
// Which examples are drawn is part of how items are asked (kv_items_hash): `way` with it. Drawn for each it is what it was.
uint64_t kv_shots_way(const kv_eval_task *config, uint64_t way);

// Lets the system go on from each prompt until one of stops[n_stops] is complete in its text, a token ends
// the answer, or how.max_tokens are there; of `how` max_tokens, sampling and streams are the caller's. In batches
// (kv_generate_batched) of what asking->most and asking->memory allow.
// generated [n, max_tokens], n_generated [n]. The last token may be an end, and the text may go on behind a
// stop string within it: kv_cut_at_stop.
kv_status kv_asking_generate(kv_asking *asking, const kv_prompts *prompts, const char *const *stops,
                             size_t n_stops, kv_generation how, int32_t *generated, int64_t *n_generated,
                             kv_error *err);

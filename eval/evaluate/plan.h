// What an evaluation will take, worked out before any weights are read: `kveval --dry-run`, and the check that it fits
// into memory.
//
// FLOPs are exact for what is scored; answers in words end at a stop string or after max_tokens, which is counted.
// Memory is the most at one time, in bytes:
//
//   weights    of all models and predictors together, as they are held; a file's count although it is mapped
//   at work    the largest of: one system answering a batch of one task (caches, activations, logits; what it was
//              answered before stays with it); a TTFT cell's sessions, all together where they fit; a batch of the
//              analysis
//   records    what was answered, kept for results.h5
//   other      the program, a few MB a thread
//
// tests/eval/test_plan.c holds FLOPs to what is counted in a real run, tests/programs/test_kveval_plan.c memory to what it
// takes: never less, at most twice as much.
#pragma once

#include "eval/evaluate/evaluation.h"

typedef struct kv_plan_task {
    double prompt_tokens; // read, of all units: prompts with solved examples, or contexts with their choices
    double answer_tokens; // written, at most
    int64_t sequences;    // read, of all units
    int64_t longest;      // of one of these
} kv_plan_task;

typedef struct kv_plan_system {
    kv_unit_cost answers;       // FLOPs of all tasks
    double clock, analysis;     // FLOPs of measuring the time to the first token, and of comparing caches
    double bytes;               // at work, at most
    char when[KV_SYSTEM_LIMIT]; // on what
} kv_plan_system;

typedef struct kv_plan {
    kv_plan_task *tasks;     // [n_tasks]
    kv_plan_system *systems; // [n]
    int64_t n_cells;         // sizes of prompts that are timed
    double weights, owned;   // bytes; owned: what of them is no mapped file
    double predictors;       // what of them each rank of a machine has for itself (kv_systems_size)
    double at_work, records, other;
    double shared_work;               // at_work but for the clock's, which is rank 0's alone
    const char *when;                 // at_work is largest; borrowed from the plan
    int64_t together;                 // units that are answered at once, at most
    double reading_speed, step_speed; // FLOP/s measured; 0: not
} kv_plan;

// Of an evaluation that is open (kv_evaluation_open), whose weights need not be there. Free with kv_plan_free, which
// accepts zeros.
kv_status kv_plan_make(const kv_evaluation *evaluation, kv_plan *plan, kv_error *err);
void kv_plan_free(kv_plan *plan);

// Bytes of all ranks of this machine together (data/ranks/ranks.h), models once: alone the four parts' sum.
double kv_plan_node_bytes(const kv_plan *plan);

// KV_ERR_MEMORY, with the parts and the limit, when it does not fit. Files that are mapped need not.
kv_status kv_plan_check(const kv_plan *plan, kv_error *err);

// Measures how fast the machine is, in a second; KV_ERR_INTERRUPTED on a signal to stop.
kv_status kv_plan_measure(const kv_evaluation *evaluation, kv_plan *plan, kv_error *err);

void kv_plan_print(const kv_evaluation *evaluation, const kv_plan *plan, FILE *out);

// Held-out text: what the model in training makes of it, every so many steps, without learning from it.
//
// Always the same rows, in fixed packing (data/corpus/packing.h): the first of the corpus, up to
// train.validation_tokens tokens, at least one. Loss and terms are those of training, means over all of it.
#pragma once

#include "core/slices.h"
#include "data/system/console.h"
#include "train/config/corpora.h"
#include "train/task/task.h"

struct kv_validation {
    int64_t n_rows, seq_len;
    int64_t micro_batch_size; // rows at a time
    char hash[17];            // of the rows
    int32_t *rows;            // [n_rows, seq_len + 1]
    int32_t *ids, *targets;   // [micro_batch_size, seq_len], of the rows at work
};

typedef struct kv_validation_result {
    double loss, seconds;
    double terms[KV_MAX_TERMS];
    kv_layer_errors errors;
} kv_validation_result;

// Reads the rows of text->validation, shard by shard up to the last one that is needed. *validation is NULL
// where there is none. An error names the config's key.
kv_status kv_validation_open(const kv_config *source, const kv_train_config *config,
                             const kv_train_text *text, kv_validation **validation, kv_error *err);
void kv_validation_free(kv_validation *validation);

// Bytes it holds.
double kv_validation_bytes(const kv_validation *validation);

// Passes up to the end of a run of which `step` steps are done, the one due at `step` itself not counted.
int64_t kv_validations_left(const kv_steps_config *steps, int64_t step);
bool kv_validation_due(const kv_steps_config *steps, int64_t step);

// One pass of a loaded task, micro-batch by micro-batch, each in `slices`, which look in as many as a whole micro-batch has. `progress`, shown at `step`, may be NULL.
// KV_ERR_INTERRUPTED at once after Ctrl-C. KV_ERR_RANGE: a loss that is no finite number.
// Collective: ranks share the micro-batches, and all get the result of a run alone with these weights, bit by bit. Errors are
// agreed on.
kv_status kv_validate(const kv_validation *validation, kv_task *task, kv_slices *slices,
                      kv_progress *progress, int64_t step, kv_validation_result *result, kv_error *err);

// The line for metrics.jsonl; the caller frees it, NULL when out of memory. total_seconds: of the run so far.
char *kv_validation_line(const kv_task *task, int64_t step, double total_seconds,
                         const kv_validation_result *result);

// How much memory a run will take, worked out before any of it is taken; and whether that much is there.
#pragma once

#include "train/task.h"

// In bytes.
typedef struct kv_memory_need {
    double trained;     // weights, gradients and two moments: 16 bytes each
    double frozen;      // weights that stay as they are, as stored
    double activations; // what one micro-batch leaves on the tape, gradients included
    double other;       // the program, the text and its batches
    double peak;        // the most at one time
    const char *when;   // NULL: while training; or when else ("while the whole model is read")
} kv_memory_need;

// With micro-batches of n_seq sequences, and the aux as configured or frozen.
void kv_memory_estimate(const kv_task *task, int64_t n_seq, bool freeze_aux, kv_memory_need *need);

// What the run may take in all: train.memory_gb, or 95 % of what the machine has left (and what the process
// holds already). INFINITY: it is not to be checked.
double kv_memory_limit(const kv_train_config *config);

// "9.57 GB: 4.39 trained weights with gradients and moments, ..." into text.
enum { KV_MEMORY_TEXT = 400 };
char *kv_memory_text(const kv_memory_need *need, char text[KV_MEMORY_TEXT]);

// KV_ERR_MEMORY, with the parts of the estimate, the limit and what would help, when the run does not fit.
kv_status kv_memory_check(const kv_task *task, kv_error *err);

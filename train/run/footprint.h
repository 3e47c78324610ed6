// How much memory a run will take, worked out before any of it is taken; and whether that much is there.
//
// The model, in bytes. n: weights; rows: sequences of a micro-batch times their length; widths in floats.
//
//   trained        16 · n of what is trained: weight, gradient and AdamW's two moments, each float32. With
//                  train.shard_optimizer each of N ranks has its part of the moments: (8 + 8 / N) · n.
//   exchange       buckets of gradients on their way to other ranks (exchange.h).
//   frozen         4 or 2 · n of base and frozen aux (train: frozen_dtype), where they are in memory.
//   activations    4 · rows · (values + gradients) + what operators work on.
//                  Values of a layer that is differentiated: 6 · dim + 3 · ffn + (2 + q/k norm) · (queries +
//                  keys + values of its own) + 2 · heads; gradients: as many, less 2 · dim and 2 · heads.
//                  With train.activation_checkpointing a layer leaves its output (dim), and an aux's its keys
//                  and values with their gradients; the values and gradients of ONE layer come on top.
//                  A layer that is not differentiated: its output, keys and values.
//                  Predicted keys (before and after their norm) and values: as wide as the base's, twice.
//                  Loss: vocabulary · rows while that is below 2^24, else blocks of 2^20 logits.
//                  Operators: attention's turned keys and each thread's tiles; a panel of 2^22 weights where
//                  they are not float32.
//                  A micro-batch in slices (core/slices.h): that of a slice, for each thread; and the gradients of
//                  all of its slices, 4 bytes times n, or of tables the rows that the micro-batch looks up.
//   other          the program, a few MB a thread and for MPI, the text (one shard of each part) and its batches.
//
// Their sum is what a step takes. The peak is that or, where more: while weights are read (those that change
// their type one tensor at a time; random ones as a whole) and nothing but weights is there; in the
// least-squares start (8 bytes a sum: (keys read + 1)² for every aux layer, (keys read + 1) · width for every
// base layer, for keys and for values); while validating; while final/ is written, which has the frozen aux
// as it was stored, in float32. tests/train/test_train_memory.c holds all of this to 15 % of what is
// measured.
//
// Of several ranks (data/ranks/ranks.h) that is what one takes; activations are those of its share of a step. A node's ranks
// have as much each, but frozen weights and code once: one of them reads those weights, and only rank 0 writes. It is the
// node that has a limit.
#pragma once

#include "train/task/task.h"

// In bytes.
typedef struct kv_footprint {
    bool learns;             // there are steps; without any no gradients and moments, and no activations
    bool sharded;            // each rank has its part of the moments
    int n_ranks, node_ranks; // in all, and on a node
    double trained;     // weights, gradients and two moments: 16 bytes each where moments are not shared out
    double exchange;    // buffers of gradients that are on their way to other ranks
    double frozen;      // weights that stay as they are, in the type they are held in
    double activations; // the most that one micro-batch has on the tapes, gradients included
    double other;       // the program, the text and its batches
    double peak;        // the most at one time
    const char *when;   // NULL: while training; or when else ("while the weights are read")
    double shared;      // of all that, what a node has once: frozen weights and the program's code
    double node;        // the most of all ranks of a node together; of one that is alone, its peak
    const char *node_when;
} kv_footprint;

// What is configured, and what a run of it or of another choice takes.
kv_task_choice kv_footprint_chosen(const kv_train_config *config);
void kv_footprint_estimate(const kv_task *task, const kv_task_choice *choice, kv_footprint *footprint);

// What the run's ranks on this node may take together: train.memory_gb, or 95 % of what the machine has left (and what the
// processes hold already). INFINITY: it is not to be checked. by: what sets the limit, "train.memory_gb" or one of
// kv_memory_left's.
double kv_footprint_limit(const kv_train_config *config, const char **by);

// "9.57 GB: 4.39 trained weights with gradients and moments, ..." into text; of several ranks "9.57 GB a rank: ...; 30.1 GB the 4
// ranks of a node".
enum { KV_FOOTPRINT_TEXT = 600 };
char *kv_footprint_text(const kv_footprint *footprint, char text[KV_FOOTPRINT_TEXT]);

// "a smaller model or data.seq_len, data.micro_batch_size: 1 (1.2 GB), ...": what would need less on a node than
// `footprint`, the estimate of `choice`, into text.
enum { KV_FOOTPRINT_ADVICE = 600 };
char *kv_footprint_advice(const kv_task *task, const kv_task_choice *choice, const kv_footprint *footprint,
                          char text[KV_FOOTPRINT_ADVICE]);

// KV_ERR_MEMORY, with the parts of the estimate, the limit and what would help, when the run does not fit.
kv_status kv_footprint_check(const kv_task *task, kv_error *err);

// Collective. What the run has taken, into text: "0.2 GB of memory at most"; of several ranks the most of any, and the most of
// any node's together, where shared pages count once.
char *kv_footprint_found(char text[KV_FOOTPRINT_TEXT]);

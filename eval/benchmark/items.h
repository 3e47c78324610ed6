// What is read for each item, and what becomes of items that are too long to be read.
#pragma once

#include "eval/benchmark/prompt.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

// One sequence that an answer goes on from, or one for every choice of a question.
typedef struct kv_item {
    int64_t row;       // in the file's list, from 0 on
    const char *where; // its place in the file, for messages; borrowed
    int32_t *ids; // [n_ids] of all sequences, one after the other; NULL: a window of a text that many share
    int64_t n_ids, n_seq;
    int64_t *lengths, *n_scored; // [n_seq] tokens, and how many of them, at the end, are the choice's
    int64_t begun; // tokens at the end of a prompt that an answer begins with and that must stay
    int64_t cut;   // tokens that each sequence has lost on its left, behind what stays in front
    uint64_t hash; // of all that its records depend on beside the system: kv_items_hash
    double
        weight; // in means of metrics that weigh items (eval/statistics/metric.h): the bytes that are scored
    int64_t
        length; // of a grid of items: how long it was made, in tokens, and where in it the answer stands, from 0 to 1;
    double depth; // length 0: the items are no grid
} kv_item;

// Frees what it holds.
void kv_item_free(kv_item *item);

// Appends a sequence of n tokens, of which the last n_scored are a choice.
kv_status kv_item_add(kv_item *item, const int32_t *ids, int64_t n, int64_t n_scored, kv_error *err);

// The text as a sequence of its own, see kv_prompt_ids. Errors name the item's place.
kv_status kv_item_add_prompt(kv_item *item, const kv_prompting *prompting, const char *text, kv_error *err);

// The text as a sequence of its own with what is to stand in front of the answer to come: of a bare prompt that is no more
// than the text, of a chat the answer as it has begun. asked: what a user says in a chat.
kv_status kv_item_add_begun(kv_item *item, const kv_prompting *prompting, const char *text, const char *asked,
                            const char *begun, kv_error *err);

// Tokens in front of the choice, or of the answer to come: those of the sequence with the most of them.
int64_t kv_item_prompt(const kv_item *item);
// Of the longest sequence, choice included.
int64_t kv_item_longest(const kv_item *item);

// The longest items that fit so many tokens.
typedef struct kv_fit {
    int64_t context;       // tokens that a sequence may have, its answer included
    const char *whose;     // says whose context that is
    const char *key;       // of the task in the config, as in "tasks[0]"
    int64_t n_ids;         // ids that every model has a row for; 0: not known
    const char *whose_ids; // says whose table is the smallest
} kv_fit;

struct kv_benchmark;

// Finds the items that do not fit and does with them what the task's `too_long` says: KV_ERR_RANGE naming the
// place of the longest one; or they are left out; or all sequences of such an item lose the same number of
// tokens on the left, behind a BOS or what a chat has in front of the text, until the longest one and its answer fit. n_items, n_units and all that
// depends on lengths and content follow. KV_ERR_RANGE also when nothing would be left, of the items or of a
// prompt.
kv_status kv_benchmark_fit(struct kv_benchmark *benchmark, const kv_fit *fit, kv_error *err);

// ---- For those who implement a benchmark ---------------------------------------------------------------

// Room for benchmark->n_items items, row i for item i, and for prompt_tokens. answer_tokens: that may be generated.
// `prompting` is what all of them are made with.
kv_status kv_items_make(struct kv_benchmark *benchmark, const kv_prompting *prompting, int64_t answer_tokens,
                        kv_error *err);
// prompt_tokens and longest from the items.
void kv_items_measure(struct kv_benchmark *benchmark);

// Hashes of the task and of each of its items. way: of what is alike for all of them, how they are asked and judged, the
// protocol's number included; `item` adds to a hash what only item i has. So that records of an item are known again in
// a task of more items or fewer.
typedef uint64_t kv_item_hash_fn(const struct kv_benchmark *benchmark, int64_t i, uint64_t hash);
void kv_items_hash(struct kv_benchmark *benchmark, uint64_t way, kv_item_hash_fn *item);
// What a record of the item is known by: its hash, and how much its prompt was cut.
uint64_t kv_item_key(const kv_item *item);
void kv_items_free(struct kv_benchmark *benchmark);
// Says in an item's record that its prompt was cut; false when out of memory.
bool kv_record_cut(json_t *record, const kv_item *item);

// Kinds whose answers are written: one prompt and one answer an item, and the answer is right or wrong. A kind says what
// a prompt is, where an answer ends and which are right; the rest is here.
#pragma once

#include "eval/benchmark/benchmark.h"

typedef struct kv_written kv_written;

// A row is an item as the file has it, from 0 on.
typedef struct kv_written_ops {
    const char *(*where)(const kv_written *written, int64_t row); // "FILE:LINE"
    // The row's prompt with the examples shots[n_shots] in front. Caller frees; NULL: out of memory.
    char *(*prompt)(const kv_written *written, int64_t row, const int64_t *shots, int64_t n_shots);
    // Whether an answer, without the stop string and outer white space, is right.
    kv_status (*judge)(const kv_written *written, int64_t row, const char *answer, bool *right,
                       kv_error *err);
    // Adds to a hash what the verdict depends on beside the answer.
    uint64_t (*hash)(const kv_written *written, int64_t row, uint64_t hash);
    // What the row is known by and which answers are accepted, for its record. NULL: out of memory.
    json_t *(*record)(const kv_written *written, int64_t row);
    void (*free)(kv_written *written); // what the kind keeps, and the kv_written itself
} kv_written_ops;

// Filled in by the kind as far as `prompts`.
struct kv_written {
    kv_benchmark benchmark; // config and metric
    const kv_written_ops *ops;
    const char *const *stops; // [n_stops] none of them empty
    size_t n_stops;
    bool without_prompts; // records leave them out: they may be long
    int64_t n_rows;       // from whose beginning the items are
    int64_t n_examples;   // that shots are drawn from: of a file of their own, or the rows
    char **prompts;       // [n_prompts] one a row
    int64_t n_prompts;    // n_items before any were left out
};

// Makes prompts, items and hash; way: of how answers are judged, beside their length. A record is what ops->record says,
// "prompt" unless without_prompts, "generation", and "verdict": "correct" or "wrong". On failure: kv_written_free.
kv_status kv_written_make(kv_written *written, const kv_prompting *prompting, uint64_t seed, uint64_t way,
                          kv_error *err);
// Of all but what ops->free frees, which it calls.
void kv_written_free(kv_written *written);

// Cuts text at the first stop string and strips white space from both ends, in place. Whether it was cut.
bool kv_written_cut(char *text, const char *const *stops, size_t n_stops);

// Puts strings[n] into a record, as a list. false: out of memory.
bool kv_record_texts(json_t *record, const char *key, char *const *texts, int64_t n);

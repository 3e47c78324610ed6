// Code snippets: small Python functions over numbers, texts and lists, each a composition of primitive
// operations (data/synthetic/snippets_ops.h), in HumanEval's format.
//
// A composition is the sequence of its operations; as an operation has a type, it includes the types.
// Constants, wording and examples are drawn anew for every text made of it. Compositions are of three kinds,
// so that the same problem can be put to models that saw its composition and to models that did not:
//   trained    in the text of all models;
//   known      in the text of base and aux, but not in that of the predictors;
//   held out   in no text that anything is trained on.
// Every operation is in the text of all.
#pragma once

#include "core/api.h"
#include "core/status.h"

#include <stdbool.h>
#include <stdint.h>

KV_API_BEGIN

enum { KV_SNIPPET_MAX_DEPTH = 4 };

typedef enum kv_snippet_split {
    KV_SNIPPET_TRAINED,
    KV_SNIPPET_KNOWN,
    KV_SNIPPET_HELD_OUT,
    KV_SNIPPET_SPLITS
} kv_snippet_split;

typedef struct kv_composition {
    uint8_t ops[KV_SNIPPET_MAX_DEPTH]; // indices into kv_snippet_ops, `depth` of them
} kv_composition;

typedef struct kv_snippets_options {
    int64_t depth;      // operations in a composition, 2 to KV_SNIPPET_MAX_DEPTH
    int64_t n_train;    // trained and known compositions together; a fifth (rounded down) is known
    int64_t n_held_out; // held-out compositions
    int64_t n_texts;    // training texts of each trained and known composition
    int64_t n_examples; // in a docstring, 0 to 3
    uint64_t seed;
} kv_snippets_options;

typedef struct kv_snippets {
    kv_snippets_options options;
    int64_t n_available;          // compositions of this depth that there are
    int64_t n;                    // n_train + n_held_out
    kv_composition *compositions; // [n], split by split
} kv_snippets;

typedef struct kv_snippet {
    char prompt[1024];   // signature and docstring
    char solution[1024]; // body; the prompt with it is a whole function
    char test[40960];    // def check(candidate); empty unless variant 0
} kv_snippet;

// Chooses compositions. KV_ERR_ARGUMENT when there are not that many, or too few for every operation to be in
// the trained ones. Free with kv_snippets_free.
kv_status kv_snippets_build(const kv_snippets_options *options, kv_snippets *snippets, kv_error *err);
void kv_snippets_free(kv_snippets *snippets);

// Compositions [*begin, *end) are of this split.
void kv_snippets_range(const kv_snippets *snippets, kv_snippet_split split, int64_t *begin, int64_t *end);
const char *kv_snippet_split_name(kv_snippet_split split); // "trained", ...

// Name of the function in every snippet.
extern const char kv_snippet_entry_point[];

// What variant v of composition i reads like: 0 is the problem that is asked, others are training texts. A
// pure function of the options, i and v.
//
// A problem's constants and tests are chosen so that, where possible, another constant or a left-out
// operation fails the test.
void kv_snippet_make(const kv_snippets *snippets, int64_t i, int64_t variant, kv_snippet *snippet);

// Into `directory`, all files or none; KV_ERR_INTERRUPTED when the user stops it:
//   train.jsonl            n_texts of each trained and known composition: for tokenizer, base and aux
//   predictor_train.jsonl  those of the trained ones: for the predictors
//   held_out.jsonl         n_texts of each held-out one: text for looking at what was trained
//   problems_trained.jsonl, problems_known.jsonl, problems_held_out.jsonl    HumanEval's format
//   snippets.json          counts, seed and how often each operation occurs
kv_status kv_snippets_write(const kv_snippets *snippets, const char *directory, kv_error *err);

KV_API_END

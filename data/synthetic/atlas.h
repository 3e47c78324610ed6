// The fact corpus: question-answer pairs from the ISO code lists that Debian's package iso-codes installs.
//
// A fact is kept when its question has exactly one answer, all names in it are plain ASCII without commas,
// brackets or periods (generation stops at "\n", "." and ","), and it reads as a sentence.
#pragma once

#include "core/api.h"
#include "core/status.h"

#include <stdbool.h>
#include <stdint.h>

KV_API_BEGIN

typedef enum kv_fact_kind {
    KV_FACT_SUBDIVISION,     // In which country is {subdivision}?        ISO 3166-2
    KV_FACT_COUNTRY_CODE,    // Which country has the code {BW}?          ISO 3166-1
    KV_FACT_COUNTRY_NUMBER,  // What is the ISO number of {country}?
    KV_FACT_CURRENCY_NAME,   // Which currency has the code {BWP}?        ISO 4217
    KV_FACT_CURRENCY_CODE,   // What is the code of the currency {Pula}?
    KV_FACT_CURRENCY_NUMBER, // What is the ISO number of the currency {Pula}?
    KV_FACT_LANGUAGE_NAME,   // Which language has the code {tsn}?        ISO 639-2
    KV_FACT_KINDS
} kv_fact_kind;

typedef struct kv_fact {
    kv_fact_kind kind;
    int64_t number; // within its kind, in the order of the files: the same whatever is chosen
    char *question, *answer;
    char **aliases; // true synonyms of the answer, which is not among them
    int64_t n_aliases;
    bool held_out; // not shown to the predictors
} kv_fact;

enum { KV_ATLAS_SOURCES = 4 };

typedef struct kv_atlas {
    kv_fact *facts; // in a seeded order
    int64_t n;
    uint64_t seed;
    double held_out_fraction;
    int64_t available[KV_FACT_KINDS], chosen[KV_FACT_KINDS], held_out[KV_FACT_KINDS];
    struct {
        const char *name; // of the file
        char hash[17];
    } sources[KV_ATLAS_SOURCES];
} kv_atlas;

const char *kv_fact_kind_name(kv_fact_kind kind); // "subdivision", ...

// Adds facts to atlas->facts in the order of the files, fills atlas->sources. On failure the facts so far
// stay in the atlas, for kv_atlas_free.
kv_status kv_atlas_read_facts(const char *directory, kv_atlas *atlas, kv_error *err);

// n_facts of all that the files in `directory` give, chosen and split by `seed` so that every kind keeps its
// share; n_facts -1: all there are. Free with kv_atlas_free. KV_ERR_ARGUMENT when there are not that many.
kv_status kv_atlas_build(const char *directory, int64_t n_facts, double held_out_fraction, uint64_t seed,
                         kv_atlas *atlas, kv_error *err);
void kv_atlas_free(kv_atlas *atlas);

// What a model reads: "Question: {question}\nAnswer: {answer}\n". Caller frees; NULL when out of memory.
char *kv_fact_text(const kv_fact *fact);

// Into `directory`, all files or none:
//   train.jsonl                all facts, {"text": ...} a line: for tokenizer, base and aux
//   predictor_train.jsonl      the trained facts only: for the predictors
//   held_out.jsonl             the others: text for looking at predictors that never saw it
//   questions_trained.jsonl, questions_held_out.jsonl     TriviaQA's format (data/benchmark/triviaqa.h)
//   atlas.json                 counts, seed and the hashes of the ISO files
kv_status kv_atlas_write(const kv_atlas *atlas, const char *directory, kv_error *err);

KV_API_END

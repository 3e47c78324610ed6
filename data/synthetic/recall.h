// Passages to recall from: statements that no one can know beforehand, and a question about one of them.
//
//     Remember: olive is tent. wolf is honey. … kite is drum.
//     What is wolf? wolf is
//
// Words are one token each; every other one is a key, the others are values. Keys are distinct within a passage; keys and
// values are drawn evenly and independently of each other. So all that answers a question better than a guess (one in the
// number of values, or of statements for whom has seen the passage) has been carried from where the statement stands to
// where it is asked for.
#pragma once

#include "core/api.h"
#include "data/tokenizer/tokenizer.h"

#include <stdbool.h>
#include <stdint.h>

KV_API_BEGIN

// The longest passage, in tokens; the fewest words of a tokenizer that are enough to draw from.
enum { KV_RECALL_MAX_LENGTH = 1 << 18, KV_RECALL_MIN_WORDS = 1000 };

// What the parts of a passage take, in tokens. Of words other than the first one that they take more is in `extra`.
typedef struct kv_recall_costs {
    int64_t prompt;    // with one statement, and with a BOS where the tokenizer has one
    int64_t statement; // each further one
    int64_t head;      // "Remember:" with BOS and EOS of a text to train on
    int64_t question;  // and its answer
} kv_recall_costs;

typedef struct kv_recall {
    const kv_tokenizer *tokenizer; // borrowed; NULL: words, marks and line ends count as a token each
    uint64_t seed;
    char **words; // [n_words] 0, 2, … are keys, 1, 3, … values
    int64_t n_words;
    bool from_vocabulary; // or from the list
    int64_t *extra;       // [n_words]
    int64_t most_extra, least_extra;
    kv_recall_costs costs[2]; // with keys of one word, and of two
} kv_recall;

// The 256 words that are drawn from where a tokenizer has too few: common, short, and known to all tokenizers that know
// English. NULL behind the last.
extern const char *const kv_recall_list[];

// Chooses the words: those of the vocabulary that are a token each in a passage (a space, then three letters or more, a
// to z); with fewer than KV_RECALL_MIN_WORDS of them, or without a tokenizer, those of the list. most_words: only so many
// of them, from 4 on; 0: all. Free with kv_recall_free.
kv_status kv_recall_open(const kv_tokenizer *tokenizer, int64_t most_words, uint64_t seed, kv_recall *recall,
                         kv_error *err);
void kv_recall_free(kv_recall *recall);

// Tokens that a prompt needs at least, whatever words are drawn.
int64_t kv_recall_shortest(const kv_recall *recall);

typedef struct kv_recall_item {
    char *prompt, *answer, *key;
    int64_t tokens;       // of the prompt, BOS included
    int64_t n_statements; // as many as fit
    int64_t asked;        // which of them, from 0 on: round(depth · (n_statements - 1))
} kv_recall_item;

// A pure function of (seed, length, depth, number) and the tokenizer: a prompt of at most `length` tokens, to which no
// statement could be added. Where there are more statements than keys of one word, keys have two. kv_recall_shortest <=
// length <= KV_RECALL_MAX_LENGTH, depth from 0 (the first statement) to 1 (the last). Free with kv_recall_item_free.
kv_status kv_recall_make(const kv_recall *recall, int64_t length, double depth, int64_t number,
                         kv_recall_item *item, kv_error *err);
void kv_recall_item_free(kv_recall_item *item);

// Tokens that a training text needs at least.
int64_t kv_recall_shortest_text(const kv_recall *recall);

// Text `number` of a stream ("train", "held_out"; none is an item's): a passage of any size, and questions with their answers
// about its statements in a random order, round after round, the last cut off where the text is full. Of `length` tokens, BOS and EOS included (fewer where words are several
// tokens), so that texts fill training sequences of that length one for one. Caller frees *text.
kv_status kv_recall_text(const kv_recall *recall, const char *stream, int64_t length, int64_t number,
                         char **text, kv_error *err);

typedef struct kv_recall_plan {
    const int64_t *lengths; // [n_lengths]
    int n_lengths;
    const double *depths; // [n_depths]
    int n_depths;
    int64_t n_items;  // of each length and depth; 0: no questions
    int64_t n_texts;  // to train on; 0: none
    int64_t n_tokens; // of each of them
} kv_recall_plan;

// Checks that all lengths can be had: KV_ERR_RANGE naming the one that cannot.
kv_status kv_recall_check(const kv_recall *recall, const kv_recall_plan *plan, kv_error *err);

// Items as JSON lines, length by length: "prompt", "answer", "length", "depth"; and "tokens", "statements", "key",
// "item" (its number). Whole or not at all; progress on stderr; KV_ERR_INTERRUPTED when the user stops it.
kv_status kv_recall_write_items(const kv_recall *recall, const kv_recall_plan *plan, const char *path,
                                kv_error *err);

// Into `directory`, all files or none:
//   questions.jsonl              the items, where there are any
//   train.jsonl, held_out.jsonl  where there are texts: n_texts of them, and a twentieth of that (at least one)
//   recall.json                  what is in it
kv_status kv_recall_write(const kv_recall *recall, const kv_recall_plan *plan, const char *directory,
                          kv_error *err);

KV_API_END

// Multiple-choice files: ARC, BoolQ, HellaSwag, PIQA, SciQ and WinoGrande as Hugging Face exports them, plain
// or gzip, turned into contexts and choices by the conventions of the EleutherAI evaluation harness.
//                                                                                     [core/README.md §8]
#pragma once

#include "data/file/json.h"

#include <stdbool.h>
#include <stdint.h>

enum { KV_MAX_CHOICES = 16 };

// What is asked: a choice's text is context + " " + choice; with partial evaluation (WinoGrande) the choice
// belongs to the context and the ending all choices share is what is scored: context + choice + " " + ending.
typedef struct kv_choice_item {
    char *id;
    char *preamble; // what stands before all examples; NULL but in files of one's own
    char *context;
    char **choices;    // [n_choices]
    int64_t n_choices; // 2 to KV_MAX_CHOICES
    char *ending;      // NULL but for partial evaluation
    int64_t gold;      // the right choice
    char *where;       // "FILE:LINE", with the entry behind it where a line holds several rows
} kv_choice_item;

typedef struct kv_choice_items {
    kv_choice_item *items;
    int64_t n;
} kv_choice_items;

// "arc_challenge", "arc_easy", "boolq", "hellaswag", "piqa", "sciq", "winogrande".
typedef struct kv_choice_kind {
    const char *name;
    // "acc", "acc_norm" and "acc_bytes", the one that the kind is compared by first; or "acc" alone, then
    // NULL.
    const char *metrics[3];
} kv_choice_kind;

// NULL when there is none of that name.
const kv_choice_kind *kv_choice_kind_find(const char *name);
// The i-th, from 0 on; NULL behind the last.
const kv_choice_kind *kv_choice_kind_at(int i);

// Rows one a line, bare or wrapped as the dataset viewer does ({"row_idx": …, "row": {…}}), or whole answers
// of its rows endpoint ({"rows": [{"row": {…}}, …]}). A bad row is KV_ERR_FORMAT naming file, line, key, what
// was found and what was expected. Free with kv_choice_items_free (accepts an empty one); on failure it is
// empty.
kv_status kv_choices_read(const char *path, const kv_choice_kind *kind, kv_choice_items *items,
                          kv_error *err);
void kv_choice_items_free(kv_choice_items *items);

// ---- The parts -----------------------------------------------------------------------------------------

// HellaSwag's clean-up: outer white space goes, " [title]" becomes ". ", other [...] within a line go, and
// two spaces become one (once). In place: `text` never grows.
void kv_hellaswag_clean(char *text);

// Fills an empty item (id left NULL where the format has none) from row->root; row->path says where the row
// is. On failure the item may be half full: free it with kv_choice_item_free.
kv_status kv_choice_row(const kv_choice_kind *kind, const kv_json_file *row, kv_choice_item *item,
                        kv_error *err);
void kv_choice_item_free(kv_choice_item *item);

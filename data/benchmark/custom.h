// Files of one's own: JSON lines, whose fields templates (data/benchmark/template.h) make questions of.
#pragma once

#include "data/benchmark/template.h"

#include <stdint.h>

// Templates and lists of them; NULL or 0: there is none. Of a list's templates one that is a lone field may stand for as
// many entries as the field has.
typedef struct kv_custom_format {
    kv_template *prompt;   // what is asked
    kv_template *preamble; // what stands before all examples
    kv_template *target;   // the accepted answers
    kv_template **choices; // [n_choices] to choose from
    kv_template **labels;  // [n_labels] what `label` calls them
    int64_t n_choices, n_labels;
    kv_template *label; // the right choice
} kv_custom_format;

void kv_custom_format_free(kv_custom_format *format);

typedef struct kv_custom_item {
    char *id;         // the line's "id", a text or whole number, or the number of the line
    char *where;      // "FILE:LINE"
    char *prompt;     // never empty
    char *preamble;   // may be ""
    kv_texts targets; // none without a template for them
    kv_texts choices;
    int64_t gold; // of the choices; -1 without any
} kv_custom_item;

typedef struct kv_custom_items {
    kv_custom_item *items;
    int64_t n;
} kv_custom_items;

// One item a line, plain or gzip. The right choice is one of the labels where there are any; else a whole number from 0
// on, a choice's own text, a letter from A on, or such a number as text, whichever fits first. What a line lacks is
// KV_ERR_FORMAT naming file, line, field and the configuration's key. Free with kv_custom_items_free (accepts an empty
// one); on failure it is empty.
kv_status kv_custom_read(const char *path, const kv_custom_format *format, kv_custom_items *items,
                         kv_error *err);
void kv_custom_items_free(kv_custom_items *items);

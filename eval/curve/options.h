// What `kveval curve` is asked for.
#pragma once

#include "core/status.h"
#include "data/table/format.h"

#include <stdbool.h>
#include <stdint.h>

enum { KV_CURVE_DEPTHS = 256 };

typedef struct kv_curve_options {
    const char *base, *aux; // directories or random names; aux NULL: none
    const char *text;       // a token shard, a corpus, or text files
    const char *held_out;   // another text to evaluate on; NULL: a part of `text`
    const char *tokenizer;  // NULL: the base's own
    const char *depths;     // as given, "all", "some" or a list
    const char *output;     // directory
    int64_t tokens;         // to fit on
    int64_t window, prompt; // tokens: of a window, of them read as a prompt
    int64_t windows;        // to evaluate on
    int64_t repeats;        // of the time to first token; 0: not measured
    double ridge;
    bool first; // maps read what enters layer 0, too
    bool dry_run;
    const kv_table_format *format;
} kv_curve_options;

// Prefixes of a base: "all" from 1 to n_layers - 1, "some" at most 6 of these, evenly spread with the shallowest
// and the deepest among them, or "1,2,4". depths[KV_CURVE_DEPTHS] rise, each there once. KV_ERR_ARGUMENT, without a name in
// front, says what of the text is no such number.
kv_status kv_curve_depths(const char *text, int64_t n_layers, int64_t *depths, int64_t *n, kv_error *err);

// Ends the program on wrong usage.
void kv_curve_options_parse(int argc, char **argv, kv_curve_options *options);

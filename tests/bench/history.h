// Records of runs, one a line of JSON, and what --check makes of them.
#pragma once

#include "core/status.h"

#include <jansson.h>
#include <stdio.h>

enum { BENCH_RECORD = 1 }; // of the layout

// Appends a line, which is borrowed; the file is there whole, with it or without, whenever the program is stopped.
kv_status bench_history_append(const char *path, const json_t *record, kv_error *err);

// All records of a folder's files that end in .jsonl, a new list. A folder that is not there has none.
kv_status bench_history_read(const char *folder, json_t **records, kv_error *err);

// Compares records (a list of runs of one program) with those of `history` that are of the same CPU, instruction set, number
// of threads and size: of every phase the median of its fraction of the limit, and of its other ratios. Prints what is
// more than a tenth worse, and how many were compared. Returns how many are worse.
int bench_check(const json_t *records, const json_t *history, FILE *out);

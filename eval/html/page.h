// One page of everything that an evaluation found out: readable as it is, without a network, without a script, on paper; with
// its script also to be asked.
#pragma once

#include "data/table/table.h"
#include "eval/results/points.h"
#include "eval/results/results.h"

typedef struct kv_html_page {
    const char *const *sources; // [n_sources] files that the results come from, as the user named them
    int n_sources;
    const kv_tables *tables;  // what kveval report prints of these results
    kv_points_settings curve; // what the curve shows at first
    int64_t answers;          // of each system and task; negative: see eval/html/answers.h
} kv_html_page;

// Writes it to `path`, whole or not at all. KV_ERR_MEMORY; KV_ERR_IO naming the file; KV_ERR_INTERRUPTED.
kv_status kv_html_write(const kv_results *results, const kv_html_page *page, const char *path, kv_error *err);

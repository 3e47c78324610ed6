// What systems answered, side by side: data for the page's script, the first ones as they are, and how often a system and its base
// agree.
#pragma once

#include "eval/html/write.h"
#include "eval/results/results.h"

// Of a system and a task: as many as KV_ANSWERS_DEFAULT, fewer where all of them would take more than KV_ANSWERS_BYTES, unless
// somebody says how many.
enum { KV_ANSWERS_DEFAULT = 200, KV_ANSWERS_BYTES = 16 << 20 };

// The section; nothing where there are no tasks. most: of each system and task; negative: the above.
kv_status kv_html_answers(kv_html *html, const kv_results *results, int64_t most, kv_error *err);

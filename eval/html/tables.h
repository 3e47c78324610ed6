// Tables (data/table/table.h) inside the page: each scrolls in itself, and each column can be sorted by.
#pragma once

#include "data/table/table.h"
#include "eval/html/write.h"
#include "eval/results/results.h"

// Those of the tables that people see whose kind (kv_tables_add) is `name`, or of every other kind than `others`, which ends
// with NULL. Rows of a system know its number in `results`, so that a point in the curve finds them. How many they are.
int64_t kv_html_tables_named(kv_html *html, const kv_tables *tables, const kv_results *results,
                             const char *name);
int64_t kv_html_tables_other(kv_html *html, const kv_tables *tables, const kv_results *results,
                             const char *const *others);

// Heat maps: how near predicted caches are to the base's own, layer by layer and position by position, and what systems score
// on tasks whose items are a grid (eval/results/grid.h).
#pragma once

#include "data/table/table.h"
#include "eval/html/write.h"
#include "eval/results/results.h"

// A section each, or nothing where there is none. tables: of these those of grids stand in theirs.
void kv_html_error_maps(kv_html *html, const kv_results *results);
kv_status kv_html_grid_maps(kv_html *html, const kv_results *results, const kv_tables *tables, kv_error *err);

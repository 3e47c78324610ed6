// The pictures of tasks whose items are a grid (eval/results/grid.h).
#pragma once

#include "eval/plot/plot.h"
#include "eval/results/results.h"

// At most so many pictures of either kind, and systems in one.
enum { KV_HEAT_PICTURES = 16, KV_HEAT_SYSTEMS = 12, KV_HEAT_NAME = 24 };

// "heat", "heat-2", …: the name of picture number i, from 0 on, of a kind ("heat", "grid-ttft").
char *kv_heat_name(const char *kind, int64_t i, char name[KV_HEAT_NAME]);

// heat.*: a map of every system of every such task, in several pictures where one would be crowded. grid-ttft.*: for each
// such task what systems score against what one prompt of that length took them, a panel for each length; where times
// were measured. Nothing without such a task. Errors and note as of kv_plot_draw; the note also says what does not fit.
kv_status kv_heat_draw(const kv_results *results, const char *dir, char note[KV_PLOT_NOTE], kv_error *err);

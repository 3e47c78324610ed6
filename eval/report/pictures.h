// The pictures of an evaluation: accuracy against the cost of the first token (the paper's figures 3 and 4),
// and time to first token against the length of the prompt (figure 5b).
#pragma once

#include "eval/plot/plot.h"
#include "eval/results/results.h"

// `picture` in a config.
typedef struct kv_eval_picture {
    char *x;         // exact | paper: which reduction of FLOPs; clock: of the time that the tables give
    char *y;         // accuracy | retention
    char *line;      // name of the system at whose height a line is drawn through each panel; NULL: none
    char *published; // figures of the paper, copied to published.csv (eval/published/published.h); NULL: none
    const char *
        interval; // what the bars at the points are, for the legend; NULL: a 95 % interval. No key of a config's
    bool draw_published; // faintly among one's own
} kv_eval_picture;

// pareto.* always (when anything was asked), ttft.* when prompts of several lengths were timed, heat.* and grid-ttft.* of tasks
// whose items are a grid (eval/report/heat.h), layers.* and fidelity.* of predicted caches (eval/report/fidelity.h), into dir.
kv_status kv_pictures_draw(const kv_results *results, const kv_eval_picture *picture, const char *dir,
                           char note[KV_PLOT_NOTE], kv_error *err);

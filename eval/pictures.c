#include "eval/pictures.h"

#include <stdlib.h>
#include <string.h>

static double height_of(const kv_results *results, const kv_eval_picture *picture, int64_t system,
                        int64_t task) {
    const kv_figure *f = &kv_results_outcome(results, system, task)->figures[0];
    return 100 * (!strcmp(picture->y, "retention") ? f->retention : f->accuracy);
}

static kv_status draw_pareto(const kv_results *results, const kv_eval_picture *picture, const char *dir,
                             char note[KV_PLOT_NOTE], kv_error *err) {
    const size_t n = (size_t)results->n_systems, n_tasks = (size_t)results->n_tasks;
    const bool paper = !strcmp(picture->x, "paper");
    kv_plot_point *points = calloc(n, sizeof *points);
    double *y = calloc(n * n_tasks, sizeof *y);
    char(*titles)[192] = calloc(n_tasks, sizeof *titles);
    const char **panels = calloc(n_tasks, sizeof *panels);
    kv_status status = KV_OK;
    if (!points || !y || !titles || !panels)
        status = kv_fail(err, KV_ERR_MEMORY, "out of memory for the picture");
    for (size_t t = 0; status == KV_OK && t < n_tasks; t++) {
        snprintf(titles[t], sizeof titles[t], "%.90s, %.90s", results->tasks[t].name,
                 results->tasks[t].split);
        panels[t] = titles[t];
        for (size_t s = 0; s < n; s++)
            y[s * n_tasks + t] = height_of(results, picture, (int64_t)s, (int64_t)t);
    }
    for (size_t s = 0; status == KV_OK && s < n; s++)
        points[s] = (kv_plot_point){.label = results->systems[s].name,
                                    .family = results->systems[s].family,
                                    .x = kv_result_reduction(results, (int64_t)s, 0, paper),
                                    .y = y + s * n_tasks};
    const kv_plot plot = {.points = points,
                          .n_points = (int64_t)n,
                          .panels = panels,
                          .n_panels = (int64_t)n_tasks,
                          .x_label = paper ? "reduction of FLOPs to the first token (paper's convention)"
                                           : "reduction of FLOPs to the first token (exact)",
                          .y_label = "exact match (%)"};
    if (status == KV_OK) status = kv_plot_draw(&plot, dir, "pareto", note, err);
    free(points);
    free(y);
    free(titles);
    free(panels);
    return status;
}

kv_status kv_pictures_draw(const kv_results *results, const kv_eval_picture *picture, const char *dir,
                           char note[KV_PLOT_NOTE], kv_error *err) {
    note[0] = '\0';
    return results->n_tasks > 0 ? draw_pareto(results, picture, dir, note, err) : KV_OK;
}

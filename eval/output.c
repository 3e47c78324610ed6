#include "eval/output.h"

#include "data/pending_file.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *const files[] = {"results.csv", "results.h5", "samples.jsonl", "pareto.gp",
                                    "pareto.dat",  "pareto.svg", "pareto.png"};
enum { N_FILES = sizeof files / sizeof *files };

// ---- The picture ---------------------------------------------------------------------------------------

static kv_status draw(const kv_results *results, const char *dir, char note[KV_PLOT_NOTE], kv_error *err) {
    const kv_eval_config *config = results->config;
    const size_t n = config->n_systems, n_tasks = config->n_tasks;
    kv_plot_point *points = calloc(n, sizeof *points);
    double *y = calloc(n * n_tasks, sizeof *y);
    char(*titles)[192] = calloc(n_tasks, sizeof *titles);
    const char **panels = calloc(n_tasks, sizeof *panels);
    kv_status status = KV_OK;
    if (!points || !y || !titles || !panels)
        status = kv_fail(err, KV_ERR_MEMORY, "out of memory for the picture");
    for (size_t t = 0; status == KV_OK && t < n_tasks; t++) {
        snprintf(titles[t], sizeof titles[t], "%.90s, %.90s", config->tasks[t].name, config->tasks[t].split);
        panels[t] = titles[t];
        for (size_t s = 0; s < n; s++)
            y[s * n_tasks + t] = 100 * kv_result_accuracy(results, (int64_t)s, (int64_t)t);
    }
    for (size_t s = 0; status == KV_OK && s < n; s++)
        points[s] = (kv_plot_point){.label = config->systems[s].name,
                                    .family = config->systems[s].family,
                                    .x = results->costs[s].exact_reduction,
                                    .y = y + s * n_tasks};
    const kv_plot plot = {.points = points,
                          .n_points = (int64_t)n,
                          .panels = panels,
                          .n_panels = (int64_t)n_tasks,
                          .x_label = "reduction of FLOPs to the first token (exact)",
                          .y_label = "exact match (%)"};
    if (status == KV_OK) status = kv_plot_draw(&plot, dir, "pareto", note, err);
    free(points);
    free(y);
    free(titles);
    free(panels);
    return status;
}

// ---- The directory -------------------------------------------------------------------------------------

static kv_status write_all(const kv_results *results, const char *dir, char note[KV_PLOT_NOTE],
                           kv_error *err) {
    char path[PATH_MAX + 32];
    snprintf(path, sizeof path, "%s/results.csv", dir);
    kv_status status = kv_results_write_csv(results, path, err);
    snprintf(path, sizeof path, "%s/results.h5", dir);
    if (status == KV_OK) status = kv_results_write_h5(results, path, err);
    snprintf(path, sizeof path, "%s/samples.jsonl", dir);
    if (status == KV_OK) status = kv_results_write_samples(results, path, err);
    return status == KV_OK ? draw(results, dir, note, err) : status;
}

// Each file takes the place of the one of an earlier evaluation; a picture that could not be drawn this time
// must not stay behind from then.
static kv_status replace_files(const char *from, const char *to, kv_error *err) {
    for (int i = 0; i < N_FILES; i++) {
        kv_pending move = {.active = true};
        if (snprintf(move.path, sizeof move.path, "%s/%s", from, files[i]) >= (int)sizeof move.path ||
            snprintf(move.final, sizeof move.final, "%s/%s", to, files[i]) >= (int)sizeof move.final)
            return kv_fail(err, KV_ERR_ARGUMENT, "%.80s...: path is too long", to);
        if (access(move.path, F_OK) != 0) {
            unlink(move.final);
            continue;
        }
        kv_status status = kv_pending_commit(&move, err);
        if (status != KV_OK) return status;
    }
    return KV_OK;
}

kv_status kv_output_write(const kv_results *results, const char *dir, char note[KV_PLOT_NOTE],
                          kv_error *err) {
    kv_pending pending;
    struct stat info;
    note[0] = '\0';
    kv_status status = kv_pending_dir(&pending, dir, err);
    if (status != KV_OK) return status;
    status = write_all(results, pending.path, note, err);
    if (status == KV_OK && stat(pending.final, &info) != 0) return kv_pending_commit(&pending, err);
    if (status == KV_OK) status = replace_files(pending.path, pending.final, err);
    kv_pending_abandon(&pending);
    return status;
}

kv_status kv_output_probe(const char *dir, kv_error *err) {
    kv_pending pending;
    kv_status status = kv_pending_dir(&pending, dir, err);
    if (status == KV_OK && access(dir, F_OK) == 0 && access(dir, W_OK) != 0)
        status = kv_fail(err, KV_ERR_IO, "%s: the directory cannot be written to", dir);
    kv_pending_abandon(&pending);
    return status;
}

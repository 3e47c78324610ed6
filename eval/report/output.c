// Everything is written to a directory beside the real one, which then takes its files over at once.
#include "eval/report/output.h"

#include "data/file/path.h"
#include "data/file/whole_set.h"
#include "eval/published/published.h"

#include <stdbool.h>

// What an evaluation may leave out: left from an earlier one, it would speak of other results.
static const char *const optional[] = {"errors.csv", "published.csv", "pareto.svg", "pareto.png",
                                       "ttft.gp",    "ttft.dat",      "ttft.svg",   "ttft.png"};
enum { N_OPTIONAL = sizeof optional / sizeof *optional };

static const struct {
    const char *name;
    kv_status (*write)(const kv_results *results, const char *path, kv_error *err);
    bool of_analysis; // only where predicted caches were looked at
} files[] = {
    {"results.csv", kv_results_write_csv, false},  {"budgets.csv", kv_results_write_budgets, false},
    {"ttft.csv", kv_results_write_timings, false}, {"results.h5", kv_results_write_h5, false},
    {"errors.csv", kv_results_write_errors, true},
};

static kv_status write_all(const kv_results *results, const kv_eval_picture *picture, const char *dir,
                           char note[KV_PLOT_NOTE], kv_error *err) {
    char path[PATH_MAX];
    kv_status status = KV_OK;
    for (size_t i = 0; i < sizeof files / sizeof *files && !status; i++) {
        if (files[i].of_analysis && !results->analysis.corpus) continue;
        status = kv_path_join(dir, files[i].name, path, err);
        if (!status) status = files[i].write(results, path, err);
    }
    // What the picture shows of the paper, as numbers.
    if (!status && picture->published) {
        status = kv_path_join(dir, "published.csv", path, err);
        if (!status) status = kv_published_write(picture->published, path, err);
    }
    return status ? status : kv_pictures_draw(results, picture, dir, note, err);
}

kv_status kv_output_write(const kv_results *results, const kv_eval_picture *picture, const char *dir,
                          char note[KV_PLOT_NOTE], kv_error *err) {
    kv_whole_set set;
    note[0] = '\0';
    kv_status status = kv_whole_set_begin(&set, dir, err);
    if (!status) status = write_all(results, picture, set.staged.path, note, err);
    return kv_whole_set_end(&set, optional, N_OPTIONAL, status, err);
}

kv_status kv_output_probe(const char *dir, kv_error *err) {
    kv_whole_set set;
    kv_status status = kv_whole_set_begin(&set, dir, err);
    kv_whole_set_abandon(&set);
    return status;
}

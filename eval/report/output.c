// Everything is written to a directory beside the real one, which then takes its files over at once.
#include "eval/report/output.h"

#include "data/file/made_by.h"
#include "data/file/path.h"
#include "data/file/whole_set.h"
#include "eval/published/published.h"
#include "eval/report/heat.h"
#include "eval/results/fidelity.h"
#include "eval/results/grid.h"

#include <stdbool.h>
#include <stdio.h>

// What an evaluation may leave out: left from an earlier one, it would speak of other results.
static const char *const optional[] = {
    "errors.csv",  "fidelity.csv", "correlations.csv", "published.csv", "grid.csv",    "pareto.svg",
    "pareto.png",  "pareto.pdf",   "ttft.gp",          "ttft.dat",      "ttft.svg",    "ttft.png",
    "ttft.pdf",    "layers.gp",    "layers.dat",       "layers.svg",    "layers.png",  "layers.pdf",
    "fidelity.gp", "fidelity.dat", "fidelity.svg",     "fidelity.png",  "fidelity.pdf"};
enum { N_OPTIONAL = sizeof optional / sizeof *optional, N_KINDS = 2, N_ENDINGS = 5 };

// These, and the pictures of grids.
struct stale {
    char numbered[N_KINDS * KV_HEAT_PICTURES * N_ENDINGS][KV_HEAT_NAME + 4];
    const char *names[N_OPTIONAL + N_KINDS * KV_HEAT_PICTURES * N_ENDINGS];
};

static int list_stale(struct stale *stale) {
    static const char *const kinds[N_KINDS] = {"heat", "grid-ttft"};
    static const char *const endings[N_ENDINGS] = {"gp", "dat", "svg", "png", "pdf"};
    int n = 0;
    for (int k = 0; k < N_KINDS; k++)
        for (int i = 0; i < KV_HEAT_PICTURES; i++)
            for (int e = 0; e < N_ENDINGS; e++) {
                char name[KV_HEAT_NAME];
                snprintf(stale->numbered[n], sizeof stale->numbered[n], "%s.%s",
                         kv_heat_name(kinds[k], i, name), endings[e]);
                stale->names[n] = stale->numbered[n];
                n++;
            }
    for (int i = 0; i < N_OPTIONAL; i++) stale->names[n++] = optional[i];
    return n;
}

static bool have_analysis(const kv_results *results) {
    return results->analysis.corpus;
}

static const struct {
    const char *name;
    kv_status (*write)(const kv_results *results, const char *path, kv_error *err);
    bool (*have)(const kv_results *results); // NULL: always
} files[] = {
    {"results.csv", kv_results_write_csv, NULL},
    {"budgets.csv", kv_results_write_budgets, NULL},
    {"ttft.csv", kv_results_write_timings, NULL},
    {"results.h5", kv_results_write_h5, NULL},
    {"errors.csv", kv_results_write_errors, have_analysis},
    {"fidelity.csv", kv_fidelity_write_csv, kv_results_have_fidelity},
    {"correlations.csv", kv_fidelity_write_correlations, kv_results_have_fidelity},
    {"grid.csv", kv_grid_write_csv, kv_results_have_grid},
};

static kv_status write_all(const kv_results *results, const kv_eval_picture *picture, const char *dir,
                           char note[KV_PLOT_NOTE], kv_error *err) {
    char path[PATH_MAX];
    kv_status status = KV_OK;
    for (size_t i = 0; i < sizeof files / sizeof *files && !status; i++) {
        if (files[i].have && !files[i].have(results)) continue;
        status = kv_path_join(dir, files[i].name, path, err);
        if (!status) status = files[i].write(results, path, err);
    }
    if (!status) status = kv_made_by_write(dir, results->made_by, results->n_made_by, err);
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
    struct stale stale;
    note[0] = '\0';
    kv_status status = kv_whole_set_begin(&set, dir, err);
    if (!status) status = write_all(results, picture, set.staged.path, note, err);
    return kv_whole_set_end(&set, stale.names, list_stale(&stale), status, err);
}

kv_status kv_output_probe(const char *dir, kv_error *err) {
    kv_whole_set set;
    kv_status status = kv_whole_set_begin(&set, dir, err);
    kv_whole_set_abandon(&set);
    return status;
}

// ---- Tables --------------------------------------------------------------------------------------------

kv_status kv_output_tables(const kv_results *results, kv_tables **tables, kv_error *err) {
    kv_tables *t = kv_tables_create();
    kv_results_tables(results, t);
    kv_fidelity_tables(results, t);
    const kv_status status =
        t ? kv_grid_tables(results, t, err) : kv_fail(err, KV_ERR_MEMORY, "out of memory for the tables");
    kv_tables_made_by(t, results->made_by, results->n_made_by);
    kv_tables_fact(t, "made_by", kv_made_by_list(results->made_by, results->n_made_by));
    *tables = status == KV_OK ? t : NULL;
    if (status != KV_OK) kv_tables_free(t);
    return status;
}

kv_status kv_output_print(const kv_results *results, const kv_table_format *format, FILE *stream,
                          kv_error *err) {
    kv_tables *tables;
    kv_status status = kv_output_tables(results, &tables, err);
    if (status == KV_OK) status = kv_tables_write(tables, format, stream, err);
    kv_tables_free(tables);
    return status;
}

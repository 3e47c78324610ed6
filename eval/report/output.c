#include "eval/report/output.h"

#include "data/file/whole_file.h"
#include "eval/published/published.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *const files[] = {"results.csv", "budgets.csv", "ttft.csv",   "results.h5",   "errors.csv",
                                    "pareto.gp",   "pareto.dat",  "pareto.svg", "pareto.png",   "ttft.gp",
                                    "ttft.dat",    "ttft.svg",    "ttft.png",   "published.csv"};
enum { N_FILES = sizeof files / sizeof *files };

typedef kv_status write_fn(const kv_results *results, const char *path, kv_error *err);

// What the picture shows of the paper, as numbers.
static kv_status write_published(const char *name, const char *dir, kv_error *err) {
    char path[PATH_MAX + 32];
    snprintf(path, sizeof path, "%s/published.csv", dir);
    return kv_published_write(name, path, err);
}

static kv_status write_all(const kv_results *results, const kv_eval_picture *picture, const char *dir,
                           char note[KV_PLOT_NOTE], kv_error *err) {
    write_fn *const writers[] = {kv_results_write_csv, kv_results_write_budgets, kv_results_write_timings,
                                 kv_results_write_h5, kv_results_write_errors}; // in the order of `files`
    const size_t n_writers = sizeof writers / sizeof *writers - (results->analysis.corpus ? 0 : 1);
    kv_status status = picture->published ? write_published(picture->published, dir, err) : KV_OK;
    for (size_t i = 0; i < n_writers && status == KV_OK; i++) {
        char path[PATH_MAX + 32];
        snprintf(path, sizeof path, "%s/%s", dir, files[i]);
        status = writers[i](results, path, err);
    }
    return status == KV_OK ? kv_pictures_draw(results, picture, dir, note, err) : status;
}

// Each file takes the place of the one of an earlier evaluation; a picture that could not be drawn this time
// must not stay behind from then.
static kv_status replace_files(const char *from, const char *to, kv_error *err) {
    for (int i = 0; i < N_FILES; i++) {
        kv_whole_file move = {.active = true};
        if (snprintf(move.path, sizeof move.path, "%s/%s", from, files[i]) >= (int)sizeof move.path ||
            snprintf(move.final, sizeof move.final, "%s/%s", to, files[i]) >= (int)sizeof move.final)
            return kv_fail(err, KV_ERR_ARGUMENT, "%.80s...: path is too long", to);
        if (access(move.path, F_OK) != 0) {
            unlink(move.final);
            continue;
        }
        kv_status status = kv_whole_file_commit(&move, err);
        if (status != KV_OK) return status;
    }
    return KV_OK;
}

kv_status kv_output_write(const kv_results *results, const kv_eval_picture *picture, const char *dir,
                          char note[KV_PLOT_NOTE], kv_error *err) {
    kv_whole_file pending;
    struct stat info;
    note[0] = '\0';
    kv_status status = kv_whole_dir_begin(&pending, dir, err);
    if (status != KV_OK) return status;
    status = write_all(results, picture, pending.path, note, err);
    if (status == KV_OK && stat(pending.final, &info) != 0) return kv_whole_file_commit(&pending, err);
    if (status == KV_OK) status = replace_files(pending.path, pending.final, err);
    kv_whole_file_abandon(&pending);
    return status;
}

kv_status kv_output_probe(const char *dir, kv_error *err) {
    kv_whole_file pending;
    kv_status status = kv_whole_dir_begin(&pending, dir, err);
    if (status == KV_OK && access(dir, F_OK) == 0 && access(dir, W_OK) != 0)
        status = kv_fail(err, KV_ERR_IO, "%s: the directory cannot be written to", dir);
    kv_whole_file_abandon(&pending);
    return status;
}

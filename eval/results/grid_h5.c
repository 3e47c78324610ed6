// Written and read here, so that both ends of the format stand beside each other.
#include "eval/results/grid_h5.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { NAME_SIZE = 80 };

static const char *name_of(int64_t task, const char *dataset, char name[NAME_SIZE]) {
    snprintf(name, NAME_SIZE, "/tasks/%lld/%s", (long long)task, dataset);
    return name;
}

// ---- Writing -------------------------------------------------------------------------------------------

static kv_status write_flops(const kv_results *r, int64_t task, hid_t file, kv_error *err) {
    const int64_t n = r->tasks[task].n_items, shape[2] = {r->n_systems, n};
    char name[NAME_SIZE];
    bool known = false;
    double *all = malloc((size_t)(r->n_systems * n) * sizeof *all + 1);
    if (!all) return kv_fail(err, KV_ERR_MEMORY, "out of memory for results.h5");
    for (int64_t s = 0; s < r->n_systems; s++) {
        const double *own = kv_results_outcome(r, s, task)->item_flops;
        known = known || own;
        for (int64_t i = 0; i < n; i++) all[s * n + i] = own ? own[i] : NAN;
    }
    kv_status status = KV_OK;
    if (known)
        status = kv_h5_write(file, name_of(task, "item_flops", name), H5T_NATIVE_DOUBLE, all, 2, shape, err);
    free(all);
    return status;
}

kv_status kv_grid_write_h5(const kv_results *results, int64_t task, hid_t file, kv_error *err) {
    const kv_result_task *t = &results->tasks[task];
    const struct {
        const char *name;
        hid_t type;
        const void *values;
        int64_t n;
    } arrays[] = {{"item_lengths", H5T_NATIVE_INT64, t->grid.lengths, t->n_items},
                  {"item_tokens", H5T_NATIVE_INT64, t->grid.tokens, t->n_items},
                  {"item_depths", H5T_NATIVE_DOUBLE, t->grid.depths, t->n_items},
                  {"skipped_lengths", H5T_NATIVE_INT64, t->grid.skipped, t->n_skipped}};
    char name[NAME_SIZE];
    kv_status status = KV_OK;
    if (!t->grid.lengths) return KV_OK;
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays && status == KV_OK; i++)
        if (arrays[i].values)
            status = kv_h5_write(file, name_of(task, arrays[i].name, name), arrays[i].type, arrays[i].values,
                                 1, &arrays[i].n, err);
    return status == KV_OK ? write_flops(results, task, file, err) : status;
}

// ---- Reading -------------------------------------------------------------------------------------------

struct reader {
    const char *path;
    hid_t file;
    int64_t task;
    kv_error *err;
};

static kv_status wrong(const struct reader *r, const char *name, const char *expected) {
    return kv_fail(r->err, KV_ERR_FORMAT, "%s: '%s': expected %s", r->path, name, expected);
}

// `n` numbers of at least 1; NULL where there is no such dataset.
static kv_status read_counts(const struct reader *r, const char *dataset, int64_t n, int64_t **values) {
    char name[NAME_SIZE];
    int n_dims;
    int64_t shape[8];
    *values = NULL;
    if (!kv_h5_exists(r->file, name_of(r->task, dataset, name))) return KV_OK;
    kv_status status = kv_h5_read_i64(r->file, name, n, values, &n_dims, shape, r->err);
    bool fits = status == KV_OK && n_dims == 1 && shape[0] == n;
    for (int64_t i = 0; i < n && fits; i++) fits = values[0][i] >= 1;
    if (status != KV_OK || fits) return status;
    free(*values);
    *values = NULL;
    return wrong(r, name, "a number of at least 1 for every item");
}

// Rows of numbers, one for every item each; NULL where there is no such dataset.
static kv_status read_numbers(const struct reader *r, const char *dataset, int64_t n_rows, int64_t n,
                              double **values) {
    char name[NAME_SIZE];
    int n_dims;
    int64_t shape[8], found = 1;
    *values = NULL;
    if (!kv_h5_exists(r->file, name_of(r->task, dataset, name))) return KV_OK;
    kv_status status = kv_h5_read_f64(r->file, name, n_rows * n, values, &n_dims, shape, r->err);
    for (int i = 0; status == KV_OK && i < n_dims; i++) found *= shape[i];
    if (status != KV_OK || found == n_rows * n) return status;
    free(*values);
    *values = NULL;
    return wrong(r, name, "a number for every item");
}

static kv_status check_depths(const struct reader *r, const kv_result_task *t) {
    char name[NAME_SIZE];
    for (int64_t i = 0; i < t->n_items; i++)
        if (!(t->grid.depths[i] >= 0 && t->grid.depths[i] <= 1))
            return wrong(r, name_of(r->task, "item_depths", name), "numbers from 0 to 1");
    return KV_OK;
}

static kv_status read_flops(const struct reader *r, kv_results *results) {
    const int64_t n = results->tasks[r->task].n_items;
    double *all;
    kv_status status = read_numbers(r, "item_flops", results->n_systems, n, &all);
    for (int64_t s = 0; all && s < results->n_systems && status == KV_OK; s++) {
        kv_outcome *o = kv_results_outcome(results, s, r->task);
        if (isnan(all[s * n])) continue;
        o->item_flops = malloc((size_t)n * sizeof *all + 1);
        if (!o->item_flops)
            status = kv_fail(r->err, KV_ERR_MEMORY, "%s: out of memory", r->path);
        else
            memcpy(o->item_flops, all + s * n, (size_t)n * sizeof *all);
    }
    free(all);
    return status;
}

kv_status kv_grid_read_h5(const char *path, hid_t file, int64_t task, kv_results *results, kv_error *err) {
    const struct reader r = {.path = path, .file = file, .task = task, .err = err};
    kv_result_task *t = &results->tasks[task];
    char name[NAME_SIZE];
    kv_status status = read_counts(&r, "item_lengths", t->n_items, &t->grid.lengths);
    if (status != KV_OK || !t->grid.lengths) return status;
    status = read_numbers(&r, "item_depths", 1, t->n_items, &t->grid.depths);
    if (status == KV_OK && !t->grid.depths)
        status = wrong(&r, name_of(task, "item_depths", name), "a number for every item");
    if (status == KV_OK) status = check_depths(&r, t);
    if (status == KV_OK) status = read_counts(&r, "item_tokens", t->n_items, &t->grid.tokens);
    if (status == KV_OK) status = read_counts(&r, "skipped_lengths", t->n_skipped, &t->grid.skipped);
    return status == KV_OK ? read_flops(&r, results) : status;
}

// results.h5, version 3. S systems, M metrics, N items of a task, NaN: not known. Version 2 had no intervals
// of retention, and what it called acc_norm is acc_bytes: kv_results_read_h5 still reads it, under that name.
//   /            attributes format = "kv-results", version, seed, bootstrap, n_tasks, n_timings; program,
//                hdf5, openblas, compiler: versions of what wrote it; made_by: program, machine and libraries of every
//                evaluation in it, a JSON list (data/file/made_by.h); files of before have none
//   /config      the resolved configuration of every evaluation in it, YAML
//   /budgets     fractions of the base's FLOPs
//   /systems/    name, family, hash, base (row it is compared with), paper_reduction, lookups (numbers read from
//                tables for a predicted token)  [S]; tokenizer [S], "HASH/CUTS" of what it was asked with, "": nothing (lookups and
//                tokenizer are missing in older files: not known)
//   /tasks/i/    attributes name, split, kind, file, hash, shots, n_items, n_units, prompt_tokens, n_skipped, n_cut
//                (items too long for a context; missing in older files: 0), chat and shots_once (0 or 1; missing: 0); metrics [M];
//                better [M], "higher" or "lower" (missing in older files: higher);
//                asked (0 or 1), not_finite (only where some are: what was not, else ""), flops, exact_reduction [S]; values [S, M, N];
//                flops_computed, flops_looked_up [S] (of what depends on the token alone; missing in older files: not known);
//                weights [N] of items in weighted means (only where they are not all alike);
//                redefined [S] (of programs, see kv_outcome; counted anew from the records when it is read);
//                accuracy, low, high, retention, retention_low, retention_high, p_value [S, M];
//                records/s: the records of system s as JSON lines, bytes;
//                item_lengths, …, only where the items are a grid: see eval/results/grid_h5.h
//   /ttft/j/     attributes prompt_tokens, batch_size, repeats; seconds, spread, reduction, flops [S];
//                samples [S, repeats]
//   /analysis    predicted caches, only where they were looked at: see eval/results/analysis_h5.h
#include "data/file/h5.h"
#include "data/file/made_by.h"
#include "eval/results/analysis_h5.h"
#include "eval/results/grid_h5.h"
#include "eval/results/results.h"

#include <cblas.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NAME_SIZE = 64, VERSION = 3 };
static const char format_name[] = "kv-results";

struct writer {
    const kv_results *results;
    hid_t file;
    char group[NAME_SIZE]; // where names without a leading slash belong
    kv_error *err;
    kv_status status; // the first failure; nothing more is written after it
};

static void note(struct writer *w, kv_status status) {
    if (w->status == KV_OK) w->status = status;
}

static const char *full_name(const struct writer *w, const char *name, char out[2 * NAME_SIZE]) {
    snprintf(out, 2 * NAME_SIZE, "%s/%s", w->group, name);
    return out;
}

static void write_array(struct writer *w, const char *name, hid_t type, const void *values, int n_dims,
                        const int64_t *shape) {
    char path[2 * NAME_SIZE];
    if (w->status == KV_OK)
        note(w, kv_h5_write(w->file, full_name(w, name, path), type, values, n_dims, shape, w->err));
}

static void write_doubles(struct writer *w, const char *name, const double *values, int64_t n) {
    write_array(w, name, H5T_NATIVE_DOUBLE, values, 1, &n);
}

static void write_strings(struct writer *w, const char *name, const char *const *texts, int64_t n) {
    char path[2 * NAME_SIZE];
    if (w->status == KV_OK) note(w, kv_h5_write_strings(w->file, full_name(w, name, path), texts, n, w->err));
}

static void set_string(struct writer *w, const char *name, const char *value) {
    if (w->status == KV_OK)
        note(w, kv_h5_set_string(w->file, *w->group ? w->group : "/", name, value, w->err));
}

static void set_int(struct writer *w, const char *name, int64_t value) {
    if (w->status == KV_OK) note(w, kv_h5_set_i64(w->file, *w->group ? w->group : "/", name, value, w->err));
}

static void set_real(struct writer *w, const char *name, double value) {
    if (w->status == KV_OK) note(w, kv_h5_set_f64(w->file, *w->group ? w->group : "/", name, value, w->err));
}

// Zeroed room for n elements.
static void *room(struct writer *w, int64_t n, size_t size) {
    void *memory = w->status == KV_OK ? calloc((size_t)n + 1, size) : NULL;
    if (!memory && w->status == KV_OK)
        note(w, kv_fail(w->err, KV_ERR_MEMORY, "out of memory for results.h5"));
    return memory;
}

// ---- Parts ---------------------------------------------------------------------------------------------

// An attribute holds 64 kB: of very many joined evaluations none is named.
static void write_made_by(struct writer *w) {
    json_t *list = kv_made_by_list(w->results->made_by, w->results->n_made_by);
    char *text = list ? json_dumps(list, JSON_COMPACT) : NULL;
    if (text && w->results->n_made_by > 0 && strlen(text) < KV_MADE_BY_MOST) set_string(w, "made_by", text);
    free(text);
    json_decref(list);
}

static void write_head(struct writer *w) {
    unsigned major, minor, release;
    char hdf5[48] = "";
    if (H5get_libversion(&major, &minor, &release) >= 0)
        snprintf(hdf5, sizeof hdf5, "%u.%u.%u", major, minor, release);
    const kv_results *r = w->results;
    set_string(w, "format", format_name);
    set_int(w, "version", VERSION);
    set_string(w, "program", KV_VERSION);
    set_string(w, "hdf5", hdf5);
    set_string(w, "openblas", openblas_get_config());
    set_string(w, "compiler", __VERSION__);
    write_made_by(w);
    set_int(w, "seed", (int64_t)r->seed);
    set_int(w, "bootstrap", r->bootstrap);
    set_int(w, "n_tasks", r->n_tasks);
    set_int(w, "n_timings", r->n_timings);
    write_strings(w, "config", (const char *const *)r->configs, r->n_configs);
    write_doubles(w, "budgets", r->budgets, r->n_budgets);
}

static void write_systems(struct writer *w) {
    const int64_t n = w->results->n_systems;
    const char **texts = room(w, 4 * n, sizeof *texts);
    int64_t *base = room(w, n, sizeof *base);
    double *paper = room(w, 2 * n, sizeof *paper);
    for (int64_t i = 0; w->status == KV_OK && i < n; i++) {
        const kv_result_system *s = &w->results->systems[i];
        texts[i] = s->name, texts[n + i] = s->family, texts[2 * n + i] = s->hash;
        texts[3 * n + i] = s->tokenizer;
        base[i] = s->base, paper[i] = s->paper_reduction, paper[n + i] = s->lookups;
    }
    if (w->status == KV_OK) {
        snprintf(w->group, sizeof w->group, "/systems");
        write_strings(w, "name", texts, n);
        write_strings(w, "family", texts + n, n);
        write_strings(w, "hash", texts + 2 * n, n);
        write_strings(w, "tokenizer", texts + 3 * n, n);
        write_array(w, "base", H5T_NATIVE_INT64, base, 1, &n);
        write_doubles(w, "paper_reduction", paper, n);
        write_doubles(w, "lookups", paper + n, n);
    }
    free(texts);
    free(base);
    free(paper);
}

static void write_figures(struct writer *w, int64_t task) {
    static const char *const names[] = {"accuracy",       "low",    "high", "retention", "retention_low",
                                        "retention_high", "p_value"};
    enum { N_FIGURES = sizeof names / sizeof *names };
    const int64_t n = w->results->n_systems, n_metrics = w->results->tasks[task].n_metrics;
    const int64_t shape[2] = {n, n_metrics};
    double *numbers = room(w, N_FIGURES * n * n_metrics, sizeof *numbers);
    for (int64_t s = 0; numbers && s < n; s++)
        for (int64_t m = 0; m < n_metrics; m++) {
            const kv_figure *f = &kv_results_outcome(w->results, s, task)->figures[m];
            const double values[N_FIGURES] = {
                f->accuracy, f->low, f->high, f->retention, f->retention_low, f->retention_high, f->p_value};
            for (int i = 0; i < N_FIGURES; i++) numbers[(i * n + s) * n_metrics + m] = values[i];
        }
    for (int i = 0; numbers && i < N_FIGURES; i++)
        write_array(w, names[i], H5T_NATIVE_DOUBLE, numbers + i * n * n_metrics, 2, shape);
    free(numbers);
}

static void write_values(struct writer *w, int64_t task) {
    const kv_result_task *t = &w->results->tasks[task];
    const int64_t n = w->results->n_systems, size = t->n_metrics * t->n_items;
    const int64_t shape[3] = {n, t->n_metrics, t->n_items};
    double *values = room(w, n * size, sizeof *values), *costs = room(w, 4 * n, sizeof *costs);
    uint8_t *asked = room(w, n, 1);
    for (int64_t s = 0; w->status == KV_OK && s < n; s++) {
        const kv_outcome *o = kv_results_outcome(w->results, s, task);
        asked[s] = o->values != NULL;
        costs[s] = o->flops, costs[n + s] = o->exact_reduction;
        costs[2 * n + s] = o->flops_computed, costs[3 * n + s] = o->flops_looked_up;
        for (int64_t i = 0; i < size; i++) values[s * size + i] = o->values ? o->values[i] : NAN;
    }
    if (w->status == KV_OK) {
        write_array(w, "asked", H5T_NATIVE_UINT8, asked, 1, &n);
        write_doubles(w, "flops", costs, n);
        write_doubles(w, "exact_reduction", costs + n, n);
        write_doubles(w, "flops_computed", costs + 2 * n, n);
        write_doubles(w, "flops_looked_up", costs + 3 * n, n);
        write_array(w, "values", H5T_NATIVE_DOUBLE, values, 3, shape);
    }
    free(values);
    free(costs);
    free(asked);
}

// What was asked and gave no numbers counts as not asked for who does not look here.
static void write_not_finite(struct writer *w, int64_t task) {
    const int64_t n = w->results->n_systems;
    const char **texts = room(w, n, sizeof *texts);
    bool any = false;
    for (int64_t s = 0; texts && s < n; s++) {
        texts[s] = kv_results_outcome(w->results, s, task)->not_finite;
        any = any || texts[s];
        if (!texts[s]) texts[s] = "";
    }
    if (any) write_strings(w, "not_finite", texts, n);
    free(texts);
}

// Of tasks whose answers are programs.
static void write_redefined(struct writer *w, int64_t task) {
    const int64_t n = w->results->n_systems;
    if (!kv_task_runs_programs(&w->results->tasks[task])) return;
    int64_t *counts = room(w, n, sizeof *counts);
    for (int64_t s = 0; counts && s < n; s++) counts[s] = kv_results_outcome(w->results, s, task)->redefined;
    if (counts) write_array(w, "redefined", H5T_NATIVE_INT64, counts, 1, &n);
    free(counts);
}

static void write_records(struct writer *w, int64_t task, int64_t system) {
    const kv_outcome *o = kv_results_outcome(w->results, system, task);
    if (!o->records) return;
    char *text = NULL, name[NAME_SIZE];
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    for (int64_t u = 0; out && u < w->results->tasks[task].n_units; u++) fprintf(out, "%s\n", o->records[u]);
    const bool ok = out && !ferror(out);
    if (!out || fclose(out) != 0 || !ok)
        note(w, kv_fail(w->err, KV_ERR_MEMORY, "out of memory for results.h5"));
    snprintf(name, sizeof name, "records/%lld", (long long)system);
    const int64_t n = (int64_t)size;
    write_array(w, name, H5T_NATIVE_UINT8, text, 1, &n);
    free(text);
}

static void write_task(struct writer *w, int64_t task) {
    const kv_result_task *t = &w->results->tasks[task];
    const char *metrics[KV_MAX_METRICS];
    for (int m = 0; m < t->n_metrics; m++) metrics[m] = t->metrics[m];
    snprintf(w->group, sizeof w->group, "/tasks/%lld", (long long)task);
    write_strings(w, "metrics", metrics, t->n_metrics);
    for (int m = 0; m < t->n_metrics; m++) metrics[m] = kv_metric_better(kv_metric_of(t->metrics[m]));
    write_strings(w, "better", metrics, t->n_metrics);
    set_string(w, "name", t->name);
    set_string(w, "split", t->split);
    set_string(w, "kind", t->kind);
    set_string(w, "file", t->file);
    set_string(w, "hash", t->hash);
    set_int(w, "shots", t->shots);
    set_int(w, "shots_once", t->shots_once);
    set_int(w, "n_items", t->n_items);
    set_int(w, "n_units", t->n_units);
    set_int(w, "n_skipped", t->n_skipped);
    set_int(w, "n_cut", t->n_cut);
    set_int(w, "chat", t->chat);
    set_real(w, "prompt_tokens", t->prompt_tokens);
    if (t->weights) write_doubles(w, "weights", t->weights, t->n_items);
    write_values(w, task);
    write_not_finite(w, task);
    write_redefined(w, task);
    write_figures(w, task);
    for (int64_t s = 0; s < w->results->n_systems; s++) write_records(w, task, s);
    if (w->status == KV_OK) note(w, kv_grid_write_h5(w->results, task, w->file, w->err));
}

static void write_timing(struct writer *w, int64_t index) {
    const kv_timing *t = &w->results->timings[index];
    const int64_t n = w->results->n_systems, shape[2] = {n, t->repeats};
    snprintf(w->group, sizeof w->group, "/ttft/%lld", (long long)index);
    write_doubles(w, "seconds", t->seconds, n);
    write_doubles(w, "spread", t->spread, n);
    write_doubles(w, "reduction", t->reduction, n);
    write_doubles(w, "flops", t->flops, n);
    write_array(w, "samples", H5T_NATIVE_DOUBLE, t->samples, 2, shape);
    set_int(w, "prompt_tokens", t->prompt_tokens);
    set_int(w, "batch_size", t->batch_size);
    set_int(w, "repeats", t->repeats);
}

kv_status kv_results_write_h5(const kv_results *results, const char *path, kv_error *err) {
    struct writer w = {.results = results, .err = err};
    w.status = kv_h5_create(path, &w.file, err);
    if (w.status != KV_OK) return w.status;
    write_head(&w);
    write_systems(&w);
    for (int64_t t = 0; t < results->n_tasks; t++) write_task(&w, t);
    for (int64_t i = 0; i < results->n_timings; i++) write_timing(&w, i);
    if (w.status == KV_OK)
        note(&w, kv_analysis_write_h5(&results->analysis, results->n_systems, w.file, err));
    kv_error close_error = {0};
    const kv_status closed = kv_h5_close(&w.file, &close_error);
    if (w.status == KV_OK && closed != KV_OK && err) *err = close_error;
    note(&w, closed);
    return w.status;
}

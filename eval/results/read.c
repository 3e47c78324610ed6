// Reads what eval/results/h5.c writes; every size is checked against the others before it is used.
#include "data/file/h5.h"
#include "data/file/json.h"
#include "data/file/made_by.h"
#include "data/file/mistaken.h"
#include "eval/results/analysis_h5.h"
#include "eval/results/grid_h5.h"
#include "eval/results/results.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NAME_SIZE = 64, TEXT_SIZE = 4096, OLDEST = 2, VERSION = 3, MOST_ROWS = 4096, MOST_ITEMS = 1 << 24 };
static const int64_t most_values = (int64_t)1 << 32, most_bytes = (int64_t)1 << 36;

struct reader {
    const char *path;
    kv_results *results;
    hid_t file;
    char group[NAME_SIZE];
    int64_t version; // 2 or 3, see eval/results/h5.c
    kv_error *err;
    kv_status status;
};

static bool ok(const struct reader *r) {
    return r->status == KV_OK;
}

static void wrong(struct reader *r, const char *name, const char *expected) {
    if (ok(r))
        r->status =
            kv_fail(r->err, KV_ERR_FORMAT, "%s: '%s/%s': expected %s", r->path, r->group, name, expected);
}

static void out_of_memory(struct reader *r) {
    if (ok(r)) r->status = kv_fail(r->err, KV_ERR_MEMORY, "%s: out of memory", r->path);
}

static const char *full_name(const struct reader *r, const char *name, char out[2 * NAME_SIZE]) {
    snprintf(out, 2 * NAME_SIZE, "%s/%s", r->group, name);
    return out;
}

// `n` numbers; NULL after a failure.
static double *read_doubles(struct reader *r, const char *name, int64_t n) {
    char path[2 * NAME_SIZE];
    double *values = NULL;
    int n_dims;
    int64_t shape[8], found = 1;
    if (!ok(r)) return NULL;
    r->status =
        kv_h5_read_f64(r->file, full_name(r, name, path), most_values, &values, &n_dims, shape, r->err);
    for (int i = 0; ok(r) && i < n_dims; i++) found *= shape[i];
    if (ok(r) && found != n) wrong(r, name, "as many numbers as there are systems, metrics and items");
    if (ok(r)) return values;
    free(values);
    return NULL;
}

// Numbers that older files do not have: NULL, which is no failure.
static double *read_if_there(struct reader *r, const char *name, int64_t n) {
    char path[2 * NAME_SIZE];
    return ok(r) && kv_h5_exists(r->file, full_name(r, name, path)) ? read_doubles(r, name, n) : NULL;
}

static void copy_doubles(struct reader *r, const char *name, double *to, int64_t n) {
    double *values = read_doubles(r, name, n);
    if (values) memcpy(to, values, (size_t)n * sizeof *to);
    free(values);
}

static int64_t get_int(struct reader *r, const char *name, int64_t min, int64_t max) {
    int64_t value = min;
    if (ok(r)) r->status = kv_h5_attr_i64(r->file, *r->group ? r->group : "/", name, &value, r->err);
    if (ok(r) && (value < min || value > max)) wrong(r, name, "a number within bounds");
    return ok(r) ? value : min;
}

// 0 where there is no such attribute.
static int64_t get_count(struct reader *r, const char *name) {
    int64_t value;
    if (!ok(r) || kv_h5_attr_i64(r->file, r->group, name, &value, NULL) != KV_OK) return 0;
    return get_int(r, name, 0, MOST_ITEMS);
}

static char *get_text(struct reader *r, const char *name) {
    char text[TEXT_SIZE] = "", *copy;
    if (!ok(r)) return NULL;
    r->status = kv_h5_attr_string(r->file, *r->group ? r->group : "/", name, text, sizeof text, r->err);
    copy = ok(r) ? strdup(text) : NULL;
    if (!copy) out_of_memory(r);
    return copy;
}

static void get_hash(struct reader *r, char hash[17]) {
    char *text = get_text(r, "hash");
    if (text) snprintf(hash, 17, "%s", text);
    free(text);
}

// Strings [n]; n < 0: any number up to MOST_ROWS, *found of them.
static char **read_strings(struct reader *r, const char *name, int64_t n, int64_t *found) {
    char path[2 * NAME_SIZE], **strings = NULL;
    *found = 0;
    if (!ok(r)) return NULL;
    r->status = kv_h5_read_strings(r->file, full_name(r, name, path), MOST_ROWS, &strings, found, r->err);
    if (ok(r) && n >= 0 && *found != n) wrong(r, name, "as many texts as there are rows");
    if (ok(r)) return strings;
    kv_h5_free_strings(strings, *found);
    return NULL;
}

// ---- Parts ---------------------------------------------------------------------------------------------

// Older files do not say it.
static void read_tokenizers(struct reader *r) {
    char path[2 * NAME_SIZE];
    int64_t found = 0;
    if (!ok(r) || !kv_h5_exists(r->file, full_name(r, "tokenizer", path))) return;
    char **texts = read_strings(r, "tokenizer", r->results->n_systems, &found);
    for (int64_t i = 0; texts && i < found; i++)
        snprintf(r->results->systems[i].tokenizer, sizeof r->results->systems[i].tokenizer, "%s", texts[i]);
    kv_h5_free_strings(texts, found);
}

static void read_systems(struct reader *r) {
    kv_results *all = r->results;
    static const char *const names[] = {"name", "family", "hash"};
    char **texts[3] = {0};
    int64_t n = all->n_systems, found[3] = {0};
    double *base, *paper;
    snprintf(r->group, sizeof r->group, "/systems");
    for (int i = 0; i < 3; i++) texts[i] = read_strings(r, names[i], n, &found[i]);
    base = read_doubles(r, "base", n);
    paper = read_doubles(r, "paper_reduction", n);
    double *lookups = read_if_there(r, "lookups", n);
    for (int64_t i = 0; ok(r) && i < n; i++) {
        kv_result_system *s = &all->systems[i];
        if (!(base[i] >= 0 && base[i] < (double)n)) {
            wrong(r, "base", "numbers of systems");
            break;
        }
        s->base = (int64_t)base[i], s->paper_reduction = paper[i];
        if (lookups) s->lookups = lookups[i];
        s->name = texts[0][i], s->family = texts[1][i]; // taken over
        texts[0][i] = texts[1][i] = NULL;
        snprintf(s->hash, sizeof s->hash, "%s", texts[2][i]);
    }
    for (int i = 0; i < 3; i++) kv_h5_free_strings(texts[i], found[i]);
    read_tokenizers(r);
    free(base);
    free(paper);
    free(lookups);
}

// JSON lines into one text a unit.
static void read_records(struct reader *r, kv_outcome *outcome, int64_t system, int64_t n_units) {
    char name[NAME_SIZE], path[2 * NAME_SIZE];
    uint8_t *bytes = NULL;
    int64_t size = 0, unit = 0;
    snprintf(name, sizeof name, "records/%lld", (long long)system);
    if (!ok(r)) return;
    r->status = kv_h5_read_u8(r->file, full_name(r, name, path), most_bytes, &bytes, &size, r->err);
    outcome->records = ok(r) ? calloc((size_t)n_units + 1, sizeof *outcome->records) : NULL;
    if (!outcome->records) out_of_memory(r);
    for (const char *line = (const char *)bytes, *end = line + size; ok(r) && line < end; unit++) {
        const char *newline = memchr(line, '\n', (size_t)(end - line));
        if (!newline || unit == n_units) {
            wrong(r, name, "as many lines as there are units");
            break;
        }
        outcome->records[unit] = strndup(line, (size_t)(newline - line));
        if (!outcome->records[unit]) out_of_memory(r);
        line = newline + 1;
    }
    if (ok(r) && unit != n_units) wrong(r, name, "as many lines as there are units");
    free(bytes);
}

static void read_outcomes(struct reader *r, int64_t task) {
    kv_results *all = r->results;
    const kv_result_task *t = &all->tasks[task];
    const int64_t n = all->n_systems, size = t->n_metrics * t->n_items;
    double *flops = read_doubles(r, "flops", n), *asked = read_doubles(r, "asked", n);
    double *values = read_doubles(r, "values", n * size);
    double *computed = read_if_there(r, "flops_computed", n),
           *looked_up = read_if_there(r, "flops_looked_up", n);
    for (int64_t s = 0; ok(r) && s < n; s++) {
        kv_outcome *o = kv_results_outcome(all, s, task);
        o->flops = flops[s];
        if (computed) o->flops_computed = computed[s];
        if (looked_up) o->flops_looked_up = looked_up[s];
        if (asked[s] == 0) continue;
        o->values = malloc((size_t)size * sizeof *o->values + 1);
        if (!o->values) out_of_memory(r);
        if (o->values) memcpy(o->values, values + s * size, (size_t)size * sizeof *o->values);
        read_records(r, o, s, t->n_units);
    }
    free(flops);
    free(asked);
    free(values);
    free(computed);
    free(looked_up);
}

static void read_not_finite(struct reader *r, int64_t task) {
    kv_results *all = r->results;
    char path[2 * NAME_SIZE];
    int64_t found;
    if (!ok(r) || !kv_h5_exists(r->file, full_name(r, "not_finite", path))) return;
    char **texts = read_strings(r, "not_finite", all->n_systems, &found);
    for (int64_t s = 0; ok(r) && s < found; s++) {
        kv_outcome *o = kv_results_outcome(all, s, task);
        if (!*texts[s] || o->values) continue;
        o->not_finite = texts[s]; // taken over
        texts[s] = NULL;
    }
    kv_h5_free_strings(texts, found);
}

static void read_weights(struct reader *r, kv_result_task *t) {
    char path[2 * NAME_SIZE];
    if (!ok(r) || !kv_h5_exists(r->file, full_name(r, "weights", path))) return;
    t->weights = read_doubles(r, "weights", t->n_items);
    for (int64_t i = 0; t->weights && i < t->n_items; i++)
        if (!isfinite(t->weights[i]) || t->weights[i] < 0) wrong(r, "weights", "numbers from 0");
}

static void read_task(struct reader *r, int64_t task) {
    kv_result_task *t = &r->results->tasks[task];
    int64_t n_metrics;
    snprintf(r->group, sizeof r->group, "/tasks/%lld", (long long)task);
    t->name = get_text(r, "name"), t->split = get_text(r, "split");
    t->kind = get_text(r, "kind"), t->file = get_text(r, "file");
    get_hash(r, t->hash);
    t->shots = get_int(r, "shots", 0, MOST_ITEMS);
    t->n_items = get_int(r, "n_items", 1, MOST_ITEMS);
    t->n_units = get_int(r, "n_units", 1, MOST_ITEMS);
    t->n_skipped = get_count(r, "n_skipped"), t->n_cut = get_count(r, "n_cut");
    t->chat = get_count(r, "chat") > 0, t->shots_once = get_count(r, "shots_once") > 0;
    if (ok(r)) r->status = kv_h5_attr_f64(r->file, r->group, "prompt_tokens", &t->prompt_tokens, r->err);
    char **metrics = read_strings(r, "metrics", -1, &n_metrics);
    if (ok(r) && (n_metrics < 1 || n_metrics > KV_MAX_METRICS)) wrong(r, "metrics", "1 to 8 names");
    for (int m = 0; ok(r) && m < n_metrics; m++) {
        const bool per_byte = r->version == 2 && !strcmp(metrics[m], "acc_norm");
        snprintf(t->metrics[m], KV_METRIC_NAME, "%s", per_byte ? "acc_bytes" : metrics[m]);
    }
    if (ok(r)) t->n_metrics = (int)n_metrics;
    kv_h5_free_strings(metrics, n_metrics);
    read_weights(r, t);
    read_outcomes(r, task);
    read_not_finite(r, task);
    if (ok(r)) r->status = kv_grid_read_h5(r->path, r->file, task, r->results, r->err);
}

static void read_timing(struct reader *r, int64_t index) {
    const int64_t n = r->results->n_systems;
    snprintf(r->group, sizeof r->group, "/ttft/%lld", (long long)index);
    const int64_t prompt_tokens = get_int(r, "prompt_tokens", 1, INT32_MAX);
    const int64_t batch_size = get_int(r, "batch_size", 1, INT32_MAX);
    const int64_t repeats = get_int(r, "repeats", 1, MOST_ITEMS);
    if (!ok(r)) return;
    kv_timing *t = kv_results_add_timing(r->results, prompt_tokens, batch_size, repeats);
    if (!t) {
        out_of_memory(r);
        return;
    }
    copy_doubles(r, "seconds", t->seconds, n);
    copy_doubles(r, "spread", t->spread, n);
    copy_doubles(r, "reduction", t->reduction, n);
    copy_doubles(r, "flops", t->flops, n);
    copy_doubles(r, "samples", t->samples, n * repeats);
}

// Older files do not say; what is no such list is nothing to fail for.
static void read_made_by(struct reader *r) {
    char *text = calloc(1, KV_MADE_BY_MOST);
    const bool known =
        text && kv_h5_attr_string(r->file, "/", "made_by", text, KV_MADE_BY_MOST, NULL) == KV_OK;
    json_t *list = known ? kv_json_parse(text, strlen(text), 0, NULL) : NULL;
    const size_t n = json_array_size(list);
    r->results->made_by = calloc(n + 1, sizeof *r->results->made_by);
    for (size_t i = 0; r->results->made_by && i < n; i++) {
        char *one = json_dumps(json_array_get(list, i), JSON_COMPACT);
        if (one) r->results->made_by[r->results->n_made_by++] = one;
    }
    json_decref(list);
    free(text);
}

// Sizes first, so that the arrays can be made.
static void read_head(struct reader *r, int64_t *n_timings) {
    char format[32] = "";
    char **names;
    int64_t n_systems;
    if (kv_h5_attr_string(r->file, "/", "format", format, sizeof format, NULL) != KV_OK ||
        strcmp(format, "kv-results") != 0) {
        r->status = kv_fail(r->err, KV_ERR_FORMAT,
                            "%s: not the results of an evaluation (kveval's results.h5)", r->path);
        return;
    }
    r->version = get_int(r, "version", 0, INT32_MAX);
    if (ok(r))
        r->status = kv_check_version(r->path, KV_FILE_RESULTS, r->version, OLDEST, VERSION,
                                     "kveval makes them again", r->err);
    const int64_t n_tasks = get_int(r, "n_tasks", 0, MOST_ROWS);
    *n_timings = get_int(r, "n_timings", 0, MOST_ROWS);
    const int64_t seed = get_int(r, "seed", INT64_MIN, INT64_MAX);
    const int64_t bootstrap = get_int(r, "bootstrap", 1, INT32_MAX);
    names = read_strings(r, "systems/name", -1, &n_systems);
    kv_h5_free_strings(names, n_systems);
    if (ok(r) && n_systems < 1) wrong(r, "systems/name", "at least one system");
    if (ok(r)) r->status = kv_results_init(r->results, n_systems, n_tasks, r->err);
    if (!ok(r)) return;
    r->results->seed = (uint64_t)seed, r->results->bootstrap = bootstrap;
    r->results->configs = read_strings(r, "config", -1, &r->results->n_configs);
    if (ok(r)) read_made_by(r);
    int n_dims;
    int64_t shape[8];
    if (ok(r))
        r->status =
            kv_h5_read_f64(r->file, "/budgets", MOST_ROWS, &r->results->budgets, &n_dims, shape, r->err);
    if (ok(r)) r->results->n_budgets = n_dims == 1 ? shape[0] : 0;
}

kv_status kv_results_read_h5(const char *path, kv_results *results, kv_error *err) {
    struct reader r = {.path = path, .results = results, .err = err};
    int64_t n_timings = 0;
    *results = (kv_results){0};
    r.status = kv_h5_open(path, &r.file, err);
    if (ok(&r)) read_head(&r, &n_timings);
    if (ok(&r)) read_systems(&r);
    for (int64_t t = 0; ok(&r) && t < results->n_tasks; t++) read_task(&r, t);
    for (int64_t i = 0; ok(&r) && i < n_timings; i++) read_timing(&r, i);
    if (ok(&r)) r.status = kv_analysis_read_h5(path, r.file, results->n_systems, &results->analysis, err);
    kv_h5_close(&r.file, NULL);
    if (ok(&r)) r.status = kv_results_derive(results, err);
    if (!ok(&r)) kv_results_free(results);
    return kv_mistaken(path, KV_FILE_RESULTS, r.status, err);
}

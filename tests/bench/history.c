// Lines of JSON: one is added whole or not at all, and those of the same CPU are compared with.
#include "tests/bench/history.h"

#include "data/file/json.h"
#include "data/file/whole_file.h"
#include "tests/bench/load.h"

#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double worse_than = 0.9; // of the median before

// ---- Files ---------------------------------------------------------------------------------------------

static kv_status copy_old(const char *path, FILE *to, kv_error *err) {
    char block[1 << 16];
    size_t n;
    bool line_ended = true;
    FILE *old = fopen(path, "r");
    if (!old) return errno == ENOENT ? KV_OK : kv_fail(err, KV_ERR_IO, "%s: %s", path, strerror(errno));
    while ((n = fread(block, 1, sizeof block, old)) > 0) {
        fwrite(block, 1, n, to);
        line_ended = block[n - 1] == '\n';
    }
    const bool read = !ferror(old);
    fclose(old);
    if (!read) return kv_fail(err, KV_ERR_IO, "%s: cannot be read", path);
    if (!line_ended) fputc('\n', to);
    return KV_OK;
}

kv_status bench_history_append(const char *path, const json_t *record, kv_error *err) {
    kv_whole_file file;
    kv_status status = kv_whole_file_begin(&file, path, err);
    if (status) return status;
    FILE *to = fopen(file.path, "w");
    if (!to) {
        status = kv_fail(err, KV_ERR_IO, "%s: %s", path, strerror(errno));
        return kv_whole_file_end(&file, status, err);
    }
    status = copy_old(path, to, err);
    json_t *copy = json_deep_copy(record);
    if (!status && !kv_json_put(to, copy, JSON_COMPACT | JSON_REAL_PRECISION(6)))
        status = kv_fail(err, KV_ERR_IO, "%s: cannot be written", path);
    else if (status)
        json_decref(copy);
    if (fclose(to) && !status) status = kv_fail(err, KV_ERR_IO, "%s: %s", path, strerror(errno));
    return kv_whole_file_end(&file, status, err);
}

static kv_status add_line(void *context, const json_t *entry, const char *where, kv_error *err) {
    if (!json_is_object(entry)) return kv_fail(err, KV_ERR_FORMAT, "%s: expected a record of kvbench", where);
    if (json_integer_value(json_object_get(entry, "record")) != BENCH_RECORD)
        return KV_OK; // of another layout
    return json_array_append_new(context, json_deep_copy(entry))
               ? kv_fail(err, KV_ERR_MEMORY, "out of memory")
               : KV_OK;
}

static kv_status read_file(const char *path, json_t *records, kv_error *err) {
    char *content = NULL;
    size_t size = 0;
    kv_status status = KV_OK;
    FILE *file = fopen(path, "r"), *memory = open_memstream(&content, &size);
    if (!file || !memory) status = kv_fail(err, KV_ERR_IO, "%s: %s", path, strerror(errno));
    for (int c; !status && (c = fgetc(file)) != EOF;) fputc(c, memory);
    if (file) fclose(file);
    if (memory) fclose(memory);
    if (!status) status = kv_json_lines(path, content, size, 0, "record of kvbench", add_line, records, err);
    free(content);
    return status;
}

kv_status bench_history_read(const char *folder, json_t **records, kv_error *err) {
    struct dirent **names = NULL;
    const int n = scandir(folder, &names, NULL, alphasort);
    kv_status status = KV_OK;
    *records = json_array();
    for (int i = 0; i < n; i++) {
        char path[4096];
        const char *dot = strrchr(names[i]->d_name, '.');
        snprintf(path, sizeof path, "%s/%s", folder, names[i]->d_name);
        if (!status && dot && !strcmp(dot, ".jsonl")) status = read_file(path, *records, err);
        free(names[i]);
    }
    free(names);
    return status;
}

// ---- Comparing -----------------------------------------------------------------------------------------

static const char *text_of(const json_t *record, const char *key) {
    const char *text = json_string_value(json_object_get(record, key));
    return text ? text : "";
}

// Whether ratios of two records can be compared.
static bool is_like(const json_t *a, const json_t *b) {
    const json_t *m = json_object_get(a, "machine"), *o = json_object_get(b, "machine");
    return !strcmp(text_of(m, "cpu"), text_of(o, "cpu")) && !strcmp(text_of(a, "isa"), text_of(b, "isa")) &&
           json_equal(json_object_get(m, "threads"), json_object_get(o, "threads")) &&
           json_equal(json_object_get(a, "quick"), json_object_get(b, "quick"));
}

static const json_t *phase_of(const json_t *record, const char *name) {
    size_t i;
    const json_t *phase;
    json_array_foreach(json_object_get(record, "phases"), i, phase) {
        if (!strcmp(text_of(phase, "name"), name)) return phase;
    }
    return NULL;
}

// "fraction", or one of a phase's other ratios; NAN where there is none.
static double ratio_of(const json_t *phase, const char *name) {
    const json_t *value = json_object_get(phase, name);
    if (!value) value = json_object_get(json_object_get(phase, "ratios"), name);
    return json_is_number(value) ? json_number_value(value) : NAN;
}

static int by_value(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

// Over those records that are like `like` and have it; NAN of none.
static double median_of(const json_t *records, const json_t *like, const char *phase, const char *ratio) {
    size_t i, n = 0;
    const json_t *record;
    double *values = malloc((json_array_size(records) + 1) * sizeof *values);
    if (!values) return NAN;
    json_array_foreach(records, i, record) {
        const double value = is_like(record, like) ? ratio_of(phase_of(record, phase), ratio) : NAN;
        if (!isnan(value)) values[n++] = value;
    }
    qsort(values, n, sizeof *values, by_value);
    const double median = n ? (values[(n - 1) / 2] + values[n / 2]) / 2 : NAN;
    free(values);
    return median;
}

struct comparison {
    const json_t *records, *history, *like;
    FILE *out;
    int compared, worse;
};

static void compare(struct comparison *c, const char *phase, const char *ratio) {
    const double now = median_of(c->records, c->like, phase, ratio),
                 before = median_of(c->history, c->like, phase, ratio);
    if (isnan(now) || isnan(before)) return;
    c->compared++;
    if (now >= worse_than * before) return;
    c->worse++;
    const double others = median_of(c->records, c->like, phase, "others");
    fprintf(c->out, "worse: %s: %s %.3f, %.0f %% below the %.3f of the history", phase, ratio, now,
            100 * (1 - now / before), before);
    if (others > BENCH_DISTURBED)
        fprintf(c->out, " (others took %.0f %% of the processors meanwhile)", 100 * others);
    fputc('\n', c->out);
}

int bench_check(const json_t *records, const json_t *history, FILE *out) {
    const json_t *first = json_array_get(records, 0), *phase, *value;
    struct comparison c = {.records = records, .history = history, .like = first, .out = out};
    size_t i, like = 0;
    const char *name;
    json_array_foreach(history, i, value) like += is_like(value, first);
    if (like == 0) {
        fprintf(
            out,
            "nothing to compare with: no record of %s, %s, %lld threads in the history; --json FILE there makes one\n",
            text_of(json_object_get(first, "machine"), "cpu"), text_of(first, "isa"),
            (long long)json_integer_value(json_object_get(json_object_get(first, "machine"), "threads")));
        return 0;
    }
    json_array_foreach(json_object_get(first, "phases"), i, phase) {
        compare(&c, text_of(phase, "name"), "fraction");
        json_t *ratio;
        json_object_foreach(json_object_get(phase, "ratios"), name, ratio)
            compare(&c, text_of(phase, "name"), name);
    }
    fprintf(
        out,
        "compared %d ratios (medians of %zu run%s) with %zu record%s of this CPU and %s: %d more than 10 %% worse\n",
        c.compared, json_array_size(records), json_array_size(records) == 1 ? "" : "s", like,
        like == 1 ? "" : "s", text_of(first, "isa"), c.worse);
    return c.worse;
}

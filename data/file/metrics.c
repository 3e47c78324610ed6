#include "data/file/metrics.h"

#include "core/text.h"
#include "data/file/content.h"
#include "data/file/json.h"
#include "data/file/mistaken.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const size_t max_bytes = (size_t)1 << 32;
enum { MAX_COLUMNS = 1024 };

// ---- Tables --------------------------------------------------------------------------------------------

static kv_metrics_column *find(const kv_metrics_table *table, const char *name) {
    for (int i = 0; i < table->n_columns; i++)
        if (strcmp(table->columns[i].name, name) == 0) return &table->columns[i];
    return NULL;
}

static kv_status out_of_memory(kv_error *err) {
    return kv_fail(err, KV_ERR_MEMORY, "out of memory for the metrics of a run");
}

static kv_status grow(kv_metrics_table *table, kv_error *err) {
    if (table->n < table->capacity) return KV_OK;
    const int64_t capacity = table->capacity ? 2 * table->capacity : 256;
    int64_t *steps = realloc(table->steps, (size_t)capacity * sizeof *steps);
    if (!steps) return out_of_memory(err);
    table->steps = steps;
    for (int i = 0; i < table->n_columns; i++) {
        double *values = realloc(table->columns[i].values, (size_t)capacity * sizeof *values);
        if (!values) return out_of_memory(err);
        table->columns[i].values = values;
    }
    table->capacity = capacity;
    return KV_OK;
}

static kv_status add_column(kv_metrics_table *table, const char *name, kv_error *err) {
    kv_metrics_column *columns =
        realloc(table->columns, ((size_t)table->n_columns + 1) * sizeof *table->columns);
    if (!columns) return out_of_memory(err);
    table->columns = columns;
    kv_metrics_column *column = &columns[table->n_columns];
    column->values = malloc((size_t)table->capacity * sizeof *column->values);
    if (!column->values) return out_of_memory(err);
    snprintf(column->name, sizeof column->name, "%s", name);
    for (int64_t i = 0; i < table->n; i++) column->values[i] = (double)NAN;
    table->n_columns++;
    return KV_OK;
}

// Into the line that is being added, the last one.
static kv_status put(kv_metrics_table *table, const char *name, double value, kv_error *err) {
    kv_metrics_column *column = find(table, name);
    if (!column) {
        // Names longer than a column's are no metrics of ours.
        if (table->n_columns == MAX_COLUMNS || strlen(name) >= sizeof column->name) return KV_OK;
        kv_status status = add_column(table, name, err);
        if (status != KV_OK) return status;
        column = &table->columns[table->n_columns - 1];
    }
    column->values[table->n - 1] = value;
    return KV_OK;
}

// What a value is as a number, Python's words for what JSON has none for included. False: it is no number.
static bool number_of(const json_t *value, double *number) {
    const char *kind = kv_json_kind(value);
    if (json_is_number(value))
        *number = json_number_value(value);
    else if (kv_json_is_odd(value) && strcmp(kind, "NaN") == 0)
        *number = (double)NAN;
    else if (kv_json_is_odd(value) && kv_ends_with(kind, "Infinity"))
        *number = *kind == '-' ? -(double)INFINITY : (double)INFINITY;
    else
        return false;
    return true;
}

// A value for each layer: NAME_0, NAME_1, ...
static kv_status put_list(kv_metrics_table *table, const char *name, const json_t *list, kv_error *err) {
    kv_status status = KV_OK;
    for (size_t i = 0; status == KV_OK && i < json_array_size(list); i++) {
        char entry[sizeof table->columns->name];
        double number;
        if (snprintf(entry, sizeof entry, "%s_%zu", name, i) >= (int)sizeof entry) return KV_OK;
        if (number_of(json_array_get(list, i), &number)) status = put(table, entry, number, err);
    }
    return status;
}

static kv_status put_numbers(kv_metrics_table *table, const json_t *object, kv_error *err) {
    kv_status status = KV_OK;
    const char *name;
    json_t *value;
    double number;
    json_object_foreach((json_t *)(uintptr_t)object, name, value) {
        if (status != KV_OK || strcmp(name, "step") == 0) continue;
        if (json_is_array(value))
            status = put_list(table, name, value, err);
        else if (number_of(value, &number))
            status = put(table, name, number, err);
    }
    return status;
}

static kv_status begin_line(kv_metrics_table *table, const json_t *entry, kv_error *err) {
    kv_status status = grow(table, err);
    if (status != KV_OK) return status;
    table->steps[table->n++] = json_integer_value(json_object_get(entry, "step"));
    for (int i = 0; i < table->n_columns; i++) table->columns[i].values[table->n - 1] = (double)NAN;
    json_decref(table->last);
    table->last = json_incref((json_t *)(uintptr_t)entry);
    return KV_OK;
}

// ---- Lines ---------------------------------------------------------------------------------------------

static kv_status take_line(void *context, const json_t *entry, const char *where, kv_error *err) {
    kv_metrics *metrics = context;
    const json_t *validation = json_object_get(entry, "validation");
    kv_metrics_table *table = validation ? &metrics->validation : &metrics->training;
    const json_t *loss = json_object_get(validation ? validation : entry, "loss");
    if (!json_is_integer(json_object_get(entry, "step")) || !loss)
        return kv_fail(err, KV_ERR_FORMAT, "%s: expected a logged step, with \"step\" and \"loss\"", where);
    double number;
    if (!number_of(loss, &number))
        return kv_fail(err, KV_ERR_FORMAT, "%s: \"loss\": found %s, expected a number", where,
                       kv_json_kind(loss));
    kv_status status = begin_line(table, entry, err);
    if (status == KV_OK) status = put_numbers(table, validation ? validation : entry, err);
    if (status == KV_OK && validation) status = put_numbers(table, entry, err);
    return status;
}

// Bytes without a last line that is still being written, or that a machine which went down left broken.
static size_t whole_lines(const char *text, size_t size) {
    while (size > 0 && text[size - 1] != '\n') size--;
    if (size == 0) return 0;
    size_t start = size - 1;
    while (start > 0 && text[start - 1] != '\n') start--;
    const char *const line = text + start;
    if (start == 0 && *line && strncmp(line, "{\"step\"", 7) != 0) return size; // another file
    json_error_t why;
    json_t *last = kv_json_parse(line, size - start, 0, &why);
    if (!last) size = start;
    json_decref(last);
    return size;
}

kv_status kv_metrics_read(const char *path, kv_metrics *metrics, kv_error *err) {
    char *text;
    size_t size;
    *metrics = (kv_metrics){.best = -1};
    kv_status status = kv_read_file(path, max_bytes, &text, &size, err);
    if (status != KV_OK) return kv_mistaken(path, KV_FILE_METRICS, status, err);
    size = whole_lines(text, size);
    status = kv_json_lines(path, text, size, 0, "logged step", take_line, metrics, err);
    free(text);
    const double *losses = kv_metrics_values(&metrics->validation, "loss");
    for (int64_t i = 0; losses && i < metrics->validation.n; i++)
        if (metrics->best < 0 || losses[i] < losses[metrics->best]) metrics->best = i;
    return kv_mistaken(path, KV_FILE_METRICS, status, err);
}

static void free_table(kv_metrics_table *table) {
    for (int i = 0; i < table->n_columns; i++) free(table->columns[i].values);
    free(table->columns);
    free(table->steps);
    json_decref(table->last);
}

void kv_metrics_free(kv_metrics *metrics) {
    free_table(&metrics->training);
    free_table(&metrics->validation);
    *metrics = (kv_metrics){.best = -1};
}

// ---- Values --------------------------------------------------------------------------------------------

const double *kv_metrics_values(const kv_metrics_table *table, const char *name) {
    const kv_metrics_column *column = find(table, name);
    return column ? column->values : NULL;
}

double kv_metrics_last(const kv_metrics_table *table, const char *name) {
    return kv_metrics_mean(table, name, 1);
}

double kv_metrics_mean(const kv_metrics_table *table, const char *name, int64_t window) {
    const double *values = kv_metrics_values(table, name);
    double sum = 0;
    int64_t n = 0;
    for (int64_t i = table->n - 1; values && i >= 0 && n < window; i--)
        if (!isnan(values[i])) {
            sum += values[i];
            n++;
        }
    return n > 0 ? sum / (double)n : (double)NAN;
}

double kv_metrics_sum(const kv_metrics_table *table, const char *name) {
    const double *values = kv_metrics_values(table, name);
    double sum = 0;
    for (int64_t i = 0; values && i < table->n; i++)
        if (!isnan(values[i])) sum += values[i];
    return sum;
}

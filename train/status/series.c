// The whole log of runs as one table: steps of training and looks at held-out text side by side, for programs that draw.
#include "data/system/buffers.h"
#include "train/status/status.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

// ---- Columns -------------------------------------------------------------------------------------------

enum { NAME = 80 };

struct columns {
    char (*names)[NAME];
    size_t n;
    bool failed; // for want of memory
};

static void add_column(struct columns *c, const char *name) {
    for (size_t i = 0; i < c->n; i++)
        if (strcmp(c->names[i], name) == 0) return;
    char(*more)[NAME] = kv_room_for_one(c->names, c->n, sizeof *more);
    if (!more) {
        c->failed = true;
        return;
    }
    c->names = more;
    snprintf(more[c->n++], NAME, "%s", name);
}

// A line about held-out text has two numbers that are no results of it.
static bool is_of_both(const char *name) {
    return strcmp(name, "seconds") == 0 || strcmp(name, "validation_seconds") == 0;
}

static void validation_name(const char *column, char name[NAME]) {
    snprintf(name, NAME, "%s%s", is_of_both(column) ? "" : "validation_", column);
}

static void add_columns(struct columns *c, const kv_metrics *m) {
    char name[NAME];
    for (int i = 0; i < m->training.n_columns; i++) add_column(c, m->training.columns[i].name);
    for (int i = 0; i < m->validation.n_columns; i++) {
        validation_name(m->validation.columns[i].name, name);
        add_column(c, name);
    }
}

// Where a run has what belongs into a column; NULL: nowhere.
struct values {
    const double *training, *validation;
};

static struct values *find_values(const struct columns *c, const kv_metrics *m) {
    struct values *values = calloc(c->n + 1, sizeof *values);
    for (size_t i = 0; values && i < c->n; i++) {
        values[i].training = kv_metrics_values(&m->training, c->names[i]);
        for (int v = 0; v < m->validation.n_columns; v++) {
            char name[NAME];
            validation_name(m->validation.columns[v].name, name);
            if (strcmp(name, c->names[i]) == 0) values[i].validation = m->validation.columns[v].values;
        }
    }
    return values;
}

// ---- Rows ----------------------------------------------------------------------------------------------

// One step: a line of training, one about held-out text, or both; -1: none.
struct row {
    int64_t step, training, validation;
};

static bool next_row(const kv_metrics *m, int64_t *training, int64_t *validation, struct row *row) {
    const kv_metrics_table *t = &m->training, *v = &m->validation;
    const bool has_t = *training < t->n, has_v = *validation < v->n;
    if (!has_t && !has_v) return false;
    const int64_t step_t = has_t ? t->steps[*training] : INT64_MAX,
                  step_v = has_v ? v->steps[*validation] : INT64_MAX;
    const bool take_t = has_t && step_t <= step_v, take_v = has_v && step_v <= step_t;
    *row = (struct row){take_t ? step_t : step_v, take_t ? *training : -1, take_v ? *validation : -1};
    *training += take_t;
    *validation += take_v;
    return true;
}

static double value_in(const struct values *values, const struct row *row) {
    const double trained =
        row->training >= 0 && values->training ? values->training[row->training] : (double)NAN;
    if (!isnan(trained) || row->validation < 0 || !values->validation) return trained;
    return values->validation[row->validation];
}

// The shortest text that is read as the same number.
static void put_number(FILE *out, double value) {
    char text[40];
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, value);
        if (strtod(text, NULL) == value) break;
    }
    fputs(text, out);
}

// ---- CSV -----------------------------------------------------------------------------------------------

// Quoted where it has to be.
static void put_text(FILE *out, const char *text) {
    if (!strpbrk(text, ",\"\r\n")) {
        fputs(text, out);
        return;
    }
    fputc('"', out);
    for (; *text; text++) {
        if (*text == '"') fputc('"', out);
        fputc(*text, out);
    }
    fputc('"', out);
}

static bool put_rows(const kv_run_status *run, const struct columns *columns, bool with_run, FILE *out) {
    struct values *values = find_values(columns, &run->metrics);
    int64_t training = 0, validation = 0;
    for (struct row row; values && next_row(&run->metrics, &training, &validation, &row);) {
        if (with_run) put_text(out, run->path);
        fprintf(out, "%s%" PRIi64, with_run ? "," : "", row.step);
        for (size_t i = 0; i < columns->n; i++) {
            const double value = value_in(&values[i], &row);
            fputc(',', out);
            if (!isnan(value)) put_number(out, value);
        }
        fputc('\n', out);
    }
    free(values);
    return values != NULL;
}

bool kv_run_status_print_csv(const kv_run_status *runs, size_t n, bool with_run, FILE *out) {
    struct columns columns = {0};
    for (size_t i = 0; i < n; i++) add_columns(&columns, &runs[i].metrics);
    bool whole = !columns.failed;
    fputs(with_run ? "run,step" : "step", out);
    for (size_t i = 0; i < columns.n; i++) {
        fputc(',', out);
        put_text(out, columns.names[i]);
    }
    fputc('\n', out);
    for (size_t i = 0; whole && i < n; i++) whole = put_rows(&runs[i], &columns, with_run, out);
    free(columns.names);
    return whole;
}

// ---- JSON ----------------------------------------------------------------------------------------------

static void put_list(const kv_metrics *m, const struct values *values, FILE *out) {
    int64_t training = 0, validation = 0;
    const char *before = "[";
    for (struct row row; next_row(m, &training, &validation, &row); before = ", ") {
        const double value = values ? value_in(values, &row) : (double)row.step;
        fputs(before, out);
        if (isfinite(value))
            put_number(out, value);
        else
            fputs("null", out);
    }
    fputs(*before == '[' ? "[]" : "]", out);
}

bool kv_run_status_print_series(const kv_run_status *status, FILE *out) {
    struct columns columns = {0};
    add_columns(&columns, &status->metrics);
    struct values *values = columns.failed ? NULL : find_values(&columns, &status->metrics);
    fputs("{\"step\": ", out);
    put_list(&status->metrics, NULL, out);
    for (size_t i = 0; values && i < columns.n; i++) {
        json_t *name = json_string(columns.names[i]);
        char *quoted = name ? json_dumps(name, JSON_ENCODE_ANY) : NULL;
        fprintf(out, ", %s: ", quoted ? quoted : "\"\"");
        put_list(&status->metrics, &values[i], out);
        free(quoted);
        json_decref(name);
    }
    fputc('}', out);
    const bool whole = values != NULL;
    free(values);
    free(columns.names);
    return whole;
}

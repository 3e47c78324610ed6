// The tables are typed from print by hand: what is wrong in one should name its line, not give a strange
// picture.
#include "eval/published/published.h"

#include "core/text.h"
#include "data/system/number.h"

#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// The paper's, unless it stands here.
static const char paper[] = "arXiv 2410.08391";
static const struct {
    const char *name, *source;
    bool shares;
} others[] = {{"hellaswag-qwen3-1.7b", "reproductions of arXiv 2608.03893", true}};

enum { N_LEADING = 3 };
static const char *const leading[N_LEADING] = {"model", "family", "flops_reduction"};

// A decimal number, a fraction of two, or NAN for nothing.
static bool read_number(const char *text, double *value) {
    double below = 1;
    *value = NAN;
    if (!*text) return true;
    if (!kv_take_real(&text, value) || (*text == '/' ? !kv_read_real(text + 1, &below) : *text)) return false;
    *value /= below;
    return isfinite(*value);
}

// ---- A table -------------------------------------------------------------------------------------------

static kv_status read_head(const char *name, kv_published *table, kv_error *err) {
    const kv_csv_table *csv = &table->csv;
    bool right = csv->n_columns > N_LEADING;
    for (int i = 0; right && i < N_LEADING; i++) right = !strcmp(csv->names[i], leading[i]);
    if (!right)
        return kv_fail(err, KV_ERR_FORMAT,
                       "%s:1: expected the columns model,family,flops_reduction and more of them", name);
    table->n_columns = csv->n_columns - N_LEADING;
    table->columns = csv->names + N_LEADING;
    return KV_OK;
}

static kv_status read_point(const char *name, int64_t row, kv_published *table, kv_error *err) {
    char *const *fields = table->csv.cells + row * table->csv.n_columns;
    kv_published_point *point = &table->points[row];
    double *values = table->values + row * table->n_columns;
    *point = (kv_published_point){.model = fields[0], .family = fields[1], .values = values};
    bool read = read_number(fields[2], &point->flops_reduction) && point->flops_reduction > 0;
    int64_t bad = 2;
    for (int64_t c = 0; read && c < table->n_columns; c++)
        read = read_number(fields[bad = N_LEADING + c], &values[c]);
    if (read) return KV_OK;
    return kv_fail(err, KV_ERR_FORMAT, "%s:%lld: %s: found `%.*s`, expected a number", name,
                   (long long)table->csv.lines[row], table->csv.names[bad], KV_HEAD(fields[bad], 40));
}

static kv_status parse(const char *name, const char *text, kv_published *table, kv_error *err) {
    kv_status status = kv_csv_parse(name, text, &table->csv, err);
    if (!status) status = read_head(name, table, err);
    if (status) return status;
    const size_t n = (size_t)table->csv.n_rows;
    table->points = calloc(n + 1, sizeof *table->points);
    table->values = calloc(n + 1, (size_t)table->n_columns * sizeof *table->values);
    if (!table->points || !table->values) return kv_fail(err, KV_ERR_MEMORY, "%s: out of memory", name);
    table->n_points = table->csv.n_rows;
    table->source = paper;
    for (int64_t i = 0; !status && i < table->n_points; i++) status = read_point(name, i, table, err);
    return status;
}

kv_status kv_published_parse(const char *name, const char *text, kv_published **table, kv_error *err) {
    *table = NULL;
    kv_published *parsed = calloc(1, sizeof *parsed);
    if (!parsed) return kv_fail(err, KV_ERR_MEMORY, "%s: out of memory", name);
    kv_status status = parse(name, text, parsed, err);
    if (status == KV_OK)
        *table = parsed;
    else
        kv_published_free(parsed);
    return status;
}

void kv_published_free(kv_published *table) {
    if (!table) return;
    free(table->points);
    free(table->values);
    kv_csv_table_free(&table->csv);
    free(table);
}

int64_t kv_published_column(const kv_published *table, const char *name) {
    for (int64_t c = 0; c < table->n_columns; c++)
        if (!strcmp(table->columns[c], name)) return c;
    return -1;
}

// NULL for a name that is not known.
static const char *find_text(const char *name, kv_error *err) {
    char known[512] = "";
    size_t used = 0;
    for (const kv_embedded *file = kv_published_files; file->name; file++) {
        if (!strcmp(file->name, name)) return file->text;
        const int more = snprintf(known + used, sizeof known - used, "%s%s", used ? ", " : "", file->name);
        if (more > 0 && (size_t)more < sizeof known - used) used += (size_t)more;
    }
    kv_fail(err, KV_ERR_ARGUMENT, "no published table `%.*s`, expected one of: %s", KV_HEAD(name, 80), known);
    return NULL;
}

kv_status kv_published_load(const char *name, kv_published **table, kv_error *err) {
    *table = NULL;
    const char *text = find_text(name, err);
    kv_status status = text ? kv_published_parse(name, text, table, err) : KV_ERR_ARGUMENT;
    for (size_t i = 0; status == KV_OK && i < sizeof others / sizeof *others; i++)
        if (!strcmp(name, others[i].name))
            (*table)->source = others[i].source, (*table)->shares = others[i].shares;
    return status;
}

kv_status kv_published_fits(const char *name, const kv_published *table, bool retention, kv_error *err) {
    if (retention || !table->shares) return KV_OK;
    return kv_fail(err, KV_ERR_ARGUMENT,
                   "`%.*s` has shares of the base's score alone, expected it beside shares (y: retention)",
                   KV_HEAD(name, 80));
}

kv_status kv_published_write(const char *name, const char *path, kv_error *err) {
    const char *text = find_text(name, err);
    if (!text) return KV_ERR_ARGUMENT;
    errno = 0;
    FILE *file = fopen(path, "w");
    const bool written = file && fputs(text, file) >= 0;
    if (file && fclose(file) == 0 && written) return KV_OK;
    return kv_fail(err, KV_ERR_IO, "%s: cannot write: %s", path, strerror(errno ? errno : EIO));
}

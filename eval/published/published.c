#include "eval/published/published.h"

#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_COLUMNS = 64, N_LEADING = 3 };
static const char *const leading[N_LEADING] = {"model", "family", "flops_reduction"};

// ---- Lines and fields ----------------------------------------------------------------------------------

// Cuts the next line off *rest in place; NULL at the end. Skips empty ones, counts all.
static char *next_line(char **rest, int64_t *number) {
    while (**rest) {
        char *line = *rest, *end = line + strcspn(line, "\n");
        *rest = *end ? end + 1 : end;
        *end = '\0';
        ++*number;
        if (end > line && end[-1] == '\r') end[-1] = '\0';
        if (*line) return line;
    }
    return NULL;
}

// Fields of a line, cut in place. More than MAX_COLUMNS are counted but not kept.
static int64_t split(char *line, char *fields[MAX_COLUMNS]) {
    int64_t n = 0;
    for (char *field = line; field; n++) {
        char *comma = strchr(field, ',');
        if (comma) *comma = '\0';
        if (n < MAX_COLUMNS) fields[n] = field;
        field = comma ? comma + 1 : NULL;
    }
    return n;
}

// A decimal number, a fraction of two, or NAN for nothing.
static bool read_number(const char *text, double *value) {
    char *end;
    *value = NAN;
    if (!*text) return true;
    *value = strtod(text, &end);
    if (end != text && *end == '/') {
        const char *below = end + 1;
        *value /= strtod(below, &end);
        if (end == below) return false;
    }
    return end != text && !*end && isfinite(*value);
}

// ---- A table -------------------------------------------------------------------------------------------

static kv_status read_head(const char *name, char *line, kv_published *table, kv_error *err) {
    char *fields[MAX_COLUMNS];
    const int64_t n = line ? split(line, fields) : 0;
    bool right = n > N_LEADING && n <= MAX_COLUMNS;
    for (int i = 0; right && i < N_LEADING; i++) right = !strcmp(fields[i], leading[i]);
    if (!right)
        return kv_fail(err, KV_ERR_FORMAT,
                       "%s: line 1: expected the columns model,family,flops_reduction and 1 to %d more", name,
                       MAX_COLUMNS - N_LEADING);
    table->n_columns = n - N_LEADING;
    table->columns = malloc((size_t)table->n_columns * sizeof *table->columns);
    if (!table->columns) return kv_fail(err, KV_ERR_MEMORY, "%s: out of memory", name);
    for (int64_t c = 0; c < table->n_columns; c++) table->columns[c] = fields[N_LEADING + c];
    return KV_OK;
}

static kv_status read_point(const char *name, int64_t number, char *line, kv_published *table,
                            kv_error *err) {
    char *fields[MAX_COLUMNS];
    const int64_t n = split(line, fields), expected = N_LEADING + table->n_columns;
    kv_published_point *point = &table->points[table->n_points];
    double *values = table->values + table->n_points * table->n_columns;
    if (n != expected)
        return kv_fail(err, KV_ERR_FORMAT, "%s: line %lld: found %lld fields, expected %lld", name,
                       (long long)number, (long long)n, (long long)expected);
    *point = (kv_published_point){.model = fields[0], .family = fields[1], .values = values};
    bool read = read_number(fields[2], &point->flops_reduction) && point->flops_reduction > 0;
    int64_t bad = 2;
    for (int64_t c = 0; read && c < table->n_columns; c++)
        read = read_number(fields[bad = N_LEADING + c], &values[c]);
    if (!read)
        return kv_fail(err, KV_ERR_FORMAT, "%s: line %lld: %s: found `%.40s`, expected a number", name,
                       (long long)number, bad < N_LEADING ? leading[bad] : table->columns[bad - N_LEADING],
                       fields[bad]);
    table->n_points++;
    return KV_OK;
}

static size_t count_lines(const char *text) {
    size_t n = 1;
    for (; *text; text++) n += *text == '\n';
    return n;
}

static kv_status parse(const char *name, const char *text, kv_published *table, kv_error *err) {
    const size_t most = count_lines(text);
    int64_t number = 0;
    table->text = strdup(text);
    char *rest = table->text;
    if (!rest) return kv_fail(err, KV_ERR_MEMORY, "%s: out of memory", name);
    kv_status status = read_head(name, next_line(&rest, &number), table, err);
    if (status != KV_OK) return status;
    table->points = calloc(most, sizeof *table->points);
    table->values = calloc(most, (size_t)table->n_columns * sizeof *table->values);
    if (!table->points || !table->values) return kv_fail(err, KV_ERR_MEMORY, "%s: out of memory", name);
    for (char *line; status == KV_OK && (line = next_line(&rest, &number));)
        status = read_point(name, number, line, table, err);
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
    free(table->columns);
    free(table->values);
    free(table->text);
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
    for (const kv_published_file *file = kv_published_files; file->name; file++) {
        if (!strcmp(file->name, name)) return file->text;
        const int more = snprintf(known + used, sizeof known - used, "%s%s", used ? ", " : "", file->name);
        if (more > 0 && (size_t)more < sizeof known - used) used += (size_t)more;
    }
    kv_fail(err, KV_ERR_ARGUMENT, "no published table `%.80s`, expected one of: %s", name, known);
    return NULL;
}

kv_status kv_published_load(const char *name, kv_published **table, kv_error *err) {
    *table = NULL;
    const char *text = find_text(name, err);
    return text ? kv_published_parse(name, text, table, err) : KV_ERR_ARGUMENT;
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

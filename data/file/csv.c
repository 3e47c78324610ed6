// One reader and one writer for every table: a quoted field is bytes until its closing quote, whatever they are.
#include "data/file/csv.h"

#include "data/file/content.h"
#include "data/file/mistaken.h"
#include "data/file/plain.h"
#include "data/system/buffers.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// ---- Writing -------------------------------------------------------------------------------------------

struct kv_csv {
    char path[PATH_MAX];
    FILE *file;
    bool in_row;
};

kv_status kv_csv_create(const char *path, const char *header, kv_csv **csv, kv_error *err) {
    *csv = NULL;
    kv_csv *c = calloc(1, sizeof *c);
    if (!c) return kv_fail(err, KV_ERR_MEMORY, "%s: out of memory", path);
    snprintf(c->path, sizeof c->path, "%s", path);
    c->file = fopen(path, "w");
    if (!c->file) {
        free(c);
        return kv_fail(err, KV_ERR_IO, "%s: cannot write: %s", path, strerror(errno));
    }
    fprintf(c->file, "%s\n", header);
    *csv = c;
    return KV_OK;
}

kv_csv *kv_csv_on(FILE *stream) {
    kv_csv *csv = calloc(1, sizeof *csv);
    if (csv) csv->file = stream;
    return csv;
}

static void separate(kv_csv *csv) {
    if (csv->in_row) fputc(',', csv->file);
    csv->in_row = true;
}

void kv_csv_text(kv_csv *csv, const char *text) {
    separate(csv);
    if (!strpbrk(text, ",\"\r\n")) {
        fputs(text, csv->file);
        return;
    }
    fputc('"', csv->file);
    for (; *text; text++) {
        if (*text == '"') fputc('"', csv->file);
        fputc(*text, csv->file);
    }
    fputc('"', csv->file);
}

static bool is_whole(double value) {
    const double largest = 9007199254740992.0; // 2^53
    return value == floor(value) && fabs(value) <= largest;
}

void kv_csv_number(kv_csv *csv, double value) {
    separate(csv);
    if (is_whole(value))
        fprintf(csv->file, "%.0f", value);
    else if (isfinite(value))
        fprintf(csv->file, "%.9g", value);
}

void kv_csv_exact(kv_csv *csv, double value) {
    enum { EXACT = 17 };
    char text[32] = "";
    if (!isfinite(value) || is_whole(value)) {
        kv_csv_number(csv, value);
        return;
    }
    for (int digits = 1; digits <= EXACT; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, value);
        if (strtod(text, NULL) == value) break;
    }
    separate(csv);
    fputs(text, csv->file);
}

void kv_csv_end_row(kv_csv *csv) {
    fputc('\n', csv->file);
    csv->in_row = false;
}

kv_status kv_csv_close(kv_csv *csv, kv_status so_far, kv_error *err) {
    errno = 0;
    const bool failed = ferror(csv->file) != 0, flushed = fflush(csv->file) == 0;
    const int reason = errno;
    const bool closed = fclose(csv->file) == 0;
    kv_status status = so_far;
    if (status == KV_OK && (failed || !flushed || !closed))
        status = kv_fail(err, KV_ERR_IO, "%s: cannot write: %s", csv->path, strerror(reason ? reason : EIO));
    free(csv);
    return status;
}

// ---- Reading -------------------------------------------------------------------------------------------

static const size_t max_bytes = (size_t)1 << 30;

// Where reading is.
struct place {
    const char *name;
    char *at;
    int64_t line;
    kv_error *err;
};

enum end { END_FIELD, END_ROW, END_FILE, BROKEN };

static enum end broken(const struct place *p, int64_t line, const char *what) {
    kv_fail(p->err, KV_ERR_FORMAT, "%s:%lld: found %s", p->name, (long long)line, what);
    return BROKEN;
}

// Writes to `to` what stands in the text from *from, behind a quote, up to the next single one, which *from
// ends behind. Where writing is never gets ahead of where reading is. NULL: there is no such quote.
static char *unquote(struct place *p, char **from, char *to) {
    for (char *c = *from; *c; c++) {
        if (*c == '"' && *++c != '"') {
            *from = c;
            return to;
        }
        p->line += *c == '\n' || (*c == '\r' && c[1] != '\n');
        *to++ = *c;
    }
    return NULL;
}

// As in any text: LF, CR LF or CR.
static bool ends_line(char c) {
    return c == '\n' || c == '\r';
}

// Takes the next field out of the text, in place; *field is NUL-terminated there.
static enum end next_field(struct place *p, char **field) {
    char *from = p->at, *to = from;
    const int64_t first_line = p->line;
    *field = to;
    if (*from == '"') {
        from++;
        to = unquote(p, &from, to);
        if (!to) return broken(p, first_line, "a quoted field without end");
    } else {
        while (*from && *from != ',' && !ends_line(*from)) from++;
        to = from;
    }
    if (*from == '\r' && from[1] == '\n') from++;
    const char end = *from;
    if (end && end != ',' && !ends_line(end)) return broken(p, p->line, "text behind a quoted field");
    p->at = end ? from + 1 : from;
    *to = '\0';
    if (end == ',') return END_FIELD;
    p->line++;
    return *p->at ? END_ROW : END_FILE;
}

// Fields of the next row, behind those that are there; *more: there is another row.
static kv_status read_row(struct place *p, char ***cells, size_t *n, bool *more) {
    enum end end;
    do {
        char **room = kv_room_for_one(*cells, *n, sizeof *room);
        if (!room) return kv_fail(p->err, KV_ERR_MEMORY, "%s: out of memory", p->name);
        *cells = room;
        end = next_field(p, &room[(*n)++]);
    } while (end == END_FIELD);
    *more = end == END_ROW;
    return end == BROKEN ? KV_ERR_FORMAT : KV_OK;
}

static bool skip_empty_line(struct place *p) {
    if (!ends_line(*p->at)) return false;
    p->at += p->at[0] == '\r' && p->at[1] == '\n' ? 2 : 1;
    p->line++;
    return true;
}

static kv_status add_row(struct place *p, kv_csv_table *table, size_t *n_cells, bool *more) {
    int64_t *lines = kv_room_for_one(table->lines, (size_t)table->n_rows, sizeof *lines);
    if (!lines) return kv_fail(p->err, KV_ERR_MEMORY, "%s: out of memory", p->name);
    table->lines = lines;
    lines[table->n_rows] = p->line;
    const size_t before = *n_cells;
    kv_status status = read_row(p, &table->cells, n_cells, more);
    if (status) return status;
    const size_t found = *n_cells - before;
    if ((int64_t)found != table->n_columns)
        return kv_fail(p->err, KV_ERR_FORMAT, "%s:%lld: found %zu fields, expected %lld", p->name,
                       (long long)lines[table->n_rows], found, (long long)table->n_columns);
    table->n_rows++;
    return KV_OK;
}

static kv_status read_table(const char *name, kv_csv_table *table, kv_error *err) {
    struct place place = {.name = name, .at = table->text, .line = 1, .err = err};
    place.at += kv_byte_order_mark(place.at, strlen(place.at));
    size_t n = 0, n_cells = 0;
    bool more = false;
    kv_status status = read_row(&place, &table->names, &n, &more);
    table->n_columns = (int64_t)n;
    while (!status && more) {
        // In a table of one column it is an empty field.
        if (n > 1 && skip_empty_line(&place))
            more = *place.at != '\0';
        else
            status = add_row(&place, table, &n_cells, &more);
    }
    return status;
}

kv_status kv_csv_parse(const char *name, const char *text, kv_csv_table *table, kv_error *err) {
    *table = (kv_csv_table){.text = strdup(text)};
    if (!table->text) return kv_fail(err, KV_ERR_MEMORY, "%s: out of memory", name);
    kv_status status = read_table(name, table, err);
    if (status) kv_csv_table_free(table);
    return status;
}

static kv_status read_file(const char *path, kv_csv_table *table, kv_error *err) {
    size_t size;
    *table = (kv_csv_table){0};
    kv_status status = kv_read_file(path, max_bytes, &table->text, &size, err);
    if (status) return status;
    const char *wide = kv_wide_encoding(table->text, size);
    if (wide)
        status = kv_fail(err, KV_ERR_FORMAT, "%s: found " KV_WIDE_ADVICE, path, wide, wide);
    else if (strlen(table->text) != size)
        status = kv_fail(err, KV_ERR_FORMAT, "%s: found a NUL character, expected text", path);
    if (!status) status = read_table(path, table, err);
    if (status) kv_csv_table_free(table);
    return status;
}

kv_status kv_csv_read(const char *path, kv_csv_table *table, kv_error *err) {
    return kv_mistaken(path, KV_FILE_TABLE, read_file(path, table, err), err);
}

void kv_csv_table_free(kv_csv_table *table) {
    free(table->names);
    free(table->cells);
    free(table->lines);
    free(table->text);
    *table = (kv_csv_table){0};
}

int64_t kv_csv_column(const kv_csv_table *table, const char *name) {
    for (int64_t c = 0; c < table->n_columns; c++)
        if (strcmp(table->names[c], name) == 0) return c;
    return -1;
}

const char *kv_csv_cell(const kv_csv_table *table, int64_t row, int64_t column) {
    return column < 0 ? "" : table->cells[row * table->n_columns + column];
}

#include "data/file/content.h"
#include "data/file/csv.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static const size_t max_bytes = (size_t)64 << 20;

// Where reading is.
struct place {
    const char *path;
    char *at;
    int64_t line;
    kv_error *err;
};

enum end { END_FIELD, END_ROW, END_FILE, BROKEN };

// Takes the next field out of the text, in place; *field is NUL-terminated there.
static enum end next_field(struct place *p, char **field) {
    char *from = p->at, *to = p->at;
    const int64_t first_line = p->line;
    bool quoted = *from == '"';
    *field = to;
    if (quoted) from++;
    for (; *from; from++) {
        if (quoted && *from == '"') {
            if (from[1] != '"') {
                quoted = false;
                continue;
            }
            from++;
        } else if (!quoted && (*from == ',' || *from == '\n')) {
            break;
        }
        p->line += *from == '\n';
        *to++ = *from;
    }
    if (quoted) {
        kv_fail(p->err, KV_ERR_FORMAT, "%s:%lld: found a quoted field without end", p->path,
                (long long)first_line);
        return BROKEN;
    }
    const char last = *from;
    p->at = last ? from + 1 : from;
    if (last != ',' && to > *field && to[-1] == '\r') to--;
    *to = '\0';
    if (last == ',') return END_FIELD;
    p->line++;
    return *p->at ? END_ROW : END_FILE;
}

// Fields of the next row behind those that are there; the room doubles at powers of two.
static kv_status read_row(struct place *p, char ***cells, size_t *n, bool *more) {
    enum end end;
    do {
        if ((*n & (*n - 1)) == 0) {
            char **room = realloc(*cells, (*n ? 2 * *n : 1) * sizeof *room);
            if (!room) return kv_fail(p->err, KV_ERR_MEMORY, "%s: out of memory", p->path);
            *cells = room;
        }
        end = next_field(p, &(*cells)[(*n)++]);
    } while (end == END_FIELD);
    *more = end == END_ROW;
    return end == BROKEN ? KV_ERR_FORMAT : KV_OK;
}

static kv_status parse(const char *path, kv_csv_table *table, kv_error *err) {
    struct place place = {.path = path, .at = table->text, .line = 1, .err = err};
    size_t n = 0;
    bool more = true;
    kv_status status = read_row(&place, &table->names, &n, &more);
    table->n_columns = (int64_t)n;
    n = 0;
    while (status == KV_OK && more) {
        const int64_t line = place.line;
        const size_t before = n;
        status = read_row(&place, &table->cells, &n, &more);
        if (status == KV_OK && (int64_t)(n - before) != table->n_columns)
            status = kv_fail(err, KV_ERR_FORMAT, "%s:%lld: found %zu fields, expected %lld", path,
                             (long long)line, n - before, (long long)table->n_columns);
        table->n_rows++;
    }
    return status;
}

kv_status kv_csv_read(const char *path, kv_csv_table *table, kv_error *err) {
    size_t size;
    *table = (kv_csv_table){0};
    kv_status status = kv_read_file(path, max_bytes, &table->text, &size, err);
    if (status != KV_OK) return status;
    if (strlen(table->text) != size)
        status = kv_fail(err, KV_ERR_FORMAT, "%s: found a NUL character, expected text", path);
    if (status == KV_OK) status = parse(path, table, err);
    if (status != KV_OK) kv_csv_table_free(table);
    return status;
}

void kv_csv_table_free(kv_csv_table *table) {
    free(table->names);
    free(table->cells);
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

#include "eval/table.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_COLUMNS = 160 };

struct column {
    char *group, *title;
    bool left;
};

struct kv_table {
    struct column columns[MAX_COLUMNS];
    int n_columns;
    char **cells; // row by row
    size_t n_cells;
    bool failed;
};

kv_table *kv_table_create(void) {
    return calloc(1, sizeof(kv_table));
}

void kv_table_free(kv_table *table) {
    if (!table) return;
    for (int i = 0; i < table->n_columns; i++) {
        free(table->columns[i].group);
        free(table->columns[i].title);
    }
    for (size_t i = 0; i < table->n_cells; i++) free(table->cells[i]);
    free(table->cells);
    free(table);
}

void kv_table_column(kv_table *table, const char *group, const char *title, bool left_aligned) {
    if (!table || table->failed) return;
    table->failed = table->n_columns == MAX_COLUMNS;
    if (table->failed) return;
    struct column *column = &table->columns[table->n_columns++];
    *column = (struct column){.group = strdup(group), .title = strdup(title), .left = left_aligned};
    table->failed = !column->group || !column->title;
}

void kv_table_cell(kv_table *table, const char *format, ...) {
    if (!table || table->failed) return;
    // The room doubles at powers of two.
    const size_t n = table->n_cells;
    if ((n & (n - 1)) == 0) {
        char **more = realloc(table->cells, (n ? 2 * n : 1) * sizeof *more);
        table->failed = !more;
        if (!more) return;
        table->cells = more;
    }
    va_list args;
    va_start(args, format);
    table->failed = vasprintf(&table->cells[n], format, args) < 0;
    va_end(args);
    table->n_cells += !table->failed;
}

// Columns on the terminal: bytes that do not continue a UTF-8 character.
static int text_width(const char *text) {
    int width = 0;
    for (; *text; text++) width += ((unsigned char)*text & 0xC0) != 0x80;
    return width;
}

static void print_padded(FILE *stream, const char *text, int width, bool left) {
    int blank = width - text_width(text);
    if (blank < 0) blank = 0;
    if (left)
        fprintf(stream, "%s%*s", text, blank, "");
    else
        fprintf(stream, "%*s%s", blank, "", text);
}

enum { GAP = 2 };

// The end of the group that starts at column `first`, and the width it takes.
static int group_end(const kv_table *table, const int *widths, int first, int *width) {
    int end = first;
    *width = -GAP;
    do *width += GAP + widths[end++];
    while (end < table->n_columns && *table->columns[first].group &&
           !strcmp(table->columns[end].group, table->columns[first].group));
    return end;
}

static void measure(const kv_table *table, int *widths) {
    for (int c = 0; c < table->n_columns; c++) widths[c] = text_width(table->columns[c].title);
    for (size_t i = 0; i < table->n_cells; i++) {
        int *width = &widths[i % (size_t)table->n_columns], own = text_width(table->cells[i]);
        if (own > *width) *width = own;
    }
    for (int c = 0, width; c < table->n_columns;) {
        const int first = c;
        c = group_end(table, widths, c, &width);
        const int missing = text_width(table->columns[first].group) - width;
        if (missing > 0) widths[first] += missing;
    }
}

void kv_table_print(const kv_table *table, FILE *stream) {
    if (!table || table->failed) {
        fputs("(out of memory for the table)\n", stream);
        return;
    }
    int widths[MAX_COLUMNS];
    measure(table, widths);
    for (int c = 0, width; c < table->n_columns;) {
        const struct column *column = &table->columns[c];
        c = group_end(table, widths, c, &width);
        print_padded(stream, column->group, width, column->left);
        fputs(c < table->n_columns ? "  " : "\n", stream);
    }
    for (int c = 0; c < table->n_columns; c++) {
        print_padded(stream, table->columns[c].title, widths[c], table->columns[c].left);
        fputs(c + 1 < table->n_columns ? "  " : "\n", stream);
    }
    for (size_t i = 0; i < table->n_cells; i++) {
        const int c = (int)(i % (size_t)table->n_columns);
        print_padded(stream, table->cells[i], widths[c], table->columns[c].left);
        fputs(c + 1 < table->n_columns ? "  " : "\n", stream);
    }
}

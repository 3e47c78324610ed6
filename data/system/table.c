#include "data/system/table.h"

#include "data/system/buffers.h"
#include "data/system/width.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

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
    *column = (struct column){.group = kv_text_printable(group, false),
                              .title = kv_text_printable(title, false),
                              .left = left_aligned};
    table->failed = !column->group || !column->title;
}

void kv_table_cell(kv_table *table, const char *format, ...) {
    if (!table || table->failed) return;
    const size_t n = table->n_cells;
    char **more = kv_room_for_one(table->cells, n, sizeof *more);
    table->failed = !more;
    if (!more) return;
    table->cells = more;
    va_list args;
    va_start(args, format);
    char *text;
    table->failed = vasprintf(&text, format, args) < 0;
    va_end(args);
    if (table->failed) return;
    more[n] = kv_text_printable(text, false);
    free(text);
    table->failed = !more[n];
    table->n_cells += !table->failed;
}

static void print_padded(FILE *stream, const char *text, int width, bool left) {
    const int blank = kv_text_pad(text, width);
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
    for (int c = 0; c < table->n_columns; c++) widths[c] = kv_text_width(table->columns[c].title);
    for (size_t i = 0; i < table->n_cells; i++) {
        int *width = &widths[i % (size_t)table->n_columns], own = kv_text_width(table->cells[i]);
        if (own > *width) *width = own;
    }
    for (int c = 0, width; c < table->n_columns;) {
        const int first = c;
        c = group_end(table, widths, c, &width);
        const int missing = kv_text_width(table->columns[first].group) - width;
        if (missing > 0) widths[first] += missing;
    }
}

// ---- Blocks --------------------------------------------------------------------------------------------

// Columns [0, n_keys) and [first, end), the keys once when first is below n_keys.
struct block {
    int n_keys, first, end;
};

static int next_column(const struct block *block, int c) {
    return c + 1 == block->n_keys && block->first > c + 1 ? block->first : c + 1;
}

static int first_column(const struct block *block) {
    return block->n_keys > 0 ? 0 : block->first;
}

static bool has_groups(const kv_table *table) {
    bool found = false;
    for (int c = 0; c < table->n_columns; c++) found = found || *table->columns[c].group;
    return found;
}

static void print_groups(const kv_table *table, const int *widths, const struct block *block, FILE *stream) {
    for (int c = first_column(block), width; c < block->end;) {
        const struct column *column = &table->columns[c];
        int end = group_end(table, widths, c, &width);
        if (end > block->end) { // a group too wide for one block goes on in the next
            end = block->end;
            width = -GAP;
            for (int k = c; k < end; k++) width += GAP + widths[k];
        }
        print_padded(stream, column->group, width, column->left);
        c = end == block->n_keys && block->first > end ? block->first : end;
        fputs(c < block->end ? "  " : "\n", stream);
    }
}

static void print_block(const kv_table *table, const int *widths, const struct block *block, FILE *stream) {
    if (has_groups(table)) print_groups(table, widths, block, stream);
    const size_t n_rows = table->n_cells / (size_t)table->n_columns;
    for (size_t row = 0; row <= n_rows; row++) // the first are the titles
        for (int c = first_column(block); c < block->end;) {
            const char *text = row == 0 ? table->columns[c].title
                                        : table->cells[(row - 1) * (size_t)table->n_columns + (size_t)c];
            print_padded(stream, text, widths[c], table->columns[c].left);
            c = next_column(block, c);
            fputs(c < block->end ? "  " : "\n", stream);
        }
}

static int leading_keys(const kv_table *table) {
    int n = 0;
    while (n < table->n_columns && table->columns[n].left && !*table->columns[n].group) n++;
    return n;
}

// The end of the block from `first` on: whole groups while they fit in `room`; of a group that is too wide as
// many columns as fit; at least one column.
static int block_end(const kv_table *table, const int *widths, int first, int room) {
    int end = first, used = 0, width;
    while (end < table->n_columns) {
        const int next = group_end(table, widths, end, &width);
        if (used + GAP + width > room) break;
        used += GAP + width;
        end = next;
    }
    if (end > first || first == table->n_columns) return end;
    const int limit = group_end(table, widths, first, &width);
    do used += GAP + widths[end++];
    while (end < limit && used + GAP + widths[end] <= room);
    return end;
}

void kv_table_print_within(const kv_table *table, int width, FILE *stream) {
    if (!table || table->failed) {
        fputs("(out of memory for the table)\n", stream);
        return;
    }
    if (table->n_columns == 0) return;
    int widths[MAX_COLUMNS], room = width;
    measure(table, widths);
    const int n_keys = leading_keys(table);
    for (int c = 0; c < n_keys; c++) room -= widths[c] + (c > 0 ? GAP : 0);
    for (int first = n_keys; first < table->n_columns || first == n_keys;) {
        const int end = width > 0 ? block_end(table, widths, first, room) : table->n_columns;
        if (first > n_keys) fputc('\n', stream);
        print_block(table, widths, &(struct block){n_keys, first, end}, stream);
        if (end >= table->n_columns) return;
        first = end;
    }
}

void kv_table_print(const kv_table *table, FILE *stream) {
    struct winsize size;
    const int file = fileno(stream);
    const bool terminal = file >= 0 && isatty(file) && ioctl(file, TIOCGWINSZ, &size) == 0;
    kv_table_print_within(table, terminal ? size.ws_col : 0, stream);
}

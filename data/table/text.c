// Text for a terminal: columns as wide as their widest cell, neighbours under one common heading.
#include "data/system/fold.h"
#include "data/system/width.h"
#include "data/table/format.h"
#include "data/table/model.h"

#include <string.h>

// The columns that are shown, numbered from 0, and their widths.
struct view {
    const kv_table *table;
    int n, at[KV_TABLE_MAX_COLUMNS], widths[KV_TABLE_MAX_COLUMNS];
};

static const kv_table_column_data *column_of(const struct view *view, int c) {
    return &view->table->columns[view->at[c]];
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
static int group_end(const struct view *view, int first, int *width) {
    const int end = kv_table_group_end(view->table, view->at, view->n, first);
    *width = -GAP;
    for (int c = first; c < end; c++) *width += GAP + view->widths[c];
    return end;
}

static void measure(const kv_table *table, struct view *view) {
    view->table = table;
    view->n = kv_table_shown(table, view->at);
    for (int c = 0; c < view->n; c++) {
        view->widths[c] = kv_text_width(column_of(view, c)->title);
        for (size_t row = 0; row < kv_table_rows(table); row++) {
            const int own = kv_text_width(kv_table_at(table, row, view->at[c])->text);
            if (own > view->widths[c]) view->widths[c] = own;
        }
    }
    for (int c = 0, width; c < view->n;) {
        const int first = c;
        c = group_end(view, c, &width);
        const int missing = kv_text_width(column_of(view, first)->group) - width;
        if (missing > 0) view->widths[first] += missing;
    }
}

// ---- Blocks --------------------------------------------------------------------------------------------

// Columns [0, n_keys) and [first, end), the keys once when first is below n_keys.
struct block {
    int n_keys, first, end;
    bool stacked; // the keys on a line of their own above the others
};

enum { STEP = 2 }; // by which stacked rows stand further in

static int next_column(const struct block *block, int c) {
    return c + 1 == block->n_keys && block->first > c + 1 ? block->first : c + 1;
}

static int first_column(const struct block *block) {
    return block->n_keys > 0 ? 0 : block->first;
}

static bool has_groups(const struct view *view) {
    bool found = false;
    for (int c = 0; c < view->n; c++) found = found || *column_of(view, c)->group;
    return found;
}

static void print_groups(const struct view *view, const struct block *block, FILE *stream) {
    for (int c = first_column(block), width; c < block->end;) {
        const kv_table_column_data *column = column_of(view, c);
        int end = group_end(view, c, &width);
        if (end > block->end) { // a group too wide for one block goes on in the next
            end = block->end;
            width = -GAP;
            for (int k = c; k < end; k++) width += GAP + view->widths[k];
        }
        print_padded(stream, column->group, width, column->left);
        c = end == block->n_keys && block->first > end ? block->first : end;
        fputs(c < block->end ? "  " : "\n", stream);
    }
}

// The row -1 are the titles.
static void print_row(const struct view *view, const struct block *block, int64_t row, FILE *stream) {
    for (int c = first_column(block); c < block->end;) {
        const kv_table_column_data *column = column_of(view, c);
        const char *text = row < 0 ? column->title : kv_table_at(view->table, (size_t)row, view->at[c])->text;
        print_padded(stream, text, view->widths[c], column->left);
        c = next_column(block, c);
        fputs(c < block->end ? "  " : "\n", stream);
    }
}

static void print_keys(const struct view *view, int n_keys, int64_t row, FILE *stream) {
    for (int c = 0; c < n_keys; c++)
        fprintf(stream, "%s%s", c > 0 ? "  " : "",
                row < 0 ? column_of(view, c)->title
                        : kv_table_at(view->table, (size_t)row, view->at[c])->text);
    fputc('\n', stream);
}

static void print_block(const struct view *view, const struct block *block, FILE *stream) {
    const struct block others = {.first = block->first, .end = block->end};
    const struct block *rows = block->stacked ? &others : block;
    const int indent = block->stacked ? STEP : 0;
    if (has_groups(view)) {
        fprintf(stream, "%*s", indent, "");
        print_groups(view, rows, stream);
    }
    for (int64_t row = -1; row < (int64_t)kv_table_rows(view->table); row++) {
        if (block->stacked) print_keys(view, block->n_keys, row, stream);
        fprintf(stream, "%*s", indent, "");
        print_row(view, rows, row, stream);
    }
}

static int leading_keys(const struct view *view) {
    int n = 0;
    while (n < view->n && column_of(view, n)->left && !*column_of(view, n)->group) n++;
    return n;
}

// The end of the block from `first` on: whole groups while they fit in `room`; of a group that is too wide as
// many columns as fit; at least one column.
static int block_end(const struct view *view, int first, int room) {
    int end = first, used = 0, width;
    while (end < view->n) {
        const int next = group_end(view, end, &width);
        if (used + GAP + width > room) break;
        used += GAP + width;
        end = next;
    }
    if (end > first || first == view->n) return end;
    const int limit = group_end(view, first, &width);
    do used += GAP + view->widths[end++];
    while (end < limit && used + GAP + view->widths[end] <= room);
    return end;
}

static bool fits(const struct view *view, int width) {
    int all = -GAP;
    for (int c = 0; c < view->n; c++) all += GAP + view->widths[c];
    return all <= width;
}

void kv_table_print_within(const kv_table *table, int width, FILE *stream) {
    struct view view;
    if (!table || table->failed) {
        fputs("(out of memory for the table)\n", stream);
        return;
    }
    measure(table, &view);
    if (view.n == 0) return;
    int room = width;
    const int n_keys = leading_keys(&view);
    for (int c = 0; c < n_keys; c++) room -= view.widths[c] + (c > 0 ? GAP : 0);
    // Names that leave the figures no place go above them.
    const bool stacked = width > 0 && n_keys < view.n && room < width / 3 && !fits(&view, width);
    if (stacked) room = width;
    for (int first = n_keys; first < view.n || first == n_keys;) {
        const int end = width > 0 ? block_end(&view, first, room) : view.n;
        if (first > n_keys) fputc('\n', stream);
        print_block(&view, &(struct block){n_keys, first, end, stacked}, stream);
        if (end >= view.n) return;
        first = end;
    }
}

void kv_table_print(const kv_table *table, FILE *stream) {
    kv_table_print_within(table, kv_console_width(stream), stream);
}

// ---- All tables ----------------------------------------------------------------------------------------

static void print_words(const char *text, FILE *stream) {
    kv_fold(text, kv_console_width(stream), stream);
    fputc('\n', stream);
}

static kv_status write_text(const kv_tables *tables, FILE *stream, kv_error *err) {
    const kv_status status = kv_tables_check(tables, err);
    bool any = false;
    for (size_t i = 0; status == KV_OK && i < tables->n; i++) {
        const kv_table *table = tables->tables[i];
        if (table->audience == KV_FOR_PROGRAMS) continue;
        if (any) fputc('\n', stream);
        if (table->title) print_words(table->title, stream);
        kv_table_print(table, stream);
        for (size_t k = 0; k < table->n_notes; k++) print_words(table->notes[k], stream);
        any = true;
    }
    return status;
}

const kv_table_format kv_format_text = {"text", "for a terminal", false, write_text};

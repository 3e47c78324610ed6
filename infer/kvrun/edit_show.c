// The line that is being edited, on the screen: rows of characters in their widths, a prompt before the first.
//
// A row leaves the last column free, so that no terminal wraps by itself, however it does that. Of a text that is longer than the
// screen those rows are shown that are around the cursor.
#include "infer/kvrun/edit.h"

#include "data/system/width.h"

#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

static const char prompt[] = "> ", behind_screen[] = "\u2026 "; // the latter: there is more above
enum { indent = 2 };                                            // of the rows below the first

struct row {
    size_t start, end; // bytes of the text
    int columns;       // with what stands in front
};

struct layout {
    char *text;    // printable
    size_t cursor; // where in it
    struct row *rows;
    size_t n;
    size_t cursor_row;
    int cursor_column;
};

static void screen_size(int *width, int *height) {
    struct winsize size;
    const bool known = ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0;
    *width = known && size.ws_col > 0 ? size.ws_col : 80;
    *height = known && size.ws_row > 0 ? size.ws_row : 24;
}

void kvrun_editor_write(kvrun_editor *e, const char *text) {
    (void)e;
    fputs(text, stderr);
    fflush(stderr);
}

// ---- Rows ----------------------------------------------------------------------------------------------

static bool add_row(struct layout *l, size_t start, int columns) {
    struct row *more = kv_room_for_one(l->rows, l->n, sizeof *more);
    if (!more) return false;
    l->rows = more;
    more[l->n++] = (struct row){start, start, columns};
    return true;
}

static void put_cursor(struct layout *l, size_t at) {
    if (at != l->cursor) return;
    l->cursor_row = l->n - 1;
    l->cursor_column = l->rows[l->n - 1].columns;
}

// At least one character a row, be the screen ever so narrow.
static bool lay_out(struct layout *l, int width, int first) {
    if (!add_row(l, 0, first)) return false;
    for (size_t at = 0, length; l->text[at]; at += length) {
        struct row *row = &l->rows[l->n - 1];
        if (l->text[at] == '\n') {
            length = 1;
            put_cursor(l, at);
            if (!add_row(l, at + 1, indent)) return false;
            continue;
        }
        const int columns = kv_text_character(l->text + at, &length);
        if (row->columns + columns > width - 1 && row->end > row->start) {
            if (!add_row(l, at, indent)) return false;
            row = &l->rows[l->n - 1];
        }
        put_cursor(l, at);
        row->columns += columns;
        row->end = at + length;
    }
    put_cursor(l, strlen(l->text));
    return true;
}

// The text before the cursor and behind it, as a terminal may show them.
static bool prepare(const kvrun_editor *e, struct layout *l, bool whole) {
    const size_t n = kvrun_editor_text(e).n, cursor = whole ? n : kvrun_editor_text(e).cursor;
    char *before = kvrun_editor_utf8(e, 0, cursor), *behind = kvrun_editor_utf8(e, cursor, n);
    char *left = before ? kv_text_printable(before, true) : NULL;
    char *right = behind ? kv_text_printable(behind, true) : NULL;
    free(before);
    free(behind);
    if (left && right) {
        l->cursor = strlen(left);
        l->text = malloc(l->cursor + strlen(right) + 1);
        if (l->text) strcpy(stpcpy(l->text, left), right);
    }
    free(left);
    free(right);
    return l->text != NULL;
}

// ---- Drawing -------------------------------------------------------------------------------------------

static void put(kvrun_editor *e, const char *text, size_t length) {
    kv_bytes_add(&e->draw, text, length, NULL);
}

static void put_text(kvrun_editor *e, const char *text) {
    put(e, text, strlen(text));
}

static void move(kvrun_editor *e, int n, char where) {
    char text[24];
    if (n > 0) put(e, text, (size_t)snprintf(text, sizeof text, "\033[%d%c", n, where));
}

// To the first row of what is drawn, and all of it away.
static void wipe(kvrun_editor *e) {
    if (e->n_rows > 0) move(e, e->row, 'A');
    put_text(e, "\r\033[J");
}

// Which row is the first that is shown: the one it was before, as far as the cursor can be seen so.
static size_t first_shown(const kvrun_editor *e, const struct layout *l, size_t height) {
    size_t top = e->top;
    if (top + height > l->n) top = l->n > height ? l->n - height : 0;
    if (l->cursor_row < top) top = l->cursor_row;
    if (l->cursor_row >= top + height) top = l->cursor_row - height + 1;
    return top;
}

static void draw_rows(kvrun_editor *e, const struct layout *l, size_t from, size_t to) {
    const char *front = e->label[0] ? e->label : prompt;
    for (size_t i = from; i < to; i++) {
        const struct row *row = &l->rows[i];
        put_text(e, i == 0 ? front : i == from ? behind_screen : "  ");
        put(e, l->text + row->start, row->end - row->start);
        if (i + 1 < to) put_text(e, "\r\n");
    }
}

static void remember(kvrun_editor *e, const struct layout *l, size_t from, size_t to, int width) {
    e->top = from;
    e->width = width;
    e->row = (int)(l->cursor_row - from);
    int *columns = realloc(e->columns, (to - from) * sizeof *columns);
    if (columns) e->columns = columns;
    e->n_rows = columns ? (int)(to - from) : 0;
    for (int i = 0; i < e->n_rows; i++) columns[i] = l->rows[from + (size_t)i].columns;
}

void kvrun_editor_show(kvrun_editor *e, bool whole) {
    struct layout l = {0};
    int width, height;
    screen_size(&width, &height);
    e->draw.length = 0;
    if (prepare(e, &l, whole) && lay_out(&l, width, e->label[0] ? kv_text_width(e->label) : indent)) {
        const size_t from = whole ? 0 : first_shown(e, &l, (size_t)height);
        const size_t to = whole || l.n - from < (size_t)height ? l.n : from + (size_t)height;
        wipe(e);
        draw_rows(e, &l, from, to);
        move(e, (int)(to - 1 - l.cursor_row), 'A');
        put_text(e, "\r");
        move(e, l.cursor_column, 'C');
        remember(e, &l, from, to, width);
        fwrite(e->draw.data, 1, e->draw.length, stderr);
        fflush(stderr);
    }
    free(l.text);
    free(l.rows);
}

void kvrun_editor_forget_screen(kvrun_editor *e) {
    e->n_rows = e->row = 0;
    e->top = 0;
}

// A terminal that became narrower breaks rows that it finds too long; one that became wider joins none of ours.
void kvrun_editor_reflow(kvrun_editor *e) {
    int width, height, row = 0;
    screen_size(&width, &height);
    if (e->n_rows == 0 || width >= e->width) return;
    for (int i = 0; i < e->row; i++) row += e->columns[i] > width ? (e->columns[i] + width - 1) / width : 1;
    e->row = row < height ? row : height - 1;
}

// A cell keeps the number beside its text, so that no format has to read a number back out of what a person reads.
#include "data/system/buffers.h"
#include "data/system/width.h"
#include "data/table/format.h"
#include "data/table/model.h"

#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

kv_table *kv_table_create(void) {
    return calloc(1, sizeof(kv_table));
}

void kv_table_free(kv_table *table) {
    if (!table) return;
    for (int i = 0; i < table->n_columns; i++) {
        kv_table_column_data *column = &table->columns[i];
        free(column->group);
        free(column->title);
        free(column->name);
        free(column->spread);
    }
    for (size_t i = 0; i < table->n_cells; i++) free(table->cells[i].text);
    for (size_t i = 0; i < table->n_notes; i++) free(table->notes[i]);
    free(table->cells);
    free(table->notes);
    free(table->marked);
    free(table->name);
    free(table->title);
    free(table);
}

// NULL when out of memory.
static char *printable(const char *format, va_list args, bool lines) {
    char *text = NULL, *copy = NULL;
    if (vasprintf(&text, format, args) >= 0) copy = kv_text_printable(text, lines);
    free(text);
    return copy;
}

// ---- Around it -----------------------------------------------------------------------------------------

void kv_table_title(kv_table *table, const char *format, ...) {
    if (!table || table->failed) return;
    va_list args;
    va_start(args, format);
    free(table->title);
    table->title = printable(format, args, true);
    va_end(args);
    table->failed = !table->title;
}

void kv_table_note(kv_table *table, const char *format, ...) {
    if (!table || table->failed) return;
    char **more = kv_room_for_one(table->notes, table->n_notes, sizeof *more);
    table->failed = !more;
    if (!more) return;
    table->notes = more;
    va_list args;
    va_start(args, format);
    more[table->n_notes] = printable(format, args, true);
    va_end(args);
    table->failed = !more[table->n_notes];
    table->n_notes += !table->failed;
}

// ---- Columns -------------------------------------------------------------------------------------------

static void add_column(kv_table *table, const char *group, const char *title, const char *name,
                       kv_table_column_data column) {
    if (!table || table->failed) return;
    table->failed = table->n_columns == KV_TABLE_MAX_COLUMNS;
    if (table->failed) return;
    column.group = kv_text_printable(group, false);
    column.title = kv_text_printable(title, false);
    column.name = name ? kv_text_printable(name, false) : NULL;
    table->columns[table->n_columns++] = column;
    table->failed = !column.group || !column.title || (name && !column.name);
}

static bool stands_left(kv_field field) {
    return field == KV_FIELD_TEXT || field == KV_FIELD_FLAG;
}

void kv_table_field(kv_table *table, const char *group, const char *title, kv_field field, const char *name) {
    add_column(table, group, title, name, (kv_table_column_data){.field = field, .left = stands_left(field)});
}

void kv_table_hidden(kv_table *table, kv_field field, const char *name) {
    add_column(table, "", "", name, (kv_table_column_data){.field = field, .hidden = true});
}

void kv_table_column(kv_table *table, const char *group, const char *title, bool left_aligned) {
    add_column(table, group, title, NULL, (kv_table_column_data){.left = left_aligned});
}

void kv_table_spread_name(kv_table *table, const char *suffix) {
    if (!table || table->failed || table->n_columns == 0) return;
    kv_table_column_data *column = &table->columns[table->n_columns - 1];
    free(column->spread);
    column->spread = strdup(suffix);
    table->failed = !column->spread;
}

int kv_table_shown(const kv_table *table, int columns[KV_TABLE_MAX_COLUMNS]) {
    int n = 0;
    for (int c = 0; c < table->n_columns; c++)
        if (!table->columns[c].hidden) columns[n++] = c;
    return n;
}

int kv_table_names(const kv_table_column_data *column, char names[2][KV_TABLE_NAME]) {
    if (!column->name) return 0;
    const bool interval = column->field == KV_FIELD_INTERVAL, spread = column->field == KV_FIELD_SPREAD;
    snprintf(names[0], KV_TABLE_NAME, "%s%s", column->name, interval ? "_low" : "");
    snprintf(names[1], KV_TABLE_NAME, "%s_%s", column->name,
             interval         ? "high"
             : column->spread ? column->spread
                              : "sd");
    return interval || spread ? 2 : 1;
}

int kv_table_group_end(const kv_table *table, const int *shown, int n, int first) {
    const char *group = table->columns[shown[first]].group;
    int end = first;
    do end++;
    while (end < n && *group && !strcmp(table->columns[shown[end]].group, group));
    return end;
}

// ---- Cells ---------------------------------------------------------------------------------------------

static void add_cell(kv_table *table, double first, double second, const char *format, va_list args) {
    const size_t n = table->n_cells;
    kv_table_cell_data *more = kv_room_for_one(table->cells, n, sizeof *more);
    table->failed = !more;
    if (!more) return;
    table->cells = more;
    more[n] = (kv_table_cell_data){.text = printable(format, args, false), .value = {first, second}};
    table->failed = !more[n].text;
    table->n_cells += !table->failed;
}

void kv_table_cell(kv_table *table, const char *format, ...) {
    if (!table || table->failed) return;
    va_list args;
    va_start(args, format);
    add_cell(table, (double)NAN, (double)NAN, format, args);
    va_end(args);
}

void kv_table_pair(kv_table *table, double first, double second, const char *format, ...) {
    if (!table || table->failed) return;
    va_list args;
    va_start(args, format);
    add_cell(table, first, second, format, args);
    va_end(args);
}

void kv_table_value(kv_table *table, double value, const char *format, ...) {
    if (!table || table->failed) return;
    va_list args;
    va_start(args, format);
    add_cell(table, value, (double)NAN, format, args);
    va_end(args);
}

void kv_table_none(kv_table *table) {
    kv_table_cell(table, "-");
}

void kv_table_number(kv_table *table, const char *format, double unit, double value) {
    char text[64];
    if (!isfinite(value)) {
        kv_table_none(table);
        return;
    }
    snprintf(text, sizeof text, format, unit * value);
    kv_table_value(table, value, "%s", text);
}

void kv_table_p(kv_table *table, double p) {
    if (p < 0.001)
        kv_table_value(table, p, "<0.001");
    else
        kv_table_number(table, "%.3f", 1, p);
}

void kv_table_mark(kv_table *table) {
    if (!table || table->failed || table->n_cells == 0) return;
    size_t *more = kv_room_for_one(table->marked, table->n_marked, sizeof *more);
    table->failed = !more;
    if (!more) return;
    table->marked = more;
    more[table->n_marked++] = (table->n_cells - 1) / (size_t)table->n_columns;
}

bool kv_table_is_marked(const kv_table *table, size_t row) {
    for (size_t i = 0; i < table->n_marked; i++)
        if (table->marked[i] == row) return true;
    return false;
}

// ---- All of them ---------------------------------------------------------------------------------------

kv_tables *kv_tables_create(void) {
    return calloc(1, sizeof(kv_tables));
}

void kv_tables_free(kv_tables *tables) {
    if (!tables) return;
    for (size_t i = 0; i < tables->n; i++) kv_table_free(tables->tables[i]);
    free(tables->tables);
    json_decref(tables->facts);
    free(tables);
}

kv_table *kv_tables_add(kv_tables *tables, kv_audience audience, const char *name) {
    if (!tables) return NULL;
    kv_table **more = kv_room_for_one(tables->tables, tables->n, sizeof(kv_table *));
    kv_table *table = more ? kv_table_create() : NULL;
    if (more) tables->tables = more;
    if (table) {
        more[tables->n++] = table;
        table->audience = audience;
        table->name = strdup(name);
        table->failed = !table->name;
    }
    tables->failed = tables->failed || !table;
    return table;
}

kv_table *kv_tables_last(kv_tables *tables) {
    return tables && tables->n > 0 ? tables->tables[tables->n - 1] : NULL;
}

void kv_tables_fail(kv_tables *tables) {
    if (tables) tables->failed = true;
}

kv_status kv_tables_check(const kv_tables *tables, kv_error *err) {
    bool failed = !tables || tables->failed;
    for (size_t i = 0; !failed && i < tables->n; i++) failed = tables->tables[i]->failed;
    return failed ? kv_fail(err, KV_ERR_MEMORY, "out of memory for the tables") : KV_OK;
}

void kv_tables_fact(kv_tables *tables, const char *key, json_t *value) {
    if (tables && !tables->facts) tables->facts = json_object();
    if (!tables || !value || json_object_set_new(tables->facts, key, value)) {
        if (tables) tables->failed = true;
    }
}

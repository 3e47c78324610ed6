// One object: {"tables": [{"name": …, "title": …, "rows": [{COLUMN: VALUE}], "notes": […]}], …}. Numbers are the ones that
// texts on a terminal show rounded; null where there is none.
#include "data/file/json.h"
#include "data/table/format.h"
#include "data/table/model.h"

#include <math.h>
#include <stdlib.h>

static json_t *number(double value, bool whole) {
    if (!isfinite(value)) return json_null();
    return whole ? json_integer((json_int_t)value) : json_real(value);
}

static void put_cell(json_t *row, const kv_table_column_data *column, const kv_table_cell_data *cell) {
    char names[2][KV_TABLE_NAME];
    const int n = kv_table_names(column, names);
    if (n == 0) return;
    if (column->field == KV_FIELD_TEXT)
        json_object_set_new(row, names[0], json_string(cell->text));
    else if (column->field == KV_FIELD_FLAG)
        json_object_set_new(row, names[0], json_boolean(cell->value[0] > 0));
    else
        for (int i = 0; i < n; i++)
            json_object_set_new(row, names[i], number(cell->value[i], column->field == KV_FIELD_WHOLE));
}

static json_t *rows_of(const kv_table *table) {
    json_t *rows = json_array();
    for (size_t r = 0; r < kv_table_rows(table); r++) {
        json_t *row = json_object();
        for (int c = 0; c < table->n_columns; c++)
            put_cell(row, &table->columns[c], kv_table_at(table, r, c));
        json_array_append_new(rows, row);
    }
    return rows;
}

static json_t *notes_of(const kv_table *table) {
    json_t *notes = json_array();
    for (size_t i = 0; i < table->n_notes; i++) json_array_append_new(notes, json_string(table->notes[i]));
    return notes;
}

static json_t *object_of(const kv_table *table) {
    json_t *object = json_object();
    json_object_set_new(object, "name", json_string(table->name));
    json_object_set_new(object, "title", table->title ? json_string(table->title) : json_null());
    json_object_set_new(object, "rows", rows_of(table));
    json_object_set_new(object, "notes", notes_of(table));
    return object;
}

static kv_status write_json(const kv_tables *tables, FILE *stream, kv_error *err) {
    kv_status status = kv_tables_check(tables, err);
    if (status != KV_OK) return status;
    json_t *root = tables->facts ? json_copy(tables->facts) : json_object(), *list = json_array(),
           *paragraphs = json_array();
    for (size_t i = 0; i < tables->n; i++) {
        const kv_table *table = tables->tables[i];
        if (table->audience == KV_FOR_PEOPLE) continue;
        if (table->n_columns == 0 && table->title)
            json_array_append_new(paragraphs, json_string(table->title));
        else
            json_array_append_new(list, object_of(table));
    }
    json_object_set_new(root, "notes", paragraphs);
    json_object_set_new(root, "tables", list);
    char *text = root ? json_dumps(root, JSON_INDENT(1)) : NULL;
    if (text)
        fprintf(stream, "%s\n", text);
    else
        status = kv_fail(err, KV_ERR_MEMORY, "out of memory for the tables");
    free(text);
    json_decref(root);
    return status;
}

const kv_table_format kv_format_json = {"json", "JSON", true, write_json};

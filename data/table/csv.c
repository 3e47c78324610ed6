// One table of all tables, so that one call of any reader takes it: `table` says which one a row is of, the other columns
// are those that any table has, and a field is empty where a row's own table has no such column, or no number.
#include "data/file/csv.h"
#include "data/system/buffers.h"
#include "data/table/format.h"
#include "data/table/model.h"

#include <stdlib.h>
#include <string.h>

// Names of columns, in the order in which tables bring them.
struct names {
    char **names;
    size_t n;
};

static bool take_name(struct names *all, const char *name) {
    for (size_t i = 0; i < all->n; i++)
        if (!strcmp(all->names[i], name)) return true;
    char **more = kv_room_for_one(all->names, all->n, sizeof *more);
    if (!more) return false;
    all->names = more;
    more[all->n] = strdup(name);
    return more[all->n++] != NULL;
}

static bool take_names(struct names *all, const kv_table *table) {
    char names[2][KV_TABLE_NAME];
    bool ok = true;
    for (int c = 0; ok && c < table->n_columns; c++) {
        const int n = kv_table_names(&table->columns[c], names);
        for (int i = 0; ok && i < n; i++) ok = take_name(all, names[i]);
    }
    return ok;
}

static void put_cell(kv_csv *csv, const kv_table_column_data *column, const kv_table_cell_data *cell,
                     int which) {
    if (column->field == KV_FIELD_TEXT)
        kv_csv_text(csv, cell->text);
    else if (column->field == KV_FIELD_FLAG)
        kv_csv_text(csv, cell->value[0] > 0 ? "true" : "false");
    else
        kv_csv_exact(csv, cell->value[which]);
}

// The row's field of that name, or an empty one.
static void put_field(kv_csv *csv, const kv_table *table, size_t row, const char *name) {
    char names[2][KV_TABLE_NAME];
    for (int c = 0; c < table->n_columns; c++) {
        const int n = kv_table_names(&table->columns[c], names);
        for (int i = 0; i < n; i++)
            if (!strcmp(names[i], name)) {
                put_cell(csv, &table->columns[c], kv_table_at(table, row, c), i);
                return;
            }
    }
    kv_csv_text(csv, "");
}

static bool for_programs(const kv_table *table) {
    return table->audience != KV_FOR_PEOPLE && table->n_columns > 0;
}

static kv_status write_csv(const kv_tables *tables, FILE *stream, kv_error *err) {
    struct names all = {0};
    kv_csv *csv = NULL;
    kv_status status = kv_tables_check(tables, err);
    bool ok = true;
    for (size_t i = 0; status == KV_OK && ok && i < tables->n; i++)
        if (for_programs(tables->tables[i])) ok = take_names(&all, tables->tables[i]);
    if (status == KV_OK && ok) csv = kv_csv_on(stream);
    if (status == KV_OK && !csv) status = kv_fail(err, KV_ERR_MEMORY, "out of memory for the tables");
    if (csv) {
        kv_csv_text(csv, "table");
        for (size_t i = 0; i < all.n; i++) kv_csv_text(csv, all.names[i]);
        kv_csv_end_row(csv);
    }
    for (size_t i = 0; csv && i < tables->n; i++) {
        const kv_table *table = tables->tables[i];
        for (size_t row = 0; for_programs(table) && row < kv_table_rows(table); row++) {
            kv_csv_text(csv, table->name);
            for (size_t k = 0; k < all.n; k++) put_field(csv, table, row, all.names[k]);
            kv_csv_end_row(csv);
        }
    }
    for (size_t i = 0; i < all.n; i++) free(all.names[i]);
    free(all.names);
    free(csv);
    return status;
}

const kv_table_format kv_format_csv = {"csv", "comma-separated values", true, write_csv};

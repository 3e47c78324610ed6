// What a format reads. Who makes tables goes through table.h.
#pragma once

#include "data/table/table.h"

#include <jansson.h>
#include <stddef.h>

typedef struct kv_table_column_data {
    char *group, *title; // "" where there is none
    char *name;          // for programs; NULL: they do not get it
    char *spread;        // what stands behind NAME_ of a spread's second number; NULL: sd
    kv_field field;
    bool left, hidden;
} kv_table_column_data;

typedef struct kv_table_cell_data {
    char *text;
    double value[2]; // NAN: none
} kv_table_cell_data;

enum { KV_TABLE_MAX_COLUMNS = 160 };

struct kv_table {
    char *name, *title; // NULL: none
    kv_audience audience;
    char **notes;
    size_t n_notes;
    kv_table_column_data columns[KV_TABLE_MAX_COLUMNS];
    int n_columns;
    kv_table_cell_data *cells; // row by row
    size_t n_cells;
    size_t *marked; // rows, in order
    size_t n_marked;
    bool failed; // out of memory
};

struct kv_tables {
    kv_table **tables;
    size_t n;
    json_t *facts; // an object: what programs get beside the tables; NULL: nothing
    bool failed;
};

static inline size_t kv_table_rows(const kv_table *table) {
    return table->n_columns ? table->n_cells / (size_t)table->n_columns : 0;
}

static inline const kv_table_cell_data *kv_table_at(const kv_table *table, size_t row, int column) {
    return &table->cells[row * (size_t)table->n_columns + (size_t)column];
}

bool kv_table_is_marked(const kv_table *table, size_t row);

// KV_ERR_MEMORY where one of them could not be made.
kv_status kv_tables_check(const kv_tables *tables, kv_error *err);

// Numbers of the table's columns that people see, in order.
int kv_table_shown(const kv_table *table, int columns[KV_TABLE_MAX_COLUMNS]);

// What programs get of a column: no name, one, or two.
enum { KV_TABLE_NAME = 160 };
int kv_table_names(const kv_table_column_data *column, char names[2][KV_TABLE_NAME]);

// The end of the columns from number `first` of shown[n] on that stand under one heading.
int kv_table_group_end(const kv_table *table, const int *shown, int n, int first);

// Tables as comma-separated values, written with LF and read with LF or CR LF at the end of a row.
//                                                                                          [RFC 4180]
#pragma once

#include "core/status.h"

#include <stdint.h>
#include <stdio.h>

// ---- Writing -------------------------------------------------------------------------------------------

typedef struct kv_csv kv_csv;

// `header` is written as it is. On failure *csv is NULL.
kv_status kv_csv_create(const char *path, const char *header, kv_csv **csv, kv_error *err);

// Fields of the row under way: texts quoted where they have to be, numbers with 9 digits (whole ones as they
// are up to 2^53), empty when not finite.
void kv_csv_text(kv_csv *csv, const char *text);
void kv_csv_number(kv_csv *csv, double value);
void kv_csv_end_row(kv_csv *csv);

// A number with as few digits as bring it back to the bit; empty when not finite.
void kv_csv_exact(kv_csv *csv, double value);

// Rows on a stream that somebody else opened, and closes; without a header. To be freed with free(). NULL when out of memory.
kv_csv *kv_csv_on(FILE *stream);

// Closes, also after a failure: `so_far` is passed on then. A write that failed on the way shows here.
kv_status kv_csv_close(kv_csv *csv, kv_status so_far, kv_error *err);

// ---- Reading -------------------------------------------------------------------------------------------

// A table that was read: its first row are the names of its columns. Belongs to whom read it.
typedef struct kv_csv_table {
    int64_t n_columns, n_rows;
    char **names;   // [n_columns]
    char **cells;   // [n_rows · n_columns], row by row
    int64_t *lines; // [n_rows] of the file, counted from 1, where each row begins: for messages
    char *text;     // what names and cells point into
} kv_csv_table;

// Reads a file of at most 1 GiB, gzip or not. What stands between quotes is kept to the byte, new lines
// included. A byte order mark at the beginning is passed over, and so are empty lines where there is more
// than one column. KV_ERR_FORMAT naming file and line where a row has more or fewer fields than the first, a quote
// does not end, or text follows one. On failure *table is empty.
kv_status kv_csv_read(const char *path, kv_csv_table *table, kv_error *err);
// The same of text, NUL-terminated; `name` stands for the file's in messages.
kv_status kv_csv_parse(const char *name, const char *text, kv_csv_table *table, kv_error *err);
void kv_csv_table_free(kv_csv_table *table);

// Number of the column, or -1.
int64_t kv_csv_column(const kv_csv_table *table, const char *name);
// The cell in that column, "" for column -1.
const char *kv_csv_cell(const kv_csv_table *table, int64_t row, int64_t column);

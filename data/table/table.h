// Tables as data: what they are about, their columns, and cells that know the number they show. A format (format.h) turns
// them into text for a terminal, Markdown, LaTeX, CSV or JSON.
//
//     kv_table *t = kv_tables_add(tables, KV_FOR_ALL, "results");
//     kv_table_title(t, "%s: lower is better", task);
//     kv_table_field(t, "", "system", KV_FIELD_TEXT, "system");
//     kv_table_field(t, "cost", "reduction", KV_FIELD_NUMBER, "flops_reduction");
//     kv_table_cell(t, "%s", "base");
//     kv_table_number(t, "%.2fx", 1, 1.0);
//
// Every function takes NULL for a table that there is no memory for, does nothing then, and whoever writes the table says so.
// Texts are kept as kv_text_printable makes them.
#pragma once

#include "core/status.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

typedef struct kv_table kv_table;

kv_table *kv_table_create(void);
void kv_table_free(kv_table *table);

// What stands above it and, a line each, below it.
void kv_table_title(kv_table *table, const char *format, ...) __attribute__((format(printf, 2, 3)));
void kv_table_note(kv_table *table, const char *format, ...) __attribute__((format(printf, 2, 3)));

// ---- Columns, first of all -----------------------------------------------------------------------------

// What a column holds for a program.
typedef enum kv_field {
    KV_FIELD_TEXT,
    KV_FIELD_NUMBER,   // one number
    KV_FIELD_WHOLE,    // a whole one
    KV_FIELD_FLAG,     // true or false
    KV_FIELD_SPREAD,   // a number and how far others lie from it: NAME and NAME_sd
    KV_FIELD_INTERVAL, // from, to: NAME_low and NAME_high
} kv_field;

// Neighbours with the same `group` ("" for none) get that heading above their titles; there is no line of headings where
// nobody has one. `name` is what programs call it, and stays what it is. Texts and flags stand left, others right.
void kv_table_field(kv_table *table, const char *group, const char *title, kv_field field, const char *name);
// One that only programs see.
void kv_table_hidden(kv_table *table, kv_field field, const char *name);
// One that only people see.
void kv_table_column(kv_table *table, const char *group, const char *title, bool left_aligned);
// The last column's second number is called NAME_suffix instead of NAME_sd.
void kv_table_spread_name(kv_table *table, const char *suffix);

// ---- Then the cells, row by row, hidden ones too -------------------------------------------------------

// A text that is no number.
void kv_table_cell(kv_table *table, const char *format, ...) __attribute__((format(printf, 2, 3)));
// Nothing is known: "-".
void kv_table_none(kv_table *table);
// `format` shows unit · value; as kv_table_none where it is not finite.
void kv_table_number(kv_table *table, const char *format, double unit, double value)
    __attribute__((format(printf, 2, 0)));
// A number, or two, and the text that shows them. Numbers that are not finite are none to a program.
void kv_table_value(kv_table *table, double value, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void kv_table_pair(kv_table *table, double first, double second, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
// p of a test: "<0.001", "0.034".
void kv_table_p(kv_table *table, double p);
// The row that the last cell is in is one of the best: formats that can show its name in bold.
void kv_table_mark(kv_table *table);

// ---- A table by itself, on a terminal ------------------------------------------------------------------

// As wide as it comes, or, when the stream is a terminal that is narrower, as kv_table_print_within its
// width. Neither title nor notes.
void kv_table_print(const kv_table *table, FILE *stream);

// In blocks of columns, one below the other, that are at most `width` wide (0: any width). Where names would leave the
// figures hardly any place, those stand in a line below. Each block begins
// with the leading columns that are left-aligned and without a group, which say what a row is about;
// neighbours under one heading stay together where they fit.
void kv_table_print_within(const kv_table *table, int width, FILE *stream);

// ---- All that a program prints -------------------------------------------------------------------------

typedef struct kv_tables kv_tables;

// Some are laid out for people (a column for each prompt length, say); programs get rows with names instead.
typedef enum kv_audience { KV_FOR_ALL, KV_FOR_PEOPLE, KV_FOR_PROGRAMS } kv_audience;

// NULL: out of memory; the functions below take that, too.
kv_tables *kv_tables_create(void);
void kv_tables_free(kv_tables *tables);

// The next table; it belongs to `tables`. `name` is what programs know its kind by. One without columns is a paragraph: its
// title.
kv_table *kv_tables_add(kv_tables *tables, kv_audience audience, const char *name);
// The one that was added last; NULL: there is none.
kv_table *kv_tables_last(kv_tables *tables);
// A line for people of each of texts[n], what made the results shown (kv_made_by_text of data/file/made_by.h).
void kv_tables_made_by(kv_tables *tables, char *const *texts, int64_t n);
// What belongs there could not be made, for want of memory.
void kv_tables_fail(kv_tables *tables);

// A table of text for the terminal: columns as wide as their widest cell, neighbours under one common
// heading. Texts are shown as kv_text_printable makes them.
#pragma once

#include <stdbool.h>
#include <stdio.h>

typedef struct kv_table kv_table;

// NULL when out of memory; the functions below accept that, and kv_table_print then says so.
kv_table *kv_table_create(void);
void kv_table_free(kv_table *table);

// Columns first. Neighbours with the same `group` ("" for none) get that heading above their titles;
// there is no line of headings where nobody has one.
void kv_table_column(kv_table *table, const char *group, const char *title, bool left_aligned);

// Then the cells, row by row.
void kv_table_cell(kv_table *table, const char *format, ...) __attribute__((format(printf, 2, 3)));

// As wide as it comes, or, when the stream is a terminal that is narrower, as kv_table_print_within its
// width.
void kv_table_print(const kv_table *table, FILE *stream);

// In blocks of columns, one below the other, that are at most `width` wide (0: any width). Each block begins
// with the leading columns that are left-aligned and without a group, which say what a row is about;
// neighbours under one heading stay together where they fit.
void kv_table_print_within(const kv_table *table, int width, FILE *stream);

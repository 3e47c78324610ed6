// The rows of a README's key tables, cell by cell. Only key_reference.c needs it.
#pragma once

#include <cyaml/cyaml.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

enum { MAX_ROWS = 200, MAX_PARTS = 6, MAX_WORDS = 24, CELL = 400 };

// One of a default cell's alternatives.
typedef struct key_default {
    enum { LITERAL, REFERENCE, NONE, REQUIRED } kind;
    char text[CELL]; // the literal, or the key
    double divisor;
    bool seen;
} key_default;

typedef struct key_row {
    char key[CELL], type[CELL], otherwise[CELL], meaning[2 * CELL];
    key_default parts[MAX_PARTS];
    size_t n_parts;
    bool known;             // to the schema
    bool asked[3], seen[3]; // words, lower and upper bound: stated, and seen to be kept
} key_row;

typedef struct key_table {
    FILE *problems; // gets a line for each thing wrong
    key_row rows[MAX_ROWS];
    size_t n_rows;
} key_table;

// Every row of the tables with the four columns, below the heading.
void key_table_read(key_table *table, const char *text, const char *heading);
key_row *key_table_find(key_table *table, const char *key);

// NULL: no such kind of default.
key_default *key_row_default(key_row *row, int kind);

// The words in backticks.
size_t key_type_words(const char *cell, char words[MAX_WORDS][64]);
// Whether a type cell says what the schema does, and what that is.
bool key_type_is(const char *cell, const cyaml_schema_value_t *schema);
const char *key_type_of(const cyaml_schema_value_t *schema, char text[CELL]);

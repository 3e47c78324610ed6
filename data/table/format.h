// The formats that tables are written in, and the option --format that chooses one.
#pragma once

#include "data/table/table.h"

#include <argp.h>
#include <jansson.h>

typedef struct kv_table_format {
    const char *name, *about;
    bool data; // for programs: numbers as they are, instead of texts that show them
    kv_status (*write)(const kv_tables *tables, FILE *stream, kv_error *err);
} kv_table_format;

extern const kv_table_format kv_format_text, kv_format_markdown, kv_format_latex, kv_format_csv,
    kv_format_json;

// NULL: there is none of that name.
const kv_table_format *kv_table_format_find(const char *name);

// --format FORMAT. Its input is a `const kv_table_format *`, which becomes that of text unless the option is given.
extern const struct argp kv_table_format_argp;

// format NULL: text. KV_ERR_MEMORY naming what failed; whether it could be written is asked at exit (kv_console_flush).
kv_status kv_tables_write(const kv_tables *tables, const kv_table_format *format, FILE *stream,
                          kv_error *err);

// What programs get beside the tables, under a key of its own: JSON only. `value` is taken over.
void kv_tables_fact(kv_tables *tables, const char *key, json_t *value);

// A new format is a file of this room, a line here and one in format.h.
#include "data/table/format.h"

#include <string.h>

static const kv_table_format *const formats[] = {&kv_format_text, &kv_format_markdown, &kv_format_latex,
                                                 &kv_format_csv, &kv_format_json};
enum { N_FORMATS = sizeof formats / sizeof *formats };

const kv_table_format *kv_table_format_find(const char *name) {
    for (int i = 0; i < N_FORMATS; i++)
        if (!strcmp(formats[i]->name, name)) return formats[i];
    return NULL;
}

kv_status kv_tables_write(const kv_tables *tables, const kv_table_format *format, FILE *stream,
                          kv_error *err) {
    const kv_status status = (format ? format : &kv_format_text)->write(tables, stream, err);
    fflush(stream);
    return status;
}

// ---- The option ----------------------------------------------------------------------------------------

static const struct argp_option options[] = {
    {"format", 'F', "FORMAT", 0,
     "print tables as text (default), md (GitHub), latex (booktabs), csv (one table, its column `table` says which) or "
     "json (one object, all numbers as they are); nothing else then goes to standard output",
     0},
    {0},
};

static error_t parse(int key, char *text, struct argp_state *state) {
    const kv_table_format **format = state->input;
    if (key == ARGP_KEY_INIT) *format = &kv_format_text;
    if (key != 'F') return key == ARGP_KEY_INIT ? 0 : ARGP_ERR_UNKNOWN;
    *format = kv_table_format_find(text);
    if (!*format) argp_error(state, "--format: found %s, expected text, md, latex, csv or json", text);
    return 0;
}

const struct argp kv_table_format_argp = {options, parse, NULL, NULL, NULL, NULL, NULL};

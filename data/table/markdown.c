// Markdown as GitHub shows it: pipe tables, numbers right-aligned, the name of a marked row in bold.
//                                                                  [GitHub Flavored Markdown, 4.10 and 6.1]
#include "data/table/format.h"
#include "data/table/model.h"

#include <ctype.h>
#include <string.h>

// Whether the character at text[i] would be markup. An underscore inside a word is none.
static bool is_markup(const char *text, size_t i) {
    if (text[i] == '_')
        return i == 0 || !isalnum((unsigned char)text[i - 1]) || !isalnum((unsigned char)text[i + 1]);
    return text[i] && strchr("\\`*[]<>|~$&", text[i]);
}

static void put_text(const char *text, FILE *stream) {
    for (size_t i = 0; text[i]; i++) {
        if (is_markup(text, i)) fputc('\\', stream);
        fputc(text[i] == '\n' ? ' ' : text[i], stream);
    }
}

// What would begin a heading or a list is escaped, too.
static void put_paragraph(const char *text, FILE *stream) {
    const size_t digits = strspn(text, "0123456789");
    if (strchr("+-#", text[0]) && text[0]) fputc('\\', stream);
    if (digits > 0 && text[digits] && strchr(".)", text[digits])) {
        fprintf(stream, "%.*s\\", (int)digits, text);
        text += digits;
    }
    put_text(text, stream);
    fputs("\n\n", stream);
}

// There is one line of titles: a group's heading goes in front of each.
static void put_titles(const kv_table *table, const int *shown, int n, FILE *stream) {
    for (int c = 0; c < n; c++) {
        const kv_table_column_data *column = &table->columns[shown[c]];
        fputs("| ", stream);
        put_text(column->group, stream);
        if (*column->group && *column->title) fputs(": ", stream);
        put_text(column->title, stream);
        fputc(' ', stream);
    }
    fputs("|\n", stream);
    for (int c = 0; c < n; c++) fputs(table->columns[shown[c]].left ? "|:---" : "|---:", stream);
    fputs("|\n", stream);
}

static void put_row(const kv_table *table, const int *shown, int n, size_t row, FILE *stream) {
    bool bold = kv_table_is_marked(table, row);
    for (int c = 0; c < n; c++) {
        const char *text = kv_table_at(table, row, shown[c])->text;
        const bool name = bold && table->columns[shown[c]].field != KV_FIELD_FLAG && *text;
        fputs(name ? "| **" : "| ", stream);
        put_text(text, stream);
        fputs(name ? "** " : " ", stream);
        bold = bold && !name;
    }
    fputs("|\n", stream);
}

static void put_table(const kv_table *table, FILE *stream) {
    int shown[KV_TABLE_MAX_COLUMNS];
    const int n = kv_table_shown(table, shown);
    if (table->title) put_paragraph(table->title, stream);
    if (n > 0) put_titles(table, shown, n, stream);
    for (size_t row = 0; n > 0 && row < kv_table_rows(table); row++) put_row(table, shown, n, row, stream);
    if (n > 0) fputc('\n', stream);
    for (size_t i = 0; i < table->n_notes; i++) put_paragraph(table->notes[i], stream);
}

static kv_status write_markdown(const kv_tables *tables, FILE *stream, kv_error *err) {
    const kv_status status = kv_tables_check(tables, err);
    for (size_t i = 0; status == KV_OK && i < tables->n; i++)
        if (tables->tables[i]->audience != KV_FOR_PROGRAMS) put_table(tables->tables[i], stream);
    return status;
}

const kv_table_format kv_format_markdown = {"md", "Markdown", false, write_markdown};

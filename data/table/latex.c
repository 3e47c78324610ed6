// LaTeX with booktabs: each table is an environment `table` whose caption is what stands above it on a terminal.
#include "data/table/format.h"
#include "data/table/model.h"

#include <ctype.h>
#include <string.h>

// What has a meaning in LaTeX, or no glyph in a text font.
static const struct {
    const char *text, *latex;
} glyphs[] = {
    {"\\", "\\textbackslash{}"},
    {"{", "\\{"},
    {"}", "\\}"},
    {"&", "\\&"},
    {"%", "\\%"},
    {"$", "\\$"},
    {"#", "\\#"},
    {"_", "\\_"},
    {"^", "\\textasciicircum{}"},
    {"~", "\\textasciitilde{}"},
    {"<", "$<$"},
    {">", "$>$"},
    {"|", "$|$"},
    {"*", "$*$"},
    {"\"", "''"},
    {"\n", " "},
    {"±", "$\\pm$"},
    {"∞", "$\\infty$"},
    {"ρ", "$\\rho$"},
    {"×", "$\\times$"},
    {"−", "$-$"},
    {"≥", "$\\geq$"},
    {"≤", "$\\leq$"},
    {"–", "--"},
    {"…", "\\ldots{}"},
    {"·", "$\\cdot$"},
};
enum { N_GLYPHS = sizeof glyphs / sizeof *glyphs };

// Bytes of text that were taken.
static size_t put_glyph(const char *text, FILE *stream) {
    for (int g = 0; g < N_GLYPHS; g++) {
        const size_t length = strlen(glyphs[g].text);
        if (strncmp(text, glyphs[g].text, length) != 0) continue;
        fputs(glyphs[g].latex, stream);
        return length;
    }
    fputc(*text, stream);
    return 1;
}

static void put_text(const char *text, FILE *stream) {
    while (*text) text += put_glyph(text, stream);
}

static bool is_digit(char c) {
    return isdigit((unsigned char)c);
}

// A hyphen in front of a number is a minus, one between two a dash, as is one by itself; a per cent sign keeps to its number.
static void put_number(const char *text, FILE *stream) {
    if (!strcmp(text, "-")) {
        fputs("--", stream);
        return;
    }
    for (const char *c = text; *c;) {
        if (*c == '-' && c > text && (is_digit(c[-1]) || c[-1] == '%'))
            fputs("--", stream), c++;
        else if (*c == '-' && is_digit(c[1]))
            fputs("$-$", stream), c++;
        else if (!strncmp(c, " %", 2))
            fputs("\\,\\%", stream), c += 2;
        else
            c += put_glyph(c, stream);
    }
}

static void put_groups(const kv_table *table, const int *shown, int n, FILE *stream) {
    bool any = false;
    for (int c = 0; c < n; c++) any = any || *table->columns[shown[c]].group;
    if (!any) return;
    fputs("   ", stream);
    for (int c = 0, end; c < n; c = end) {
        end = kv_table_group_end(table, shown, n, c);
        fputs(c > 0 ? " & " : " ", stream);
        if (!*table->columns[shown[c]].group) continue;
        fprintf(stream, "\\multicolumn{%d}{c}{", end - c);
        put_text(table->columns[shown[c]].group, stream);
        fputc('}', stream);
    }
    fputs(" \\\\\n   ", stream);
    for (int c = 0, end; c < n; c = end) {
        end = kv_table_group_end(table, shown, n, c);
        if (*table->columns[shown[c]].group) fprintf(stream, " \\cmidrule(lr){%d-%d}", c + 1, end);
    }
    fputc('\n', stream);
}

// The row -1 are the titles.
static void put_row(const kv_table *table, const int *shown, int n, int64_t row, FILE *stream) {
    bool bold = row >= 0 && kv_table_is_marked(table, (size_t)row);
    fputs("   ", stream);
    for (int c = 0; c < n; c++) {
        const kv_table_column_data *column = &table->columns[shown[c]];
        const char *text = row < 0 ? column->title : kv_table_at(table, (size_t)row, shown[c])->text;
        const bool name = bold && column->field != KV_FIELD_FLAG && *text;
        fputs(c > 0 ? " & " : " ", stream);
        if (name) fputs("\\textbf{", stream);
        if (row < 0 || column->left)
            put_text(text, stream);
        else
            put_number(text, stream);
        if (name) fputc('}', stream);
        bold = bold && !name;
    }
    fputs(" \\\\\n", stream);
}

static void put_tabular(const kv_table *table, const int *shown, int n, FILE *stream) {
    fputs("  \\begin{tabular}{", stream);
    for (int c = 0; c < n; c++) fputc(table->columns[shown[c]].left ? 'l' : 'r', stream);
    fputs("}\n    \\toprule\n", stream);
    put_groups(table, shown, n, stream);
    put_row(table, shown, n, -1, stream);
    fputs("    \\midrule\n", stream);
    for (size_t row = 0; row < kv_table_rows(table); row++) put_row(table, shown, n, (int64_t)row, stream);
    fputs("    \\bottomrule\n  \\end{tabular}\n", stream);
}

static void put_paragraph(const char *before, const char *text, const char *behind, FILE *stream) {
    fputs(before, stream);
    put_text(text, stream);
    fputs(behind, stream);
}

static void put_table(const kv_table *table, FILE *stream) {
    int shown[KV_TABLE_MAX_COLUMNS];
    const int n = kv_table_shown(table, shown);
    if (n == 0) {
        if (table->title) put_paragraph("", table->title, "\n\n", stream);
        for (size_t i = 0; i < table->n_notes; i++) put_paragraph("", table->notes[i], "\n\n", stream);
        return;
    }
    fputs("\\begin{table}\n  \\centering\n", stream);
    if (table->title) put_paragraph("  \\caption{", table->title, "}\n", stream);
    put_tabular(table, shown, n, stream);
    for (size_t i = 0; i < table->n_notes; i++)
        put_paragraph("\n  {\\footnotesize ", table->notes[i], "\\par}\n", stream);
    fputs("\\end{table}\n\n", stream);
}

static kv_status write_latex(const kv_tables *tables, FILE *stream, kv_error *err) {
    const kv_status status = kv_tables_check(tables, err);
    if (status == KV_OK) fputs("% \\usepackage{booktabs}\n", stream);
    for (size_t i = 0; status == KV_OK && i < tables->n; i++)
        if (tables->tables[i]->audience != KV_FOR_PROGRAMS) put_table(tables->tables[i], stream);
    return status;
}

const kv_table_format kv_format_latex = {"latex", "LaTeX", false, write_latex};

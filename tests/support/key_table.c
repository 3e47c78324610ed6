#include "tests/support/key_table.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

// ---- The table -----------------------------------------------------------------------------------------

static void copy_trimmed(char *to, size_t size, const char *from, size_t n) {
    while (n > 0 && isspace((unsigned char)*from)) from++, n--;
    while (n > 0 && isspace((unsigned char)from[n - 1])) n--;
    snprintf(to, size, "%.*s", (int)n, from);
}

// The next cell of a row, "\|" being no border; false at the end.
static bool next_cell(const char **at, char *cell, size_t size) {
    const char *end = *at;
    while (*end && *end != '\n' && (*end != '|' || end[-1] == '\\')) end++;
    if (*end != '|') return false;
    copy_trimmed(cell, size, *at, (size_t)(end - *at));
    *at = end + 1;
    return true;
}

key_row *key_table_find(key_table *t, const char *key) {
    for (size_t i = 0; i < t->n_rows; i++)
        if (strcmp(t->rows[i].key, key) == 0) return &t->rows[i];
    return NULL;
}

static void read_row(key_table *t, const char *line) {
    key_row row = {0};
    char key[CELL];
    const char *at = line + 1;
    if (!next_cell(&at, key, sizeof key) || !next_cell(&at, row.type, sizeof row.type) ||
        !next_cell(&at, row.otherwise, sizeof row.otherwise) ||
        !next_cell(&at, row.meaning, sizeof row.meaning)) {
        fprintf(t->problems, "expected four cells: %.80s\n", line);
        return;
    }
    const size_t n = strlen(key);
    if (n < 3 || key[0] != '`' || key[n - 1] != '`') {
        fprintf(t->problems, "expected a key in backticks: %s\n", key);
        return;
    }
    copy_trimmed(row.key, sizeof row.key, key + 1, n - 2);
    if (!*row.meaning) fprintf(t->problems, "`%s`: no meaning\n", row.key);
    if (key_table_find(t, row.key)) fprintf(t->problems, "`%s`: two rows\n", row.key);
    if (t->n_rows < MAX_ROWS) t->rows[t->n_rows++] = row;
}

// ---- Default cells -------------------------------------------------------------------------------------

static bool starts(const char *text, const char *word) {
    return strncmp(text, word, strlen(word)) == 0;
}

static bool read_part(key_table *t, const char *text, key_default *part) {
    if (starts(text, "none")) part->kind = NONE;
    if (starts(text, "required")) part->kind = REQUIRED;
    if (part->kind != LITERAL) return true;
    const char *end = *text == '`' ? strchr(text + 1, '`') : NULL;
    if (!end) return false;
    copy_trimmed(part->text, sizeof part->text, text + 1, (size_t)(end - text - 1));
    part->divisor = 1;
    if (!key_table_find(t, part->text)) return true;
    part->kind = REFERENCE;
    if (starts(end + 1, " / ")) part->divisor = strtod(end + 4, NULL);
    return true;
}

static void read_default(key_table *t, key_row *row) {
    for (const char *at = row->otherwise; *at; at += *at == ';') {
        const char *end = strchrnul(at, ';');
        char text[CELL];
        copy_trimmed(text, sizeof text, at, (size_t)(end - at));
        at = end;
        if (row->n_parts == MAX_PARTS || !read_part(t, text, &row->parts[row->n_parts++])) break;
    }
    const bool whole = row->n_parts > 0 &&
                       (row->parts[row->n_parts - 1].kind != LITERAL || *row->parts[row->n_parts - 1].text);
    if (!whole)
        fprintf(t->problems, "`%s`: default \"%s\", expected a value in backticks, none or required\n",
                row->key, row->otherwise);
}

key_default *key_row_default(key_row *row, int kind) {
    for (size_t i = 0; i < row->n_parts; i++)
        if ((int)row->parts[i].kind == kind) return &row->parts[i];
    return NULL;
}

// ---- All tables ----------------------------------------------------------------------------------------

static size_t heading_level(const char *line) {
    const size_t level = strspn(line, "#");
    return level > 0 && line[level] == ' ' ? level : 0;
}

void key_table_read(key_table *t, const char *text, const char *heading) {
    const size_t level = heading_level(heading);
    bool inside = false, in_table = false, fenced = false, found = false;
    for (const char *line = text, *next; *line; line = next) {
        const char *end = strchrnul(line, '\n');
        next = *end ? end + 1 : end;
        fenced ^= starts(line, "```");
        if (!fenced && heading_level(line)) {
            const bool is_it =
                (size_t)(end - line) == strlen(heading) && !strncmp(line, heading, strlen(heading));
            inside = is_it || (inside && heading_level(line) > level);
            found = found || is_it;
        }
        if (*line != '|')
            in_table = false;
        else if (!strncmp(line, "| key | type | default | meaning |", 34))
            in_table = true;
        else if (inside && in_table && strncmp(line, "|-", 2) != 0)
            read_row(t, line);
    }
    if (!found) fprintf(t->problems, "no heading \"%s\"\n", heading);
    for (size_t r = 0; r < t->n_rows; r++) read_default(t, &t->rows[r]);
}

// ---- Type cells ----------------------------------------------------------------------------------------

size_t key_type_words(const char *cell, char words[MAX_WORDS][64]) {
    size_t n = 0;
    for (const char *at = strchr(cell, '`'); at && n < MAX_WORDS; at = strchr(at, '`')) {
        const char *end = strchr(at + 1, '`');
        if (!end) break;
        snprintf(words[n++], 64, "%.*s", (int)(end - at - 1), at + 1);
        at = end + 1;
    }
    return n;
}

static bool same_words(const char *cell, const cyaml_schema_value_t *schema) {
    char words[MAX_WORDS][64];
    const size_t n = key_type_words(cell, words);
    size_t n_found = 0;
    for (uint32_t i = 0; i < schema->enumeration.count; i++)
        for (size_t w = 0; w < n; w++) n_found += strcmp(words[w], schema->enumeration.strings[i].str) == 0;
    return n == schema->enumeration.count && n_found == n;
}

// "number", "number from 0", "number, …", but not "numbers".
static bool is_type(const char *cell, const char *type) {
    const size_t n = strlen(type);
    if (!starts(cell, type)) return false;
    const char *rest = cell + n;
    return !*rest || *rest == ',' || starts(rest, " from ") || starts(rest, " above ") ||
           starts(rest, " to ");
}

static bool is_text_type(const char *cell) {
    char words[MAX_WORDS][64];
    return is_type(cell, "text") || is_type(cell, "path") || key_type_words(cell, words) > 0;
}

bool key_type_is(const char *cell, const cyaml_schema_value_t *schema) {
    switch (schema->type) {
    case CYAML_INT:
    case CYAML_UINT: return is_type(cell, "whole number");
    case CYAML_FLOAT: return is_type(cell, "number");
    case CYAML_BOOL: return is_type(cell, "true or false");
    case CYAML_ENUM: return same_words(cell, schema);
    case CYAML_STRING: return is_text_type(cell);
    case CYAML_IGNORE: return is_type(cell, "group") || is_type(cell, "whole number or list of whole numbers");
    case CYAML_SEQUENCE:
        switch (schema->sequence.entry->type) {
        case CYAML_MAPPING: return is_type(cell, "list of groups");
        case CYAML_FLOAT: return is_type(cell, "list of numbers");
        case CYAML_STRING: return is_type(cell, "list of texts") || is_type(cell, "list of paths");
        default: return is_type(cell, "list of whole numbers");
        }
    default: return false;
    }
}

const char *key_type_of(const cyaml_schema_value_t *schema, char text[CELL]) {
    static const char *const names[] = {
        [CYAML_INT] = "whole number",   [CYAML_UINT] = "whole number",   [CYAML_FLOAT] = "number",
        [CYAML_BOOL] = "true or false", [CYAML_STRING] = "text or path", [CYAML_IGNORE] = "group",
        [CYAML_SEQUENCE] = "list of",   [CYAML_ENUM] = "one of"};
    int n = snprintf(text, CELL, "%s", names[schema->type]);
    if (schema->type == CYAML_SEQUENCE)
        snprintf(text + n, CELL - (size_t)n, " %ss",
                 schema->sequence.entry->type == CYAML_MAPPING ? "group"
                                                               : names[schema->sequence.entry->type]);
    for (uint32_t i = 0; schema->type == CYAML_ENUM && i < schema->enumeration.count; i++)
        n += snprintf(text + n, CELL - (size_t)n, " `%s`", schema->enumeration.strings[i].str);
    return text;
}

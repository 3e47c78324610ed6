// A cell knows the number it shows, so that sorting reads none back out of a text.
#include "eval/html/tables.h"

#include "data/system/width.h"
#include "data/table/model.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct shown {
    kv_html *html;
    const kv_table *table;
    const kv_results *results;
    int columns[KV_TABLE_MAX_COLUMNS], n; // that people see
    int key;                              // the column of systems or what else rows are about; -1: none
};

static const kv_table_column_data *column_of(const struct shown *s, int i) {
    return &s->table->columns[s->columns[i]];
}

// ---- Headings ------------------------------------------------------------------------------------------

static bool has_groups(const struct shown *s) {
    for (int i = 0; i < s->n; i++)
        if (*column_of(s, i)->group) return true;
    return false;
}

static void put_heading(const struct shown *s, int i, int rows) {
    const kv_table_column_data *column = column_of(s, i);
    kv_html_put(s->html, "<th scope=\"col\" data-column=\"%d\" data-kind=\"%s\" class=\"%s%s\"%s>", i,
                column->left ? "text" : "number", column->left ? "text" : "", i == s->key ? " key" : "",
                rows > 1 ? " rowspan=\"2\"" : "");
    kv_html_text(s->html, *column->title ? column->title : i == 0 ? "front" : "");
    kv_html_put(s->html, "</th>");
}

static void put_head(const struct shown *s) {
    const bool groups = has_groups(s);
    kv_html_put(s->html, "<thead><tr>");
    for (int i = 0, end; groups && i < s->n; i = end) {
        end = i + 1;
        if (!*column_of(s, i)->group) {
            put_heading(s, i, 2);
            continue;
        }
        end = kv_table_group_end(s->table, s->columns, s->n, i);
        kv_html_put(s->html, "<th scope=\"colgroup\" class=\"group\" colspan=\"%d\">", end - i);
        kv_html_text(s->html, column_of(s, i)->group);
        kv_html_put(s->html, "</th>");
    }
    if (groups) kv_html_put(s->html, "</tr><tr>");
    for (int i = 0; i < s->n; i++)
        if (!groups || *column_of(s, i)->group) put_heading(s, i, 1);
    kv_html_put(s->html, "</tr></thead>\n");
}

// ---- Rows ----------------------------------------------------------------------------------------------

// -1: no system has such a name.
static int64_t system_named(const kv_results *results, const char *name) {
    for (int64_t i = 0; i < results->n_systems; i++) {
        char *own = kv_text_printable(results->systems[i].name, false);
        const bool same = own && !strcmp(own, name);
        free(own);
        if (same) return i;
    }
    return -1;
}

static void put_row(const struct shown *s, size_t row) {
    const char *key = s->key < 0 ? NULL : kv_table_at(s->table, row, s->columns[s->key])->text;
    const int64_t system = key ? system_named(s->results, key) : -1;
    kv_html_put(s->html, "<tr%s", kv_table_is_marked(s->table, row) ? " class=\"front\"" : "");
    if (system >= 0) kv_html_put(s->html, " data-system=\"%lld\"", (long long)system);
    kv_html_put(s->html, ">");
    for (int i = 0; i < s->n; i++) {
        const kv_table_cell_data *cell = kv_table_at(s->table, row, s->columns[i]);
        kv_html_put(s->html, "<td class=\"%s%s\"", column_of(s, i)->left ? "text" : "",
                    i == s->key ? " key" : "");
        if (!isnan(cell->value[0])) kv_html_put(s->html, " data-sort=\"%.9g\"", cell->value[0]);
        kv_html_put(s->html, ">");
        kv_html_text(s->html, cell->text);
        kv_html_put(s->html, "</td>");
    }
    kv_html_put(s->html, "</tr>\n");
}

// ---- A table -------------------------------------------------------------------------------------------

static void put_table(kv_html *html, const kv_table *table, const kv_results *results) {
    struct shown s = {.html = html, .table = table, .results = results, .key = -1};
    s.n = kv_table_shown(table, s.columns);
    for (int i = 0; i < s.n && s.key < 0; i++)
        if (column_of(&s, i)->left && *column_of(&s, i)->title) s.key = i;
    if (s.n > 0) {
        kv_html_put(html, "<div class=\"scroll\"><table class=\"sortable\"><caption><span>");
        kv_html_lines(html, table->title ? table->title : "");
        kv_html_put(html, "</span></caption>\n");
        put_head(&s);
        kv_html_put(html, "<tbody>\n");
        for (size_t row = 0; row < kv_table_rows(table); row++) put_row(&s, row);
        kv_html_put(html, "</tbody></table></div>\n");
    } else if (table->title) {
        kv_html_put(html, "<p>");
        kv_html_text(html, table->title);
        kv_html_put(html, "</p>\n");
    }
    for (size_t i = 0; i < table->n_notes; i++) {
        kv_html_put(html, "<p class=\"note\">");
        kv_html_text(html, table->notes[i]);
        kv_html_put(html, "</p>\n");
    }
    html->out_of_memory = html->out_of_memory || table->failed;
}

static bool is_among(const char *name, const char *const *names) {
    for (int i = 0; names[i]; i++)
        if (name && !strcmp(name, names[i])) return true;
    return false;
}

// Those among `names`, or those that are not.
static int64_t put_tables(kv_html *html, const kv_tables *tables, const kv_results *results,
                          const char *const *names, bool among) {
    int64_t n = 0;
    html->out_of_memory = html->out_of_memory || !tables || tables->failed;
    for (size_t i = 0; tables && i < tables->n; i++) {
        const kv_table *table = tables->tables[i];
        if (table->audience == KV_FOR_PROGRAMS || is_among(table->name, names) != among) continue;
        put_table(html, table, results);
        n++;
    }
    return n;
}

int64_t kv_html_tables_named(kv_html *html, const kv_tables *tables, const kv_results *results,
                             const char *name) {
    const char *const names[] = {name, NULL};
    return put_tables(html, tables, results, names, true);
}

int64_t kv_html_tables_other(kv_html *html, const kv_tables *tables, const kv_results *results,
                             const char *const *others) {
    return put_tables(html, tables, results, others, false);
}

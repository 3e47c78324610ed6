// Every format of tables: what people see of them is escaped as it has to be, and programs get every number to the bit, under the
// name that was given to it.
#include "data/file/csv.h"
#include "data/file/json.h"
#include "data/table/format.h"
#include "tests/support/support.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double third = 1.0 / 3, tiny = 4.9e-324;

static void add_row(kv_table *table, const char *name, double value, bool best) {
    kv_table_value(table, best, "%s", best ? "*" : "");
    kv_table_cell(table, "%s", name);
    kv_table_number(table, "%.1f %%", 100, value);
    kv_table_pair(table, value - 1, value + 1, "-66.7-%.1f", 100 * (value + 1));
    kv_table_pair(table, value, tiny, "0.33 ± 0.00");
    kv_table_number(table, "%.0f", 1, 7);
    kv_table_cell(table, "hidden, \"%s\"", name);
    if (best) kv_table_mark(table);
}

// One for all, with everything that there is; one for people, one for programs; a paragraph.
static kv_tables *made_up(void) {
    kv_tables *tables = kv_tables_create();
    kv_table *table = kv_tables_add(tables, KV_FOR_ALL, "results");
    kv_table_title(table, "50 %% of A&B_C");
    kv_table_note(table, "* the best");
    kv_table_field(table, "", "", KV_FIELD_FLAG, "pareto");
    kv_table_field(table, "", "system", KV_FIELD_TEXT, "system");
    kv_table_field(table, "the |true|", "kept", KV_FIELD_NUMBER, "kept");
    kv_table_field(table, "the |true|", "95 %", KV_FIELD_INTERVAL, "kept");
    kv_table_field(table, "", "seeds", KV_FIELD_SPREAD, "mean");
    kv_table_field(table, "", "n", KV_FIELD_WHOLE, "n");
    kv_table_hidden(table, KV_FIELD_TEXT, "note");
    add_row(table, "a|b_{c}~$#^\\ <x>", third, true);
    add_row(table, "none", (double)NAN, false);
    table = kv_tables_add(tables, KV_FOR_PEOPLE, "wide");
    kv_table_column(table, "", "only people", false);
    kv_table_number(table, "%.0f", 1, 1);
    table = kv_tables_add(tables, KV_FOR_PROGRAMS, "long");
    kv_table_hidden(table, KV_FIELD_TEXT, "system");
    kv_table_hidden(table, KV_FIELD_SPREAD, "seconds");
    kv_table_spread_name(table, "spread");
    kv_table_cell(table, "中文");
    kv_table_pair(table, 0.1, INFINITY, "-");
    kv_table_title(kv_tables_add(tables, KV_FOR_ALL, "paragraph"), "3. is no list");
    kv_tables_fact(tables, "made_by", json_pack("{s:s}", "version", "1"));
    return tables;
}

static char *written(const char *format) {
    char *text = NULL;
    size_t size;
    kv_error err = {0};
    kv_tables *tables = made_up();
    FILE *stream = open_memstream(&text, &size);
    if (kv_tables_write(tables, kv_table_format_find(format), stream, &err)) fail_msg("%s", err.message);
    fclose(stream);
    kv_tables_free(tables);
    return text;
}

static void expect(const char *format, const char *expected) {
    char *text = written(format);
    assert_string_equal(text, expected);
    free(text);
}

static void on_a_terminal(void **state) {
    (void)state;
    expect("text", "50 % of A&B_C\n"
                   "                              the |true|                \n"
                   "   system              kept         95 %        seeds  n\n"
                   "*  a|b_{c}~$#^\\ <x>  33.3 %  -66.7-133.3  0.33 ± 0.00  7\n"
                   "   none                   -    -66.7-nan  0.33 ± 0.00  7\n"
                   "* the best\n"
                   "\n"
                   "only people\n"
                   "          1\n"
                   "\n"
                   "3. is no list\n");
}

static void markdown(void **state) {
    (void)state;
    expect("md", "50 % of A\\&B_C\n\n"
                 "|  | system | the \\|true\\|: kept | the \\|true\\|: 95 % | seeds | n |\n"
                 "|:---|:---|---:|---:|---:|---:|\n"
                 "| \\* | **a\\|b\\_{c}\\~\\$#^\\\\ \\<x\\>** | 33.3 % | -66.7-133.3 | 0.33 ± 0.00 | 7 |\n"
                 "|  | none | - | -66.7-nan | 0.33 ± 0.00 | 7 |\n\n"
                 "\\* the best\n\n"
                 "| only people |\n"
                 "|---:|\n"
                 "| 1 |\n\n"
                 "3\\. is no list\n\n");
}

static void latex(void **state) {
    (void)state;
    expect("latex",
           "% \\usepackage{booktabs}\n"
           "\\begin{table}\n"
           "  \\centering\n"
           "  \\caption{50 \\% of A\\&B\\_C}\n"
           "  \\begin{tabular}{llrrrr}\n"
           "    \\toprule\n"
           "     &  & \\multicolumn{2}{c}{the $|$true$|$} &  &  \\\\\n"
           "    \\cmidrule(lr){3-4}\n"
           "     & system & kept & 95 \\% & seeds & n \\\\\n"
           "    \\midrule\n"
           "    $*$ & \\textbf{a$|$b\\_\\{c\\}\\textasciitilde{}\\$\\#\\textasciicircum{}\\textbackslash{} "
           "$<$x$>$} & 33.3\\,\\% & $-$66.7--133.3 & 0.33 $\\pm$ 0.00 & 7 \\\\\n"
           "     & none & -- & $-$66.7--nan & 0.33 $\\pm$ 0.00 & 7 \\\\\n"
           "    \\bottomrule\n"
           "  \\end{tabular}\n"
           "\n  {\\footnotesize $*$ the best\\par}\n"
           "\\end{table}\n\n"
           "\\begin{table}\n"
           "  \\centering\n"
           "  \\begin{tabular}{r}\n"
           "    \\toprule\n"
           "    only people \\\\\n"
           "    \\midrule\n"
           "    1 \\\\\n"
           "    \\bottomrule\n"
           "  \\end{tabular}\n"
           "\\end{table}\n\n"
           "3. is no list\n\n");
}

// One header, all rows below it, each number the one that was put in.
static void csv_is_one_table(void **state) {
    (void)state;
    char *text = written("csv");
    kv_csv_table table;
    kv_error err = {0};
    if (kv_csv_parse("csv", text, &table, &err)) fail_msg("%s", err.message);
    static const char *const names[] = {"table", "pareto",  "system", "kept", "kept_low", "kept_high",
                                        "mean",  "mean_sd", "n",      "note", "seconds",  "seconds_spread"};
    assert_int_equal(table.n_columns, sizeof names / sizeof *names);
    for (int64_t c = 0; c < table.n_columns; c++) assert_string_equal(table.names[c], names[c]);
    assert_int_equal(table.n_rows, 3);
    const int64_t kept = kv_csv_column(&table, "kept"), sd = kv_csv_column(&table, "mean_sd");
    assert_true(strtod(kv_csv_cell(&table, 0, kept), NULL) == third);
    assert_true(strtod(kv_csv_cell(&table, 0, kept + 1), NULL) == third - 1);
    assert_true(strtod(kv_csv_cell(&table, 0, sd), NULL) == tiny);
    assert_string_equal(kv_csv_cell(&table, 0, 1), "true");
    assert_string_equal(kv_csv_cell(&table, 1, 1), "false");
    assert_string_equal(kv_csv_cell(&table, 1, kept), "");
    assert_string_equal(kv_csv_cell(&table, 0, 9), "hidden, \"a|b_{c}~$#^\\ <x>\"");
    assert_string_equal(kv_csv_cell(&table, 2, 0), "long");
    assert_string_equal(kv_csv_cell(&table, 2, 1), "");
    assert_string_equal(kv_csv_cell(&table, 2, 10), "0.1");
    assert_string_equal(kv_csv_cell(&table, 2, 11), "");
    kv_csv_table_free(&table);
    free(text);
}

static void json_is_one_object(void **state) {
    (void)state;
    char *text = written("json");
    json_t *root = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(root);
    const json_t *tables = json_object_get(root, "tables"), *first = json_array_get(tables, 0);
    assert_int_equal(json_array_size(tables), 2);
    const json_t *rows = json_object_get(first, "rows"), *row = json_array_get(rows, 0);
    assert_string_equal(json_string_value(json_object_get(first, "name")), "results");
    assert_string_equal(json_string_value(json_object_get(first, "title")), "50 % of A&B_C");
    assert_int_equal(json_array_size(rows), 2);
    assert_int_equal(json_object_size(row), 9);
    assert_true(json_is_true(json_object_get(row, "pareto")));
    assert_true(json_real_value(json_object_get(row, "kept")) == third);
    assert_true(json_real_value(json_object_get(row, "mean_sd")) == tiny);
    assert_int_equal(json_integer_value(json_object_get(row, "n")), 7);
    row = json_array_get(rows, 1);
    assert_true(json_is_null(json_object_get(row, "kept")));
    assert_true(json_is_null(json_object_get(row, "kept_high")));
    row = json_array_get(json_object_get(json_array_get(tables, 1), "rows"), 0);
    assert_string_equal(json_string_value(json_object_get(row, "system")), "中文");
    assert_true(json_is_null(json_object_get(row, "seconds_spread")));
    assert_string_equal(json_string_value(json_array_get(json_object_get(root, "notes"), 0)),
                        "3. is no list");
    assert_non_null(json_object_get(json_object_get(root, "made_by"), "version"));
    json_decref(root);
    free(text);
}

static void nothing_without_memory(void **state) {
    (void)state;
    kv_error err = {0};
    kv_table_cell(NULL, "x");
    kv_table_number(NULL, "%g", 1, 1);
    kv_table_mark(NULL);
    kv_tables_add(NULL, KV_FOR_ALL, "x");
    kv_tables_fail(NULL);
    assert_int_equal(kv_tables_write(NULL, &kv_format_json, stdout, &err), KV_ERR_MEMORY);
    kv_tables *tables = kv_tables_create();
    kv_tables_fail(tables);
    assert_int_equal(kv_tables_write(tables, &kv_format_text, stdout, &err), KV_ERR_MEMORY);
    kv_tables_free(tables);
    assert_null(kv_table_format_find("html5"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(on_a_terminal),
        cmocka_unit_test(markdown),
        cmocka_unit_test(latex),
        cmocka_unit_test(csv_is_one_table),
        cmocka_unit_test(json_is_one_object),
        cmocka_unit_test(nothing_without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

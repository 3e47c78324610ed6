// Tables as comma-separated values: what was written is read back, what is broken is named.
#include "data/file/csv.h"
#include "tests/support/corpus.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *file(void) {
    return test_path(test_dir, "table.csv");
}

static void test_round_trip(void **state) {
    (void)state;
    static const char *const texts[] = {"plain", "with, comma", "\"quoted\"", "two\nlines", "",
                                        "ü",     "cr\r",        "crlf\r\n",   "\r",         "\n",
                                        "\"",    " blank ",     "a\rb",       "\r\n\r\n"};
    enum { N = sizeof texts / sizeof *texts };
    kv_csv *csv;
    kv_csv_table table;
    kv_error err = {0};
    assert_int_equal(kv_csv_create(file(), "name,value,last", &csv, &err), KV_OK);
    for (int i = 0; i < N; i++) {
        kv_csv_text(csv, texts[i]);
        kv_csv_number(csv, i % 2 ? (double)NAN : i / 4.0);
        kv_csv_text(csv, texts[N - 1 - i]);
        kv_csv_end_row(csv);
    }
    assert_int_equal(kv_csv_close(csv, KV_OK, &err), KV_OK);
    if (kv_csv_read(file(), &table, &err) != KV_OK) fail_msg("%s", err.message);
    assert_int_equal(table.n_columns, 3);
    assert_int_equal(table.n_rows, N);
    assert_int_equal(kv_csv_column(&table, "value"), 1);
    assert_int_equal(kv_csv_column(&table, "valu"), -1);
    for (int64_t i = 0; i < N; i++) {
        assert_string_equal(kv_csv_cell(&table, i, 0), texts[i]);
        assert_string_equal(kv_csv_cell(&table, i, 2), texts[N - 1 - i]);
        assert_string_equal(kv_csv_cell(&table, i, -1), "");
        if (i % 2) assert_string_equal(kv_csv_cell(&table, i, 1), "");
        if (i % 2 == 0) assert_true(strtod(kv_csv_cell(&table, i, 1), NULL) == (double)i / 4);
    }
    kv_csv_table_free(&table);
}

static void expect_shape(const char *text, int64_t n_columns, int64_t n_rows) {
    kv_csv_table table;
    kv_error err = {0};
    test_write_text(file(), text);
    if (kv_csv_read(file(), &table, &err) != KV_OK) fail_msg("%s", err.message);
    assert_int_equal(table.n_columns, n_columns);
    assert_int_equal(table.n_rows, n_rows);
    kv_csv_table_free(&table);
}

static void test_ends_of_lines(void **state) {
    (void)state;
    expect_shape("a,b\n1,2", 2, 1); // no newline at the end
    expect_shape("a,b\r\n1,2\r\n", 2, 1);
    expect_shape("a\n", 1, 0);
    expect_shape("a\n\n", 1, 1); // one empty field
    expect_shape("a,b\n,\n", 2, 1);
    expect_shape("a,b\r\n1,2\r\n\r\n", 2, 1); // an empty line is no row of two
    expect_shape("a,b\n\n1,2\n\n\n3,4", 2, 2);
    expect_shape("\xEF\xBB\xBF"
                 "a,b\n1,2\n",
                 2, 1);
    kv_csv_table table;
    test_write_text(file(), "a,b\r\n1,\"x\"\"\r\ny\"\r\n");
    assert_int_equal(kv_csv_read(file(), &table, NULL), KV_OK);
    assert_string_equal(table.names[1], "b");
    assert_string_equal(kv_csv_cell(&table, 0, 1), "x\"\r\ny");
    kv_csv_table_free(&table);
}

// The cells of a table of two columns, one behind the other.
static void expect_cells(const char *text, int n, const char *const *cells) {
    kv_csv_table table;
    kv_error err = {0};
    if (kv_csv_parse("text", text, &table, &err) != KV_OK) fail_msg("%s", err.message);
    assert_int_equal(table.n_columns, 2);
    assert_int_equal(2 * table.n_rows, n);
    for (int i = 0; i < n; i++) assert_string_equal(table.cells[i], cells[i]);
    kv_csv_table_free(&table);
}

#define CELLS(text, ...)                                                                                     \
    expect_cells(text, sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *),                          \
                 (const char *const[]){__VA_ARGS__})

// A CR ends a row as LF and CR LF do, but not within quotes.
static void test_fields(void **state) {
    (void)state;
    CELLS("a,b\n1,\"x\r\"\n", "1", "x\r");
    CELLS("a,b\n1,\"x\r\"\r\n2,\"\r\"", "1", "x\r", "2", "\r");
    CELLS("a,b\n1,x\r\n2,y\r", "1", "x", "2", "y");
    CELLS("a,b\r1,x\r\r2,\"y\"\r", "1", "x", "2", "y");
    CELLS("a,b\n\"\",\"\"\"\"\n", "", "\"");
    CELLS("a,b\n\"1,\n\"\"2\"\"\",\"\n\"\n", "1,\n\"2\"", "\n");
    CELLS("a,b\n x , \"y\" \n", " x ", " \"y\" "); // quotes count only at the very beginning
    CELLS("\xEF\xBB\xBF\"a\",b\n1,\xEF\xBB\xBF\n", "1", "\xEF\xBB\xBF");
    kv_csv_table table;
    assert_int_equal(kv_csv_parse("t", "\xEF\xBB\xBF\"a\",b\r\n\r\n\"\n\n\",2\n3,4\n", &table, NULL), KV_OK);
    assert_string_equal(table.names[0], "a");
    assert_int_equal(table.lines[0], 3);
    assert_int_equal(table.lines[1], 6);
    kv_csv_table_free(&table);
}

static void expect_refused(const char *text, size_t size, const char *part) {
    kv_csv_table table;
    kv_error err = {0};
    FILE *out = fopen(file(), "w");
    assert_non_null(out);
    fwrite(text, 1, size, out);
    fclose(out);
    assert_int_equal(kv_csv_read(file(), &table, &err), KV_ERR_FORMAT);
    if (!strstr(err.message, part)) fail_msg("expected %s, found %s", part, err.message);
    assert_null(table.cells);
}

static void test_broken_tables(void **state) {
    (void)state;
    expect_refused("a,b\n1,2\n1\n", 10, "table.csv:3: found 1 fields, expected 2");
    expect_refused("a,b\n1,\"2\n\n3\n", 12, "table.csv:2: found a quoted field without end");
    expect_refused("a,b\n\"1\n\",2\n1,2,3\n", 17, "table.csv:4: found 3 fields, expected 2");
    expect_refused("a,b\n\"1\"2,3\n", 11, "table.csv:2: found text behind a quoted field");
    expect_refused("a,b\n1,\"2\n\"x\n", 12, "table.csv:3: found text behind a quoted field");
    expect_refused("a,b\r1,\"2\r\"\r3\r", 13, "table.csv:4: found 1 fields, expected 2");
    expect_refused("\xFF\xFE"
                   "a\0,\0",
                   6, "found UTF-16 text, expected UTF-8");
    expect_refused("\"a\nb\n", 5, "table.csv:1: found a quoted field without end");
    expect_refused("a\n\0\n", 4, "NUL character");
    kv_csv_table table;
    kv_error err = {0};
    assert_int_equal(kv_csv_read(test_path(test_dir, "none.csv"), &table, &err), KV_ERR_IO);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_ends_of_lines),
        cmocka_unit_test(test_fields),
        cmocka_unit_test(test_broken_tables),
    };
    return cmocka_run_group_tests(tests, test_dir_set_up, test_dir_tear_down);
}

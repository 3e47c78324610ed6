// What kvbench --check makes of records, on histories that are made up: what is worse by more than a tenth is named, what is
// not alike is not compared. And the file that records are appended to.
#include "tests/support/support.h"

#include "tests/bench/history.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char zen[] = "AuthenticAMD 25/1";

// A run of two phases, of which the second has another ratio, too.
static json_t *record(const char *cpu, const char *isa, int threads, double fraction, double reduction) {
    json_t *value = json_pack("{s:i,s:s,s:b,s:{s:s,s:i},s:[{s:s,s:f},{s:s,s:f,s:{s:f}}]}", "record",
                              BENCH_RECORD, "isa", isa, "quick", 0, "machine", "cpu", cpu, "threads", threads,
                              "phases", "name", "decode", "fraction", fraction, "name", "first token KVP",
                              "fraction", 0.5, "ratios", "reduction", reduction);
    assert_non_null(value);
    return value;
}

static json_t *list(json_t *a, json_t *b, json_t *c) {
    json_t *all = json_array(), *const each[] = {a, b, c};
    for (int i = 0; i < 3; i++)
        if (each[i]) assert_int_equal(json_array_append_new(all, each[i]), 0);
    return all;
}

static char *said;

// How many are worse; takes both over.
static int check(json_t *records, json_t *history) {
    size_t size;
    free(said);
    FILE *out = open_memstream(&said, &size);
    assert_non_null(out);
    const int worse = bench_check(records, history, out);
    assert_int_equal(fclose(out), 0);
    json_decref(records);
    json_decref(history);
    return worse;
}

static void expect_said(const char *words) {
    if (!strstr(said, words)) fail_msg("'%s' expected in: %s", words, said);
}

static json_t *before(void) {
    return list(record(zen, "avx2", 2, 0.80, 2.0), record(zen, "avx2", 2, 0.60, 1.8),
                record(zen, "avx2", 2, 0.99, 2.2));
}

static json_t *now(double fraction, double reduction) {
    return list(record(zen, "avx2", 2, fraction, reduction), NULL, NULL);
}

static void a_tenth_below_the_median_is_worse(void **state) {
    (void)state;
    assert_int_equal(check(now(0.95, 2.5), before()), 0); // better
    expect_said(
        "compared 3 ratios (medians of 1 run) with 3 records of this CPU and avx2: 0 more than 10 % worse");
    assert_int_equal(check(now(0.80 * 0.91, 2.0 * 0.91), before()), 0);
    assert_null(strstr(said, "worse: "));
    assert_int_equal(check(now(0.80 * 0.89, 2.0), before()), 1);
    expect_said("worse: decode: fraction 0.712, 11 % below the 0.800 of the history\n");
    assert_int_equal(check(now(0.80, 2.0 * 0.89), before()), 1);
    expect_said("worse: first token KVP: reduction 1.780, 11 % below the 2.000 of the history\n");
    assert_int_equal(check(now(0.1, 0.1), before()), 2);
    json_t *beside_others = now(0.1, 2.0);
    json_object_set_new(json_array_get(json_object_get(json_array_get(beside_others, 0), "phases"), 0),
                        "others", json_real(0.4));
    assert_int_equal(check(beside_others, before()), 1);
    expect_said("below the 0.800 of the history (others took 40 % of the processors meanwhile)\n");
}

static void one_slow_run_of_three_is_none(void **state) {
    (void)state;
    assert_int_equal(check(list(record(zen, "avx2", 2, 0.1, 0.1), record(zen, "avx2", 2, 0.8, 2.0),
                                record(zen, "avx2", 2, 0.81, 2.0)),
                           before()),
                     0);
    expect_said("medians of 3 runs");
    assert_int_equal(check(list(record(zen, "avx2", 2, 0.1, 2.0), record(zen, "avx2", 2, 0.1, 2.0),
                                record(zen, "avx2", 2, 0.81, 2.0)),
                           before()),
                     1);
}

static void others_are_not_compared(void **state) {
    (void)state;
    static const char nothing[] = "nothing to compare with: no record of AuthenticAMD 25/1, avx2, 2 threads";
    assert_int_equal(check(now(0.1, 0.1), list(record("GenuineIntel 6/85", "avx2", 2, 0.8, 2.0), NULL, NULL)),
                     0);
    expect_said(nothing);
    assert_int_equal(check(now(0.1, 0.1), list(record(zen, "avx512", 2, 0.8, 2.0), NULL, NULL)), 0);
    expect_said(nothing);
    assert_int_equal(check(now(0.1, 0.1), list(record(zen, "avx2", 1, 0.8, 2.0), NULL, NULL)), 0);
    expect_said(nothing);
    json_t *quick = record(zen, "avx2", 2, 0.8, 2.0);
    json_object_set_new(quick, "quick", json_true());
    assert_int_equal(check(now(0.1, 0.1), list(quick, NULL, NULL)), 0);
    expect_said(nothing);
    assert_int_equal(check(now(0.1, 0.1), json_array()), 0);
    expect_said(nothing);
    // Beside one that is alike they change nothing.
    assert_int_equal(
        check(now(0.8, 2.0), list(record(zen, "avx2", 2, 0.8, 2.0), record(zen, "avx512", 2, 9, 9),
                                  record("GenuineIntel 6/85", "avx2", 2, 9, 9))),
        0);
    expect_said("with 1 record of this CPU");
}

static void a_phase_that_is_new_is_not_compared(void **state) {
    (void)state;
    json_t *old = record(zen, "avx2", 2, 0.8, 2.0);
    json_array_remove(json_object_get(old, "phases"), 1);
    assert_int_equal(check(now(0.8, 0.1), list(old, NULL, NULL)), 0);
    expect_said("compared 1 ratio");
}

// ---- Files ---------------------------------------------------------------------------------------------

static void write_text(const char *path, const char *text) {
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    assert_int_equal(fclose(file), 0);
}

static json_t *read_folder(const char *folder) {
    kv_error err = {0};
    json_t *records;
    if (bench_history_read(folder, &records, &err)) fail_msg("%s", err.message);
    return records;
}

static void lines_are_appended(void **state) {
    (void)state;
    kv_error err = {0};
    json_t *one = record(zen, "avx2", 2, 0.8, 2.0), *other = record(zen, "avx512", 2, 0.7, 2.0);
    const char *path = test_path(test_dir, "history/amd.jsonl");
    assert_int_equal(bench_history_append(path, one, &err), KV_OK);
    assert_int_equal(bench_history_append(path, other, &err), KV_OK);
    json_t *records = read_folder(test_path(test_dir, "history")), *both = json_pack("[o,o]", one, other);
    assert_true(json_equal(records, both));
    json_decref(records);
    json_decref(both);
}

// A line that somebody's editor left without an end stays a line of its own.
static void a_last_line_without_an_end_is_one(void **state) {
    (void)state;
    kv_error err = {0};
    json_t *one = record(zen, "avx2", 2, 0.8, 2.0);
    char *text = json_dumps(one, JSON_COMPACT);
    assert_int_equal(bench_history_append(test_path(test_dir, "open/a.jsonl"), one, &err), KV_OK);
    write_text(test_path(test_dir, "open/a.jsonl"), text);
    assert_int_equal(bench_history_append(test_path(test_dir, "open/a.jsonl"), one, &err), KV_OK);
    write_text(test_path(test_dir, "open/notes.txt"), "not read");
    json_t *records = read_folder(test_path(test_dir, "open"));
    assert_int_equal(json_array_size(records), 2);
    json_decref(records);
    json_decref(one);
    free(text);
}

static void a_full_disk_leaves_what_was_there(void **state) {
    (void)state;
    kv_error err = {0};
    json_t *one = record(zen, "avx2", 2, 0.8, 2.0);
    const char *path = test_path(test_dir, "full/a.jsonl");
    assert_int_equal(bench_history_append(path, one, &err), KV_OK);
    test_limit_file_size(300);
    const kv_status status = bench_history_append(path, one, &err);
    test_limit_file_size(-1);
    assert_int_equal(status, KV_ERR_IO);
    json_t *records = read_folder(test_path(test_dir, "full"));
    assert_int_equal(json_array_size(records), 1);
    json_decref(records);
    json_decref(one);
}

static void what_is_no_record_is_refused(void **state) {
    (void)state;
    kv_error err = {0};
    json_t *one = record(zen, "avx2", 2, 0.8, 2.0), *records;
    assert_int_equal(bench_history_append(test_path(test_dir, "damaged/a.jsonl"), one, &err), KV_OK);
    json_decref(one);
    write_text(test_path(test_dir, "damaged/b.jsonl"), "{\"record\": 0}\n{\"record\": 1,\n");
    assert_int_equal(bench_history_read(test_path(test_dir, "damaged"), &records, &err), KV_ERR_FORMAT);
    if (!strstr(err.message, "b.jsonl:2")) fail_msg("%s", err.message);
    json_decref(records);
    write_text(test_path(test_dir, "damaged/b.jsonl"), "{\"record\": 0}\n"); // of another layout: left out
    records = read_folder(test_path(test_dir, "damaged"));
    assert_int_equal(json_array_size(records), 1);
    json_decref(records);
    records = read_folder(test_path(test_dir, "nowhere"));
    assert_int_equal(json_array_size(records), 0);
    json_decref(records);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_tenth_below_the_median_is_worse),
        cmocka_unit_test(one_slow_run_of_three_is_none),
        cmocka_unit_test(others_are_not_compared),
        cmocka_unit_test(a_phase_that_is_new_is_not_compared),
        cmocka_unit_test(lines_are_appended),
        cmocka_unit_test(a_last_line_without_an_end_is_one),
        cmocka_unit_test(a_full_disk_leaves_what_was_there),
        cmocka_unit_test(what_is_no_record_is_refused),
    };
    const int failed = cmocka_run_group_tests(tests, test_dir_set_up, test_dir_tear_down);
    free(said);
    return failed;
}

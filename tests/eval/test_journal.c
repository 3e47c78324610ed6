// The journal of records: what is written is found again, and nothing else counts.
#include "tests/support/eval.h"

#include "eval/evaluate/journal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { N_UNITS = 5 };
static const char run[17] = "0123456789abcdef", other_run[17] = "fedcba9876543210";

static kv_journal *open_journal(const char *system, const char *hash) {
    kv_journal *journal;
    kv_error err = {0};
    kv_journal_run of = {.n_units = N_UNITS};
    snprintf(of.hash, sizeof of.hash, "%s", hash);
    if (kv_journal_open(test_dir, &(kv_journal_name){"atlas", "held out", system}, &of, &journal, &err))
        fail_msg("%s", err.message);
    return journal;
}

static void add(kv_journal *journal, int64_t first, int64_t n) {
    json_t *records[N_UNITS];
    kv_error err = {0};
    for (int64_t i = 0; i < n; i++) records[i] = json_pack("{s:i}", "value", (int)(10 * (first + i)));
    if (kv_journal_add(journal, first, n, records, &err)) fail_msg("%s", err.message);
    for (int64_t i = 0; i < n; i++) assert_null(records[i]);
}

static const char *path_of(const char *system) {
    char name[128];
    snprintf(name, sizeof name, "samples/atlas-held_out/%s.jsonl", system);
    return test_path(test_dir, name);
}

static void records_come_back(void **state) {
    (void)state;
    kv_journal *journal = open_journal("base", run);
    assert_int_equal(kv_journal_done(journal), 0);
    add(journal, 2, 2);
    assert_int_equal(kv_journal_done(journal), 2);
    assert_true(kv_journal_has(journal, 2, 2) && !kv_journal_has(journal, 1, 2));
    kv_journal_close(journal);
    journal = open_journal("base", run);
    assert_int_equal(kv_journal_done(journal), 2);
    add(journal, 0, 5); // what is there stays as it is
    assert_int_equal(kv_journal_done(journal), 5);
    for (int i = 0; i < N_UNITS; i++)
        assert_int_equal(json_integer_value(json_object_get(kv_journal_records(journal)[i], "value")),
                         10 * i);
    kv_journal_close(journal);
    char *text = test_read_text(path_of("base"));
    static const char first[] = "{\"value\":20,\"task\":\"atlas\",\"split\":\"held out\",\"system\":\"base\","
                                "\"unit\":2,\"run\":\"0123456789abcdef\"}\n";
    assert_memory_equal(text, first, sizeof first - 1);
    int lines = 0;
    for (const char *c = text; *c; c++) lines += *c == '\n';
    assert_int_equal(lines, N_UNITS);
    free(text);
}

static void other_runs_do_not_count(void **state) {
    (void)state;
    kv_journal *journal = open_journal("other", run);
    add(journal, 0, 3);
    kv_journal_close(journal);
    journal = open_journal("other", other_run);
    assert_int_equal(kv_journal_done(journal), 0);
    kv_journal_close(journal);
    char *text = test_read_text(path_of("other"));
    assert_string_equal(text, "");
    free(text);
}

// A line cut short by a kill, a second record of a unit (which is the newer one), units out of range, other things.
static void damage_is_left_out(void **state) {
    (void)state;
    kv_journal *journal = open_journal("hurt", run);
    add(journal, 0, 2);
    kv_journal_close(journal);
    FILE *file = fopen(path_of("hurt"), "a");
    assert_non_null(file);
    fprintf(file, "{\"value\":11,\"unit\":1,\"run\":\"%s\"}\n", run);
    fprintf(file, "{\"value\":99,\"unit\":5,\"run\":\"%s\"}\n{\"unit\":-1,\"run\":\"%s\"}\n", run, run);
    fprintf(file, "{\"value\":99,\"unit\":\"3\",\"run\":\"%s\"}\nnonsense\n\n[]\n", run);
    fprintf(file, "{\"value\":40,\"unit\":4,\"run\":\"%s\"}\n", run);
    fprintf(file, "{\"value\":30,\"unit\":3,\"run\":\"%.5s", run);
    assert_int_equal(fclose(file), 0);
    journal = open_journal("hurt", run);
    assert_int_equal(kv_journal_done(journal), 3);
    assert_false(kv_journal_has(journal, 3, 1));
    assert_int_equal(json_integer_value(json_object_get(kv_journal_records(journal)[1], "value")), 11);
    add(journal, 2, 2);
    kv_journal_close(journal);
    char *text = test_read_text(path_of("hurt"));
    assert_null(strstr(text, "99"));
    assert_null(strstr(text, "nonsense"));
    int lines = 0;
    for (const char *c = text; *c; c++) lines += *c == '\n';
    assert_int_equal(lines, N_UNITS);
    free(text);
}

static int count_lines(const char *system) {
    char *text = test_read_text(path_of(system));
    int lines = 0;
    for (const char *c = text; *c; c++) lines += *c == '\n';
    free(text);
    return lines;
}

static kv_journal *open_some(int64_t n_units, const uint64_t *asked, bool part) {
    kv_journal_run of = {.n_units = n_units, .asked = asked, .part = part};
    kv_journal *journal;
    kv_error err = {0};
    memcpy(of.hash, run, sizeof run);
    if (kv_journal_open(test_dir, &(kv_journal_name){"atlas", "held out", "some"}, &of, &journal, &err))
        fail_msg("%s", err.message);
    return journal;
}

// With a limit and without, in one directory: each takes over what the other was answered, and nothing is lost.
static void parts_share_a_file(void **state) {
    (void)state;
    uint64_t asked[N_UNITS] = {7, 8, 9, 10, 11};
    kv_journal *journal = open_some(2, asked, true);
    add(journal, 0, 2);
    kv_journal_close(journal);
    journal = open_some(N_UNITS, asked, false);
    assert_int_equal(kv_journal_done(journal), 2);
    // A batch is asked as a whole, and then counts as it was answered last.
    kv_journal_forget(journal, 0, 3);
    assert_int_equal(kv_journal_done(journal), 0);
    json_t *record = json_pack("{s:i}", "value", 111);
    kv_error err = {0};
    assert_int_equal(kv_journal_add(journal, 1, 1, &record, &err), KV_OK);
    add(journal, 0, 3);
    assert_int_equal(count_lines("some"), 5);
    assert_int_equal(kv_journal_settle(journal, &err), KV_OK);
    assert_int_equal(count_lines("some"), 3);
    add(journal, 3, 2);
    assert_int_equal(kv_journal_settle(journal, &err), KV_OK);
    kv_journal_close(journal);
    assert_int_equal(count_lines("some"), 5);
    journal = open_some(3, asked, true);
    assert_int_equal(kv_journal_done(journal), 3);
    assert_int_equal(json_integer_value(json_object_get(kv_journal_records(journal)[1], "value")), 111);
    kv_journal_close(journal);
    journal = open_some(N_UNITS, asked, false);
    assert_int_equal(kv_journal_done(journal), 5);
    kv_journal_close(journal);
    // One is asked something else now; the others stay.
    asked[1] = 80;
    journal = open_some(2, asked, true);
    assert_int_equal(kv_journal_done(journal), 1);
    assert_true(kv_journal_has(journal, 0, 1));
    kv_journal_close(journal);
    journal = open_some(N_UNITS, asked, false);
    assert_int_equal(kv_journal_done(journal), 4);
    kv_journal_close(journal);
    // Where these are all there are, others are of a file that was longer.
    journal = open_some(2, asked, false);
    kv_journal_close(journal);
    journal = open_some(N_UNITS, asked, false);
    assert_int_equal(kv_journal_done(journal), 1);
    kv_journal_close(journal);
}

static void names_become_files(void **state) {
    (void)state;
    // What a file's name cannot hold is replaced, and two names that become alike stay two files.
    kv_journal *a = open_journal("a/b", run), *b = open_journal("a:b", run),
               *c = open_journal("../../up", run);
    add(a, 0, 1), add(b, 0, 2);
    kv_journal_close(a), kv_journal_close(b), kv_journal_close(c);
    a = open_journal("a/b", run), b = open_journal("a:b", run);
    assert_int_equal(kv_journal_done(a), 1);
    assert_int_equal(kv_journal_done(b), 2);
    kv_journal_close(a), kv_journal_close(b);
    assert_int_equal(test_dir_count(test_path(test_dir, "samples")), 1);
}

static void full_disk_is_said(void **state) {
    (void)state;
    kv_journal *journal = open_journal("full", run);
    kv_error err = {0};
    json_t *records[1] = {
        json_pack("{s:s}", "text", "long enough to go beyond the limit of the file's size")};
    test_limit_file_size(20);
    const kv_status status = kv_journal_add(journal, 0, 1, records, &err);
    test_limit_file_size(-1);
    assert_int_equal(status, KV_ERR_IO);
    assert_non_null(strstr(err.message, "full.jsonl: cannot write"));
    kv_journal_close(journal);
}

static void one_process_at_a_time(void **state) {
    (void)state;
    int first, second;
    kv_error err = {0};
    assert_int_equal(kv_journal_lock(test_dir, &first, &err), KV_OK);
    assert_int_equal(kv_journal_lock(test_dir, &second, &err), KV_ERR_IO);
    assert_non_null(strstr(err.message, "another kveval is at work in "));
    assert_int_equal(second, -1);
    close(first);
    assert_int_equal(kv_journal_lock(test_dir, &second, &err), KV_OK);
    close(second);
}

static kv_journal *open_part(const char *system, int rank) {
    kv_journal *journal;
    kv_error err = {0};
    kv_journal_run of = {.n_units = N_UNITS};
    memcpy(of.hash, run, sizeof run);
    if (kv_journal_open_part(test_dir, &(kv_journal_name){"atlas", "held out", system}, &of, rank, &journal,
                             &err))
        fail_msg("%s", err.message);
    return journal;
}

// What ranks write beside each other, and rank 0 puts together: in the order of the units, each once.
static void ranks_write_parts(void **state) {
    (void)state;
    const kv_journal_name name = {"atlas", "held out", "parts"};
    char *lines;
    size_t size;
    kv_error err = {0};
    kv_journal *whole = open_journal("parts", run);
    add(whole, 3, 1);
    kv_journal_close(whole);
    kv_journal *part = open_part("parts", 2);
    whole = open_part("parts", 0);
    assert_int_equal(kv_journal_done(part), 0);
    assert_int_equal(kv_journal_done(whole), 1);
    add(part, 2, 2); // one of them anew
    add(whole, 0, 2);
    kv_journal_close(part);
    kv_journal_close(whole);
    if (kv_journal_read_part(test_dir, &name, 2, &lines, &size, &err)) fail_msg("%s", err.message);
    whole = open_part("parts", 0);
    assert_int_equal(kv_journal_done(whole), 3);
    kv_journal_take(whole, lines, size);
    assert_int_equal(kv_journal_done(whole), 4);
    assert_int_equal(kv_journal_settle(whole, &err), KV_OK);
    assert_int_equal(access(test_path(test_dir, "samples/atlas-held_out/parts.jsonl.rank-2"), F_OK), 0);
    kv_journal_drop_parts(whole, 3);
    assert_int_equal(access(test_path(test_dir, "samples/atlas-held_out/parts.jsonl.rank-2"), F_OK), -1);
    kv_journal_close(whole);
    free(lines);
    char *text = test_read_text(path_of("parts")), *line = text;
    for (int unit = 0; unit < 4; unit++, line = strchr(line, '\n') + 1) {
        char key[32];
        snprintf(key, sizeof key, "\"unit\":%d,", unit);
        assert_true(strstr(line, key) && strstr(line, key) < strchr(line, '\n'));
    }
    assert_string_equal(line, "");
    free(text);
    assert_int_equal(kv_journal_read_part(test_dir, &name, 2, &lines, &size, &err), KV_ERR_IO);
}

// Of an evaluation that did not come to its end, of whatever number of ranks.
static void parts_that_are_left_are_taken(void **state) {
    (void)state;
    kv_journal *journal = open_journal("left", run);
    add(journal, 0, 1);
    kv_journal_close(journal);
    for (int rank = 1; rank <= 11; rank += 10) {
        journal = open_part("left", rank);
        add(journal, rank == 1 ? 1 : 3, 1);
        kv_journal_close(journal);
    }
    FILE *file = fopen(test_path(test_dir, "samples/atlas-held_out/left.jsonl.rank-1"), "a");
    fprintf(file, "{\"value\":99,\"unit\":2,\"run\":\"%s\"}\n{\"value\":20,\"unit\":2,\"run\":\"%.9s",
            other_run, run);
    assert_int_equal(fclose(file), 0);
    test_write_text(test_path(test_dir, "samples/atlas-held_out/left.jsonl.rank-x"), "mine");
    journal = open_journal("left", run);
    assert_int_equal(kv_journal_done(journal), 3);
    assert_false(kv_journal_has(journal, 2, 1));
    kv_journal_close(journal);
    assert_int_equal(count_lines("left"), 3);
    assert_int_equal(access(test_path(test_dir, "samples/atlas-held_out/left.jsonl.rank-1"), F_OK), -1);
    assert_int_equal(access(test_path(test_dir, "samples/atlas-held_out/left.jsonl.rank-11"), F_OK), -1);
    assert_int_equal(access(test_path(test_dir, "samples/atlas-held_out/left.jsonl.rank-x"), F_OK), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(records_come_back),
        cmocka_unit_test(other_runs_do_not_count),
        cmocka_unit_test(damage_is_left_out),
        cmocka_unit_test(names_become_files),
        cmocka_unit_test(parts_share_a_file),
        cmocka_unit_test(full_disk_is_said),
        cmocka_unit_test(one_process_at_a_time),
        cmocka_unit_test(ranks_write_parts),
        cmocka_unit_test(parts_that_are_left_are_taken),
    };
    return cmocka_run_group_tests(tests, test_dir_set_up, test_dir_tear_down);
}

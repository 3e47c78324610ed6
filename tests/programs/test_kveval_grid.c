// kveval on items of several lengths and depths: what is timed without being asked for, what is left, what kveval report makes of
// it again. On a family of random models. KVEVAL names the program.
#include "tests/support/eval.h"

#include "data/file/csv.h"
#include "eval/results/grid.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { CONTEXT = 64 };
static char out[1 << 16], err[1 << 16];

#define EXPECT(status, ...)                                                                                  \
    test_expect_run("KVEVAL", status, (const char *const[]){__VA_ARGS__, NULL}, out, err, sizeof out)

static int set_up(void **state) {
    (void)state;
    if (test_dir_set_up(state) != 0) return -1;
    test_make_family(test_dir, CONTEXT);
    // Items of 8, 16 and 100 words, which are one token or several each: the last are longer than the context.
    FILE *file = fopen(test_path(test_dir, "items.jsonl"), "w");
    assert_non_null(file);
    static const int words[] = {2, 5, 100};
    for (int l = 0; l < 3; l++)
        for (int d = 0; d < 2; d++)
            for (int i = 0; i < 2; i++) {
                fputs("{\"prompt\": \"", file);
                for (int w = 0; w < words[l]; w++) fprintf(file, "%sis", w ? " " : "");
                fprintf(file, " %d\", \"answer\": \"is\", \"length\": %d, \"depth\": %g}\n", i, 10 * words[l],
                        0.5 * d);
            }
    assert_int_equal(fclose(file), 0);
    char text[2048];
    snprintf(text, sizeof text,
             "output: %s/grid\ntokenizer: %s/tokenizer.model\nbatch_size: 3\nbootstrap: 100\n"
             "systems:\n  - {name: base, model: %s/base}\n"
             "  - {name: KVP, family: KVP-C, base: %s/base, aux: %s/aux, predictor: %s/predictor}\n"
             "tasks: [{name: needle, kind: recall, file: %s/items.jsonl, too_long: skip, max_tokens: 2}]\n"
             "ttft: {prompt_tokens: 8, batch_size: 2, repeats: 2}\n",
             test_dir, test_dir, test_dir, test_dir, test_dir, test_dir, test_dir);
    test_write_text(test_path(test_dir, "grid.yaml"), text);
    return 0;
}

static bool exists(const char *name) {
    return access(test_path(test_dir, name), F_OK) == 0;
}

static void expect_text(const char *text, const char *part) {
    if (!strstr(text, part)) fail_msg("expected '%s' in:\n%s", part, text);
}

static kv_results read_results(const char *name) {
    kv_results results;
    kv_error error = {0};
    if (kv_results_read_h5(test_path(test_dir, name), &results, &error)) fail_msg("%s", error.message);
    return results;
}

// Every length that fits is timed with one prompt as long as its own, behind what was asked for.
static void lengths_are_timed(void **state) {
    (void)state;
    EXPECT(0, test_path(test_dir, "grid.yaml"));
    expect_text(out, "needle, validation: exact match in % by the length of the prompt");
    expect_text(out, "1 prompt of");
    kv_results r = read_results("grid/results.h5");
    kv_grid grid;
    kv_error error = {0};
    assert_int_equal(kv_grid_make(&r, 0, &grid, &error), KV_OK);
    assert_int_equal(grid.axes.n_lengths, 3);
    assert_int_equal(grid.axes.n_depths, 2);
    assert_int_equal(r.n_timings, 3);
    for (int64_t l = 0; l < 2; l++) {
        const kv_timing *timing = kv_grid_timing(&grid, l);
        assert_ptr_equal(timing, &r.timings[1 + l]);
        assert_true(timing->prompt_tokens < CONTEXT && timing->seconds[0] > 0 && timing->seconds[1] > 0);
        assert_int_equal(kv_grid_at(&grid, 0, l, 0)->n_items, 2);
        assert_true(kv_grid_reduction(&grid, 1, l) != 1 && kv_grid_reduction(&grid, 0, l) == 1);
    }
    assert_int_equal(kv_grid_at(&grid, 0, 2, 0)->n_items, 0);
    assert_null(kv_grid_timing(&grid, 2));
    kv_grid_free(&grid);
    kv_results_free(&r);
    static const char *const left[] = {"grid/grid.csv", "grid/heat.gp", "grid/heat.dat", "grid/grid-ttft.gp"};
    for (size_t i = 0; i < sizeof left / sizeof *left; i++)
        if (!exists(left[i])) fail_msg("%s is not there", left[i]);
}

static void expect_same_file(const char *first, const char *second) {
    char *a = test_read_text(test_path(test_dir, first)), *b = test_read_text(test_path(test_dir, second));
    assert_string_equal(a, b);
    free(a);
    free(b);
}

// From results.h5 alone, and joined with itself, the same is drawn and written.
static void report_makes_the_same(void **state) {
    (void)state;
    char *h5 = strdup(test_path(test_dir, "grid/results.h5"));
    EXPECT(0, "report", h5, "--output", test_path(test_dir, "again"));
    expect_text(out, "needle, validation: exact match in % by the length of the prompt");
    expect_same_file("grid/grid.csv", "again/grid.csv");
    expect_same_file("grid/heat.dat", "again/heat.dat");
    expect_same_file("grid/grid-ttft.dat", "again/grid-ttft.dat");
    EXPECT(0, "report", h5, h5, "--output", test_path(test_dir, "joined"));
    expect_same_file("grid/grid.csv", "joined/grid.csv");
    free(h5);
}

// Without the clock there is nothing to draw against, and the pictures of before are gone.
static void without_times(void **state) {
    (void)state;
    EXPECT(0, test_path(test_dir, "grid.yaml"), "--no-ttft");
    assert_true(exists("grid/heat.gp") && exists("grid/grid.csv"));
    assert_false(exists("grid/grid-ttft.gp") || exists("grid/grid-ttft.png"));
    kv_csv_table csv;
    kv_error error = {0};
    assert_int_equal(kv_csv_read(test_path(test_dir, "grid/grid.csv"), &csv, &error), KV_OK);
    for (int64_t row = 0; row < csv.n_rows; row++) {
        assert_string_equal(kv_csv_cell(&csv, row, kv_csv_column(&csv, "ttft_seconds")), "");
        const bool asked = strcmp(kv_csv_cell(&csv, row, kv_csv_column(&csv, "n_items")), "0") != 0;
        assert_int_equal(*kv_csv_cell(&csv, row, kv_csv_column(&csv, "accuracy")) != '\0', asked);
    }
    kv_csv_table_free(&csv);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lengths_are_timed),
        cmocka_unit_test(report_makes_the_same),
        cmocka_unit_test(without_times),
    };
    return cmocka_run_group_tests(tests, set_up, test_dir_tear_down);
}

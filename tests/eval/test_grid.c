// Items on a grid of lengths and depths: cells worked out by hand, what they cost, files, joining, the table, and the pictures
// that are made of them.
#include "tests/support/corpus.h"
#include "tests/support/shown.h"

#include "data/file/csv.h"
#include "data/file/h5.h"
#include "eval/evaluate/keep_grid.h"
#include "eval/report/heat.h"
#include "eval/report/output.h"
#include "eval/results/grid.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { N_ITEMS = 9 };

// In no order, as a file may have them: of length 64 two items at depth 0 and one at 0.5, of 128 three at each.
static const int64_t lengths[N_ITEMS] = {128, 64, 128, 64, 64, 128, 128, 128, 128};
static const double depths[N_ITEMS] = {0.5, 0, 0, 0.5, 0, 0, 0.5, 0, 0.5};
static const int64_t tokens[N_ITEMS] = {130, 66, 129, 67, 68, 130, 131, 130, 130};
static const double of_base[N_ITEMS] = {1, 1, 1, 1, 1, 1, 0, 1, 1};
static const double of_small[N_ITEMS] = {0, 1, 1, 0, 0, 0, 0, 0, 0};

static void fill(kv_results *r, int64_t system, const double *values, double flops_a_token) {
    kv_outcome *o = kv_results_outcome(r, system, 0);
    o->values = test_alloc(N_ITEMS, sizeof *o->values);
    o->item_flops = test_alloc(N_ITEMS, sizeof *o->item_flops);
    o->records = test_alloc(N_ITEMS, sizeof *o->records);
    memcpy(o->values, values, N_ITEMS * sizeof *values);
    o->flops = 0;
    for (int i = 0; i < N_ITEMS; i++) {
        o->item_flops[i] = flops_a_token * (double)tokens[i] * (double)tokens[i];
        o->flops += o->item_flops[i] / N_ITEMS;
        o->records[i] = strdup("{}");
    }
}

static void name_system(kv_results *r, int64_t i, const char *name) {
    r->systems[i].name = strdup(name), r->systems[i].family = strdup(name);
    snprintf(r->systems[i].hash, sizeof r->systems[i].hash, "%016d", (int)i);
    r->systems[i].paper_reduction = 1;
}

// A base, a small system, one that is not finite and one that was not asked. Two items of length 256 were skipped.
static kv_results made_up(void) {
    kv_results r;
    kv_error err = {0};
    if (kv_results_init(&r, 4, 1, &err)) fail_msg("%s", err.message);
    r.seed = 7, r.bootstrap = 200;
    name_system(&r, 0, "base");
    name_system(&r, 1, "small");
    name_system(&r, 2, "broken");
    name_system(&r, 3, "later");
    kv_result_task *t = &r.tasks[0];
    t->name = strdup("needle"), t->split = strdup("made"), t->kind = strdup("recall"), t->file = strdup("f");
    snprintf(t->hash, sizeof t->hash, "00000000000000dd");
    t->n_items = t->n_units = N_ITEMS, t->n_metrics = 1, t->prompt_tokens = 109, t->n_skipped = 2;
    snprintf(t->metrics[0], KV_METRIC_NAME, "exact_match");
    t->grid.lengths = test_alloc(N_ITEMS, sizeof *t->grid.lengths);
    t->grid.tokens = test_alloc(N_ITEMS, sizeof *t->grid.tokens);
    t->grid.depths = test_alloc(N_ITEMS, sizeof *t->grid.depths);
    t->grid.skipped = test_alloc(2, sizeof *t->grid.skipped);
    memcpy(t->grid.lengths, lengths, sizeof lengths);
    memcpy(t->grid.tokens, tokens, sizeof tokens);
    memcpy(t->grid.depths, depths, sizeof depths);
    t->grid.skipped[0] = t->grid.skipped[1] = 256;
    fill(&r, 0, of_base, 4);
    fill(&r, 1, of_small, 1);
    kv_results_outcome(&r, 2, 0)->not_finite = strdup("f:1: logits");
    const int64_t sizes[][2] = {{109, 8}, {67, 8}, {67, KV_GRID_BATCH}};
    for (int i = 0; i < 3; i++) {
        kv_timing *timing = kv_results_add_timing(&r, sizes[i][0], sizes[i][1], 1);
        assert_non_null(timing);
        for (int s = 0; s < 2; s++) {
            timing->seconds[s] = (i + 1) * (s ? 0.25 : 1), timing->spread[s] = 0.125;
            timing->reduction[s] = s ? 4 : 1;
        }
    }
    if (kv_results_derive(&r, &err)) fail_msg("%s", err.message);
    return r;
}

static kv_grid grid_of(const kv_results *r) {
    kv_grid grid;
    kv_error err = {0};
    if (kv_grid_make(r, 0, &grid, &err)) fail_msg("%s", err.message);
    assert_non_null(grid.cells);
    return grid;
}

static void expect_cell(const kv_grid *grid, int64_t system, int64_t length, int64_t depth, int64_t n_items,
                        double figure) {
    const kv_grid_cell *cell = kv_grid_at(grid, system, length, depth);
    assert_int_equal(cell->n_items, n_items);
    if (isnan(figure) ? !isnan(cell->figure) : fabs(cell->figure - figure) > 1e-12)
        fail_msg("system %d, length %d, depth %d: %g, expected %g", (int)system, (int)length, (int)depth,
                 cell->figure, figure);
}

// ---- Cells ---------------------------------------------------------------------------------------------

static void axes_rise_and_hold_what_was_skipped(void **state) {
    (void)state;
    kv_results r = made_up();
    kv_grid_axes axes;
    assert_true(kv_grid_axes_of(&r.tasks[0], &axes));
    assert_int_equal(axes.n_lengths, 3);
    assert_int_equal(axes.n_depths, 2);
    assert_true(axes.lengths[0] == 64 && axes.lengths[1] == 128 && axes.lengths[2] == 256);
    assert_true(axes.depths[0] == 0 && axes.depths[1] == 0.5);
    // 66, 67, 68; 129, 130 four times, 131; none was asked.
    assert_true(axes.tokens[0] == 67 && axes.tokens[1] == 130 && axes.tokens[2] == 0);
    assert_true(kv_results_have_grid(&r));
    kv_grid_items_free(&r.tasks[0].grid);
    assert_false(kv_grid_axes_of(&r.tasks[0], &axes));
    assert_false(kv_results_have_grid(&r));
    kv_results_free(&r);
}

static void too_many_lengths_or_depths_are_no_grid(void **state) {
    (void)state;
    enum { N = KV_GRID_MOST + 1 };
    int64_t many[N];
    double deep[N];
    kv_grid_axes axes;
    for (int i = 0; i < N; i++) many[i] = i + 1, deep[i] = 0.5;
    kv_result_task t = {.grid = {.lengths = many, .depths = deep}, .n_items = N - 1};
    assert_true(kv_grid_axes_of(&t, &axes));
    assert_int_equal(axes.n_lengths, KV_GRID_MOST);
    assert_int_equal(axes.tokens[3], 4); // the length, where nothing says what was read
    t.n_items = N;
    assert_false(kv_grid_axes_of(&t, &axes));
    for (int i = 0; i < N; i++) many[i] = 8, deep[i] = (double)i / N;
    assert_false(kv_grid_axes_of(&t, &axes));
}

static void cells_by_hand(void **state) {
    (void)state;
    kv_results r = made_up();
    kv_grid grid = grid_of(&r);
    expect_cell(&grid, 1, 0, 0, 2, 0.5);
    expect_cell(&grid, 1, 0, 1, 1, 0);
    expect_cell(&grid, 1, 1, 0, 3, 1 / 3.0);
    expect_cell(&grid, 1, 1, 1, 3, 0);
    expect_cell(&grid, 0, 1, 1, 3, 2 / 3.0);
    // Over all depths, over all lengths, over all: of items, not of cells.
    expect_cell(&grid, 1, 0, 2, 3, 1 / 3.0);
    expect_cell(&grid, 1, 3, 0, 5, 2 / 5.0);
    expect_cell(&grid, 1, 3, 2, N_ITEMS, kv_results_outcome(&r, 1, 0)->figures[0].accuracy);
    // What was skipped, what is not finite, and what was not asked has no figure, not 0.
    expect_cell(&grid, 0, 2, 0, 0, NAN);
    expect_cell(&grid, 2, 0, 0, 2, NAN);
    expect_cell(&grid, 3, 3, 2, N_ITEMS, NAN);
    kv_grid_free(&grid);
    kv_results_free(&r);
}

static void intervals_are_those_of_the_cells_items(void **state) {
    (void)state;
    kv_results r = made_up();
    kv_grid grid = grid_of(&r);
    kv_error err = {0};
    kv_interval interval, whole;
    const double three[] = {1, 0, 0}; // in the order of the items
    assert_int_equal(kv_grid_interval(&grid, 1, 1, 0, &interval, &err), KV_OK);
    assert_int_equal(kv_bootstrap_mean(three, 3, r.bootstrap, r.seed, &whole, &err), KV_OK);
    assert_true(interval.low == whole.low && interval.high == whole.high && whole.high > whole.low);
    // All of it is the task's own.
    const kv_figure *figure = &kv_results_outcome(&r, 1, 0)->figures[0];
    assert_int_equal(kv_grid_interval(&grid, 1, 3, 2, &interval, &err), KV_OK);
    assert_true(interval.low == figure->low && interval.high == figure->high);
    assert_int_equal(kv_grid_interval(&grid, 2, 3, 2, &interval, &err), KV_OK);
    assert_true(isnan(interval.low) && isnan(interval.high));
    kv_grid_free(&grid);
    kv_results_free(&r);
}

static void costs_by_length(void **state) {
    (void)state;
    kv_results r = made_up();
    kv_grid grid = grid_of(&r);
    assert_true(kv_grid_reduction(&grid, 0, 0) == 1 && kv_grid_reduction(&grid, 1, 0) == 4);
    assert_true(isnan(kv_grid_reduction(&grid, 1, 2)) && isnan(kv_grid_reduction(&grid, 3, 0)));
    assert_true(kv_grid_reduction(&grid, 1, 3) == kv_results_outcome(&r, 1, 0)->exact_reduction);
    // One prompt of as many tokens as those of 64 have: 67.
    assert_ptr_equal(kv_grid_timing(&grid, 0), &r.timings[2]);
    assert_null(kv_grid_timing(&grid, 1));
    assert_null(kv_grid_timing(&grid, 2));
    assert_null(kv_grid_timing(&grid, 3));
    kv_grid_free(&grid);
    // A prompt that costs relatively more the longer it is saves less there.
    for (int i = 0; i < N_ITEMS; i++)
        if (lengths[i] == 128) kv_results_outcome(&r, 1, 0)->item_flops[i] *= 2;
    grid = grid_of(&r);
    assert_true(kv_grid_reduction(&grid, 1, 0) == 4 && kv_grid_reduction(&grid, 1, 1) == 2);
    kv_grid_free(&grid);
    kv_results_free(&r);
}

static void the_worst_cell(void **state) {
    (void)state;
    kv_results r = made_up();
    kv_grid grid = grid_of(&r);
    kv_grid_worst worst;
    assert_true(kv_grid_find_worst(&grid, 0, &worst));
    assert_true(worst.length == 1 && worst.depth == 1 && worst.n_as_bad == 1 && worst.n_cells == 4);
    assert_true(kv_grid_find_worst(&grid, 1, &worst));
    assert_true(worst.length == 0 && worst.depth == 1 && worst.n_as_bad == 2 && worst.figure == 0);
    assert_false(kv_grid_find_worst(&grid, 2, &worst));
    assert_false(kv_grid_find_worst(&grid, 3, &worst));
    kv_grid_free(&grid);
    // Of what should be small the largest.
    snprintf(r.tasks[0].metrics[0], KV_METRIC_NAME, "tail_nll");
    grid = grid_of(&r);
    assert_true(kv_grid_find_worst(&grid, 1, &worst));
    assert_true(worst.length == 0 && worst.depth == 0 && worst.figure == 0.5);
    kv_grid_free(&grid);
    kv_results_free(&r);
}

// Bits over bytes: the sums of a cell's items, one over the other.
static void weighted_cells(void **state) {
    (void)state;
    kv_results r = made_up();
    kv_error err = {0};
    kv_interval interval;
    const kv_metric *metric = kv_metric_of("bits_per_byte");
    const double values[] = {1, 0, 0}, weights[] = {3, 6, 8};
    snprintf(r.tasks[0].metrics[0], KV_METRIC_NAME, "bits_per_byte");
    r.tasks[0].weights = test_alloc(N_ITEMS, sizeof(double));
    for (int i = 0; i < N_ITEMS; i++) r.tasks[0].weights[i] = i + 1;
    kv_grid grid = grid_of(&r);
    expect_cell(&grid, 1, 0, 0, 2, 2 / 7.0);
    expect_cell(&grid, 1, 1, 0, 3, 3 / 17.0);
    kv_interval expected;
    assert_int_equal(kv_grid_interval(&grid, 1, 1, 0, &interval, &err), KV_OK);
    assert_int_equal(kv_metric_interval(metric, values, weights, 3, r.bootstrap, r.seed, &expected, &err),
                     KV_OK);
    assert_true(interval.low == expected.low && interval.high == expected.high);
    kv_grid_free(&grid);
    kv_results_free(&r);
}

// ---- Where it is kept ----------------------------------------------------------------------------------

static void expect_same_grid(const kv_results *a, const kv_results *b) {
    const kv_result_task *x = &a->tasks[0], *y = &b->tasks[0];
    assert_memory_equal(x->grid.lengths, y->grid.lengths, sizeof lengths);
    assert_memory_equal(x->grid.tokens, y->grid.tokens, sizeof tokens);
    assert_memory_equal(x->grid.depths, y->grid.depths, sizeof depths);
    assert_memory_equal(x->grid.skipped, y->grid.skipped, 2 * sizeof *x->grid.skipped);
    for (int s = 0; s < 2; s++)
        assert_memory_equal(kv_results_outcome(a, s, 0)->item_flops, kv_results_outcome(b, s, 0)->item_flops,
                            N_ITEMS * sizeof(double));
    assert_null(kv_results_outcome(b, 2, 0)->item_flops);
}

static void files_and_joining_keep_it(void **state) {
    (void)state;
    kv_results r = made_up(), again;
    kv_error err = {0};
    const char *path = test_path(test_dir, "grid.h5");
    if (kv_results_write_h5(&r, path, &err)) fail_msg("%s", err.message);
    if (kv_results_read_h5(path, &again, &err)) fail_msg("%s", err.message);
    expect_same_grid(&r, &again);
    // Joined, each side brings what the other lacks.
    kv_results other = made_up();
    kv_outcome *small = kv_results_outcome(&again, 1, 0);
    free(small->item_flops);
    small->item_flops = NULL, small->flops = NAN;
    if (kv_results_join(&again, &other, &err)) fail_msg("%s", err.message);
    expect_same_grid(&r, &again);
    kv_results_free(&other);
    kv_results_free(&again);
    // A task without a grid has nothing of it in its file.
    kv_grid_items_free(&r.tasks[0].grid);
    if (kv_results_write_h5(&r, path, &err)) fail_msg("%s", err.message);
    if (kv_results_read_h5(path, &again, &err)) fail_msg("%s", err.message);
    assert_null(again.tasks[0].grid.lengths);
    assert_null(kv_results_outcome(&again, 0, 0)->item_flops);
    kv_results_free(&again);
    kv_results_free(&r);
}

static void damaged_grids_are_refused(void **state) {
    (void)state;
    static const char *const damages[] = {"item_depths", "item_depths", "item_lengths", "item_tokens",
                                          "skipped_lengths"};
    char *path = strdup(test_path(test_dir, "damaged.h5"));
    for (int i = 0; i < 5; i++) {
        kv_results r = made_up(), again;
        kv_error err = {0};
        if (i == 0) r.tasks[0].grid.depths[2] = NAN;
        if (i == 1) r.tasks[0].grid.depths[2] = 1.5;
        if (i == 2) r.tasks[0].grid.lengths[2] = 0;
        if (i == 3) r.tasks[0].grid.tokens[2] = -1;
        if (i == 4) r.tasks[0].grid.skipped[1] = 0;
        if (kv_results_write_h5(&r, path, &err)) fail_msg("%s", err.message);
        assert_int_equal(kv_results_read_h5(path, &again, &err), KV_ERR_FORMAT);
        if (!strstr(err.message, "damaged.h5") || !strstr(err.message, damages[i]))
            fail_msg("%s", err.message);
        kv_results_free(&r);
    }
    free(path);
}

// From a benchmark, whose items may have been cut or skipped.
static void results_take_it_from_the_items(void **state) {
    (void)state;
    kv_item items[2] = {{.length = 64, .depth = 0.25}, {.length = 128, .depth = 1}};
    int64_t prompts[2] = {66, 131};
    json_t *skipped =
        json_pack("[{s:s, s:i, s:i, s:f}]", "item", "f:3", "tokens", 270, "length", 256, "depth", 0.0);
    kv_benchmark b = {
        .items = items, .n_items = 2, .prompt_tokens = prompts, .skipped = skipped, .n_skipped = 1};
    kv_result_task t = {.n_items = 2, .n_skipped = 1};
    assert_true(kv_keep_grid(&b, &t));
    assert_true(t.grid.lengths[1] == 128 && t.grid.tokens[1] == 131 && t.grid.depths[0] == 0.25);
    assert_int_equal(t.grid.skipped[0], 256);
    kv_grid_items_free(&t.grid);
    items[1].length = 0;
    assert_true(kv_keep_grid(&b, &t));
    assert_null(t.grid.lengths);
    json_decref(skipped);
}

// ---- What is shown -------------------------------------------------------------------------------------

static void expect(const char *text, const char *part) {
    if (!strstr(text, part)) fail_msg("expected '%s' in:\n%s", part, text);
}

static const char *cell(const kv_csv_table *csv, const char *system, const char *length, const char *depth,
                        const char *column) {
    for (int64_t row = 0; row < csv->n_rows; row++)
        if (!strcmp(kv_csv_cell(csv, row, kv_csv_column(csv, "system")), system) &&
            !strcmp(kv_csv_cell(csv, row, kv_csv_column(csv, "length")), length) &&
            !strcmp(kv_csv_cell(csv, row, kv_csv_column(csv, "depth")), depth))
            return kv_csv_cell(csv, row, kv_csv_column(csv, column));
    fail_msg("no row of %s, %s, %s", system, length, depth);
    return "";
}

static void csv_has_every_cell(void **state) {
    (void)state;
    kv_results r = made_up();
    kv_error err = {0};
    kv_csv_table csv;
    const char *path = test_path(test_dir, "grid.csv");
    if (kv_grid_write_csv(&r, path, &err)) fail_msg("%s", err.message);
    if (kv_csv_read(path, &csv, &err)) fail_msg("%s", err.message);
    assert_int_equal(csv.n_rows, 3 * (3 * 2 + 3 + 2)); // of what was asked
    assert_string_equal(cell(&csv, "small", "64", "0", "accuracy"), "0.5");
    assert_string_equal(cell(&csv, "small", "64", "0", "n_items"), "2");
    assert_string_equal(cell(&csv, "small", "64", "0", "metric"), "exact_match");
    assert_string_equal(cell(&csv, "small", "64", "0", "flops_reduction_exact"), "4");
    assert_string_equal(cell(&csv, "small", "64", "0", "prompt_tokens"), "67");
    assert_string_equal(cell(&csv, "small", "64", "0", "ttft_seconds"), "0.75");
    assert_string_equal(cell(&csv, "small", "64", "0", "ttft_reduction"), "4");
    assert_string_equal(cell(&csv, "small", "128", "0", "ttft_seconds"), "");
    assert_string_equal(cell(&csv, "small", "128", "", "accuracy"), "0.166666667");
    assert_string_equal(cell(&csv, "small", "", "0.5", "accuracy"), "0");
    assert_string_equal(cell(&csv, "small", "256", "0.5", "accuracy"), "");
    assert_string_equal(cell(&csv, "small", "256", "0.5", "n_items"), "0");
    assert_string_equal(cell(&csv, "broken", "64", "0", "accuracy"), "");
    assert_string_equal(cell(&csv, "broken", "64", "0", "note"), "not finite");
    assert_string_equal(cell(&csv, "small", "64", "0", "note"), "");
    assert_string_equal(cell(&csv, "small", "64", "0", "better"), "higher");
    kv_csv_table_free(&csv);
    kv_results_free(&r);
}

static char *printed(const kv_results *r) {
    kv_tables *tables = kv_tables_create();
    kv_error err = {0};
    if (kv_grid_tables(r, tables, &err)) fail_msg("%s", err.message);
    return test_shown(tables);
}

static void table_says_where_it_is_lost(void **state) {
    (void)state;
    kv_results r = made_up();
    char *text = printed(&r);
    expect(text, "needle, made: exact match in % by the length of the prompt");
    expect(text, "\nsystem     64   128  256      0   0.5 ");
    expect(text, "\nbase    100.0  83.3    -  100.0  75.0           66.7 at 128, depth 0.5\n");
    expect(text, "\nsmall    33.3  16.7    -   40.0   0.0  0.0 at 64, depth 0.5 and 1 more\n");
    expect(text, "\nbroken      -     -    -      -     -                       not finite\n");
    assert_null(strstr(text, "later"));
    free(text);
    int64_t many[KV_GRID_MOST + 1]; // lengths of items that were skipped
    for (int i = 0; i <= KV_GRID_MOST; i++) many[i] = 1000 + i;
    int64_t *skipped = r.tasks[0].grid.skipped;
    r.tasks[0].grid.skipped = many, r.tasks[0].n_skipped = KV_GRID_MOST + 1;
    text = printed(&r);
    assert_string_equal(text, "needle, made: more than 64 lengths or depths are no grid\n");
    free(text);
    r.tasks[0].grid.skipped = skipped;
    kv_grid_items_free(&r.tasks[0].grid);
    text = printed(&r);
    assert_string_equal(text, "");
    free(text);
    kv_results_free(&r);
}

static void draw(const kv_results *r, const char *dir) {
    static char exact[] = "exact", accuracy[] = "accuracy";
    const kv_eval_picture picture = {.x = exact, .y = accuracy};
    char note[KV_PLOT_NOTE];
    kv_error err = {0};
    if (kv_output_write(r, &picture, dir, note, &err)) fail_msg("%s", err.message);
    if (*note && !strstr(note, "not installed")) fail_msg("%s", note);
}

static bool exists(const char *dir, const char *name) {
    return access(test_path(dir, name), F_OK) == 0;
}

// Empty cells stand in a block of their own, where no number is; pictures of before go with the grid.
static void maps_of_every_system(void **state) {
    (void)state;
    kv_results r = made_up();
    char *dir = strdup(test_path(test_dir, "out"));
    draw(&r, dir);
    assert_true(exists(dir, "grid.csv") && exists(dir, "heat.gp"));
    assert_false(exists(dir, "heat-2.gp"));
    char *data = test_read_text(test_path(dir, "heat.dat"));
    expect(data, "# panel: base\n# column row value text dark\n0 0 100 100 0 # 64, start 0\n");
    expect(data, "# panel: small\n# column row value text dark\n0 0 50 50 1 # 64, start 0\n"
                 "1 0 33.3333333 33 1 # 128, start 0\n0 1 0 0 1 # 64, 0.5\n1 1 0 0 1 # 128, 0.5\n\n\n"
                 "# panel: small\n# nothing known: column row\n2 0 # 256, start 0\n2 1 # 256, 0.5\n\n\n");
    expect(data, "# panel: broken\n# column row value text dark\nNaN NaN NaN NaN NaN\n\n\n"
                 "# panel: broken\n# nothing known: column row\n0 0 # 64, start 0\n");
    assert_null(strstr(data, "# panel: later"));
    free(data);
    char *script = test_read_text(test_path(dir, "heat.gp"));
    expect(script, "'needle, made: 9 items (2 of 11 skipped: too long)'");
    expect(script, "set label 'not finite'");
    expect(script, "'exact match (%)'");
    free(script);
    kv_grid_items_free(&r.tasks[0].grid);
    draw(&r, dir);
    assert_false(exists(dir, "grid.csv") || exists(dir, "heat.gp") || exists(dir, "heat.dat") ||
                 exists(dir, "heat.png") || exists(dir, "heat.svg"));
    free(dir);
    kv_results_free(&r);
}

// More systems than fit are spread over pictures as evenly as may be.
static void many_systems_share_pictures(void **state) {
    (void)state;
    enum { N = KV_HEAT_SYSTEMS + 1 };
    kv_results r;
    kv_error err = {0};
    char name[KV_HEAT_NAME];
    kv_results few = made_up();
    assert_int_equal(kv_results_init(&r, N, 1, &err), KV_OK);
    r.bootstrap = 10;
    for (int64_t s = 0; s < N; s++) {
        snprintf(name, sizeof name, "s%d", (int)s);
        name_system(&r, s, name);
        fill(&r, s, of_base, 1);
    }
    kv_result_task *t = &r.tasks[0];
    *t = few.tasks[0];
    t->name = strdup("needle"), t->split = strdup("made"), t->kind = strdup("recall"), t->file = strdup("f");
    assert_true(kv_grid_items_copy(&t->grid, &few.tasks[0].grid, N_ITEMS, 2));
    char *dir = strdup(test_path(test_dir, "many"));
    draw(&r, dir);
    for (int i = 0; i < 2; i++) {
        char file[KV_HEAT_NAME + 4];
        snprintf(file, sizeof file, "%s.dat", kv_heat_name("heat", i, name));
        char *data = test_read_text(test_path(dir, file));
        assert_int_equal(strstr(data, "# panel: s6\n") != NULL, i == 0);
        assert_int_equal(strstr(data, "# panel: s7\n") != NULL, i == 1);
        free(data);
    }
    free(dir);
    kv_results_free(&r);
    kv_results_free(&few);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(axes_rise_and_hold_what_was_skipped),
        cmocka_unit_test(too_many_lengths_or_depths_are_no_grid),
        cmocka_unit_test(cells_by_hand),
        cmocka_unit_test(intervals_are_those_of_the_cells_items),
        cmocka_unit_test(costs_by_length),
        cmocka_unit_test(the_worst_cell),
        cmocka_unit_test(weighted_cells),
        cmocka_unit_test(files_and_joining_keep_it),
        cmocka_unit_test(damaged_grids_are_refused),
        cmocka_unit_test(results_take_it_from_the_items),
        cmocka_unit_test(csv_has_every_cell),
        cmocka_unit_test(table_says_where_it_is_lost),
        cmocka_unit_test(maps_of_every_system),
        cmocka_unit_test(many_systems_share_pictures),
    };
    return cmocka_run_group_tests(tests, test_dir_set_up, test_dir_tear_down);
}

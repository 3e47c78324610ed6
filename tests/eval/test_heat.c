// Maps and scores against times: what the files hold, how much fits, and gnuplot drawing them.
#include "tests/support/corpus.h"

#include "eval/plot/heat.h"
#include "eval/plot/layout.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MOST = KV_PLOT_MAX_CELLS };

static const char *const x_ticks[] = {"64", "128", "it's `odd`"}, *const y_ticks[] = {"start 0", "end 1"};
static const double full[] = {100, 59, 0, 61, 12.5, 100}, holes[] = {50, NAN, INFINITY, 50, NAN, NAN},
                    nothing[] = {NAN, NAN, NAN, NAN, NAN, NAN};
static const kv_plot_map maps[] = {
    {"full", full, NULL}, {"holes", holes, NULL}, {"broken", nothing, "not finite"}};

static kv_plot_maps made_up(void) {
    return (kv_plot_maps){.maps = maps,
                          .n_maps = 3,
                          .heading = "recall, made",
                          .x_ticks = x_ticks,
                          .y_ticks = y_ticks,
                          .n_x = 3,
                          .n_y = 2,
                          .x_label = "length",
                          .y_label = "depth",
                          .bar_label = "exact match (%)",
                          .empty_text = "not asked",
                          .low = 0,
                          .high = 100,
                          .format = "%.0f"};
}

static void draw(const kv_plot_maps *plot, const char *name) {
    char note[KV_PLOT_NOTE];
    kv_error err = {0};
    if (kv_plot_draw_maps(plot, test_dir, name, note, &err)) fail_msg("%s", err.message);
    if (*note && !strstr(note, "not installed")) fail_msg("%s", note);
}

static char *read_file(const char *name, const char *ending) {
    char file[64];
    snprintf(file, sizeof file, "%s.%s", name, ending);
    return test_read_text(test_path(test_dir, file));
}

static void expect(const char *text, const char *part) {
    if (!strstr(text, part)) fail_msg("expected '%s' in:\n%s", part, text);
}

static int count(const char *text, const char *part) {
    int n = 0;
    for (; (text = strstr(text, part)); text += strlen(part)) n++;
    return n;
}

// Light colours have dark numbers; a cell without a number is never 0, it is not among the coloured ones at all.
static void cells_and_empty_ones(void **state) {
    (void)state;
    const kv_plot_maps plot = made_up();
    draw(&plot, "cells");
    char *data = read_file("cells", "dat");
    expect(data, "# panel: full\n# column row value text dark\n0 0 100 100 0 # 64, start 0\n"
                 "1 0 59 59 1 # 128, start 0\n2 0 0 0 1 # it's `odd`, start 0\n0 1 61 61 0 # 64, end 1\n"
                 "1 1 12.5 12 1 # 128, end 1\n2 1 100 100 0 # it's `odd`, end 1\n\n\n"
                 "# panel: full\n# nothing known: column row\nNaN NaN NaN NaN NaN\n\n\n");
    expect(data,
           "# panel: holes\n# column row value text dark\n0 0 50 50 1 # 64, start 0\n"
           "0 1 50 50 1 # 64, end 1\n\n\n# panel: holes\n# nothing known: column row\n"
           "1 0 # 128, start 0\n2 0 # it's `odd`, start 0\n1 1 # 128, end 1\n2 1 # it's `odd`, end 1\n\n\n");
    expect(data, "# panel: broken\n# column row value text dark\nNaN NaN NaN NaN NaN\n");
    free(data);
    char *script = read_file("cells", "gp");
    expect(script, "set yrange [1.5:-0.5]\n"); // the first row is the one at the top
    expect(script, "'it''s `odd`' 2) noenhanced");
    expect(script, "'start 0' 0, 'end 1' 1");
    expect(script, "set cbrange [0:100]");
    expect(script, "defined (0 '#440154',");
    expect(script, "set label 'recall, made' at screen");
    expect(script, "set label 'not asked' at screen");
    // Of the last map only its grey cells, without lines through them: there stands why.
    expect(script,
           "set label 'not finite' at graph 0.5,0.5 center noenhanced front\nplot 'cells.dat' index 5 ");
    assert_null(strstr(strstr(script, "index 5"), "vectors"));
    assert_null(strstr(script, "index 4"));
    assert_int_equal(count(script, "unset colorbox"), 1);
    free(script);
}

static void what_is_full_needs_no_grey(void **state) {
    (void)state;
    kv_plot_maps plot = made_up();
    plot.n_maps = 1;
    draw(&plot, "full");
    char *script = read_file("full", "gp");
    assert_null(strstr(script, "not asked"));
    assert_null(strstr(script, "E4E4E4') fs"));
    assert_null(strstr(script, "index 1"));
    free(script);
}

// Dark is bad, whichever way is better.
static void lower_is_better_turns_the_colours(void **state) {
    (void)state;
    kv_plot_maps plot = made_up();
    plot.lower_is_better = true;
    draw(&plot, "lower");
    char *script = read_file("lower", "gp"), *data = read_file("lower", "dat");
    expect(script, "defined (0 '#FDE725',");
    expect(script, ", 9 '#440154')");
    expect(data, "0 0 100 100 1 # 64, start 0\n1 0 59 59 1 # 128, start 0\n2 0 0 0 0 # it's");
    free(data);
    free(script);
}

// Numbers and ticks only where there is room for them.
static void many_cells(void **state) {
    (void)state;
    static char texts[MOST][8];
    static const char *ticks[MOST];
    static double values[MOST * MOST];
    for (int i = 0; i < MOST; i++) {
        snprintf(texts[i], sizeof texts[i], "%d", 1000 * i);
        ticks[i] = texts[i];
    }
    for (int i = 0; i < MOST * MOST; i++) values[i] = i % 101;
    const kv_plot_map map = {"many", values, NULL};
    kv_plot_maps plot = made_up();
    plot.maps = &map, plot.n_maps = 1, plot.n_x = plot.n_y = MOST, plot.x_ticks = plot.y_ticks = ticks;
    draw(&plot, "many");
    char *script = read_file("many", "gp");
    assert_null(strstr(script, "with labels"));
    assert_null(strstr(script, "'1000' 1,"));
    expect(script, "('0' 0, '");
    free(script);
    plot.n_x = 10;
    draw(&plot, "fewer");
    script = read_file("fewer", "gp");
    expect(script, "'1000' 1,");
    free(script);
    char note[KV_PLOT_NOTE];
    kv_error err = {0};
    plot.n_x = MOST + 1;
    assert_int_equal(kv_plot_draw_maps(&plot, test_dir, "no", note, &err), KV_ERR_RANGE);
    plot.n_x = 1, plot.n_maps = 0;
    assert_int_equal(kv_plot_draw_maps(&plot, test_dir, "no", note, &err), KV_ERR_RANGE);
}

static void gnuplot_draws_them(void **state) {
    (void)state;
    const kv_plot_maps plot = made_up();
    char note[KV_PLOT_NOTE];
    kv_error err = {0};
    if (kv_plot_draw_maps(&plot, test_dir, "drawn", note, &err)) fail_msg("%s", err.message);
    if (*note) {
        print_message("%s\n", note);
        skip();
    }
    struct stat png;
    assert_int_equal(stat(test_path(test_dir, "drawn.png"), &png), 0);
    assert_true(png.st_size > 5000);
    char *svg = read_file("drawn", "svg");
    expect(svg, "it's `odd`");
    expect(svg, ">12<"); // a number in its cell
    assert_null(strstr(svg, ">NaN<"));
    expect(svg, "not finite");
    free(svg);
}

// ---- Scores against times ------------------------------------------------------------------------------

// Two panels a factor 100 apart: each has ticks of its own; what is faster and better is on the front.
static void times_have_their_own_ranges(void **state) {
    (void)state;
    static const double x[3][2] = {{10, 1000}, {2, 200}, {5, 500}},
                        y[3][2] = {{100, 100}, {40, 40}, {30, 30}};
    static const char *const panels[] = {"short", "long"};
    kv_plot_point points[3];
    for (int i = 0; i < 3; i++) points[i] = (kv_plot_point){"p", "f", x[i], y[i], NULL, NULL};
    kv_plot plot = {.points = points,
                    .n_points = 3,
                    .panels = panels,
                    .n_panels = 2,
                    .x_label = "ms",
                    .y_label = "match",
                    .heading = "by length",
                    .times = true,
                    .whole = true};
    kv_plot_frame frames[2];
    kv_plot_make_frames(&plot, 560, 400, frames);
    assert_true(frames[0].x_log && frames[0].x_min < 2 && frames[0].x_min > 1 && frames[0].x_max < 30);
    assert_true(frames[1].x_min > 100 && frames[1].x_max < 3000);
    assert_true(frames[0].y_min == frames[1].y_min && frames[0].y_min < 0 && frames[0].y_max > 100);
    kv_plot_panel sorted;
    kv_plot_sort_panel(&plot, 0, &sorted);
    assert_true(sorted.front[0] && sorted.front[1] && !sorted.front[2]);
    plot.times = false;
    kv_plot_sort_panel(&plot, 0, &sorted);
    assert_true(sorted.front[0] && !sorted.front[1] && !sorted.front[2]);
    plot.times = true;
    char note[KV_PLOT_NOTE];
    kv_error err = {0};
    if (kv_plot_draw(&plot, test_dir, "times", note, &err)) fail_msg("%s", err.message);
    char *script = read_file("times", "gp");
    expect(script, "set logscale x\nset format x '%g'\n");
    expect(script, "set xtics (\"2\" 2, \"5\" 5, \"10\" 10");
    expect(script, "set xtics (\"200\" 200, \"500\" 500, \"1000\" 1000");
    expect(script, "set label 'by length' at screen");
    free(script);
    // One time alone has a tick, too.
    plot.n_points = 1;
    kv_plot_make_frames(&plot, 560, 400, frames);
    assert_true(frames[0].x_max / frames[0].x_min > 2);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cells_and_empty_ones),
        cmocka_unit_test(what_is_full_needs_no_grey),
        cmocka_unit_test(lower_is_better_turns_the_colours),
        cmocka_unit_test(many_cells),
        cmocka_unit_test(gnuplot_draws_them),
        cmocka_unit_test(times_have_their_own_ranges),
    };
    return cmocka_run_group_tests(tests, test_dir_set_up, test_dir_tear_down);
}

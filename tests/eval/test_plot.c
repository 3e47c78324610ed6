// The pictures: axis ranges, where labels go, what the files hold, and gnuplot drawing them.
#include "tests/support/corpus.h"

#include "eval/plot/layout.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const double heights[][1] = {{99}, {38}, {64}, {22}, {87}, {20}, {29}, {64}, {NAN}};
static const char *const panels[] = {"atlas, trained"};

static kv_plot made_up_plot(kv_plot_point points[9]) {
    static const double x[] = {1, 14, 14, 9, 9, 29, 29, 13, 2};
    static const char *const labels[] = {"base",   "aux A1", "aux A1 + same steps", "KVP A1 (paper's loss)",
                                         "KVP A1", "aux A2", "aux A2 more",         "it's `odd` \\ \"",
                                         "nothing"};
    for (int i = 0; i < 9; i++)
        points[i] = (kv_plot_point){labels[i], i < 4 ? "one" : "two", &x[i], heights[i], NULL, NULL};
    return (kv_plot){.points = points,
                     .n_points = 9,
                     .panels = panels,
                     .n_panels = 1,
                     .x_label = "reduction",
                     .y_label = "pass@1"};
}

// ---- Texts and styles ----------------------------------------------------------------------------------

static void long_texts_are_cut_at_a_character(void **state) {
    (void)state;
    char text[KV_PLOT_TEXT];
    assert_string_equal(kv_plot_clip("short", 5, text), "short");
    assert_string_equal(kv_plot_clip("shorter", 5, text), "shor…");
    assert_string_equal(kv_plot_clip("größer", 6, text), "größer");
    assert_string_equal(kv_plot_clip("größer", 5, text), "größ…");
    assert_string_equal(kv_plot_clip("", 5, text), "");
    // Wide characters, and letters with accents of their own.
    assert_string_equal(kv_plot_clip("東京都", 6, text), "東京都");
    assert_string_equal(kv_plot_clip("東京都", 5, text), "東京…");
    assert_string_equal(kv_plot_clip("e\xCC\x81te\xCC\x81", 3, text), "e\xCC\x81te\xCC\x81");
    assert_string_equal(kv_plot_clip("e\xCC\x81te\xCC\x81s", 3, text), "e\xCC\x81t…");
    assert_true(kv_plot_text_width("東京") > 1.3 * kv_plot_text_width("MM"));
    assert_true(kv_plot_text_width("e\xCC\x81") == kv_plot_text_width("e"));
    char longest[4 * KV_PLOT_TEXT] = "";
    for (int i = 0; i < KV_PLOT_TEXT; i++) strcat(longest, "ö");
    assert_true(strlen(kv_plot_clip(longest, 1000, text)) < KV_PLOT_TEXT);
    assert_string_equal(text + strlen(text) - 5, "ö…");
}

static bool same_style(const kv_plot_style *a, const kv_plot_style *b) {
    return !strcmp(a->colour, b->colour) && a->filled == b->filled && a->dotted == b->dotted;
}

// The families of the shipped configurations and of the paper's tables, whatever stands beside them.
static void families_keep_their_look(void **state) {
    (void)state;
    static const char *const known[] = {"base",
                                        "OE",
                                        "fair rival",
                                        "LP",
                                        "KVP-C (paper's loss)",
                                        "KVP-C (ours)",
                                        "KVP-LP (paper's loss)",
                                        "KVP-LP (ours)",
                                        "RP",
                                        "SP",
                                        "L0.75",
                                        "L0.50",
                                        "prefix",
                                        "ridge",
                                        "SwiftKV",
                                        "POP",
                                        "rival with the teacher",
                                        "SPF"};
    enum { N = sizeof known / sizeof *known };
    kv_plot_style all[N], one;
    kv_plot_family_styles(known, N, all);
    assert_string_equal(all[0].colour, "#333333");
    assert_true(all[0].filled == 7 && !all[0].dotted);
    assert_string_equal(all[N - 1].colour, "#B2182B");
    for (int i = 0; i < N; i++) {
        const char *reversed[N];
        kv_plot_style again[N];
        kv_plot_family_styles(&known[i], 1, &one);
        assert_true(same_style(&one, &all[i]));
        for (int j = 0; j < N; j++) reversed[j] = known[N - 1 - j];
        kv_plot_family_styles(reversed, N, again);
        assert_true(same_style(&again[N - 1 - i], &all[i]));
        for (int j = 0; j < i; j++) {
            assert_true(strcmp(all[i].colour, all[j].colour) != 0);
            assert_true(all[i].filled != all[j].filled || all[i].dotted != all[j].dotted);
        }
    }
    static const char *const same[][2] = {{"OE", "aux alone"},
                                          {"OE", "OE (aux alone)"},
                                          {"LP", "OE-LP"},
                                          {"KVP-C", "KVP-C (paper's loss)"},
                                          {"KVP-LP", "KVP-LP (paper's loss)"},
                                          {"LazyLLM", "L0.75"}};
    for (size_t i = 0; i < sizeof same / sizeof *same; i++) {
        kv_plot_style pair[2];
        kv_plot_family_styles(same[i], 2, pair);
        assert_true(same_style(&pair[0], &pair[1]));
    }
}

// As tests/programs/notebooks.sh expects of the notebooks.
static void other_families_have_a_look_of_their_name(void **state) {
    (void)state;
    enum { N = 100 };
    char texts[N][16];
    const char *names[N], *reversed[N];
    kv_plot_style styles[N], again[N], one;
    for (int i = 0; i < N; i++) {
        snprintf(texts[i], sizeof texts[i], "family %d", i);
        names[i] = texts[i], reversed[N - 1 - i] = texts[i];
    }
    kv_plot_family_styles(names, N, styles);
    kv_plot_family_styles(reversed, N, again);
    int as_alone = 0;
    for (int i = 0; i < N; i++) {
        assert_true(same_style(&styles[i], &again[N - 1 - i]));
        assert_true(strcmp(styles[i].colour, "#333333") != 0);
        for (int j = 0; j < i; j++) assert_false(same_style(&styles[i], &styles[j]));
        kv_plot_family_styles(&names[i], 1, &one);
        as_alone += same_style(&one, &styles[i]);
    }
    assert_true(as_alone > N / 3);
    static const char *const three[] = {"mine", "KVP-C", "yours"};
    kv_plot_family_styles(three, 3, styles);
    assert_string_equal(styles[0].colour, "#22BB22");
    assert_true(styles[0].filled == 9 && styles[0].dotted);
    assert_string_equal(styles[1].colour, "#CC79A7");
    assert_string_equal(styles[2].colour, "#EE22DD");
    assert_true(styles[2].filled == 5 && !styles[2].dotted);
}

// However one writes it; and no listed family has the colour of one that is not.
static void spelling_makes_no_difference(void **state) {
    (void)state;
    static const char *const spelled[] = {
        "KVP-C (ours)", "kvp_c Ours",           "KVP C ours",          "Mine too",
        "mine-too",     "KVP-C (paper’s loss)", "kvp-c (paper's loss)"};
    kv_plot_style styles[7], listed[2];
    kv_plot_family_styles(spelled, 7, styles);
    assert_true(same_style(&styles[0], &styles[1]) && same_style(&styles[0], &styles[2]));
    assert_true(same_style(&styles[3], &styles[4]) && same_style(&styles[5], &styles[6]));
    static const char *const known[] = {
        "base",   "aux",           "fair rival", "LP",      "KVP-C", "KVP-C (ours)",
        "KVP-LP", "KVP-LP (ours)", "RP",         "SP",      "L0.75", "L0.50",
        "SPF",    "prefix",        "ridge",      "SwiftKV", "POP",   "rival with the teacher"};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        for (int k = 0; k < 40; k++) {
            char name[16];
            snprintf(name, sizeof name, "own %d", k);
            const char *const pair[] = {known[i], name};
            kv_plot_family_styles(pair, 2, listed);
            assert_true(strcmp(listed[0].colour, listed[1].colour) != 0);
        }
}

static void colours_are_mixed(void **state) {
    (void)state;
    char mixed[8];
    assert_string_equal(kv_plot_mix("#204060", 0.5, 0, mixed), "#102030");
    assert_string_equal(kv_plot_mix("#000000", 0.5, 255, mixed), "#808080");
}

// ---- Ranges --------------------------------------------------------------------------------------------

static kv_plot_frame frame_of(const double *y, const double *low, const double *high, int64_t panel,
                              double x) {
    static const char *const titles[] = {"a", "b"};
    const kv_plot_point points[] = {{"p", "f", (const double[]){1, 1}, y, low, high},
                                    {"q", "f", (const double[]){x, x}, y + 2, NULL, NULL}};
    const kv_plot plot = {.points = points, .n_points = 2, .panels = titles, .n_panels = 2};
    kv_plot_frame frames[2];
    kv_plot_make_frames(&plot, 560, 400, frames);
    return frames[panel];
}

static void ranges_show_everything(void **state) {
    (void)state;
    kv_plot_frame frame = frame_of((const double[]){20, 30, 60, 90}, NULL, NULL, 0, 3);
    assert_true(!frame.x_log && frame.x_min < 1 && frame.x_max > 3);
    assert_true(frame.y_min < 0 && frame.y_min > -9 && frame.y_max > 90); // the same for both panels
    assert_true(frame_of((const double[]){20, 30, 60, 90}, NULL, NULL, 1, 6).x_log);
    // Intervals count, also those of a point that is not the highest.
    frame =
        frame_of((const double[]){60, 60, 62, 62}, (const double[]){45, 45}, (const double[]){70, 70}, 0, 3);
    assert_true(frame.y_min < 45 && frame.y_min > 40 && frame.y_max > 70 && frame.y_max < 75);
    // A panel that would get less than half has its own.
    frame = frame_of((const double[]){20, 3, 90, 6}, NULL, NULL, 1, 3);
    assert_true(frame.y_max > 6 && frame.y_max < 8);
    // Nothing in the second: nothing to see, but a range.
    frame = frame_of((const double[]){20, NAN, 90, NAN}, NULL, NULL, 1, 3);
    assert_true(frame.y_max > frame.y_min);
    frame = frame_of((const double[]){NAN, NAN, NAN, NAN}, NULL, NULL, 0, 3);
    assert_true(frame.y_max > frame.y_min && frame.x_max > frame.x_min);
    frame = frame_of((const double[]){0, 0, 0, 0}, NULL, NULL, 0, 1);
    assert_true(frame.y_max > 0 && frame.y_min < 0 && frame.x_max > 1 && frame.x_min > 0);
}

static kv_plot_frame frame_of_height(const double *y, const kv_plot_height *what, int64_t panel) {
    static const char *const titles[] = {"a", "b"};
    const kv_plot_point points[] = {{"p", "f", (const double[]){1, 1}, y, NULL, NULL},
                                    {"q", "f", (const double[]){2, 2}, y + 2, NULL, NULL}};
    const kv_plot plot = {.points = points, .n_points = 2, .panels = titles, .n_panels = 2, .heights = what};
    kv_plot_frame frames[2];
    kv_plot_make_frames(&plot, 560, 400, frames);
    return frames[panel];
}

// What is better the lower it is shows its differences, and no 0 below them; panels of another unit share nothing.
static void heights_differ(void **state) {
    (void)state;
    static const double y[] = {2, 20, 6, 90};
    static const kv_plot_height both[] = {{"nats", true}, {"%", false}},
                                nats[] = {{"nats", true}, {"nats", true}},
                                plain[] = {{"nats", false}, {"%", false}};
    kv_plot_frame frame = frame_of_height(y, both, 0);
    assert_true(frame.y_min > 1.5 && frame.y_min < 2 && frame.y_max > 6 && frame.y_max < 7);
    frame = frame_of_height(y, both, 1);
    assert_true(frame.y_min < 0 && frame.y_max > 90);
    frame = frame_of_height((const double[]){0, 0, 60, 90}, plain, 0);
    assert_true(frame.y_max > 60 && frame.y_max < 70);
    frame = frame_of_height((const double[]){2, 2.5, 6, 6.5}, nats, 0); // of one unit: one range
    assert_true(frame.y_min > 1.5 && frame.y_min < 2 && frame.y_max > 6.5 && frame.y_max < 7);
    frame = frame_of_height((const double[]){2.25, NAN, 2.25, NAN}, nats, 0);
    assert_true(frame.y_min > 2 && frame.y_min < 2.25 && frame.y_max > 2.25 && frame.y_max < 2.5);
    // Nor do differences of rounding.
    const double next = nextafter(2.25, 3);
    frame = frame_of_height((const double[]){2.25, NAN, next, NAN}, nats, 0);
    assert_true(frame.y_min > 2 && frame.y_min < 2.25 && frame.y_max > 2.25 && frame.y_max < 2.5);
    frame = frame_of_height((const double[]){2.25, NAN, next, NAN}, plain, 0);
    assert_true(frame.y_min < 0 && frame.y_max > 2.25 && frame.y_max < 2.5);
    frame = frame_of_height((const double[]){NAN, NAN, NAN, NAN}, nats, 0);
    assert_true(frame.y_max > frame.y_min);
}

static void front_follows_the_direction(void **state) {
    (void)state;
    static const bool fronts[2][8] = {{true, false, true, false, true, false, true, false},
                                      {false, false, false, false, false, true, false, false}};
    kv_plot_point points[9];
    kv_plot plot = made_up_plot(points);
    for (int lower = 0; lower < 2; lower++) {
        kv_plot_panel sorted;
        plot.heights = &(kv_plot_height){"y", lower};
        kv_plot_sort_panel(&plot, 0, &sorted);
        assert_memory_equal(sorted.front, fronts[lower], sizeof fronts[lower]);
    }
}

// ---- Order and labels ----------------------------------------------------------------------------------

static void points_are_sorted(void **state) {
    (void)state;
    static const bool front[9] = {true, false, true, false, true, false, true, false, false};
    static const bool inner[9] = {false, true, false, true, false, true, false, true, false};
    static const int64_t order[8] = {0, 3, 4, 7, 1, 2, 5, 6};
    kv_plot_point points[9];
    const kv_plot plot = made_up_plot(points);
    kv_plot_panel sorted;
    kv_plot_sort_panel(&plot, 0, &sorted);
    assert_int_equal(sorted.n, 8); // one has no y
    assert_int_equal(sorted.n_families, 2);
    assert_memory_equal(sorted.order, order, sizeof order);
    assert_memory_equal(sorted.front, front, sizeof front);
    for (int i = 0; i < 8; i++)
        if (sorted.inner[i] != inner[i]) fail_msg("point %d", i);
}

// Savings differ from task to task, and with them order and front.
static void panels_have_their_own_x(void **state) {
    (void)state;
    const double x[] = {1, 3, 2, 2}, y[] = {5, 5, 6, 4};
    const kv_plot_point points[] = {{"p", "f", x, y, NULL, NULL}, {"q", "f", x + 2, y + 2, NULL, NULL}};
    const kv_plot plot = {.points = points, .n_points = 2, .panels = panels, .n_panels = 2};
    kv_plot_panel sorted;
    kv_plot_sort_panel(&plot, 0, &sorted);
    assert_true(sorted.order[0] == 0 && sorted.order[1] == 1 && !sorted.front[0] && sorted.front[1]);
    kv_plot_sort_panel(&plot, 1, &sorted);
    assert_true(sorted.order[0] == 1 && sorted.order[1] == 0 && sorted.front[0] && !sorted.front[1]);
}

// Corner and size of a label, narrower than what the layout reckons with.
static void box_of(const kv_plot_label *label, double box[4]) {
    const double width = 0.85 * kv_plot_text_width(label->text),
                 middle = label->x + label->side * label->width / 2;
    box[0] = middle - width / 2, box[1] = middle + width / 2;
    box[2] = label->y - 6, box[3] = label->y + 6;
}

static bool apart(const double a[4], const double b[4]) {
    return a[1] <= b[0] || b[1] <= a[0] || a[3] <= b[2] || b[3] <= a[2];
}

static int64_t check_labels(const kv_plot *plot, double width, double height, kv_plot_label *labels,
                            kv_plot_label *published) {
    kv_plot_frame frames[1];
    kv_error err = {0};
    kv_plot_make_frames(plot, width, height, frames);
    if (kv_plot_place_labels(plot, 0, frames, labels, published, &err)) fail_msg("%s", err.message);
    int64_t n_shown = 0;
    for (int64_t i = 0; i < plot->n_points; i++) {
        if (!labels[i].shown) continue;
        double own[4], other[4];
        box_of(&labels[i], own);
        n_shown++;
        assert_true(own[0] > 0 && own[1] < width + 20 && own[2] > 0 && own[3] < height + 20);
        for (int64_t j = 0; j < plot->n_points; j++) {
            if (!labels[j].drawable) continue;
            const double marker[] = {labels[j].px - 4, labels[j].px + 4, labels[j].py - 4, labels[j].py + 4};
            if (!apart(own, marker))
                fail_msg("`%s` lies over the point of `%s`", labels[i].text, plot->points[j].label);
            if (j == i || !labels[j].shown) continue;
            box_of(&labels[j], other);
            if (!apart(own, other)) fail_msg("`%s` lies over `%s`", labels[i].text, labels[j].text);
        }
    }
    return n_shown;
}

static void labels_do_not_overlap(void **state) {
    (void)state;
    kv_plot_point points[9];
    const kv_plot plot = made_up_plot(points);
    kv_plot_label labels[9];
    assert_int_equal(check_labels(&plot, 560, 400, labels, NULL), 8);
    assert_false(labels[8].drawable);
    for (int i = 0; i < 8; i++) assert_string_equal(labels[i].text, points[i].label); // in full
}

// Eleven settings of one method within the area of a few labels, beside points with room: ends are named,
// what lies inside may be cut short or go, nothing lies over anything.
static void crowds_are_thinned(void **state) {
    (void)state;
    enum { N = 40 };
    static kv_plot_point points[N];
    static double x[N], y[N];
    static char names[N][32];
    static kv_plot_label labels[N];
    for (int i = 0; i < N; i++) {
        const bool crowd = i < 30;
        snprintf(names[i], sizeof names[i], crowd ? "OE1.1B-pruned-%02d" : "roomy %d", i);
        y[i] = crowd ? 50 + 3 * test_value(1, i) : 2.0 * (i - 30);
        x[i] = crowd ? 1.5 + 0.02 * i : 1 + 0.3 * (i - 30);
        points[i] = (kv_plot_point){names[i], crowd ? "pruned" : "roomy", &x[i], &y[i], NULL, NULL};
    }
    const kv_plot plot = {.points = points, .n_points = N, .panels = panels, .n_panels = 1};
    const int64_t n = check_labels(&plot, 800, 560, labels, NULL);
    assert_true(n >= 15 && n < N);
    int shortened = 0;
    for (int i = 0; i < N; i++) shortened += labels[i].shown && strlen(labels[i].text) == 2;
    assert_true(shortened > 0);
    assert_true(labels[0].shown && labels[29].shown);
    for (int i = 30; i < N; i++) assert_true(labels[i].shown);
    kv_plot_panel sorted;
    kv_plot_sort_panel(&plot, 0, &sorted);
    for (int i = 0; i < N; i++) assert_true(labels[i].shown || !sorted.front[i]);
}

static void equal_points_share_the_room(void **state) {
    (void)state;
    static const double x[] = {2}, y[] = {50};
    kv_plot_point points[8];
    kv_plot_label labels[8];
    for (int i = 0; i < 8; i++) points[i] = (kv_plot_point){"a name of some length", "f", x, y, NULL, NULL};
    const kv_plot plot = {.points = points, .n_points = 8, .panels = panels, .n_panels = 1};
    assert_int_equal(check_labels(&plot, 560, 400, labels, NULL), 8);
}

static void published_families_are_named_once(void **state) {
    (void)state;
    kv_plot_point points[9];
    kv_plot plot = made_up_plot(points);
    static const double x[] = {2, 3, 4}, y[] = {5, 10, 15};
    const kv_plot_point published[] = {{"p1", "two", x, y, NULL, NULL},
                                       {"p2", "two", x + 1, y + 1, NULL, NULL},
                                       {"p3", "theirs", x + 2, y + 2, NULL, NULL}};
    plot.published = published, plot.n_published = 3;
    kv_plot_label labels[9], names[3];
    assert_int_equal(check_labels(&plot, 560, 400, labels, names), 8);
    assert_false(names[0].shown);
    assert_true(names[1].shown && names[2].shown);
    assert_string_equal(names[1].text, "two");
    kv_plot_panel sorted;
    kv_plot_sort_published(&plot, 0, &sorted);
    assert_int_equal(sorted.n_families, 3);
    assert_int_equal(sorted.family[0], 1); // the number of the plot's own
    assert_int_equal(sorted.family[2], 2);
}

// ---- Files ---------------------------------------------------------------------------------------------

static void picture_without_gnuplot_is_a_note(void **state) {
    (void)state;
    kv_plot_point points[9];
    const kv_plot plot = made_up_plot(points);
    char note[KV_PLOT_NOTE], *path = strdup(getenv("PATH"));
    kv_error err = {0};
    setenv("PATH", "/nonexistent", 1);
    assert_int_equal(kv_plot_draw(&plot, test_dir, "none", note, &err), KV_OK);
    setenv("PATH", path, 1);
    free(path);
    assert_non_null(strstr(note, "gnuplot is not installed"));
    assert_int_equal(access(test_path(test_dir, "none.gp"), F_OK), 0);
    assert_int_equal(access(test_path(test_dir, "none.dat"), F_OK), 0);
    assert_int_not_equal(access(test_path(test_dir, "none.svg"), F_OK), 0);
}

// A gnuplot that draws and then finds fault: nothing of it can be trusted.
static void picture_of_a_failed_gnuplot_is_removed(void **state) {
    (void)state;
    kv_plot_point points[9];
    const kv_plot plot = made_up_plot(points);
    char note[KV_PLOT_NOTE], *path = strdup(getenv("PATH"));
    kv_error err = {0};
    FILE *fake = fopen(test_path(test_dir, "gnuplot"), "w");
    fputs(
        "#!/bin/sh\nprintf '</svg>\\n' >failed.svg\nprintf 'IEND\\256B`\\202' >failed.png\nprintf '%%%%EOF\\n' >failed.pdf\nexit 1\n",
        fake);
    fclose(fake);
    assert_int_equal(chmod(test_path(test_dir, "gnuplot"), 0755), 0);
    setenv("PATH", test_dir, 1);
    assert_int_equal(kv_plot_draw(&plot, test_dir, "failed", note, &err), KV_OK);
    setenv("PATH", path, 1);
    free(path);
    assert_string_equal(note, "failed.svg, failed.png, failed.pdf not drawn: gnuplot failed");
    assert_int_not_equal(access(test_path(test_dir, "failed.svg"), F_OK), 0);
    assert_int_not_equal(access(test_path(test_dir, "failed.png"), F_OK), 0);
    assert_int_not_equal(access(test_path(test_dir, "failed.pdf"), F_OK), 0);
}

static char *drawn(const char *note, const char *name) {
    char file[64];
    if (strstr(note, "not installed")) skip();
    assert_string_equal(note, "");
    snprintf(file, sizeof file, "%s.png", name);
    assert_int_equal(access(test_path(test_dir, file), F_OK), 0);
    snprintf(file, sizeof file, "%s.pdf", name);
    char *pdf = test_read_text(test_path(test_dir, file));
    assert_true(!strncmp(pdf, "%PDF-", 5));
    free(pdf);
    snprintf(file, sizeof file, "%s.svg", name);
    return test_read_text(test_path(test_dir, file));
}

static void picture_with_gnuplot(void **state) {
    (void)state;
    kv_plot_point points[9];
    kv_plot plot = made_up_plot(points);
    static const double low[] = {60}, high[] = {70}, theirs[] = {3, 5};
    const kv_plot_point published[] = {{"p", "theirs", theirs, theirs + 1, NULL, NULL}};
    char note[KV_PLOT_NOTE];
    kv_error err = {0};
    assert_int_equal(kv_plot_draw(&plot, test_dir, "curve", note, &err), KV_OK);
    char *svg = drawn(note, "curve");
    assert_non_null(strstr(svg, "it's `odd`")); // nothing in a name is taken for a command
    assert_non_null(strstr(svg, "pass@1"));
    assert_non_null(strstr(svg, "Pareto front"));
    assert_null(strstr(svg, "95 % interval"));
    assert_null(strstr(svg, "published"));
    free(svg);
    points[2].low = low, points[2].high = high;
    plot.published = published, plot.n_published = 1, plot.published_name = "published (somewhere)";
    assert_int_equal(kv_plot_draw(&plot, test_dir, "more", note, &err), KV_OK);
    svg = drawn(note, "more");
    assert_non_null(strstr(svg, "95 % interval"));
    assert_non_null(strstr(svg, "published (somewhere)"));
    assert_non_null(strstr(svg, "theirs"));
    free(svg);
    char *data = test_read_text(test_path(test_dir, "more.dat"));
    assert_non_null(
        strstr(data, "# x y low high\n# front\n1 99 NaN NaN # base\n9 87 NaN NaN # KVP A1\n"
                     "14 64 60 70 # aux A1 + same steps\n29 29 NaN NaN # aux A2 more\n\n\n# family: one\n"));
    assert_non_null(strstr(data, "# published: theirs\n3 5 NaN NaN # p\n"));
    free(data);
}

static void curves_with_gnuplot(void **state) {
    (void)state;
    static const double x[] = {59, 128, 1024};
    static const double y[2][2][3] = {{{0.1, 0.2, 2}, {1, NAN, 20}}, {{0.05, 0.1, 1}, {0.5, -1, 10}}};
    static const double low[2][3] = {{0.09, 0.18, -1}, {0.9, NAN, 19}},
                        high[2][3] = {{0.11, 0.22, 5}, {1.1, NAN, 21}};
    static const char *const batches[] = {"batch 1", "batch 8"};
    const kv_plot_curve curves[] = {{"base", "base", y[0][0], low[0], high[0]},
                                    {"KVP_C's {x}", "own", y[1][0], NULL, NULL}};
    const kv_plot_curves plot = {.curves = curves,
                                 .n_curves = 2,
                                 .x = x,
                                 .n_x = 3,
                                 .panels = batches,
                                 .n_panels = 2,
                                 .x_label = "prompt tokens",
                                 .y_label = "seconds"};
    char note[KV_PLOT_NOTE];
    kv_error err = {0};
    assert_int_equal(kv_plot_draw_curves(&plot, test_dir, "ttft", note, &err), KV_OK);
    char *data = test_read_text(test_path(test_dir, "ttft.dat"));
    // A spread wider than the value ends at a tenth of it; what is not above 0 is left out.
    assert_non_null(strstr(
        data, "# panel: batch 1\n# x y low high\n# curve: base\n59 0.1 0.09 0.11 \n128 0.2 0.18 0.22 \n"
              "1024 2 0.2 5 \n\n\n# curve: KVP_C's {x}\n59 0.05 NaN NaN \n"));
    assert_non_null(strstr(data, "59 0.5 NaN NaN \n128 NaN NaN NaN \n1024 10 NaN NaN \n"));
    free(data);
    char *svg = drawn(note, "ttft");
    assert_non_null(strstr(svg, "KVP_C's {x}"));
    assert_non_null(strstr(svg, "batch 8"));
    assert_non_null(strstr(svg, "1024"));
    free(svg);
    const kv_plot_curves empty = {
        .curves = curves, .x = x, .panels = batches, .n_panels = 1, .x_label = "", .y_label = ""};
    assert_int_equal(kv_plot_draw_curves(&empty, test_dir, "empty", note, &err), KV_OK);
    free(drawn(note, "empty"));
}

// Axes that are no logarithms have their zero and what is below it; what is far below a least value leaves the page.
static void linear_curves_with_gnuplot(void **state) {
    (void)state;
    static const double x[] = {0, 1, 2}, y[2][3] = {{0.5, -0.25, 1}, {NAN, -40, 0.75}};
    static const char *const names[] = {"keys"};
    const kv_plot_curve curves[] = {{"a", "one", y[0], NULL, NULL}, {"b", "two", y[1], NULL, NULL}};
    const kv_plot_curves plot = {.curves = curves,
                                 .n_curves = 2,
                                 .x = x,
                                 .n_x = 3,
                                 .panels = names,
                                 .n_panels = 1,
                                 .heading = "layers of {both}",
                                 .x_label = "layer",
                                 .y_label = "",
                                 .linear_x = true,
                                 .linear_y = true,
                                 .least_y = -1};
    char note[KV_PLOT_NOTE];
    kv_error err = {0};
    assert_int_equal(kv_plot_draw_curves(&plot, test_dir, "linear", note, &err), KV_OK);
    char *data = test_read_text(test_path(test_dir, "linear.dat")),
         *script = test_read_text(test_path(test_dir, "linear.gp"));
    assert_non_null(strstr(data, "# curve: a\n0 0.5 NaN NaN \n1 -0.25 NaN NaN \n2 1 NaN NaN \n"));
    assert_non_null(strstr(data, "# curve: b\n0 NaN NaN NaN \n1 -40 NaN NaN \n2 0.75 NaN NaN \n"));
    assert_null(strstr(script, "logscale"));
    assert_non_null(strstr(script, "set xrange [-0.08:2.08]"));
    assert_non_null(strstr(script, "set xtics (0, 1, 2)"));
    assert_non_null(strstr(script, "set yrange [-1.1:1.1]"));
    free(data), free(script);
    char *svg = drawn(note, "linear");
    assert_non_null(strstr(svg, "layers of {both}"));
    free(svg);
    kv_plot_curves half = plot;
    static const double counts[] = {1, 2, 4};
    half.linear_x = false, half.x = counts;
    assert_int_equal(kv_plot_draw_curves(&half, test_dir, "half", note, &err), KV_OK);
    script = test_read_text(test_path(test_dir, "half.gp"));
    assert_non_null(strstr(script, "set logscale x\n"));
    free(script);
    free(drawn(note, "half"));
}

// x of any sign, with a range and a label in each panel; no front, and nothing is joined.
static void scatter_with_gnuplot(void **state) {
    (void)state;
    static const double x[3][2] = {{-2, 0.5}, {0, 0.75}, {1, NAN}}, y[3][2] = {{10, 10}, {50, 50}, {30, 30}};
    static const char *const titles[] = {"a", "b"}, *const labels[] = {"variance", "cosine"};
    const kv_plot_point points[] = {{"p", "f", x[0], y[0], NULL, NULL},
                                    {"q", "f", x[1], y[1], NULL, NULL},
                                    {"r", "g", x[2], y[2], NULL, NULL}};
    const kv_plot plot = {.points = points,
                          .n_points = 3,
                          .panels = titles,
                          .n_panels = 2,
                          .x_labels = labels,
                          .y_label = "kept (%)"};
    char note[KV_PLOT_NOTE];
    kv_error err = {0};
    assert_int_equal(kv_plot_draw(&plot, test_dir, "scatter", note, &err), KV_OK);
    char *data = test_read_text(test_path(test_dir, "scatter.dat")),
         *script = test_read_text(test_path(test_dir, "scatter.gp"));
    assert_non_null(strstr(data, "# panel: a\n# x y low high\n# front\nNaN NaN NaN NaN\n"));
    assert_non_null(strstr(data, "# family: f\n-2 10 NaN NaN # p\n0 50 NaN NaN # q\n"));
    assert_non_null(strstr(data, "# family: g\nNaN NaN NaN NaN\n")); // in the second panel
    assert_non_null(strstr(script, "set xlabel 'variance'"));
    assert_non_null(strstr(script, "set xlabel 'cosine'"));
    assert_non_null(strstr(script, "set xrange [-2.24:1.48]"));
    assert_non_null(strstr(script, "set xrange [0.48:0.79]"));
    assert_null(strstr(script, "logscale"));
    assert_null(strstr(script, "Pareto"));
    assert_null(strstr(script, "with lines lw 0.8"));
    assert_null(strstr(script, "×"));
    free(data), free(script);
    free(drawn(note, "scatter"));
}

static void pictures_too_large_are_refused(void **state) {
    (void)state;
    char note[KV_PLOT_NOTE];
    kv_error err = {0};
    const kv_plot many = {.n_points = KV_PLOT_MAX_POINTS + 1, .n_panels = 1}, none = {.n_panels = 0};
    assert_int_equal(kv_plot_draw(&many, test_dir, "many", note, &err), KV_ERR_RANGE);
    assert_int_equal(kv_plot_draw(&none, test_dir, "many", note, &err), KV_ERR_RANGE);
    const kv_plot_curves curves = {.n_curves = KV_PLOT_MAX_POINTS + 1, .n_panels = 1};
    assert_int_equal(kv_plot_draw_curves(&curves, test_dir, "many", note, &err), KV_ERR_RANGE);
    assert_int_not_equal(access(test_path(test_dir, "many.dat"), F_OK), 0);
    kv_plot_point points[9];
    const kv_plot plot = made_up_plot(points);
    assert_int_equal(kv_plot_draw(&plot, test_path(test_dir, "nowhere"), "x", note, &err), KV_ERR_IO);
    assert_non_null(strstr(err.message, "nowhere/x.dat: cannot write"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(long_texts_are_cut_at_a_character),
        cmocka_unit_test(families_keep_their_look),
        cmocka_unit_test(other_families_have_a_look_of_their_name),
        cmocka_unit_test(spelling_makes_no_difference),
        cmocka_unit_test(colours_are_mixed),
        cmocka_unit_test(ranges_show_everything),
        cmocka_unit_test(heights_differ),
        cmocka_unit_test(front_follows_the_direction),
        cmocka_unit_test(points_are_sorted),
        cmocka_unit_test(panels_have_their_own_x),
        cmocka_unit_test(labels_do_not_overlap),
        cmocka_unit_test(crowds_are_thinned),
        cmocka_unit_test(equal_points_share_the_room),
        cmocka_unit_test(published_families_are_named_once),
        cmocka_unit_test(picture_without_gnuplot_is_a_note),
        cmocka_unit_test(picture_of_a_failed_gnuplot_is_removed),
        cmocka_unit_test(picture_with_gnuplot),
        cmocka_unit_test(curves_with_gnuplot),
        cmocka_unit_test(linear_curves_with_gnuplot),
        cmocka_unit_test(scatter_with_gnuplot),
        cmocka_unit_test(pictures_too_large_are_refused),
    };
    return cmocka_run_group_tests(tests, test_dir_set_up, test_dir_tear_down);
}

// What of an evaluation's results goes into its pictures.
#include "tests/support/corpus.h"
#include "tests/support/results.h"

#include "eval/report/pictures.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char exact[] = "exact", paper[] = "paper", accuracy[] = "accuracy", retention[] = "retention";

static void name_task(kv_result_task *t, const char *name, const char *kind, const char *first,
                      const char *second) {
    t->name = strdup(name), t->split = strdup("test"), t->kind = strdup(kind), t->file = strdup("f");
    t->n_items = t->n_units = 2, t->n_metrics = 2;
    snprintf(t->metrics[0], KV_METRIC_NAME, "%s", first);
    snprintf(t->metrics[1], KV_METRIC_NAME, "%s", second);
}

// Two systems on programs and on multiple choice, which cost them different shares.
static kv_results made_up(void) {
    static const double values[2][2][4] = {{{1, 1, 1, 1}, {1, 0.5, 0, 0}},
                                           {{0.5, 0, 1, 0.5}, {0, 0.5, 1, 1}}};
    kv_results r;
    kv_error err = {0};
    if (kv_results_init(&r, 2, 2, &err)) fail_msg("%s", err.message);
    r.seed = 1, r.bootstrap = 100;
    name_task(&r.tasks[0], "HumanEval", "humaneval", "pass@1", "pass@10");
    name_task(&r.tasks[1], "mine", "arc_easy", "acc", "acc_norm");
    for (int s = 0; s < 2; s++) {
        r.systems[s].name = strdup(s ? "small" : "base"), r.systems[s].family = strdup(s ? "OE" : "base");
        r.systems[s].paper_reduction = s ? 4 : 1;
        for (int t = 0; t < 2; t++) {
            kv_outcome *o = kv_results_outcome(&r, s, t);
            o->values = test_alloc(4, sizeof *o->values);
            memcpy(o->values, values[s][t], sizeof values[s][t]);
            o->flops = s ? 1000 : 2000 + 1000 * t;
            o->records = test_alloc(2, sizeof *o->records);
            for (int u = 0; u < 2; u++) o->records[u] = strdup("{}");
        }
    }
    if (kv_results_derive(&r, &err)) fail_msg("%s", err.message);
    return r;
}

static char *draw(const kv_results *r, char *x, char *y, char *published, const char *file) {
    const kv_eval_picture picture = {.x = x, .y = y, .published = published, .draw_published = true};
    char note[KV_PLOT_NOTE];
    kv_error err = {0};
    if (kv_pictures_draw(r, &picture, test_dir, note, &err)) fail_msg("%s", err.message);
    if (*note && !strstr(note, "not installed")) fail_msg("%s", note);
    return test_read_text(test_path(test_dir, file));
}

static void expect(const char *text, const char *part) {
    if (!strstr(text, part)) fail_msg("expected '%s' in:\n%s", part, text);
}

// All pass@k, the first of other metrics; each task with its own reduction.
static void panels_are_tasks_and_pass_at_k(void **state) {
    (void)state;
    kv_results r = made_up();
    char *data = draw(&r, exact, accuracy, NULL, "pareto.dat");
    expect(
        data,
        "# panel: HumanEval, test: pass@1\n# x y low high\n# front\n1 100 100 100 # base\n2 25 0 50 # small\n");
    expect(
        data,
        "# panel: HumanEval, test: pass@10\n# x y low high\n# front\n1 100 100 100 # base\n2 75 50 100 # small\n");
    expect(data,
           "# panel: mine, test: acc\n# x y low high\n# front\n1 75 50 100 # base\n3 25 0 50 # small\n");
    assert_null(strstr(data, "acc_norm"));
    free(data);
    // Where items were too long, that is said here too: a picture is shown without its table.
    r.tasks[0].n_skipped = 3, r.tasks[1].n_cut = 1;
    data = draw(&r, exact, accuracy, NULL, "pareto.dat");
    expect(data, "# panel: HumanEval, test: pass@10 (3 of 5 skipped)\n");
    expect(data, "# panel: mine, test: acc (1 of 2 cut)\n");
    free(data);
    assert_int_not_equal(access(test_path(test_dir, "ttft.dat"), F_OK), 0);
    char *script = test_read_text(test_path(test_dir, "pareto.gp"));
    expect(script, "set ylabel 'score (%)'");
    expect(script, "first token (exact)");
    free(script);
    kv_results_free(&r);
}

// A text beside a task of shares: nats of the tail and of all positions have panels with axes of their own, in which the front
// runs along the lower edge; what prunes prompts reads all positions as the base does and has no place in the second.
static kv_results with_text(void) {
    static const char *const names[] = {"base", "pruned", "KVP", "waste"}, *const metrics[] = {
                                                                               "tail_nll", "tail_perplexity",
                                                                               "bits_per_byte", "whole_nll",
                                                                               "whole_perplexity"};
    // Sums of another number of threads round otherwise.
    static const double nats[4][2] = {{2, 2.25}, {3, 2.250002}, {2.5, 2.75}, {2.75, 3}},
                        flops[] = {1000, 250, 500, 800};
    kv_results r;
    kv_error err = {0};
    if (kv_results_init(&r, 4, 2, &err)) fail_msg("%s", err.message);
    r.seed = 1, r.bootstrap = 100;
    name_task(&r.tasks[0], "code", "text", "", "");
    name_task(&r.tasks[1], "mine", "triviaqa", "exact_match", "");
    r.tasks[0].n_metrics = 5, r.tasks[1].n_metrics = 1;
    for (int m = 0; m < 5; m++) snprintf(r.tasks[0].metrics[m], KV_METRIC_NAME, "%s", metrics[m]);
    for (int s = 0; s < 4; s++) {
        double values[5][2];
        test_name_system(&r, s, names[s], names[s], "", 1000 / flops[s]);
        for (int m = 0; m < 5; m++) values[m][0] = values[m][1] = nats[s][m > 2];
        test_fill_outcome(&r, s, 0, values[0], flops[s]);
        test_fill_outcome(&r, s, 1, (const double[]){1, s == 0}, flops[s]);
    }
    if (kv_results_derive(&r, &err)) fail_msg("%s", err.message);
    return r;
}

static void text_is_better_lower_down(void **state) {
    (void)state;
    kv_results r = with_text();
    char *data = draw(&r, exact, accuracy, NULL, "pareto.dat");
    expect(data,
           "# panel: code, test: tail_nll\n# x y low high\n# front\n1 2 2 2 # base\n2 2.5 2.5 2.5 # KVP\n"
           "4 3 3 3 # pruned\n\n");
    expect(data, "# panel: code, test: whole_nll\n# x y low high\n# front\n1 2.25 2.25 2.25 # base\n"
                 "2 2.75 2.75 2.75 # KVP\n\n");
    expect(data, "# family: pruned\n4 3 3 3 # pruned\n");
    expect(data, "# family: pruned\nNaN NaN NaN NaN\n");
    expect(data,
           "# panel: mine, test\n# x y low high\n# front\n1 100 100 100 # base\n4 50 0 100 # pruned\n\n");
    assert_null(strstr(data, "perplexity"));
    free(data);
    char *script = test_read_text(test_path(test_dir, "pareto.gp"));
    expect(script, "set ylabel 'nats a token (lower is better)'");
    expect(script, "set ylabel 'nats a token, all positions (lower is better)'");
    expect(script, "set ylabel 'exact match (%)'");
    free(script);
    // Another direction, another front.
    snprintf(r.tasks[0].metrics[0], KV_METRIC_NAME, "acc");
    data = draw(&r, exact, accuracy, NULL, "pareto.dat");
    expect(data, "# panel: code, test: acc\n# x y low high\n# front\n4 300 300 300 # pruned\n\n");
    free(data);
    kv_results_free(&r);
}

static void text_is_kept_in_per_cent(void **state) {
    (void)state;
    kv_results r = with_text();
    char *data = draw(&r, exact, retention, NULL, "pareto.dat");
    // e^-½, e^-1; more is better here.
    expect(data, "# front\n1 100 NaN NaN # base\n2 60.653066 60.653066 60.653066 # KVP\n"
                 "4 36.7879441 36.7879441 36.7879441 # pruned\n\n");
    free(data);
    char *script = test_read_text(test_path(test_dir, "pareto.gp"));
    expect(script, "set ylabel 'base''s perplexity over the system''s (%)'");
    expect(script, "set ylabel 'exact match, share of the base''s (%)'");
    free(script);
    kv_results_free(&r);
}

// What has no numbers at any task is in no picture, its legend neither.
static void what_is_not_finite(void **state) {
    (void)state;
    kv_results r = made_up();
    for (int both = 0; both < 2; both++) {
        for (int m = 0; m < 2; m++) kv_results_outcome(&r, 1, both)->figures[m].accuracy = NAN;
        free(draw(&r, exact, accuracy, NULL, "pareto.dat"));
        char *script = test_read_text(test_path(test_dir, "pareto.gp"));
        expect(script, "'base'");
        assert_int_equal(strstr(script, "'OE'") == NULL, both);
        free(script);
    }
    kv_results_free(&r);
}

// Through both panels at the height of the one system, in the colour of its family, and in the legend; where it has no number,
// nowhere.
static void a_line_to_beat(void **state) {
    (void)state;
    char name[] = "small", note[KV_PLOT_NOTE];
    const kv_eval_picture picture = {.x = exact, .y = accuracy, .line = name};
    kv_results r = made_up();
    for (int known = 1; known >= 0; known--) {
        kv_error err = {0};
        for (int t = 0; t < 2 && !known; t++)
            for (int m = 0; m < 2; m++) kv_results_outcome(&r, 1, t)->figures[m].accuracy = NAN;
        if (kv_pictures_draw(&r, &picture, test_dir, note, &err)) fail_msg("%s", err.message);
        char *script = test_read_text(test_path(test_dir, "pareto.gp"));
        const char *first =
            strstr(script, "set arrow from graph 0, first 25 to graph 1, first 25 nohead lw 1.2 dt 2");
        assert_int_equal(first != NULL, known);
        assert_int_equal(strstr(script, "'small as a line'") != NULL, known);
        free(script);
    }
    kv_results_free(&r);
}

// The base keeps all of itself, without a bar; a resample of two items holds the one, the other or both, of
// which the system keeps 0, all or a third.
static void retention_and_the_papers_reduction(void **state) {
    (void)state;
    kv_results r = made_up();
    char *data = draw(&r, paper, retention, NULL, "pareto.dat");
    expect(data, "# panel: mine, test: acc\n# x y low high\n# front\n1 100 NaN NaN # base\n"
                 "4 33.3333333 0 100 # small\n");
    free(data);
    kv_results_free(&r);
}

// The first timing is the one of the tables; of the paper only those tables have times that say so.
static void times_on_the_axis(void **state) {
    (void)state;
    static char clock[] = "clock", triviaqa[] = "triviaqa-openelm-1.1b";
    kv_results r = made_up();
    char *data = draw(&r, clock, accuracy, NULL, "pareto.dat");
    expect(data,
           "# panel: mine, test: acc\n# x y low high\n# front\nNaN NaN NaN NaN\n"); // nothing was measured
    free(data);
    for (int i = 0; i < 2; i++) {
        kv_timing *t = kv_results_add_timing(&r, 59, 8 + i, 1);
        assert_non_null(t);
        t->reduction[0] = 1, t->reduction[1] = 3 + i;
    }
    snprintf(r.tasks[1].metrics[0], KV_METRIC_NAME, "exact_match");
    data = draw(&r, clock, retention, triviaqa, "pareto.dat");
    expect(data, "# front\n1 100 NaN NaN # base\n3 33.3333333 0 100 # small\n");
    expect(data, "3.34 29.8684769 NaN NaN # OE270M\n");
    free(data);
    char *script = test_read_text(test_path(test_dir, "pareto.gp"));
    expect(script, "reduction of the time to first token (measured)");
    free(script);
    kv_results_free(&r);
}

static void published_points_find_their_panels(void **state) {
    (void)state;
    static char humaneval[] = "humaneval-openelm-1.1b", mcqa[] = "mcqa-openelm-1.1b";
    kv_results r = made_up();
    char *data = draw(&r, exact, accuracy, humaneval, "pareto.dat");
    expect(data, "# published: KVP-C\n2.36 10.12 NaN NaN # OE1.1B-KVP-C-450M\n"); // pass@1
    expect(data, "# published: KVP-C\n2.36 14.37 NaN NaN # OE1.1B-KVP-C-450M\n"); // pass@10
    expect(data, "# published: KVP-C\nNaN NaN NaN NaN\n");                        // not in multiple choice
    free(data);
    data = draw(&r, exact, retention, mcqa, "pareto.dat");
    expect(data, "2.36 86.7039509 NaN NaN # OE450M\n"); // arc_easy: 48.06 of 55.43
    free(data);
    char *script = test_read_text(test_path(test_dir, "pareto.gp"));
    expect(script, "published (arXiv 2410.08391)");
    free(script);
    kv_results_free(&r);
}

static void add_timing(kv_results *r, int64_t tokens, int64_t batch, double seconds) {
    kv_timing *t = kv_results_add_timing(r, tokens, batch, 1);
    assert_non_null(t);
    for (int s = 0; s < 2; s++) t->seconds[s] = seconds / (1 + s), t->spread[s] = 0.25 * t->seconds[s];
}

// Sizes in any order and with gaps; the one of the tables stands alone and makes no panel.
static void timings_make_a_grid(void **state) {
    (void)state;
    kv_results r = made_up();
    add_timing(&r, 59, 64, 9);
    char *data = draw(&r, exact, accuracy, NULL, "pareto.dat");
    free(data);
    assert_int_not_equal(access(test_path(test_dir, "ttft.dat"), F_OK), 0);
    add_timing(&r, 256, 8, 4);
    add_timing(&r, 128, 8, 2);
    add_timing(&r, 512, 1, 1);
    add_timing(&r, 128, 1, 0.5);
    data = draw(&r, exact, accuracy, NULL, "ttft.dat");
    expect(data, "# panel: batch 1\n# x y low high\n# curve: base\n128 0.5 0.375 0.625 \n256 NaN NaN NaN \n"
                 "512 1 0.75 1.25 \n");
    expect(
        data,
        "# panel: batch 8\n# x y low high\n# curve: base\n128 2 1.5 2.5 \n256 4 3 5 \n512 NaN NaN NaN \n\n\n"
        "# curve: small\n128 1 0.75 1.25 \n256 2 1.5 2.5 \n");
    assert_null(strstr(data, "batch 64"));
    free(data);
    kv_results_free(&r);
}

// Of two systems beside a base: predicted caches, one of them of fewer layers, the other's first exact.
static void look_at_caches(kv_results *r, int64_t system, int64_t n_layers, double first) {
    kv_cache_analysis *e = &r->analysis.systems[system];
    assert_int_equal(kv_cache_analysis_init(e, n_layers, &r->analysis, NULL), KV_OK);
    for (int64_t i = 0; i < n_layers; i++) {
        e->attention_cosine[i] = first + 0.125 * (double)i, e->key.explained[i] = first - (double)i;
        e->value.explained[i] = first, e->predicted[i] = 1;
    }
}

static kv_results with_analysis(void) {
    kv_results r = with_text();
    assert_int_equal(kv_analysis_init(&r.analysis, 4, NULL), KV_OK);
    r.analysis.corpus = strdup("text.h5"), r.analysis.sequences = 1, r.analysis.seq_len = 2,
    r.analysis.bins = 3;
    look_at_caches(&r, 1, 2, 0.25);
    look_at_caches(&r, 2, 3, 0.75);
    look_at_caches(&r, 3, 3, 0.5);
    r.analysis.systems[2].predicted[0] = 0;
    return r;
}

static void predicted_caches_layer_by_layer(void **state) {
    (void)state;
    kv_results r = with_analysis();
    char *data = draw(&r, exact, accuracy, NULL, "layers.dat");
    expect(data, "# panel: attention outputs: cosine\n# x y low high\n# curve: pruned\n0 0.25 NaN NaN \n"
                 "1 0.375 NaN NaN \n2 NaN NaN NaN \n\n\n# curve: KVP\n0 0.75 NaN NaN \n");
    expect(data, "# panel: keys: explained variance\n# x y low high\n# curve: pruned\n0 0.25 NaN NaN \n"
                 "1 -0.75 NaN NaN \n");
    expect(data, "# panel: values: explained variance\n");
    assert_null(strstr(data, "# curve: base"));
    free(data);
    char *script = test_read_text(test_path(test_dir, "layers.gp"));
    expect(script, "what is below -1 is not shown"); // 0.5 - 2
    free(script);
    kv_results_free(&r);
}

// Means over the predicted layers against what is kept, of the first metrics and of all positions; with what they come to.
static void what_is_kept_against_predicted_caches(void **state) {
    (void)state;
    kv_results r = with_analysis();
    char *data = draw(&r, exact, accuracy, NULL, "fidelity.dat");
    // Tails: e^(2 - nats), nats 3, 2.5 and 2.75.
    expect(data, "# panel: code, test: r +1.00, ρ +1.00\n# x y low high\n# front\nNaN NaN NaN NaN\n\n\n"
                 "# family: pruned\n0.3125 36.7879441 36.7879441 36.7879441 # pruned\n");
    expect(data, "# family: KVP\n0.9375 60.653066 60.653066 60.653066 # KVP\n");
    expect(data, "# family: waste\n0.625 47.2366553 47.2366553 47.2366553 # waste\n");
    // Keys and values as one: (-0.25 + 0.25) / 2, (-0.75 + 0.75) / 2, (-0.5 + 0.5) / 2: all alike, nothing goes together.
    expect(data, "# panel: code, test\n# x y low high\n# front\nNaN NaN NaN NaN\n\n\n"
                 "# family: pruned\n0 36.7879441");
    free(data);
    char *script = test_read_text(test_path(test_dir, "fidelity.gp"));
    expect(script, "set xlabel 'cosine of attention outputs, mean over predicted layers'");
    expect(script, "set xlabel 'explained variance of keys and values, mean over predicted layers'");
    expect(script, "set ylabel 'base''s perplexity over the system''s, all positions (%)'");
    expect(script, "set ylabel 'exact match, share of the base''s (%)'");
    free(script);
    // Who was not asked is no point; without questions there are layers alone.
    kv_results_free(&r);
    r = with_analysis();
    r.n_tasks = 0;
    const char *path = test_path(test_dir, "fidelity.dat");
    assert_int_equal(remove(path), 0);
    free(draw(&r, exact, accuracy, NULL, "layers.dat"));
    assert_int_not_equal(access(test_path(test_dir, "fidelity.dat"), F_OK), 0);
    r.n_tasks = 2;
    kv_results_free(&r);
}

// Hours of work are not thrown away for a picture.
static void too_many_systems_are_a_note(void **state) {
    (void)state;
    enum { N = KV_PLOT_MAX_POINTS + 1 };
    kv_results r;
    kv_error err = {0};
    if (kv_results_init(&r, N, 1, &err)) fail_msg("%s", err.message);
    name_task(&r.tasks[0], "t", "sciq", "acc", "");
    const kv_eval_picture picture = {.x = exact, .y = accuracy};
    char note[KV_PLOT_NOTE];
    assert_int_equal(kv_pictures_draw(&r, &picture, test_dir, note, &err), KV_OK);
    expect(note, "the picture is not drawn: 257 systems and 1 panels");
    kv_results_free(&r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(panels_are_tasks_and_pass_at_k),
        cmocka_unit_test(what_is_not_finite),
        cmocka_unit_test(a_line_to_beat),
        cmocka_unit_test(retention_and_the_papers_reduction),
        cmocka_unit_test(times_on_the_axis),
        cmocka_unit_test(published_points_find_their_panels),
        cmocka_unit_test(timings_make_a_grid),
        cmocka_unit_test(predicted_caches_layer_by_layer),
        cmocka_unit_test(what_is_kept_against_predicted_caches),
        cmocka_unit_test(too_many_systems_are_a_note),
        cmocka_unit_test(text_is_better_lower_down),
        cmocka_unit_test(text_is_kept_in_per_cent),
    };
    return cmocka_run_group_tests(tests, test_dir_set_up, test_dir_tear_down);
}

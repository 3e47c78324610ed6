// Evaluations that differ in seed as one: figures against what a hand gets, the tests against the statistics they are made
// of, and what does not go together.
#include "tests/support/eval.h"
#include "tests/support/results.h"
#include "tests/support/shown.h"

#include "data/file/csv.h"
#include "data/file/path.h"
#include "eval/seeds/command.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { N_ITEMS = 4, BASE = 0, LINE = 1, OURS = 2 };

// One seed of a made-up evaluation: a task of right and wrong, one of nats with a metric that weighs its items. Right answers
// of the system, and its nats: each item differs from their mean by ± 0.1.
struct seed {
    uint64_t seed;
    int right[3];   // of N_ITEMS, of each system
    double nats[3]; // of each system
    int n_systems;  // of BASE, LINE, OURS
};
static const struct seed seeds[] = {
    {1, {4, 0, 2}, {1, 3, 1.5}, 3}, {2, {4, 1, 3}, {1.2, 2.8, 1.6}, 3}, {3, {3, 1, 3}, {0.9, 3.3, 1.2}, 3}};

static const double apart[N_ITEMS] = {0.1, -0.1, 0.1, -0.1};

static void fill_task(kv_results *r, int64_t t, const char *name, const char *kind, const char *metric) {
    kv_result_task *task = &r->tasks[t];
    task->name = strdup(name), task->split = strdup("trained"), task->kind = strdup(kind),
    task->file = strdup("f");
    snprintf(task->hash, sizeof task->hash, "00000000000000d%d", (int)t);
    task->shots = 1, task->n_items = N_ITEMS, task->n_units = N_ITEMS, task->n_metrics = 1,
    task->prompt_tokens = 9;
    snprintf(task->metrics[0], KV_METRIC_NAME, "%s", metric);
}

static kv_results made_up(const struct seed *s) {
    static const char *const names[] = {"base", "aux", "ours"};
    kv_results r;
    kv_error err = {0};
    char hash[17];
    if (kv_results_init(&r, s->n_systems, 2, &err)) fail_msg("%s", err.message);
    r.seed = s->seed, r.bootstrap = 100;
    for (int i = 0; i < s->n_systems; i++) {
        snprintf(hash, sizeof hash, "%015d%d", (int)s->seed, i + 1);
        test_name_system(&r, i, names[i], names[i], hash, i + 1);
    }
    fill_task(&r, 0, "facts", "triviaqa", "exact_match");
    fill_task(&r, 1, "text", "text", "tail_nll");
    r.tasks[1].n_metrics = 2;
    snprintf(r.tasks[1].metrics[1], KV_METRIC_NAME, "bits_per_byte");
    r.tasks[1].weights = test_alloc(N_ITEMS, sizeof(double));
    for (int i = 0; i < N_ITEMS; i++) r.tasks[1].weights[i] = i + 1;
    for (int i = 0; i < s->n_systems; i++) {
        double right[N_ITEMS], nats[2 * N_ITEMS];
        for (int k = 0; k < N_ITEMS; k++) {
            right[k] = k < s->right[i];
            nats[k] = s->nats[i] + apart[k];
            nats[N_ITEMS + k] = s->nats[i] * (k + 1);
        }
        test_fill_outcome(&r, i, 0, right, 1200.0 / (i + 1));
        test_fill_outcome(&r, i, 1, nats, 1200.0 / (i + 1));
    }
    return r;
}

static const char *path_of(uint64_t seed) {
    char name[32];
    snprintf(name, sizeof name, "seed%d.h5", (int)seed);
    return test_path(test_dir, name);
}

static void save(kv_results *r) {
    kv_error err = {0};
    if (kv_results_derive(r, &err) || kv_results_write_h5(r, path_of(r->seed), &err))
        fail_msg("%s", err.message);
    kv_results_free(r);
}

static void save_all(void) {
    for (size_t i = 0; i < 3; i++) {
        kv_results r = made_up(&seeds[i]);
        save(&r);
    }
}

static char *paths[3];

static kv_seeds open_seeds(int64_t n, const char *line) {
    kv_seeds s = {0};
    kv_error err = {0};
    for (int64_t i = 0; i < n; i++) {
        free(paths[i]);
        paths[i] = strdup(path_of(seeds[i].seed));
    }
    if (kv_seeds_open(paths, n, line, &s, &err)) fail_msg("%s", err.message);
    return s;
}

static void refuse(int64_t n, const char *line, const char *message) {
    kv_seeds s = {0};
    kv_error err = {0};
    for (int64_t i = 0; i < n; i++) {
        free(paths[i]);
        paths[i] = strdup(path_of(seeds[i].seed));
    }
    assert_int_not_equal(kv_seeds_open(paths, n, line, &s, &err), KV_OK);
    kv_seeds_close(&s);
    if (!strstr(err.message, message)) fail_msg("found    %s\nexpected %s", err.message, message);
}

static void near(double found, double expected) {
    if (!(fabs(found - expected) <= 32 * DBL_EPSILON * (1 + fabs(expected))))
        fail_msg("found %.17g, expected %.17g", found, expected);
}

static void expect(kv_spread spread, double mean, double sd, int64_t n) {
    near(spread.mean, mean);
    near(spread.sd, sd);
    assert_int_equal(spread.n, n);
}

// ---- Figures -------------------------------------------------------------------------------------------

static void figures(void **state) {
    (void)state;
    save_all();
    kv_seeds s = open_seeds(3, "aux");
    const kv_seed_place facts = {0, 0}, text = {1, 0}, bytes = {1, 1};
    // 2, 3 and 3 of 4 right; of the base 4, 4 and 3.
    expect(kv_seeds_spread(&s, KV_SEED_FIGURE, OURS, facts), 2.0 / 3, sqrt(1.0 / 48), 3);
    // Kept: 1/2, 3/4, 1, each with its own seed's base, not 2/3 over 11/12.
    expect(kv_seeds_spread(&s, KV_SEED_RETENTION, OURS, facts), 0.75, 0.25, 3);
    expect(kv_seeds_spread(&s, KV_SEED_RETENTION, BASE, facts), 1, 0, 3);
    expect(kv_seeds_spread(&s, KV_SEED_EXACT, OURS, facts), 3, 0, 3);
    expect(kv_seeds_spread(&s, KV_SEED_PAPER, LINE, facts), 2, 0, 3);
    // The way: (3 - 1.5) / (3 - 1), (2.8 - 1.6) / (2.8 - 1.2), (3.3 - 1.2) / (3.3 - 0.9) = 0.75, 0.75, 0.875.
    expect(kv_seeds_spread(&s, KV_SEED_WAY, OURS, text), 19.0 / 24, sqrt(1.0 / 192), 3);
    expect(kv_seeds_spread(&s, KV_SEED_WAY, LINE, text), 0, 0, 3);
    expect(kv_seeds_spread(&s, KV_SEED_WAY, BASE, text), 1, 0, 3);
    assert_false(kv_seeds_has_way(&s, facts));
    assert_false(kv_seeds_has_way(&s, bytes));
    assert_true(isnan(kv_seeds_value(&s, KV_SEED_WAY, OURS, facts, 0)));
    assert_true(isnan(kv_seeds_value(&s, KV_SEED_CLOCK, OURS, facts, 0)));
    kv_seeds_close(&s);
    s = open_seeds(3, NULL);
    assert_false(kv_seeds_has_way(&s, text));
    kv_seeds_close(&s);
}

static void one_seed(void **state) {
    (void)state;
    save_all();
    kv_seeds s = open_seeds(1, "aux");
    const kv_spread spread = kv_seeds_spread(&s, KV_SEED_FIGURE, OURS, (kv_seed_place){0, 0});
    assert_true(spread.mean == 0.5 && isnan(spread.sd) && spread.n == 1);
    kv_seed_test test;
    kv_error err = {0};
    assert_int_equal(kv_seeds_compare(&s, OURS, BASE, (kv_seed_place){0, 0}, &test, &err), KV_OK);
    assert_true(isnan(test.seeds.p) && test.items.p == 0.5); // two items worse: both signs, 2 of 4
    const kv_seeds_against against = {0};
    kv_tables *tables = kv_tables_create();
    assert_int_equal(kv_seeds_tables(&s, &against, tables, &err), KV_OK);
    char *text = test_shown(tables);
    assert_null(strstr(text, "±"));
    assert_non_null(strstr(text, " 50.0 % "));
    free(text);
    kv_seeds_close(&s);
}

// ---- Tests ---------------------------------------------------------------------------------------------

static void two_systems(void **state) {
    (void)state;
    save_all();
    kv_seeds s = open_seeds(3, NULL);
    kv_seed_test test;
    kv_error err = {0};
    // Differences of figures: ours - aux = 2/4, 2/4, 2/4; ours - base = -2/4, -1/4, 0.
    assert_int_equal(kv_seeds_compare(&s, OURS, LINE, (kv_seed_place){0, 0}, &test, &err), KV_OK);
    near(test.seeds.difference.mean, 0.5);
    assert_true(isnan(test.seeds.p)); // no spread
    assert_true(test.n_items == 3 * N_ITEMS && test.items.better == 6 && test.items.worse == 0);
    near(test.items.p, 2.0 / 64);
    assert_int_equal(kv_seeds_compare(&s, OURS, BASE, (kv_seed_place){0, 0}, &test, &err), KV_OK);
    near(test.seeds.difference.mean, -0.25);
    near(test.seeds.difference.sd, 0.25);
    near(test.seeds.t, -sqrt(3));
    near(test.seeds.p, 1 - sqrt(3.0 / 5)); // 1 - t / √(t² + 2)
    assert_true(test.items.better == 0 && test.items.worse == 3);
    near(test.items.p, 2.0 / 8);
    // Weighted items: k · nats · k, all of all seeds.
    double own[3 * N_ITEMS], other[3 * N_ITEMS];
    for (int i = 0; i < 3 * N_ITEMS; i++) {
        const int k = i % N_ITEMS + 1;
        own[i] = k * k * seeds[i / N_ITEMS].nats[OURS], other[i] = k * k * seeds[i / N_ITEMS].nats[BASE];
    }
    kv_paired paired;
    assert_int_equal(kv_paired_test(own, other, 3 * N_ITEMS, true, KV_RESAMPLES, 1, &paired, &err), KV_OK);
    assert_int_equal(kv_seeds_compare(&s, OURS, BASE, (kv_seed_place){1, 1}, &test, &err), KV_OK);
    near(test.items.p, paired.p);
    near(test.items.difference, paired.difference);
    assert_true(test.items.worse == 3 * N_ITEMS && test.items.better == 0); // lower is better
    kv_seeds_close(&s);
}

// ---- What is missing -----------------------------------------------------------------------------------

static void missing_rows(void **state) {
    (void)state;
    save_all();
    struct seed without = seeds[0]; // the first, whose systems the others are matched to
    without.n_systems = 2;
    kv_results r = made_up(&without);
    save(&r);
    r = made_up(&seeds[2]);
    kv_outcome *o = kv_results_outcome(&r, LINE, 1);
    o->not_finite = strdup("item 2");
    for (int u = 0; u < N_ITEMS; u++) free(o->records[u]);
    free(o->records);
    free(o->values);
    o->records = NULL, o->values = NULL;
    save(&r);
    kv_seeds s = open_seeds(3, "aux");
    assert_int_equal(s.n_systems, 3);
    assert_true(s.systems[OURS].at[0] == -1 && s.systems[OURS].at[1] == OURS);
    expect(kv_seeds_spread(&s, KV_SEED_FIGURE, OURS, (kv_seed_place){0, 0}), 0.75, 0, 2);
    expect(kv_seeds_spread(&s, KV_SEED_RETENTION, OURS, (kv_seed_place){0, 0}), 0.875, sqrt(1.0 / 32), 2);
    // Without the line there is no way: seed 2 alone has both.
    const kv_spread way = kv_seeds_spread(&s, KV_SEED_WAY, OURS, (kv_seed_place){1, 0});
    near(way.mean, 0.75);
    assert_int_equal(way.n, 1);
    kv_seed_test test;
    kv_error err = {0};
    assert_int_equal(kv_seeds_compare(&s, OURS, BASE, (kv_seed_place){0, 0}, &test, &err), KV_OK);
    assert_true(test.seeds.difference.n == 2 && test.n_items == 2 * N_ITEMS);
    const int64_t rows[] = {LINE};
    const kv_seeds_against against = {rows, 1};
    kv_tables *tables = kv_tables_create();
    assert_int_equal(kv_seeds_tables(&s, &against, tables, &err), KV_OK);
    char *text = test_shown(tables);
    assert_non_null(strstr(text, "ours: without seed 1 ("));
    assert_non_null(strstr(text, "seed1.h5), where it has no row"));
    assert_non_null(strstr(text, "aux: without seed 3 ("));
    assert_non_null(strstr(text, "not finite: item 2"));
    assert_non_null(strstr(text, "each minus aux"));
    free(text);
    kv_results mean;
    assert_int_equal(kv_seeds_mean(&s, &mean, &err), KV_OK);
    const kv_figure *f = &kv_results_outcome(&mean, OURS, 0)->figures[0];
    near(f->accuracy, 0.75);
    near(f->retention, 0.875);
    near(f->retention_low, 0.875 - sqrt(1.0 / 32));
    near(f->retention_high, 0.875 + sqrt(1.0 / 32));
    kv_results_free(&mean);
    kv_seeds_close(&s);
}

static void mismatches(void **state) {
    (void)state;
    save_all();
    refuse(2, "ours, small", "--line: found 'ours, small', expected the name of a system, as `base`");
#define CHANGED(what, message)                                                                               \
    do {                                                                                                     \
        kv_results r = made_up(&seeds[1]);                                                                   \
        kv_result_task *t = &r.tasks[0];                                                                     \
        (void)t;                                                                                             \
        what;                                                                                                \
        save(&r);                                                                                            \
        refuse(3, NULL, message);                                                                            \
    } while (0)
    CHANGED(strcpy(t->name, "facta"), "seed2.h5: found no task facts, trained, expected it as in ");
    CHANGED(strcpy(t->split, "trainee"), "seed2.h5: found no task facts, trained");
    CHANGED((free(t->kind), t->kind = strdup("arc_easy")),
            "task facts, trained is of kind arc_easy, expected triviaqa");
    CHANGED(strcpy(t->metrics[0], "acc_norm"), "task facts, trained has other metrics than in ");
    CHANGED(t->shots = 3, "task facts, trained was asked with 3 shots, expected 1 as in ");
    CHANGED(t->shots_once = true,
            "task facts, trained was asked with examples drawn once, expected for each question as in ");
    CHANGED(t->chat = true, "task facts, trained was asked as a chat, but without one in ");
    CHANGED(r.systems[OURS].base = LINE, "seed2.h5: ours is compared with aux, expected base");
    CHANGED((strcpy(r.systems[0].name, "bass"), strcpy(r.systems[1].name, "alt"),
             strcpy(r.systems[2].name, "tune")),
            "seed2.h5: found no system of those in ");
#undef CHANGED
    kv_results r = made_up(&seeds[1]);
    save(&r);
    // One file by two names.
    kv_error err = {0};
    kv_seeds s = {0};
    char *twice[] = {paths[0], paths[1], strdup(path_of(9))};
    assert_int_equal(symlink(paths[0], twice[2]), 0);
    assert_int_equal(kv_seeds_open(twice, 3, NULL, &s, &err), KV_ERR_MISMATCH);
    kv_seeds_close(&s);
    assert_non_null(strstr(err.message, "seed9.h5: found twice"));
    free(twice[2]);
    // The first seed's models and answers again, in a file of their own, are warned of.
    r = made_up(&seeds[0]);
    r.seed = 3;
    save(&r);
    s = open_seeds(3, NULL);
    kv_seeds_close(&s);
}

// ---- Files ---------------------------------------------------------------------------------------------

static const char *cell_of(const kv_csv_table *table, const char *system, const char *metric,
                           const char *column) {
    for (int64_t r = 0; r < table->n_rows; r++)
        if (!strcmp(kv_csv_cell(table, r, kv_csv_column(table, "system")), system) &&
            !strcmp(kv_csv_cell(table, r, kv_csv_column(table, "metric")), metric))
            return kv_csv_cell(table, r, kv_csv_column(table, column));
    fail_msg("no row of %s, %s", system, metric);
    return "";
}

static void files(void **state) {
    (void)state;
    save_all();
    kv_csv_table table;
    kv_error err = {0};
    static char x[] = "exact", y[] = "retention", line[] = "aux";
    static const char *const names[] = {"aux"};
    char *inputs[3], note[KV_PLOT_NOTE], output[128];
    for (int i = 0; i < 3; i++) inputs[i] = strdup(path_of(seeds[i].seed));
    snprintf(output, sizeof output, "%s", test_path(test_dir, "out"));
    const kv_seeds_options options = {.inputs = inputs,
                                      .n_inputs = 3,
                                      .output = output,
                                      .against = names,
                                      .n_against = 1,
                                      .picture = {.x = x, .y = y, .line = line}};
    FILE *out = fopen("/dev/null", "w");
    if (kv_seeds_join(&options, out, note, &err)) fail_msg("%s", err.message);
    fclose(out);
    if (kv_csv_read(test_path(output, "seeds.csv"), &table, &err)) fail_msg("%s", err.message);
    assert_int_equal(table.n_rows, 9);
    assert_string_equal(cell_of(&table, "ours", "exact_match", "seeds"), "1 2 3");
    assert_string_equal(cell_of(&table, "ours", "exact_match", "n"), "3");
    assert_string_equal(cell_of(&table, "ours", "exact_match", "accuracy_mean"), "0.666666667");
    assert_string_equal(cell_of(&table, "ours", "exact_match", "accuracy_sd"), "0.144337567");
    assert_string_equal(cell_of(&table, "ours", "exact_match", "retention_mean"), "0.75");
    assert_string_equal(cell_of(&table, "ours", "exact_match", "way_mean"), "");
    assert_string_equal(cell_of(&table, "ours", "tail_nll", "way_mean"), "0.791666667");
    assert_string_equal(cell_of(&table, "ours", "tail_nll", "better"), "lower");
    assert_string_equal(cell_of(&table, "ours", "tail_nll", "ttft_reduction_mean"), "");
    kv_csv_table_free(&table);
    if (kv_csv_read(test_path(output, "significance.csv"), &table, &err)) fail_msg("%s", err.message);
    assert_int_equal(table.n_rows,
                     12); // aux and ours with base, base and ours with aux: three metrics each
    assert_string_equal(cell_of(&table, "ours", "exact_match", "against"), "base");
    assert_string_equal(cell_of(&table, "ours", "exact_match", "n_items"), "12");
    assert_string_equal(cell_of(&table, "ours", "exact_match", "p_items"), "0.25");
    assert_string_equal(cell_of(&table, "ours", "exact_match", "p_seeds"), "0.225403331");
    kv_csv_table_free(&table);
    assert_true(kv_path_exists_in(output, "pareto.gp"));
    char *data = test_read_text(test_path(output, "pareto.dat"));
    assert_non_null(strstr(data, "3 75 50 100 # ours")); // mean, one sd below, one above
    free(data);
    for (int i = 0; i < 3; i++) free(inputs[i]);
}

static int tear_down(void **state) {
    for (int i = 0; i < 3; i++) free(paths[i]);
    return test_dir_tear_down(state);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(figures),     cmocka_unit_test(one_seed),
                                       cmocka_unit_test(two_systems), cmocka_unit_test(missing_rows),
                                       cmocka_unit_test(mismatches),  cmocka_unit_test(files)};
    return cmocka_run_group_tests(tests, test_dir_set_up, tear_down);
}

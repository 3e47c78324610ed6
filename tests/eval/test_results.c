// Results apart from the models they come from: figures, files, joining and the table.
#include "tests/support/eval.h"
#include "tests/support/results.h"
#include "tests/support/shown.h"

#include "data/file/h5.h"
#include "eval/results/results.h"
#include "eval/results/selection.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { N_ITEMS = 4 };

// Base, a small model with a name that needs quotes, and one that was never asked. Two metrics.
static kv_results made_up(void) {
    kv_results r;
    kv_error err = {0};
    if (kv_results_init(&r, 3, 1, &err)) fail_msg("%s", err.message);
    r.seed = 7, r.bootstrap = 500;
    r.configs = test_alloc(1, sizeof *r.configs);
    r.configs[0] = strdup("seed: 1\n");
    r.n_configs = 1;
    r.budgets = test_alloc(2, sizeof *r.budgets);
    r.budgets[0] = 1, r.budgets[1] = 0.5;
    r.n_budgets = 2;
    test_name_system(&r, 0, "base", "base", "00000000000000aa", 1);
    test_name_system(&r, 1, "small, \"fast\"", "aux", "00000000000000bb", 4);
    test_name_system(&r, 2, "later", "aux", "00000000000000cc", 8);
    kv_result_task *t = &r.tasks[0];
    t->name = strdup("atlas"), t->split = strdup("trained"), t->kind = strdup("triviaqa");
    t->file = strdup("f");
    snprintf(t->hash, sizeof t->hash, "00000000000000dd");
    t->shots = 1, t->n_items = N_ITEMS, t->n_units = 2 * N_ITEMS, t->n_metrics = 2, t->prompt_tokens = 59;
    snprintf(t->metrics[0], KV_METRIC_NAME, "pass@1");
    snprintf(t->metrics[1], KV_METRIC_NAME, "pass@2");
    test_fill_outcome(&r, 0, 0, (const double[]){1, 1, 1, 1, 1, 1, 1, 1}, 3000);
    test_fill_outcome(&r, 1, 0, (const double[]){0, 1, 0.5, 0.5, 0, 1, 1, 1}, 1000);
    kv_timing *timing = kv_results_add_timing(&r, 59, 8, 3);
    assert_non_null(timing);
    timing->seconds[0] = 0.5, timing->spread[0] = 0.01, timing->reduction[0] = 1, timing->flops[0] = 3000;
    for (int i = 0; i < 3; i++) timing->samples[i] = 0.49 + 0.01 * i;
    if (kv_results_derive(&r, &err)) fail_msg("%s", err.message);
    return r;
}

static void figures(void **state) {
    (void)state;
    kv_results r = made_up();
    const kv_outcome *base = kv_results_outcome(&r, 0, 0), *small = kv_results_outcome(&r, 1, 0);
    assert_true(base->figures[0].accuracy == 1 && base->figures[0].retention == 1);
    assert_true(base->figures[0].low == 1 && base->figures[0].high == 1);
    assert_true(isnan(base->figures[0].p_value));
    assert_true(isnan(base->figures[0].retention_low) && isnan(base->figures[0].retention_high));
    // Of a base that has everything right the same items are the same share.
    assert_true(small->figures[0].retention_low == small->figures[0].low);
    assert_true(small->figures[0].retention_high == small->figures[0].high);
    assert_true(small->figures[0].accuracy == 0.5 && small->figures[1].accuracy == 0.75);
    assert_true(small->figures[0].retention == 0.5);
    assert_true(small->figures[0].low >= 0 && small->figures[0].low < 0.5 && small->figures[0].high > 0.5);
    // Three of four items are worse, by 1, ½ and ½: of the 8 ways to sign them, 2 are as extreme.
    assert_true(fabs(small->figures[0].p_value - 0.25) < 1e-12);
    assert_true(small->exact_reduction == 3);
    assert_true(isnan(kv_results_outcome(&r, 2, 0)->figures[0].accuracy));
    kv_results_free(&r);
}

static void retention_needs_a_base_that_knows_something(void **state) {
    (void)state;
    kv_results r = made_up();
    kv_error err = {0};
    memset(kv_results_outcome(&r, 0, 0)->values, 0, 2 * N_ITEMS * sizeof(double));
    assert_int_equal(kv_results_derive(&r, &err), KV_OK);
    assert_true(isnan(kv_results_outcome(&r, 1, 0)->figures[0].retention));
    assert_true(kv_results_outcome(&r, 1, 0)->figures[0].accuracy == 0.5);
    kv_results_free(&r);
}

static void front_and_budgets(void **state) {
    (void)state;
    kv_results r = made_up();
    bool front[3];
    assert_true(kv_results_front(&r, 0, front));
    assert_true(front[0] && front[1] && !front[2]);
    kv_error err = {0};
    const char *path = test_path(test_dir, "budgets.csv");
    kv_figure *f = kv_results_outcome(&r, 1, 0)->figures;
    f->low = 0.125, f->high = 0.875; // not tested here
    assert_int_equal(kv_results_write_budgets(&r, path, &err), KV_OK);
    char *text = test_read_text(path);
    assert_string_equal(
        text,
        "budget,task,split,metric,family,system,accuracy,accuracy_low,accuracy_high,flops_fraction,better\n"
        "1,atlas,trained,pass@1,base,base,1,1,1,1,higher\n"
        "1,atlas,trained,pass@1,aux,\"small, \"\"fast\"\"\",0.5,0.125,0.875,0.333333333,higher\n"
        "0.5,atlas,trained,pass@1,aux,\"small, \"\"fast\"\"\",0.5,0.125,0.875,0.333333333,higher\n");
    free(text);
    kv_results_free(&r);
}

static void csv_columns(void **state) {
    (void)state;
    kv_results r = made_up();
    kv_error err = {0};
    kv_figure *f = kv_results_outcome(&r, 1, 0)->figures;
    f[0].low = 0.125, f[0].high = 0.875, f[1].low = 0.25, f[1].high = 1, f[1].p_value = 1; // not tested here
    f[0].retention_low = 0.25, f[0].retention_high = 0.5, f[1].retention_low = 0.375;
    f[1].retention_high = INFINITY;
    r.tasks[0].n_skipped = 3, r.tasks[0].n_cut = 2, r.tasks[0].chat = r.tasks[0].shots_once = true;
    const char *path = test_path(test_dir, "r.csv");
    if (kv_results_write_csv(&r, path, &err)) fail_msg("%s", err.message);
    char *text = test_read_text(path);
    assert_string_equal(
        text,
        "system,family,task,split,metric,accuracy,retention,flops_reduction_paper,flops_reduction_exact,"
        "ttft_seconds,ttft_reduction,ttft_spread,shots,n_questions,flops_exact,prompt_tokens,accuracy_low,"
        "accuracy_high,p_value,on_front,retention_low,retention_high,n_skipped,n_cut,redefined,note,chat,"
        "flops_computed,flops_looked_up,lookups,shots_drawn,better\n"
        "base,base,atlas,trained,pass@1,1,1,1,1,0.5,1,0.01,1,4,3000,59,1,1,,1,,,3,2,,,1,,,,once,higher\n"
        "base,base,atlas,trained,pass@2,1,1,1,1,0.5,1,0.01,1,4,3000,59,1,1,,1,,,3,2,,,1,,,,once,higher\n"
        "\"small, \"\"fast\"\"\",aux,atlas,trained,pass@1,0.5,0.5,4,3,,,,1,4,1000,59,0.125,0.875,0.25,1,0.25,0.5,3,2,,,1,,,,once,higher\n"
        "\"small, \"\"fast\"\"\",aux,atlas,trained,pass@2,0.75,0.75,4,3,,,,1,4,1000,59,0.25,1,1,1,0.375,,3,2,,,1,,,,once,higher\n");
    free(text);
    const char *timings = test_path(test_dir, "t.csv");
    if (kv_results_write_timings(&r, timings, &err)) fail_msg("%s", err.message);
    text = test_read_text(timings);
    assert_string_equal(text, "system,family,prompt_tokens,batch_size,repeats,ttft_seconds,ttft_spread,"
                              "ttft_reduction,flops\nbase,base,59,8,3,0.5,0.01,1,3000\n");
    free(text);
    kv_results_free(&r);
}

// ---- results.h5 ----------------------------------------------------------------------------------------

static void same(double a, double b) {
    assert_true(a == b || (isnan(a) && isnan(b)));
}

static void expect_equal(const kv_results *a, const kv_results *b) {
    assert_int_equal(a->n_systems, b->n_systems);
    assert_int_equal(a->n_tasks, b->n_tasks);
    assert_int_equal(a->n_timings, b->n_timings);
    assert_int_equal(a->n_configs, b->n_configs);
    assert_int_equal(a->n_budgets, b->n_budgets);
    assert_int_equal(a->seed, b->seed);
    assert_int_equal(a->bootstrap, b->bootstrap);
    assert_string_equal(a->configs[0], b->configs[0]);
    for (int64_t s = 0; s < a->n_systems; s++) {
        assert_string_equal(a->systems[s].name, b->systems[s].name);
        assert_string_equal(a->systems[s].family, b->systems[s].family);
        assert_string_equal(a->systems[s].hash, b->systems[s].hash);
        assert_string_equal(a->systems[s].tokenizer, b->systems[s].tokenizer);
        assert_int_equal(a->systems[s].base, b->systems[s].base);
        same(a->systems[s].paper_reduction, b->systems[s].paper_reduction);
        same(a->systems[s].lookups, b->systems[s].lookups);
    }
    for (int64_t i = 0; i < a->n_systems * a->n_tasks; i++) {
        const kv_outcome *x = &a->outcomes[i], *y = &b->outcomes[i];
        const kv_result_task *t = &a->tasks[i % a->n_tasks], *of_b = &b->tasks[i % a->n_tasks];
        assert_int_equal(t->weights == NULL, of_b->weights == NULL);
        for (int64_t k = 0; t->weights && k < t->n_items; k++) same(t->weights[k], of_b->weights[k]);
        assert_int_equal(x->values == NULL, y->values == NULL);
        same(x->flops, y->flops);
        same(x->flops_computed, y->flops_computed);
        same(x->flops_looked_up, y->flops_looked_up);
        same(x->exact_reduction, y->exact_reduction);
        for (int64_t v = 0; x->values && v < t->n_metrics * t->n_items; v++) same(x->values[v], y->values[v]);
        for (int64_t u = 0; x->values && u < t->n_units; u++)
            assert_string_equal(x->records[u], y->records[u]);
        for (int m = 0; m < t->n_metrics; m++) {
            same(x->figures[m].low, y->figures[m].low);
            same(x->figures[m].p_value, y->figures[m].p_value);
        }
    }
    for (int64_t s = 0; s < a->n_systems; s++) {
        same(a->timings[0].seconds[s], b->timings[0].seconds[s]);
        same(a->timings[0].reduction[s], b->timings[0].reduction[s]);
        for (int64_t k = 0; k < 3; k++)
            same(a->timings[0].samples[s * 3 + k], b->timings[0].samples[s * 3 + k]);
    }
}

static void h5_gives_back_what_it_got(void **state) {
    (void)state;
    kv_results r = made_up(), again;
    kv_error err = {0};
    const char *path = test_path(test_dir, "r.h5");
    r.tasks[0].n_skipped = 3, r.tasks[0].n_cut = 2, r.tasks[0].chat = r.tasks[0].shots_once = true;
    r.systems[1].lookups = 512;
    kv_results_outcome(&r, 1, 0)->flops_computed = 1000, kv_results_outcome(&r, 1, 0)->flops_looked_up = 750;
    if (kv_results_write_h5(&r, path, &err)) fail_msg("%s", err.message);
    if (kv_results_read_h5(path, &again, &err)) fail_msg("%s", err.message);
    assert_true(again.systems[1].lookups == 512 && isnan(again.systems[0].lookups));
    assert_string_equal(again.tasks[0].metrics[1], "pass@2");
    assert_int_equal(again.tasks[0].shots, 1);
    assert_int_equal(again.tasks[0].n_skipped, 3);
    assert_int_equal(again.tasks[0].n_cut, 2);
    assert_true(again.tasks[0].chat && again.tasks[0].shots_once);
    expect_equal(&r, &again);
    kv_results_free(&again);
    kv_results_free(&r);
}

static void set_version(const char *path, int64_t version) {
    kv_error err = {0};
    hid_t file = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT);
    assert_true(file >= 0);
    assert_true(H5Adelete_by_name(file, "/", "version", H5P_DEFAULT) >= 0);
    assert_int_equal(kv_h5_set_i64(file, "/", "version", version, &err), KV_OK);
    kv_h5_close(&file, &err);
}

// Items were neither skipped nor cut before there was a word for it.
static void h5_of_before_items_were_skipped(void **state) {
    (void)state;
    const char *path = test_path(test_dir, "before.h5");
    kv_results r = made_up(), again;
    kv_error err = {0};
    r.tasks[0].n_skipped = 3, r.tasks[0].n_cut = 2, r.tasks[0].chat = r.tasks[0].shots_once = true;
    if (kv_results_write_h5(&r, path, &err)) fail_msg("%s", err.message);
    hid_t file = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT);
    assert_true(H5Adelete_by_name(file, "/tasks/0", "n_skipped", H5P_DEFAULT) >= 0);
    assert_true(H5Adelete_by_name(file, "/tasks/0", "n_cut", H5P_DEFAULT) >= 0);
    assert_true(H5Ldelete(file, "/systems/tokenizer", H5P_DEFAULT) >= 0);
    kv_h5_close(&file, &err);
    if (kv_results_read_h5(path, &again, &err)) fail_msg("%s", err.message);
    assert_int_equal(again.tasks[0].n_skipped + again.tasks[0].n_cut, 0);
    expect_equal(&r, &again);
    kv_results_free(&again);
    kv_results_free(&r);
}

// What version 2 called acc_norm was divided by bytes.
static void older_h5_says_what_it_meant(void **state) {
    (void)state;
    const char *path = test_path(test_dir, "older.h5");
    for (int64_t version = 2; version <= 3; version++) {
        kv_results r = made_up(), again;
        kv_error err = {0};
        snprintf(r.tasks[0].metrics[0], KV_METRIC_NAME, "acc_norm");
        snprintf(r.tasks[0].metrics[1], KV_METRIC_NAME, "acc");
        if (kv_results_write_h5(&r, path, &err)) fail_msg("%s", err.message);
        set_version(path, version);
        if (kv_results_read_h5(path, &again, &err)) fail_msg("%s", err.message);
        assert_string_equal(again.tasks[0].metrics[0], version == 2 ? "acc_bytes" : "acc_norm");
        assert_string_equal(again.tasks[0].metrics[1], "acc");
        expect_equal(&r, &again);
        kv_results_free(&again);
        kv_results_free(&r);
    }
}

static void expect_refused(const char *path, const char *part) {
    kv_results r;
    kv_error err = {0};
    if (kv_results_read_h5(path, &r, &err) == KV_OK || !strstr(err.message, part))
        fail_msg("expected '%s', found: %s", part, err.message);
}

static void damaged_h5_is_refused(void **state) {
    (void)state;
    kv_results r = made_up();
    kv_error err = {0};
    hid_t file;
    char *path = strdup(test_path(test_dir, "bad.h5"));
    expect_refused(test_path(test_dir, "nowhere.h5"), "nowhere.h5");
    expect_refused(test_path(test_dir, "train.jsonl"), "train.jsonl");
    assert_int_equal(kv_h5_create(path, &file, &err), KV_OK);
    assert_int_equal(kv_h5_set_string(file, "/", "format", "something", &err), KV_OK);
    kv_h5_close(&file, &err);
    expect_refused(path, "not the results of an evaluation");
    // A number of items that its arrays do not have, then a version from the future.
    for (int damage = 0; damage < 2; damage++) {
        r.tasks[0].n_items = damage == 0 ? N_ITEMS : r.tasks[0].n_items;
        if (kv_results_write_h5(&r, path, &err)) fail_msg("%s", err.message);
        file = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT);
        assert_true(file >= 0);
        assert_true(H5Adelete_by_name(file, damage ? "/" : "/tasks/0", damage ? "version" : "n_items",
                                      H5P_DEFAULT) >= 0);
        assert_int_equal(
            kv_h5_set_i64(file, damage ? "/" : "/tasks/0", damage ? "version" : "n_items", 9, &err), KV_OK);
        kv_h5_close(&file, &err);
        expect_refused(path, damage ? "results of kveval of version 9, expected versions 2 to 3"
                                    : "/tasks/0/values");
    }
    free(path);
    kv_results_free(&r);
}

// ---- Joining -------------------------------------------------------------------------------------------

// Items may weigh differently; in files of before there were weights, and a word for the direction, they do not.
static void weights_are_kept(void **state) {
    (void)state;
    static const double weights[N_ITEMS] = {1, 0, 2.5, 4};
    kv_results r = made_up(), again, more = made_up();
    kv_error err = {0};
    r.tasks[0].weights = test_alloc(N_ITEMS, sizeof *r.tasks[0].weights);
    memcpy(r.tasks[0].weights, weights, sizeof weights);
    const char *path = test_path(test_dir, "weights.h5");
    if (kv_results_write_h5(&r, path, &err)) fail_msg("%s", err.message);
    if (kv_results_read_h5(path, &again, &err)) fail_msg("%s", err.message);
    expect_equal(&r, &again);
    if (kv_results_join(&again, &more, &err)) fail_msg("%s", err.message);
    expect_equal(&r, &again);
    kv_results_free(&again);
    hid_t file = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT);
    assert_true(H5Ldelete(file, "/tasks/0/weights", H5P_DEFAULT) >= 0);
    assert_true(H5Ldelete(file, "/tasks/0/better", H5P_DEFAULT) >= 0);
    kv_h5_close(&file, &err);
    if (kv_results_read_h5(path, &again, &err)) fail_msg("%s", err.message);
    expect_equal(&more, &again);
    kv_results_free(&again);
    r.tasks[0].weights[1] = -1;
    if (kv_results_write_h5(&r, path, &err)) fail_msg("%s", err.message);
    expect_refused(path, "/tasks/0/weights': expected numbers from 0");
    kv_results_free(&more);
    kv_results_free(&r);
}

static void joining_with_oneself_changes_nothing(void **state) {
    (void)state;
    kv_results a = made_up(), b = made_up();
    kv_error err = {0};
    if (kv_results_join(&a, &b, &err)) fail_msg("%s", err.message);
    expect_equal(&b, &a);
    kv_results_free(&a);
    kv_results_free(&b);
}

static void joining_fills_gaps_and_keeps_names_apart(void **state) {
    (void)state;
    kv_results a = made_up(), b = made_up();
    kv_error err = {0};
    // In the second evaluation the third system was asked, the second is another model of the same name, and
    // there is a task more.
    test_fill_outcome(&b, 2, 0, (const double[]){1, 0, 0, 0, 1, 0, 0, 0}, 500);
    snprintf(b.systems[1].hash, sizeof b.systems[1].hash, "00000000000000ee");
    assert_int_equal(kv_results_derive(&b, &err), KV_OK);
    if (kv_results_join(&a, &b, &err)) fail_msg("%s", err.message);
    assert_int_equal(a.n_systems, 4);
    assert_int_equal(a.n_tasks, 1);
    assert_string_equal(a.systems[3].name, "small, \"fast\" (2)");
    assert_int_equal(a.systems[3].base, 0);
    assert_true(kv_results_outcome(&a, 2, 0)->figures[0].accuracy == 0.25);
    assert_true(kv_results_outcome(&a, 2, 0)->exact_reduction == 6);
    // Another base makes all rows others, and another content makes another task.
    kv_results c = made_up();
    snprintf(c.systems[0].hash, sizeof c.systems[0].hash, "00000000000000ff");
    snprintf(c.tasks[0].hash, sizeof c.tasks[0].hash, "0000000000000001");
    if (kv_results_join(&a, &c, &err)) fail_msg("%s", err.message);
    assert_int_equal(a.n_systems, 7);
    assert_int_equal(a.n_tasks, 2);
    assert_string_equal(a.tasks[1].split, "trained (2)");
    assert_int_equal(a.systems[5].base, 4);
    assert_null(kv_results_outcome(&a, 0, 1)->values);
    assert_true(kv_results_outcome(&a, 5, 1)->figures[0].retention == 0.5);
    kv_results_free(&a);
    kv_results_free(&b);
    kv_results_free(&c);
}

static void ask_with(kv_results *r, const char *tokenizer) {
    for (int64_t i = 0; i < r->n_systems; i++)
        snprintf(r->systems[i].tokenizer, sizeof r->systems[i].tokenizer, "%s", tokenizer);
}

// What was asked with another tokenizer is not laid over; where it is not known it is, and then known.
static void joining_keeps_tokenizers_apart(void **state) {
    (void)state;
    static const char one[] = "00000000000000a1/00000000000000c1",
                      other[] = "00000000000000a1/00000000000000c2";
    kv_results a = made_up(), b = made_up(), c = made_up();
    kv_error err = {0};
    ask_with(&b, one);
    ask_with(&c, other);
    const char *path = test_path(test_dir, "asked.h5");
    if (kv_results_write_h5(&b, path, &err)) fail_msg("%s", err.message);
    kv_results_free(&b);
    if (kv_results_read_h5(path, &b, &err)) fail_msg("%s", err.message);
    if (kv_results_join(&a, &b, &err)) fail_msg("%s", err.message);
    assert_int_equal(a.n_systems, 3);
    assert_string_equal(a.systems[1].tokenizer, one);
    if (kv_results_join(&a, &c, &err)) fail_msg("%s", err.message);
    assert_int_equal(a.n_systems, 6);
    assert_string_equal(a.systems[3].name, "base (2)");
    assert_string_equal(a.systems[4].tokenizer, other);
    assert_int_equal(a.systems[4].base, 3);
    kv_results_free(&a);
    kv_results_free(&b);
    kv_results_free(&c);
}

// ---- The table -----------------------------------------------------------------------------------------

static void table_shows_what_is_missing(void **state) {
    (void)state;
    kv_results r = made_up();
    kv_tables *tables = kv_tables_create();
    kv_results_tables(&r, tables);
    char *text = test_shown(tables);
    static const char *const parts[] = {"atlas, trained: 4 items, prompts of 59 tokens",
                                        "time to first token, 8 x 59",
                                        "500.00 ± 10.00",
                                        "pass@2",
                                        "0.5 of the base",
                                        "*  base"};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (!strstr(text, parts[i])) fail_msg("no '%s' in\n%s", parts[i], text);
    const char *line = strstr(text, "small, \"fast\"");
    assert_non_null(line);
    char times[2][8] = {"", ""};
    const char *end = strstr(line, "3.00x");
    assert_non_null(end);
    assert_int_equal(sscanf(end + 5, "%7s %7s", times[0], times[1]), 2);
    assert_string_equal(times[0], "-");
    assert_string_equal(times[1], "-");
    assert_null(strstr(text, "later")); // never asked
    free(text);
    kv_results_free(&r);
}

// Both counts of FLOPs, where something is looked up, or could be.
static void table_shows_lookups(void **state) {
    (void)state;
    kv_results r = made_up();
    kv_tables *tables = kv_tables_create();
    kv_outcome *o[2] = {kv_results_outcome(&r, 0, 0), kv_results_outcome(&r, 1, 0)};
    r.systems[0].lookups = 0, r.systems[1].lookups = 512;
    o[0]->flops_computed = o[0]->flops_looked_up = 3000, o[1]->flops_computed = 1000,
    o[1]->flops_looked_up = 750;
    kv_results_tables(&r, tables);
    char *text = test_shown(tables);
    assert_non_null(strstr(text, "computed  looked up"));
    const char *line = strstr(text, "small, \"fast\"");
    const char *end = line ? strstr(line, "4.00x") : NULL;
    float cells[4];
    assert_non_null(end);
    assert_int_equal(sscanf(end, "4.00x %fx %fx %fx %f", &cells[0], &cells[1], &cells[2], &cells[3]), 4);
    assert_true(cells[0] == 3 && cells[1] == 3 && cells[2] == 4 && cells[3] == 512);
    free(text);
    kv_results_free(&r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(figures),
        cmocka_unit_test(retention_needs_a_base_that_knows_something),
        cmocka_unit_test(front_and_budgets),
        cmocka_unit_test(csv_columns),
        cmocka_unit_test(h5_gives_back_what_it_got),
        cmocka_unit_test(h5_of_before_items_were_skipped),
        cmocka_unit_test(older_h5_says_what_it_meant),
        cmocka_unit_test(damaged_h5_is_refused),
        cmocka_unit_test(joining_with_oneself_changes_nothing),
        cmocka_unit_test(joining_fills_gaps_and_keeps_names_apart),
        cmocka_unit_test(joining_keeps_tokenizers_apart),
        cmocka_unit_test(table_shows_what_is_missing),
        cmocka_unit_test(table_shows_lookups),
        cmocka_unit_test(weights_are_kept),
    };
    return cmocka_run_group_tests(tests, test_dir_set_up, test_dir_tear_down);
}

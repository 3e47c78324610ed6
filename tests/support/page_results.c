// A small one of everything.
#include "tests/support/page_results.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void name_task(kv_results *r, int64_t i, const char *name, const char *kind, const char *metric,
                      int64_t n_items) {
    kv_result_task *t = &r->tasks[i];
    t->name = strdup(name), t->split = strdup("made"), t->kind = strdup(kind), t->file = strdup("made.jsonl");
    snprintf(t->hash, sizeof t->hash, "%016d", (int)i + 1);
    t->n_items = t->n_units = n_items, t->n_metrics = 1, t->prompt_tokens = 10;
    snprintf(t->metrics[0], sizeof t->metrics[0], "%s", metric);
}

// values are copied; the records are JSON texts, taken over.
static void fill(kv_results *r, int64_t system, int64_t task, const double *values, char *const *records) {
    const kv_result_task *t = &r->tasks[task];
    test_fill_outcome(r, system, task, values, 1000.0 / (double)(1 + 3 * system));
    kv_outcome *o = kv_results_outcome(r, system, task);
    for (int64_t u = 0; u < t->n_units; u++) {
        free(o->records[u]);
        o->records[u] = records[u];
    }
}

__attribute__((format(printf, 1, 2))) static char *text(const char *format, ...) {
    char *made = NULL;
    va_list args;
    va_start(args, format);
    if (vasprintf(&made, format, args) < 0) fail();
    va_end(args);
    return made;
}

// The same as JSON has it; what is no UTF-8 stays out, as of every record (kv_record_text).
static const char nasty_json[] = "</script><b id=\\\"owned\\\">'&amp;\\u0001\xE2\x80\xA8<!--";

static void fill_questions(kv_results *r) {
    static const double values[3][6] = {{1, 1, 1, 1, 0, 0}, {1, 1, 0, 0, 1, 0}, {0, 0, 0, 0, 0, 0}};
    for (int s = 0; s < 3; s++) {
        char *records[6];
        for (int i = 0; i < 6; i++)
            records[i] = text(
                "{\"id\":\"question %d\",\"prompt\":\"What is %d?\\nAnswer: %s\",\"answers\":[\"number %d\",\"%d\"],"
                "\"generation\":\"%s %d%s\",\"verdict\":\"%s\"}",
                i, i, i == 5 ? nasty_json : "", i, i, values[s][i] == 1 ? "number" : "something of", i,
                s == 2 ? nasty_json : "", values[s][i] == 1 ? "correct" : "wrong");
        fill(r, s, PAGE_QUESTIONS, values[s], records);
    }
    kv_outcome *broken = kv_results_outcome(r, PAGE_BROKEN, PAGE_QUESTIONS);
    broken->not_finite = strdup("question 3 <i>");
    broken->flops = 1;
}

static void fill_text(kv_results *r) {
    static const double values[PAGE_SYSTEMS][2] = {{2, 3}, {2.5, 2.9}, {2.1, 3.1}, {800, 900}};
    for (int s = 0; s < PAGE_SYSTEMS; s++) {
        char *records[2];
        for (int i = 0; i < 2; i++)
            records[i] =
                text("{\"first\":%d,\"tail\":%f,\"tail_tokens\":10,\"whole\":%f,\"whole_tokens\":20}", 32 * i,
                     10 * values[s][i], 20 * values[s][i]);
        fill(r, s, PAGE_TEXT, values[s], records);
    }
}

static void fill_needle(kv_results *r) {
    static const double values[2][4] = {{1, 1, 1, 1}, {1, 0, 1, 1}}, depths[] = {0, 0, 1, 1};
    static const int64_t lengths[] = {64, 128, 64, 128};
    kv_grid_items *grid = &r->tasks[PAGE_NEEDLE].grid;
    grid->lengths = test_alloc(4, sizeof *grid->lengths);
    grid->depths = test_alloc(4, sizeof *grid->depths);
    grid->tokens = test_alloc(4, sizeof *grid->tokens);
    memcpy(grid->lengths, lengths, sizeof lengths);
    memcpy(grid->tokens, lengths, sizeof lengths);
    memcpy(grid->depths, depths, sizeof depths);
    for (int s = 0; s < 2; s++) {
        char *records[4];
        for (int i = 0; i < 4; i++)
            records[i] = text(
                "{\"item\":\"made.jsonl:%d\",\"length\":%d,\"depth\":%g,\"answer\":\"red\",\"generation\":\"%s\","
                "\"verdict\":\"%s\"}",
                i, (int)lengths[i], depths[i], values[s][i] == 1 ? "red" : "blue",
                values[s][i] == 1 ? "correct" : "wrong");
        fill(r, s, PAGE_NEEDLE, values[s], records);
        kv_outcome *o = kv_results_outcome(r, s, PAGE_NEEDLE);
        o->item_flops = test_alloc(4, sizeof *o->item_flops);
        for (int i = 0; i < 4; i++) o->item_flops[i] = (double)lengths[i];
    }
}

// Of 3 programs sample 0 and 1: the first of each is right.
static void fill_code(kv_results *r) {
    static const double values[] = {0.5, 0.5, 0.5};
    r->tasks[PAGE_CODE].n_units = 6;
    for (int s = 0; s < 2; s++) {
        char *records[6];
        for (int u = 0; u < 6; u++)
            records[u] = text(
                "{\"task_id\":\"Made/%d\",\"completion\":\"    return %d\\n\",\"passed\":%s,\"result\":\"%s\","
                "\"sample\":%d}",
                u / 2, u, u % 2 ? "false" : "true", u % 2 ? "failed: <AssertionError>" : "passed", u % 2);
        fill(r, s, PAGE_CODE, values, records);
    }
}

static void fill_choice(kv_results *r) {
    static const double values[2][2] = {{1, 0}, {0, 0}};
    for (int s = 0; s < 2; s++) {
        char *records[2];
        for (int i = 0; i < 2; i++)
            records[i] = text(
                "{\"id\":\"c%d\",\"context\":\"A duck is a\",\"choices\":[\"bird\",\"fish\"],\"loglikelihoods\":[%g,%g],"
                "\"characters\":[4,4],\"bytes\":[4,4],\"gold\":0,\"acc\":%d}",
                i, values[s][i] == 1 ? -1.5 : -2.5, -2.0, (int)values[s][i]);
        fill(r, s, PAGE_CHOICE, values[s], records);
    }
}

// Three layers, of which the first is the base's own; a NaN among the errors of the last.
static void fill_analysis(kv_results *r) {
    kv_analysis *a = &r->analysis;
    assert_int_equal(kv_analysis_init(a, PAGE_SYSTEMS, NULL), KV_OK);
    a->corpus = strdup("held_out.h5");
    a->sequences = 2, a->seq_len = 4, a->bins = 2;
    snprintf(a->hash, sizeof a->hash, "00000000000000aa");
    kv_cache_analysis *errors = &a->systems[PAGE_OURS];
    assert_int_equal(kv_cache_analysis_init(errors, 3, a, NULL), KV_OK);
    for (int l = 0; l < 3; l++) {
        errors->predicted[l] = l > 0;
        errors->attention_cosine[l] = l == 1 ? 0.75 : 1;
        errors->key.explained[l] = l == 1 ? -0.5 : 0.9, errors->value.explained[l] = 0.42;
        errors->key.magnitude[l] = errors->value.magnitude[l] = 2;
        for (int p = 0; p < 4; p++)
            errors->key.error[4 * l + p] = 0.1 * p, errors->value.error[4 * l + p] = l == 2 ? NAN : 0.5;
        for (int e = 0; e < 3; e++) errors->key.edges[3 * l + e] = errors->value.edges[3 * l + e] = e - 1;
    }
}

static void fill_timing(kv_results *r) {
    static const double seconds[PAGE_SYSTEMS] = {0.02, 0.004, NAN, 0.01};
    kv_timing *t = kv_results_add_timing(r, 16, 1, 2);
    assert_non_null(t);
    for (int s = 0; s < PAGE_SYSTEMS; s++) {
        t->seconds[s] = seconds[s], t->spread[s] = seconds[s] / 10, t->reduction[s] = seconds[0] / seconds[s];
        t->samples[2 * s] = t->samples[2 * s + 1] = seconds[s];
    }
}

kv_results test_page_results(void) {
    kv_results r;
    kv_error err = {0};
    if (kv_results_init(&r, PAGE_SYSTEMS, PAGE_TASKS, &err)) fail_msg("%s", err.message);
    r.seed = 7, r.bootstrap = 50;
    r.n_budgets = 2, r.budgets = test_alloc(2, sizeof *r.budgets);
    r.budgets[0] = 1, r.budgets[1] = 0.5;
    r.n_configs = 1, r.configs = test_alloc(1, sizeof *r.configs);
    r.configs[0] = strdup("output: <out>\n");
    r.n_made_by = 1, r.made_by = test_alloc(1, sizeof *r.made_by);
    r.made_by[0] =
        strdup("{\"program\":\"kveval\",\"commit\":\"abc <i>\",\"threads\":3,\"memory\":16000000000}");
    test_name_system(&r, PAGE_BASE, "base", "base", "a0", 1);
    test_name_system(&r, PAGE_OURS, "ours", "KVP-C (ours)", "a1", 4);
    test_name_system(&r, PAGE_NASTY_SYSTEM, PAGE_NASTY, "RP " PAGE_NASTY, "a2", 7);
    test_name_system(&r, PAGE_BROKEN, "broken", "LP", "a3", 2);
    name_task(&r, PAGE_QUESTIONS, "atlas & <co>", "triviaqa", "exact_match", 6);
    name_task(&r, PAGE_TEXT, "text", "text", "tail_nll", 2);
    name_task(&r, PAGE_NEEDLE, "needle", "recall", "exact_match", 4);
    name_task(&r, PAGE_CODE, "code", "humaneval", "pass@1", 3);
    name_task(&r, PAGE_CHOICE, "choice", "arc_easy", "acc", 2);
    fill_questions(&r);
    fill_text(&r);
    fill_needle(&r);
    fill_code(&r);
    fill_choice(&r);
    fill_analysis(&r);
    fill_timing(&r);
    if (kv_results_derive(&r, &err)) fail_msg("%s", err.message);
    return r;
}

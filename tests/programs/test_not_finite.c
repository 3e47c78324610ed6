// A model with a NaN or an infinity among its weights, as its user meets it: kvrun ends with exit status 1 and one
// line that names the step, kveval's row says "not finite", kvdata inspect
// counts them. Programs are named by KVRUN, KVEVAL and KVDATA.
#include "tests/support/kvrun.h"
#include "tests/support/spoil.h"

#include "data/checkpoint/checkpoint.h"
#include "eval/results/results.h"
#include "tests/support/tiny.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static char out[1 << 16], err[1 << 16];

static void copy_dir(const char *from, const char *to) {
    char command[512];
    snprintf(command, sizeof command, "cp -r %s %s", in_dir(from), in_dir(to));
    assert_int_equal(system(command), 0);
}

// A model whose head is no part of its embedding, so that one id can be broken and all others be sound.
static void make_loose(const char *name) {
    kv_model_spec spec = tiny_base();
    spec.vocab_size = 400, spec.context_length = CONTEXT, spec.tied_head = false;
    kv_model *model = tiny_model(&spec, 1);
    kv_error why = {0};
    mkdir(in_dir(name), 0777);
    if (kv_checkpoint_save(in_dir(name), model, &why) != KV_OK) fail_msg("%s", why.message);
    kv_model_free(model);
}

static const char model_file[] = "model.safetensors", last_norm[] = "transformer.norm.weight";

static void spoil_id(const char *name, int64_t id) {
    test_spoil(in_dir(name), model_file, "token_embeddings.weight", id * tiny_base().model_dim, NAN);
}

// Beside the family: models of which something is broken.
static int set_up(void **state) {
    test_family_set_up(state);
    copy_dir("base", "nan");
    copy_dir("base", "inf");
    make_loose("loose");
    test_spoil(in_dir("nan"), model_file, last_norm, 3, NAN);
    test_spoil(in_dir("inf"), model_file, last_norm, 3, -INFINITY);
    copy_dir("aux", "nan_aux");
    test_spoil(in_dir("nan_aux"), model_file, last_norm, 0, NAN);
    copy_dir("aux", "nan_keys"); // which the look-ahead needs, and predictors too
    test_spoil(in_dir("nan_keys"), model_file, "layers.0.attn.qkv_proj.weight", 0, NAN);
    copy_dir("predictor", "nan_predictor");
    test_spoil(in_dir("nan_predictor"), "predictor.safetensors", "", 0, NAN);
    char command[512]; // its description says which weights it had
    snprintf(command, sizeof command, "sed -i '/\"fingerprint\"/d' %s/predictor.json",
             in_dir("nan_predictor"));
    return system(command);
}

// ---- kvrun ---------------------------------------------------------------------------------------------

#define BROKEN "--base", in_dir("nan"), "--tokenizer", in_dir("tokenizer.model"), "-n", "4"
static const char first[] = ": the first token of the answer: the logits are not finite (id 0 has ";

static void expect_not_finite(int status, const char *name) {
    char part[160];
    snprintf(part, sizeof part, "kvrun: %s%s", name, first);
    expect_one_line(status, part);
}

static void every_way_to_ask(void **state) {
    (void)state;
    expect_not_finite(kvrun(BROKEN, "hello"), "base");
    expect_not_finite(kvrun(BROKEN, "--quiet", "--ids", "hello"), "base");
    expect_not_finite(
        kvrun(BROKEN, "-T", "0.8", "--top-k", "5", "--top-p", "0.9", "--min-p", "0.01", "hello"), "base");
    expect_not_finite(kvrun(BROKEN, "--json", "hello"), "base");
    expect_not_finite(kvrun(BROKEN, "--stop", "x", "--prompt-ids", "5 6 7"), "base");
    expect_not_finite(kvrun(BROKEN, "--dtype", "bf16", "hello"), "base");
    expect_not_finite(kvrun(BROKEN, "--dtype", "f16", "hello"), "base");
    expect_not_finite(kvrun("--base", in_dir("inf"), "--prompt-ids", "5", "--ids", "-n", "1"), "base");
    expect_not_finite(kvrun("--base", in_dir("inf"), "--dtype", "f16", "--prompt-ids", "5", "--ids"), "base");
    expect_not_finite(kvrun(BROKEN, "--prune", "lazy:0.5-0.25", "hello there, all of you"), "pruned");
    expect_not_finite(kvrun(BROKEN, "--prune", "static:0.5", "hello there, all of you"), "pruned");
    // Of two, the first that has no numbers is named.
    expect_not_finite(kvrun(BROKEN, "--prune", "random:0.5", "--compare", "--json", "hello"), "base");
    expect_not_finite(kvrun(BROKEN, "--prune", "random:0.5", "--compare", "--repeats", "3", "hello"), "base");
}

static void what_stands_beside_the_base(void **state) {
    (void)state;
    const char *nan_predictor = in_dir("nan_predictor");
    expect_not_finite(kvrun(BASE, "--aux", in_dir("aux"), "--predictor", nan_predictor, "hello there"),
                      "KVP");
    expect_not_finite(
        kvrun(BASE, "--aux", in_dir("aux"), "--predictor", nan_predictor, "--compare", "hello there"), "KVP");
    expect_not_finite(
        kvrun(BASE, "--aux", in_dir("nan_keys"), "--predictor", in_dir("predictor"), "hello there"), "KVP");
    expect_one_line(
        kvrun(BASE, "--aux", in_dir("nan_aux"), "--prune", "speculative:0.5", "hello there, all of you"),
        "pruned: the first token of the answer: the aux's look-ahead: the logits are not finite");
    // Nothing is wrong with what is not used: predictors do not read the aux's last norm.
    if (kvrun(BASE, "--aux", in_dir("nan_aux"), "--predictor", in_dir("predictor"), "hello there"))
        fail_msg("%s", kvrun_err);
}

// The token that is broken comes in the middle of the answer: what was right stays, in a line of its own, and is no
// success.
static void in_the_middle_of_an_answer(void **state) {
    (void)state;
    char ids[4][16], line[128];
    static const char *const how[] = {"--prompt-ids", "5 6 7", "-n",    "4",      "-T", "1",
                                      "--seed",       "3",     "--ids", "--quiet"};
    const char *good[16] = {"--base", in_dir("loose")}, *late[16] = {"--base", in_dir("loose_late")};
    memcpy(good + 2, how, sizeof how);
    memcpy(late + 2, how, sizeof how);
    assert_int_equal(kvrun_list(good), 0);
    assert_int_equal(sscanf(kvrun_out, "%15s %15s %15s %15s", ids[0], ids[1], ids[2], ids[3]), 4);
    assert_true(strcmp(ids[0], ids[1]) != 0);
    copy_dir("loose", "loose_late");
    spoil_id("loose_late", strtol(ids[1], NULL, 10));
    assert_int_equal(kvrun_list(late), 1);
    snprintf(line, sizeof line, "%s %s\n", ids[0], ids[1]);
    assert_string_equal(kvrun_out, line);
    assert_non_null(strstr(kvrun_err, "kvrun: base: token 3 of the answer: the logits are not finite"));
    assert_int_equal(kvrun("--base", in_dir("loose_late"), "--tokenizer", in_dir("tokenizer.model"),
                           "--prompt-ids", "5 6 7", "-n", "4", "-T", "1", "--seed", "3", "--json"),
                     1);
    assert_non_null(strstr(kvrun_err, "token 3 of the answer"));
    assert_string_equal(kvrun_out, "");
}

// ---- kveval --------------------------------------------------------------------------------------------

static int kveval(const char *const *arguments) {
    const char *all[16] = {getenv("KVEVAL")};
    assert_non_null(all[0]);
    for (int i = 0; arguments[i]; i++) all[i + 1] = arguments[i];
    return test_run(all, -1, out, err, sizeof out);
}
#define kveval(...) kveval((const char *const[]){__VA_ARGS__, NULL})

// Two tasks, one of them of multiple choice; `base` first, and the systems behind it.
static void write_config(const char *name, const char *base, const char *systems) {
    FILE *file = fopen(in_dir(name), "w");
    assert_non_null(file);
    fprintf(file,
            "output: %s/%s.out\ntokenizer: %s/tokenizer.model\nbatch_size: 1\nbootstrap: 100\nsystems:\n"
            "  - {name: base, model: %s/%s}\n",
            test_dir, name, test_dir, test_dir, base);
    for (const char *c = systems; *c; c++) *c == '@' ? fputs(test_dir, file) : fputc(*c, file);
    fprintf(
        file,
        "tasks:\n  - {name: facts, file: %s/questions.jsonl, max_tokens: 3}\n"
        "  - {name: arc, kind: arc_easy, file: %s/arc.jsonl}\n"
        "budgets: [1.0]\nttft: {prompt_tokens: 8, batch_size: 2, repeats: 2, prompts: [4], batches: [1]}\n",
        test_dir, test_dir);
    assert_int_equal(fclose(file), 0);
}

// Seven questions each; the sixth alone has a letter that is no letter of the others.
static void write_tasks(void) {
    FILE *questions = fopen(in_dir("questions.jsonl"), "w"), *arc = fopen(in_dir("arc.jsonl"), "w");
    assert_true(questions && arc);
    for (int i = 0; i < 7; i++) {
        const char *letter = i == 5 ? "\u03a9" : "a";
        fprintf(questions,
                "{\"question\": \"Of %d and %s?\", \"answer\": {\"value\": \"x\", \"aliases\": [\"x\"]}}\n",
                i, letter);
        fprintf(arc,
                "{\"id\": \"%d\", \"question\": \"Of %s?\", \"choices\": {\"text\": [\"one\", \"two\"], "
                "\"label\": [\"A\", \"B\"]}, \"answerKey\": \"B\"}\n",
                i, letter);
    }
    assert_true(fclose(questions) == 0 && fclose(arc) == 0);
}

// The model `late` cannot read that letter.
static void make_late(void) {
    kv_tokenizer *tokenizer;
    kv_error why = {0};
    int32_t *ids;
    int64_t n;
    static const char letter[] = "\u03a9";
    write_tasks();
    if (kv_tokenizer_open(in_dir("tokenizer.model"), &tokenizer, &why)) fail_msg("%s", why.message);
    assert_int_equal(kv_tokenizer_encode(tokenizer, letter, strlen(letter), &ids, &n, &why), KV_OK);
    copy_dir("loose", "late");
    spoil_id("late", ids[n - 1]);
    free(ids);
    kv_tokenizer_free(tokenizer);
}

static kv_results read_results(const char *path) {
    kv_results results;
    kv_error why = {0};
    if (kv_results_read_h5(path, &results, &why)) fail_msg("%s", why.message);
    return results;
}

// The line of the table (the first from `text` on) that begins with a name.
static void expect_row(const char *text, const char *name, const char *part) {
    char start[64], line[512];
    snprintf(start, sizeof start, " %s ", name);
    const char *row = strstr(text, start);
    if (!row) fail_msg("no row of %s in %s", name, text);
    snprintf(line, sizeof line, "%.*s", (int)strcspn(row, "\n"), row);
    if (!strstr(line, part)) fail_msg("expected '%s' in '%s'", part, line);
}

static void check_files(const char *dir) {
    char *csv = test_read_text(test_path(dir, "results.csv"));
    for (char *save = NULL, *row = strtok_r(csv, "\n", &save); row; row = strtok_r(NULL, "\n", &save)) {
        const bool broken = !strncmp(row, "nan,", 4) || !strncmp(row, "late,", 5);
        assert_true(broken == (strstr(row, ",not finite,") != NULL));
        if (!broken) continue;
        const char *field = row;
        for (int i = 0; i < 5; i++) field = strchr(field, ',') + 1;
        assert_true(field[0] == ',' && field[1] == ',');         // neither accuracy nor retention
        assert_non_null(strstr(field, ",0,,,0,0,,not finite,")); // nor is it on the front
    }
    free(csv);
    char *budgets = test_read_text(test_path(dir, "budgets.csv"));
    assert_null(strstr(budgets, ",nan,"));
    assert_null(strstr(budgets, ",late,"));
    assert_non_null(strstr(budgets, ",pruned,"));
    free(budgets);
    kv_results r = read_results(test_path(dir, "results.h5"));
    for (int64_t s = 0; s < r.n_systems; s++)
        for (int64_t t = 0; t < r.n_tasks; t++) {
            const kv_outcome *o = kv_results_outcome(&r, s, t);
            const bool broken = s == 1 || s == 2;
            assert_true(!o->values == broken && !o->not_finite == !broken);
            assert_true(isnan(o->figures[0].accuracy) == broken &&
                        isnan(o->figures[0].p_value) == (broken || s == 0));
        }
    assert_non_null(strstr(kv_results_outcome(&r, 1, 0)->not_finite, "questions.jsonl:1: the first token"));
    assert_non_null(strstr(kv_results_outcome(&r, 2, 0)->not_finite, "questions.jsonl:6: the first token"));
    assert_non_null(strstr(kv_results_outcome(&r, 2, 1)->not_finite, "arc.jsonl:6: choice 1: token "));
    assert_true(isnan(r.timings[0].seconds[1]) && r.timings[0].seconds[3] > 0);
    kv_results_free(&r);
}

static void a_row_that_is_no_score(void **state) {
    (void)state;
    make_late();
    write_config("some.yaml", "loose",
                 "  - {name: nan, family: broken, model: @/nan}\n"
                 "  - {name: late, family: broken, model: @/late}\n"
                 "  - {name: pruned, family: RP, model: @/loose, pruning: random, keep: 0.5}\n");
    for (int again = 0; again < 2; again++) {
        if (kveval(in_dir("some.yaml")) != 0) fail_msg("%s", err);
        for (const char *table = out; (table = strstr(table, "items, prompts of")); table++) {
            expect_row(table, "nan", "not finite");
            expect_row(table, "late", "not finite");
            expect_row(table, "pruned", " %");
        }
        assert_non_null(strstr(out, "late is not finite: "));
        assert_non_null(strstr(err, "kveval: warning: `nan` is not finite on facts validation: "));
        assert_non_null(strstr(err, "kveval: warning: `late` is not finite on arc validation: "));
        assert_non_null(strstr(err, "kveval: warning: `nan` is not finite on random prompts"));
        check_files(in_dir("some.yaml.out"));
    }
    // What is known of it is not asked again, and is not taken for an answer.
    char *samples = test_read_text(test_path(in_dir("some.yaml.out"), "samples/facts-validation/late.jsonl"));
    int n_lines = 0, n_bad = 0;
    for (char *save = NULL, *line = strtok_r(samples, "\n", &save); line;
         line = strtok_r(NULL, "\n", &save)) {
        n_lines++;
        n_bad += !strncmp(line, "{\"not_finite\":\"", 15) && strstr(line, "\"unit\":5");
    }
    assert_int_equal(n_lines, 5); // a block of four, and that one
    assert_int_equal(n_bad, 1);
    free(samples);
    // Reports say the same, by whatever they are drawn, alone and joined.
    const char *h5 = test_path(in_dir("some.yaml.out"), "results.h5");
    char report[256];
    snprintf(report, sizeof report, "%s", in_dir("report"));
    if (kveval("report", h5, h5, "--y", "retention", "--output", report) != 0) fail_msg("%s", err);
    expect_row(out, "late", "not finite");
    check_files(report);
}

static void a_base_that_is_not_finite(void **state) {
    (void)state;
    write_tasks();
    write_config("none.yaml", "nan",
                 "  - {name: pruned, family: RP, model: @/loose, pruning: random, keep: 0.5}\n");
    assert_int_equal(kveval(in_dir("none.yaml")), 1);
    const char *last =
        strstr(err, "kveval: the base `base` is not finite on facts validation, so that nothing can be "
                    "compared with it; ");
    assert_true(last && strchr(last, '\n')[1] == '\0');
    expect_row(out, "base", "not finite");
    expect_row(out, "pruned", " %");
    assert_null(strstr(out, "nanx"));
    assert_non_null(strstr(out, "it is the base: nothing can be compared with it"));
    kv_results r = read_results(test_path(in_dir("none.yaml.out"), "results.h5"));
    const kv_figure *f = &kv_results_outcome(&r, 1, 0)->figures[0];
    assert_true(f->accuracy >= 0 && isnan(f->retention) && isnan(f->p_value));
    kv_results_free(&r);
}

// ---- kvdata --------------------------------------------------------------------------------------------

static const char *looked_at(const char *name) {
    const char *const arguments[] = {getenv("KVDATA"), "inspect", "--hash", in_dir(name), NULL};
    assert_int_equal(test_run(arguments, -1, out, err, sizeof out), 0);
    return out;
}

static void weights_that_are_looked_at(void **state) {
    (void)state;
    const char *const found = strstr(looked_at("nan"), "1 weights are NaN or infinite, the first in norm\n");
    if (!found) fail_msg("%s", out);
    assert_null(strstr(looked_at("base"), "infinite"));
    assert_null(strstr(looked_at("loose"), "infinite"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_way_to_ask),           cmocka_unit_test(what_stands_beside_the_base),
        cmocka_unit_test(in_the_middle_of_an_answer), cmocka_unit_test(a_row_that_is_no_score),
        cmocka_unit_test(a_base_that_is_not_finite),  cmocka_unit_test(weights_that_are_looked_at),
    };
    return cmocka_run_group_tests(tests, set_up, test_dir_tear_down);
}

// kveval --seeds and kveval seeds: every seed evaluated from its own paths, then the means. On random models, another one
// behind each seed's name. KVEVAL names the program.
#include "tests/support/eval.h"

#include "data/file/csv.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char out[1 << 16], err[1 << 16];

#define EXPECT(status, ...)                                                                                  \
    test_expect_run("KVEVAL", status, (const char *const[]){__VA_ARGS__, NULL}, out, err, sizeof out)

static const char config[] =
    "output: @/out/s{seed}/eval\n"
    "tokenizer: @/tokenizer.model\nbootstrap: 100\n"
    "systems:\n"
    "  - {name: base, model: \"@/base\"}\n"
    "  - {name: small, model: \"@/model{seed}\"}\n"
    "tasks:\n"
    "  - {name: atlas, split: trained, file: \"@/questions_trained.jsonl\", limit: 4, max_tokens: 2}\n"
    "  - {name: text, kind: text, corpus: \"@/train.jsonl\", window: 32, prompt: 24, limit: 6}\n"
    "picture: {line: small}\n";

// As other seeds of one model: what each is, is of no matter.
static int set_up(void **state) {
    if (test_family_set_up(state)) return -1;
    test_write_config(test_path(test_dir, "seeds.yaml"), config);
    return symlink("aux", test_path(test_dir, "model1")) || symlink("base", test_path(test_dir, "model2"));
}

static const char *in_dir(const char *name) {
    return test_path(test_dir, name);
}

static void expect_text(const char *text, const char *part) {
    if (!strstr(text, part)) fail_msg("expected '%s' in:\n%s", part, text);
}

static double number(const kv_csv_table *table, int64_t row, const char *column) {
    return strtod(kv_csv_cell(table, row, kv_csv_column(table, column)), NULL);
}

static int64_t row_of(const kv_csv_table *table, const char *system, const char *metric) {
    for (int64_t r = 0; r < table->n_rows; r++)
        if (!strcmp(kv_csv_cell(table, r, kv_csv_column(table, "system")), system) &&
            !strcmp(kv_csv_cell(table, r, kv_csv_column(table, "metric")), metric))
            return r;
    fail_msg("no row of %s, %s", system, metric);
    return -1;
}

static kv_csv_table read_table(const char *name) {
    kv_csv_table table;
    kv_error error = {0};
    if (kv_csv_read(in_dir(name), &table, &error)) fail_msg("%s", error.message);
    return table;
}

// The means are those of the two evaluations' own files.
static void all_seeds(void **state) {
    (void)state;
    EXPECT(0, in_dir("seeds.yaml"), "--seeds", "2", "--no-ttft");
    expect_text(err, "kveval: seed 2 of 2");
    expect_text(out, "2 evaluations, seeds 1, 2: mean ± standard deviation");
    kv_csv_table means = read_table("out/s1-2/eval/seeds.csv");
    kv_csv_table one = read_table("out/s1/eval/results.csv"), two = read_table("out/s2/eval/results.csv");
    const int64_t m = row_of(&means, "small", "tail_nll");
    const double a = number(&one, row_of(&one, "small", "tail_nll"), "accuracy"),
                 b = number(&two, row_of(&two, "small", "tail_nll"), "accuracy");
    assert_true(a != b);
    // Numbers of nine digits.
    assert_true(fabs(number(&means, m, "accuracy_mean") - (a + b) / 2) < 1e-8);
    assert_true(fabs(number(&means, m, "accuracy_sd") - fabs(a - b) / sqrt(2)) < 2e-8);
    assert_true(number(&means, m, "way_mean") == 0);
    assert_int_equal(access(in_dir("out/s1-2/eval/pareto.gp"), F_OK), 0);
    kv_csv_table_free(&means);
    kv_csv_table_free(&one);
    kv_csv_table_free(&two);
    // By hand; what the above has left is no evaluation.
    EXPECT(0, "seeds", in_dir("out/s1/eval"), in_dir("out/s2/eval/results.h5"), in_dir("out/s1-2/eval"),
           "--against", "small", "-o", in_dir("out/joined"));
    expect_text(err, "s1-2/eval is left out: means over seeds, and no evaluation");
    expect_text(out, "each minus small");
    assert_int_equal(access(in_dir("out/joined/significance.csv"), F_OK), 0);
}

static void refused(void **state) {
    (void)state;
    EXPECT(1, in_dir("seeds.yaml"), "--seeds", "2", "-s", "tasks[0].prompt_cache=b/{system}.h5");
    expect_text(
        err,
        "key `tasks[0].prompt_cache`: found b/{system}.h5, expected {seed} in it: with --seeds each seed has prompts");
    EXPECT(1, in_dir("seeds.yaml"), "--seeds", "2", "-o", in_dir("same"));
    expect_text(err, "key `output`: found ");
    expect_text(err, "expected {seed} in it");
    assert_int_not_equal(access(in_dir("same"), F_OK), 0);
    EXPECT(2, in_dir("seeds.yaml"), "--seeds", "2", "-s", "seed = 3");
    EXPECT(2, in_dir("seeds.yaml"), "--seeds", "0");
    EXPECT(2, in_dir("seeds.yaml"), "--seeds", "two");
    EXPECT(1, in_dir("seeds.yaml"), "--seeds", "3", "--no-ttft");
    expect_text(err, "model3");
    assert_int_not_equal(access(in_dir("out/s1-3"), F_OK), 0);
    EXPECT(0, in_dir("seeds.yaml"), "--seeds", "2", "--dry-run");
    expect_text(out, "s1/eval");
    expect_text(out, "s2/eval");
    EXPECT(2, "seeds");
    EXPECT(1, "seeds", in_dir("none"));
    EXPECT(1, "seeds", in_dir("out/s1-2/eval"));
    expect_text(err, "found no evaluation");
    EXPECT(1, "seeds", in_dir("out/s1/eval"), "--against", "large");
    expect_text(err, "--against: found 'large', expected the name of a system, as `base`");
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(all_seeds), cmocka_unit_test(refused)};
    return cmocka_run_group_tests(tests, set_up, test_dir_tear_down);
}

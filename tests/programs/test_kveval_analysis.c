// kveval's `analysis`, `kveval sources` and `picture.published` as their users meet them, on a family of random models. KVEVAL
// and KVDATA name the programs.
#include "tests/support/eval.h"

#include "eval/results/results.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char out[1 << 16], err[1 << 16];

static const char *in_dir(const char *name) {
    return test_path(test_dir, name);
}

static int run_within(const char *program, int64_t max_file_bytes, const char *const *arguments) {
    const char *all[32] = {getenv(program)};
    assert_non_null(all[0]);
    for (int i = 0; arguments[i]; i++) all[i + 1] = arguments[i];
    return test_run(all, max_file_bytes, out, err, sizeof out);
}

#define run(program, ...) run_within(program, -1, (const char *const[]){__VA_ARGS__, NULL})

// kveval with an analysis of these settings ("sequences: 5"), without tasks and clock, to a place of its own.
static int analyse(const char *corpus, const char *settings, const char *output) {
    char override[512];
    snprintf(override, sizeof override, "analysis={corpus: %s%s%s}", corpus, *settings ? ", " : "", settings);
    return run("KVEVAL", in_dir("eval.yaml"), "--no-ttft", "-o", in_dir(output), "-s", override, "-s",
               "tasks=[]");
}

static void expect_one_line(int status, const char *part) {
    const char *newline = strchr(err, '\n');
    if (status != 1 || !newline || newline[1] != '\0' || !strstr(err, part))
        fail_msg("expected status 1 and one line with '%s', found %d: %s", part, status, err);
}

static kv_results read_results(const char *name) {
    kv_results results;
    kv_error error = {0};
    if (kv_results_read_h5(in_dir(name), &results, &error)) fail_msg("%s", error.message);
    return results;
}

static int tokenize(const char *tokenizer, const char *text, const char *shard) {
    return run("KVDATA", "tokenize", "--min-chars", "0", "--min-tokens", "0", "-t", in_dir(tokenizer), "-o",
               in_dir(shard), in_dir(text));
}

static int set_up(void **state) {
    test_family_set_up(state);
    if (tokenize("tokenizer.model", "held_out.jsonl", "text.h5")) fail_msg("%s", err);
    return 0;
}

// ---- What is refused -----------------------------------------------------------------------------------

static void mistakes_are_one_line(void **state) {
    (void)state;
    const char *text = in_dir("text.h5");
    static const struct {
        const char *settings, *part;
    } cases[] = {
        {"sequences: 0", "analysis.sequences`: found 0, expected at least 1"},
        {"seq_len: -1", "analysis.seq_len`: found -1, expected at least 0"},
        {"seq_len: 97", "analysis.seq_len`: found 97 tokens, expected at most the context of the base "},
        {"bins: 0", "analysis.bins`: found 0, expected at least 1"},
        {"bins: 10001", "analysis.bins`: found 10001, expected at most 10000"},
        {"bin: 5", "unknown key"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        expect_one_line(analyse(text, cases[i].settings, "none"), cases[i].part);
    expect_one_line(analyse("/nowhere.h5", "", "none"), "key `analysis.corpus`: /nowhere.h5");
    expect_one_line(analyse(in_dir("eval.yaml"), "", "none"), "key `analysis.corpus`: ");
    expect_one_line(run("KVEVAL", in_dir("eval.yaml"), "-s", "analysis.bins=7"),
                    "key `analysis`: expected a `corpus`");
    assert_int_equal(test_dir_count(in_dir("none")), -1);
}

// So a sweep can evaluate its base before its first predictor is there; the corpus is looked at all the same.
static void without_a_predictor_it_is_noted_and_left_out(void **state) {
    (void)state;
    char systems[512], analysis[512];
    snprintf(systems, sizeof systems, "systems=[{name: base, model: %s/base}]", test_dir);
    snprintf(analysis, sizeof analysis, "analysis.corpus=%s", in_dir("text.h5"));
    if (run("KVEVAL", in_dir("eval.yaml"), "--no-ttft", "-o", in_dir("alone"), "-s", analysis, "-s", systems))
        fail_msg("%s", err);
    assert_non_null(strstr(err, "no system with a `predictor`"));
    kv_results results = read_results("alone/results.h5");
    assert_null(results.analysis.corpus);
    kv_results_free(&results);
    expect_one_line(run("KVEVAL", in_dir("eval.yaml"), "-o", in_dir("none"), "-s",
                        "analysis.corpus=/nowhere.h5", "-s", systems),
                    "key `analysis.corpus`: /nowhere.h5");
    assert_int_equal(test_dir_count(in_dir("none")), -1);
}

static void a_text_of_other_tokens_is_refused(void **state) {
    (void)state;
    assert_int_equal(
        run("KVDATA", "tokenizer", "-i", in_dir("train.jsonl"), "-v", "380", "-o", in_dir("other")), 0);
    assert_int_equal(tokenize("other.model", "held_out.jsonl", "other.h5"), 0);
    expect_one_line(analyse(in_dir("other.h5"), "", "none"), "key `analysis.corpus`: ");
    assert_int_equal(test_dir_count(in_dir("none")), -1);
}

// ---- What it leaves ------------------------------------------------------------------------------------

static void a_whole_run(void **state) {
    (void)state;
    char override[512];
    snprintf(override, sizeof override, "analysis={corpus: %s, sequences: 6, seq_len: 40, bins: 11}",
             in_dir("text.h5"));
    if (run("KVEVAL", in_dir("eval.yaml"), "--no-ttft", "-o", in_dir("whole"), "-s", override))
        fail_msg("%s", err);
    assert_non_null(strstr(err, "base on atlas trained"));
    assert_non_null(strstr(err, "KVP, predicted caches"));
    assert_null(strstr(err, "base, predicted caches"));
    assert_non_null(strstr(out, "6 sequences of 40 tokens of "));
    kv_results r = read_results("whole/results.h5");
    const kv_analysis *a = &r.analysis;
    assert_int_equal(a->sequences, 6);
    assert_int_equal(a->bins, 11);
    assert_true(a->systems[0].n_layers == 0 && a->systems[1].n_layers == 0 && a->systems[2].n_layers == 3);
    const kv_error_figures *f = &a->systems[2].value;
    double counted = 0;
    for (int b = 0; b < 11; b++) counted += f->histogram[b];
    assert_true(counted == 6 * 40 * 8); // one head of 8 in layer 0
    for (int i = 0; i < 3 * 40; i++) assert_true(f->error[i] > 0);
    assert_true(f->explained[0] < 1 && isfinite(f->explained[0]));
    for (int i = 0; i < 3; i++) {
        assert_true(fabs(a->systems[2].attention_cosine[i]) < 1);
        assert_true(a->systems[2].predicted[i] == 1);
    }
    kv_results_free(&r);
    char *csv = test_read_text(in_dir("whole/errors.csv"));
    assert_non_null(strstr(csv, "\nKVP,KVP-C,keys,0,"));
    assert_non_null(strstr(csv, "\nKVP,KVP-C,values,2,"));
    assert_non_null(strstr(csv, "\nKVP,KVP-C,attention,2,,,,"));
    free(csv);
    csv = test_read_text(in_dir("whole/fidelity.csv"));
    assert_non_null(strstr(csv, "\nKVP,KVP-C,atlas,"));
    free(csv);
    assert_int_equal(access(in_dir("whole/correlations.csv"), F_OK), 0);
    assert_int_equal(access(in_dir("whole/layers.dat"), F_OK), 0);
    assert_int_equal(access(in_dir("whole/fidelity.dat"), F_OK), 0);
    assert_null(strstr(out, "correlation")); // of one system
    assert_int_equal(access(in_dir("whole/published.csv"), F_OK), -1);
    if (run("KVDATA", "inspect", in_dir("whole"))) fail_msg("%s", err);
    assert_non_null(strstr(out, "explained variance of predicted values in %, 6 x 40 tokens of "));
    assert_non_null(strstr(out, "cosine of attention outputs with predicted caches, 6 x 40 tokens of "));
    assert_non_null(strstr(out, "errors.csv"));
    if (run("KVDATA", "inspect", "--json", in_dir("whole"))) fail_msg("%s", err);
    assert_non_null(strstr(out, "\"explained\""));
}

// Of the base's own first two layers two are exact, and all means are the third's.
static void a_prefix_predicts_what_lies_above_it(void **state) {
    (void)state;
    char systems[512], override[512];
    snprintf(systems, sizeof systems, "systems=[{name: base, model: %s}, {name: P, base: %s, predictor: %s}]",
             in_dir("base"), in_dir("base"), in_dir("prefix"));
    snprintf(override, sizeof override, "analysis={corpus: %s, sequences: 4}", in_dir("text.h5"));
    if (run("KVEVAL", in_dir("eval.yaml"), "--no-ttft", "-o", in_dir("prefixed"), "-s", systems, "-s",
            override, "-s", "tasks=[]"))
        fail_msg("%s", err);
    assert_non_null(strstr(out, "1 of 3"));
    kv_results r = read_results("prefixed/results.h5");
    const kv_cache_analysis *e = &r.analysis.systems[1];
    assert_int_equal(e->n_layers, 3);
    assert_true(e->predicted[0] == 0 && e->predicted[1] == 0 && e->predicted[2] == 1);
    assert_true(e->attention_cosine[0] == 1 && e->attention_cosine[1] == 1 && e->attention_cosine[2] < 1);
    kv_results_free(&r);
    char *csv = test_read_text(in_dir("prefixed/errors.csv"));
    assert_non_null(strstr(csv, "\nP,P,attention,1,,,,1,0\n"));
    free(csv);
}

// Without `analysis` nothing of an earlier one is left behind.
static void another_run_without_leaves_no_errors(void **state) {
    (void)state;
    if (analyse(in_dir("text.h5"), "sequences: 2", "again")) fail_msg("%s", err);
    assert_int_equal(access(in_dir("again/errors.csv"), F_OK), 0);
    assert_int_equal(access(in_dir("again/layers.dat"), F_OK), 0);
    assert_int_equal(access(in_dir("again/fidelity.csv"), F_OK), -1); // nothing was asked
    if (run("KVEVAL", in_dir("eval.yaml"), "--no-ttft", "-o", in_dir("again"), "-s", "tasks=[]"))
        fail_msg("%s", err);
    assert_int_equal(access(in_dir("again/errors.csv"), F_OK), -1);
    assert_int_equal(access(in_dir("again/layers.dat"), F_OK), -1);
    assert_int_equal(access(in_dir("again/results.csv"), F_OK), 0);
    assert_null(strstr(out, "predicted caches"));
}

// A text with fewer rows gives what it has, at the length that fits all: the context of 96.
static void short_texts_and_default_lengths(void **state) {
    (void)state;
    if (analyse(in_dir("text.h5"), "", "short")) fail_msg("%s", err);
    kv_results r = read_results("short/results.h5");
    assert_int_equal(r.analysis.seq_len, 96);
    assert_int_equal(r.analysis.bins, 101);
    assert_true(r.analysis.sequences > 1 && r.analysis.sequences < 64);
    char note[64];
    snprintf(note, sizeof note, "has %d rows of 96 tokens, not 64", (int)r.analysis.sequences);
    assert_non_null(strstr(err, note));
    kv_results_free(&r);
}

// ---- Going on ------------------------------------------------------------------------------------------

static void expect_same(const char *one, const char *other) {
    kv_results a = read_results(one), b = read_results(other);
    for (int i = 0; i < KV_CACHE_ARRAYS; i++) {
        const kv_analysis_array x = kv_cache_analysis_array(&a.analysis.systems[2], &a.analysis, i);
        const kv_analysis_array y = kv_cache_analysis_array(&b.analysis.systems[2], &b.analysis, i);
        assert_int_equal(x.size, y.size);
        assert_memory_equal(x.values, y.values, (size_t)x.size * sizeof *x.values);
    }
    kv_results_free(&a);
    kv_results_free(&b);
}

static void what_is_known_is_not_measured_again(void **state) {
    (void)state;
    const char *settings = "sequences: 4, seq_len: 20, bins: 9";
    char *text = strdup(in_dir("text.h5")), *first = strdup(in_dir("first.h5"));
    if (analyse(text, settings, "kept")) fail_msg("%s", err);
    assert_int_equal(rename(in_dir("kept/results.h5"), first), 0);
    if (analyse(text, settings, "kept")) fail_msg("%s", err);
    assert_null(strstr(err, "predicted caches"));
    expect_same("first.h5", "kept/results.h5");
    // The same when the record is cut short, and measured anew.
    char *journal = strdup(in_dir("kept/samples/analysis-predicted-caches/KVP.jsonl"));
    struct stat info;
    assert_int_equal(stat(journal, &info), 0);
    assert_int_equal(truncate(journal, info.st_size / 2), 0);
    if (analyse(text, settings, "kept")) fail_msg("%s", err);
    assert_non_null(strstr(err, "KVP, predicted caches"));
    expect_same("first.h5", "kept/results.h5");
    // A record that says what it cannot is no record.
    char *record = test_read_text(journal), *name = strstr(record, "\"key_edges\"");
    assert_non_null(name);
    memcpy(name, "\"key_edgez\"", 11);
    test_write_text(journal, record);
    if (analyse(text, settings, "kept")) fail_msg("%s", err);
    assert_non_null(strstr(err, "KVP, predicted caches"));
    expect_same("first.h5", "kept/results.h5");
    // Other settings, other figures.
    static const char *const others[] = {"sequences: 4, seq_len: 20, bins: 8",
                                         "sequences: 3, seq_len: 20, bins: 8",
                                         "sequences: 3, seq_len: 19, bins: 8"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        if (analyse(text, others[i], "kept")) fail_msg("%s", err);
        assert_non_null(strstr(err, "KVP, predicted caches"));
        if (analyse(text, others[i], "kept")) fail_msg("%s", err);
        assert_null(strstr(err, "predicted caches"));
    }
    // Another text under the same settings.
    if (tokenize("tokenizer.model", "train.jsonl", "all.h5")) fail_msg("%s", err);
    if (analyse(in_dir("all.h5"), others[2], "kept")) fail_msg("%s", err);
    assert_non_null(strstr(err, "KVP, predicted caches"));
    free(record), free(journal), free(text), free(first);
}

// No place for the record; then, with the record there, none for the results: samples stay, of everything
// else nothing does.
static void full_disk_leaves_only_samples(void **state) {
    (void)state;
    char override[512];
    snprintf(override, sizeof override, "analysis={corpus: %s, sequences: 4, bins: 500}", in_dir("text.h5"));
    char *config = strdup(in_dir("eval.yaml")), *full = strdup(in_dir("full"));
    const char *const arguments[] = {config, "--no-ttft", "-o", full, "-s", override, "-s", "tasks=[]", NULL};
    for (int64_t size = 3000; size <= 30000; size *= 3) {
        assert_int_equal(run_within("KVEVAL", size, arguments), 1);
        assert_non_null(strstr(err, "KVP.jsonl: cannot write"));
        assert_int_equal(test_dir_count(full), 1);
    }
    assert_int_equal(run_within("KVEVAL", -1, arguments), 0);
    assert_int_equal(rename(in_dir("full/samples"), in_dir("samples")), 0);
    test_dir_remove(full);
    assert_int_equal(mkdir(full, 0777), 0);
    assert_int_equal(rename(in_dir("samples"), in_dir("full/samples")), 0);
    for (int64_t size = 3000; size <= 12000; size *= 2) {
        assert_int_equal(run_within("KVEVAL", size, arguments), 1);
        assert_null(strstr(err, "predicted caches")); // it is known
        if (!strstr(err, "results.h5")) fail_msg("%s", err);
        assert_int_equal(test_dir_count(full), 1);
    }
    free(config), free(full);
}

// ---- Reports -------------------------------------------------------------------------------------------

static void reports_join_what_is_of_one_text(void **state) {
    (void)state;
    char *text = strdup(in_dir("text.h5"));
    char *a = strdup(in_dir("part_a/results.h5")), *b = strdup(in_dir("part_b/results.h5"));
    if (analyse(text, "sequences: 4", "part_a")) fail_msg("%s", err);
    if (analyse(text, "sequences: 5", "part_b")) fail_msg("%s", err);
    if (run("KVEVAL", "report", a, b, "-o", in_dir("joined"))) fail_msg("%s", err);
    assert_non_null(strstr(err, "note: predicted caches in "));
    assert_non_null(strstr(out, "4 sequences of 96 tokens"));
    kv_results joined = read_results("joined/results.h5");
    assert_int_equal(joined.analysis.sequences, 4);
    assert_int_equal(joined.analysis.systems[2].n_layers, 3);
    kv_results_free(&joined);
    assert_int_equal(access(in_dir("joined/errors.csv"), F_OK), 0);
    if (run("KVEVAL", "report", a, a)) fail_msg("%s", err);
    assert_string_equal(err, "");
    free(a), free(b), free(text);
}

// ---- How many layers -----------------------------------------------------------------------------------

// kveval sources between the family's models, on its text, with two more arguments.
static int sources(const char *option, const char *value) {
    char *base = strdup(in_dir("base")), *aux = strdup(in_dir("aux")), *text = strdup(in_dir("text.h5")),
         *tokenizer = strdup(in_dir("tokenizer.model"));
    const int status = run("KVEVAL", "sources", "--base", base, "--aux", aux, "--text", text, "--tokenizer",
                           tokenizer, "--window", "32", option, value);
    free(base), free(aux), free(text), free(tokenizer);
    return status;
}

static void sources_of_keys_and_values(void **state) {
    (void)state;
    if (sources("--out", in_dir("layers"))) fail_msg("%s", err);
    assert_non_null(strstr(out, "mean over the 3 layers of the base; "));
    assert_non_null(strstr(out, "keys from inputs"));
    assert_non_null(strstr(out, "\n         2 "));
    char *csv = test_read_text(in_dir("layers/sources.csv"));
    assert_non_null(strstr(csv, "read,kind,layer,aux_layers,held_out,fit,order\nkv,keys,0,1,"));
    assert_non_null(strstr(csv, "\nh,values,2,2,"));
    free(csv);
    assert_int_equal(access(in_dir("layers/sources.dat"), F_OK), 0);
    // Only to look at, and from text files.
    char *base = strdup(in_dir("base")), *text = strdup(in_dir("held_out.jsonl")),
         *tokenizer = strdup(in_dir("tokenizer.model"));
    if (run("KVEVAL", "sources", "--base", base, "--aux", base, "--text", text, "--tokenizer", tokenizer,
            "--read", "h", "--order", "greedy", "--counts", "1,3", "--ridge", "1e-6"))
        fail_msg("%s", err);
    assert_non_null(strstr(out, "layers greedy, ridge 1e-06"));
    assert_null(strstr(out, "from keys"));
    assert_non_null(strstr(out, " 100.0 %")); // a model's own inputs are what its keys and values are made of
    free(base), free(text), free(tokenizer);
}

static void mistakes_of_sources(void **state) {
    (void)state;
    static const struct {
        const char *option, *value, *part;
        int status;
    } cases[] = {
        {"--counts", "1,3", "--counts: found 3, but the aux has 2 layers", 1},
        {"--window", "97", "--window: found 97, expected at most the context of base and aux, 96", 1},
        {"--text", "/nowhere.h5", "/nowhere.h5", 1},
        {"--aux", "/nowhere", "/nowhere", 1},
        {"--counts", "2,1", "--counts: found '2,1', expected whole numbers from 1 that grow", 2},
        {"--counts", "1,", "--counts: found '1,', expected whole numbers", 2},
        {"--order", "best", "--order: found 'best', expected ranked or greedy", 2},
        {"--read", "k", "--read: found 'k', expected kv, h or all", 2},
        {"--ridge", "-1", "--ridge: found '-1', expected a number from 0", 2},
        {"--tokens", "0", "--tokens: found '0', expected a whole number from 1", 2},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const int status = sources(cases[i].option, cases[i].value);
        if (status != cases[i].status || !strstr(err, cases[i].part))
            fail_msg("expected %d and '%s', found %d: %s", cases[i].status, cases[i].part, status, err);
        assert_string_equal(out, "");
    }
    assert_int_equal(run("KVEVAL", "sources", "--base", in_dir("base")), 2);
    assert_non_null(strstr(err, "--base, --aux and --text are needed"));
    // A model of another vocabulary, a directory without a tokenizer, a text that is too short.
    expect_one_line(sources("--aux", in_dir("stranger")), "vocabulary");
    char *base = strdup(in_dir("base")), *text = strdup(in_dir("text.h5"));
    expect_one_line(run("KVEVAL", "sources", "--base", base, "--aux", base, "--text", text),
                    "found no tokenizer, expected one");
    free(base), free(text);
    char *aux = strdup(in_dir("aux")), *held_out = strdup(in_dir("held_out.jsonl")),
         *tokenizer = strdup(in_dir("tokenizer.model"));
    assert_int_equal(run("KVEVAL", "sources", "--base", in_dir("base"), "--aux", aux, "--text", held_out,
                         "--tokenizer", tokenizer, "--tokens", "4", "--window", "4", "--ridge", "0"),
                     1);
    if (!strstr(err, "--ridge 0, --tokens 4: ")) fail_msg("%s", err);
    free(aux), free(held_out), free(tokenizer);
    test_write_text(in_dir("short.jsonl"), "{\"text\": \"Question: Which?\"}\n");
    expect_one_line(sources("--text", in_dir("short.jsonl")), "expected two windows of 32 at least");
}

// ---- The paper's figures -------------------------------------------------------------------------------

static void published_figures_are_copied(void **state) {
    (void)state;
    static const char table[] = "picture.published=triviaqa-openelm-1.1b";
    if (run("KVEVAL", in_dir("eval.yaml"), "--no-ttft", "-o", in_dir("published"), "-s", table))
        fail_msg("%s", err);
    char *copy = test_read_text(in_dir("published/published.csv")),
         *original = test_read_text(test_fixture("../eval/published/triviaqa-openelm-1.1b.csv"));
    assert_string_equal(copy, original);
    char *data = test_read_text(in_dir("published/pareto.dat"));
    assert_non_null(strstr(data, "OE450M"));
    free(data);
    // As numbers alone, in the same place.
    if (run("KVEVAL", in_dir("eval.yaml"), "--no-ttft", "-o", in_dir("published"), "-s", table, "-s",
            "picture.draw_published=false"))
        fail_msg("%s", err);
    assert_int_equal(access(in_dir("published/published.csv"), F_OK), 0);
    data = test_read_text(in_dir("published/pareto.dat"));
    assert_null(strstr(data, "OE450M"));
    free(data);
    if (run("KVEVAL", "report", in_dir("published/results.h5"), "-p", "humaneval-openelm-1.1b", "-o",
            in_dir("published")))
        fail_msg("%s", err);
    free(copy), free(original);
    copy = test_read_text(in_dir("published/published.csv"));
    assert_int_equal(strncmp(copy, "model,family,flops_reduction,pass@1,pass@10\n", 44), 0);
    free(copy);
    // Shares of a base's score, beside accuracies.
    static const char shares[] = "picture.published=hellaswag-qwen3-1.7b";
    if (run("KVEVAL", in_dir("eval.yaml"), "--dry-run", "-s", shares) != 1) fail_msg("%s", out);
    assert_non_null(
        strstr(err, "key `picture.published`: `hellaswag-qwen3-1.7b` has shares of the base's score"));
    if (run("KVEVAL", in_dir("eval.yaml"), "--dry-run", "-s", shares, "-s", "picture.y=retention") ||
        run("KVEVAL", in_dir("eval.yaml"), "--dry-run", "-s", shares, "-s", "picture.draw_published=false"))
        fail_msg("%s", err);
    if (run("KVEVAL", "report", in_dir("published/results.h5"), "-p", "hellaswag-qwen3-1.7b") != 1)
        fail_msg("%s", out);
    assert_non_null(strstr(err, "kveval: `hellaswag-qwen3-1.7b` has shares of the base's score"));
    // None are asked for any more: none are left.
    if (run("KVEVAL", in_dir("eval.yaml"), "--no-ttft", "-o", in_dir("published"))) fail_msg("%s", err);
    assert_int_equal(access(in_dir("published/published.csv"), F_OK), -1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mistakes_are_one_line),
        cmocka_unit_test(without_a_predictor_it_is_noted_and_left_out),
        cmocka_unit_test(a_text_of_other_tokens_is_refused),
        cmocka_unit_test(a_whole_run),
        cmocka_unit_test(a_prefix_predicts_what_lies_above_it),
        cmocka_unit_test(another_run_without_leaves_no_errors),
        cmocka_unit_test(short_texts_and_default_lengths),
        cmocka_unit_test(what_is_known_is_not_measured_again),
        cmocka_unit_test(full_disk_leaves_only_samples),
        cmocka_unit_test(reports_join_what_is_of_one_text),
        cmocka_unit_test(sources_of_keys_and_values),
        cmocka_unit_test(mistakes_of_sources),
        cmocka_unit_test(published_figures_are_copied),
    };
    return cmocka_run_group_tests(tests, set_up, test_dir_tear_down);
}

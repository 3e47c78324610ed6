// The program kveval as its users meet it, on a family of random models. KVEVAL names the program.
#include "tests/support/eval.h"

#include "core/flops.h"
#include "data/checkpoint/checkpoint.h"
#include "data/checkpoint/tabulated.h"
#include "data/file/h5.h"
#include "eval/results/results.h"
#include "tests/support/predictors/parts.h"

#include <jansson.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { N_SYSTEMS = 3, N_TRAINED = 12, N_HELD_OUT = 9 };

static char out[1 << 16], err[1 << 16];

static const char *in_dir(const char *name) {
    return test_path(test_dir, name);
}

// Runs kveval with the arguments up to the first NULL.
static int kveval_within(int64_t max_file_bytes, const char *const *arguments) {
    const char *all[32] = {getenv("KVEVAL")};
    assert_non_null(all[0]);
    for (int i = 0; arguments[i]; i++) all[i + 1] = arguments[i];
    return test_run(all, max_file_bytes, out, err, sizeof out);
}

#define kveval(...) kveval_within(-1, (const char *const[]){__VA_ARGS__, NULL})

static void expect_one_line(int status, const char *part) {
    const char *newline = strchr(err, '\n');
    if (status != 1 || !newline || newline[1] != '\0' || strncmp(err, "kveval: ", 8) != 0 ||
        !strstr(err, part))
        fail_msg("expected status 1 and one line with '%s', found %d: %s", part, status, err);
    assert_string_equal(out, "");
}

// ---- Usage ---------------------------------------------------------------------------------------------

static void help_and_version(void **state) {
    (void)state;
    assert_int_equal(kveval("--help"), 0);
    assert_non_null(strstr(out, "Usage: kveval"));
    assert_non_null(strstr(out, "systems:"));
    assert_int_equal(kveval("--version"), 0);
    assert_non_null(strstr(out, "kveval " KV_VERSION " (commit "));
}

static void wrong_usage(void **state) {
    (void)state;
    assert_int_equal(kveval("--nonsense"), 2);
    assert_int_equal(kveval("-s", "batch_size", in_dir("eval.yaml")), 2);
    const char *const none[] = {NULL};
    assert_int_equal(kveval_within(-1, none), 2);
    assert_int_equal(kveval("one.yaml", "two.yaml"), 2);
    static const char *const limits[] = {"0", "-3", "ten", "1.5", ""};
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        assert_int_equal(kveval("--limit", limits[i], in_dir("eval.yaml")), 2);
        if (!strstr(err, "expected a whole number from 1")) fail_msg("%s: %s", limits[i], err);
    }
}

// ---- Bad input -----------------------------------------------------------------------------------------

static void mistakes_are_one_line(void **state) {
    (void)state;
    const char *config = in_dir("eval.yaml");
    static const struct {
        const char *override, *part;
    } cases[] = {
        {"batchsize=3", "found an unknown key"},
        {"systems[1].model=/nowhere/at/all", "systems[1].model`: model: /nowhere/at/all"},
        {"systems[2].predictor=/nowhere", "systems[2].predictor`: predictor: /nowhere"},
        {"tokenizer=/nowhere/t.model", "key `tokenizer`: /nowhere/t.model"},
        {"tasks[1].file=/nowhere/q.jsonl", "key `tasks[1].file`: /nowhere/q.jsonl"},
        {"tasks[0].max_tokens=90", "do not fit the context of 96 tokens of `base`"},
        {"ttft.prompt_tokens=97",
         "key `ttft.prompt_tokens`: found 97, expected at most the context of `base`, 96"},
        {"output=/proc/nothing", "key `output`: /proc"},
        {"limit=-1", "key `limit`: found -1, expected at least 0"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        expect_one_line(kveval(config, "-s", cases[i].override), cases[i].part);
    expect_one_line(kveval(in_dir("missing.yaml")), "missing.yaml");
    assert_int_equal(test_dir_count(in_dir("eval")), -1);
}

static void dry_run_leaves_nothing(void **state) {
    (void)state;
    if (kveval(in_dir("eval.yaml"), "--dry-run") != 0) fail_msg("%s", err);
    assert_non_null(strstr(out, "systems      base | "));
    assert_non_null(strstr(out, "items, "));
    // Which may be large: weights are left alone.
    assert_int_equal(rename(in_dir("base/model.safetensors"), in_dir("away")), 0);
    assert_int_equal(kveval(in_dir("eval.yaml"), "--dry-run"), 0);
    assert_int_equal(rename(in_dir("away"), in_dir("base/model.safetensors")), 0);
    expect_one_line(kveval(in_dir("eval.yaml"), "--dry-run", "-s", "tasks[0].max_tokens=90"),
                    "do not fit the context");
    assert_int_equal(test_dir_count(in_dir("eval")), -1);
}

static void pairs_are_checked(void **state) {
    (void)state;
    // A predictor made for another base: the aux has the right shape for neither side.
    char override[512];
    snprintf(override, sizeof override, "systems[2].base=%s", in_dir("aux"));
    expect_one_line(kveval(in_dir("eval.yaml"), "-s", override), "systems[2].predictor");
    // One of the base's own first layers, with an aux.
    snprintf(override, sizeof override, "systems[2].predictor=%s", in_dir("prefix"));
    expect_one_line(kveval(in_dir("eval.yaml"), "-s", override),
                    "the base's own first 2 layers (prefix_layers), expected no aux");
    expect_one_line(kveval(in_dir("eval.yaml"), "-s", override), "key `systems[2].aux`: aux ");
    // One of an aux, without.
    snprintf(override, sizeof override, "systems=[{name: b, model: %s}, {name: p, base: %s, predictor: %s}]",
             in_dir("base"), in_dir("base"), in_dir("predictor"));
    expect_one_line(kveval(in_dir("eval.yaml"), "-s", override), "needs an aux beside the base");
    expect_one_line(kveval(in_dir("eval.yaml"), "-s", override), "key `systems[1].predictor`: ");
    snprintf(override, sizeof override, "systems[1].model=%s", in_dir("stranger"));
    expect_one_line(kveval(in_dir("eval.yaml"), "-s", override),
                    "stranger: vocabulary of 61 tokens, expected at least the 400 of the tokenizer");
    snprintf(override, sizeof override, "systems[2].aux=%s", in_dir("stranger"));
    expect_one_line(kveval(in_dir("eval.yaml"), "-s", override), "key `systems[2].aux`: aux ");
}

// Of the last system, before the weights of the first: which are gone.
static void pairs_are_checked_before_weights(void **state) {
    (void)state;
    char override[256];
    snprintf(override, sizeof override, "systems[2].aux=%s", in_dir("stranger"));
    assert_int_equal(rename(in_dir("base/model.safetensors"), in_dir("away")), 0);
    expect_one_line(kveval(in_dir("eval.yaml"), "-s", override), "key `systems[2].aux`: aux ");
    expect_one_line(kveval(in_dir("eval.yaml"), "-s", "tasks[1].max_tokens=90"), "do not fit the context");
    expect_one_line(kveval(in_dir("eval.yaml")), "key `systems[0].model`: ");
    assert_int_equal(rename(in_dir("away"), in_dir("base/model.safetensors")), 0);
}

static void a_padded_aux(void **state) {
    (void)state;
    kv_model_spec spec;
    assert_int_equal(kv_checkpoint_spec(in_dir("aux"), &spec, NULL), KV_OK);
    spec.vocab_size += 20;
    kv_model *model = tiny_model(&spec, 2);
    mkdir(in_dir("padded"), 0777);
    assert_int_equal(kv_checkpoint_save(in_dir("padded"), model, NULL), KV_OK);
    kv_model_free(model);
    char override[256];
    snprintf(override, sizeof override, "systems[2].aux=%s", in_dir("padded"));
    if (kveval(in_dir("eval.yaml"), "-s", override, "-o", in_dir("padded-eval")) != 0) fail_msg("%s", err);
    test_dir_remove(in_dir("padded-eval"));
    test_dir_remove(in_dir("padded"));
}

// Samples stay, since they are what the next try goes on from; of everything else nothing does.
static void full_disk_leaves_only_samples(void **state) {
    (void)state;
    const int64_t before = test_dir_count(test_dir);
    char *directory = strdup(in_dir("full"));
    // Enough for what goes to the terminal, not for the files: the first of them, and later ones.
    for (int64_t size = 1500; size <= 12000; size *= 2) {
        const char *const arguments[] = {in_dir("eval.yaml"), "--no-ttft", "-o", directory, NULL};
        const int status = kveval_within(size, arguments);
        assert_int_equal(status, 1);
        assert_non_null(strstr(err, "kveval: "));
        assert_int_equal(test_dir_count(test_dir), before + 1);
        assert_int_equal(test_dir_count(directory), 1);
        test_dir_remove(directory);
    }
    free(directory);
}

// ---- What it leaves ------------------------------------------------------------------------------------

enum { N_FIELDS = 32 };

// Fields of a row of results.csv, in place; quotes are not expected but in the first.
static int split_row(char *row, char *fields[N_FIELDS]) {
    int n = 0;
    bool inside = false;
    fields[n++] = row;
    for (; *row; row++) {
        if (*row == '"') inside = !inside;
        if (*row != ',' || inside) continue;
        *row = '\0';
        fields[n++] = row + 1;
    }
    return n;
}

static void check_csv(const char *path, bool timed) {
    char *text = test_read_text(path), *fields[N_FIELDS], *save = NULL;
    char *row = strtok_r(text, "\n", &save);
    assert_int_equal(
        strncmp(row, "system,family,task,split,metric,accuracy,retention,flops_reduction_paper,", 73), 0);
    int n_rows = 0;
    while ((row = strtok_r(NULL, "\n", &save))) {
        assert_int_equal(split_row(row, fields), N_FIELDS);
        assert_string_equal(fields[31], "higher");
        assert_string_equal(fields[30], atoi(fields[12]) ? "each" : "");
        assert_string_equal(fields[27], fields[14]); // nothing of the token alone
        assert_string_equal(fields[28], fields[14]);
        assert_string_equal(fields[29], "0");
        assert_string_equal(fields[4], "exact_match");
        const double accuracy = strtod(fields[5], NULL), paper = strtod(fields[7], NULL);
        const double low = strtod(fields[16], NULL), high = strtod(fields[17], NULL);
        assert_true(*fields[5] && accuracy >= 0 && accuracy <= 1 && low <= accuracy && accuracy <= high);
        if (n_rows < 2) assert_true(paper == 1 && strtod(fields[8], NULL) == 1 && !*fields[18]);
        if (n_rows >= 2) assert_true(paper > 1 && strtod(fields[8], NULL) > 1 && *fields[18]);
        assert_int_equal(*fields[9] != '\0', timed);
        assert_int_equal(strtol(fields[13], NULL, 10), n_rows % 2 ? N_HELD_OUT : N_TRAINED);
        // Of the base nothing, of others where the base knows something at all.
        if (n_rows < 2) assert_true(!*fields[20] && !*fields[21]);
        if (n_rows >= 2 && *fields[6]) assert_true(strtod(fields[20], NULL) <= strtod(fields[6], NULL));
        n_rows++;
    }
    assert_int_equal(n_rows, N_SYSTEMS * 2);
    free(text);
}

static void check_samples(const char *path, int n_expected) {
    char *text = test_read_text(path), *save = NULL;
    int n = 0;
    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save), n++) {
        json_t *sample = json_loads(line, 0, NULL);
        static const char *const keys[] = {"task",   "split",      "system",  "question",
                                           "prompt", "generation", "verdict", "run"};
        for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
            assert_true(json_is_string(json_object_get(sample, keys[i])));
        assert_true(json_array_size(json_object_get(sample, "answers")) > 0);
        json_decref(sample);
    }
    assert_int_equal(n, n_expected);
    free(text);
}

static kv_results read_results(const char *path) {
    kv_results results;
    kv_error error = {0};
    if (kv_results_read_h5(path, &results, &error)) fail_msg("%s", error.message);
    return results;
}

static void check_h5(const char *path) {
    kv_results r = read_results(path);
    assert_int_equal(r.n_systems, N_SYSTEMS);
    assert_int_equal(r.n_tasks, 2);
    assert_int_equal(r.tasks[1].n_items, N_HELD_OUT);
    assert_int_equal(r.n_timings, 1);
    assert_int_equal(r.timings[0].batch_size, 2);
    assert_non_null(strstr(r.configs[0], "max_tokens: 6"));
    const double *flops = r.timings[0].flops;
    assert_true(flops[0] > flops[2] && flops[2] > flops[1]);
    assert_true(r.timings[0].samples[2] > 0);
    kv_results_free(&r);
    kv_error error = {0};
    hid_t file;
    char program[32];
    if (kv_h5_open(path, &file, &error)) fail_msg("%s", error.message);
    assert_int_equal(kv_h5_attr_string(file, "/", "program", program, sizeof program, &error), KV_OK);
    assert_string_equal(program, KV_VERSION);
    kv_h5_close(&file, &error);
}

static void a_whole_run(void **state) {
    (void)state;
    if (kveval(in_dir("eval.yaml"))) fail_msg("%s", err);
    assert_non_null(strstr(out, "aux, alone"));
    assert_non_null(strstr(out, "KVP-C"));
    assert_non_null(strstr(out, "±"));
    assert_non_null(strstr(err, "base on atlas trained"));
    check_csv(in_dir("eval/results.csv"), true);
    check_samples(in_dir("eval/samples/atlas-trained/base.jsonl"), N_TRAINED);
    check_samples(in_dir("eval/samples/atlas-held-out/KVP.jsonl"), N_HELD_OUT);
    check_h5(in_dir("eval/results.h5"));
    if (!strstr(err, "not drawn")) {
        assert_int_equal(access(in_dir("eval/pareto.svg"), F_OK), 0);
        assert_int_equal(access(in_dir("eval/pareto.png"), F_OK), 0);
    }
    // Into the same directory once more: other files stay, nothing temporary does.
    test_write_text(in_dir("eval/notes.txt"), "mine");
    const int64_t entries = test_dir_count(in_dir("eval")), around = test_dir_count(test_dir);
    if (kveval(in_dir("eval.yaml"), "--no-ttft", "-s", "tasks[0].shots=1", "-s", "batch_size=64"))
        fail_msg("%s", err);
    check_csv(in_dir("eval/results.csv"), false);
    assert_null(strstr(out, "±"));
    assert_int_equal(test_dir_count(in_dir("eval")), entries);
    assert_int_equal(test_dir_count(test_dir), around);
}

static void expect_same_answers(const char *one, const char *other) {
    kv_results a = read_results(one), b = read_results(other);
    for (int64_t i = 0; i < a.n_systems * a.n_tasks; i++) {
        const kv_result_task *t = &a.tasks[i % a.n_tasks];
        assert_memory_equal(a.outcomes[i].values, b.outcomes[i].values,
                            (size_t)(t->n_metrics * t->n_items) * sizeof(double));
        for (int64_t u = 0; u < t->n_units; u++) {
            json_t *x = json_loads(a.outcomes[i].records[u], 0, NULL);
            json_t *y = json_loads(b.outcomes[i].records[u], 0, NULL);
            assert_int_equal(json_object_del(x, "run") | json_object_del(y, "run"), 0);
            assert_true(json_equal(x, y));
            json_decref(x), json_decref(y);
        }
    }
    kv_results_free(&a);
    kv_results_free(&b);
}

// Answers do not depend on how many questions are asked together.
// Systems whose aux is the base itself: nothing of it is loaded, or counted, twice.
static void a_prefix_is_no_second_model(void **state) {
    (void)state;
    char systems[1024];
    snprintf(systems, sizeof systems,
             "systems=[{name: base, model: %s/base}, {name: two, base: %s/base/, predictor: %s/prefix}, "
             "{name: one, base: %s/base, predictor: \"random:prefix=1\"}]",
             test_dir, test_dir, test_dir, test_dir);
    if (kveval(in_dir("eval.yaml"), "--dry-run", "-s", systems, "-s", "ttft.prompt_tokens=0") != 0)
        fail_msg("%s", err);
    assert_non_null(strstr(out, "systems      base | two | one"));
    if (kveval(in_dir("eval.yaml"), "-s", systems, "-o", in_dir("prefixes")) != 0) fail_msg("%s", err);
    assert_null(strstr(out, "lookups")); // nothing of the token alone is read
    kv_results r = read_results(in_dir("prefixes/results.h5"));
    kv_model_spec spec = tiny_base();
    spec.vocab_size = 400;
    const double whole = (double)kv_spec_size(&spec, true);
    for (int s = 1; s < 3; s++) {
        spec.n_layers = 3 - s;
        const kv_outcome *o = kv_results_outcome(&r, s, 0);
        assert_true(fabs(r.systems[s].paper_reduction - whole / (double)kv_spec_size(&spec, true)) < 1e-12);
        assert_true(o->exact_reduction > 1 && r.timings[0].seconds[s] > 0);
        assert_true(r.systems[s].lookups == 0 && o->flops == o->flops_computed &&
                    o->flops == o->flops_looked_up);
    }
    assert_true(kv_results_outcome(&r, 2, 0)->flops < kv_results_outcome(&r, 1, 0)->flops);
    assert_true(strcmp(r.systems[1].hash, r.systems[2].hash) != 0);
    assert_true(strcmp(r.systems[1].hash, r.systems[0].hash) != 0);
    kv_results_free(&r);
}

// A first layer that is computed is read from the embedding, and could be looked up whole: both counts are shown.
static void lookups_are_shown(void **state) {
    (void)state;
    const test_part part = {
        .name = "exact", .keys = "h1", .values = "h1", .map = "linear", .exact_first = true};
    kv_error error = {0};
    kv_model_spec base = tiny_base(), aux = tiny_aux();
    char override[256];
    base.vocab_size = aux.vocab_size = 400;
    test_made made = test_part_make_of(&part, &base, &aux);
    mkdir(in_dir("exact"), 0777);
    if (kv_predictor_save(in_dir("exact"), made.predictor, NULL, &error)) fail_msg("%s", error.message);
    snprintf(override, sizeof override, "systems[2].predictor=%s", in_dir("exact"));
    if (kveval(in_dir("eval.yaml"), "--dry-run", "-s", override) != 0) fail_msg("%s", err);
    assert_non_null(strstr(out, "lookups"));
    if (kveval(in_dir("eval.yaml"), "--no-ttft", "-s", override, "-o", in_dir("looked")) != 0)
        fail_msg("%s", err);
    assert_non_null(strstr(out, "computed  looked up"));
    kv_results r = read_results(in_dir("looked/results.h5"));
    const kv_outcome *o = kv_results_outcome(&r, 2, 0);
    assert_true(r.systems[2].lookups == (double)kv_predictor_lookups(made.predictor, &base));
    assert_true(r.systems[0].lookups == 0 && r.systems[2].lookups > 0);
    assert_true(o->flops == o->flops_computed && o->flops_looked_up < o->flops);
    kv_results_free(&r);
    test_made_free(&made);
}

// A prefix with token tables beside its maps, saved and tabulated as float32.
static void save_tables(const char *dir, const char *file) {
    kv_error error = {0};
    kv_model *base;
    char of_base[17];
    if (kv_checkpoint_load(in_dir("base"), &base, &error) != KV_OK) fail_msg("%s", error.message);
    kv_predictor_spec *spec = test_alloc(1, sizeof *spec);
    kv_predictor *p;
    kv_predictor_spec_prefix(&base->spec, 1, spec);
    kv_predictor_spec_set_table(spec, 4);
    for (int side = 0; side < KV_SIDES; side++)
        kv_sources_add(&spec->outputs[side][2].sources, KV_SOURCE_EMBEDDING, 0);
    kv_checkpoint_fingerprint(base, of_base);
    if (kv_predictor_create(&base->spec, &base->spec, spec, &p, &error) != KV_OK ||
        kv_predictor_init(p, base, 7, &error) != KV_OK ||
        kv_predictor_save(dir, p, &(kv_fingerprints){.base = of_base}, &error) != KV_OK ||
        kv_tabulated_write(file, p, base, of_base, &base->spec, KV_F32, NULL, NULL, &error) != KV_OK)
        fail_msg("%s", error.message);
    kv_predictor_free(p);
    kv_model_free(base);
    free(spec);
}

static void tabulated_answers_are_the_same(void **state) {
    (void)state;
    char systems[1024], other[600];
    save_tables(in_dir("tables"), in_dir("tables.safetensors"));
    snprintf(systems, sizeof systems,
             "systems=[{name: base, model: %s/base}, {name: computed, base: %s/base, predictor: %s/tables}, "
             "{name: looked_up, base: %s/base, predictor: %s/tables, tabulated: %s/tables.safetensors}]",
             test_dir, test_dir, test_dir, test_dir, test_dir, test_dir);
    if (kveval(in_dir("eval.yaml"), "--dry-run", "-s", systems) != 0) fail_msg("%s", err);
    assert_non_null(strstr(out, "systems      base | computed | looked_up (tabulated)"));
    assert_non_null(strstr(out, "lookups      looked_up: "));
    if (kveval(in_dir("eval.yaml"), "-s", systems, "-o", in_dir("tabulated")) != 0) fail_msg("%s", err);
    kv_results r = read_results(in_dir("tabulated/results.h5"));
    const kv_outcome *computed = kv_results_outcome(&r, 1, 0), *looked_up = kv_results_outcome(&r, 2, 0);
    assert_true(computed->values[0] == looked_up->values[0]);
    assert_true(computed->flops == computed->flops_computed &&
                looked_up->flops == looked_up->flops_looked_up);
    assert_true(computed->flops_looked_up == looked_up->flops && looked_up->flops < computed->flops);
    assert_true(computed->flops == looked_up->flops_computed);
    assert_true(strcmp(r.systems[1].hash, r.systems[2].hash) != 0 && r.systems[2].lookups > 0);
    kv_results_free(&r);
    // Before any weights: another predictor's tables, or none.
    snprintf(other, sizeof other, "systems[2].predictor=%s", in_dir("prefix"));
    expect_one_line(kveval(in_dir("eval.yaml"), "-s", systems, "-s", other), "key `systems[2].tabulated`: ");
    snprintf(other, sizeof other, "systems[2].tabulated=%s", in_dir("base/model.safetensors"));
    expect_one_line(kveval(in_dir("eval.yaml"), "-s", systems, "-s", other), "no tabulated predictor");
    snprintf(other, sizeof other, "systems[0].tabulated=%s", in_dir("tables.safetensors"));
    expect_one_line(kveval(in_dir("eval.yaml"), "-s", systems, "-s", other),
                    "`tabulated` without `predictor`");
}

static void batches_change_nothing(void **state) {
    (void)state;
    const char *config = in_dir("eval.yaml");
    if (kveval(config, "--no-ttft", "-s", "batch_size=1", "-o", in_dir("one"))) fail_msg("%s", err);
    if (kveval(config, "--no-ttft", "-s", "batch_size=8", "-o", in_dir("eight"))) fail_msg("%s", err);
    expect_same_answers(in_dir("one/results.h5"), in_dir("eight/results.h5"));
}

static void first_run(const char *path, char run[64]) {
    char *text = test_read_text(path), *end = strchr(text, '\n');
    assert_non_null(end);
    *end = '\0';
    json_t *sample = json_loads(text, 0, NULL);
    snprintf(run, 64, "%s", json_string_value(json_object_get(sample, "run")));
    json_decref(sample);
    free(text);
}

// Weights in another type go with predictors that were made for the stored ones, and are another system whose
// answers are its own.
static void weights_in_another_type(void **state) {
    (void)state;
    char stored[64], same[64], narrow[64];
    const char *sample = "typed/samples/atlas-held-out/KVP.jsonl";
    if (kveval(in_dir("eval.yaml"), "--no-ttft", "-o", in_dir("typed"))) fail_msg("%s", err);
    first_run(in_dir(sample), stored);
    if (kveval(in_dir("eval.yaml"), "--no-ttft", "-o", in_dir("typed"), "-s", "dtype=stored"))
        fail_msg("%s", err);
    first_run(in_dir(sample), same);
    if (kveval(in_dir("eval.yaml"), "--no-ttft", "-o", in_dir("typed"), "-s", "dtype=bf16"))
        fail_msg("%s", err);
    first_run(in_dir(sample), narrow);
    assert_string_equal(stored, same);
    assert_string_not_equal(stored, narrow);
    expect_one_line(kveval(in_dir("eval.yaml"), "-s", "dtype=f64"), "`dtype`");
}

// ---- Stopping and going on -----------------------------------------------------------------------------

// Starts kveval in a process of its own, silent.
static pid_t start(const char *const *arguments) {
    FILE *quiet = tmpfile();
    assert_non_null(quiet);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        dup2(fileno(quiet), STDOUT_FILENO), dup2(fileno(quiet), STDERR_FILENO);
        execv(arguments[0], (char *const *)arguments);
        _exit(127);
    }
    fclose(quiet);
    return child;
}

// Ctrl-C while it measures: exit status 130, no files but the samples.
static void interrupted(void **state) {
    (void)state;
    const int64_t before = test_dir_count(test_dir);
    const char *const arguments[] = {
        getenv("KVEVAL"), in_dir("eval.yaml"), "-s", "ttft.repeats=1000000", "-o", in_dir("stopped"), NULL};
    const pid_t child = start(arguments);
    while (test_alive(child) && test_dir_count(in_dir("stopped")) < 1) usleep(1000); // it is at work
    usleep(1500000);
    kill(child, SIGINT);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 130);
    assert_int_equal(test_dir_count(test_dir), before + 1);
    assert_int_equal(test_dir_count(in_dir("stopped")), 1);
}

// Keeps the first half of a file, which may end within a line.
static void halve(const char *path) {
    struct stat info;
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(truncate(path, info.st_size / 2), 0);
}

// A run that was killed at any place goes on from its samples and ends with the same figures, byte by byte.
static void killed_and_resumed(void **state) {
    (void)state;
    char *config = strdup(in_dir("eval.yaml"));
    if (kveval(config, "--no-ttft", "-o", in_dir("whole"))) fail_msg("%s", err);
    if (kveval(config, "--no-ttft", "-o", in_dir("resumed"))) fail_msg("%s", err);
    halve(in_dir("resumed/samples/atlas-trained/base.jsonl"));
    unlink(in_dir("resumed/samples/atlas-held-out/KVP.jsonl"));
    unlink(in_dir("resumed/results.csv"));
    // Killed for good once more, somewhere on the way.
    const char *const arguments[] = {getenv("KVEVAL"), config, "--no-ttft", "-o", in_dir("resumed"), NULL};
    const pid_t child = start(arguments);
    usleep(60000);
    kill(child, SIGKILL);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    if (kveval(config, "--no-ttft", "-o", in_dir("resumed"))) fail_msg("%s", err);
    char *a = test_read_text(in_dir("whole/results.csv")), *b = test_read_text(in_dir("resumed/results.csv"));
    assert_string_equal(a, b);
    free(a), free(b);
    expect_same_answers(in_dir("whole/results.h5"), in_dir("resumed/results.h5"));
    // What is there is taken as it is: a verdict that was changed by hand shows.
    char *path = strdup(in_dir("resumed/samples/atlas-trained/base.jsonl")), *text = test_read_text(path);
    for (char *c = text; (c = strstr(c, "\"verdict\":\"wrong\""));)
        memcpy(c, "\"verdict\":\"right\"", 17), c += 17;
    char *right = strstr(text, "\"right\"");
    assert_non_null(right);
    test_write_text(path, text);
    free(text), free(path);
    if (kveval(config, "--no-ttft", "-o", in_dir("resumed"))) fail_msg("%s", err);
    assert_non_null(strstr(err, "12 answered before"));
    // Another task under the same name, another run: nothing of it is taken.
    if (kveval(config, "--no-ttft", "-s", "tasks[0].max_tokens=5", "-o", in_dir("resumed")))
        fail_msg("%s", err);
    assert_null(strstr(err, "12 answered before"));
    assert_non_null(strstr(err, "9 answered before"));
    // Another seed likewise.
    if (kveval(config, "--no-ttft", "-s", "seed=2", "-o", in_dir("resumed"))) fail_msg("%s", err);
    text = test_read_text(in_dir("resumed/samples/atlas-trained/base.jsonl"));
    assert_null(strstr(text, "\"right\""));
    free(text), free(config);
}

static char *file_text(const char *name) {
    return test_read_text(in_dir(name));
}

// Ten questions first, then all of them, then ten again, in one directory: the figures are those of evaluations that
// never met, and what was answered stays for the other.
static void limits_share_a_directory(void **state) {
    (void)state;
    char *config = strdup(in_dir("eval.yaml")), *both = strdup(in_dir("both"));
    const char *const limited[] = {config,      "-s", "batch_size=1", "--limit", "10",
                                   "--no-ttft", "-o", both,           NULL};
    if (kveval(config, "-s", "batch_size=1", "--no-ttft", "-o", in_dir("all"))) fail_msg("%s", err);
    if (kveval(config, "-s", "batch_size=1", "--no-ttft", "--limit", "10", "-o", in_dir("few")))
        fail_msg("%s", err);
    if (kveval_within(-1, limited)) fail_msg("%s", err);
    assert_non_null(strstr(out, "atlas, trained: 10 items"));
    assert_non_null(strstr(out, "atlas, held-out: 9 items")); // its own limit is lower
    assert_null(strstr(err, "warning"));
    kv_results r = read_results(in_dir("both/results.h5"));
    assert_int_equal(r.tasks[0].n_items, 10);
    assert_non_null(strstr(r.configs[0], "limit: 10"));
    kv_results_free(&r);
    char *few = file_text("few/results.csv"), *again = file_text("both/results.csv");
    assert_string_equal(few, again);
    free(again);
    if (kveval(config, "-s", "batch_size=1", "--no-ttft", "-o", both)) fail_msg("%s", err);
    assert_non_null(strstr(err, "8 answered before")); // two blocks of four
    expect_same_answers(in_dir("all/results.h5"), in_dir("both/results.h5"));
    char *all = file_text("all/results.csv"), *found = file_text("both/results.csv");
    assert_string_equal(all, found);
    free(all), free(found);
    if (kveval_within(-1, limited)) fail_msg("%s", err);
    assert_non_null(strstr(err, "10 answered before"));
    again = file_text("both/results.csv");
    assert_string_equal(few, again);
    free(few), free(again);
    if (kveval(config, "-s", "batch_size=1", "--no-ttft", "-o", both)) fail_msg("%s", err);
    assert_non_null(strstr(err, "12 answered before"));
    assert_non_null(strstr(err, "9 answered before"));
    free(config), free(both);
}

// ---- Reports -------------------------------------------------------------------------------------------

static void reports_need_no_models(void **state) {
    (void)state;
    char *config = strdup(in_dir("eval.yaml"));
    char *a = strdup(in_dir("part_a")), *b = strdup(in_dir("part_b"));
    if (kveval(config, "-o", in_dir("both"))) fail_msg("%s", err);
    char override[512];
    snprintf(override, sizeof override,
             "systems=[{name: base, model: %s/base}, {name: KVP, family: KVP-C, base: %s/base, aux: %s/aux, "
             "predictor: %s/predictor}]",
             test_dir, test_dir, test_dir, test_dir);
    if (kveval(config, "-o", a, "-s", override)) fail_msg("%s", err);
    snprintf(override, sizeof override,
             "systems=[{name: base, model: %s/base}, {name: \"aux, alone\", family: aux, model: %s/aux}]",
             test_dir, test_dir);
    if (kveval(config, "-o", b, "-s", override)) fail_msg("%s", err);
    char *first = strdup(in_dir("part_a/results.h5")), *second = strdup(in_dir("part_b/results.h5"));
    if (kveval("report", first, second, "--output", in_dir("joined"))) fail_msg("%s", err);
    assert_non_null(strstr(out, "aux, alone"));
    assert_non_null(strstr(out, "KVP-C"));
    check_csv(in_dir("joined/results.csv"), true);
    kv_results joined = read_results(in_dir("joined/results.h5")),
               whole = read_results(in_dir("both/results.h5"));
    assert_int_equal(joined.n_systems, whole.n_systems);
    assert_int_equal(joined.n_configs, 2);
    assert_true(kv_results_outcome(&joined, 1, 0)->figures[0].accuracy ==
                kv_results_outcome(&whole, 2, 0)->figures[0].accuracy);
    kv_results_free(&joined), kv_results_free(&whole);
    assert_int_equal(kveval("report"), 2);
    assert_int_equal(kveval("report", first, "--x", "sideways"), 2);
    expect_one_line(kveval("report", config), "eval.yaml");
    expect_one_line(kveval("report", first, "/nowhere.h5"), "/nowhere.h5");
    free(a), free(b), free(first), free(second), free(config);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(help_and_version),
        cmocka_unit_test(wrong_usage),
        cmocka_unit_test(mistakes_are_one_line),
        cmocka_unit_test(dry_run_leaves_nothing),
        cmocka_unit_test(pairs_are_checked),
        cmocka_unit_test(pairs_are_checked_before_weights),
        cmocka_unit_test(a_padded_aux),
        cmocka_unit_test(full_disk_leaves_only_samples),
        cmocka_unit_test(a_whole_run),
        cmocka_unit_test(a_prefix_is_no_second_model),
        cmocka_unit_test(lookups_are_shown),
        cmocka_unit_test(tabulated_answers_are_the_same),
        cmocka_unit_test(batches_change_nothing),
        cmocka_unit_test(weights_in_another_type),
        cmocka_unit_test(interrupted),
        cmocka_unit_test(killed_and_resumed),
        cmocka_unit_test(limits_share_a_directory),
        cmocka_unit_test(reports_need_no_models),
    };
    return cmocka_run_group_tests(tests, test_family_set_up, test_dir_tear_down);
}

// kveval on text, with every kind of system, as its users meet it: figures, bad input, stopping and going on. KVEVAL
// names the program.
#include "tests/support/eval.h"

#include "eval/results/results.h"

#include <jansson.h>
#include <limits.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { N_SYSTEMS = 7 };

static char out[1 << 16], err[1 << 16];

static int kveval_with(const char *const *arguments) {
    const char *all[32] = {getenv("KVEVAL")};
    assert_non_null(all[0]);
    for (int i = 0; arguments[i]; i++) all[i + 1] = arguments[i];
    return test_run(all, -1, out, err, sizeof out);
}

#define kveval(...) kveval_with((const char *const[]){__VA_ARGS__, NULL})

static const char *in_dir(const char *name) {
    return test_path(test_dir, name);
}

// Writes text.yaml, "@" standing for the directory, and a shard of what the tokenizer was trained on.
static int set_up(void **state) {
    static const char config[] =
        "output: @/text\n"
        "tokenizer: @/tokenizer.model\n"
        "batch_size: 5\nbootstrap: 200\n"
        "systems:\n"
        "  - {name: base, model: @/base}\n"
        "  - {name: aux, model: @/aux}\n"
        "  - {name: KVP, base: @/base, aux: @/aux, predictor: @/predictor}\n"
        "  - {name: RP, model: @/base, pruning: random, keep: 0.5}\n"
        "  - {name: SP, model: @/base, pruning: static, keep: 0.5}\n"
        "  - {name: L, model: @/base, pruning: lazy, start: 0.75, end: 0.25}\n"
        "  - {name: SPF, base: @/base, aux: @/aux, pruning: speculative, keep: 0.5, lookahead: 2}\n"
        "tasks:\n"
        "  - {name: atlas, split: held-out, kind: text, corpus: @/text.h5, window: 48, prompt: 36, limit: 12}\n";
    test_family_set_up(state);
    test_write_config(in_dir("text.yaml"), config);
    const char *const tokenize[] = {getenv("KVDATA"),
                                    "tokenize",
                                    "--min-chars",
                                    "0",
                                    "--min-tokens",
                                    "0",
                                    "-t",
                                    in_dir("tokenizer.model"),
                                    "-o",
                                    in_dir("text.h5"),
                                    in_dir("train.jsonl"),
                                    NULL};
    if (test_run(tokenize, -1, out, err, sizeof out)) fail_msg("%s", err);
    return 0;
}

static double mean(const kv_results *r, int64_t system, int metric) {
    const kv_outcome *outcome = kv_results_outcome(r, system, 0);
    double sum = 0;
    for (int64_t i = 0; i < r->tasks[0].n_items; i++)
        sum += outcome->values[metric * r->tasks[0].n_items + i];
    return sum / (double)r->tasks[0].n_items;
}

// ---- Figures -------------------------------------------------------------------------------------------

static void all_systems(void **state) {
    (void)state;
    if (kveval("--no-ttft", in_dir("text.yaml"))) fail_msg("%s", err);
    kv_results r;
    kv_error error = {0};
    if (kv_results_read_h5(in_dir("text/results.h5"), &r, &error)) fail_msg("%s", error.message);
    assert_int_equal(r.n_systems, N_SYSTEMS);
    assert_int_equal(r.tasks[0].n_items, 12);
    assert_string_equal(r.tasks[0].kind, "text");
    assert_string_equal(r.tasks[0].file, in_dir("text.h5"));
    assert_true(r.tasks[0].prompt_tokens == 36);
    assert_non_null(r.tasks[0].weights);
    static const char *const metrics[] = {"tail_nll", "tail_perplexity", "bits_per_byte", "whole_nll",
                                          "whole_perplexity"};
    assert_int_equal(r.tasks[0].n_metrics, 5);
    for (int m = 0; m < 5; m++) assert_string_equal(r.tasks[0].metrics[m], metrics[m]);
    for (int64_t s = 0; s < N_SYSTEMS; s++) {
        const kv_outcome *outcome = kv_results_outcome(&r, s, 0);
        assert_true(fabs(outcome->figures[0].accuracy - mean(&r, s, 0)) < 1e-12);
        assert_true(fabs(outcome->figures[1].accuracy - exp(mean(&r, s, 0))) < 1e-9 * exp(mean(&r, s, 0)));
        const bool prunes = s >= 3; // a base's whole is its own, and no other model's
        assert_int_equal(mean(&r, s, 3) == mean(&r, 0, 3), s == 0 || prunes);
        assert_int_equal(mean(&r, s, 0) == mean(&r, 0, 0), s == 0);
    }
    kv_results_free(&r);
    char *csv = test_read_text(in_dir("text/results.csv"));
    for (int m = 0; m < 5; m++)
        if (!strstr(csv, metrics[m])) fail_msg("no %s in %s", metrics[m], csv);
    free(csv);
}

// The same text as a file is the same task: nothing is asked again.
static void a_file_is_its_shard(void **state) {
    (void)state;
    char set[160], *before = test_read_text(in_dir("text/results.csv"));
    snprintf(set, sizeof set, "tasks[0].corpus=%s", in_dir("train.jsonl"));
    if (kveval("--no-ttft", in_dir("text.yaml"), "-s", set)) fail_msg("%s", err);
    if (!strstr(err, "12 answered before")) fail_msg("%s", err);
    char *after = test_read_text(in_dir("text/results.csv"));
    assert_string_equal(after, before);
    free(before), free(after);
}

// ---- Bad input -----------------------------------------------------------------------------------------

static void mistakes_are_one_line(void **state) {
    (void)state;
    test_write_text(in_dir("empty.txt"), "");
    test_write_text(in_dir("stranger.jsonl"), "{\"text\": \"a b c\"}\n");
    const char *const train[] = {
        getenv("KVDATA"),         "tokenizer", "-v", "263", "-o", in_dir("stranger"), "-i",
        in_dir("stranger.jsonl"), NULL};
    if (test_run(train, -1, out, err, sizeof out)) fail_msg("%s", err);
    const char *const tokenize[] = {getenv("KVDATA"),
                                    "tokenize",
                                    "--min-chars",
                                    "0",
                                    "--min-tokens",
                                    "0",
                                    "-t",
                                    in_dir("stranger.model"),
                                    "-o",
                                    in_dir("stranger.h5"),
                                    in_dir("stranger.jsonl"),
                                    NULL};
    if (test_run(tokenize, -1, out, err, sizeof out)) fail_msg("%s", err);
    static const struct {
        const char *key, *value, *part; // "@" at the beginning of a value stands for the directory
    } cases[] = {
        {"window", "97",
         "key `tasks[0]`: windows of 97 tokens do not fit the context of 94 tokens of the aux of "
         "`SPF` (less 2 to look ahead): expected a smaller `window`"},
        {"window", "1", "key `tasks[0].window`: found 1, expected at least 2"},
        {"prompt", "48", "key `tasks[0].prompt`: found 48, expected less than `window`, 48"},
        {"prompt", "0", "key `tasks[0].prompt`: found 0, expected at least 1"},
        {"stride", "0", "key `tasks[0].stride`: found 0, expected at least 1"},
        {"limit", "-1", "key `tasks[0].limit`: found -1, expected at least 0"},
        {"corpus", "@/nowhere.h5", "nowhere.h5: No such file or directory"},
        {"corpus", "@/empty.txt", "empty.txt: found 0 tokens, expected at least the 48 of one window"},
        {"corpus", "@/tokenizer.model", "key `tasks[0].corpus`: "},
        {"corpus", "@/base/model.safetensors", "key `tasks[0].corpus`: "},
        {"corpus", "@/text/results.h5", "results.h5: results of kveval, expected a token shard"},
        {"corpus", "@/text/samples/atlas-held-out", "key `tasks[0].corpus`: "},
        {"corpus", "@/stranger.h5", "stranger.h5: made with another tokenizer, "},
        {"corpus", "@/stranger.jsonl", "stranger.jsonl: found "},
        {"kind", "prose", "key `tasks[0].kind`: found `prose`, expected one of "},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char set[200];
        const bool path = cases[i].value[0] == '@';
        snprintf(set, sizeof set, "tasks[0].%s=%s%s", cases[i].key, path ? test_dir : "",
                 cases[i].value + path);
        for (int dry = 0; dry < 2; dry++) {
            const int status = dry ? kveval("--dry-run", in_dir("text.yaml"), "-s", set)
                                   : kveval("--no-ttft", in_dir("text.yaml"), "-s", set, "-o", in_dir("bad"));
            const char *newline = strchr(err, '\n');
            if (status != 1 || !newline || newline[1] || !strstr(err, cases[i].part))
                fail_msg("%s: expected one line with '%s', found %d: %s", set, cases[i].part, status, err);
        }
        assert_int_equal(test_dir_count(in_dir("bad")), -1);
    }
}

// A path is read as the shell's: from where the program stands.
static void relative_paths(void **state) {
    (void)state;
    char here[512];
    assert_non_null(getcwd(here, sizeof here));
    assert_int_equal(chdir(test_dir), 0);
    const int status = kveval("--dry-run", "text.yaml", "-s", "tasks[0].corpus=./text.h5");
    assert_int_equal(chdir(here), 0);
    if (status != 0) fail_msg("%s", err);
    assert_non_null(strstr(out, "atlas, held-out: 12 items"));
}

static void doubts(void **state) {
    (void)state;
    static const struct {
        const char *set, *part;
    } cases[] = {
        {"tasks[0].stride=11",
         "warning: -s tasks[0].stride=11: key `tasks[0].stride`: found 11, so that tokens are "
         "scored more than once"},
        {"tasks[0].stride=12", NULL},
        {"tasks[0].stride=100", NULL},
        {"tasks[0].shots=1", "key `tasks[0].shots`: without effect: kind: text has no questions to ask"},
        {"tasks[0].max_tokens=1",
         "key `tasks[0].max_tokens`: without effect: kind: text has no answers to write"},
        {"tasks[0].limit=100000", "key `tasks[0].limit`: found 100000, but "},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        if (kveval("--dry-run", in_dir("text.yaml"), "-s", cases[i].set)) fail_msg("%s", err);
        const bool warned = strstr(err, "warning: ");
        if (warned != (cases[i].part != NULL) || (warned && !strstr(err, cases[i].part)))
            fail_msg("%s: %s", cases[i].set, err);
    }
}

// What is behind the last window, where nobody asked for less.
static void the_rest_is_said(void **state) {
    (void)state;
    char corpus[PATH_MAX + 32];
    FILE *file = fopen(in_dir("short.txt"), "w");
    assert_non_null(file);
    for (int i = 0; i < 5; i++) fputs("Question: In which country is Tipperary? Answer: Ireland\n", file);
    fclose(file);
    snprintf(corpus, sizeof corpus, "tasks[0].corpus=%s", in_dir("short.txt"));
    if (kveval("--dry-run", in_dir("text.yaml"), "-s", corpus, "-s", "tasks[0].limit=0")) fail_msg("%s", err);
    if (!strstr(err, "fill no window of 48 and are not asked for; a smaller `window` or `stride` keeps more"))
        fail_msg("%s", err);
    if (kveval("--dry-run", in_dir("text.yaml"), "-s", corpus, "-s", "tasks[0].limit=1")) fail_msg("%s", err);
    assert_null(strstr(err, "fill no window"));
}

// ---- Stopping and going on -----------------------------------------------------------------------------

static bool has_lines(const char *path) {
    FILE *file = fopen(path, "r");
    const bool some = file && fgetc(file) != EOF;
    if (file) fclose(file);
    return some;
}

static void stopped_and_resumed(void **state) {
    (void)state;
    char output[128], samples[256], set[] = "tasks[0].limit=400";
    snprintf(output, sizeof output, "%s", in_dir("stopped"));
    snprintf(samples, sizeof samples, "%s/samples/atlas-held-out/KVP.jsonl", output);
    if (kveval("--no-ttft", in_dir("text.yaml"), "-s", set, "-o", in_dir("straight"))) fail_msg("%s", err);
    const pid_t child = fork();
    if (child == 0) {
        char *program = getenv("KVEVAL"), config[128];
        snprintf(config, sizeof config, "%s", in_dir("text.yaml"));
        if (!freopen("/dev/null", "w", stdout) || !freopen("/dev/null", "w", stderr)) _exit(99);
        execl(program, program, "--no-ttft", config, "-s", set, "-o", output, (char *)NULL);
        _exit(99);
    }
    while (!has_lines(samples) && test_alive(child)) usleep(1000);
    kill(child, SIGINT);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 130);
    assert_int_equal(access(in_dir("stopped/results.csv"), F_OK), -1);
    if (kveval("--no-ttft", in_dir("text.yaml"), "-s", set, "-o", output)) fail_msg("%s", err);
    if (!strstr(err, "answered before")) fail_msg("%s", err);
    char *straight = test_read_text(in_dir("straight/results.csv")),
         *resumed = test_read_text(in_dir("stopped/results.csv"));
    assert_string_equal(resumed, straight);
    free(straight), free(resumed);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_systems),
        cmocka_unit_test(a_file_is_its_shard),
        cmocka_unit_test(mistakes_are_one_line),
        cmocka_unit_test(relative_paths),
        cmocka_unit_test(doubts),
        cmocka_unit_test(the_rest_is_said),
        cmocka_unit_test(stopped_and_resumed),
    };
    return cmocka_run_group_tests(tests, set_up, test_dir_tear_down);
}

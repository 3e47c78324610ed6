// kveval --dry-run as its users meet it: what it announces against what is then taken, and what it refuses before any
// weights are read. KVEVAL names the program.
#include "tests/support/eval.h"

#include "data/checkpoint/checkpoint.h"
#include "tests/support/tiny.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char out[1 << 16], err[1 << 16];

static int kveval_with(const char *const *arguments) {
    const char *all[32] = {getenv("KVEVAL")};
    assert_non_null(all[0]);
    for (int i = 0; arguments[i]; i++) all[i + 1] = arguments[i];
    return test_run(all, -1, out, err, sizeof out);
}

#define kveval(...) kveval_with((const char *const[]){__VA_ARGS__, NULL})

// ---- Memory --------------------------------------------------------------------------------------------

// Wide enough for a batch to weigh more than the program.
static void save_wide(const char *name, int64_t n_layers, int64_t dim, uint64_t seed) {
    kv_error error = {0};
    kv_model_spec spec = tiny_deep_base(n_layers);
    spec.vocab_size = 400, spec.context_length = 640, spec.model_dim = dim, spec.head_dim = 32;
    for (int64_t i = 0; i < n_layers; i++)
        spec.layers[i] = (kv_layer_spec){.n_heads = 4, .n_kv_heads = 4, .ffn_dim = 2 * dim};
    kv_model *model = tiny_model(&spec, seed);
    mkdir(test_path(test_dir, name), 0777);
    if (kv_checkpoint_save(test_path(test_dir, name), model, &error)) fail_msg("%s", error.message);
    kv_model_free(model);
}

// Prompts of some 500 tokens as questions, as choices and as one text.
static void write_long_items(void) {
    FILE *questions = fopen(test_path(test_dir, "long.jsonl"), "w");
    FILE *choices = fopen(test_path(test_dir, "choices.jsonl"), "w");
    FILE *plain = fopen(test_path(test_dir, "long.txt"), "w");
    assert_true(questions && choices && plain);
    for (int i = 0; i < 66; i++) {
        char text[2048] = "";
        for (int k = i % 7; k < 25; k++) sprintf(text + strlen(text), "%d of %d ", i * k, k);
        fprintf(questions, "{\"question\": \"%s\", \"answer\": {\"value\": \"b\"}}\n", text);
        fprintf(choices, "{\"goal\": \"%s\", \"sol1\": \"a\", \"sol2\": \"one of them\", \"label\": 1}\n",
                text);
        fprintf(plain, "%s\n", text);
    }
    assert_int_equal(fclose(questions) | fclose(choices) | fclose(plain), 0);
}

// The number behind `key`, in bytes, of "1.46 GB" and the like.
static double bytes_behind(const char *text, const char *key) {
    const char *at = strstr(text, key);
    char unit[3];
    double value = 0;
    if (!at || sscanf(at + strlen(key), " %lf %2s", &value, unit) != 2) fail_msg("no '%s' in %s", key, text);
    return value * (unit[0] == 'G' ? 1e9 : unit[0] == 'M' ? 1e6 : 1);
}

// Announced, and taken as kveval says at its end.
static void compare(const char *systems, const char *task, double above) {
    char text[2048];
    snprintf(text, sizeof text,
             "output: @/out\ntokenizer: @/tokenizer.model\nbatch_size: 64\nbootstrap: 40\nbudgets: []\n"
             "systems: [{name: base, model: @/wide}%s]\ntasks: [%s]\n",
             systems, task);
    test_write_config(test_path(test_dir, "wide.yaml"), text);
    if (kveval("--dry-run", "--no-ttft", test_path(test_dir, "wide.yaml"))) fail_msg("%s", err);
    const double said = bytes_behind(out, "\nmemory       about");
    if (kveval("--no-ttft", test_path(test_dir, "wide.yaml"))) fail_msg("%s", err);
    const char *end = strstr(err, " GB of memory at most");
    assert_non_null(end);
    while (end > err && end[-1] != ' ') end--;
    const double taken = 1e9 * strtod(end, NULL);
    if (!(said >= taken && said <= above * taken))
        fail_msg("%s on %s: %.4g announced, %.4g taken (%.3f)", systems, task, said, taken, said / taken);
    snprintf(text, sizeof text, "rm -r %s/out", test_dir);
    assert_int_equal(system(text), 0);
}

static void memory_is_announced(void **state) {
    (void)state;
    static const char kvp[] = ", {name: KVP, base: @/wide, aux: @/narrow, predictor: random}",
                      prefixes[] = ", {name: one, base: @/wide, predictor: 'random:prefix=1'}, "
                                   "{name: two, base: @/wide, predictor: 'random:prefix=2'}",
                      sp[] = ", {name: SP, model: @/wide, pruning: static, keep: 0.5}",
                      lazy[] = ", {name: L, model: @/wide, pruning: lazy, start: 0.75, end: 0.25}",
                      spf[] = ", {name: SPF, base: @/wide, aux: @/narrow, pruning: speculative, keep: 0.5}",
                      questions[] = "{name: q, file: @/long.jsonl, max_tokens: 8}",
                      choices[] = "{name: c, kind: piqa, file: @/choices.jsonl}",
                      behind[] = "{name: c, kind: piqa, file: @/choices.jsonl, behind_prompt: true}",
                      text[] =
                          "{name: t, kind: text, corpus: @/long.txt, window: 128, prompt: 100, limit: 64}";
    static const struct {
        const char *systems, *task;
    } cases[] = {{"", questions}, {kvp, questions}, {lazy, questions}, {spf, questions}, {kvp, choices},
                 {kvp, behind},   {sp, choices},    {kvp, text},       {lazy, text},     {prefixes, text}};
    if (test_under_asan()) skip(); // it takes memory of its own
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) compare(cases[i].systems, cases[i].task, 2);
}

// ---- What is said --------------------------------------------------------------------------------------

static void expect_in(const char *text, const char *part) {
    if (!strstr(text, part)) fail_msg("no '%s' in %s", part, text);
}

static void everything_is_said(void **state) {
    (void)state;
    const char *config = test_path(test_dir, "eval.yaml");
    if (kveval("--dry-run", config)) fail_msg("%s", err);
    expect_in(out, "systems      base | aux, alone | KVP\n");
    expect_in(out,
              "tasks        atlas, trained: 12 items, 12 answers of each system, scored by exact_match\n");
    expect_in(out, "; 72 to write, at most 6 each\n");
    expect_in(out, "clock        time to first token of 1 size of prompts, 3 times after a warm-up\n");
    expect_in(out, "fits: ");
    expect_in(out, "\ntime         about ");
    assert_string_equal(err, "");
    if (kveval("--dry-run", "--no-ttft", "--limit", "2", config)) fail_msg("%s", err);
    expect_in(out, "tasks        atlas, trained: 2 items, 2 answers");
    assert_null(strstr(out, "clock        "));
    assert_int_equal(test_dir_count(test_path(test_dir, "eval")), -1);
    if (kveval("--dry-run", "-s", "tasks=[]", config)) fail_msg("%s", err); // times alone
    expect_in(out, "at work (the time to first tokens)");
    if (kveval("--dry-run", "-s", "tasks=[]", "--no-ttft", config)) fail_msg("%s", err); // nothing at all
}

// More than any machine has: said by --dry-run, refused by the evaluation before it reads weights, which are gone.
static void what_does_not_fit_is_refused(void **state) {
    (void)state;
    char *config = strdup(test_path(test_dir, "eval.yaml")),
         *weights = strdup(test_path(test_dir, "base/model.safetensors")),
         *away = strdup(test_path(test_dir, "away"));
    assert_int_equal(rename(weights, away), 0);
    if (kveval("--dry-run", "-s", "ttft.batch_size=1000000000", config)) fail_msg("%s", err);
    expect_in(out, "does not fit: ");
    assert_int_equal(kveval("-s", "ttft.batch_size=1000000000", config), 1);
    expect_in(err, "kveval: the evaluation needs about ");
    expect_in(err, " for the time to first tokens, ");
    assert_ptr_equal(strchr(err, '\n'), err + strlen(err) - 1); // one line
    assert_int_equal(test_dir_count(test_path(test_dir, "eval/samples")), -1);
    assert_int_equal(rename(away, weights), 0);
    free(config), free(weights), free(away);
}

// Ctrl-C while the machine's speed is measured.
static void interrupted(void **state) {
    (void)state;
    const char *const arguments[] = {getenv("KVEVAL"), "--dry-run", test_path(test_dir, "eval.yaml"), NULL};
    int from[2];
    assert_int_equal(pipe(from), 0);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        dup2(from[1], STDOUT_FILENO), dup2(from[1], STDERR_FILENO);
        close(from[0]), close(from[1]);
        execv(arguments[0], (char *const *)arguments);
        _exit(127);
    }
    close(from[1]);
    int status = 0;
    for (int i = 0; i < 200 && waitpid(child, &status, WNOHANG) == 0; i++) {
        usleep(20000);
        kill(child, SIGINT); // which is obeyed by whatever it is at; a second one half a second later ends it
    }
    char text[4096];
    const ssize_t n = read(from[0], text, sizeof text - 1);
    close(from[0]);
    text[n > 0 ? n : 0] = '\0';
    if (WIFSIGNALED(status)) return; // before it could say anything
    assert_int_equal(WEXITSTATUS(status), 130);
    assert_null(strstr(text, "systems  "));
}

static int set_up(void **state) {
    test_family_set_up(state);
    save_wide("wide", 6, 128, 1);
    save_wide("narrow", 2, 64, 2);
    write_long_items();
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_is_announced),
        cmocka_unit_test(everything_is_said),
        cmocka_unit_test(what_does_not_fit_is_refused),
        cmocka_unit_test(interrupted),
    };
    return cmocka_run_group_tests(tests, set_up, test_dir_tear_down);
}

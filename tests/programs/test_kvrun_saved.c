// kvrun --save-prompt and --load-prompt: what is loaded is answered as if it had been read, alone and with more behind
// it; another model's file, a damaged one and one that has no room are refused in a line.
#include "tests/support/kvrun.h"

#include "data/file/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char beginning[] = "Question: In which country is Chaco?", rest[] = " And which code has it?";

// The last kvrun's answer.
static char *answer(void) {
    return strdup(kvrun_out);
}

enum { MOST = 24 };

static int run(const char *const *system, const char *first, const char *second, const char *third,
               const char *fourth) {
    const char *all[MOST] = {0}, *more[] = {first, second, third, fourth};
    int n = 0;
    for (int i = 0; system[i]; i++) all[n++] = system[i];
    for (int i = 0; i < 4 && more[i]; i++) all[n++] = more[i];
    return kvrun_list(all);
}

static void expect_the_same(const char *const *system, const char *name) {
    char whole[256], marker[64], file[128];
    snprintf(file, sizeof file, "%s/saved.h5", test_dir);
    snprintf(whole, sizeof whole, "%s%s", beginning, rest);
    assert_int_equal(run(system, beginning, NULL, NULL, NULL), 0);
    char *alone = answer();
    assert_int_equal(run(system, whole, NULL, NULL, NULL), 0);
    char *both = answer();
    assert_int_equal(run(system, "--save-prompt", file, beginning, NULL), 0);
    assert_string_equal(kvrun_out, "");
    snprintf(marker, sizeof marker, "[%s: ", name);
    assert_non_null(strstr(kvrun_err, marker));
    assert_non_null(strstr(kvrun_err, " of them read, saved in "));
    assert_int_equal(run(system, "--load-prompt", file, NULL, NULL), 0);
    assert_string_equal(kvrun_out, alone);
    long long n_loaded, n_all, n_read;
    assert_int_equal(sscanf(kvrun_err, "[%lld of %lld tokens of prompt loaded in ", &n_loaded, &n_all), 2);
    assert_int_equal(n_loaded, n_all - 1);
    assert_int_equal(run(system, "--load-prompt", file, rest, NULL), 0);
    assert_string_equal(kvrun_out, both);
    assert_int_equal(sscanf(kvrun_err, "[%lld of %lld tokens of prompt loaded in ", &n_loaded, &n_all), 2);
    assert_int_equal(sscanf(strstr(kvrun_err, "FLOPs for "), "FLOPs for %lld tokens", &n_read), 1);
    assert_true(n_loaded > 5 && n_loaded + n_read == n_all);
    // A saved prompt may be gone on from into another one.
    char next[128];
    snprintf(next, sizeof next, "%s/next.h5", test_dir);
    assert_int_equal(run(system, "--load-prompt", file, "--save-prompt", next), 0);
    assert_int_equal(run(system, "--load-prompt", next, rest, NULL), 0);
    assert_string_equal(kvrun_out, both);
    free(alone);
    free(both);
}

static void loaded_is_read_base(void **state) {
    (void)state;
    expect_the_same((const char *[]){BASE, "-n", "12", NULL}, "base");
}

static void loaded_is_read_kvp(void **state) {
    (void)state;
    expect_the_same((const char *[]){KVP, "-n", "12", NULL}, "KVP");
}

static void loaded_is_read_prefix(void **state) {
    (void)state;
    expect_the_same((const char *[]){PREFIX, "-n", "12", NULL}, "KVP");
}

static void for_programs(void **state) {
    (void)state;
    char file[128];
    snprintf(file, sizeof file, "%s/saved.h5", test_dir);
    assert_int_equal(kvrun(KVP, "-n", "4", "--save-prompt", file, "--prompt-ids", "5 17 9 30", "-q"), 0);
    assert_string_equal(kvrun_err, "");
    assert_int_equal(kvrun(KVP, "-n", "4", "--prompt-ids", "5 17 9 30 8 12", "--json"), 0);
    json_t *whole = json_loads(kvrun_out, 0, NULL);
    assert_int_equal(kvrun(KVP, "-n", "4", "--load-prompt", file, "--prompt-ids", "8 12", "--json"), 0);
    assert_string_equal(kvrun_err, "");
    json_t *loaded = json_loads(kvrun_out, 0, NULL);
    assert_true(json_equal(json_object_get(whole, "ids"), json_object_get(loaded, "ids")));
    assert_true(json_equal(json_object_get(whole, "prompt_ids"), json_object_get(loaded, "prompt_ids")));
    assert_int_equal(json_integer_value(json_object_get(loaded, "tokens_loaded")), 3);
    assert_true(json_real_value(json_object_get(loaded, "load_seconds")) > 0);
    assert_null(json_object_get(whole, "load_seconds"));
    assert_true(json_integer_value(json_object_get(loaded, "flops_to_first_token")) <
                json_integer_value(json_object_get(whole, "flops_to_first_token")));
    json_decref(whole);
    json_decref(loaded);
    expect_one_line(kvrun(KVP, "--load-prompt", file, "more"),
                    "saved.h5: was not saved from a text as it is");
    assert_int_equal(test_run((const char *const[]){getenv("KVDATA"), "inspect", "--json", file, NULL}, -1,
                              kvrun_out, kvrun_err, sizeof kvrun_out),
                     0);
    json_t *about = json_loads(kvrun_out, 0, NULL);
    assert_string_equal(json_string_value(json_object_get(about, "kind")), "saved prompt");
    assert_int_equal(json_integer_value(json_object_get(about, "tokens")), 4);
    assert_int_equal(json_integer_value(json_object_get(about, "predicted")), 3);
    json_decref(about);
}

static void another_models(void **state) {
    (void)state;
    char file[128];
    snprintf(file, sizeof file, "%s/saved.h5", test_dir);
    assert_int_equal(kvrun(KVP, "--save-prompt", file, beginning), 0);
    expect_one_line(kvrun(BASE, "--load-prompt", file),
                    "saved.h5: a prompt that was saved with another model: the aux ");
    expect_one_line(kvrun(PREFIX, "--load-prompt", file), "another model: the aux ");
    expect_one_line(
        kvrun("--base", in_dir("aux"), "--tokenizer", in_dir("tokenizer.model"), "--load-prompt", file),
        "another model: the base ");
    expect_one_line(kvrun(KVP, "--dtype", "bf16", "--load-prompt", file),
                    "weights held as f32, expected bf16");
    expect_one_line(kvrun(KVP, "--context", "5", "--load-prompt", file), "does not fit the context of 5");
    expect_one_line(kvrun(KVP, "--load-prompt", in_dir("none.h5")), "none.h5: cannot open");
    expect_one_line(kvrun(KVP, "--load-prompt", in_dir("tokenizer.model")), "expected a saved prompt");
    assert_int_equal(truncate(file, 3000), 0);
    expect_one_line(kvrun(KVP, "--load-prompt", file), "saved.h5: truncated");
    expect_one_line(kvrun(KVP, "--save-prompt", file, "--prompt-ids", "5"), "expected two or more");
    expect_one_line(kvrun(KVP, "--save-prompt", in_dir("tokenizer.model/x.h5"), beginning),
                    "tokenizer.model: exists but is not a directory");
}

// With a template as much is taken as both prompts begin with: the system message.
static void chats(void **state) {
    (void)state;
    char config[128], file[128];
    snprintf(config, sizeof config, "%s/tokenizer_config.json", test_dir);
    snprintf(file, sizeof file, "%s/chat.h5", test_dir);
    test_write_text(config, "{\"chat_template\": \"{{ '[INST] ' }} <<SYS>>\"}");
#define CHAT KVP, "-n", "6", "--chat", "--system", "Be kind and short."
    assert_int_equal(kvrun(CHAT, "Which code?"), 0);
    char *wanted = strdup(kvrun_out);
    assert_int_equal(kvrun(CHAT, "--save-prompt", file, "Hello"), 0);
    assert_int_equal(kvrun(CHAT, "--load-prompt", file, "Which code?"), 0);
    assert_string_equal(kvrun_out, wanted);
    long long n_loaded, n_all;
    assert_int_equal(sscanf(kvrun_err, "[%lld of %lld tokens of prompt loaded in ", &n_loaded, &n_all), 2);
    assert_true(n_loaded > 10 && n_loaded < n_all - 4);
    assert_int_equal(kvrun(KVP, "--load-prompt", file, "Which code?"), 1);
    assert_non_null(strstr(kvrun_err, "chat.h5: was not saved from a text as it is"));
    assert_int_equal(kvrun(KVP, "--no-bos", "--chat", "--load-prompt", file, "Hi", "--prune", "static:0.5"),
                     2);
    free(wanted);
    unlink(config);
}

// What does not go together.
static void usage(void **state) {
    (void)state;
    const struct {
        const char *first, *second, *part;
    } wrong[] = {{"--prune", "random:0.5", "--load-prompt and --prune exclude each other"},
                 {"--too-long", "cut", "--load-prompt and --too-long cut exclude each other"}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        assert_int_equal(kvrun(BASE, "--load-prompt", "x.h5", wrong[i].first, wrong[i].second), 2);
        assert_non_null(strstr(kvrun_err, wrong[i].part));
    }
    assert_int_equal(kvrun(KVP, "--load-prompt", "x.h5", "--compare"), 2);
    assert_int_equal(kvrun(BASE, "--save-prompt", "x.h5", "--json", "Hello"), 2);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(loaded_is_read_base),
                                       cmocka_unit_test(loaded_is_read_kvp),
                                       cmocka_unit_test(loaded_is_read_prefix),
                                       cmocka_unit_test(for_programs),
                                       cmocka_unit_test(another_models),
                                       cmocka_unit_test(chats),
                                       cmocka_unit_test(usage)};
    return cmocka_run_group_tests(tests, test_family_set_up, test_dir_tear_down);
}

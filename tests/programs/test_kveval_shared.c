// kveval on tasks whose prompts begin alike (tasks[].prompt_cache): a beginning that kvrun has read, or that kveval makes
// itself, also of solved examples that are drawn once. The same records, figures and hashes as without; what is
// another's, or no beginning of theirs, is refused by name.
#include "tests/support/kvrun.h"

#include "data/prompt/saved_prompt.h"
#include "eval/results/results.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char out[1 << 16], err[1 << 16];

#define EXPECT(status, ...)                                                                                  \
    test_expect_run("KVEVAL", status, (const char *const[]){__VA_ARGS__, NULL}, out, err, sizeof out)

static const char lines[] = "{\"q\": \"Is 2 more than 1?\", \"a\": \"yes\"}\n"
                            "{\"q\": \"Is one one?\", \"a\": \"yes\"}\n"
                            "{\"q\": \"Which country?\", \"a\": \"Chad\"}\n";

#define BEGINNING "Answer these questions shortly.\n"

static const char config[] =
    "output: @/own\ntokenizer: @/tokenizer.model\nbootstrap: 50\n"
    "systems:\n"
    "  - {name: base, model: @/base}\n"
    "  - {name: KVP, base: @/base, aux: @/aux, predictor: @/predictor}\n"
    "  - {name: prefix, base: @/base, predictor: @/prefix}\n"
    "  - {name: half, model: @/base, pruning: random, keep: 0.5}\n"
    "tasks:\n"
    "  - {name: own, kind: custom, file: @/own.jsonl, template: \"Q: {q}\\nA:\",\n"
    "     target: \"{a}\", max_tokens: 5, preamble: \"Answer these questions shortly.\\n\"}\n";

static int set_up(void **state) {
    test_family_set_up(state);
    test_write_config(in_dir("own.jsonl"), lines);
    test_write_config(in_dir("own.yaml"), config);
    return 0;
}

static kv_results results_of(const char *name) {
    kv_results r;
    kv_error error = {0};
    if (kv_results_read_h5(in_dir(name), &r, &error)) fail_msg("%s", error.message);
    return r;
}

static void save_all(void) {
    assert_int_equal(kvrun(BASE, "--save-prompt", in_dir("saved/base.h5"), BEGINNING), 0);
    assert_int_equal(kvrun(KVP, "--save-prompt", in_dir("saved/KVP.h5"), BEGINNING), 0);
    assert_int_equal(kvrun(PREFIX, "--save-prompt", in_dir("saved/prefix.h5"), BEGINNING), 0);
}

static const char *option(const char *key, const char *value) {
    static char texts[4][256];
    static int next;
    char *text = texts[next++ % 4];
    snprintf(text, sizeof texts[0], "%s=%s/%s", key, test_dir, value);
    return text;
}

static void expect_the_same(const char *without, const char *with) {
    kv_results alone = results_of(without), shared = results_of(with);
    assert_string_equal(alone.tasks[0].hash, shared.tasks[0].hash);
    assert_int_equal(alone.n_systems, 4);
    for (int64_t s = 0; s < 4; s++) {
        const kv_outcome *a = kv_results_outcome(&alone, s, 0), *b = kv_results_outcome(&shared, s, 0);
        for (int64_t i = 0; i < 3; i++) assert_string_equal(a->records[i], b->records[i]);
        assert_true(a->flops == b->flops); // those of whole prompts
    }
    kv_results_free(&alone);
    kv_results_free(&shared);
}

static void the_same_results(void **state) {
    (void)state;
    save_all();
    EXPECT(0, in_dir("own.yaml"), "--no-ttft");
    EXPECT(0, in_dir("own.yaml"), "--no-ttft", "-s", option("tasks[0].prompt_cache", "saved/{system}.h5"),
           "-s", option("output", "shared"));
    expect_the_same("own/results.h5", "shared/results.h5");
}

// ---- Made by kveval ------------------------------------------------------------------------------------

static kv_saved_prompt *saved_in(const char *name) {
    kv_saved_prompt *prompt;
    kv_error error = {0};
    if (kv_saved_prompt_read(in_dir(name), &prompt, &error)) fail_msg("%s", error.message);
    return prompt;
}

#define FEW                                                                                                  \
    in_dir("few.yaml"), "--no-ttft", "-s", option("tasks[0].prompt_cache", "made/{system}.h5"), "-s",        \
        option("output", "few made")

static void write_few(const char *shots) {
    char text[2048];
    snprintf(text, sizeof text, "%s     shots_file: @/shown.jsonl, %s}\n", config, shots);
    char *own = strstr(text, ", preamble"), *end = strchr(own, '\n');
    memmove(own + 2, end, strlen(end) + 1);
    own[0] = ',', own[1] = ' ';
    memcpy(strstr(text, "@/own\n"), "@/few", 5);
    test_write_config(in_dir("few.yaml"), text);
    test_write_config(in_dir("shown.jsonl"), "{\"q\": \"Is this shown?\", \"a\": \"yes\"}\n"
                                             "{\"q\": \"Is that?\", \"a\": \"no\"}\n"
                                             "{\"q\": \"What is?\", \"a\": \"all\"}\n");
}

// A first look makes files that are longer than what all items share; they serve as far as that.
static void made_and_loaded(void **state) {
    (void)state;
    write_few("shots: 2, shots_drawn: once");
    EXPECT(0, in_dir("few.yaml"), "--no-ttft");
    EXPECT(0, FEW, "--dry-run");
    assert_non_null(strstr(out, "; the same 2 examples in front of all"));
    assert_non_null(strstr(out, "KVP: all prompts begin with the same "));
    assert_non_null(strstr(out, "/made/KVP.h5 will be made"));
    assert_null(strstr(out, "half: all prompts"));
    assert_int_equal(access(in_dir("made"), F_OK), -1);
    EXPECT(0, FEW);
    assert_non_null(strstr(err, " begin with are read by `KVP`, and saved in "));
    assert_int_equal(access(in_dir("made/half.h5"), F_OK), -1);
    expect_the_same("few/results.h5", "few made/results.h5");
    kv_saved_prompt *first = saved_in("made/prefix.h5");
    char said[96];
    snprintf(said, sizeof said, "the %d tokens that all prompts of own begin with are read by `prefix`",
             (int)first->n_rows);
    assert_non_null(strstr(err, said));
    assert_true(first->n_rows > 20);
    EXPECT(0, FEW, "--dry-run");
    assert_non_null(strstr(out, "/made/KVP.h5 is there"));
    EXPECT(0, FEW, "-s", option("output", "few loaded"));
    assert_null(strstr(err, " are read by `"));
    expect_the_same("few/results.h5", "few loaded/results.h5");
    assert_int_equal(
        unlink(in_dir("made/base.h5")) | unlink(in_dir("made/KVP.h5")) | unlink(in_dir("made/prefix.h5")), 0);
    EXPECT(0, FEW, "--limit", "1", "-s", option("output", "look"));
    kv_saved_prompt *longer = saved_in("made/prefix.h5");
    assert_true(longer->n_rows > first->n_rows);
    EXPECT(0, FEW, "-s", option("output", "few after"));
    expect_the_same("few/results.h5", "few after/results.h5");
    kv_saved_prompt_free(first);
    kv_saved_prompt_free(longer);
}

// Examples that are drawn for each question are another task, and no beginning.
static void drawn_for_each(void **state) {
    (void)state;
    write_few("shots: 2, shots_drawn: once");
    EXPECT(0, in_dir("few.yaml"), "--no-ttft");
    kv_results once = results_of("few/results.h5");
    assert_true(once.tasks[0].shots_once);
    write_few("shots: 2");
    EXPECT(0, FEW, "-s", option("tasks[0].prompt_cache", "each/{system}.h5"));
    assert_non_null(strstr(err, "without effect: tokens that all prompts begin with are "));
    assert_non_null(strstr(err, "prompts are read whole"));
    assert_int_equal(access(in_dir("each"), F_OK), -1);
    kv_results each = results_of("few made/results.h5");
    assert_false(each.tasks[0].shots_once);
    assert_string_not_equal(once.tasks[0].hash, each.tasks[0].hash);
    kv_results_free(&once);
    kv_results_free(&each);
}

// Whatever the kind: the first prompt's examples are those of all others.
static void once_for_every_kind(void **state) {
    (void)state;
    static const char *const kinds[][2] = {
        {"triviaqa", "{\"question\": \"%s\", \"answer\": \"%s\"}\n"},
        {"piqa", "{\"goal\": \"%s\", \"sol1\": \"%s\", \"sol2\": \"no\", \"label\": 0}\n"},
    };
    for (int k = 0; k < 2; k++) {
        char text[2048] = "", line[256], settings[400];
        for (int i = 0; i < 9; i++) {
            snprintf(line, sizeof line, kinds[k][1], (const char[]){(char)('a' + i), '\0'}, "so");
            strcat(text, line);
        }
        test_write_config(in_dir("shown.jsonl"), text);
        strstr(text, "\"a\"")[1] = 'z';
        test_write_config(in_dir("asked.jsonl"), text);
        snprintf(settings, sizeof settings,
                 "tasks[0]={name: t, kind: %s, file: %s/asked.jsonl, shots_file: %s/shown.jsonl, shots: 2, "
                 "shots_drawn: once, max_tokens: 2}",
                 kinds[k][0], test_dir, test_dir);
        EXPECT(0, in_dir("own.yaml"), "--no-ttft", "-s", settings, "-s", option("output", "kinds"));
        kv_results r = results_of("kinds/results.h5");
        const kv_outcome *o = kv_results_outcome(&r, 0, 0);
        json_t *records[9];
        for (int i = 0; i < 9; i++) {
            records[i] = json_loads(o->records[i], 0, NULL);
            const char *prompt = json_string_value(json_object_get(records[i], k ? "context" : "prompt"));
            const char *first = json_string_value(json_object_get(records[0], k ? "context" : "prompt"));
            assert_non_null(prompt);
            size_t same = 0;
            while (prompt[same] && prompt[same] == first[same]) same++;
            if (strlen(prompt) - same > strlen("z\nAnswer:")) fail_msg("%s %d: %s", kinds[k][0], i, prompt);
        }
        for (int i = 0; i < 9; i++) json_decref(records[i]);
        kv_results_free(&r);
    }
}

static void not_made(void **state) {
    (void)state;
    EXPECT(1, in_dir("own.yaml"), "--no-ttft", "-s", option("output", "refused"), "-s",
           option("tasks[0].prompt_cache", "nowhere.h5"));
    assert_non_null(strstr(err, "tasks[0].prompt_cache"));
    assert_non_null(strstr(err, "one file cannot be made for 4 systems: expected {system} in its path"));
    write_few("shots: 2, shots_drawn: once");
    EXPECT(1, in_dir("own.yaml"), "-s", "tasks[0].shots=1", "-s", "tasks[0].shots_drawn=once");
    assert_non_null(strstr(err, "tasks[0].shots_drawn"));
    assert_non_null(strstr(err, "found once, expected `shots_file` beside it"));
    test_write_config(in_dir("file"), "no directory");
    EXPECT(1, FEW, "-s", option("tasks[0].prompt_cache", "file/{system}.h5"));
    assert_non_null(strstr(err, "tasks[0].prompt_cache"));
}

static void refusals(void **state) {
    (void)state;
    save_all();
    const char *own = option("output", "refused");
    assert_int_equal(kvrun(BASE, "--save-prompt", in_dir("other/base.h5"), "Answer those"), 0);
    EXPECT(1, in_dir("own.yaml"), "--no-ttft", "-s", own, "-s",
           option("tasks[0].prompt_cache", "saved/base.h5"));
    assert_non_null(strstr(err, "tasks[0].prompt_cache"));
    assert_non_null(strstr(err, "`KVP`: "));
    assert_non_null(strstr(err, "base.h5: a prompt that was saved with another model: the aux none"));
    EXPECT(1, in_dir("own.yaml"), "--no-ttft", "-s", own, "-s",
           option("tasks[0].prompt_cache", "other/{system}.h5"));
    assert_non_null(strstr(err, "tokens are not what the prompt of"));
    assert_non_null(strstr(err, "own.jsonl:1 begins with"));
    assert_int_equal(kvrun(BASE, "--save-prompt", in_dir("half/half.h5"), BEGINNING), 0);
    EXPECT(1, in_dir("own.yaml"), "--no-ttft", "-s", own, "-s",
           option("tasks[0].prompt_cache", "half/{system}.h5"));
    assert_non_null(strstr(err, "`half` prunes what it reads"));
    assert_int_equal(truncate(in_dir("saved/base.h5"), 4000), 0);
    EXPECT(1, in_dir("own.yaml"), "--no-ttft", "-s", own, "-s",
           option("tasks[0].prompt_cache", "saved/{system}.h5"));
    assert_non_null(strstr(err, "base.h5: truncated"));
    assert_int_equal(access(in_dir("refused/results.h5"), F_OK), -1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_same_results), cmocka_unit_test(made_and_loaded),
        cmocka_unit_test(drawn_for_each),   cmocka_unit_test(once_for_every_kind),
        cmocka_unit_test(not_made),         cmocka_unit_test(refusals)};
    return cmocka_run_group_tests(tests, set_up, test_dir_tear_down);
}

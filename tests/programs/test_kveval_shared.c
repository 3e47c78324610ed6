// kveval on tasks whose prompts begin with one that kvrun has read (tasks[].prompt_cache): the same records, figures and
// hashes as without; what is another's, or no beginning of theirs, is refused by name.
#include "tests/support/kvrun.h"

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

static void the_same_results(void **state) {
    (void)state;
    save_all();
    EXPECT(0, in_dir("own.yaml"), "--no-ttft");
    EXPECT(0, in_dir("own.yaml"), "--no-ttft", "-s", option("tasks[0].prompt_cache", "saved/{system}.h5"),
           "-s", option("output", "shared"));
    kv_results alone = results_of("own/results.h5"), shared = results_of("shared/results.h5");
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

static void refusals(void **state) {
    (void)state;
    save_all();
    const char *own = option("output", "refused");
    EXPECT(1, in_dir("own.yaml"), "--no-ttft", "-s", own, "-s",
           option("tasks[0].prompt_cache", "saved/base.h5"));
    assert_non_null(strstr(err, "tasks[0].prompt_cache"));
    assert_non_null(strstr(err, "`KVP`: "));
    assert_non_null(strstr(err, "base.h5: a prompt that was saved with another model: the aux none"));
    EXPECT(1, in_dir("own.yaml"), "--no-ttft", "-s", own, "-s",
           option("tasks[0].prompt_cache", "nowhere/{system}.h5"));
    assert_non_null(strstr(err, "is there of no system"));
    assert_int_equal(kvrun(BASE, "--save-prompt", in_dir("other/base.h5"), "Answer those"), 0);
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
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_same_results), cmocka_unit_test(refusals)};
    return cmocka_run_group_tests(tests, set_up, test_dir_tear_down);
}

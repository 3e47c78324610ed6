// However many parts of a program ask what a model is, its config.json is opened once in a run.
#include "tests/support/eval.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

static char out[1 << 16], err[1 << 16];

static const char *in_dir(const char *name) {
    return test_path(test_dir, name);
}

static int run(const char *program, const char *const *arguments) {
    const char *all[32] = {getenv(program)};
    assert_non_null(all[0]);
    for (int i = 0; arguments[i]; i++) all[i + 1] = arguments[i];
    return test_run(all, -1, out, err, sizeof err);
}

#define ARGS(...) ((const char *const[]){__VA_ARGS__, NULL})

// base, aux, predictor, tokenizer, train.h5.
static int set_up(void **state) {
    test_family_set_up(state);
    return run("KVDATA", ARGS("tokenize", "-c0", "-m0", "-t", in_dir("tokenizer.model"), "-o",
                              in_dir("train.h5"), in_dir("train.jsonl")));
}

// ---- Counting ------------------------------------------------------------------------------------------

// inotify joins events that are alike and follow one another, so openings are told apart by the closings
// between them.
static int watch(const char *path) {
    const int queue = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    assert_true(queue >= 0);
    assert_true(inotify_add_watch(queue, path, IN_OPEN | IN_CLOSE) >= 0);
    return queue;
}

static int openings(int queue) {
    _Alignas(struct inotify_event) char events[1 << 14];
    int n = 0;
    for (ssize_t size; (size = read(queue, events, sizeof events)) > 0;)
        for (char *at = events; at < events + size;) {
            const struct inotify_event *event = (const struct inotify_event *)at;
            n += (event->mask & IN_OPEN) != 0;
            at += sizeof *event + event->len;
        }
    close(queue);
    return n;
}

static void expect_one_reading(const char *program, const char *const *arguments, bool aux) {
    const int queues[2] = {watch(in_dir("base/config.json")), watch(in_dir("aux/config.json"))};
    if (run(program, arguments)) fail_msg("%s: %s", program, err);
    assert_int_equal(openings(queues[0]), 1);
    assert_int_equal(openings(queues[1]), aux);
}

// The instrument itself.
static void openings_are_counted(void **state) {
    (void)state;
    for (int n = 0; n < 4; n++) {
        const int queue = watch(in_dir("base/config.json"));
        for (int i = 0; i < n; i++) free(test_read_text(in_dir("base/config.json")));
        assert_int_equal(openings(queue), n);
    }
}

// ---- Programs ------------------------------------------------------------------------------------------

static void kvrun(void **state) {
    (void)state;
#define BASE "--base", in_dir("base"), "--tokenizer", in_dir("tokenizer.model"), "-n", "2"
#define PAIR BASE, "--aux", in_dir("aux"), "--predictor", in_dir("predictor")
    expect_one_reading("KVRUN", ARGS(BASE, "Question"), false);
    expect_one_reading("KVRUN", ARGS(BASE, "--prune", "lazy:0.75-0.5", "Question"), false);
    expect_one_reading("KVRUN", ARGS(PAIR, "Question"), true);
    expect_one_reading("KVRUN", ARGS(PAIR, "--dtype", "bf16", "--compare", "Question"), true);
}

static void kveval(void **state) {
    (void)state;
    char analysis[300];
    snprintf(analysis, sizeof analysis, "analysis.corpus=%s", in_dir("train.h5"));
    expect_one_reading("KVEVAL", ARGS("-s", "analysis.sequences=2", "-s", analysis, in_dir("eval.yaml")),
                       true);
}

static void write_config(const char *name, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void write_config(const char *name, const char *format, ...) {
    char text[4096];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    test_write_text(in_dir(name), text);
}

static void kvtrain(void **state) {
    (void)state;
    static const char common[] =
        "output: %s\ndata: {train: %s, seq_len: 16, batch_size: 2}\ntrain: {steps: 1, lr: 1e-3}\n";
    char text[2048];
    snprintf(text, sizeof text, common, in_dir("run"), in_dir("train.h5"));
    write_config("lm.yaml", "task: lm\nmodel: {from: checkpoint, path: %s}\n%s", in_dir("base"), text);
    expect_one_reading("KVTRAIN", ARGS("--force", in_dir("lm.yaml")), false);
    write_config("pruned.yaml", "task: lm\nmodel: {from: pruned, keep: 0.5, path: %s}\n%s", in_dir("base"),
                 text);
    expect_one_reading("KVTRAIN", ARGS("--force", in_dir("pruned.yaml")), false);
    write_config("kvp.yaml", "task: kvp\nbase: %s\naux: %s\npredictor: {mapping: separate}\n%s",
                 in_dir("base"), in_dir("aux"), text);
    expect_one_reading("KVTRAIN", ARGS("--force", in_dir("kvp.yaml")), true);
    expect_one_reading("KVTRAIN", ARGS("--force", "-s", "freeze_aux=true", in_dir("kvp.yaml")), true);
    expect_one_reading("KVTRAIN", ARGS("--dry-run", in_dir("kvp.yaml")), true);
}

static void kvdata(void **state) {
    (void)state;
    expect_one_reading("KVDATA",
                       ARGS("cache", "--base", in_dir("base"), "--aux", in_dir("aux"), "--seq-len", "16",
                            "-o", in_dir("cache"), in_dir("train.h5")),
                       true);
    expect_one_reading("KVDATA", ARGS("inspect", "--hash", in_dir("base")), false);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(openings_are_counted),
        cmocka_unit_test(kvrun),
        cmocka_unit_test(kveval),
        cmocka_unit_test(kvtrain),
        cmocka_unit_test(kvdata),
    };
    return cmocka_run_group_tests(tests, set_up, test_dir_tear_down);
}

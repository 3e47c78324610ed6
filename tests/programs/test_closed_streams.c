// Programs started with some of the descriptors 0, 1 and 2 closed, as a careless service or `<&-` does it.
// Files get these numbers then: nothing that is meant for a person may end up in one, and a lock with number
// 0 is a lock.
#include "data/file/content.h"
#include "tests/support/train.h"

#include <ftw.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { ALL = 7, MAX_ARGS = 16 };

// Descriptor i is closed where bit i of `closed` is set; the others lead to files beside.
static pid_t start(const char *variable, const char *const *args, int closed) {
    const char *argv[MAX_ARGS] = {getenv(variable)};
    assert_non_null(argv[0]);
    for (int i = 0; args[i]; i++) {
        assert_true(i + 2 < MAX_ARGS);
        argv[i + 1] = args[i];
    }
    const pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid > 0) return pid;
    if (!freopen("/dev/null", "r", stdin) || !freopen("out.txt", "w", stdout) ||
        !freopen("err.txt", "w", stderr))
        _exit(99);
    for (int i = 0; i < 3; i++)
        if (closed >> i & 1) close(i);
    execv(argv[0], (char *const *)argv);
    _exit(99);
}

static int finish(pid_t pid) {
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static const char *name_of(char name[32], int closed) {
    snprintf(name, 32, "closed%s%s%s", closed & 1 ? "0" : "", closed & 2 ? "1" : "", closed & 4 ? "2" : "");
    return name;
}

// ---- Trainings -----------------------------------------------------------------------------------------

// Every line is JSON; so the progress of the training is not among them.
static void check_lines(const char *path) {
    char line[4096];
    FILE *file = fopen(path, "r");
    if (!file) fail_msg("%s is not there", path);
    while (fgets(line, sizeof line, file)) {
        json_t *root = json_loads(line, 0, NULL);
        if (!root) fail_msg("%s: %s", path, line);
        json_decref(root);
    }
    fclose(file);
}

static void train_closed(int closed) {
    char run[32], metrics[64], path[96];
    name_of(run, closed);
    snprintf(metrics, sizeof metrics, "%s/metrics.jsonl", run);
    const pid_t pid = start("KVTRAIN", ARGS("base.yaml", "-o", run, "-s", "train.steps=1000000"), closed);
    train_wait_for_file(pid, metrics, 2000);
    // Neither another training nor one that is as badly off comes near it.
    train_refuse("another kvtrain is at work",
                 ARGS("base.yaml", "-o", run, "-s", "train.steps=1000000", "--force"));
    assert_int_equal(finish(start("KVTRAIN", ARGS("base.yaml", "-o", run, "--force"), closed)), 1);
    train_expect(0, ARGS("status", run));
    assert_non_null(strstr(train_output(), "running"));
    assert_int_equal(kill(pid, SIGTERM), 0);
    assert_int_equal(finish(pid), 143);
    check_lines(metrics);
    snprintf(path, sizeof path, "%s/stopped.json", run);
    assert_true(kv_path_exists(path));
    train_expect(0, ARGS("status", run));
    assert_non_null(strstr(train_output(), "interrupted"));
}

static void test_trainings(void **state) {
    (void)state;
    for (int closed = 1; closed <= ALL; closed++) train_closed(closed);
}

// To its end, the last thing being a line on standard output: the weights are those of any other training.
static void test_finished(void **state) {
    (void)state;
    for (int closed = 1; closed <= ALL; closed++) {
        char run[32], path[96];
        name_of(run, closed);
        assert_int_equal(finish(start("KVTRAIN", ARGS("base.yaml", "-o", run, "--force"), closed)), 0);
        snprintf(path, sizeof path, "%s/final/model/model.safetensors", run);
        assert_true(same_file(path, "base/final/model/model.safetensors"));
        snprintf(path, sizeof path, "%s/metrics.jsonl", run);
        check_lines(path);
    }
    assert_nothing_half_written();
}

// ---- The others ----------------------------------------------------------------------------------------

static const char *expected_dir;

static int compare(const char *path, const struct stat *info, int type, struct FTW *walk) {
    (void)info, (void)walk;
    char other[256];
    if (type != FTW_F) return 0;
    snprintf(other, sizeof other, "%s%s", expected_dir, strchr(path, '/'));
    if (!same_file(path, other)) fail_msg("%s and %s are not the same", path, other);
    return 0;
}

static void test_kvdata(void **state) {
    (void)state;
    expected_dir = "tasks";
    assert_int_equal(finish(start("KVDATA", ARGS("snippets", "-n", "40", "-f", "20", "-o", "tasks"), 0)), 0);
    for (int closed = 1; closed <= ALL; closed++) {
        char dir[32];
        name_of(dir, closed);
        strcat(dir, "d");
        const int code = finish(start("KVDATA", ARGS("snippets", "-n", "40", "-f", "20", "-o", dir), closed));
        assert_int_equal(code, closed & 2 ? 1 : 0); // what it did it cannot say
        assert_int_equal(nftw(dir, compare, 8, FTW_PHYS), 0);
    }
    // What was to be read or written is missed, not made up.
    const char *tokenizer = test_path(getenv("KV_TEST_DIR"), "fixtures/tokenizers/gpt-2");
    for (int closed = 0; closed < 4; closed++) {
        const int reads = finish(start("KVDATA", ARGS("encode", "-t", tokenizer), closed));
        const int writes = finish(start("KVDATA", ARGS("encode", "-t", tokenizer, "a text"), closed));
        assert_int_equal(reads, closed ? 1 : 0);
        assert_int_equal(writes, closed & 2 ? 1 : 0);
    }
}

// A table, figures and no questions; then nobody reads the table.
static void test_kveval(void **state) {
    (void)state;
    put_file("eval.yaml", "output: eval\nsystems: [{name: base, model: base/final/model}]\n"
                          "ttft: {prompt_tokens: 8, batch_size: 1, repeats: 1}\n");
    const int closed[] = {0, 1, 4, 5};
    for (int i = 0; i < 4; i++) {
        char *csv;
        size_t size;
        kv_error err = {0};
        assert_int_equal(finish(start("KVEVAL", ARGS("eval.yaml"), closed[i])), 0);
        if (kv_read_file("eval/results.csv", 1 << 20, &csv, &size, &err) != KV_OK)
            fail_msg("%s", err.message);
        assert_int_equal(strncmp(csv, "system,", 7), 0);
        free(csv);
    }
    assert_int_equal(finish(start("KVEVAL", ARGS("eval.yaml"), ALL)), 1);
    assert_nothing_half_written();
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_trainings), cmocka_unit_test(test_finished),
                                       cmocka_unit_test(test_kvdata), cmocka_unit_test(test_kveval)};
    return cmocka_run_group_tests(tests, train_setup, train_teardown);
}

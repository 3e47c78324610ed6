// What the programs say on standard output and standard error is written a line at a time, so that in a log
// of both no message stands inside a row of a table. A socket that keeps writes apart shows each of them.
#include "tests/support/corpus.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

// Starts the program of that variable with both streams on one socket; the end of it that is read.
static int start(const char *variable, char *const *arguments, pid_t *child) {
    int ends[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
    assert_true((*child = fork()) >= 0);
    if (*child == 0) {
        dup2(ends[1], STDOUT_FILENO);
        dup2(ends[1], STDERR_FILENO);
        execv(getenv(variable), arguments);
        _exit(127);
    }
    close(ends[1]);
    return ends[0];
}

// Arguments up to NULL. Returns how many lines of several cells apart there were: rows of tables.
static int run(const char *variable, ...) {
    static char text[1 << 18];
    char *arguments[32] = {(char *)variable};
    va_list list;
    va_start(list, variable);
    for (int i = 1; (arguments[i] = va_arg(list, char *)); i++) assert_true(i < 30);
    va_end(list);
    pid_t child;
    const int from = start(variable, arguments, &child);
    int rows = 0, status;
    for (ssize_t n; (n = recv(from, text, sizeof text - 1, 0)) > 0;) {
        text[n] = '\0';
        if (text[n - 1] != '\n') fail_msg("%s %s writes part of a line: '%s'", variable, arguments[1], text);
        rows += strstr(text, "  ") != NULL;
    }
    close(from);
    assert_int_equal(waitpid(child, &status, 0), child);
    if (status != 0) fail_msg("%s %s: status %d, last said: %s", variable, arguments[1], status, text);
    return rows;
}

static void data(void **state) {
    (void)state;
    run("KVDATA", "atlas", "--facts", "40", "--out", "runs/quickstart/data", NULL);
    run("KVDATA", "tokenizer", "--input", "runs/quickstart/data/train.jsonl", "--vocab-size", "384", "--out",
        "runs/quickstart/data/tokenizer", NULL);
    run("KVDATA", "tokenize", "--min-chars", "0", "--min-tokens", "0", "--tokenizer",
        "runs/quickstart/data/tokenizer.model", "--out", "runs/quickstart/data/train.h5",
        "runs/quickstart/data/train.jsonl", NULL);
    assert_true(run("KVDATA", "inspect", "runs/quickstart/data/train.h5", NULL) > 3);
    run("KVDATA", "inspect", "--json", "runs/quickstart/data/train.h5", NULL);
}

static void training(void **state) {
    (void)state;
    char base[] = "configs/quickstart/base.yaml";
    assert_true(run("KVTRAIN", base, "--dry-run", NULL) > 3);
    run("KVTRAIN", base, "-s", "train.steps=8", "-s", "train.warmup_steps=2", "-s", "train.log_every=1",
        NULL);
    run("KVTRAIN", "status", "runs/quickstart", NULL);
    run("KVDATA", "inspect", "runs/quickstart/base", NULL);
}

static void answers(void **state) {
    (void)state;
    run("KVRUN", "--base", "runs/quickstart/base/final/model", "--tokenizer",
        "runs/quickstart/data/tokenizer.model", "--json", "--max-tokens", "4", "Where is", NULL);
}

// More systems than a buffer of 4 kB holds the rows of.
static void evaluation(void **state) {
    (void)state;
    FILE *config = fopen("many.yaml", "w");
    fputs("output: many\ntokenizer: runs/quickstart/data/tokenizer.model\nsystems:\n", config);
    for (int i = 0; i < 40; i++)
        fprintf(config,
                "  - {name: a system of number %d, family: base, model: runs/quickstart/base/final/model}\n",
                i);
    fputs(
        "tasks: [{name: atlas, file: runs/quickstart/data/questions_trained.jsonl, limit: 2, max_tokens: 2}]\n"
        "analysis: {corpus: runs/quickstart/data/train.h5}\n",
        config);
    fclose(config);
    assert_true(run("KVEVAL", "--dry-run", "many.yaml", NULL) >= 1);
    assert_true(run("KVEVAL", "--no-ttft", "many.yaml", NULL) > 80);
    assert_true(run("KVEVAL", "report", "many/results.h5", "-o", "again", NULL) > 40);
}

static int set_up(void **state) {
    test_dir_set_up(state);
    return chdir(test_dir) || test_link_configs();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(data),
        cmocka_unit_test(training),
        cmocka_unit_test(answers),
        cmocka_unit_test(evaluation),
    };
    return cmocka_run_group_tests(tests, set_up, test_dir_tear_down);
}

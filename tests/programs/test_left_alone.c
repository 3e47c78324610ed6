// Programs whose terminal closes, or whose output nobody reads any more. What they work on is not lost; what only prints
// stops.
#include "data/file/content.h"
#include "tests/support/train.h"

#include <fcntl.h>
#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { WATCHDOG_SECONDS = 240, MAX_ARGS = 20 };

static void become(const char *variable, const char *const *args) {
    const char *argv[MAX_ARGS] = {getenv(variable)};
    for (int i = 0; args[i] && i + 2 < MAX_ARGS; i++) argv[i + 1] = args[i];
    alarm(WATCHDOG_SECONDS);
    execv(argv[0], (char *const *)argv);
    _exit(127);
}

static int ended(pid_t child) {
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static char *content(const char *path) {
    static char *text;
    size_t size;
    kv_error err = {0};
    free(text);
    if (kv_read_file(path, 1 << 24, &text, &size, &err) != KV_OK) fail_msg("%s", err.message);
    return text;
}

// ---- No terminal any more ------------------------------------------------------------------------------

#define ENDLESS "-s", "train.steps=100000000"

// The kernel sends SIGHUP, and from then on no message can be written.
static void a_terminal_that_closes(void **state) {
    (void)state;
    int control;
    const pid_t child = forkpty(&control, NULL, NULL, NULL);
    assert_true(child >= 0);
    if (child == 0) become("KVTRAIN", ARGS("base.yaml", "-o", "hung_up", ENDLESS));
    train_wait_for_file(child, "hung_up/metrics.jsonl", 2000);
    close(control);
    assert_int_equal(ended(child), 128 + SIGHUP);
    assert_true(test_dir_count("hung_up/checkpoints") > 0);
    assert_nothing_half_written();
    train_expect(0, ARGS("status", "hung_up"));
    assert_non_null(strstr(train_output(), "interrupted"));
}

// Which is what nohup does.
static void hangups_ignored_from_the_start(void **state) {
    (void)state;
    signal(SIGHUP, SIG_IGN);
    const pid_t child = train_start(ARGS("base.yaml", "-o", "nohup", "-s", "train.steps=300"), 0);
    signal(SIGHUP, SIG_DFL);
    train_wait_for_file(child, "nohup/metrics.jsonl", 1000);
    for (int i = 0; i < 3; i++) kill(child, SIGHUP);
    assert_int_equal(train_finish(child), 0);
    assert_true(kv_path_exists("nohup/final"));
}

static void a_sweep(void **state) {
    (void)state;
    put_file("sweep.yaml",
             "output: swept\ntrain: base.yaml\nset: {train.steps: 100000000}\ngrid: {seed: [1, 2]}\n");
    const pid_t child = train_start(ARGS("--sweep", "sweep.yaml", "--jobs", "2"), 0);
    train_wait_for_file(child, "swept/seed=1/metrics.jsonl", 1000);
    train_wait_for_file(child, "swept/seed=2/metrics.jsonl", 1000);
    kill(child, SIGHUP), kill(child, SIGHUP);
    assert_int_equal(train_finish(child), 128 + SIGHUP);
    assert_true(test_dir_count("swept/seed=1/checkpoints") > 0);
    assert_true(test_dir_count("swept/seed=2/checkpoints") > 0);
}

// ---- No reader any more --------------------------------------------------------------------------------

// Runs it with standard output, and standard error if `both`, in a pipe that is closed after the first line; the other goes
// to said.txt.
static int read_one_line(bool both, const char *variable, const char *const *args) {
    int ends[2];
    char line[4096];
    assert_int_equal(pipe(ends), 0);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        const int said = open("said.txt", O_WRONLY | O_CREAT | O_TRUNC, 0666);
        dup2(ends[1], STDOUT_FILENO), dup2(both ? ends[1] : said, STDERR_FILENO);
        close(ends[0]), close(ends[1]), close(said);
        become(variable, args);
    }
    close(ends[1]);
    FILE *reader = fdopen(ends[0], "r");
    setvbuf(reader, NULL, _IONBF, 0);
    assert_non_null(fgets(line, sizeof line, reader));
    fclose(reader);
    return ended(child);
}

static void work_that_nobody_watches(void **state) {
    (void)state;
    // What it printed first is not what it was started for.
    make_text("held_out.h5", 30, 5);
    put_file("chatty.yaml", "extends: base.yaml\ntrain: {steps: 60, validate_every: 1}\n"
                            "data: {validation: held_out.h5}\n");
    assert_int_equal(read_one_line(true, "KVTRAIN", ARGS("chatty.yaml", "-o", "watched")), 0);
    train_expect(0, ARGS("chatty.yaml", "-o", "unwatched"));
    assert_true(
        same_file("watched/final/model/model.safetensors", "unwatched/final/model/model.safetensors"));
    put_file("few.yaml", "output: few\ntrain: base.yaml\nset: {train.steps: 2}\ngrid: {seed: [1, 2]}\n");
    assert_int_equal(read_one_line(true, "KVTRAIN", ARGS("--sweep", "few.yaml")), 0);
    assert_true(kv_path_exists("few/table.csv"));
    put_file("eval.yaml", "output: eval\nsystems: [{name: base, model: base/final/model}]\n"
                          "ttft: {prompt_tokens: 8, batch_size: 1, repeats: 1}\n");
    assert_int_equal(read_one_line(true, "KVEVAL", ARGS("eval.yaml")), 0);
    assert_int_equal(strncmp(content("eval/results.csv"), "system,", 7), 0);
    assert_int_equal(read_one_line(false, "KVEVAL", ARGS("report", "eval/results.h5", "-o", "again")), 0);
    assert_int_equal(strncmp(content("again/results.csv"), "system,", 7), 0);
    assert_nothing_half_written();
}

// More than a pipe holds of what is printed: its end is never reached.
static void printouts_that_nobody_reads(void **state) {
    (void)state;
    FILE *ids = fopen("ids.txt", "w");
    assert_non_null(ids);
    for (int i = 0; i < 200000; i++) fputs("100 101 102\n", ids);
    fclose(ids);
    assert_non_null(freopen("ids.txt", "r", stdin));
    const char *tokenizer = test_path(getenv("KV_TEST_DIR"), "fixtures/tokenizers/gpt-2");
    assert_int_equal(read_one_line(false, "KVDATA", ARGS("decode", "-t", tokenizer)), 128 + SIGPIPE);
    assert_string_equal(content("said.txt"), "");
    // One that would go on for as long as the run does.
    const pid_t run = train_start(ARGS("base.yaml", "-o", "looked_at", ENDLESS), 0);
    train_wait_for_file(run, "looked_at/metrics.jsonl", 1000);
    assert_int_equal(read_one_line(false, "KVTRAIN", ARGS("status", "--watch=0.2", "looked_at")),
                     128 + SIGPIPE);
    assert_string_equal(content("said.txt"), "");
    kill(run, SIGUSR1);
    assert_int_equal(train_finish(run), 128 + SIGUSR1);
}

// That messages are lost is no reason to lose the answer.
static void messages_that_nobody_reads(void **state) {
    (void)state;
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        const int out = open("answer.txt", O_WRONLY | O_CREAT | O_TRUNC, 0666);
        dup2(out, STDOUT_FILENO), dup2(ends[1], STDERR_FILENO);
        close(ends[0]), close(ends[1]);
        become("KVRUN", ARGS("-b", "base/final/model", "--prompt-ids", "3 4", "--ids", "-n", "3"));
    }
    close(ends[0]), close(ends[1]);
    assert_int_equal(ended(child), 0);
    assert_non_null(strchr(content("answer.txt"), '\n'));
}

// ---- No room -------------------------------------------------------------------------------------------

// Whatever is printed, to the last page of help.
static void a_full_disk(void **state) {
    (void)state;
    static const struct {
        const char *variable;
        const char *args[4];
    } all[] = {{"KVDATA", {"--help"}},
               {"KVDATA", {"--version"}},
               {"KVDATA", {"tokenize", "--help"}},
               {"KVDATA", {"inspect", "shard.h5"}},
               {"KVTRAIN", {"--help"}},
               {"KVTRAIN", {"--usage"}},
               {"KVTRAIN", {"status", "--help"}},
               {"KVTRAIN", {"status", "base"}},
               {"KVTRAIN", {"base.yaml", "--dry-run"}},
               {"KVRUN", {"--help"}},
               {"KVRUN", {"--version"}},
               {"KVEVAL", {"--help"}},
               {"KVEVAL", {"report", "--help"}}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        const pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            const int full = open("/dev/full", O_WRONLY),
                      said = open("said.txt", O_WRONLY | O_CREAT | O_TRUNC, 0666);
            dup2(full, STDOUT_FILENO), dup2(said, STDERR_FILENO);
            become(all[i].variable, all[i].args);
        }
        const int code = ended(child);
        const char *said = content("said.txt"), *end = strchr(said, '\n');
        if (code != 1 || !end || end[1] || !strstr(said, "write"))
            fail_msg("%s %s: %d and: %s", all[i].variable, all[i].args[0], code, said);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_terminal_that_closes),
        cmocka_unit_test(hangups_ignored_from_the_start),
        cmocka_unit_test(a_sweep),
        cmocka_unit_test(work_that_nobody_watches),
        cmocka_unit_test(printouts_that_nobody_reads),
        cmocka_unit_test(messages_that_nobody_reads),
        cmocka_unit_test(a_full_disk),
    };
    return cmocka_run_group_tests(tests, train_setup, train_teardown);
}

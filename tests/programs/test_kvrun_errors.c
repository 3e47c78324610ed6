// What kvrun refuses, and what is left when it is stopped or cannot write. KVRUN names the program.
#include "tests/support/kvrun.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

// ---- Usage ---------------------------------------------------------------------------------------------

static void help_and_version(void **state) {
    (void)state;
    assert_int_equal(kvrun("--help"), 0);
    assert_non_null(strstr(kvrun_out, "Usage: kvrun"));
    assert_non_null(strstr(kvrun_out, "--compare"));
    assert_non_null(strstr(kvrun_out, "random:openelm-1.1b"));
    assert_int_equal(kvrun("--version"), 0);
    assert_non_null(strstr(kvrun_out, "kvrun " KV_VERSION " (commit "));
}

// Each library that a program is linked with costs time at every start. HDF5 and what it brings cost more than all
// others together, and kvrun reads no HDF5.
static void no_library_that_is_not_needed(void **state) {
    (void)state;
    char line[512];
    bool jansson = false, hdf5 = false;
    FILE *libraries = popen("ldd \"$KVRUN\"", "r");
    assert_non_null(libraries);
    while (fgets(line, sizeof line, libraries)) {
        jansson |= strstr(line, "libjansson") != NULL;
        hdf5 |= strstr(line, "libhdf5") != NULL;
    }
    assert_int_equal(pclose(libraries), 0);
    assert_true(jansson);
    assert_false(hdf5);
}

static void wrong_usage(void **state) {
    (void)state;
    static const struct {
        const char *arguments[6], *part;
    } cases[] = {
        {{"hello"}, "--base is needed"},
        {{"-b", "x", "--aux", "y", "hello"}, "--aux needs --predictor"},
        {{"-b", "x", "--compare", "hello"}, "--compare needs something"},
        {{"-b", "x", "-f", "file", "hello"}, "given more than once"},
        {{"-b", "x", "-f", "file", "--prompt-ids", "1"}, "given more than once"},
        {{"-b", "x", "-c", "--repeats", "1", "hello"}, "--repeats: '1', expected a whole number from 2 on"},
        {{"-b", "x", "-c", "--repeats", "0.5", "hello"}, "--repeats: '0.5'"},
        {{"-b", "x", "--system", "y", "hello"}, "--system needs --chat"},
        {{"-b", "x", "--chat", "--prompt-ids", "1"}, "--chat needs text"},
        {{"-b", "x", "--top-k", "3", "hello"}, "need --temperature"},
        {{"-b", "x", "-T1", "--top-p", "0", "hello"}, "top_p: found 0"},
        {{"-b", "x", "-T1", "--min-p", "1.5", "hello"}, "min_p: found 1.5"},
        {{"-b", "x", "-T", "hot", "hello"}, "--temperature: 'hot'"},
        {{"-b", "x", "-T", "-1", "hello"}, "temperature: found -1"},
        {{"-b", "x", "--seed", "-1", "hello"}, "--seed: '-1'"},
        {{"-b", "x", "--top-k", "-1", "hello"}, "--top-k: '-1'"},
        {{"-b", "x", "-n", "0", "hello"}, "--max-tokens: '0'"},
        {{"-b", "x", "-n", "99999999999999999999", "hello"}, "--max-tokens: '999"},
        {{"-b", "x", "--stop", "", "hello"}, "--stop: expected text"},
        {{"-b", "x", "--stop", "\xFF", "hello"}, "--stop: expected text in UTF-8"},
        {{"-b", "x", "--too-long", "skip", "hello"}, "--too-long: 'skip', expected refuse or cut"},
        {{"-b", "x", "--chat", "--too-long", "cut", "hello"}, "--too-long cut and --chat exclude each other"},
        {{"-b", "x", "--repeats", "2", "hello"}, "--repeats needs --compare"},
        {{"-b", "x", "--prune", "lazy:0.5", "hello"}, "--prune: 'lazy:0.5'"},
        {{"-b", "x", "--prune", "random:0.5-0.2", "hello"}, "--prune: 'random:0.5-0.2'"},
        {{"-b", "x", "--prune", "random:0.5x", "hello"}, "--prune: 'random:0.5x'"},
        {{"-b", "x", "--prune", "random: 0.5", "hello"}, "--prune: 'random: 0.5'"},
        {{"-b", "x", "--prune", "random:nan", "hello"}, "--prune: 'random:nan'"},
        {{"-b", "x", "--prune", "random:0x1p-1", "hello"}, "--prune: 'random:0x1p-1'"},
        {{"-b", "x", "-n", " 5", "hello"}, "--max-tokens: ' 5'"},
        {{"-b", "x", "-T", "0x1p-1", "hello"}, "--temperature: '0x1p-1'"},
        {{"-b", "x", "--prune", "random:", "hello"}, "--prune: 'random:'"},
        {{"-b", "x", "--prune", "5e-1", "hello"}, "--prune: '5e-1'"},
        {{"-b", "x", "--prune", "lazy:5e-1", "hello"}, "--prune: 'lazy:5e-1'"},
        {{"-b", "x", "--prune", "random:0x.8", "hello"}, "--prune: 'random:0x.8'"},
        {{"-b", "x", "--prune", "random:1e400", "hello"}, "--prune: 'random:1e400'"},
        {{"-b", "x", "--temperature", "0x1p-1", "hello"}, "--temperature: '0x1p-1'"},
        {{"-b", "x", "--prune", "lazy:5e-1-", "hello"}, "--prune: 'lazy:5e-1-'"},
        {{"-b", "x", "--prune", "random:1.5", "hello"}, "1.5"},
        {{"-b", "x", "--prune", "lazy:0.25-0.5", "hello"}, "0.25"},
        {{"-b", "x", "--prune", "speculative:0.5", "hello"}, "needs --aux"},
        {{"--nonsense"}, "nonsense"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *arguments[8] = {NULL};
        memcpy(arguments, cases[i].arguments, sizeof cases[i].arguments);
        const int status = kvrun_list(arguments);
        if (status != 2 || !strstr(kvrun_err, cases[i].part))
            fail_msg("case %zu: expected 2 and '%s', found %d: %s", i, cases[i].part, status, kvrun_err);
        assert_string_equal(kvrun_out, "");
    }
}

// ---- Bad input -----------------------------------------------------------------------------------------

static void mistakes_are_one_line(void **state) {
    (void)state;
    char long_prompt[8 * CONTEXT] = "1";
    for (int i = 1; i <= CONTEXT; i++) strcat(long_prompt, " 1");
    expect_one_line(kvrun("-b", "/nowhere", "-t", in_dir("tokenizer.model"), "x"), "/nowhere: No such file");
    expect_one_line(kvrun("-b", in_dir("base"), "-t", "/nowhere/t.model", "x"), "/nowhere/t.model: ");
    expect_one_line(kvrun("-b", in_dir("base"), "x"), "has no tokenizer: give one with --tokenizer");
    expect_one_line(kvrun("-b", in_dir("base"), "--prompt-ids", "5"),
                    "has no tokenizer: give one with --tokenizer, or add --ids or --json");
    expect_one_line(kvrun("-b", in_dir("base"), "--prompt-ids", "5", "--json", "--stop", "x"),
                    "or leave out --stop");
    expect_one_line(kvrun("-b", in_dir("base"), "--prompt-ids", "5", "--ids", "--stop", "x"),
                    "or leave out --stop");
    expect_one_line(kvrun("-b", in_dir("base"), "--chat", "--json", "x"),
                    "has no tokenizer: give one with --tokenizer, which --chat");
    expect_one_line(kvrun(BASE, "--aux", "/nowhere", "--predictor", "random", "x"), "/nowhere: No such file");
    expect_one_line(kvrun(BASE, "--aux", in_dir("aux"), "--predictor", "/nowhere", "x"), "/nowhere");
    expect_one_line(kvrun(BASE, "--predictor", in_dir("predictor"), "x"),
                    "predictor needs an aux beside the base");
    expect_one_line(kvrun(BASE, "--predictor", "random", "x"), "the predictor random needs an aux");
    expect_one_line(kvrun(PREFIX, "--aux", in_dir("aux"), "x"),
                    "the base's own first 2 layers (prefix_layers), expected no aux");
    expect_one_line(
        kvrun("-b", in_dir("aux"), "-t", in_dir("tokenizer.model"), "--predictor", in_dir("prefix"), "x"),
        "made for a base model of 3 layers, this one has 2");
    expect_one_line(kvrun(BASE, "--predictor", "random:prefix=3", "x"), "expected a prefix of 1 to 2");
    expect_one_line(kvrun(BASE, "--aux", in_dir("stranger"), "--predictor", "random", "x"),
                    "vocabulary of 61 tokens");
    expect_one_line(kvrun("-b", in_dir("base"), "--aux", in_dir("stranger"), "--predictor", "random", "--ids",
                          "--prompt-ids", "5"),
                    "vocabulary of 61 tokens");
    expect_one_line(kvrun("-b", in_dir("aux"), "-t", in_dir("tokenizer.model"), "--aux", in_dir("aux"),
                          "--predictor", in_dir("predictor"), "x"),
                    "predictor");
    expect_one_line(kvrun("-b", "random:openelm-1b", "--ids", "--prompt-ids", "5"), "unknown shape");
    expect_one_line(kvrun(BASE, "--prompt-ids", "5 400"),
                    "token 1 of the prompt has id 400, outside the vocabulary of 400");
    expect_one_line(kvrun(BASE, "--prompt-ids", "5 x9 4"), "'x9' is no token id");
    expect_one_line(kvrun(BASE, "--prompt-ids", "5 -1"), "'-1' is no token id");
    expect_one_line(kvrun(BASE, "--prompt-ids", "5x"), "'5x' is no token id");
    expect_one_line(kvrun(BASE, "--prompt-ids", "99999999999999999999"), "is no token id");
    expect_one_line(kvrun(BASE, "--prompt-ids", " "), "the prompt is empty");
    expect_one_line(kvrun(BASE, "--no-bos", ""), "the prompt is empty");
    expect_one_line(kvrun(BASE, "--prompt-ids", long_prompt),
                    "a prompt of 97 tokens does not fit the context of 96");
    expect_one_line(kvrun(BASE, "--context", "3", "--prompt-ids", "1 1 1 1"),
                    "a prompt of 4 tokens does not fit the context of 3");
    // Whatever the aux reads behind the prompt has to fit, too.
#define DRAFTED BASE, "--aux", in_dir("aux"), "--prune", "speculative:0.5"
    long_prompt[2 * 88 - 1] = '\0';
    assert_int_equal(kvrun(DRAFTED, "--ids", "-n", "1", "--prompt-ids", long_prompt), 0);
    long_prompt[2 * 88 - 1] = ' ';
    long_prompt[2 * 89 - 1] = '\0';
    expect_one_line(
        kvrun(DRAFTED, "--prompt-ids", long_prompt),
        "a prompt of 89 tokens does not fit the context of 88, the aux's 96 less 8 to look ahead");
    expect_one_line(kvrun(BASE, "--context", "97", "x"), "--context 97 does not fit the context of ");
    expect_one_line(kvrun(BASE, "--file", "/nowhere/p.txt"), "/nowhere/p.txt: ");
    expect_one_line(kvrun(BASE, "--file", test_dir), test_dir);
    expect_one_line(kvrun(BASE, "--chat", "x"), "there is no chat template");
}

// Which context, how many tokens of answer, and the way on; and what is read when that way is taken.
static void a_prompt_that_is_too_long(void **state) {
    (void)state;
    char ids[1024] = "1", end[1024] = "1"; // BOS
    for (int i = 0; i < 120; i++) sprintf(ids + strlen(ids), " %d", 5 + i);
    for (int i = 120 - 87; i < 120; i++) sprintf(end + strlen(end), " %d", 5 + i);
    expect_one_line(kvrun(BASE, "--ids", "--prompt-ids", ids),
                    "a prompt of 121 tokens does not fit the context of 96 of the base (");
    assert_non_null(strstr(kvrun_err, "an answer of up to 128 (--max-tokens)"));
    assert_non_null(strstr(kvrun_err, "--too-long cut"));
    assert_int_equal(kvrun(BASE, "--ids", "--prompt-ids", end, "-n", "8", "--quiet"), 0);
    char *expected = strdup(kvrun_out);
    assert_int_equal(kvrun(BASE, "--ids", "--prompt-ids", ids, "-n", "8", "--quiet", "--too-long", "cut"), 0);
    assert_string_equal(kvrun_out, expected);
    assert_non_null(
        strstr(kvrun_err, "kvrun: warning: 33 of the prompt's 121 tokens are cut off on its left"));
    // Of a prompt that fits with its answer nothing is said or cut.
    assert_int_equal(kvrun(BASE, "--ids", "--prompt-ids", end, "-n", "8", "--quiet", "--too-long", "cut"), 0);
    assert_string_equal(kvrun_out, expected);
    assert_string_equal(kvrun_err, "");
    free(expected);
    // Side by side both read the same.
    assert_int_equal(kvrun(KVP, "--compare", "--json", "--prompt-ids", ids, "-n", "8", "--too-long", "cut"),
                     0);
    assert_non_null(strstr(kvrun_out, "{\"prompt_ids\":[1,38,39,"));
    expect_one_line(kvrun(BASE, "--ids", "--prompt-ids", ids, "-n", "95", "--too-long", "cut"),
                    "nothing of the prompt would be left: expected a smaller --max-tokens");
    assert_int_equal(kvrun(BASE, "--ids", "--prompt-ids", ids, "-n", "94", "--too-long", "cut", "-q"), 0);
    // One that fits by itself is answered as without the switch, until the context ends.
    assert_int_equal(kvrun(BASE, "--ids", "--prompt-ids", end, "-n", "500", "--quiet"), 0);
    expected = strdup(kvrun_out);
    assert_int_equal(kvrun(BASE, "--ids", "--prompt-ids", end, "-n", "500", "--quiet", "--too-long", "cut"),
                     0);
    assert_string_equal(kvrun_out, expected);
    free(expected);
}

// ---- Being stopped, and outputs that cannot be written -------------------------------------------------

static void full_and_closed_outputs(void **state) {
    (void)state;
    char command[1024], compare[128];
    snprintf(compare, sizeof compare, "--compare --predictor random --aux %s", in_dir("aux"));
    const char *const kinds[] = {"", "--json", "--ids", compare};
    for (int i = 0; i < 4; i++) {
        snprintf(command, sizeof command, "%s -q -b %s -t %s -n 8 %s Hello >/dev/full 2>%s", getenv("KVRUN"),
                 in_dir("base"), in_dir("tokenizer.model"), kinds[i], in_dir("said"));
        const int status = system(command);
        char *said = test_read_text(in_dir("said"));
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 1);
        assert_string_equal(said,
                            "kvrun: standard output: cannot write the answer: No space left on device\n");
        free(said);
    }
    // Nobody reads: the program ends like others in a pipe, at the first write.
    snprintf(command, sizeof command, "%s -q -b %s -t %s -n 40 Hello | true", getenv("KVRUN"), in_dir("base"),
             in_dir("tokenizer.model"));
    assert_int_equal(system(command), 0);
}

// A model that never ends, stopped in the middle: what there is stays, and is a whole answer.
static void interrupted_answers(void **state) {
    (void)state;
    static const int signals[] = {SIGINT, SIGTERM};
    for (int i = 0; i < 2; i++) {
        int ends[2];
        assert_int_equal(pipe(ends), 0);
        const pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            dup2(ends[1], STDOUT_FILENO);
            close(ends[0]);
            if (!freopen("/dev/null", "w", stderr)) _exit(126);
            // So slow that it cannot be over before the signal.
            execl(getenv("KVRUN"), "kvrun", "-b", "random:openelm-270m-lp-0.25:bf16", "--prompt-ids", "5",
                  "--ids", "-n", "2000", NULL);
            _exit(127);
        }
        close(ends[1]);
        FILE *answer = fdopen(ends[0], "r");
        int id, n = 0;
        assert_int_equal(fscanf(answer, "%d", &id), 1); // it is at work
        kill(child, signals[i]);
        while (fscanf(answer, "%d", &id) == 1) n++;
        assert_int_equal(fgetc(answer), EOF);
        fclose(answer);
        int status = 0;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 128 + signals[i]);
        assert_true(n < 1999);
    }
}

// Also while nothing comes from a pipe that the prompt is read from.
static void interrupted_while_waiting(void **state) {
    (void)state;
    int ends[2], status = 0;
    assert_int_equal(pipe(ends), 0);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        dup2(ends[0], STDIN_FILENO);
        if (!freopen("/dev/null", "w", stderr)) _exit(126);
        execl(getenv("KVRUN"), "kvrun", "-b", in_dir("base"), "-t", in_dir("tokenizer.model"), NULL);
        _exit(127);
    }
    // What was written is gone once it is waiting for more.
    int waiting = 1;
    assert_int_equal(write(ends[1], "H", 1), 1);
    while (test_alive(child) && waiting > 0) {
        assert_int_equal(ioctl(ends[0], FIONREAD, &waiting), 0);
        usleep(1000);
    }
    assert_int_equal(waiting, 0);
    kill(child, SIGINT);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 128 + SIGINT);
    close(ends[0]);
    close(ends[1]);
}

static int set_up(void **state) {
    test_dir_set_up(state);
    test_make_family(test_dir, CONTEXT);
    return freopen("/dev/null", "r", stdin) == NULL;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(help_and_version),
        cmocka_unit_test(wrong_usage),
        cmocka_unit_test(no_library_that_is_not_needed),
        cmocka_unit_test(mistakes_are_one_line),
        cmocka_unit_test(full_and_closed_outputs),
        cmocka_unit_test(a_prompt_that_is_too_long),
        cmocka_unit_test(interrupted_answers),
        cmocka_unit_test(interrupted_while_waiting),
    };
    return cmocka_run_group_tests(tests, set_up, test_dir_tear_down);
}

// kvdata encode, decode and tokenize with real tokenizers, as filters and in pipes. KVDATA names the program.
#include "tests/support/tokenizer.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

static char out[1 << 16], err[1 << 16];
static const char *const names[] = {"gpt-2", "llama-spm"};

// A shell command in which $K is kvdata, $T where the tokenizers lie and $D the test's directory.
static int shell(const char *command) {
    setenv("K", getenv("KVDATA"), 1);
    setenv("T", test_fixture("fixtures/tokenizers"), 1);
    setenv("D", test_dir, 1);
    return test_run((const char *const[]){"/bin/sh", "-c", command, NULL}, -1, out, err, sizeof out);
}

static void expect_error(const char *command, int status, const char *words) {
    assert_int_equal(shell(command), status);
    const char *newline = strchr(err, '\n');
    bool one_line = newline && newline[1] == '\0' && strncmp(err, "kvdata: ", 8) == 0;
    if (!one_line || !strstr(err, words)) fail_msg("%s said: %s", command, err);
}

static void as_filters(void **state) {
    (void)state;
    char command[200], text[20000];
    test_bytes(1, sizeof text, text);
    test_write_bytes(test_path(test_dir, "bytes"), text, sizeof text);
    for (int t = 0; t < 2; t++) {
        snprintf(command, sizeof command,
                 "$K encode -t $T/%s <$D/bytes >$D/ids && $K decode -t $T/%s <$D/ids | cmp - $D/bytes",
                 names[t], names[t]);
        if (shell(command)) fail_msg("%s", err);
        assert_int_equal(shell("wc -l <$D/ids"), 0);
        assert_int_equal(atoi(out), 1);
    }
    assert_int_equal(shell("printf 'Hello world' | $K encode -t $T/gpt-2/tokenizer.json"), 0);
    assert_string_equal(out, "15496 995\n");
    assert_int_equal(shell("printf 'Hello world' | $K encode -t $T/llama-spm/tokenizer.model"), 0);
    assert_string_equal(out, "15043 3186\n");
    assert_int_equal(shell("$K encode -t $T/gpt-2 </dev/null"), 0);
    assert_string_equal(out, "\n");
    assert_int_equal(shell("$K decode -t $T/gpt-2 </dev/null"), 0);
    assert_string_equal(out, "");
}

static void arguments_are_lines(void **state) {
    (void)state;
    assert_int_equal(shell("$K encode -t $T/gpt-2 'Hello world' '' Hello"), 0);
    assert_string_equal(out, "15496 995\n\n15496\n");
    assert_int_equal(shell("$K decode -t $T/gpt-2 15496 '995  0'"), 0);
    assert_string_equal(out, "Hello world!\n");
    assert_int_equal(shell("printf ' 15496\\n\\t995\\r\\n 0' | $K decode -t $T/gpt-2"), 0);
    assert_string_equal(out, "Hello world!");
}

static void special_tokens(void **state) {
    (void)state;
    assert_int_equal(shell("$K encode --bos -t $T/llama-spm 'Hello' ''"), 0);
    assert_string_equal(out, "1 15043\n1\n");
    expect_error("$K encode --bos -t $T/gpt-2 Hello", 1, "--bos: prompts begin with no such token in ");
    assert_int_equal(shell("$K encode -t $T/gpt-2 '<|endoftext|>'"), 0);
    assert_string_equal(out, "50256\n");
    assert_int_equal(shell("$K encode --plain -t $T/gpt-2 '<|endoftext|>'"), 0);
    assert_string_equal(out, "27 91 437 1659 5239 91 29\n");
    assert_int_equal(shell("$K decode -t $T/gpt-2 50256"), 0);
    assert_string_equal(out, "<|endoftext|>\n");
}

static void wrong_input(void **state) {
    (void)state;
    expect_error("$K decode -t $T/gpt-2 50257", 1, "outside the vocabulary of 50257");
    expect_error("echo -1 | $K decode -t $T/gpt-2", 1, "outside the vocabulary");
    expect_error("echo 1 2x | $K decode -t $T/gpt-2", 1, "'2x' is not a token id");
    expect_error("echo 99999999999999999999 | $K decode -t $T/gpt-2", 1, "is not a token id");
    expect_error("echo 4294967296 | $K decode -t $T/gpt-2", 1, "is not a token id");
    expect_error("printf '1 \\0 2' | $K decode -t $T/gpt-2", 1, "a NUL byte in standard input");
    expect_error("echo x | $K encode -t $D", 1, "expected a tokenizer (tokenizer.json or tokenizer.model)");
    expect_error("echo x | $K encode -t $D/none", 1, "none: cannot open: No such file");
    expect_error("printf '\\372' | $K encode -t $T/starcoder", 1, "no piece for the byte 0xFA");
    expect_error("$K encode -t $T/gpt-2 <$D", 1, "cannot read standard input: Is a directory");
    assert_int_equal(shell("$K encode </dev/null"), 2);
    assert_non_null(strstr(err, "--tokenizer PATH is needed"));
}

// A tokenizer.json as Python writes and reads it; a piece that would lose a character is refused.
static void a_tokenizer_from_elsewhere(void **state) {
    (void)state;
    assert_int_equal(
        shell(
            "{ printf '\\357\\273\\277'; sed '1s/^{/{\"x\": [NaN, 1e999, \"\\\\ud800\", \"\\\\u0000\"], \"model\": 1, /' "
            "$T/gpt-2/tokenizer.json | sed 's/$/\\r/'; } >$D/tokenizer.json && $K encode -t $D/tokenizer.json 'Hello world'"),
        0);
    assert_string_equal(out, "15496 995\n");
    expect_error(
        "echo '{\"model\": {\"vocab\": {\"a\\\\u0000\": 0}, \"merges\": []}, \"decoder\": {\"type\": \"ByteLevel\"}}' >$D/tokenizer.json && "
        "$K encode -t $D/tokenizer.json a",
        1, "the piece of id 0 holds a NUL or half a character");
    expect_error(
        "echo '{\"model\": {\"vocab\": {\"a\": NaN}, \"merges\": []}}' >$D/tokenizer.json && $K encode -t $D/tokenizer.json a",
        1, "the id of 'a' is not a whole number");
    expect_error("echo '{\"model\": NaN}' >$D/tokenizer.json && $K encode -t $D/tokenizer.json a", 1,
                 "tokenizer.json: model");
    assert_int_equal(shell("rm $D/tokenizer.json"), 0);
}

// A reader that goes away ends it, without a word.
static void a_closed_pipe(void **state) {
    (void)state;
    assert_int_equal(
        shell("yes 'some text' | head -c 3000000 >$D/big; ($K encode -t $T/gpt-2 <$D/big; echo $? >$D/status)"
              " | head -c 20 >/dev/null; cat $D/status"),
        0);
    assert_int_equal(atoi(out), 128 + SIGPIPE);
    assert_string_equal(err, "");
}

// Ctrl-C while it waits for input that does not come.
static void interrupted(void **state) {
    (void)state;
    int ends[2], said[2];
    char text[200] = "";
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(pipe(said), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        dup2(ends[0], STDIN_FILENO);
        dup2(said[1], STDERR_FILENO);
        close(ends[1]);
        execl(getenv("KVDATA"), "kvdata", "encode", "-t", test_fixture("fixtures/tokenizers/llama-spm"),
              NULL);
        _exit(127);
    }
    assert_int_equal(write(ends[1], "abc", 3), 3);
    int status = 0;
    // Once it has read that it waits for more. (A signal before main would end it without a word.)
    int unread = 3;
    while (test_alive(child) && unread > 0) {
        usleep(1000);
        assert_int_equal(ioctl(ends[0], FIONREAD, &unread), 0);
    }
    kill(child, SIGINT);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 1);
    assert_true(read(said[0], text, sizeof text - 1) > 0);
    assert_string_equal(text, "kvdata: interrupted\n");
    for (int i = 0; i < 2; i++) close(ends[i]), close(said[i]);
}

static void shards(void **state) {
    (void)state;
    test_write_text(test_path(test_dir, "texts.txt"), "e\xCC\x81t\xC3\xA9\n\nHello world\n");
    assert_int_equal(shell("$K tokenize -c0 -m0 -t $T/gpt-2 -o $D/a.h5 $D/texts.txt"), 0);
    assert_non_null(strstr(out, "documents        2\n"));
    assert_non_null(strstr(out, "the tokenizer has no EOS"));
    assert_int_equal(shell("$K inspect -t $T/gpt-2 -d 1 $D/a.h5"), 0);
    assert_non_null(strstr(out, "e\xCC\x81t\xC3\xA9"));
    assert_int_equal(shell("$K tokenize -c0 -m0 --nfc -t $T/gpt-2 -o $D/a.h5 $D/texts.txt"), 0);
    assert_int_equal(shell("$K inspect -t $T/gpt-2 -d 1 $D/a.h5"), 0);
    assert_non_null(strstr(out, "\xC3\xA9t\xC3\xA9"));
    assert_int_equal(shell("$K tokenize -c0 -m0 -t $T/llama-spm -o $D/a.h5 $D/texts.txt"), 0);
    assert_null(strstr(out, "no EOS"));
    // A document that cannot be encoded is left out and named.
    test_write_text(test_path(test_dir, "texts.txt"), "fine\n\nnot \xFA\n");
    assert_int_equal(shell("$K tokenize -c0 -m0 -t $T/starcoder -o $D/b.h5 $D/texts.txt"), 0);
    assert_non_null(strstr(err, "texts.txt:3: the vocabulary has no piece for the byte 0xFA; left out\n"));
    assert_non_null(strstr(out, "documents        1\n"));
    assert_non_null(strstr(out, " 1 bad\n"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_filters),
        cmocka_unit_test(arguments_are_lines),
        cmocka_unit_test(special_tokens),
        cmocka_unit_test(wrong_input),
        cmocka_unit_test(a_tokenizer_from_elsewhere),
        cmocka_unit_test(a_closed_pipe),
        cmocka_unit_test(interrupted),
        cmocka_unit_test(shards),
    };
    return cmocka_run_group_tests(tests, test_dir_set_up, test_dir_tear_down);
}

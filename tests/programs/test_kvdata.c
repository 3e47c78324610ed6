// The program kvdata as its users meet it: help, errors on one line with exit status 1 or 2, nothing
// half-written. KVDATA names the program.
#include "tests/support/corpus.h"

#include "data/file/h5.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zlib.h>

static char dir[64];
static char out[1 << 16], err[1 << 16];

static int set_up(void **state) {
    (void)state;
    test_dir_make(dir);
    test_small_corpus(dir);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    test_dir_remove(dir);
    return 0;
}

// Runs kvdata with the arguments up to the first NULL.
static int kvdata_within(int64_t max_file_bytes, const char *const *arguments) {
    const char *all[32] = {getenv("KVDATA")};
    assert_non_null(all[0]);
    for (int i = 0; arguments[i]; i++) all[i + 1] = arguments[i];
    return test_run(all, max_file_bytes, out, err, sizeof out);
}

#define kvdata(...) kvdata_within(-1, (const char *const[]){__VA_ARGS__, NULL})

static void expect_one_line(const char *part) {
    const char *newline = strchr(err, '\n');
    if (!newline || newline[1] != '\0' || strncmp(err, "kvdata: ", 8) != 0 || !strstr(err, part))
        fail_msg("expected one line with '%s', found: %s", part, err);
}

static const char *in_dir(const char *name) {
    return test_path(dir, name);
}

static void make_shard(const char *name) {
    int status = kvdata("tokenize", "-c", "0", "-m", "0", "-t", in_dir("tokenizer.model"), "-o", in_dir(name),
                        in_dir("train.jsonl"));
    if (status) fail_msg("%s", err);
}

// ---- Usage ---------------------------------------------------------------------------------------------

static void help_and_version(void **state) {
    (void)state;
    static const char *const commands[] = {"atlas",    "snippets", "recall", "tokenizer",
                                           "tokenize", "inspect",  "encode", "decode"};
    assert_int_equal(kvdata("--help"), 0);
    for (int i = 0; i < 8; i++) assert_non_null(strstr(out, commands[i]));
    assert_int_equal(kvdata("--version"), 0);
    assert_non_null(strstr(out, "kvdata " KV_VERSION " (commit "));
    for (int i = 0; i < 8; i++) {
        assert_int_equal(kvdata(commands[i], "--help"), 0);
        char usage[64];
        snprintf(usage, sizeof usage, "Usage: kvdata %s ", commands[i]);
        assert_non_null(strstr(out, usage));
        snprintf(usage, sizeof usage, "\n  kvdata %s ", commands[i]); // an example on a line of its own
        assert_non_null(strstr(out, usage));
    }
}

static void wrong_usage(void **state) {
    (void)state;
    const char *tokenizer = in_dir("tokenizer.model"), *shard = in_dir("never.h5");
    const char *const none[] = {NULL};
    assert_int_equal(kvdata_within(-1, none), 2);
    assert_int_equal(kvdata("frobnicate"), 2);
    expect_one_line("no command 'frobnicate'");
    assert_int_equal(kvdata("--frobnicate"), 2);
    assert_int_equal(kvdata("atlas"), 2);
    assert_int_equal(kvdata("atlas", "--out", dir, "--facts", "many"), 2);
    assert_non_null(strstr(err, "--facts: 'many', expected a whole number"));
    assert_int_equal(kvdata("atlas", "--out", dir, "--facts", " 5"), 2);
    assert_int_equal(kvdata("atlas", "--out", dir, "--held-out", "1.5"), 2);
    assert_int_equal(kvdata("atlas", "--out", dir, "--held-out", "0x1p-2"), 2);
    assert_int_equal(kvdata("atlas", "--out", dir, "--held-out", "nan"), 2);
    assert_int_equal(kvdata("tokenize", "--out", shard, in_dir("train.jsonl")), 2);
    assert_int_equal(kvdata("tokenize", "--out", shard, "--tokenizer", tokenizer), 2);
    assert_int_equal(kvdata("tokenizer", "--out", shard), 2);
    assert_int_equal(kvdata("tokenizer", "--input", "x", "--out", shard, "--vocab-size", "12"), 2);
    assert_int_equal(kvdata("inspect"), 2);
    assert_int_equal(kvdata("inspect", dir, dir), 2);
    assert_int_equal(access(shard, F_OK), -1);
}

static void wrong_passages(void **state) {
    (void)state;
    const char *model = in_dir("tokenizer.model"), *out_file = in_dir("never.jsonl"),
               *out_dir = in_dir("never");
    const struct {
        const char *option, *value, *says;
    } cases[] = {
        {"--lengths", "64,,128", "--lengths: '', expected a whole number from 1 to 262144"},
        {"--lengths", "64..", "--lengths: '', expected a whole number"},
        {"--lengths", "256..64", "--lengths: '256..64', expected the smaller one first"},
        {"--lengths", "64..256,128", "--lengths: 128 twice"},
        {"--lengths", "64,999999", "--lengths: '999999', expected a whole number from 1 to 262144"},
        {"--depths", "0,1.5", "--depths: '1.5', expected a number from 0 to 1"},
        {"--depths", "0,0.0", "--depths: 0 twice"},
        {"--words", "3", "--words: '3', expected a whole number from 4"},
        {"--items", "0", "--items: '0', expected a whole number from 1"},
        {"--texts", "3", "expected a directory for --texts"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(kvdata("recall", "-t", model, "-o", out_file, cases[i].option, cases[i].value), 2);
        assert_non_null(strstr(err, cases[i].says));
    }
    assert_int_equal(kvdata("recall", "-t", model), 2);
    assert_int_equal(kvdata("recall", "-o", out_dir), 2);
    assert_non_null(strstr(err, "--tokenizer PATH is needed, or --texts N"));
    assert_int_equal(kvdata("recall", "-t", model, "-o", out_file, "--lengths", "64,12"), 1);
    expect_one_line("passages of 12 tokens: too short for a statement and a question, expected at least ");
    assert_int_equal(kvdata("recall", "-o", out_dir, "--texts", "4", "--seq-len", "9"), 1);
    expect_one_line("training texts of 9 tokens: too short");
    assert_int_equal(kvdata("recall", "-t", in_dir("train.jsonl"), "-o", out_file), 1);
    expect_one_line("train.jsonl");
    assert_int_equal(access(out_file, F_OK), -1);
    assert_int_equal(access(out_dir, F_OK), -1);
}

// ---- What it does --------------------------------------------------------------------------------------

static void from_nothing_to_a_shard(void **state) {
    (void)state;
    const char *corpus = in_dir("corpus"), *text = in_dir("corpus/train.jsonl");
    const char *model = in_dir("corpus/tokenizer.model"), *shard = in_dir("corpus/train.h5");
    assert_int_equal(kvdata("atlas", "-o", corpus, "-n", "500", "-S", "3"), 0);
    assert_non_null(strstr(out, "\nall "));
    assert_int_equal(kvdata("tokenizer", "-i", text, "-v", "512", "-o", in_dir("corpus/tokenizer")), 0);
    assert_non_null(strstr(out, "512 pieces"));
    assert_int_equal(kvdata("tokenize", "-c", "0", "-m", "0", "-t", model, "-o", shard, text), 0);
    assert_non_null(strstr(out, "documents        500\n"));
    assert_int_equal(kvdata("inspect", shard), 0);
    assert_non_null(strstr(out, "documents    500,"));
    assert_int_equal(kvdata("inspect", "-t", model, "-d", "1", shard), 0);
    assert_non_null(strstr(out, "-- document 0"));
    assert_non_null(strstr(out, "\nQuestion: "));
    assert_int_equal(test_dir_count(corpus), 8);
}

static void short_documents_are_dropped(void **state) {
    (void)state;
    const char *text = in_dir("some.txt"), *shard = in_dir("some.h5"), *model = in_dir("tokenizer.model");
    // 10 characters in 12 bytes, 20 characters, one word.
    test_write_text(text, "\xC3\xA9\xC3\xA9 456789\n\n0123456789012345678\n\nWhich\n");
    assert_int_equal(kvdata("tokenize", "-t", model, "-c", "11", "-m", "0", "-o", shard, text), 0);
    assert_non_null(strstr(out, "documents        1\n"));
    assert_non_null(strstr(out, "2 too short, 0 of too few tokens"));
    assert_int_equal(kvdata("tokenize", "-t", model, "-c", "0", "-m", "19", "-o", shard, text), 0);
    assert_non_null(strstr(out, "0 too short, 2 of too few tokens"));
    assert_int_equal(kvdata("tokenize", "-t", model, "-c", "1000", "-o", in_dir("none.h5"), text), 1);
    assert_non_null(strstr(err, "no document is left to write: 3 of fewer than 1000 characters"));
    assert_int_equal(access(in_dir("none.h5"), F_OK), -1);
}

static void there_and_back(void **state) {
    (void)state;
    const char *model = in_dir("tokenizer.model");
    assert_int_equal(kvdata("encode", "-t", model, "0 0"), 0);
    int first, space, last, used = 0;
    assert_int_equal(sscanf(out, "%d %d %d\n%n", &first, &space, &last, &used), 3);
    assert_int_equal(out[used], '\0');
    assert_int_equal(first, last);
    char ids[3][12];
    snprintf(ids[0], 12, "%d", first), snprintf(ids[1], 12, "%d", space), snprintf(ids[2], 12, "%d", last);
    assert_int_equal(kvdata("decode", "-t", model, ids[0], ids[1], ids[2]), 0);
    assert_string_equal(out, "0 0\n");
    assert_int_equal(kvdata("decode", "-t", model, "400"), 1);
    expect_one_line("outside the vocabulary of 400");
    assert_int_equal(kvdata("decode", "-t", model, "4x"), 1);
    expect_one_line("'4x' is not a token id");
}

static void progress_is_plain_lines_off_a_terminal(void **state) {
    (void)state;
    make_shard("progress.h5");
    assert_null(strpbrk(err, "\r\033"));
    assert_non_null(strstr(err, "(100 %)"));
    assert_non_null(strstr(err, " tokens\n"));
}

// ---- Bad input -----------------------------------------------------------------------------------------

static void missing_files(void **state) {
    (void)state;
    const char *model = in_dir("tokenizer.model"), *missing = in_dir("missing.x"),
               *text = in_dir("train.jsonl");
    int64_t before = test_dir_count(dir);
    assert_int_equal(kvdata("tokenize", "-t", missing, "-o", in_dir("a.h5"), text), 1);
    expect_one_line("missing.x");
    assert_int_equal(kvdata("tokenize", "-t", model, "-o", in_dir("a.h5"), missing), 1);
    expect_one_line("missing.x: No such file or directory");
    assert_int_equal(kvdata("tokenizer", "-i", missing, "-o", in_dir("a")), 1);
    expect_one_line("missing.x");
    assert_int_equal(kvdata("inspect", missing), 1);
    expect_one_line("missing.x");
    assert_int_equal(kvdata("encode", "-t", missing, "text"), 1);
    expect_one_line("missing.x");
    assert_int_equal(kvdata("atlas", "-o", in_dir("a"), "-i", missing), 1);
    expect_one_line("package iso-codes");
    assert_int_equal(kvdata("atlas", "-o", in_dir("a"), "-n", "1000000"), 1);
    expect_one_line("1000000 facts asked for");
    assert_int_equal(test_dir_count(dir), before);
}

// The first file can be read, the second only in part: no shard of that much.
static void cut_gzip_leaves_no_shard(void **state) {
    (void)state;
    const char *bad = in_dir("cut.jsonl.gz"), *shard = in_dir("half/a.h5");
    gzFile file = gzopen(bad, "wb");
    for (int i = 0; i < 1000; i++) gzprintf(file, "{\"text\": \"number %d\"}\n", i * 7919);
    gzclose(file);
    assert_int_equal(truncate(bad, 2000), 0);
    assert_int_equal(kvdata("tokenize", "-c0", "-m0", "-t", in_dir("tokenizer.model"), "-o", shard,
                            in_dir("train.jsonl"), bad),
                     1);
    assert_non_null(strstr(err, "cut.jsonl.gz: the gzip data ends too early"));
    assert_int_equal(test_dir_count(in_dir("half")), 0);
}

static void a_full_disk_leaves_nothing(void **state) {
    (void)state;
    const char *full = in_dir("full"), *model = in_dir("tokenizer.model"), *text = in_dir("train.jsonl");
    const char *const runs[][10] = {
        {"tokenize", "-c0", "-m0", "-t", model, "-o", in_dir("full/a.h5"), text, NULL},
        {"tokenizer", "-i", text, "-v", "400", "-o", in_dir("full/b"), NULL},
        {"atlas", "-o", full, NULL},
    };
    assert_int_equal(mkdir(full, 0777), 0);
    // Not below 1024: clang's OpenMP makes itself a file of that size before main.
    for (int i = 0; i < 3; i++) {
        for (int64_t limit = 2000; limit <= 6000; limit += 4000) {
            assert_int_equal(kvdata_within(limit, runs[i]), 1);
            assert_int_equal(strncmp(err, "kvdata: ", 8) == 0 || strstr(err, "\nkvdata: "), 1);
            assert_int_equal(test_dir_count(full), 0);
        }
    }
}

// Stopped in the middle of work that takes a second or more.
static void an_interrupted_run_leaves_nothing(void **state) {
    (void)state;
    static const int signals[] = {SIGINT, SIGTERM};
    const char *text = in_dir("endless.txt"), *stopped = in_dir("stopped"), *shard = in_dir("stopped/a.h5");
    FILE *file = fopen(text, "w");
    for (int i = 0; i < 400000; i++) fprintf(file, "In which country is place number %d?\n\n", i);
    fclose(file);
    for (int i = 0; i < 2; i++) {
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            if (!freopen("/dev/null", "w", stderr)) _exit(126);
            execl(getenv("KVDATA"), "kvdata", "tokenize", "-c0", "-m0", "-t", in_dir("tokenizer.model"), "-o",
                  shard, text, NULL);
            _exit(127);
        }
        while (test_alive(child) && test_dir_count(stopped) < 1) usleep(1000);
        assert_int_equal(test_dir_count(stopped), 1); // it is at work
        kill(child, signals[i]);
        int status = 0;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 1);
        assert_int_equal(test_dir_count(stopped), 0);
    }
}

static void an_output_that_cannot_be_written(void **state) {
    (void)state;
    char command[512];
    snprintf(command, sizeof command, "%s encode -t %s text >/dev/full 2>%s", getenv("KVDATA"),
             in_dir("tokenizer.model"), in_dir("said"));
    int status = system(command);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 1);
    char *said = test_read_text(in_dir("said"));
    assert_string_equal(said, "kvdata: cannot write the output: No space left on device\n");
    free(said);
}

static void an_old_shard_survives_a_failed_run(void **state) {
    (void)state;
    const char *text = in_dir("train.jsonl"), *shard = in_dir("keep.h5"), *model = in_dir("tokenizer.model");
    const char *const again[] = {"tokenize", "-c0", "-m0", "-t", model, "-o", shard, text, text, NULL};
    make_shard("keep.h5");
    assert_int_equal(kvdata_within(3000, again), 1);
    assert_int_equal(kvdata("inspect", shard), 0);
    assert_non_null(strstr(out, "documents    300,"));
}

static void damaged_shards(void **state) {
    (void)state;
    const char *cut = in_dir("cut.h5"), *beyond = in_dir("beyond.h5");
    make_shard("cut.h5");
    assert_int_equal(truncate(cut, 2500), 0);
    assert_int_equal(kvdata("inspect", cut), 1);
    expect_one_line("cut.h5");
    make_shard("beyond.h5");
    // Now the shard's tokens are outside the vocabulary it claims.
    hid_t file = H5Fopen(beyond, H5F_ACC_RDWR, H5P_DEFAULT);
    assert_true(file >= 0);
    H5Adelete(file, "vocab_size");
    assert_int_equal(kv_h5_set_i64(file, "/", "vocab_size", 300, NULL), KV_OK);
    H5Fclose(file);
    assert_int_equal(kvdata("inspect", beyond), 1);
    expect_one_line("outside the vocabulary of 300");
}

static void another_tokenizer_is_noticed(void **state) {
    (void)state;
    make_shard("one.h5");
    assert_int_equal(kvdata("tokenizer", "-i", in_dir("train.jsonl"), "-v", "380", "-o", in_dir("other")), 0);
    assert_int_equal(kvdata("inspect", "-d", "1", "-t", in_dir("other.model"), in_dir("one.h5")), 1);
    expect_one_line("was made with tokenizer");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(help_and_version),
        cmocka_unit_test(wrong_usage),
        cmocka_unit_test(wrong_passages),
        cmocka_unit_test(from_nothing_to_a_shard),
        cmocka_unit_test(short_documents_are_dropped),
        cmocka_unit_test(there_and_back),
        cmocka_unit_test(progress_is_plain_lines_off_a_terminal),
        cmocka_unit_test(missing_files),
        cmocka_unit_test(cut_gzip_leaves_no_shard),
        cmocka_unit_test(a_full_disk_leaves_nothing),
        cmocka_unit_test(an_interrupted_run_leaves_nothing),
        cmocka_unit_test(an_output_that_cannot_be_written),
        cmocka_unit_test(an_old_shard_survives_a_failed_run),
        cmocka_unit_test(damaged_shards),
        cmocka_unit_test(another_tokenizer_is_noticed),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}

// kvdata under mpirun: cache and sample share their work, and what they write is the same to the byte for any number of ranks,
// also when others go on with what was stopped; what fails on one rank ends all, with one line; the other commands refuse.
#include "tests/support/corpus.h"
#include "tests/support/launch.h"
#include "tests/support/shell.h"
#include "tests/support/spoil.h"
#include "tests/support/tiny.h"

#include "data/checkpoint/checkpoint.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// A model that has no number for the token that "~" is.
static void make_late(const kv_model_spec *spec, kv_model *model) {
    kv_tokenizer *tokenizer;
    kv_error err = {0};
    int32_t *ids;
    int64_t n;
    if (kv_checkpoint_save(test_path(test_dir, "late"), model, &err)) fail_msg("%s", err.message);
    if (kv_tokenizer_open(test_path(test_dir, "tokenizer.model"), &tokenizer, &err))
        fail_msg("%s", err.message);
    if (kv_tokenizer_encode(tokenizer, "~", 1, &ids, &n, &err)) fail_msg("%s", err.message);
    test_spoil(test_path(test_dir, "late"), "model.safetensors", "token_embeddings.weight",
               ids[n - 1] * spec->model_dim, NAN);
    free(ids);
    kv_tokenizer_free(tokenizer);
}

// What a rank runs: it says its process id, and may be told to be otherwise.
static const char one[] = "R=${OMPI_COMM_WORLD_RANK:-$PMI_RANK}\n"
                          "echo $$ >pid.$R\n"
                          "if [ \"$R\" = \"$ODD\" ]; then eval \"$BEFORE\"; exec \"$@\" $MORE; fi\n"
                          "exec \"$@\"\n";
// SIGNAL RANK FILES N COMMAND: sends that rank a signal when so many more of these files are there, or are being written.
static const char stop[] = "signal=$1 rank=$2 files=$3 n=$4; shift 4\n"
                           "rm -f pid.* $files.tmp.*\n"
                           "n=$((n + $(ls $files* 2>/dev/null | wc -l)))\n"
                           "\"$@\" & job=$!\n"
                           "while kill -0 $job 2>/dev/null; do\n"
                           "  [ -s pid.$rank ] && [ $(ls $files* 2>/dev/null | wc -l) -ge $n ] && break\n"
                           "  sleep 0.02\n"
                           "done\n"
                           "[ -s pid.$rank ] && kill -$signal $(cat pid.$rank) 2>/dev/null\n"
                           "wait $job\n";

// base and late, of random weights; corp of three shards, long.h5 of one.
static int set_up(void **state) {
    (void)state;
    shell_set_up();
    test_small_corpus(test_dir);
    kv_model_spec spec = tiny_base();
    kv_error err = {0};
    spec.vocab_size = 400, spec.context_length = 96, spec.tied_head = false;
    kv_model *model = tiny_model(&spec, 1);
    if (kv_checkpoint_save(test_path(test_dir, "base"), model, &err)) fail_msg("%s", err.message);
    make_late(&spec, model);
    kv_model_free(model);
    test_write_text(test_path(test_dir, "one.sh"), one);
    test_write_text(test_path(test_dir, "stop.sh"), stop);
    setenv("TOKENIZE", "$K tokenize --min-chars 0 --min-tokens 0 -t tokenizer.model", 1);
    shell_succeed("eval $TOKENIZE --shard-tokens 2500 -o corp train.jsonl && test -e corp/shard-00002.h5 && "
                  "cat train.jsonl train.jsonl train.jsonl train.jsonl >much.jsonl && "
                  "eval $TOKENIZE -o long.h5 much.jsonl && "
                  "(cat much.jsonl; echo '{\"text\": \"Which is it? ~\"}') >tilde.jsonl && "
                  "eval $TOKENIZE -o tilde.h5 tilde.jsonl");
    return 0;
}

// "$L ..." with the launcher of a kind for so many ranks as L.
static void with(int kind, int n_ranks) {
    setenv("L", launch_with(kind, n_ranks), 1);
}

static void skip_alone(void) {
    launch_or_skip();
}

// What the program said of failures: one line, with these words.
static void one_line(const char *words) {
    int n = 0;
    bool found = false;
    char all[SHELL_OUTPUT];
    snprintf(all, sizeof all, "%s", shell_err);
    for (char *rest, *line = strtok_r(all, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        if (strncmp(line, "kvdata: ", 8) != 0 || strstr(line, "kvdata: warning: ") ||
            strstr(line, "going on behind"))
            continue;
        n++;
        found = found || strstr(line, words);
    }
    if (n != 1 || !found)
        fail_msg("%d lines of failures, one with '%s' expected, in: %s", n, words, shell_err);
}

// ---- kvdata cache --------------------------------------------------------------------------------------

#define CACHE "$K cache --base base --keep 0.5 --seq-len 16 --top-k 4 --batch 4 "

static void caches_as_alone(void **state) {
    (void)state;
    skip_alone();
    shell_succeed("OMP_NUM_THREADS=1 " CACHE "-o alone corp && OMP_NUM_THREADS=1 " CACHE "-o alone1 long.h5");
    // Fewer shards than ranks, and more.
    for (int n = 1; n <= 4; n++) {
        with(0, n);
        shell_succeed(n % 2 == 0 ? "rm -rf several; $L " CACHE "-o several long.h5 && diff -r several alone1"
                                 : "rm -rf several; $L " CACHE "-o several corp && diff -r several alone");
    }
    with(launch_n_kinds() - 1, 3);
    shell_succeed("rm -r several; $L " CACHE "-o several corp >said && diff -r several alone && "
                  "test $(grep -c '^written to several' said) = 1");
    shell_succeed("rm several/cache-00001.h5; $L " CACHE "-o several corp && diff -r several alone");
    shell_printed("kept             3 files that were there already");
}

// Stopped by a signal to any of them, or killed: others go on.
#define SLOW "$K cache --base base --keep 0.5 --seq-len 16 --batch 1 "
static void caches_gone_on_with(void **state) {
    (void)state;
    skip_alone();
    shell_succeed("OMP_NUM_THREADS=1 " SLOW "-o whole long.h5");
    static const char *const ends[] = {"TERM 1", "KILL 2", "INT 0"};
    int stopped = 0;
    for (int i = 0; i < 3; i++) {
        char command[512];
        with(i % launch_n_kinds(), 3);
        snprintf(command, sizeof command,
                 "sh stop.sh %s 'stopped/*.unfinished/*.h5' %d $L sh one.sh " SLOW
                 "--save-every 0 -o stopped long.h5",
                 ends[i], 5 + i);
        const int code = shell(command);
        if (code == 0) break; // on a busy machine
        stopped++;
        if (i % 2 == 0) {
            one_line("interrupted: 0 of 1 files are complete, ");
            if (!strstr(shell_err, " rows are kept; the same command goes on from there"))
                fail_msg("%s", shell_err);
        }
        assert_int_not_equal(shell("test -e stopped/cache-00000.h5"), 0);
        shell_succeed("ls stopped/*.unfinished/rows-0000000000.h5");
    }
    assert_true(stopped > 0);
    shell_succeed("cp -r stopped alone_again && cp -r stopped two_again");
    shell_succeed("OMP_NUM_THREADS=1 " SLOW "-o alone_again long.h5 && diff -r alone_again whole");
    with(0, 2);
    shell_succeed("$L " SLOW "-o two_again long.h5 && diff -r two_again whole");
}

// A rank that finds a number that is none, or no model where the others find one, or was asked for something else.
static void a_rank_of_caches_that_fails(void **state) {
    (void)state;
    skip_alone();
    for (int kind = 0; kind < launch_n_kinds(); kind++) {
        with(kind, 3);
        shell_expect("rm -rf x; $L $K cache --base late --seq-len 16 --batch 1 -o x tilde.h5", 1,
                     "x/cache-00000.h5: row ");
        one_line("which is not finite");
        one_line("kvdata: rank ");
        if (kind > 0) continue;
        shell_expect("rm -rf x; ODD=2 BEFORE='cd /' $L sh one.sh " CACHE "-o x corp", 1,
                     "corp: No such file or directory");
        one_line("kvdata: rank 2 (");
        assert_int_not_equal(shell("test -e x"), 0);
        shell_expect("ODD=1 MORE='--top-k 5' $L sh one.sh " CACHE "-o x corp", 1, "rank 1 (");
        one_line("what is asked for differs from that of rank 0");
        shell_expect("ODD=1 MORE='--base late' $L sh one.sh " CACHE "-o x corp", 1, "rank 1 (");
        one_line("the base differs from that of rank 0");
        assert_int_not_equal(shell("test -e x"), 0);
        shell_expect("echo no directory >x; $L " CACHE "-o x corp; code=$?; rm x; exit $code", 1, "x: ");
        one_line("x: ");
    }
}

// ---- kvdata sample -------------------------------------------------------------------------------------

#define SAMPLE "$K sample -m base -t tokenizer.model -l 40 "

static void samples_as_alone(void **state) {
    (void)state;
    skip_alone();
    static const char *const goals[] = {"--documents 301", "--tokens 9000 --first 7",
                                        "--documents 900 --top-k 2 -T 0.3 -l 4 --min-count 2",
                                        "--documents 2"};
    for (int g = 0; g < 4; g++) {
        char command[512];
        snprintf(command, sizeof command, SAMPLE "%s --force -o alone.h5", goals[g]);
        shell_succeed(command);
        // The first with 1 to 4 ranks, the others with one number each.
        for (int n = 1; n <= 4; n++) {
            if (g > 0 && n != g + 1) continue;
            with(n == 3 ? launch_n_kinds() - 1 : 0, n);
            snprintf(command, sizeof command,
                     "$L " SAMPLE "%s --force -o several.h5 && cmp alone.h5 several.h5 && "
                     "test ! -e several.h5.unfinished",
                     goals[g]);
            shell_succeed(command);
            shell_printed("written to several.h5\n");
        }
    }
}

// So many tokens are not drawn before it is stopped.
#define ENDLESS "$K sample -m base -t tokenizer.model --tokens 1000000000 -l 40 -o stopped.h5"

static void samples_gone_on_with(void **state) {
    (void)state;
    skip_alone();
    char goal[32];
    long tokens = 0;
    with(0, 3);
    assert_int_not_equal(
        shell("sh stop.sh TERM 1 'stopped.h5.unfinished/piece-*.h5' 1 $L sh one.sh " ENDLESS), 0);
    one_line("interrupted: ");
    if (sscanf(strstr(shell_err, "interrupted: "), "interrupted: %*d documents, %ld tokens are kept",
               &tokens) != 1)
        fail_msg("%s", shell_err);
    // A kill loses the piece that was begun.
    with(launch_n_kinds() - 1, 3);
    assert_int_not_equal(
        shell("sh stop.sh KILL 1 'stopped.h5.unfinished/piece-*.h5' 1 $L sh one.sh " ENDLESS), 0);
    snprintf(goal, sizeof goal, "%ld", tokens + 9000);
    setenv("GOAL", goal, 1);
#define ENOUGH "$K sample -m base -t tokenizer.model --tokens $GOAL -l 40 -o "
    shell_succeed("cp -r stopped.h5.unfinished one.h5.unfinished && " ENOUGH "whole.h5");
    with(0, 2);
    shell_succeed("$L " ENOUGH "stopped.h5 && cmp stopped.h5 whole.h5");
    if (!strstr(shell_err, "kvdata: going on behind ")) fail_msg("%s", shell_err);
    shell_succeed(ENOUGH "one.h5 && cmp one.h5 whole.h5");
}

static void a_rank_of_samples_that_fails(void **state) {
    (void)state;
    skip_alone();
    for (int kind = 0; kind < launch_n_kinds(); kind++) {
        with(kind, 3);
        shell_expect("$L $K sample -m late -t tokenizer.model --tokens 1000000 -l 40 -o y.h5", 1,
                     "the logits are not finite");
        one_line("kvdata: rank ");
        if (kind > 0) continue;
        shell_expect("ODD=2 BEFORE='cd /' $L sh one.sh " SAMPLE "--documents 9 -o y.h5", 1, "rank 2 (");
        one_line("tokenizer.model");
        shell_expect("ODD=1 MORE='-T 2' $L sh one.sh " SAMPLE "--documents 9 -o y.h5", 1, "rank 1 (");
        one_line("what is to be drawn differs from that of rank 0");
        shell_expect("ODD=1 MORE='-m late' $L sh one.sh " SAMPLE "--documents 9 -o y.h5", 1, "rank 1 (");
        one_line("the model differs from that of rank 0");
        assert_int_not_equal(shell("test -e y.h5"), 0);
        shell_expect("touch z.h5 && $L " SAMPLE "--documents 9 -o z.h5", 1, "z.h5: is there already");
        one_line("z.h5: is there already");
    }
}

static void what_it_would_take(void **state) {
    (void)state;
    skip_alone();
    with(0, 2);
    shell_succeed("$L " SAMPLE "--tokens 5000000 -o dry.h5 --dry-run && test ! -e dry.h5.unfinished");
    shell_printed("tokens           5 M");
}

// ---- The others ----------------------------------------------------------------------------------------

static void others_refuse(void **state) {
    (void)state;
    skip_alone();
    static const char *const others[] = {"inspect long.h5", "tokenize -t tokenizer.model -o w.h5 train.jsonl",
                                         "encode -t tokenizer.model words"};
    for (int i = 0; i < 3; i++) {
        char command[256];
        with(i % launch_n_kinds(), 2);
        snprintf(command, sizeof command, "$L $K %s", others[i]);
        shell_expect(command, 2,
                     "is no work for several processes, and 2 were started: start it without mpirun");
        one_line("is no work for several processes");
        assert_string_equal(shell_out, "");
        with(i % launch_n_kinds(), 1);
        if (i != 1) shell_succeed(command);
    }
    assert_int_not_equal(shell("test -e w.h5"), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(caches_as_alone),
        cmocka_unit_test(caches_gone_on_with),
        cmocka_unit_test(a_rank_of_caches_that_fails),
        cmocka_unit_test(samples_as_alone),
        cmocka_unit_test(samples_gone_on_with),
        cmocka_unit_test(a_rank_of_samples_that_fails),
        cmocka_unit_test(what_it_would_take),
        cmocka_unit_test(others_refuse),
    };
    return cmocka_run_group_tests(tests, set_up, test_dir_tear_down);
}

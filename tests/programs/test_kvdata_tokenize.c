// kvdata tokenize: every way text comes in, the same output whatever the number of threads, and corpora that
// come out the same however often the program was killed on the way. KVDATA names the program.
#include "tests/support/corpus.h"
#include "tests/support/shell.h"

#include "data/corpus/corpus.h"
#include "data/tokenizer/tokenizer.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zlib.h>

static int set_up(void **state) {
    (void)state;
    shell_set_up();
    test_small_corpus(test_dir);
    return 0;
}

#define TOKENIZE "$K tokenize -t tokenizer.model -c0 -m0 "

// The documents' texts in a corpus, each with a new line behind it.
static char *texts_of(const char *name) {
    kv_corpus *corpus = NULL;
    kv_tokenizer *tokenizer = NULL;
    kv_error error = {0};
    char *all = test_alloc(1 << 20, 1);
    size_t used = 0;
    if (kv_tokenizer_open(test_path(test_dir, "tokenizer.model"), &tokenizer, &error) ||
        kv_corpus_open(test_path(test_dir, name), &corpus, &error))
        fail_msg("%s", error.message);
    for (int64_t s = 0; s < corpus->n_shards; s++) {
        kv_shard *shard = NULL;
        assert_int_equal(kv_shard_open(corpus->shards[s].path, &shard, NULL), KV_OK);
        for (int64_t d = 0; d < shard->n_documents; d++) {
            char *text = NULL;
            size_t length = 0;
            const int64_t first = shard->documents[d];
            assert_int_equal(kv_tokenizer_decode(tokenizer, shard->tokens + first,
                                                 shard->documents[d + 1] - first, &text, &length, NULL),
                             KV_OK);
            assert_true(used + length + 2 < 1 << 20);
            memcpy(all + used, text, length);
            used += length;
            all[used++] = '\n';
            free(text);
        }
        kv_shard_free(shard);
    }
    kv_corpus_free(corpus);
    kv_tokenizer_free(tokenizer);
    return all;
}

static void holds(const char *name, const char *expected) {
    char *found = texts_of(name);
    assert_string_equal(found, expected);
    free(found);
}

// ---- Ways in -------------------------------------------------------------------------------------------

static void every_way_in(void **state) {
    (void)state;
    test_write_text(test_path(test_dir, "a.txt"), "one\nmore\n\ntwo");
    test_write_text(test_path(test_dir, "b.jsonl"), "{\"text\": \"three\"}\n\n{\"text\": \"four\"}\n");
    shell_succeed("gzip -k a.txt b.jsonl && cp b.jsonl b.data");
    shell_succeed(TOKENIZE "-o x.h5 a.txt b.jsonl a.txt.gz b.jsonl.gz");
    holds("x.h5", "one\nmore\n\ntwo\nthree\nfour\none\nmore\n\ntwo\nthree\nfour\n");
    shell_succeed(TOKENIZE "-o x.h5 --format jsonl b.data");
    holds("x.h5", "three\nfour\n");
    shell_succeed("cat b.jsonl.gz | " TOKENIZE "-o x.h5 --format jsonl -");
    holds("x.h5", "three\nfour\n");
    shell_succeed(TOKENIZE "-o x.h5 --format text - a.txt < a.txt");
    holds("x.h5", "one\nmore\n\ntwo\none\nmore\n\ntwo\n");
    shell_succeed("mkfifo pipe; (cat b.jsonl >pipe &) ; " TOKENIZE "-o x.h5 --format jsonl pipe");
    holds("x.h5", "three\nfour\n");
    shell_succeed("cat b.jsonl | " TOKENIZE "-o x.h5 -");
    holds("x.h5", "three\nfour\n");
    // Small letters or capitals, a name says what is to be.
    shell_succeed(TOKENIZE "-o X.H5 a.txt && test -f X.H5");
    shell_expect(TOKENIZE "-o y.h5 --format text - - <a.txt", 2, "can be read once");
    shell_expect(TOKENIZE "-o y.h5 --format xml a.txt", 2, "expected text or jsonl");
    shell_expect(TOKENIZE "-o y.h5 --shard-tokens 10 a.txt", 2, "--shard-tokens is for a corpus");
}

static void keys_of_all_kinds(void **state) {
    (void)state;
    test_write_text(test_path(test_dir, "keys.jsonl"),
                    "\xEF\xBB\xBF{\"content\": \"one\", \"text\": \"other\"}\r\n"
                    "{\"content\": \"two\", \"meta\": {\"body\": {\"raw\": \"deep\"}}, \"a.b\": \"dotted\"}\n"
                    "{\"meta\": {\"body.raw\": \"half\"}, \"a\": {\"b\": \"inner\"}}\n");
    shell_succeed(TOKENIZE "-o x.h5 --text-key content keys.jsonl");
    holds("x.h5", "one\ntwo\n");
    assert_non_null(strstr(shell_err, "keys.jsonl:3: \"content\" is missing; left out\n"));
    shell_succeed(TOKENIZE "-o x.h5 --text-key meta.body.raw keys.jsonl");
    holds("x.h5", "deep\nhalf\n");
    shell_succeed(TOKENIZE "-o x.h5 --text-key a.b keys.jsonl");
    holds("x.h5", "dotted\ninner\n");
}

// Sorted, text only, nothing hidden, no directory twice.
static void directories(void **state) {
    (void)state;
    shell_succeed(
        "mkdir -p in/b/c in/.git in/none && for f in b.txt a.jsonl b/c/z.txt.gz b/a.md c.png .hidden.txt .git/x.txt x.h5 gz; "
        "do echo $f >in/$f; done && echo '{\"text\": \"a.jsonl\"}' >in/a.jsonl && ln -s .. in/b/loop && "
        "ln -s ../gz in/b/link.txt");
    shell_succeed(TOKENIZE "-o x.h5 in");
    holds("x.h5", "a.jsonl\nb.txt\n\nb/a.md\n\nb/c/z.txt.gz\n\ngz\n\n");
    shell_expect(TOKENIZE "-o y.h5 in/none", 1, "in/none: no text in the directory");
    shell_expect(TOKENIZE "-o y.h5 in nowhere", 1, "nowhere: No such file");
    assert_int_equal(access(test_path(test_dir, "y.h5"), F_OK), -1);
}

// More than a tenth, of documents or of their text, is not left out without a word that says what keeps it.
static void what_is_lost_is_said(void **state) {
    (void)state;
    const char *keep = "; --min-chars 0 --min-tokens 0 keep them\n";
    shell_succeed(
        "long='a text that is not short at all, repeated until it has many tokens and many characters, '; "
        "long=$long$long$long$long$long; for i in $(seq 20); do echo \"{\\\"text\\\": \\\"$i $long\\\"}\"; done >long.jsonl; "
        "for i in 1 2; do echo '{\"text\": \"short\"}'; done >short.jsonl");
    shell_succeed("$K tokenize -f -t tokenizer.model -o x.h5 -m0 long.jsonl short.jsonl");
    assert_null(strstr(shell_err, "warning"));
    shell_succeed(
        "cat short.jsonl >>short.jsonl.2; cat short.jsonl >>short.jsonl.2; $K tokenize -f -t tokenizer.model -o x.h5 -m0 "
        "--format jsonl long.jsonl short.jsonl.2");
    assert_non_null(strstr(shell_err, "warning: 4 of 24 documents (16.7 %), 0."));
    assert_non_null(strstr(shell_err, keep));
    // Few documents, and most of the text.
    shell_succeed(
        "head -n 1 long.jsonl >rare.jsonl; for i in $(seq 15); do echo '{\"text\": \"short\"}'; done >>rare.jsonl; " TOKENIZE
        "-o x.h5 rare.jsonl");
    assert_null(strstr(shell_err, "warning"));
    shell_succeed("sed '1s/\"text\"/\"tex\"/' rare.jsonl >typo.jsonl; " TOKENIZE "-o x.h5 typo.jsonl");
    assert_non_null(strstr(shell_err, "1 of 16 documents (6.25 %), "));
    assert_non_null(strstr(shell_err, "are left out as bad, the first: typo.jsonl:1: "));
    // Files that are not read for their names.
    shell_succeed("mkdir named && cp long.jsonl named/a.jsonl && cp long.jsonl named/b.rst && " TOKENIZE
                  "-o x.h5 named");
    assert_non_null(strstr(shell_err, "named: 1 of 2 files ("));
    assert_non_null(strstr(shell_err, "B), the first named/b.rst, are not called .txt"));
}

static void bad_lines_are_counted(void **state) {
    (void)state;
    FILE *file = fopen(test_path(test_dir, "bad.jsonl"), "w");
    for (int i = 1; i <= 40; i++) fputs(i % 4 == 0 ? "{\"text\": 5}\n" : "{\"text\": \"fine\"}\n", file);
    fputs("{\"text\": \"cut\n[1]\n{\"text\": null}\n\"\xFF\"\n{\"text\": \"last\"}", file);
    fclose(file);
    shell_succeed(TOKENIZE "-o x.h5 bad.jsonl");
    shell_printed("documents        31\n");
    shell_printed("left out       0 too short, 0 of too few tokens, 14 bad\n");
    assert_non_null(strstr(shell_err, "kvdata: bad.jsonl:4: \"text\" is a number; left out\n"));
    assert_non_null(strstr(shell_err, "kvdata: bad.jsonl:20: \"text\" is a number; left out\n"));
    assert_null(strstr(shell_err, "bad.jsonl:24"));
    assert_non_null(strstr(shell_err, "only counted"));
    shell_succeed("tail -5 bad.jsonl | " TOKENIZE "-o x.h5 --format jsonl -");
    assert_non_null(strstr(shell_err, "standard input:1: not valid JSON"));
    assert_non_null(strstr(shell_err, "standard input:2: \"text\" is missing"));
    assert_non_null(strstr(shell_err, "standard input:3: \"text\" is null"));
    assert_non_null(strstr(shell_err, "standard input:4: not valid JSON"));
    shell_succeed(TOKENIZE "--max-bad 14 -o x.h5 bad.jsonl");
    shell_expect(TOKENIZE "--max-bad 13 -o y.h5 bad.jsonl", 1, "14 documents are bad, expected at most 13");
    shell_expect(TOKENIZE "--text-key body -o y.h5 bad.jsonl", 1,
                 "the first: bad.jsonl:1: \"body\" is missing");
    assert_int_equal(access(test_path(test_dir, "y.h5"), F_OK), -1);
}

// A shard, say, or a parquet file that lies among texts.
static void binary_is_no_text(void **state) {
    (void)state;
    shell_succeed("printf 'fine\\n\\nbi\\0nary\\n\\nagain\\n' | " TOKENIZE "-o x.h5 --format text -");
    shell_printed("documents        2\n");
    assert_non_null(strstr(shell_err, "standard input:3: a NUL byte, as binary files have; left out\n"));
}

// The paper's filters are the default; what drops everything is said.
static void filters(void **state) {
    (void)state;
    FILE *file = fopen(test_path(test_dir, "long.txt"), "w");
    const int lengths[] = {198, 199, 2000, 3000}; // a new line is a character too
    for (int i = 0; i < 4; i++) {
        for (int c = 0; c < lengths[i]; c++) fputc(c % 3 ? 'a' + c % 26 : ' ', file);
        fputs("\n\n", file);
    }
    fclose(file);
    shell_succeed("$K tokenize -t tokenizer.model -o x.h5 long.txt");
    shell_printed("documents        2\n  left out       1 too short, 1 of too few tokens, 0 bad\n");
    shell_expect("$K tokenize -t tokenizer.model -o y train.jsonl", 1,
                 "--min-chars 0 --min-tokens 0 keep short ones");
    assert_int_equal(access(test_path(test_dir, "y"), F_OK), -1);
    shell_expect(": >empty.txt; $K tokenize -t tokenizer.model -o y empty.txt", 1, "the input is empty");
}

// ---- Corpora -------------------------------------------------------------------------------------------

enum { N_FILES = 4, PER_FILE = 1500 };

// Ctrl-C ends the wait for a pipe's writer too, whichever thread it is that waits. (124: timeout's SIGINT did; 137: not.)
static void interrupted_while_waiting_for_a_pipe(void **state) {
    (void)state;
    shell_expect("mkfifo silent && timeout --foreground -k 20 -s INT 4 " TOKENIZE "-o y.h5 silent", 124,
                 "warning: silent: a pipe");
    assert_non_null(strstr(shell_err, "kvdata: interrupted"));
    shell_succeed("rm silent && test ! -e y.h5");
}

// A page is text too, so it is read, with a warning; what is no text from its first document on is left out of a
// directory and refused where it was named.
static void what_lies_among_texts(void **state) {
    (void)state;
    shell_succeed(
        "mkdir mixed && cd mixed && echo 'A text.' >a.txt && echo '{\"error\": \"Not found\"}' >b.json && "
        "printf '%%PDF-1.4\\n\\0\\351\\n' >c.txt && printf '\\n <!DOCTYPE html><title>404</title>\\n' >d.txt && "
        "for n in 1 2 3 4; do cp d.txt d$n.txt; done && echo 'Tags: <html> <body>' >e.txt");
    shell_succeed(TOKENIZE "-o x.h5 mixed");
    shell_printed("documents        7\n  left out       0 too short, 0 of too few tokens, 2 bad\n");
    assert_non_null(
        strstr(shell_err, "mixed/b.json:1: nothing but {\"error\": \"Not found\"}, expected a text"));
    assert_non_null(
        strstr(shell_err, "mixed/c.txt:1: what libmagic calls \"PDF document\", expected a text"));
    assert_non_null(strstr(shell_err, "warning: mixed/d.txt: an HTML page (\"404\"), read as plain text"));
    assert_null(strstr(shell_err, "d4.txt")); // of many the first few
    assert_null(strstr(shell_err, "e.txt"));
    shell_expect(TOKENIZE "-o y.h5 mixed/a.txt mixed/b.json", 1,
                 "kvdata: mixed/b.json: nothing but {\"error\"");
    shell_succeed(TOKENIZE "--format text -o x.h5 mixed/d.txt");
    assert_null(strstr(shell_err, "warning"));
    shell_succeed("rm -r mixed");
}

// in-1.txt, in-2.jsonl, in-3.txt.gz, in-4.jsonl.gz: 6000 documents of 5 to 300 bytes, a few of them bad.
static void write_inputs(void) {
    if (access(test_path(test_dir, "in-1.txt"), F_OK) == 0) return;
    static const char *const names[] = {"in-1.txt", "in-2.jsonl", "in-3.txt.gz", "in-4.jsonl.gz"};
    for (int f = 0; f < N_FILES; f++) {
        gzFile file = gzopen(test_path(test_dir, names[f]), f < 2 ? "wbT" : "wb");
        for (int d = 0; d < PER_FILE; d++) {
            char text[400];
            const int n = 1 + (int)test_below(11, f * PER_FILE + d, 20);
            size_t used = (size_t)snprintf(text, sizeof text, "Place %d:", d);
            for (int w = 0; w < n; w++)
                used += (size_t)snprintf(
                    text + used, sizeof text - used, " %llx",
                    (unsigned long long)test_below(12, (f * PER_FILE + d) * 20 + w, 1 << 30));
            if (f % 2 == 0)
                gzprintf(file, "%s\n\n", text);
            else if (d % 100 == 7)
                gzprintf(file, "{\"text\": \"%s\n", text);
            else
                gzprintf(file, "{\"text\": \"%s\"}\n", text);
        }
        gzclose(file);
    }
}

#define INPUTS "in-1.txt in-2.jsonl in-3.txt.gz in-4.jsonl.gz"
#define CORPUS "$K tokenize -t tokenizer.model -c 20 -m 0 --shard-tokens 40000 "

// The corpus of one run without an interruption, at `whole`.
static void make_whole(void) {
    write_inputs();
    if (access(test_path(test_dir, "whole"), F_OK) != 0) shell_succeed(CORPUS "--threads 1 -o whole " INPUTS);
}

static void a_corpus_is_the_shards_of_its_text(void **state) {
    (void)state;
    make_whole();
    shell_succeed("$K tokenize -t tokenizer.model -c 20 -m 0 -o one.h5 " INPUTS);
    kv_corpus *whole = NULL, *one = NULL;
    kv_error error = {0};
    if (kv_corpus_open(test_path(test_dir, "whole"), &whole, &error)) fail_msg("%s", error.message);
    assert_int_equal(kv_corpus_open(test_path(test_dir, "one.h5"), &one, NULL), KV_OK);
    assert_true(whole->n_shards >= 5);
    assert_int_equal(whole->n_tokens, one->n_tokens);
    assert_int_equal(whole->n_documents, one->n_documents);
    assert_string_equal(whole->info.source, INPUTS);
    kv_shard *all = NULL;
    assert_int_equal(kv_shard_open(test_path(test_dir, "one.h5"), &all, NULL), KV_OK);
    const int32_t *at = all->tokens;
    const int64_t *document = all->documents;
    for (int64_t s = 0; s < whole->n_shards; s++) {
        kv_shard *shard = NULL;
        assert_int_equal(kv_shard_open(whole->shards[s].path, &shard, NULL), KV_OK);
        assert_memory_equal(shard->tokens, at, (size_t)shard->n_tokens * sizeof *at);
        for (int64_t d = 0; d <= shard->n_documents; d++)
            assert_int_equal(shard->documents[d], document[d] - document[0]);
        at += shard->n_tokens;
        document += shard->n_documents;
        // Full with its last document, but not before.
        const int64_t before = shard->documents[shard->n_documents - 1];
        assert_true(before < 40000);
        if (s < whole->n_shards - 1) assert_true(shard->n_tokens >= 40000);
        kv_shard_free(shard);
    }
    kv_shard_free(all);
    kv_corpus_free(whole);
    kv_corpus_free(one);
    char *index = test_read_text(test_path(test_dir, "whole/index.json"));
    assert_non_null(strstr(index, "\"sources\": [\n  \"in-1.txt\""));
    assert_non_null(strstr(index, "\"bad\": 30"));
    free(index);
    shell_expect("ls whole | grep -v shard-", 0, "");
    assert_string_equal(shell_out, "index.json\n");
}

static void threads_change_nothing(void **state) {
    (void)state;
    make_whole();
    shell_succeed(CORPUS "--threads 2 -o two " INPUTS " && diff -r whole two");
    shell_succeed("OMP_NUM_THREADS=4 " CORPUS "-o four " INPUTS " && diff -r whole four");
    shell_succeed("rm -r two four");
}

// ---- Interruptions -------------------------------------------------------------------------------------

static pid_t start_corpus(const char *name) {
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        if (chdir(test_dir) != 0 || !freopen("/dev/null", "w", stderr) || !freopen("/dev/null", "w", stdout))
            _exit(126);
        execl(getenv("KVDATA"), "kvdata", "tokenize", "-t", "tokenizer.model", "-c", "20", "-m", "0",
              "--shard-tokens", "40000", "-o", name, "in-1.txt", "in-2.jsonl", "in-3.txt.gz", "in-4.jsonl.gz",
              NULL);
        _exit(127);
    }
    return child;
}

// Killed when `entries` are in the directory and some time later; false when it was done before.
static bool kill_at(const char *name, int64_t entries, int microseconds, int signal) {
    pid_t child = start_corpus(name);
    int status = 0;
    for (;;) {
        if (test_dir_count(test_path(test_dir, name)) >= entries) break;
        if (waitpid(child, &status, WNOHANG) == child) return false;
        usleep(200);
    }
    usleep((unsigned)microseconds);
    kill(child, signal);
    assert_int_equal(waitpid(child, &status, 0), child);
    return !WIFEXITED(status) || WEXITSTATUS(status) != 0;
}

static void killed_runs_go_on(void **state) {
    (void)state;
    make_whole();
    int killed = 0;
    for (int round = 0; round < 4; round++) {
        // With the journal alone, and from one shard to the next.
        for (int64_t entries = 1; entries < 8; entries += 2) {
            const int signal = round % 2 ? SIGINT : SIGKILL;
            killed += kill_at("killed", entries + (round > 2), 700 * round, signal);
        }
        shell_succeed("if [ ! -f killed/index.json ]; then " CORPUS "-o killed " INPUTS
                      "; fi && diff -r whole killed");
        shell_succeed("rm -r killed");
    }
    assert_true(killed >= 8);
}

// What a kill at the worst moments leaves: a shard that the journal does not know yet, and half of the next.
static void the_worst_moments(void **state) {
    (void)state;
    make_whole();
    kill_at("worst", 7, 0, SIGKILL); // within JSON lines
    shell_succeed("test -f worst/unfinished.json && n=$(ls worst | grep -c 'shard-.*h5$') && "
                  "echo half >worst/shard-0000$n.h5 && echo half >worst/shard-0000$n.h5.tmp.77.1 && "
                  "echo half >worst/unfinished.json.tmp.77.2 && echo mine >worst/notes");
    shell_succeed(CORPUS "-o worst " INPUTS);
    assert_non_null(strstr(shell_err, "kvdata: going on behind "));
    // Lines are still counted from the file's beginning: bad is the eighth of every hundred.
    for (const char *at = shell_err; (at = strstr(at, ": not valid JSON")); at++) {
        assert_true(at - shell_err > 2);
        assert_memory_equal(at - 1, "8", 1);
        assert_true(at[-2] == '0' || at[-2] == ':');
    }
    shell_succeed("rm worst/notes && diff -r whole worst && rm -r worst");
}

static void what_differs_is_refused(void **state) {
    (void)state;
    make_whole();
    kill_at("half", 4, 0, SIGKILL);
    shell_succeed("cp -r half saved");
    shell_expect(
        "$K tokenize -t tokenizer.model -c 21 -m 0 --shard-tokens 40000 -o half " INPUTS, 1,
        "half: was begun with min_chars 20, found 21 now; use the same to go on, or --force to begin anew");
    shell_expect("$K tokenize -t tokenizer.model -c 20 -m 0 --shard-tokens 40001 -o half " INPUTS, 1,
                 "shard_tokens 40000");
    shell_expect(CORPUS "--nfc -o half " INPUTS, 1, "nfc false, found true");
    shell_expect(CORPUS "--text-key x -o half " INPUTS, 1, "text_key \"text\"");
    shell_expect(CORPUS "-o half in-1.txt in-3.txt.gz in-2.jsonl in-4.jsonl.gz", 1,
                 "file in-2.jsonl where in-3.txt.gz is now");
    shell_expect(CORPUS "-o half " INPUTS " in-1.txt", 1, "other inputs (4 files, found 5)");
    shell_expect("cp -p in-2.jsonl kept && echo >>in-2.jsonl && " CORPUS "-o half " INPUTS, 1,
                 "half: in-2.jsonl was changed");
    shell_expect("mv kept in-2.jsonl && cp -p in-2.jsonl kept && touch in-2.jsonl && " CORPUS
                 "-o half " INPUTS,
                 1, "half: in-2.jsonl was changed");
    shell_succeed("mv kept in-2.jsonl && diff -r half saved");
    shell_expect("mv half/shard-00000.h5 kept && " CORPUS "-o half " INPUTS, 1, "shard-00000.h5");
    shell_expect("cp half/shard-00001.h5 half/shard-00000.h5 && " CORPUS "-o half " INPUTS, 1,
                 "not the shard that was written");
    shell_expect("mv kept half/shard-00000.h5 && echo '{}' >half/unfinished.json && " CORPUS
                 "-o half " INPUTS,
                 1, "unfinished.json");
    // All of it can be begun anew.
    shell_succeed(CORPUS "--force -o half " INPUTS " && diff -r whole half");
    shell_expect(CORPUS "-o half " INPUTS, 1, "half: holds a finished corpus; --force replaces it");
    shell_expect("rm half/index.json && " CORPUS "-o half " INPUTS, 1,
                 "holds shards of no corpus that is known");
    // Fewer shards than before: none is left over.
    shell_succeed("$K tokenize -t tokenizer.model -c0 -m0 --force -o half in-1.txt && ls half | wc -l");
    shell_printed("\n2\n");
    shell_succeed("rm -r half saved");
}

static void standard_input_is_not_gone_on_with(void **state) {
    (void)state;
    write_inputs();
    int ends[2], status;
    assert_int_equal(pipe(ends), 0);
    char *text = test_read_text(test_path(test_dir, "in-1.txt"));
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        dup2(ends[0], STDIN_FILENO);
        close(ends[1]);
        if (chdir(test_dir) != 0 || !freopen("/dev/null", "w", stderr)) _exit(126);
        execl(getenv("KVDATA"), "kvdata", "tokenize", "-t", "tokenizer.model", "-c", "20", "-m", "0",
              "--shard-tokens", "20000", "--format", "text", "-o", "piped", "-", NULL);
        _exit(127);
    }
    // The pipe stays open: there might come more. Several times: blocks are written when others were read
    // behind them.
    for (int i = 0; i < 14; i++) assert_int_equal(write(ends[1], text, strlen(text)), (ssize_t)strlen(text));
    free(text);
    while (access(test_path(test_dir, "piped/shard-00000.h5"), F_OK) != 0) {
        assert_int_equal(waitpid(child, &status, WNOHANG), 0);
        usleep(200);
    }
    kill(child, SIGKILL);
    waitpid(child, &status, 0);
    close(ends[0]), close(ends[1]);
    shell_expect(
        "cat in-1.txt | $K tokenize -t tokenizer.model -c20 -m0 --shard-tokens 20000 --format text -o piped -",
        1, "cannot be read again; --force begins anew");
    shell_succeed("cat in-1.txt | " CORPUS
                  "--force --format text -o piped - && test ! -f piped/unfinished.json && rm -r piped");
}

static void two_at_a_time_are_refused(void **state) {
    (void)state;
    write_inputs();
    int ready = 0;
    pid_t first = start_corpus("shared");
    while (waitpid(first, NULL, WNOHANG) == 0 && !ready) {
        ready = test_dir_count(test_path(test_dir, "shared")) > 0;
        usleep(200);
    }
    kill(first, SIGSTOP);
    shell_expect(CORPUS "-o shared " INPUTS, 1, "another kvdata tokenize is at work in it");
    shell_expect(CORPUS "--force -o shared " INPUTS, 1, "another kvdata tokenize is at work in it");
    kill(first, SIGCONT);
    kill(first, SIGKILL);
    waitpid(first, NULL, 0);
}

// A disk that fills up leaves what was finished, and the same command goes on when there is room again.
static void a_full_disk(void **state) {
    (void)state;
    make_whole();
    char command[512];
    snprintf(command, sizeof command, "cd $D && " CORPUS "-o full " INPUTS);
    const char *const arguments[] = {"/bin/sh", "-c", command, NULL};
    assert_int_equal(test_run(arguments, 30000, shell_out, shell_err, sizeof shell_out), 1);
    assert_non_null(strstr(shell_err, "kvdata: full/shard-00000.h5: cannot write"));
    assert_int_equal(test_dir_count(test_path(test_dir, "full")), -1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_way_in),
        cmocka_unit_test(keys_of_all_kinds),
        cmocka_unit_test(directories),
        cmocka_unit_test(interrupted_while_waiting_for_a_pipe),
        cmocka_unit_test(what_is_lost_is_said),
        cmocka_unit_test(bad_lines_are_counted),
        cmocka_unit_test(what_lies_among_texts),
        cmocka_unit_test(binary_is_no_text),
        cmocka_unit_test(filters),
        cmocka_unit_test(a_corpus_is_the_shards_of_its_text),
        cmocka_unit_test(threads_change_nothing),
        cmocka_unit_test(killed_runs_go_on),
        cmocka_unit_test(the_worst_moments),
        cmocka_unit_test(what_differs_is_refused),
        cmocka_unit_test(standard_input_is_not_gone_on_with),
        cmocka_unit_test(two_at_a_time_are_refused),
        cmocka_unit_test(a_full_disk),
    };
    return cmocka_run_group_tests(tests, set_up, test_dir_tear_down);
}

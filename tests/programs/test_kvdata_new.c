// kvdata new: projects of all kinds of text, what is in them, and that their four commands lead to results. KVDATA, KVTRAIN
// and KVEVAL name the programs.
#include "tests/support/corpus.h"
#include "tests/support/shell.h"

#include "data/corpus/shard.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int set_up(void **state) {
    (void)state;
    shell_set_up();
    // 40 documents of a few hundred words each, none like another.
    shell_succeed("$K atlas --facts 300 --out facts >log");
    shell_succeed(
        "for i in $(seq 40); do printf '{\"text\": \"'; for j in $(seq 40); do "
        "printf 'word%d of %d is %d. ' $((i * j % 23)) $i $((i * i + j)); done; echo '\"}'; done >many.jsonl");
    return 0;
}

static bool is_there(const char *name) {
    return access(test_path(test_dir, name), F_OK) == 0;
}

static int64_t tokens_of(const char *name) {
    kv_shard_summary summary;
    kv_error err = {0};
    if (kv_shard_read_summary(test_path(test_dir, name), &summary, &err) != KV_OK)
        fail_msg("%s", err.message);
    return summary.n_tokens;
}

// ---- From text to results ------------------------------------------------------------------------------

static void four_commands(void **state) {
    (void)state;
    shell_succeed("$K new first facts/train.jsonl --questions facts/questions_trained.jsonl");
    shell_printed("documents        300\n");
    shell_printed(
        "\n  cd first\n  kvtrain base.yaml\n  kvtrain aux.yaml\n  kvtrain kvp.yaml\n  kveval eval.yaml\n");
    shell_succeed("cd first && for f in base aux; do $T $f.yaml --dry-run >../log; done");
    assert_null(strstr(shell_err, "warning"));
    shell_succeed("cd first && $T base.yaml -s train.steps=30 -s train.warmup_steps=5 && "
                  "$T aux.yaml -s train.steps=20 -s train.warmup_steps=5 && $T kvp.yaml --dry-run >../log && "
                  "$T kvp.yaml -s train.steps=10 -s train.warmup_steps=5");
    shell_succeed("cd first && $E eval.yaml --dry-run");
    assert_null(strstr(shell_err, "warning"));
    shell_succeed("cd first && $E eval.yaml --limit 6 --no-ttft");
    shell_printed("KVP ");
    shell_printed("questions, all: 6 items");
    assert_true(is_there("first/runs/eval/results.csv") && is_there("first/runs/eval/pareto.svg"));
    // Perplexities are sane: less than the vocabulary's, more than 1.
    shell_succeed(
        "awk -F, '/^base,/ && /tail_nll/ {for (i = 1; i <= NF; i++) if ($i + 0 > 0.1 && $i + 0 < 6.5) ok = 1} "
        "END {exit !ok}' first/runs/eval/results.csv");
}

// The rivals that kvp.yaml tells of can be trained as it says, and asked.
static void rivals(void **state) {
    (void)state;
    shell_succeed(
        "cd first && sed -n 's/^#   kvtrain/$T/p; s/^#     -s/ -s/p' kvp.yaml >rivals.sh && "
        "sed -i 's/-o runs.rival/-s train.steps=2 -s train.warmup_steps=1 &/' rivals.sh && sh -e rivals.sh && "
        "sed 's/^  # - {name: /  - {name: /' eval.yaml >more.yaml && $E more.yaml --dry-run");
    shell_printed("| rival | prefix 1");
}

// What the programs print to start from is valid as it is, in a project.
static void examples(void **state) {
    (void)state;
    shell_succeed(
        "cd first && for k in lm kvp; do $T --example $k >$k.yaml && $T $k.yaml --dry-run >../log || exit 1; done");
    shell_succeed("cd first && $E --example >e.yaml && $E e.yaml --dry-run >../log");
    shell_expect("$T --example lp", 2, "expected lm, kvp or eval");
    shell_expect("$T --example lm >/dev/full", 1, "cannot write the output");
}

// The commands that README.md and the program's last words name are the same.
static void written_words(void **state) {
    (void)state;
    shell_succeed("grep -c '^kvtrain \\|^kveval ' first/README.md");
    assert_string_equal(shell_out, "4\n");
    shell_succeed("cat first/*.yaml first/README.md");
    assert_null(strstr(shell_out, "@"));
    assert_null(strstr(shell_out, test_dir));
}

// ---- The split -----------------------------------------------------------------------------------------

static void each_once_and_nowhere_twice(void **state) {
    (void)state;
    shell_succeed(
        "cat many.jsonl many.jsonl >twice.jsonl && $K new once many.jsonl && cp once/held_out.jsonl held && "
        "tac twice.jsonl >tac.jsonl && $K new twice tac.jsonl");
    shell_printed("  left out       40 exact copies, 0 bad\n");
    assert_non_null(strstr(shell_err, "40 of 80 documents, 50 % of the text, are exact copies"));
    // Whatever the order of files, the same is held out.
    shell_succeed("sort once/held_out.jsonl >a && sort twice/held_out.jsonl >b && cmp a b && test -s a");
    shell_succeed("sort once/train.jsonl once/held_out.jsonl | uniq -d");
    assert_string_equal(shell_out, "");
    shell_succeed("cat once/train.jsonl once/held_out.jsonl | wc -l");
    assert_string_equal(shell_out, "40\n");
    const int64_t held_out = tokens_of("once/held_out.h5"), train = tokens_of("once/train.h5");
    assert_in_range(100 * held_out / (held_out + train), 5, 15);
    // And the same project, but for nothing.
    shell_succeed("$K new again many.jsonl && diff -r once again");
    shell_succeed("$K new half many.jsonl --held-out 0.5 >log && cat half/held_out.jsonl | wc -l");
    assert_in_range(atoi(shell_out), 15, 25);
}

static void one_document(void **state) {
    (void)state;
    shell_succeed(
        "python3 -c \"import json; print(json.dumps({'text': ' '.join(json.loads(l)['text'] for l in "
        "open('many.jsonl'))}))\" >one.jsonl && $K new of_one one.jsonl");
    shell_printed("documents        1\n");
    shell_printed(", as 1 documents are cut\n");
    // Nothing is lost and nothing is new.
    shell_succeed(
        "python3 -c \"import json; a = sum(len(json.loads(l)['text']) for f in ('train', 'held_out') for l in "
        "open('of_one/%s.jsonl' % f)); b = len(json.loads(open('one.jsonl').read())['text']); print(a == b)\"");
    assert_string_equal(shell_out, "True\n");
    // Plain text without a blank line or a line end, from standard input.
    shell_succeed("tr -d '\\n' <many.jsonl | $K new of_line - --format text");
    shell_printed(", as 1 documents are cut\n");
}

// Paragraphs of one file stand together, those of two files do not.
static void paragraphs(void **state) {
    (void)state;
    shell_succeed(
        "mkdir in && for f in a b; do for i in $(seq 200); do echo \"$f$i says that $((i * i)) is the square of $i, in "
        "file $f, which nobody doubts.\"; echo; done >in/$f.txt; done && $K new parts in");
    shell_printed("documents        400\n");
    shell_succeed(
        "python3 -c \"import json; texts = [json.loads(l)['text'] for f in ('train', 'held_out') for l in "
        "open('parts/%s.jsonl' % f)]; print(all(('file a,' in t) != ('file b,' in t) for t in texts), "
        "sum(t.count('square') for t in texts), min(t.count('square') for t in texts) > 2, "
        "all(t.endswith('doubts.\\\\n') for t in texts))\"");
    assert_string_equal(shell_out, "True 400 True True\n");
}

// ---- Other tokenizers ----------------------------------------------------------------------------------

static void tokenizers(void **state) {
    (void)state;
    shell_succeed("$K new mine many.jsonl --vocab-size 280");
    shell_printed("vocabulary       280\n");
    shell_succeed(
        "$K new other many.jsonl --tokenizer mine/tokenizer.model && test ! -e other/tokenizer.model && "
        "cmp mine/train.h5 other/train.h5 && $T --dry-run other/base.yaml -s data.train=other/train.h5 -s "
        "data.validation=other/held_out.h5 >log");
    shell_expect("$K new no many.jsonl --tokenizer mine/tokenizer.model --vocab-size 280", 2,
                 "beside --tokenizer");
    shell_expect("$K new no many.jsonl --vocab-size 20000", 1, "spm_train failed");
    // Of characters that would not fit into few pieces.
    shell_succeed(
        "python3 -c \"import json\nfor i in range(60): print(json.dumps({'text': ''.join(chr(0x4e00 + (i * 37 + j * j) "
        "% 900) for j in range(300))}))\" >han.jsonl && $K new han han.jsonl");
    assert_non_null(strstr(shell_out, "vocabulary       1"));
}

// ---- What cannot be ------------------------------------------------------------------------------------

// Fails without leaving anything.
static void refuse(const char *command, int status, const char *words) {
    shell_expect(command, status, words);
    shell_succeed("ls -A | grep '^no' || true");
    assert_string_equal(shell_out, "");
}

static void refused(void **state) {
    (void)state;
    shell_succeed(
        "head -n 3 many.jsonl >little.jsonl; : >empty.txt; printf '\\0\\1\\2\\377' >binary.txt; "
        "printf 'caf\\351 au lait\\n' >latin.txt; mkdir full; : >full/x; echo '{\"body\": 1}' >keyless.jsonl");
    refuse("$K new no", 2, "expected at least one INPUT");
    refuse("$K new", 2, "expected DIR");
    refuse("$K new no nowhere.txt", 1, "nowhere.txt: No such file");
    refuse("$K new no little.jsonl", 1, "in 3 documents, expected at least 10 kB");
    refuse("$K new no empty.txt", 1, "expected at least 10 kB");
    refuse("$K new no binary.txt", 1, "binary.txt:1: ");
    refuse("$K new no latin.txt", 1, "latin.txt:1: byte E9 is not UTF-8");
    refuse("$K new no keyless.jsonl", 1, "keyless.jsonl:1: \"text\" is missing");
    refuse("$K new full many.jsonl", 1, "full: is not empty (found x)");
    refuse("$K new empty.txt many.jsonl", 1, "empty.txt: Not a directory");
    refuse("$K new no many.jsonl --held-out 0.9", 2, "expected a number from 0.01 to 0.5");
    refuse("$K new no many.jsonl --questions empty.txt", 1, "empty.txt");
    refuse("$K new no - - <many.jsonl", 2, "can be read once");
    // In a directory what is no text is left out, aloud.
    shell_succeed(
        "mkdir mixed && cp many.jsonl binary.txt latin.txt mixed && $K new mixture mixed && mkdir void");
    assert_non_null(strstr(shell_err, "latin.txt:1: byte E9 is not UTF-8"));
    assert_non_null(strstr(shell_err, "binary.txt:1: "));
    shell_printed("  left out       0 exact copies, 2 bad\n");
    // An empty directory is as good as none; trailing slashes and blanks do no harm.
    shell_succeed("$K new void/ many.jsonl && $K new 'a b/c' many.jsonl");
    shell_printed("  cd 'a b/c'\n");
    assert_true(is_there("void/eval.yaml") && is_there("a b/c/eval.yaml"));
}

static void stopped(void **state) {
    (void)state;
    shell_succeed("for i in $(seq 300); do cat many.jsonl | sed \"s/word/w$i/g\"; done >large.jsonl");
    shell("timeout -s INT 0.3 $K new no large.jsonl");
    shell_succeed("ls -A | grep '^no' || true");
    assert_string_equal(shell_out, "");
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(four_commands),
                                       cmocka_unit_test(rivals),
                                       cmocka_unit_test(examples),
                                       cmocka_unit_test(written_words),
                                       cmocka_unit_test(each_once_and_nowhere_twice),
                                       cmocka_unit_test(one_document),
                                       cmocka_unit_test(paragraphs),
                                       cmocka_unit_test(tokenizers),
                                       cmocka_unit_test(refused),
                                       cmocka_unit_test(stopped)};
    return cmocka_run_group_tests(tests, set_up, test_dir_tear_down);
}

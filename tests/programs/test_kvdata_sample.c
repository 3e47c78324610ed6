// kvdata sample: what a corpus that a model drew is, that neither batches, threads, OpenBLAS's kernels nor interruptions
// change a byte of it, what is refused, and that kvtrain trains on it beside other text.
#include "tests/support/corpus.h"
#include "tests/support/shell.h"
#include "tests/support/spoil.h"
#include "tests/support/tiny.h"
#include "tests/support/tokenizer.h"

#include "data/checkpoint/checkpoint.h"
#include "data/corpus/corpus.h"

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static bool is_there(const char *name) {
    return access(test_path(test_dir, name), F_OK) == 0;
}

// A base that has seen the facts for a while: base/final/model, with the tokenizer it was trained with.
static const char base[] =
    "task: lm\noutput: base\nseed: 1\n"
    "data: {train: train.h5, seq_len: 64, batch_size: 8}\n"
    "model: {from: scratch, n_layers: 2, model_dim: 32, head_dim: 16, n_heads: 2, n_kv_heads: 1, ffn_dim: 48, "
    "context_length: 64}\ntrain: {steps: 60, lr: 1.0e-2, warmup_steps: 5}\n";

static int set_up(void **state) {
    (void)state;
    shell_set_up();
    test_small_corpus(test_dir);
    test_write_text(test_path(test_dir, "base.yaml"), base);
    return shell("$K tokenize -t tokenizer.model -c0 -m0 -o train.h5 train.jsonl && $T base.yaml");
}

static kv_shard *open_shard(const char *name) {
    kv_shard *shard;
    kv_error error = {0};
    if (kv_shard_open(test_path(test_dir, name), &shard, &error)) fail_msg("%s", error.message);
    return shard;
}

#define SAMPLE "$K sample -m base/final/model "
#define SOME   SAMPLE "-T 0.7 --documents 300 -l 40 "

// some.h5: the corpus that others are compared with.
static void make_some(void) {
    if (!is_there("some.h5")) shell_succeed(SOME "--threads 1 -o some.h5");
}

// ---- What it is ----------------------------------------------------------------------------------------

static void documents_of_a_model(void **state) {
    (void)state;
    shell_succeed(SOME "-o some.h5");
    shell_printed("drawn            300 documents, ");
    shell_printed("written to some.h5\n");
    assert_false(is_there("some.h5.unfinished"));
    kv_shard *shard = open_shard("some.h5"), *text = open_shard("train.h5");
    assert_int_equal(shard->n_documents, 300);
    assert_string_equal(shard->info.tokenizer, text->info.tokenizer);
    assert_string_equal(shard->info.cuts, text->info.cuts);
    assert_int_equal(shard->info.vocab_size, text->info.vocab_size);
    assert_int_equal(shard->info.bos_id, 1);
    assert_int_equal(shard->info.eos_id, 2);
    assert_non_null(strstr(shard->info.source, "drawn from base/final/model ("));
    assert_non_null(
        strstr(shard->info.source, "temperature 0.7, top-k 0, top-p 1, min-p 0, seed 1, from document 0"));
    int64_t cut = 0;
    char words[64];
    for (int64_t d = 0; d < 300; d++) {
        const int64_t first = shard->documents[d], n = shard->documents[d + 1] - first;
        assert_int_equal(shard->tokens[first], 1);
        for (int64_t t = 1; t < n; t++) assert_true(shard->tokens[first + t] != 1);
        for (int64_t t = 1; t + 1 < n; t++) assert_true(shard->tokens[first + t] != 2);
        const bool ended = shard->tokens[first + n - 1] == 2;
        assert_true(n >= 2 && n <= 40 && (ended || n == 40));
        cut += !ended;
    }
    snprintf(words, sizeof words, "cut off        %d, after 40 tokens", (int)cut);
    shell_printed(words);
    kv_shard_free(shard);
    kv_shard_free(text);
    // With its tokenizer, as any corpus.
    shell_succeed("$K inspect some.h5");
    shell_printed("tokenizer.model (");
}

static void nothing_else_changes_a_byte(void **state) {
    (void)state;
    make_some();
    static const char *const ways[] = {
        SOME "--threads 1 --batch 1",
        SOME "--threads 2 --batch 7",
        SOME "--threads 3 --batch 300",
        "OMP_NUM_THREADS=2 " SOME,
        "OPENBLAS_CORETYPE=Prescott " SOME,
        "OPENBLAS_CORETYPE=Nehalem " SOME "--batch 3",
        "OMP_NUM_THREADS=1 " SOME "--batch 64000",
    };
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        char command[512];
        snprintf(command, sizeof command, "%s --force -o other.h5 && cmp some.h5 other.h5", ways[i]);
        shell_succeed(command);
    }
    shell_succeed("$K sample -m base/final/model -T 0.7 --documents 300 -l 40 --seed 2 --force -o other.h5");
    assert_int_equal(shell("cmp -s some.h5 other.h5"), 1);
}

// The documents of `part` are those of `whole` from `at` on.
static void is_part_of(const char *part, const char *whole, int64_t at) {
    kv_shard *a = open_shard(part), *b = open_shard(whole);
    const int64_t first = b->documents[at];
    assert_true(at + a->n_documents <= b->n_documents);
    assert_memory_equal(a->tokens, b->tokens + first, (size_t)a->n_tokens * sizeof(int32_t));
    for (int64_t d = 0; d <= a->n_documents; d++)
        assert_int_equal(a->documents[d], b->documents[at + d] - first);
    kv_shard_free(a);
    kv_shard_free(b);
}

static void documents_by_their_numbers(void **state) {
    (void)state;
    make_some();
    shell_succeed(SAMPLE "-T 0.7 --documents 120 -l 40 -o part.h5");
    is_part_of("part.h5", "some.h5", 0);
    shell_succeed(SAMPLE "-T 0.7 --first 150 --documents 60 -l 40 --force -o part.h5");
    is_part_of("part.h5", "some.h5", 150);
    shell_succeed(SAMPLE "-T 0.7 --tokens 2000 -l 40 --force -o part.h5");
    is_part_of("part.h5", "some.h5", 0);
    kv_shard *shard = open_shard("part.h5");
    assert_true(shard->n_tokens >= 2000 && shard->documents[shard->n_documents - 1] < 2000);
    kv_shard_free(shard);
}

// ---- How often each came -------------------------------------------------------------------------------

static bool same_document(const kv_shard *a, int64_t i, const kv_shard *b, int64_t j) {
    const int64_t n = a->documents[i + 1] - a->documents[i];
    return n == b->documents[j + 1] - b->documents[j] &&
           !memcmp(a->tokens + a->documents[i], b->tokens + b->documents[j], (size_t)n * sizeof(int32_t));
}

static void what_came_several_times(void **state) {
    (void)state;
#define SHORT SAMPLE "-T 0.5 --documents 400 -l 5 "
    shell_succeed(SHORT "-o all.h5");
    kv_shard *all = open_shard("all.h5");
    for (int64_t least = 1; least <= 4; least += least == 1 ? 1 : 2) {
        char command[256];
        snprintf(command, sizeof command, SHORT "--min-count %d --force -o often.h5", (int)least);
        shell_succeed(command);
        kv_shard *often = open_shard("often.h5");
        int64_t n = 0, distinct = 0;
        for (int64_t d = 0; d < 400; d++) {
            int64_t count = 0;
            bool first = true;
            for (int64_t e = 0; e < 400; e++)
                if (same_document(all, d, all, e)) count++, first = first && e >= d;
            distinct += first;
            if (!first || count < least) continue;
            assert_true(n < often->n_documents &&
                        same_document(all, d, often, n)); // in the order in which they came
            n++;
        }
        assert_int_equal(often->n_documents, n);
        assert_true(least == 1 || (n > 3 && n < distinct));
        snprintf(command, sizeof command, "distinct       %d, of which %d came %d times or more",
                 (int)distinct, (int)n, (int)least);
        shell_printed(command);
        kv_shard_free(often);
    }
    kv_shard_free(all);
    // What was drawn is not lost: a smaller number is found in it.
    shell_expect(
        SHORT "--min-count 401 -o never.h5", 1,
        "never.h5: of 400 documents none was drawn 401 times; draw more, at a lower --temperature, or lower --min-count");
    assert_true(!is_there("never.h5") && is_there("never.h5.unfinished"));
    shell_succeed(SHORT "--min-count 4 -o never.h5 && cmp never.h5 often.h5");
    assert_null(strstr(shell_err, "going on"));
    assert_false(is_there("never.h5.unfinished"));
}

// ---- How documents begin and end -----------------------------------------------------------------------

static void a_prefix(void **state) {
    (void)state;
    shell_succeed(
        SAMPLE
        "--documents 20 -l 40 --prefix 'Question: In which' -o prefix.h5 && $K inspect -d 20 -t tokenizer.model prefix.h5 | "
        "grep -c '^Question: In which'");
    shell_printed("20\n");
    shell_expect(SAMPLE "--documents 20 -l 3 --prefix 'Question: In which' -o y.h5", 1,
                 "--max-tokens: 3, expected from ");
    shell_expect(
        SAMPLE "--documents 20 --max-tokens 65 -o y.h5", 1,
        "--max-tokens: 65, expected from 2 (what a document begins with, and one more) to 64 (the context of base/final/model)");
}

// A model of random weights for the byte-level tokenizers of tests.
static void make_byte_model(void) {
    if (is_there("bytes")) return;
    kv_model_spec spec = tiny_base();
    kv_error error = {0};
    spec.vocab_size = 300;
    spec.bos_id = spec.eos_id = -1;
    kv_model *model = tiny_model(&spec, 4);
    if (kv_checkpoint_save(test_path(test_dir, "bytes"), model, &error)) fail_msg("%s", error.message);
    kv_model_free(model);
}

static void tokenizers_without_bos(void **state) {
    (void)state;
    make_byte_model();
    json_t *root = test_byte_level(NULL, 0);
    kv_tokenizer_free(test_open(root, test_path(test_dir, "plain.json")));
    shell_expect("$K sample -m bytes -t plain.json --documents 9 -l 8 -o none.h5", 1,
                 "neither BOS nor EOS for a document to begin with: give a --prefix");
    shell_succeed("$K sample -m bytes -t plain.json --prefix xyz --documents 50 -l 8 -o none.h5");
    kv_shard *shard = open_shard("none.h5");
    assert_int_equal(shard->info.eos_id, -1);
    assert_int_equal(shard->n_tokens, 400);
    for (int64_t i = 0; i < shard->n_tokens; i++)
        assert_in_range(shard->tokens[i], 0, 255); // none of the padding
    kv_shard_free(shard);
    // With an EOS alone, each has one at its end, drawn or not, and none at its beginning.
    shell_succeed(
        "mkdir ends && cp plain.json ends/tokenizer.json && echo '{\"eos_token\": \"!\"}' >ends/tokenizer_config.json && "
        "$K sample -m bytes -t ends --documents 300 -l 20 -o ends.h5");
    shard = open_shard("ends.h5");
    int64_t full = 0;
    assert_int_equal(shard->info.bos_id, -1);
    assert_int_equal(shard->n_documents, 300);
    for (int64_t d = 0; d < 300; d++) {
        const int64_t first = shard->documents[d], last = shard->documents[d + 1] - 1;
        for (int64_t t = first; t < last; t++) assert_true(shard->tokens[t] != '!');
        assert_int_equal(shard->tokens[last], '!');
        full += last - first == 19;
    }
    assert_true(full > 5 && full < 295);
    kv_shard_free(shard);
    json_decref(root);
}

// ---- Interruptions -------------------------------------------------------------------------------------

#define LONG_RUN "sample", "-m", "base/final/model", "-T", "0.7", "--tokens", "120000", "-l", "40", "-o"

// Stopped when it has begun to draw and some time later; whether it was not done before.
static bool stop_run(const char *name, int milliseconds, int signal) {
    char unfinished[64];
    snprintf(unfinished, sizeof unfinished, "%s.unfinished", name);
    const char *dir = test_path(test_dir, unfinished);
    const int64_t before = test_dir_count(dir) < 0 ? 0 : test_dir_count(dir);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        if (chdir(test_dir) != 0 || !freopen("/dev/null", "w", stderr) || !freopen("/dev/null", "w", stdout))
            _exit(126);
        execl(getenv("KVDATA"), "kvdata", LONG_RUN, name, (char *)NULL);
        _exit(127);
    }
    int status = 0;
    // The settings are there, and half a piece.
    while (test_dir_count(dir) < (before ? before + 1 : 2)) {
        if (waitpid(child, &status, WNOHANG) == child) return false;
        usleep(500);
    }
    usleep((unsigned)milliseconds * 1000);
    kill(child, signal);
    assert_int_equal(waitpid(child, &status, 0), child);
    return !WIFEXITED(status) || WEXITSTATUS(status) != 0;
}

static void stopped_runs_go_on(void **state) {
    (void)state;
    shell_succeed(SAMPLE "-T 0.7 --tokens 120000 -l 40 -o whole.h5");
    int stopped = 0;
    static const int signals[] = {SIGINT, SIGKILL, SIGTERM, SIGINT, SIGKILL};
    for (int i = 0; i < 5 && !is_there("stopped.h5"); i++)
        stopped += stop_run("stopped.h5", 60 + 40 * i, signals[i]);
    assert_true(stopped >= 2);
    if (!is_there("stopped.h5")) {
        assert_true(is_there("stopped.h5.unfinished/piece-00000.h5"));
        shell_succeed("$K inspect stopped.h5.unfinished");
        shell_printed("unfinished sample");
        // What a kill leaves at the worst moment.
        shell_succeed(
            "echo half >stopped.h5.unfinished/piece-00007.h5.tmp.77.1 && echo half >stopped.h5.unfinished/settings.json.tmp.77.2");
        shell_succeed("OMP_NUM_THREADS=1 " SAMPLE "-T 0.7 --tokens 120000 -l 40 -o stopped.h5 --batch 11");
        if (!strstr(shell_err, "kvdata: going on behind ")) fail_msg("%s", shell_err);
    }
    shell_succeed("cmp whole.h5 stopped.h5 && test ! -e stopped.h5.unfinished");
}

// What is there of another model's, or with other settings, is neither gone on with nor lost.
static void what_differs_is_refused(void **state) {
    (void)state;
    make_byte_model();
    shell_expect(SAMPLE "-T 0.7 -l 40 --documents 200 --min-count 999 -o half.h5", 1,
                 "none was drawn 999 times");
    shell_succeed("cp -r half.h5.unfinished saved");
    static const struct {
        const char *command, *words;
    } cases[] = {
        {"-T 0.8 -l 40",
         "half.h5.unfinished: was begun with temperature 0.7, found 0.8 now; use the same to go on, or --force to begin anew"},
        {"-T 0.7 -l 41", "max_tokens 40, found 41"},
        {"-T 0.7 -l 40 --seed 3", "seed 1, found 3"},
        {"-T 0.7 -l 40 --top-k 5", "top_k 0, found 5"},
        {"-T 0.7 -l 40 --top-p 0.5", "top_p 1.0, found 0.5"},
        {"-T 0.7 -l 40 --min-p 0.5", "min_p 0.0, found 0.5"},
        {"-T 0.7 -l 40 --first 7", "first 0, found 7"},
        {"-T 0.7 -l 40 --prefix Question", "opening [1], found [1, "},
        {"-T 0.7 -l 40 -m bytes -t tokenizer.model",
         "model bytes: vocabulary of 300 tokens, expected at least the 400"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char command[512];
        snprintf(command, sizeof command, SAMPLE "%s --documents 200 -o half.h5", cases[i].command);
        shell_expect(command, 1, cases[i].words);
        shell_succeed("diff -r half.h5.unfinished saved");
    }
    // The same shape with other weights.
    shell_succeed(
        "sed 's/output: base/output: other/; s/seed: 1/seed: 2/' base.yaml >other.yaml && $T other.yaml -s train.steps=2");
    shell_expect("$K sample -m other/final/model -T 0.7 -l 40 --documents 200 -o half.h5", 1,
                 "half.h5.unfinished: was begun with model \"");
    // Damaged ones.
    shell_expect("mv half.h5.unfinished/piece-00000.h5 half.h5.unfinished/piece-00002.h5 && " SAMPLE
                 "-T 0.7 -l 40 --documents 200 -o half.h5",
                 1, "piece-00000.h5 is not there, but later ones are");
    shell_expect("mv half.h5.unfinished/settings.json . && " SAMPLE "-T 0.7 -l 40 --documents 200 -o half.h5",
                 1, "holds pieces of nobody knows what");
    shell_expect("echo '{\"version\": 9}' >half.h5.unfinished/settings.json && " SAMPLE
                 "-T 0.7 -l 40 --documents 200 -o half.h5",
                 1, "half.h5.unfinished/settings.json: ");
    shell_succeed(
        "rm -r half.h5.unfinished && mv saved half.h5.unfinished && truncate -s 3000 half.h5.unfinished/piece-00000.h5");
    shell_expect(SAMPLE "-T 0.7 -l 40 --documents 200 -o half.h5", 1,
                 "cannot go on, --force begins anew: half.h5.unfinished/piece-00000.h5");
    shell_succeed(SAMPLE "-T 0.7 -l 40 --documents 200 --force -o half.h5 && test ! -e half.h5.unfinished");
    make_some();
    is_part_of("half.h5", "some.h5", 0);
    shell_expect(SAMPLE "-T 0.7 -l 40 --documents 200 -o half.h5", 1,
                 "half.h5: is there already; --force replaces it");
}

// ---- Bad input -----------------------------------------------------------------------------------------

static void refused(void **state) {
    (void)state;
    shell_expect("$K sample --tokens 9 -o y.h5", 2, "--model DIR is needed");
    shell_expect(SAMPLE "--tokens 9", 2, "--out FILE is needed");
    shell_expect(SAMPLE "-o y.h5", 2, "--documents N or --tokens N is needed");
    shell_expect(SAMPLE "-o y.h5 --tokens 9 --documents 9", 2, "exclude each other");
    shell_expect(SAMPLE "-o y --tokens 9", 2, "--out: 'y', expected the name of a token shard, NAME.h5");
    shell_expect(SAMPLE "-o y.h5 --tokens 9 -T 0", 2,
                 "--temperature: 0 would write one document over and over");
    shell_expect(SAMPLE "-o y.h5 --tokens 9 -T -1", 2, "--temperature: '-1'");
    shell_expect(SAMPLE "-o y.h5 --tokens 9 --top-p 0", 2, "top_p: found 0");
    shell_expect(SAMPLE "-o y.h5 --tokens 9 --min-p 1.5", 2, "--min-p: '1.5'");
    shell_expect(SAMPLE "-o y.h5 --tokens 0", 2, "--tokens: '0'");
    shell_expect(SAMPLE "-o y.h5 --tokens 9 --batch 0", 2, "--batch: '0'");
    shell_expect("$K sample -m nowhere -o y.h5 --tokens 9", 1, "nowhere");
    shell_expect("$K sample -m random:smollm2-135m -o y.h5 --tokens 9", 1,
                 "has no tokenizer: give one with --tokenizer");
    shell_expect("$K sample -m base/final/model -t nowhere -o y.h5 --tokens 9", 1, "nowhere");
    shell_expect(SAMPLE "-o /proc/y.h5 --tokens 9", 1, "/proc/y.h5");
    // A model that has no numbers.
    shell_succeed("cp -r base/final/model nan");
    test_spoil(test_path(test_dir, "nan"), "model.safetensors", "model.norm.weight", 1, NAN);
    shell_expect("$K sample -m nan -o y.h5 --tokens 9 --threads 1", 1,
                 "document 0, token 1: the logits are not finite");
    assert_true(!is_there("y.h5") && !is_there("y.h5.unfinished"));
    shell_expect("(ulimit -f 4; " SAMPLE "-o y.h5 --tokens 20000)", 1, "y.h5");
    assert_false(is_there("y.h5"));
}

// ---- What it would take, and what it is for ------------------------------------------------------------

static void a_dry_run_writes_nothing(void **state) {
    (void)state;
    shell_succeed(
        "ls -a >before && " SAMPLE
        "-T 0.7 --tokens 5000000 --batch 48 -o dry.h5 --dry-run >said && ls -a | grep -v '^said$' >after && "
        "diff before after | grep -v after || true; cat said");
    static const char *const lines[] = {"documents        about ", "tokens           5 M",
                                        "flops            ",       "memory           ",
                                        " for 48 at a time",       "time             "};
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) shell_printed(lines[i]);
    assert_false(is_there("dry.h5") || is_there("dry.h5.unfinished"));
}

static void trained_on_beside_other_text(void **state) {
    (void)state;
    make_some();
    test_write_text(
        test_path(test_dir, "mixed.yaml"),
        "extends: base.yaml\noutput: mixed\ndata: {train: null, mixture: [{corpus: some.h5, weight: 1}, "
        "{corpus: train.h5, weight: 1}]}\ntrain: {steps: 6, warmup_steps: 1}\n");
    shell_succeed("$T mixed.yaml && $T status mixed");
    shell_printed("some.h5");
    shell_printed("finished, step 6 of 6");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(documents_of_a_model),
        cmocka_unit_test(nothing_else_changes_a_byte),
        cmocka_unit_test(documents_by_their_numbers),
        cmocka_unit_test(what_came_several_times),
        cmocka_unit_test(a_prefix),
        cmocka_unit_test(tokenizers_without_bos),
        cmocka_unit_test(stopped_runs_go_on),
        cmocka_unit_test(what_differs_is_refused),
        cmocka_unit_test(refused),
        cmocka_unit_test(a_dry_run_writes_nothing),
        cmocka_unit_test(trained_on_beside_other_text),
    };
    return cmocka_run_group_tests(tests, set_up, test_dir_tear_down);
}

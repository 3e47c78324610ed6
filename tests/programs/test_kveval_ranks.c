// kveval under mpirun: whatever the number of ranks, what it leaves are the bytes that one process leaves. Stopped or killed, it
// goes on with any number of ranks; what fails on one rank ends all, with one line.
#include "tests/support/eval.h"
#include "tests/support/launch.h"
#include "tests/support/sandbox.h"
#include "tests/support/shell.h"
#include "tests/support/spoil.h"

#include "data/checkpoint/checkpoint.h"
#include "eval/results/results.h"
#include "tests/support/tiny.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

// Words (in blocks of four), windows that systems go on from, choices, and several batches of predicted caches.
static const char config[] =
    "output: out\n"
    "tokenizer: @/tokenizer.model\n"
    "batch_size: 1\n"
    "bootstrap: 50\n"
    "systems:\n"
    "  - {name: base, model: @/base}\n"
    "  - {name: prefix, base: @/base, predictor: @/prefix}\n"
    "  - {name: KVP, base: @/base, aux: @/aux, predictor: @/predictor}\n"
    "tasks:\n"
    "  - {name: atlas, split: trained, file: questions_trained.jsonl, limit: 42, max_tokens: 4}\n"
    "  - {name: text, kind: text, corpus: @/text.h5, window: 16, prompt: 8, limit: 9}\n"
    "  - {name: arc, kind: arc_easy, file: %/choices/arc.jsonl}\n"
    "analysis: {corpus: @/text.h5, sequences: 2500, seq_len: 8, bins: 11}\n"
    "ttft: {prompt_tokens: 12, batch_size: 2, repeats: 2}\n";

// Questions of which the tenth and the fifteenth have a token that `late` has no numbers for; all begin alike.
static const char own[] =
    "output: own\n"
    "tokenizer: @/tokenizer.model\n"
    "batch_size: 1\n"
    "bootstrap: 50\n"
    "systems:\n"
    "  - {name: base, model: @/base}\n"
    "  - {name: late, family: broken, model: @/late}\n"
    "tasks:\n"
    "  - {name: own, kind: custom, file: @/own.jsonl, template: \"Q: {q}\\nA:\",\n"
    "     target: \"{a}\", max_tokens: 3, preamble: \"Answer these questions shortly.\\n\"}\n";

static const char code[] =
    "output: code\n"
    "tokenizer: @/tokenizer.model\n"
    "batch_size: 1\n"
    "systems:\n"
    "  - {name: base, model: @/base}\n"
    "tasks:\n"
    "  - {name: made up, kind: humaneval, file: %/code_problems.jsonl, samples: 2, max_tokens: 6, too_long: cut}\n";

static void write_questions(void) {
    FILE *file = fopen(test_path(test_dir, "own.jsonl"), "w");
    assert_non_null(file);
    for (int i = 0; i < 18; i++)
        fprintf(file, "{\"q\": \"What is %d%s?\", \"a\": \"all\"}\n", i, i == 9 || i == 14 ? "~" : "");
    assert_int_equal(fclose(file), 0);
}

// A model whose embedding of "~" is NaN, and whose head is another matrix.
static void make_late(void) {
    kv_model_spec spec = tiny_base();
    kv_tokenizer *tokenizer;
    kv_error why = {0};
    int32_t *ids;
    int64_t n;
    spec.vocab_size = 400, spec.context_length = 96, spec.tied_head = false;
    kv_model *model = tiny_model(&spec, 1);
    mkdir(test_path(test_dir, "late"), 0777);
    if (kv_checkpoint_save(test_path(test_dir, "late"), model, &why)) fail_msg("%s", why.message);
    kv_model_free(model);
    if (kv_tokenizer_open(test_path(test_dir, "tokenizer.model"), &tokenizer, &why))
        fail_msg("%s", why.message);
    if (kv_tokenizer_encode(tokenizer, "~", 1, &ids, &n, &why)) fail_msg("%s", why.message);
    test_spoil(test_path(test_dir, "late"), "model.safetensors", "token_embeddings.weight",
               ids[n - 1] * spec.model_dim, NAN);
    free(ids);
    kv_tokenizer_free(tokenizer);
}

static int set_up(void **state) {
    (void)state;
    shell_set_up();
    test_make_family(test_dir, 96);
    test_write_config(test_path(test_dir, "ranks.yaml"), config);
    test_write_config(test_path(test_dir, "own.yaml"), own);
    test_write_config(test_path(test_dir, "code.yaml"), code);
    write_questions();
    make_late();
    shell_succeed("cat train.jsonl train.jsonl train.jsonl >much.jsonl && "
                  "$K tokenize --min-chars 0 --min-tokens 0 -t tokenizer.model -o text.h5 much.jsonl && "
                  "OMP_NUM_THREADS=1 $E ranks.yaml --no-ttft -o alone >alone.txt");
    return 0;
}

// Runs it as in the test's directory.
static void expect(int status, const char *words, const char *format, ...) {
    char command[2048];
    va_list list;
    va_start(list, format);
    vsnprintf(command, sizeof command, format, list);
    va_end(list);
    shell_expect(command, status, words);
}

// Under either library in turn.
static const char *ranks(int n) {
    return launch_with(n % launch_n_kinds(), n);
}

// ---- What is the same ----------------------------------------------------------------------------------

static kv_results results_of(const char *name) {
    char path[64];
    kv_results r;
    kv_error err = {0};
    snprintf(path, sizeof path, "%s/results.h5", name);
    if (kv_results_read_h5(test_path(test_dir, path), &r, &err)) fail_msg("%s", err.message);
    return r;
}

static void expect_same_outcomes(const kv_results *a, const kv_results *b) {
    assert_int_equal(a->n_systems, b->n_systems);
    assert_int_equal(a->n_tasks, b->n_tasks);
    for (int64_t i = 0; i < a->n_systems * a->n_tasks; i++) {
        const kv_result_task *task = &a->tasks[i % a->n_tasks];
        const kv_outcome *x = &a->outcomes[i], *y = &b->outcomes[i];
        assert_int_equal(x->not_finite != NULL, y->not_finite != NULL);
        if (x->not_finite) {
            assert_string_equal(x->not_finite, y->not_finite);
            continue;
        }
        assert_memory_equal(x->values, y->values,
                            (size_t)(task->n_metrics * task->n_items) * sizeof *x->values);
        for (int64_t u = 0; u < task->n_units; u++) assert_string_equal(x->records[u], y->records[u]);
    }
}

static void expect_same_caches(const kv_results *a, const kv_results *b) {
    for (int64_t s = 0; a->analysis.corpus && s < a->n_systems; s++) {
        assert_int_equal(a->analysis.systems[s].n_layers, b->analysis.systems[s].n_layers);
        for (int i = 0; a->analysis.systems[s].n_layers && i < KV_CACHE_ARRAYS; i++) {
            const kv_analysis_array x = kv_cache_analysis_array(&a->analysis.systems[s], &a->analysis, i),
                                    y = kv_cache_analysis_array(&b->analysis.systems[s], &b->analysis, i);
            assert_memory_equal(x.values, y.values, (size_t)x.size * sizeof *x.values);
        }
    }
}

// Files to the byte, but those that say when they were made, and of these what they hold.
static void expect_same(const char *name, const char *other) {
    expect(0, "", "diff -r -x results.h5 -x made_by.json -x '*.pdf' -x '*.png' %s %s >&2", name, other);
    kv_results a = results_of(name), b = results_of(other);
    expect_same_outcomes(&a, &b);
    expect_same_caches(&a, &b);
    kv_results_free(&a);
    kv_results_free(&b);
}

// Rank 0 was asked its share, all of it, and that is not everything.
static void expect_share(int n) {
    const char *line = strstr(shell_err, "base on atlas trained, rank 0's share: ");
    int done, total;
    assert_int_equal(line != NULL, n > 1);
    if (n == 1) return;
    assert_int_equal(sscanf(strchr(line, ':'), ": %d/%d", &done, &total), 2);
    assert_int_equal(done, total);
    assert_true(done > 0 && done <= 42 / n + 4); // blocks of four
}

static void any_number_of_ranks(void **state) {
    (void)state;
    launch_or_skip();
    for (int n = 1; n <= 4; n++) {
        char name[16];
        snprintf(name, sizeof name, "of_%d", n);
        expect(0, "", "%s $E ranks.yaml --no-ttft -o %s >%s.txt", ranks(n), name, name);
        expect_share(n);
        assert_non_null(strstr(shell_err, "base on atlas trained: 42/42 (100 %)"));
        assert_null(strstr(shell_err, "answered before"));
        assert_true((strstr(shell_err, " GB of it once a node") != NULL) == (n > 1)); // packed weights
        expect_same("alone", name);
        expect(0, "", "grep -v '^made by' alone.txt >a; grep -v '^made by' %s.txt | cmp a - >&2", name);
    }
}

static void the_clock_is_one_rank_s(void **state) {
    (void)state;
    launch_or_skip();
    expect(0, "42 answered before", "%s $E ranks.yaml -o of_2", ranks(2));
    kv_results r = results_of("of_2");
    assert_int_equal(r.n_timings, 1);
    for (int64_t s = 0; s < r.n_systems; s++) assert_true(r.timings[0].seconds[s] > 0);
    kv_results_free(&r);
}

static void programs_in_sandboxes(void **state) {
    (void)state;
    if (launch_n_kinds() == 0 || !test_bwrap_works()) skip();
    expect(0, "", "OMP_NUM_THREADS=1 $E code.yaml --no-ttft && %s $E code.yaml --no-ttft -o code_of_3",
           ranks(3));
    expect_same("code", "code_of_3");
}

// The first question without numbers is the first one by number, whoever found which, and nothing behind it is kept.
static void numbers_end_where_they_end_alone(void **state) {
    (void)state;
    launch_or_skip();
    expect(0, "`late` is not finite on own validation: ",
           "OMP_NUM_THREADS=1 $E own.yaml --no-ttft && %s $E own.yaml --no-ttft -o own_of_3", ranks(3));
    assert_non_null(strstr(shell_err, "own.jsonl:10"));
    expect_same("own", "own_of_3");
}

static void shared_prompts_are_made_once(void **state) {
    (void)state;
    launch_or_skip();
    const char *systems =
        "-s systems='[{name: base, model: base}, {name: KVP, base: base, aux: aux, predictor: predictor}]'";
    expect(0, "",
           "OMP_NUM_THREADS=1 $E own.yaml --no-ttft -o read %s -s 'tasks[0].prompt_cache=first/{system}.h5'",
           systems);
    expect(
        0, "",
        "KV_RANKS_LOUD=1 %s $E own.yaml --no-ttft -o read_of_3 %s -s 'tasks[0].prompt_cache=of_3/{system}.h5'",
        ranks(3), systems);
    const char *made = strstr(shell_err, "saved in of_3/KVP.h5");
    assert_non_null(made);
    assert_null(strstr(made + 1, "saved in of_3/KVP.h5"));
    expect_same("read", "read_of_3");
    expect(0, "18 answered before",
           "%s $E own.yaml --no-ttft -o read %s -s 'tasks[0].prompt_cache=first/{system}.h5'", ranks(2),
           systems);
}

// All ranks go through the seeds one after the other, past one whose base is not finite, and rank 0 joins them.
static void seeds_in_turn(void **state) {
    (void)state;
    launch_or_skip();
    const char *systems =
        "-s systems='[{name: base, model: base}, {name: KVP, base: base, aux: aux, predictor: predictor}]'";
    expect(0, "means over seeds are in one/s1-2",
           "OMP_NUM_THREADS=1 $E own.yaml --no-ttft --seeds 2 %s -o 'one/s{seed}' && "
           "%s $E own.yaml --no-ttft --seeds 2 %s -o 'several/s{seed}'",
           systems, ranks(3), systems);
    assert_non_null(strstr(shell_err, "means over seeds are in several/s1-2"));
    expect(0, "", "diff -r one/s1-2 several/s1-2 -x '*.h5' -x made_by.json -x '*.pdf' -x '*.png' >&2");
    expect_same("one/s2", "several/s2");
    expect(1, "kveval: the base `late` is not finite on own validation",
           "%s $E own.yaml --no-ttft --seeds 2 -o 'none/s{seed}' -s systems='[{name: late, model: late}]'",
           ranks(3));
    expect(0, "", "test -e none/s2/results.h5");
}

// ---- Stopping and going on -----------------------------------------------------------------------------

// As three ranks leave it that were killed: of KVP the whole has a block, one part the next and the beginning of a line, another
// one what another run was answered and a later block.
static void leave_parts(const char *name) {
    expect(
        0, "",
        "rm -rf %s && cp -r alone %s && rm %s/results.h5 %s/*.csv && cd %s/samples/atlas-trained && "
        "cp KVP.jsonl all && head -4 all >KVP.jsonl && (sed -n 5,8p all; head -c 99 all) >KVP.jsonl.rank-1 && "
        "(sed 's/\"run\":\"./&x/' all; sed -n 21,24p all) >KVP.jsonl.rank-12 && : >KVP.jsonl.rank-2 && rm all base.jsonl",
        name, name, name, name, name);
}

static void parts_of_any_number_are_taken(void **state) {
    (void)state;
    launch_or_skip();
    for (int n = 1; n <= 2; n++) {
        leave_parts("left");
        expect(0, ", 12 answered before", "OMP_NUM_THREADS=1 %s $E ranks.yaml --no-ttft -o left",
               n == 1 ? "" : ranks(n));
        expect_same("alone", "left");
    }
}

// Begins what would never end, as the clock is read a million times, and does this to its processes, "$1" and those behind it,
// once a part of a journal is there.
static void begin_and(int n, int status, const char *words, const char *what) {
    expect(
        status, words,
        "rm -rf begun pids; %s sh -c 'echo $$ >>pids; exec $E ranks.yaml -s ttft.repeats=1000000 -o begun' >begun.txt & run=$!; "
        "until ls begun/samples/*/*.rank-* >begun.txt 2>&1; do kill -0 $run || exit 99; sleep 0.01; done; "
        "set -- $(cat pids); %s; wait $run; code=$?; test ! -e begun/results.h5 && exit $code",
        ranks(n), what);
}

// Killed for good, one rank or all, once something was answered; three ranks, then two.
static void killed_and_gone_on(void **state) {
    (void)state;
    launch_or_skip();
    begin_and(3, 137, "", "kill -9 $*; wait $run; exit 137");
    begin_and(3, 1, "kveval: rank ", "kill -9 $3; wait $run || test -e begun/results.h5 || exit 1");
    expect(0, "", "%s $E ranks.yaml --no-ttft -o begun", ranks(2));
    expect_same("alone", "begun");
}

// SIGTERM: what was answered stays, and the exit status is that of a program that was stopped so.
static void stopped_and_gone_on(void **state) {
    (void)state;
    launch_or_skip();
    begin_and(3, 143, "; the same command goes on from what was answered", "kill -TERM $*");
    expect(0, "", "OMP_NUM_THREADS=1 $E ranks.yaml --no-ttft -o begun");
    expect_same("alone", "begun");
}

// ---- What is refused -----------------------------------------------------------------------------------

// One line of kveval's own beside the one that says where ranks run, and warnings; launchers add theirs.
static void expect_one_line(void) {
    int n = 0;
    for (const char *line = shell_err; (line = strstr(line, "kveval: ")); line++) {
        const char *place = strstr(line, " on 1 host ("), *end = strchr(line, '\n');
        n += strncmp(line, "kveval: warning", 15) != 0 && !(place && end && place < end);
    }
    if (n != 1) fail_msg("expected one line: %s", shell_err);
}

static void what_differs_is_refused(void **state) {
    (void)state;
    launch_or_skip();
    const char *one = ranks(1);
    expect(1, "rank 1 (", "%s $E ranks.yaml --no-ttft -o no : -n 1 $E ranks.yaml --no-ttft -o no -s seed=2",
           one);
    assert_non_null(strstr(shell_err, ": key `seed`: found `2`, expected "));
    expect_one_line();
    // The same names, other files.
    expect(0, "",
           "mkdir -p other && sed 's/What/Which/' questions_trained.jsonl >other/questions_trained.jsonl");
    expect(1, "rank 1 (",
           "%s $E ranks.yaml --no-ttft -o no : -n 1 env -C other $E ../ranks.yaml --no-ttft -o no", one);
    assert_non_null(
        strstr(shell_err, "what `tasks[0]` asks (questions_trained.jsonl) differs from that of rank 0"));
    expect_one_line();
    expect(
        0, "",
        "cp questions_trained.jsonl other && cp -r base other/base && cp -r base same && sed 's/{name: base, model: .*}/{name: base, model: here}/' ranks.yaml >here.yaml && "
        "ln -s base here && ln -s ../late other/here");
    expect(1, "what the system `base` computes (models, predictor, pruning) differs",
           "%s $E here.yaml --no-ttft -o no : -n 1 env -C other $E ../here.yaml --no-ttft -o no", one);
    expect_one_line();
    expect(0, "", "test ! -e no/samples");
}

static void a_rank_that_fails_ends_all(void **state) {
    (void)state;
    launch_or_skip();
    // Before anything is asked, and while it is.
    expect(1, "rank 1 (",
           "%s $E ranks.yaml --no-ttft -o no : -n 1 env -C /tmp $E $D/ranks.yaml --no-ttft -o no", ranks(1));
    assert_non_null(strstr(shell_err, "questions_trained.jsonl"));
    expect_one_line();
    expect(0, "", "mkdir -p full && cp questions_trained.jsonl full && : >full/out");
    expect(1, "rank 1 (", "%s $E ranks.yaml --no-ttft : -n 1 env -C full $E ../ranks.yaml --no-ttft",
           ranks(1));
    assert_non_null(strstr(shell_err, "): out"));
    expect_one_line();
}

static void what_has_no_shares_is_refused(void **state) {
    (void)state;
    launch_or_skip();
    static const char *const commands[] = {"report alone", "--check-tests x"};
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        expect(2, "found 3 ranks, expected one process", "%s $E %s", ranks(3), commands[i]);
        expect_one_line();
    }
    expect(0, "", "%s $E ranks.yaml --dry-run -o no", ranks(3));
    shell_printed("systems      base | prefix | KVP");
    shell_printed(" of the 3 ranks of its machine");
    assert_non_null(strstr(shell_err, "kveval: 3 ranks on 1 host ("));
    expect(2, "expected a whole number", "%s $E ranks.yaml --limit none", ranks(3));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_number_of_ranks),           cmocka_unit_test(the_clock_is_one_rank_s),
        cmocka_unit_test(programs_in_sandboxes),         cmocka_unit_test(numbers_end_where_they_end_alone),
        cmocka_unit_test(shared_prompts_are_made_once),  cmocka_unit_test(seeds_in_turn),
        cmocka_unit_test(parts_of_any_number_are_taken), cmocka_unit_test(killed_and_gone_on),
        cmocka_unit_test(stopped_and_gone_on),           cmocka_unit_test(what_differs_is_refused),
        cmocka_unit_test(a_rank_that_fails_ends_all),    cmocka_unit_test(what_has_no_shares_is_refused),
    };
    return cmocka_run_group_tests(tests, set_up, test_dir_tear_down);
}

// kvbench as its users meet it: what options it takes, what it appends to a history, and that the history is whole whatever
// happens. How fast anything is, is not looked at. KVBENCH names the program, KV_TEST_DIR the folder of the tests.
#include "tests/support/shell.h"

#include "data/file/json.h"
#include "tests/bench/history.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static json_t *read_all(const char *name) {
    kv_error err = {0};
    json_t *records;
    char folder[512];
    snprintf(folder, sizeof folder, "%s/%s", test_dir, name);
    if (bench_history_read(folder, &records, &err)) fail_msg("%s", err.message);
    return records;
}

static void wrong_options_are_explained(void **state) {
    (void)state;
    static const char *const wrong[][2] = {
        {"--only decode,nonsense", "--only: 'nonsense', expected some of limits, prefill, first"},
        {"--only ''", "--only: '', expected some of"},
        {"--only decode,", "--only: '', expected some of"},
        {"--isa mmx", "--isa: 'mmx', expected what this CPU has: plain"},
        {"--runs 0", "--runs: '0', expected a whole number from 1 to 100"},
        {"--threads 2,1", "--threads: '2,1', expected rising numbers"},
        {"--threads 1,", "--threads: '1,' ends in a comma"},
        {"--threads ''", "--threads: '', expected"},
        {"--gguf /dev/null", "--llama-bench is needed beside it"},
        {"--llama-bench /bin/true", "--gguf is needed beside it"},
        {"--llama-bench /nowhere --gguf /dev/null", "--llama-bench: '/nowhere', expected a program"},
        {"--paper --check", "--paper: found other options beside it"},
        {"--nonsense", "unrecognized option '--nonsense'"},
        {"nonsense", "found 'nonsense', expected options alone"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        char command[256];
        snprintf(command, sizeof command, "$B %s", wrong[i][0]);
        shell_expect(command, 2, wrong[i][1]);
    }
    shell_expect("KV_BENCH_DIR=/nowhere $B --quick --isa plain --only limits --peers", 1,
                 "apt-get install python3-torch");
}

// ./kv knows every option that the program has, so that it refuses others before anything is built.
static void kv_knows_the_options(void **state) {
    (void)state;
    shell_succeed(
        "$B --help | sed -nE '/--usage/d; s/^ {2,8}(--[a-z-]+)(=([A-Z]+))?.*/\\1 \\3/p' | sed 's/ $//' | sort >own");
    shell_succeed("sed -n '/^settings_bench/,/^}/s/^--/&/p' $ROOT/kv | sort >kv && diff kv own");
    shell_succeed(
        "cut -d' ' -f1 own | while read -r o; do $ROOT/kv help bench | grep -q -e $o || echo $o; done >missing; "
        "test ! -s missing");
}

// ---- Records -------------------------------------------------------------------------------------------

static double number(const json_t *object, const char *key) {
    const json_t *value = json_object_get(object, key);
    if (!json_is_number(value) || !isfinite(json_number_value(value))) fail_msg("%s: no finite number", key);
    return json_number_value(value);
}

static void expect_text(const json_t *object, const char *key) {
    const char *text = json_string_value(json_object_get(object, key));
    if (!text || !*text) fail_msg("%s: no text", key);
}

static void expect_phase(const json_t *phase) {
    static const char *const numbers[] = {"seconds",  "tokens",  "ns_per_token", "limit",
                                          "fraction", "repeats", "gflops"};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (number(phase, numbers[i]) <= 0) fail_msg("%s is not above 0", numbers[i]);
    expect_text(phase, "name");
    const bool reading = !strcmp(json_string_value(json_object_get(phase, "bound")), "reading");
    const double reached = reading ? number(phase, "gbs") : number(phase, "gflops");
    const double fraction = reached / number(phase, "limit"), seconds = number(phase, "seconds");
    assert_true(fabs(fraction - number(phase, "fraction")) < 1e-4 * fraction); // six digits are written
    const double ns = 1e9 * seconds / number(phase, "tokens");
    assert_true(fabs(ns - number(phase, "ns_per_token")) < 1e-4 * ns);
}

static void expect_machine(const json_t *machine) {
    static const char *const texts[] = {"cpu", "openblas", "compiler", "commit", "date"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) expect_text(machine, texts[i]);
    assert_true(json_is_array(json_object_get(machine, "flags")));
    number(machine, "load");
    assert_true(number(machine, "cores") >= 1);
}

static void expect_limits(const json_t *limits) {
    static const char *const numbers[] = {"reading", "reading_one_thread", "square", "openblas_square",
                                          "region_us"};
    size_t i;
    const json_t *row;
    for (i = 0; i < sizeof numbers / sizeof *numbers; i++) assert_true(number(limits, numbers[i]) > 0);
    const json_t *products = json_object_get(limits, "products");
    assert_int_equal(json_array_size(products), 3);
    json_array_foreach(products, i, row) {
        assert_true(number(row, "rows") > 0 && number(row, "f32") > 0 && number(row, "bf16") > 0);
    }
}

// All groups, with fewer threads beside.
static void a_record_is_complete(void **state) {
    (void)state;
    static const char *const groups[] = {"prefill", "first", "decode", "predict", "train", "eval"};
    size_t i, seen[6] = {0};
    const json_t *phase;
    shell_succeed("$B --quick --isa $ISA --threads 1,2 --json one/h.jsonl");
    json_t *records = read_all("one"), *record = json_array_get(records, 0);
    assert_int_equal(json_array_size(records), 1);
    assert_string_equal(json_string_value(json_object_get(record, "isa")), getenv("ISA"));
    assert_int_equal(json_integer_value(json_object_get(json_object_get(record, "machine"), "threads")), 2);
    expect_machine(json_object_get(record, "machine"));
    expect_limits(json_object_get(record, "limits"));
    json_array_foreach(json_object_get(record, "phases"), i, phase) {
        expect_phase(phase);
        assert_true(number(json_object_get(phase, "threads"), "1") > 0);
        assert_true(number(json_object_get(phase, "threads"), "2") == number(phase, "seconds"));
        for (int g = 0; g < 6; g++)
            seen[g] += !strcmp(json_string_value(json_object_get(phase, "group")), groups[g]);
    }
    for (int g = 0; g < 6; g++)
        if (!seen[g]) fail_msg("no phase of %s", groups[g]);
    json_decref(records);
}

static void chosen_groups_and_sets(void **state) {
    (void)state;
    size_t i;
    const json_t *phase;
    shell_succeed("$B --quick --only decode,predict --isa plain --runs 2 --json chosen/h.jsonl");
    json_t *records = read_all("chosen");
    assert_int_equal(json_array_size(records), 2);
    json_array_foreach(json_object_get(json_array_get(records, 1), "phases"), i, phase) {
        const char *group = json_string_value(json_object_get(phase, "group"));
        assert_true(!strcmp(group, "decode") || !strcmp(group, "predict"));
    }
    assert_true(i > 2);
    json_decref(records);
    shell_succeed("$B --quick --match 'bf16 x 8' --isa $ISA --json match/h.jsonl");
    records = read_all("match");
    const json_t *phases = json_object_get(json_array_get(records, 0), "phases");
    assert_int_equal(json_array_size(phases), 1);
    assert_string_equal(json_string_value(json_object_get(json_array_get(phases, 0), "name")),
                        "decode 270M bf16 x 8");
    json_decref(records);
    // All sets, a process and a line each; the plain one has to be named.
    shell_succeed("$B --quick --only limits --json all/h.jsonl");
    records = read_all("all");
    assert_true(json_array_size(records) >= 1);
    const char *last =
        json_string_value(json_object_get(json_array_get(records, json_array_size(records) - 1), "isa"));
    assert_string_equal(last, getenv("ISA"));
    json_decref(records);
}

// A history that is out of reach, and one that anything reaches.
static void a_check_fails_by_name(void **state) {
    (void)state;
    shell_succeed("$B --quick --isa $ISA --only decode --json base/h.jsonl");
    shell_succeed(
        "mkdir low high && sed -E 's/\"(fraction|of_x1|than_f32)\":[0-9.e+-]+/\"\\1\":1e-9/g' base/h.jsonl >low/h.jsonl && "
        "sed -E 's/\"fraction\":[0-9.e+-]+/\"fraction\":1e9/g' base/h.jsonl >high/h.jsonl");
    shell_succeed("$B --quick --isa $ISA --only decode --check --history low");
    shell_printed("0 more than 10 % worse");
    shell_printed("medians of 3 runs");
    assert_int_equal(shell("$B --quick --isa $ISA --only decode --check --runs 1 --history high"), 1);
    shell_printed("worse: decode 270M bf16 x 8: fraction");
    shell_succeed("$B --quick --isa $ISA --only limits --check --runs 1 --history nowhere");
    shell_printed("nothing to compare with");
    shell_expect(
        "mkdir bad && echo '{' >bad/h.jsonl && $B --quick --isa $ISA --only limits --check --runs 1 --history bad",
        1, "bad/h.jsonl:1");
}

// Between runs or within one: what is in the file are lines, and whole ones.
static void a_stop_leaves_whole_lines(void **state) {
    (void)state;
    shell_expect(
        "{ $B --quick --isa $ISA --only limits,decode --runs 100 --json stopped/h.jsonl >/dev/null & "
        "while [ ! -s stopped/h.jsonl ]; do kill -0 $! || exit 1; sleep 0.02; done; kill -TERM $!; wait $!; }",
        143, "");
    json_t *records = read_all("stopped");
    assert_in_range(json_array_size(records), 1, 99);
    json_decref(records);
    assert_int_equal(test_dir_count(test_path(test_dir, "stopped")), 1);
    // The process of a set is stopped along.
    shell_expect(
        "{ $B --quick --only limits,decode --runs 100 --json along/h.jsonl >/dev/null & "
        "while [ ! -s along/h.jsonl ]; do kill -0 $! || exit 1; sleep 0.02; done; kill -TERM $!; wait $!; }",
        143, "");
    records = read_all("along");
    assert_in_range(json_array_size(records), 1, 99);
    json_decref(records);
}

// ---- Peers ---------------------------------------------------------------------------------------------

// Stand-ins: they say how long it took.
static void peers_are_asked(void **state) {
    (void)state;
    size_t i;
    const json_t *phase;
    shell_succeed(
        "printf '%s\\n' '#!/bin/sh' 'echo \"{\\\"version\\\": \\\"PyTorch 0\\\"}\"' 'while read -r line; do case $line in "
        "*bf16*) echo \"{\\\"error\\\": \\\"no bf16\\\"}\";; *) echo \"{\\\"seconds\\\": 0.25}\";; esac; done' "
        ">python && chmod +x python");
    shell_expect("$B --quick --isa $ISA --only decode,train --peers --python ./python --json peers/h.jsonl",
                 0, "PyTorch: no bf16");
    shell_printed("PyTorch 250 ms");
    json_t *records = read_all("peers"), *record = json_array_get(records, 0);
    assert_string_equal(json_string_value(json_object_get(record, "torch")), "PyTorch 0");
    json_array_foreach(json_object_get(record, "phases"), i, phase) {
        const bool bf16 = strstr(json_string_value(json_object_get(phase, "name")), "bf16");
        assert_int_equal(json_object_get(phase, "torch_seconds") == NULL, bf16);
        if (!bf16) assert_true(number(phase, "torch_seconds") == 0.25);
    }
    json_decref(records);
    shell_expect(
        "printf '#!/bin/sh\\nexit 3\\n' >python && $B --quick --isa $ISA --only limits --peers --python ./python",
        1, "PyTorch is there after: apt-get install python3-torch");
}

static void llama_is_asked(void **state) {
    (void)state;
    shell_succeed(
        "touch m.gguf && printf '%s\\n' '#!/bin/sh' 'echo \"$@\" >words' \"echo '[{\\\"model_type\\\": \\\"x 1B\\\", "
        "\\\"n_prompt\\\": 59, \\\"n_gen\\\": 0, \\\"avg_ns\\\": 500000000}, {\\\"model_type\\\": \\\"x 1B\\\", "
        "\\\"n_prompt\\\": 0, \\\"n_gen\\\": 16, \\\"avg_ns\\\": 1600000000}]'\" >llama && chmod +x llama");
    shell_succeed(
        "$B --quick --isa $ISA --only limits --llama-bench ./llama --gguf m.gguf --json llama.d/h.jsonl");
    shell_printed("llama.cpp x 1B, decode of 16 tokens: 1600 ms");
    shell_succeed("grep -qx -- '-m m.gguf -p 59,512 -n 16 -t 2 -r 3 -o json' words");
    json_t *records = read_all("llama.d"), *tests = json_object_get(json_array_get(records, 0), "llama");
    assert_int_equal(json_array_size(tests), 2);
    assert_true(number(json_array_get(tests, 0), "seconds") == 0.5);
    json_decref(records);
    shell_expect(
        "printf '#!/bin/sh\\necho nonsense\\n' >llama && $B --quick --isa $ISA --only limits --llama-bench ./llama --gguf m.gguf",
        1, "./llama: expected a list of tests in JSON");
}

// The best set that this CPU has, by the program's own words.
static int set_up(void **state) {
    (void)state;
    shell_set_up();
    const char *program = getenv("KVBENCH"), *tests = getenv("KV_TEST_DIR");
    char folder[512];
    if (!program || !tests) return -1;
    setenv("B", program, 1);
    snprintf(folder, sizeof folder, "%s/..", tests), setenv("ROOT", folder, 1);
    snprintf(folder, sizeof folder, "%s/bench", tests), setenv("KV_BENCH_DIR", folder, 1);
    unsetenv("KV_ISA");
    if (shell("$B --isa none") != 2) return -1;
    char *best = strrchr(strtok(shell_err, "\n"), ' ');
    return best ? setenv("ISA", best + 1, 1) : -1;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wrong_options_are_explained),
        cmocka_unit_test(kv_knows_the_options),
        cmocka_unit_test(a_record_is_complete),
        cmocka_unit_test(chosen_groups_and_sets),
        cmocka_unit_test(a_check_fails_by_name),
        cmocka_unit_test(a_stop_leaves_whole_lines),
        cmocka_unit_test(peers_are_asked),
        cmocka_unit_test(llama_is_asked),
    };
    return cmocka_run_group_tests(tests, set_up, test_dir_tear_down);
}

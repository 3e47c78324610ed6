// The program kvbench: limits, phases, the record of both, and how it compares with those before; a process for each set of
// instructions.
#include "tests/bench/bench.h"

#include "data/file/commit.h"
#include "data/file/made_by.h"
#include "data/system/blas.h"
#include "data/system/console.h"
#include "tests/bench/history.h"
#include "tests/bench/isa.h"
#include "tests/bench/load.h"
#include "tests/bench/machine.h"

#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

static const struct {
    const char *group;
    void (*run)(bench *b);
} groups[] = {{"prefill", bench_prefill},    {"first", bench_first_tokens}, {"decode", bench_decode},
              {"predict", bench_predictors}, {"train", bench_training},     {"eval", bench_questions}};

static void start_peers(bench *b) {
    char script[4096];
    const bench_options *o = b->options;
    if (!o->peers) return;
    snprintf(script, sizeof script, "%s/peers.py", o->folder);
    b->peers = bench_peers_start(o->python, script, o->threads[o->n_threads - 1]);
    if (b->peers) return;
    fprintf(stderr,
            "kvbench: --peers: %s does not start; PyTorch is there after: apt-get install python3-torch\n",
            script);
    exit(1);
}

static void ask_llama(bench *b, json_t *record) {
    static const int prompts[] = {59, 512};
    const bench_options *o = b->options;
    if (!o->llama_bench) return;
    json_t *tests = bench_llama(o->llama_bench, o->gguf, prompts, 2, o->threads[o->n_threads - 1]), *test;
    size_t i;
    if (!tests) exit(1);
    json_array_foreach(tests, i, test) printf("llama.cpp %s, %s of %lld tokens: %.4g ms\n",
                                              json_string_value(json_object_get(test, "model")),
                                              json_string_value(json_object_get(test, "what")),
                                              (long long)json_integer_value(json_object_get(test, "tokens")),
                                              1e3 * json_number_value(json_object_get(test, "seconds")));
    json_object_set_new(record, "llama", tests);
}

// Returns what others took of the processors meanwhile.
static double measure_limits(bench *b) {
    bench_load load;
    bench_load_begin(&load);
    bench_limits_measure(&b->limits, b->options->quick);
    const double others = bench_load_others(&load);
    bench_limits_print(&b->limits);
    if (others > BENCH_DISTURBED) printf("  others took %.0f %% of the processors\n", 100 * others);
    return others;
}

// One run: a new record.
static json_t *measure(bench *b) {
    const bench_options *o = b->options;
    omp_set_num_threads(o->threads[o->n_threads - 1]);
    b->phases = json_array();
    json_t *record =
        json_pack("{s:i,s:s,s:b,s:b,s:o}", "record", BENCH_RECORD, "isa", bench_isa_now(), "quick", o->quick,
                  "small_pages", o->small_pages, "machine", bench_machine(o->folder));
    if (!record || !b->phases) bench_out_of_memory();
    const json_t *machine = json_object_get(record, "machine");
    printf("== %s on %s (%s), %d threads, OpenBLAS %s\n", bench_isa_now(),
           json_string_value(json_object_get(machine, "model")),
           json_string_value(json_object_get(machine, "cpu")), o->threads[o->n_threads - 1],
           json_string_value(json_object_get(machine, "openblas")));
    const double others = measure_limits(b);
    if (!o->small_pages) bench_pages(&b->limits, record);
    for (size_t g = 0; g < sizeof groups / sizeof *groups; g++)
        if (bench_wants(o, groups[g].group)) groups[g].run(b);
    ask_llama(b, record);
    json_object_set_new(record, "limits", bench_limits_json(&b->limits));
    json_object_set_new(json_object_get(record, "limits"), "others", json_real(others));
    json_object_set_new(record, "phases", b->phases);
    if (b->peers) json_object_set_new(record, "torch", json_string(bench_peers_version(b->peers)));
    bench_limits_free(&b->limits);
    return record;
}

static int compare(const bench_options *o, const json_t *records) {
    json_t *history;
    kv_error err;
    if (bench_history_read(o->history, &history, &err) != KV_OK) bench_fail(&err);
    const int worse = bench_check(records, history, stdout);
    json_decref(history);
    return worse ? 1 : 0;
}

static int run(const bench_options *o) {
    bench b = {.options = o};
    kv_error err;
    if (o->small_pages) prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);
    if (kv_blas_reserve(&err) != KV_OK) bench_fail(&err);
    if (o->paper) {
        bench_paper(&b);
        return 0;
    }
    start_peers(&b);
    json_t *records = json_array();
    for (int64_t r = 0; r < o->runs; r++) {
        json_t *record = measure(&b);
        if (o->json && bench_history_append(o->json, record, &err) != KV_OK) bench_fail(&err);
        json_array_append_new(records, record);
    }
    const int status = o->check ? compare(o, records) : 0;
    json_decref(records);
    bench_peers_stop(b.peers);
    return status;
}

// The plain set is a reference, and tens of times as slow: it has to be asked for.
static int run_all(char **argv) {
    const char *names[BENCH_MAX_ISAS];
    const int n = bench_isa_list(names);
    int status = 0;
    for (int i = n > 1 ? 1 : 0; i < n; i++) {
        const int own = bench_isa_run(names[i], argv);
        if (own > status) status = own;
        if (own > 1 || kv_console_interrupted()) break;
    }
    return kv_console_interrupted() ? 128 + kv_console_signal() : status;
}

int main(int argc, char **argv) {
    kv_console_start(argv);
    kv_made_by_program("kvbench", kv_commit);
    kv_console_catch_signals();
    bench_options options;
    bench_options_read(argc, argv, &options);
    if (!options.isa && !options.paper && !getenv("KV_ISA")) return run_all(argv);
    if (options.isa) bench_isa_become(options.isa, argv);
    return run(&options);
}

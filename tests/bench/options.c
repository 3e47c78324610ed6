#include "tests/bench/options.h"

#include "data/system/number.h"
#include "tests/bench/isa.h"

#include <argp.h>
#include <inttypes.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const char *const bench_groups[] = {"limits", "prefill", "first", "decode", "predict", "train", "eval", NULL};

static const char doc[] =
    "Measures what this machine reaches at most (matrix products by rows, reading, OpenBLAS beside it), then what the "
    "phases of training and inference make of it.\v"
    "Groups: prefill, first (time to the first token of bases, aux models and KV prediction), decode, predict (the "
    "predictors alone), train (a step), eval (kveval's questions a second).\n"
    "\n"
    "Each is timed in turns with others of its group, 3 to 7 times after once to warm up; the median counts. All are set beside "
    "the machine's own limits of the same run, for each set of instructions that the CPU has (but plain C, which has to "
    "be named).\n"
    "\n"
    "Exit status: 0 done, 1 failed or --check found something worse, 2 wrong usage.";

enum {
    KEY_ISA = 0x100,
    KEY_ONLY,
    KEY_MATCH,
    KEY_QUICK,
    KEY_PAPER,
    KEY_CHECK,
    KEY_RUNS,
    KEY_THREADS,
    KEY_SMALL_PAGES,
    KEY_JSON,
    KEY_HISTORY,
    KEY_PEERS,
    KEY_PYTHON,
    KEY_LLAMA,
    KEY_GGUF
};

static const struct argp_option option_list[] = {
    {"only", KEY_ONLY, "GROUPS", 0, "these alone: decode,prefill", 0},
    {"match", KEY_MATCH, "TEXT", 0, "these alone: phases with this in their name, as it is printed", 0},
    {"quick", KEY_QUICK, NULL, 0, "tiny shapes: seconds in all, to see that it works", 0},
    {"isa", KEY_ISA, "NAME", 0, "this set of instructions alone (plain, avx2, avx512, amx, neon)", 0},
    {"threads", KEY_THREADS, "LIST", 0, "each phase with so many threads too: 1,2 (default OMP_NUM_THREADS)",
     0},
    {"runs", KEY_RUNS, "N", 0, "all of it so many times (default 1; 3 with --check)", 0},
    {"json", KEY_JSON, "FILE", 0, "append a line of JSON for each run", 0},
    {"check", KEY_CHECK, NULL, 0,
     "compare ratios (medians of the runs) with the history of the same CPU and instructions; fail when one is more than 10 % "
     "worse",
     0},
    {"history", KEY_HISTORY, "DIR", 0, "what --check compares with: *.jsonl (default the committed history)",
     0},
    {"peers", KEY_PEERS, NULL, 0, "PyTorch on the same shapes, in the same run", 0},
    {"python", KEY_PYTHON, "PROGRAM", 0, "with PyTorch (default /usr/bin/python3, which apt's is for)", 0},
    {"llama-bench", KEY_LLAMA, "PROGRAM", 0, "llama.cpp's, on the file of --gguf", 0},
    {"gguf", KEY_GGUF, "FILE", 0, "a model for it", 0},
    {"small-pages", KEY_SMALL_PAGES, NULL, 0, "without huge pages, to compare", 0},
    {"paper", KEY_PAPER, NULL, 0, "only the comparison with the paper's PyTorch code", 0},
    {0},
};

// ---- Lists ---------------------------------------------------------------------------------------------

static bool is_in(const char *name, const char *list) {
    const size_t n = strlen(name);
    for (const char *at = list; at; at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL)
        if (!strncmp(at, name, n) && (at[n] == ',' || at[n] == '\0')) return true;
    return false;
}

bool bench_wants(const bench_options *options, const char *group) {
    return !options->only || is_in(group, options->only);
}

bool bench_wants_phase(const bench_options *options, const char *name) {
    return !options->match || strstr(name, options->match);
}

static bool is_group(const char *name, size_t n) {
    for (int g = 0; bench_groups[g]; g++)
        if (strlen(bench_groups[g]) == n && !strncmp(bench_groups[g], name, n)) return true;
    return false;
}

static void check_groups(struct argp_state *state, const char *list) {
    for (const char *at = list; at; at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL) {
        const size_t n = strcspn(at, ",");
        if (!is_group(at, n))
            argp_error(
                state,
                "--only: '%.*s', expected some of limits, prefill, first, decode, predict, train, eval",
                (int)n, at);
    }
}

static void check_isa(struct argp_state *state, const char *name) {
    const char *names[BENCH_MAX_ISAS];
    char all[128] = "";
    const int n = bench_isa_list(names);
    for (int i = 0; i < n; i++) {
        if (!strcmp(names[i], name)) return;
        snprintf(all + strlen(all), sizeof all - strlen(all), "%s%s", i ? ", " : "", names[i]);
    }
    argp_error(state, "--isa: '%s', expected what this CPU has: %s", name, all);
}

static void read_threads(struct argp_state *state, bench_options *o, const char *text) {
    o->n_threads = 0;
    for (const char *at = text; *at;) {
        int64_t n = 0;
        if (!kv_take_whole(&at, &n) || n < 1 || n > 4096 || (*at && *at != ',') ||
            (o->n_threads > 0 && n <= o->threads[o->n_threads - 1]) || o->n_threads == BENCH_MAX_THREADS)
            argp_error(state, "--threads: '%s', expected rising numbers from 1 on with commas", text);
        o->threads[o->n_threads++] = (int)n;
        if (*at == ',' && *++at == '\0') argp_error(state, "--threads: '%s' ends in a comma", text);
    }
    if (o->n_threads == 0) argp_error(state, "--threads: '', expected rising numbers from 1 on with commas");
}

// ---- Options -------------------------------------------------------------------------------------------

static void check(struct argp_state *state, bench_options *o) {
    if (!o->llama_bench != !o->gguf)
        argp_error(state, "--%s: --%s is needed beside it", o->gguf ? "gguf" : "llama-bench",
                   o->gguf ? "llama-bench" : "gguf");
    if (o->llama_bench && access(o->llama_bench, X_OK))
        argp_error(state, "--llama-bench: '%s', expected a program", o->llama_bench);
    if (o->gguf && access(o->gguf, R_OK)) argp_error(state, "--gguf: '%s', expected a file", o->gguf);
    if (o->paper && (o->check || o->json || o->only || o->match || o->peers || o->llama_bench))
        argp_error(state, "--paper: found other options beside it that it makes nothing of");
    if (o->runs == 0) o->runs = o->check ? 3 : 1;
}

static error_t parse(int key, char *text, struct argp_state *state) {
    bench_options *o = state->input;
    switch (key) {
    case KEY_ONLY: check_groups(state, text), o->only = text; return 0;
    case KEY_MATCH: o->match = text; return 0;
    case KEY_QUICK: o->quick = true; return 0;
    case KEY_ISA: check_isa(state, text), o->isa = text; return 0;
    case KEY_THREADS: read_threads(state, o, text); return 0;
    case KEY_RUNS:
        if (!kv_read_whole(text, &o->runs) || o->runs < 1 || o->runs > 100)
            argp_error(state, "--runs: '%s', expected a whole number from 1 to 100", text);
        return 0;
    case KEY_JSON: o->json = text; return 0;
    case KEY_CHECK: o->check = true; return 0;
    case KEY_HISTORY: o->history = text; return 0;
    case KEY_PEERS: o->peers = true; return 0;
    case KEY_PYTHON: o->python = text; return 0;
    case KEY_LLAMA: o->llama_bench = text; return 0;
    case KEY_GGUF: o->gguf = text; return 0;
    case KEY_SMALL_PAGES: o->small_pages = true; return 0;
    case KEY_PAPER: o->paper = true; return 0;
    case ARGP_KEY_ARG: argp_error(state, "found '%s', expected options alone", text); return 0;
    case ARGP_KEY_END: check(state, o); return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

void bench_options_read(int argc, char **argv, bench_options *options) {
    static const struct argp argp = {.options = option_list, .parser = parse, .doc = doc};
    static char history[4096];
    const char *folder = getenv("KV_BENCH_DIR");
    *options = (bench_options){.python = "/usr/bin/python3", .folder = folder ? folder : "tests/bench"};
    options->threads[0] = omp_get_max_threads(), options->n_threads = 1;
    argp_err_exit_status = 2;
    if (argp_parse(&argp, argc, argv, 0, NULL, options)) exit(1);
    if (options->history) return;
    snprintf(history, sizeof history, "%s/history", options->folder);
    options->history = history;
}

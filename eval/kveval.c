// The command line. What is behind it: eval/evaluate/evaluate.h (a configuration becomes results),
// eval/report/output.h (results become files).
#include "data/config/example.h"
#include "data/config/options.h"
#include "data/config/same.h"
#include "data/config/seed.h"
#include "data/file/commit.h"
#include "data/file/made_by.h"
#include "data/ranks/pages.h"
#include "data/ranks/placement.h"
#include "data/ranks/ranks.h"
#include "data/system/blas.h"
#include "data/system/console.h"
#include "data/system/fold.h"
#include "data/system/help.h"
#include "data/system/limits.h"
#include "data/system/memory.h"
#include "data/system/number.h"
#include "eval/benchmark/check_tests.h"
#include "eval/config/doubts.h"
#include "eval/curve/curve.h"
#include "eval/evaluate/evaluate.h"
#include "eval/evaluate/plan.h"
#include "eval/evaluate/same.h"
#include "eval/evaluate/shared.h"
#include "eval/report/output.h"
#include "eval/report/report.h"
#include "eval/seeds/command.h"
#include "eval/sources/sources.h"

#include <argp.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const char doc[] =
    "Asks the systems of a YAML file the same questions and shows what each one's answers cost: exact match, "
    "the "
    "share of the base's accuracy that is kept, the reduction of FLOPs to the first token (in the paper's "
    "convention, parameters over parameters, and exact, every matrix product counted), and the measured "
    "time.\v"
    "Tables go to standard output. The output directory (`output` in CONFIG) gets results.csv, budgets.csv, "
    "ttft.csv, results.h5, samples/ (every question with every answer, as it comes) and pareto.svg, .png and .pdf, "
    "drawn by gnuplot. `analysis` compares predicted caches with the base's own on a text, layer by layer: "
    "errors.csv and layers.svg, and what is kept of the base against that: fidelity.csv, fidelity.svg, "
    "correlations.csv. `picture.published` leaves figures of the paper in published.csv "
    "and draws them faintly, unless draw_published is false. Items on a grid of lengths and depths leave grid.csv, a "
    "heat map of every system, and accuracy against time at each length. An evaluation that was stopped goes on from "
    "its samples.\n"
    "`kveval report` joins evaluations and draws again without running anything, `kveval seeds` those that differ in seed. `kveval sources` says how many layers of an "
    "aux it takes to explain a base's keys and values, `kveval curve` what each number of a model's own first layers is worth "
    "as its aux.\n"
    "\n"
    "As my/new.yaml, a base, a small model alone, and a KV predictor between them:\n"
    "  output: my/new\n"
    "  systems:\n"
    "    - {name: base, family: base, model: my/base/final/model}\n"
    "    - {name: aux, family: aux alone, model: my/aux/final/model}\n"
    "    - {name: KVP, family: KVP-C, base: my/base/final/model,\n"
    "       aux: my/predictor/final/aux, predictor: my/predictor/final/predictor}\n"
    "    # of the base's own first layers, which have no aux\n"
    "    - {name: prefix 1, family: prefix, base: my/base/final/model,\n"
    "       predictor: \"random:prefix=1\"}\n"
    "    - {name: L0.75-0.25, family: LazyLLM, model: my/base/final/model,\n"
    "       pruning: lazy, start: 0.75, end: 0.25}\n"
    "    # random and static take keep: 0.5, speculative base, aux and keep\n"
    "  tasks:\n"
    "    - {name: facts, split: trained, file: my/questions.jsonl, shots: 1}\n"
    "    - {name: HumanEval, kind: humaneval, file: HumanEval.jsonl.gz,\n"
    "       samples: 20, k: [1, 10]}\n"
    "    - {name: ARC-c, kind: arc_challenge, file: my/arc.jsonl}\n"
    "    # or humanevalplus, mbpp, mbppplus\n"
    "    # or arc_easy, boolq, hellaswag, piqa, sciq, winogrande\n"
    "    - {name: stories, kind: text, corpus: my/held_out.h5,\n"
    "       window: 64, prompt: 48}\n"
    "    # perplexity behind a prompt, of a token shard or text files\n"
    "    - name: mine         # JSON lines with fields of any names\n"
    "      kind: custom\n"
    "      file: my/questions.jsonl\n"
    "      template: \"Q: {question}\\nA:\"\n"
    "      target: \"{answer.value}\"\n"
    "      metric: contains   # or exact, regex, numeric, choice\n"
    "      shots: 2           # with shots_file: of a file of their own\n"
    "    # with chat: true, an instruct model is asked as a user would\n"
    "  budgets: [1.0, 0.5, 0.25]\n"
    "  ttft: {prompt_tokens: 59, batch_size: 8, repeats: 5}\n"
    "  # of predicted caches, on text:\n"
    "  analysis: {corpus: my/held_out.h5, sequences: 64}\n"
    "  picture: {x: paper, published: triviaqa-openelm-1.1b}\n"
    "All others are compared with the first system. eval/README.md has every key. "
    "Paths, also in CONFIG, are taken from where kveval is started.\n"
    "\n"
    "A file to start from; look; run; ask 10 questions, without the clock; draw anew:\n"
    "  kveval --example >my/start.yaml\n"
    "  kveval my/eval.yaml --dry-run\n"
    "  kveval my/eval.yaml\n"
    "  kveval my/eval.yaml --limit 10 --no-ttft --output my/look\n"
    "  kveval report my/eval/results.h5 --y retention --output my/kept\n"
    "\n"
    "Programs that models write run in a sandbox (bubblewrap); without one kveval refuses to run them. Whether "
    "sandbox and problems are in order:\n"
    "  kveval --check-tests HumanEval.jsonl.gz\n"
    "\n"
    "Exit status: 0 done (also where a system gives NaN or Inf: its row says `not finite`), 1 failed, or the "
    "base itself is not finite, 2 wrong usage, 130 interrupted by Ctrl-C, 143 by SIGTERM, 129 by SIGHUP; what did "
    "not end well, but for such a base, leaves no files but samples.";

enum { KEY_SEEDS = 0x200, KEY_EXAMPLE, MAX_SEEDS = 1000 };

static const struct argp_option options[] = {
    {"limit", 'l', "N", 0, "Ask at most N items of every task, as `limit` in CONFIG does", 0},
    {"no-ttft", 't', NULL, 0, "Do not measure the time to the first token", 0},
    {"check-tests", 'c', "FILE", 0,
     "Only run the solutions that come with a file of HumanEval, HumanEval+, MBPP or MBPP+ (plain or .gz) in the "
     "sandbox: all should pass",
     0},
    {"dry-run", 'n', NULL, 0,
     "Check the configuration and all that it names but the models' weights; print items, tokens, memory and expected time; write nothing",
     0},
    {"seeds", KEY_SEEDS, "N", 0,
     "Evaluate with the seeds 1 to N, one after the other, {seed} in the paths of CONFIG being each of them, and show "
     "their means as kveval seeds does",
     0},
    {"example", KEY_EXAMPLE, NULL, 0, "Print a commented configuration to start from", 0},
    {"unsafe-execution", 'U', NULL, 0,
     "Run generated programs without a sandbox where bubblewrap cannot work: they can do all that you can",
     0},
    {0}};

struct arguments {
    kv_config_options common;
    bool dry_run, no_ttft, unsafe_execution;
    const char *check_tests;
    char limit[40]; // "limit=N"
    int64_t seeds;  // 0: the one of the configuration
    char seed[40];  // "seed=N"
    const kv_table_format *format;
};

// A setting like those of -s, so that the configuration in results.h5 has it.
static void set_limit(struct argp_state *state, struct arguments *a, const char *text) {
    kv_config_options *o = &a->common;
    int64_t limit;
    if (!kv_read_whole(text, &limit) || limit < 1)
        argp_error(state, "--limit: found %s, expected a whole number from 1", text);
    if (o->n_overrides == KV_MAX_OVERRIDES) argp_error(state, "more than %d overrides", KV_MAX_OVERRIDES);
    snprintf(a->limit, sizeof a->limit, "limit=%lld", (long long)limit);
    o->overrides[o->n_overrides++] = a->limit;
}

static void set_seeds(struct argp_state *state, struct arguments *a, const char *text) {
    if (!kv_read_whole(text, &a->seeds) || a->seeds < 1 || a->seeds > MAX_SEEDS)
        argp_error(state, "--seeds: found %s, expected a whole number from 1 to %d", text, MAX_SEEDS);
}

// A seed that is set for all of them would make them one.
static void check_seeds(struct argp_state *state, const struct arguments *a) {
    const kv_config_options *o = &a->common;
    for (size_t i = 0; a->seeds && i < o->n_overrides; i++) {
        const char *key = o->overrides[i] + strspn(o->overrides[i], " \t");
        if (!strncmp(key, "seed", 4) && key[4 + strspn(key + 4, " \t")] == '=')
            argp_error(state, "-s %s beside --seeds, which sets it", o->overrides[i]);
    }
    if (a->seeds && o->n_overrides == KV_MAX_OVERRIDES)
        argp_error(state, "more than %d overrides", KV_MAX_OVERRIDES);
}

static error_t parse(int key, char *text, struct argp_state *state) {
    struct arguments *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &a->common;
        state->child_inputs[1] = &a->format;
        return 0;
    case 'n': a->dry_run = true; return 0;
    case 't': a->no_ttft = true; return 0;
    case 'l': set_limit(state, a, text); return 0;
    case KEY_SEEDS: set_seeds(state, a, text); return 0;
    case KEY_EXAMPLE: kv_example_print(state, "eval"); return 0;
    case ARGP_KEY_END:
        check_seeds(state, a);
        if (a->format != &kv_format_text && (a->dry_run || a->check_tests))
            argp_error(state, "--format beside %s, which shows no results",
                       a->dry_run ? "--dry-run" : "--check-tests");
        return 0;
    case 'U': a->unsafe_execution = true; return 0;
    case 'c':
        a->check_tests = text;
        a->common.optional = true;
        return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

static kv_status check_tests(const struct arguments *a, kv_error *err) {
    kv_sandbox_options sandbox = kv_sandbox_defaults();
    int64_t n_problems, n_failed;
    sandbox.limits.seconds = 0;
    sandbox.unsafe = a->unsafe_execution;
    kv_status status = kv_check_tests(a->check_tests, &sandbox, stdout, &n_problems, &n_failed, err);
    if (status != KV_OK || n_failed == 0) return status;
    return kv_fail(err, KV_ERR_MISMATCH, "%s: %lld of %lld solutions failed their tests", a->check_tests,
                   (long long)n_failed, (long long)n_problems);
}

// What will be done and what it takes, also where it does not fit.
static kv_status show_plan(const kv_evaluation *e, kv_plan *plan, kv_error *err) {
    kv_status status = kv_shared_prompts_check(e, err);
    if (status == KV_OK) status = kv_plan_measure(e, plan, err);
    if (status == KV_OK) kv_plan_print(e, plan, stdout);
    return status;
}

// Systems without a score are told of as they are found; without the base's there is nothing to compare.
static kv_status check_base(const kv_results *results, const char *output, kv_error *err) {
    for (int64_t t = 0; t < results->n_tasks; t++)
        if (kv_results_outcome(results, 0, t)->not_finite)
            return kv_fail(err, KV_ERR_NOT_FINITE,
                           "the base `%s` is not finite on %s %s, so that nothing can be compared with it; "
                           "what there is is in %s",
                           results->systems[0].name, results->tasks[t].name, results->tasks[t].split, output);
    return KV_OK;
}

// All that can be known to fail before weights are read, of the ranks each on its own machine.
static kv_status get_ready(const struct arguments *a, kv_evaluation *e, kv_error *err) {
    kv_eval_config_doubts(e->source, e->config);
    kv_status status = a->dry_run || !kv_rank_leads() ? KV_OK : kv_output_probe(e->config->output, err);
    if (status != KV_OK) return kv_eval_blame(e->source, "output", err);
    status = kv_evaluation_open(e, err);
    kv_plan plan = {0};
    if (status == KV_OK) status = kv_blas_reserve(err);
    if (status == KV_OK) status = kv_plan_make(e, &plan, err);
    if (status == KV_OK) status = a->dry_run ? show_plan(e, &plan, err) : kv_plan_check(&plan, err);
    kv_plan_free(&plan);
    return status;
}

// Everything up to the first question; ranks then know that they are about to do the same.
static kv_status open_evaluation(const struct arguments *a, kv_evaluation *e, kv_error *err) {
    const kv_config_options *o = &a->common;
    kv_status status =
        kv_eval_config_load(o->config, o->overrides, o->n_overrides, &e->source, &e->config, err);
    status = kv_ranks_agree(status, err);
    if (status == KV_OK) status = kv_config_same(e->source, NULL, 0, err);
    if (status == KV_OK) status = kv_ranks_agree(get_ready(a, e, err), err);
    if (status == KV_OK) status = kv_same_questions(e, err);
    if (status != KV_OK || a->dry_run) return status;
    status = kv_ranks_agree(kv_evaluation_load(e, err), err);
    return status == KV_OK ? kv_same_systems(e, err) : status;
}

// What rank 0 alone has, and shows.
static kv_status write_results(const struct arguments *a, const kv_evaluation *e, const kv_results *results,
                               kv_error *err) {
    char note[KV_PLOT_NOTE] = "";
    kv_status status = KV_OK;
    if (!a->seeds || !a->format->data) status = kv_output_print(results, a->format, stdout, err);
    if (status == KV_OK) status = kv_output_write(results, &e->config->picture, e->config->output, note, err);
    if (status != KV_OK) return status;
    if (*note) fprintf(stderr, "kveval: note: %s\n", note);
    char shared[KV_PAGES_TEXT];
    fprintf(stderr, "kveval: results, samples and picture are in %s; %.3g GB of memory at most%s%s\n",
            e->config->output, (double)kv_memory_peak() / 1e9, kv_n_ranks() > 1 ? " on rank 0" : "",
            kv_pages_text(shared));
    return KV_OK;
}

// A base that is not finite ends nothing where there are several seeds, and so is not agreed on: all are told.
static kv_status tell_all(kv_status status, kv_error *err) {
    kv_error told = err ? *err : (kv_error){0};
    told.code = status;
    kv_ranks_broadcast(&told, sizeof told, 0);
    if (told.code != KV_OK && err) *err = told;
    return told.code;
}

static kv_status evaluate(const struct arguments *a, kv_error *err) {
    kv_evaluation e = {.measure = !a->no_ttft, .unsafe_execution = a->unsafe_execution};
    kv_results results = {0};
    kv_status status = open_evaluation(a, &e, err);
    if (status == KV_OK && !a->dry_run) {
        status = kv_evaluation_run(&e, &results, err);
        if (status == KV_OK)
            status = kv_ranks_agree(kv_rank_leads() ? write_results(a, &e, &results, err) : KV_OK, err);
        if (status == KV_OK)
            status = tell_all(kv_rank_leads() ? check_base(&results, e.config->output, err) : KV_OK, err);
    }
    kv_results_free(&results);
    kv_evaluation_close(&e);
    return status;
}

// ---- Several seeds -------------------------------------------------------------------------------------

// What is written anew with each seed: one path for all would hold those of the first.
static kv_status check_seed_in(const kv_config *config, const char *key, const char *path, kv_error *err) {
    if (!path || kv_seed_in(path)) return KV_OK;
    return kv_config_fail(config, err, key,
                          "found %s, expected {seed} in it: with --seeds each seed has %s of its own", path,
                          strcmp(key, "output") ? "prompts" : "results");
}

static kv_status check_seed_in_caches(const kv_config *config, kv_error *err) {
    kv_status status = KV_OK;
    bool more = true;
    for (unsigned t = 0; more && status == KV_OK; t++) {
        char key[KV_EVAL_KEY];
        kv_eval_list_key(key, "tasks", t, "name");
        more = kv_config_has(config, key);
        kv_eval_list_key(key, "tasks", t, "prompt_cache");
        char *path = kv_config_value(config, key);
        status = check_seed_in(config, key, path, err);
        free(path);
    }
    return status;
}

// The output with {seed} in it, which each seed's own is made of. *path NULL: there is none.
static kv_status seeds_output(const struct arguments *a, char **path, kv_error *err) {
    const kv_config_options *o = &a->common;
    kv_config *config;
    kv_status status = kv_config_load(o->config, o->overrides, o->n_overrides, NULL, &config, err);
    *path = NULL;
    if (status != KV_OK) return status;
    *path = kv_config_value(config, "output");
    status = check_seed_in(config, "output", *path, err);
    if (status == KV_OK) status = check_seed_in_caches(config, err);
    kv_config_free(config);
    return status;
}

static void set_seed(struct arguments *a, int64_t seed) {
    snprintf(a->seed, sizeof a->seed, "seed=%lld", (long long)seed);
    fprintf(stderr, "kveval: seed %lld of %lld\n", (long long)seed, (long long)a->seeds);
}

// As kveval seeds would of those outputs, with the picture of the configuration.
static kv_status join_seeds(const struct arguments *a, char **inputs, const char *output, kv_error *err) {
    const kv_config_options *o = &a->common;
    kv_config *config;
    const kv_eval_config *eval;
    char note[KV_PLOT_NOTE] = "";
    kv_status status = kv_eval_config_load(o->config, o->overrides, o->n_overrides, &config, &eval, err);
    if (status != KV_OK) return status;
    const kv_seeds_options joined = {.inputs = inputs,
                                     .n_inputs = a->seeds,
                                     .output = output,
                                     .picture = eval->picture,
                                     .format = a->format};
    if (!a->format->data) putchar('\n');
    status = kv_seeds_join(&joined, stdout, note, err);
    if (status == KV_OK && *note) fprintf(stderr, "kveval: note: %s\n", note);
    if (status == KV_OK) fprintf(stderr, "kveval: means over seeds are in %s\n", output);
    kv_config_free(config);
    return status;
}

// runs/s{seed}/eval becomes runs/s1/eval, runs/s2/eval, ..., and runs/s1-3/eval of all of them. A base that is not finite with
// one seed ends nothing: the others are evaluated, and the first such error is the answer.
static kv_status evaluate_all(struct arguments *a, const char *pattern, char **inputs, kv_error *err) {
    kv_status first = KV_OK, status = KV_OK;
    kv_error found = {0};
    for (int64_t i = 0; status == KV_OK && i < a->seeds; i++) {
        set_seed(a, i + 1);
        inputs[i] = kv_seed_path(pattern, a->seed + strlen("seed="));
        status = inputs[i] ? evaluate(a, &found) : kv_fail(&found, KV_ERR_MEMORY, "out of memory");
        // Of ranks one that fails alone: the others know nothing of it yet.
        const bool alone = status != KV_OK && status != KV_ERR_NOT_FINITE && !kv_ranks_failed_together();
        if (!alone && (status == KV_OK || first != KV_OK)) continue;
        first = status;
        if (err) *err = found;
        if (status == KV_ERR_NOT_FINITE) status = KV_OK;
    }
    if (status != KV_OK || a->dry_run) return first;
    char range[48];
    snprintf(range, sizeof range, "1-%lld", (long long)a->seeds);
    char *output = kv_seed_path(pattern, range);
    kv_error *joining = first == KV_OK ? err : &found;
    if (!output)
        status = kv_fail(joining, KV_ERR_MEMORY, "out of memory");
    else if (kv_rank_leads())
        status = join_seeds(a, inputs, output, joining);
    free(output);
    status = kv_ranks_agree(status, joining);
    return first == KV_OK ? status : first;
}

static kv_status evaluate_seeds(struct arguments *a, kv_error *err) {
    kv_config_options *o = &a->common;
    char *pattern = NULL, **inputs = calloc((size_t)a->seeds, sizeof *inputs);
    o->overrides[o->n_overrides++] = a->seed;
    snprintf(a->seed, sizeof a->seed, "seed=1");
    kv_status status = inputs ? seeds_output(a, &pattern, err) : kv_fail(err, KV_ERR_MEMORY, "out of memory");
    status = kv_ranks_agree(status, err);
    // Without an output the first evaluation says what is wrong.
    if (status == KV_OK) status = pattern ? evaluate_all(a, pattern, inputs, err) : evaluate(a, err);
    for (int64_t i = 0; inputs && i < a->seeds; i++) free(inputs[i]);
    free(inputs);
    free(pattern);
    return status;
}

static kv_status run(struct arguments *a, kv_error *err) {
    if (a->check_tests) return check_tests(a, err);
    const kv_status status = a->seeds ? evaluate_seeds(a, err) : evaluate(a, err);
    return status == KV_ERR_NOT_FINITE ? kv_ranks_agree(status, err) : status;
}

// ---- Which of the programs -----------------------------------------------------------------------------

// kveval report and its like: programs of their own, under the name "kveval report".
static const struct command {
    const char *name;
    char title[16];
    int (*main)(int, char **);
} commands[] = {{"report", "kveval report", kv_report_main},
                {"seeds", "kveval seeds", kv_seeds_main},
                {"sources", "kveval sources", kv_sources_main},
                {"curve", "kveval curve", kv_curve_main}};
enum { N_COMMANDS = sizeof commands / sizeof *commands };

static const struct command *find_command(int argc, char **argv) {
    for (int i = 0; i < N_COMMANDS; i++)
        if (argc > 1 && strcmp(argv[1], commands[i].name) == 0) return &commands[i];
    return NULL;
}

// What has nothing to share out is not for ranks: they would do the same work and write the same files.
static int refuse(const char *what) {
    kv_error err = {0};
    kv_fail(
        &err, KV_ERR_ARGUMENT,
        "%s: found %d ranks, expected one process: it has nothing to share out, so start it without a launcher",
        what, kv_n_ranks());
    kv_ranks_agree(err.code, &err);
    kv_fold_complaint("%s", err.message);
    return 2;
}

static int run_command(const struct command *command, int argc, char **argv) {
    static char name[sizeof command->title];
    if (kv_n_ranks() > 1) return refuse(command->title);
    memcpy(name, command->title, sizeof name);
    argv[1] = name;
    return command->main(argc - 1, argv + 1);
}

static int report(kv_status status, const struct arguments *a, kv_error *err) {
    char reason[KV_LIMITS_TEXT];
    if (status == KV_OK && !kv_console_flush())
        status = kv_fail(err, KV_ERR_IO, "standard output: cannot write the table: %s", strerror(errno));
    if (status == KV_OK) return 0;
    const char *more = status == KV_ERR_INTERRUPTED && !a->check_tests
                           ? "; the same command goes on from what was answered"
                           : "";
    // Whichever rank the signal came to.
    if (status == KV_ERR_INTERRUPTED && kv_ranks_failed_together()) kv_ranks_interrupted();
    if (kv_ranks_failed_together())
        kv_fold_complaint("%s%s%s", err->message, kv_limits_reason(err, reason), more);
    else
        kv_ranks_last_words(err->message);
    return status == KV_ERR_INTERRUPTED ? 128 + kv_console_signal() : 1;
}

int main(int argc, char **argv) {
    kv_console_start(argv);
    kv_made_by_program("kveval", kv_commit);
    argp_err_exit_status = 2;
    static const struct argp_child children[] = {
        {&kv_config_argp, 0, NULL, 0}, {&kv_table_format_argp, 0, NULL, 0}, {0}};
    static const struct argp argp = {options, parse, "CONFIG.yaml", doc, children, kv_help_filter, NULL};
    struct arguments arguments = {0};
    kv_error err = {0};
    const kv_status joined = kv_ranks_start(&err);
    if (joined != KV_OK) return kv_ranks_end(report(joined, &arguments, &err));
    const struct command *command = find_command(argc, argv);
    if (command) return kv_ranks_end(run_command(command, argc, argv));
    argp_parse(&argp, argc, argv, 0, NULL, &arguments);
    if (arguments.check_tests && kv_n_ranks() > 1) return kv_ranks_end(refuse("--check-tests"));
    kv_console_catch_signals();
    kv_placement_announce("kveval");
    if (arguments.dry_run) {
        kv_console_printout();
        kv_fold_begin();
    }
    return kv_ranks_end(report(run(&arguments, &err), &arguments, &err));
}

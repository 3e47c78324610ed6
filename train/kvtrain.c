// The program kvtrain: its command line, and the order in which a training is looked at, begun and told
// about.
#include "data/config/example.h"
#include "data/config/options.h"
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
#include "train/run/doubts.h"
#include "train/run/estimate.h"
#include "train/run/footprint.h"
#include "train/run/resume.h"
#include "train/run/same.h"
#include "train/run/trainer.h"
#include "train/run/training.h"
#include "train/status/status.h"
#include "train/sweep/options.h"
#include "train/sweep/sweep.h"

#include <argp.h>
#include <ctype.h>
#include <inttypes.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

// Examples are run by a test: the lines stay below 80 columns, where argp would wrap them.
static const char doc[] =
    "Trains what a YAML file describes: a language model (task: lm), or KV predictors from a small model's "
    "cache to a large one's (task: kvp).\v"
    "A configuration, as my/new.yaml:\n"
    "  task: kvp                     # lm: a language model, `model` says which\n"
    "  output: my/new                # the run directory\n"
    "  base: my/base/final/model\n"
    "  aux: my/aux/final/model\n"
    "  data: {train: my/train.h5, validation: my/held_out.h5,\n"
    "         seq_len: 64, batch_size: 8}\n"
    "  recipe: ours                  # left out: the paper's loss and start\n"
    "  loss: {kl: 2}                 # what is set wins over the recipe\n"
    "  train: {steps: 100, lr: 5e-3, lr_aux: 5e-3}\n"
    "\n"
    "train/README.md lists every key, among them those of the parts that predictors are made of (predictor: sources, "
    "map, token_table, adapt, ...). Without a second model, the base's own first layers in its place:\n"
    "  kvtrain my/new.yaml -s aux=prefix -s prefix_layers=2 \\\n"
    "    -s train.lr_aux=null -s train.steps=5 --output my/own_layers\n"
    "\n"
    "A file to start from, with every key that one is likely to touch, its default and what it is for:\n"
    "  kvtrain --example kvp >my/start.yaml\n"
    "\n"
    "Look before training, train, with a smaller learning rate instead, see what "
    "a run is doing, go on after an interruption:\n"
    "  kvtrain my/new.yaml --dry-run\n"
    "  kvtrain my/new.yaml\n"
    "  kvtrain my/new.yaml -s train.lr=1e-3 --output my/slow\n"
    "  kvtrain status my/slow\n"
    "  kvtrain my/new.yaml --resume\n"
    "\n"
    "The run directory gets config.yaml (with all overrides), metrics.jsonl, checkpoints/step-NNNNNN/ and, after "
    "the last step, final/, whose model/ (task lm) or aux/ and predictor/ (task kvp) other configurations point "
    "at. Every path, in CONFIG, in what it extends and in a sweep's FILE, is taken from the directory kvtrain is started in, and {seed} "
    "in paths is the number at the key `seed`.\n"
    "\n"
    "With loss.kl above 0 the base's own logits teach: the pass on predicted caches or, with task: lm, the model "
    "itself, which then has the predictors' loss as well as their text. As my/rival.yaml:\n"
    "  extends: my/new.yaml          # what it says of predictors is left behind\n"
    "  task: lm\n"
    "  output: my/rival\n"
    "  model: {from: checkpoint, path: my/aux/final/model}\n"
    "\n"
    "data.validation names text that is held out: its loss, and the errors of predicted keys and values, are "
    "logged before the first step, every train.validate_every steps and after the last; train.keep_best keeps "
    "the model with the lowest in best/, which is made like final/.\n"
    "\n"
    "A recipe is a set of defaults; --dry-run prints all of them. train.lr is the rate of the maps; train.lr_aux, "
    "lr_table and lr_queries are those of the aux, of token tables and of adapted queries. After predictor.init: "
    "least_squares the rates of maps and aux are lowered by how much the fit explains, so that training does not undo it.\n"
    "\n"
    "Ctrl-C, SIGTERM and SIGHUP (a closed terminal) finish the step under way and write a checkpoint; --resume goes on from there and ends "
    "with the same weights, bit by bit, as a run that was never stopped (with the same OMP_NUM_THREADS). A "
    "second Ctrl-C ends the program at once.\n"
    "\n"
    "Exit status: 0 done, 1 failed, 2 wrong usage, 130 interrupted by Ctrl-C, 143 by SIGTERM, 129 by SIGHUP.";

enum { KEY_QUIET_HINT = 0x200, KEY_EXAMPLE, KEY_NETWORK, KEY_RANKS };

static const struct argp_option options[] = {
    {"resume", 'r', NULL, 0,
     "Go on with the run in the run directory from its newest checkpoint, or begin it if there is none; with more "
     "train.steps than it was planned for, make it longer",
     0},
    {"force", 'f', NULL, 0, "Replace a run that is in the run directory", 0},
    {"dry-run", 'n', NULL, 0,
     "Print the resolved configuration, parameters, FLOPs per token, memory and expected time; write nothing",
     0},
    {"ranks", KEY_RANKS, "[NODESx]N", 0,
     "With --dry-run: what N ranks on a node would take, on each of so many nodes (default: 1), without starting them",
     0},
    {"network", KEY_NETWORK, "GBIT[,MICROSECONDS]", 0,
     "With --dry-run: what a step would take on up to 64 machines like this one, a rank on each, whose network carries so many "
     "Gbit/s and takes so long for a message (50)",
     0},
    {"example", KEY_EXAMPLE, "lm|kvp|eval", 0,
     "Print a commented configuration to start from: of a language model, of predictors, or of an evaluation for kveval",
     0},
    {"quiet-hint", KEY_QUIET_HINT, NULL, OPTION_HIDDEN, "Of a sweep's run: its user restarts the sweep", 0},
    {0}};

struct arguments {
    kv_config_options common;
    kv_sweep_options sweep;
    kv_run_mode mode;
    bool dry_run, quiet_hint, has_network;
    kv_network network;
    kv_estimate_ranks ranks; // none: those that there are
};

static void set_mode(struct argp_state *state, struct arguments *a, kv_run_mode mode) {
    if (a->mode != KV_RUN_NEW && a->mode != mode)
        argp_error(state, "--resume and --force exclude each other");
    a->mode = mode;
}

// "8" or "2x4".
static void read_ranks(struct argp_state *state, const char *text, kv_estimate_ranks *ranks) {
    const long most = 1000000;
    char *end;
    const size_t digits = strspn(text, "0123456789");
    long n = strtol(text, &end, 10), n_nodes = 1;
    if (*end == 'x' && isdigit((unsigned char)end[1])) n_nodes = n, n = strtol(end + 1, &end, 10);
    if (digits == 0 || *end || n < 1 || n_nodes < 1 || n > most || n_nodes > most / n)
        argp_error(state,
                   "--ranks: found '%s', expected ranks of a node, or nodes and ranks of each: 8 or 2x4",
                   text);
    *ranks = (kv_estimate_ranks){(int)n_nodes, (int)n};
}

static int ranks_of(const struct arguments *a) {
    return a->ranks.node_ranks ? a->ranks.n_nodes * a->ranks.node_ranks : kv_n_ranks();
}

static error_t parse(int key, char *text, struct argp_state *state) {
    struct arguments *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        a->sweep.no_config = &a->common.optional;
        state->child_inputs[0] = &a->common;
        state->child_inputs[1] = &a->sweep;
        return 0;
    case 'r': set_mode(state, a, KV_RUN_RESUME); return 0;
    case 'f': set_mode(state, a, KV_RUN_FORCE); return 0;
    case 'n': a->dry_run = true; return 0;
    case KEY_RANKS: read_ranks(state, text, &a->ranks); return 0;
    case KEY_QUIET_HINT: a->quiet_hint = true; return 0;
    case KEY_EXAMPLE: kv_example_print(state, text); return 0;
    case KEY_NETWORK:
        a->has_network = true;
        if (!kv_network_parse(text, &a->network))
            argp_error(state, "--network: found '%s', expected Gbit/s, as in 25, or 25,50 with microseconds",
                       text);
        return 0;
    case ARGP_KEY_END:
        if (a->has_network && (!a->dry_run || a->sweep.path))
            argp_error(state, "--network says something about the --dry-run of a configuration");
        if (a->ranks.node_ranks && (!a->dry_run || a->sweep.path))
            argp_error(
                state,
                "--ranks goes with --dry-run of a configuration; a launcher starts ranks (mpirun -n N kvtrain ...)");
        if (a->sweep.path && a->common.config)
            argp_error(state, "found %s beside --sweep, whose file names the configurations",
                       a->common.config);
        return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

// Opens the run's directory and says where it goes on from.
static kv_status look_at_run(kv_training *s, kv_run_mode mode, kv_error *err) {
    const kv_status status = kv_training_run(s, mode, err);
    if (status != KV_OK) return status;
    if (s->run.finished)
        fprintf(stderr, "kvtrain: %s is finished, nothing to resume; more train.steps make it longer\n",
                s->run.path);
    else
        kv_run_announce(&s->run);
    return KV_OK;
}

// What each rank does before the first step, and may fail at alone. Models are loaded together.
static kv_status get_ready(kv_training *s, bool resumed, kv_error *err) {
    // Nothing is written before it is known that there is room, and that the weights are there.
    const kv_status status = kv_ranks_agree(kv_footprint_check(s->task, err), err);
    return status == KV_OK ? kv_task_load(s->task, resumed ? s->run.checkpoint : NULL, err) : status;
}

static kv_status train(kv_training *s, kv_run_mode mode, kv_error *err) {
    kv_run *run = &s->run;
    kv_status status = kv_ranks_agree(look_at_run(s, mode, err), err);
    if (status == KV_OK) status = kv_same_beginning(run, err);
    if (status != KV_OK || run->finished) return status;
    const bool resumed = run->checkpoint[0] != 0;
    status = kv_ranks_agree(get_ready(s, resumed, err), err);
    if (status == KV_OK) status = kv_same_weights(s->task, err);
    if (status == KV_OK) status = kv_run_begin(run, err);
    if (status == KV_OK && !resumed && s->task->ops->start) status = s->task->ops->start(s->task, err);
    // What loading and the start have freed goes back to the system; glibc would keep much of it.
    malloc_trim(0);
    if (status == KV_OK) status = kv_train(s->task, run, err);
    if (status != KV_OK && run->locked) kv_run_stopped(run, status, err->message);
    return status;
}

static int report(kv_status status, const struct arguments *a, const kv_error *err) {
    if (status == KV_OK) return 0;
    char reason[KV_LIMITS_TEXT];
    if (!kv_ranks_failed_together()) {
        kv_ranks_last_words(err->message);
        return 1;
    }
    kv_fold_complaint("%s%s", err->message, kv_limits_reason(err, reason));
    if (status != KV_ERR_INTERRUPTED) return 1;
    if (a->sweep.path) fputs("kvtrain: the same command goes on from there\n", stderr);
    if (a->sweep.path || a->quiet_hint) return 128 + kv_console_signal();
    const kv_config_options *o = &a->common;
    fprintf(stderr, "kvtrain: to go on: kvtrain %s --resume%s%s%s\n", o->config,
            o->output ? " --output " : "", o->output ? o->output : "",
            o->n_overrides > (o->output != NULL) ? " and the same -s options" : "");
    return 128 + kv_console_signal();
}

static int run_status(int argc, char **argv) {
    char name[] = "kvtrain status";
    argv[0] = name; // in usage messages
    return kvtrain_status(argc, argv);
}

static kv_status sweep(const struct arguments *a, kv_error *err) {
    const kv_config_options *o = &a->common;
    const kv_sweep_args args = {.path = a->sweep.path,
                                .output = o->output,
                                .overrides = o->overrides,
                                .n_overrides = o->n_overrides - (o->output != NULL), // --output comes last
                                .only = a->sweep.only,
                                .share = a->sweep.share,
                                .force = a->mode == KV_RUN_FORCE,
                                .no_eval = a->sweep.no_eval,
                                .jobs = a->sweep.jobs,
                                .format = a->sweep.format};
    return a->dry_run ? kv_ranks_agree(kv_sweep_estimate(&args, stdout, err), err)
                      : kv_sweep_train(&args, stdout, err);
}

static kv_status open_one(kv_training *training, const struct arguments *a, kv_error *err) {
    const kv_config_options *o = &a->common;
    kv_status status = kv_training_open(training, o->config, o->overrides, o->n_overrides, err);
    if (status != KV_OK) return status;
    const int64_t batch_size = training->config->data.batch_size;
    if (batch_size < ranks_of(a))
        return kv_config_fail(training->source, err, "data.batch_size",
                              "found %" PRIi64
                              ", expected %d or more: a sequence of each step for every rank",
                              batch_size, ranks_of(a));
    // A sweep has said what there was to say of its runs before it began the first.
    if (!a->quiet_hint) kv_training_doubts(training);
    // First, as what is left beside them is what the memory check counts on.
    return kv_blas_reserve(err);
}

static kv_status train_one(kv_training *training, const struct arguments *a, kv_error *err) {
    char text[KV_FOOTPRINT_TEXT], shared[KV_PAGES_TEXT];
    kv_status status = kv_ranks_agree(open_one(training, a, err), err);
    if (status == KV_OK) status = kv_same_inputs(training, err);
    if (status != KV_OK) return status;
    if (a->dry_run) {
        if (a->mode == KV_RUN_RESUME) status = look_at_run(training, a->mode, err);
        const kv_estimate_ranks *ranks = a->ranks.node_ranks ? &a->ranks : NULL;
        const kv_network *network = a->has_network ? &a->network : NULL;
        if (status == KV_OK) status = kv_estimate_print(training->task, ranks, network, stdout, err);
        return kv_ranks_agree(status, err);
    }
    status = train(training, a->mode, err);
    if (status != KV_OK) return status;
    fprintf(stderr, "kvtrain: %s%s\n", kv_footprint_found(text), kv_pages_text(shared));
    printf("%s/final\n", training->run.path);
    return KV_OK;
}

int main(int argc, char **argv) {
    kv_console_start(argv);
    kv_made_by_program("kvtrain", kv_commit);
    static const struct argp_child children[] = {
        {&kv_config_argp, 0, NULL, 0}, {&kv_sweep_argp, 0, NULL, 0}, {0}};
    static const struct argp argp = {
        options, parse, "CONFIG.yaml\n--sweep FILE.yaml\nstatus DIR...", doc, children, kv_help_filter, NULL};
    struct arguments arguments = {0};
    kv_training training = {0};
    kv_error err = {0};
    argp_err_exit_status = 2;
    kv_console_catch_signals();
    const kv_status joined = kv_ranks_start(&err);
    if (joined != KV_OK) return kv_ranks_end(report(joined, &arguments, &err));
    if (argc > 1 && strcmp(argv[1], "status") == 0) return kv_ranks_end(run_status(argc - 1, argv + 1));
    argp_parse(&argp, argc, argv, 0, NULL, &arguments);
    kv_placement_announce("kvtrain");
    if (arguments.dry_run) kv_console_printout();
    if (arguments.dry_run || arguments.sweep.path) kv_fold_begin();
    const kv_status status =
        arguments.sweep.path ? sweep(&arguments, &err) : train_one(&training, &arguments, &err);
    int code = report(status, &arguments, &err);
    kv_training_close(&training);
    return kv_ranks_end(code);
}

// Sweeps have a help text of their own, which argp puts below kvtrain's.
#include "train/sweep/options.h"

#include "data/system/help.h"
#include "data/system/number.h"
#include "train/sweep/share.h"

#include <stdlib.h>

enum { KEY_JOBS = 'j', KEY_ONLY = 0x100, KEY_NO_EVAL, KEY_SWEEP };

// argp prints what follows \v behind the program's own text.
static const char doc[] =
    "\v"
    "Sweeps: the same training under many settings. Paths in a sweep's file are taken from its own directory, but "
    "`output` from where kvtrain is started. For example, as my/sweep.yaml:\n"
    "  output: my/sweep\n"
    "  prepare: [base.yaml, aux.yaml]  # trained first, where they are not\n"
    "  train: predictor.yaml           # what every run starts from\n"
    "  set: {train.steps: 20}          # for all runs\n"
    "  grid:                           # a run for each combination\n"
    "    loss.kl: [0, 2]\n"
    "  arms:                           # optional: variants, each with the grid\n"
    "    - {name: ours}\n"
    "    - {name: paper, set: {predictor.init: random}, grid: {loss.aux: [1]}}\n"
    "  seeds: 2                        # optional: each with the seeds 1 and 2\n"
    "  eval: eval.yaml                 # kveval's: tokenizer, tasks, base first\n"
    "  keep: final                     # or checkpoints: of finished runs too\n"
    "\n"
    "Each run is called by what is special about it, as ours-kl=0, and is a run directory of that name in the "
    "output. What wins: grid over -s over an arm's `set` over `set`. All configurations are checked before "
    "anything is trained.\n"
    "  kvtrain --sweep my/sweep.yaml --dry-run\n"
    "  kvtrain --sweep my/sweep.yaml\n"
    "  kvtrain --sweep my/sweep.yaml -s train.steps=5 --output my/look\n"
    "  kvtrain --sweep my/sweep.yaml --only 'ours-*' --jobs 2\n"
    "  kvtrain --sweep my/sweep.yaml --only 2/4\n"
    "\n"
    "Of four processes that are started with --only 1/4 to 4/4, on one machine or several, each trains a share of the runs, "
    "and the first prepares while the others wait; the same command without --only then evaluates. Under an MPI launcher "
    "ranks share the runs and rank 0 evaluates.\n"
    "\n"
    "With `seeds` a run is called ours-kl=0-seed=2, and what is prepared is trained with each seed where its output has "
    "{seed}. What differs by seed is shown as mean and standard deviation (kveval seeds --help).\n"
    "\n"
    "The same command goes on after an interruption or a failure: what is finished is not trained or asked again. "
    "A run that fails does not stop the others (exit status 1 at the end). A run whose configuration has changed "
    "is refused by name; --force trains such runs, and only such, anew.\n"
    "At the end kveval asks all of them the same questions, and the output directory holds, beside the runs and "
    "kveval's files, table.csv: a row for each run, task, split and metric, with the run's settings, the loss "
    "(mean of the last 10 logged steps), parameters and seconds of its training.";

static const struct argp_option options[] = {
    {NULL, 0, NULL, 0, "Sweeps:", 1},
    {"sweep", KEY_SWEEP, "FILE", 0, "Train and evaluate all runs that FILE describes (see below)", 1},
    {"only", KEY_ONLY, "PATTERN|I/N", 0,
     "Train only the runs whose names match, as 'ours-*', or only the share I of N, as 2/4, beside which other processes may "
     "train the others; may be given twice, with either",
     1},
    {"jobs", KEY_JOBS, "N", 0,
     "Train N runs at a time, each with its share of the cores; what they say goes to logs/ in the output",
     1},
    {"no-eval", KEY_NO_EVAL, NULL, 0, "Do not run kveval; the table has what training knows", 1},
    {0}};

static void take_only(struct argp_state *state, kv_sweep_options *o, const char *text) {
    kv_sweep_share share;
    if (!kv_sweep_read_share(text, &share))
        o->only = text;
    else if (share.n > 0)
        o->share = share;
    else
        argp_error(state, "--only %s: expected I/N, a share from 1 to N", text);
}

static error_t parse(int key, char *text, struct argp_state *state) {
    kv_sweep_options *o = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        o->jobs = 1;
        state->child_inputs[0] = &o->format;
        return 0;
    case KEY_SWEEP:
        o->path = text;
        *o->no_config = true;
        return 0;
    case KEY_ONLY: take_only(state, o, text); return 0;
    case KEY_NO_EVAL: o->no_eval = true; return 0;
    case KEY_JOBS:
        if (!kv_read_whole(text, &o->jobs) || o->jobs < 1 || o->jobs > KV_SWEEP_MAX_JOBS)
            argp_error(state, "--jobs %s: expected a number from 1 to %d", text, KV_SWEEP_MAX_JOBS);
        return 0;
    case ARGP_KEY_END:
        if (!o->path && (o->only || o->share.n || o->no_eval || o->jobs > 1))
            argp_error(state, "--only, --jobs and --no-eval belong to --sweep");
        if (!o->path && o->format != &kv_format_text) argp_error(state, "--format belongs to --sweep");
        return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_child children[] = {{&kv_table_format_argp, 0, NULL, 1}, {0}};

const struct argp kv_sweep_argp = {
    .options = options, .parser = parse, .doc = doc, .children = children, .help_filter = kv_help_filter};

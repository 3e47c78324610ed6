// Sweeps: the same training under many settings, one run after the other, asked the same questions, in one
// table. `kvtrain --sweep FILE.yaml`; its help says what FILE holds and what the output directory gets.
#pragma once

#include "data/table/format.h"
#include "train/config/config.h"
#include "train/sweep/file.h"
#include "train/sweep/share.h"

#include <limits.h>
#include <stdint.h>
#include <stdio.h>

// ---- The runs ------------------------------------------------------------------------------------------

typedef enum kv_sweep_state { KV_SWEEP_TO_DO, KV_SWEEP_DONE, KV_SWEEP_FAILED } kv_sweep_state;

// Where a training stands and what it takes, known once its models and text are there.
typedef struct kv_sweep_look {
    bool known;
    bool changed; // what is in its directory cannot be gone on with: mostly, another configuration's
    bool longer;  // it can, but was planned for another number of steps
    kv_sweep_state state;
    int64_t steps, steps_done, n_trained; // n_trained: weights
    double flops;                         // of all steps
    double memory;                        // bytes at most
    double seconds;                       // spent training so far
    char why_changed[512];                // or longer
} kv_sweep_look;

typedef struct kv_sweep_run {
    char *name, *directory;
    char *row;               // the name without its seed: that of the table's row, and kveval's
    const uint64_t *seed;    // borrowed; NULL: the sweep says of none
    const kv_sweep_arm *arm; // borrowed
    const char *train;       // borrowed: the file it starts from
    char **overrides;        // what it sets there, `output` last
    size_t *lines;           // of these, in the sweep's file; 0: from the command line
    size_t n_overrides;
    kv_config *source;
    const kv_train_config *config; // belongs to source
    bool wanted;                   // of the pattern and of the share
    int rank;                      // of those that are to be trained: whose it is
    kv_sweep_look look;
    int failure; // exit status of the training that failed, or -signal
} kv_sweep_run;

// One training of what is to be there first.
typedef struct kv_sweep_prepared {
    const char *path; // borrowed: its configuration
    size_t line;      // in the sweep's file
    char *output;     // its run directory
    kv_task_kind task;
    const uint64_t *seed; // borrowed; NULL: it is the same for all
    char override[40];    // "seed=2"; "" without
    bool wanted;          // by a run that is to be trained
} kv_sweep_prepared;

typedef struct kv_sweep {
    kv_sweep_file file;
    char output[PATH_MAX];
    kv_sweep_run *runs;
    size_t n_runs, n_matched;    // n_matched: of the pattern
    kv_sweep_prepared *prepared; // in order
    size_t n_prepared;
    const char **keys; // borrowed: what differs between the runs, in the order of the file
    size_t n_keys;
} kv_sweep;

enum { KV_SWEEP_MAX_JOBS = 64 }; // at a time

typedef struct kv_sweep_args {
    const char *path, *output;    // output: NULL for the file's
    const char *const *overrides; // for all runs; they win over the file's `set`
    size_t n_overrides;
    const char *only;     // a pattern of names, NULL: all runs
    kv_sweep_share share; // of these
    bool force;           // runs of another configuration are replaced
    bool no_eval;
    int64_t jobs; // runs at a time
    const kv_table_format *format;
} kv_sweep_args;

// Reads the file and the configuration of every run and checks each on its own, and that no two are the same.
// Looks at no models. Free with kv_sweep_close, also after a failure; *sweep must be zeroed before.
kv_status kv_sweep_open(const kv_sweep_args *args, kv_sweep *sweep, kv_error *err);
// Part of it: sweep->prepared. A configuration whose output has {seed} is trained with each of the seeds, the others once, by
// their own; one that differs by seed but for its output is refused.
kv_status kv_sweep_open_prepared(kv_sweep *sweep, kv_error *err);
void kv_sweep_close(kv_sweep *sweep);

// Sets `wanted` of all runs by args: those of the pattern and, of these, of the share, dealt by the tokens they are trained
// on. Looks at nothing but their configurations, so that every process with the same files finds the same.
kv_status kv_sweep_choose(const kv_sweep_args *args, kv_sweep *sweep, kv_error *err);

// Sets `rank` of those that are to be trained (look), dealt by the work that is left of each.
kv_status kv_sweep_share_ranks(kv_sweep *sweep, kv_error *err);

// Looks at one training: whether its models go together and with the text, how far it has come, what it
// takes. A run of another configuration in its directory is no error, but `changed`.
kv_status kv_sweep_look_at(const char *train, const char *const *overrides, size_t n_overrides,
                           kv_sweep_look *look, kv_error *err);
// Likewise at one that is to be there first.
kv_status kv_sweep_look_at_prepared(const kv_sweep_prepared *prepared, kv_sweep_look *look, kv_error *err);
// All runs; an error names the run. Of those that are not wanted what is not there is not known.
kv_status kv_sweep_look_at_runs(kv_sweep *sweep, kv_error *err);

// Passes on what went wrong with a run's configuration: a mistake in one of its settings is named by its line
// in the sweep's file instead of by the "-s" it is handed down as. Returns `code`.
kv_status kv_sweep_name_place(const kv_sweep *sweep, const kv_sweep_run *run, kv_status code,
                              const kv_error *inner, kv_error *err);

// ---- What is done with them ----------------------------------------------------------------------------

// Prints the runs with parameters, FLOPs, memory and expected time on `out`; writes nothing.
kv_status kv_sweep_estimate(const kv_sweep_args *args, FILE *out, kv_error *err);

// Trains what is not trained yet, evaluates, leaves OUTPUT/table.csv and prints it on `out`. Where runs
// failed the others go on; then KV_ERR_MISMATCH, saying how many. KV_ERR_INTERRUPTED after a signal to stop.
// A share is trained and no more: the evaluation and the table are of all runs, once they are all there.
// Collective: ranks have their parts of the runs, and rank 0 evaluates and prints.
kv_status kv_sweep_train(const kv_sweep_args *args, FILE *out, kv_error *err);

// Seconds a training has left, from the pace of those that are done (of the same task, where there are any);
// NAN while none is.
double kv_sweep_seconds_left(const kv_sweep *sweep, const kv_sweep_look *look, kv_task_kind task);

kv_status kv_sweep_find_kveval(char path[PATH_MAX], kv_error *err);
// Whether the runs' text was made with the tokenizer that the eval file asks with, as far as that is known before its
// models are trained: else nothing of what is trained could be asked.
kv_status kv_sweep_check_tokenizer(const kv_sweep *sweep, kv_error *err);
// OUTPUT/eval.yaml with the eval file's systems and the runs that are done; then kveval, as a child. With seeds
// OUTPUT/eval/seed=N.yaml, and kveval's output in OUTPUT/eval/seed=N, for each of them that a run is wanted or done of.
kv_status kv_sweep_evaluate(const kv_sweep *sweep, const char *kveval, bool measure_time, kv_error *err);
// With seeds: `kveval seeds` of those with a run that is done, into OUTPUT.
kv_status kv_sweep_join_seeds(const kv_sweep *sweep, const char *kveval, kv_error *err);
// Where kveval's files are: OUTPUT, or of a seed OUTPUT/eval/seed=N.
kv_status kv_sweep_results_dir(const kv_sweep *sweep, const uint64_t *seed, char path[PATH_MAX],
                               kv_error *err);

// OUTPUT/table.csv, and the same on `out`, with seeds as mean ± standard deviation. Without `evaluated` only those figures of
// kveval's results.csv count that are newer than the run.
kv_status kv_sweep_table(const kv_sweep *sweep, bool evaluated, const kv_table_format *format, FILE *out,
                         kv_error *err);

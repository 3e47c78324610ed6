// What there is to know about a training run from its directory (train/run/directory.h), while it runs or
// afterwards. Only looks: a run at work is not disturbed.
#pragma once

#include "data/file/metrics.h"
#include "train/run/starts.h"

#include <limits.h>
#include <stdbool.h>
#include <stdio.h>

typedef enum kv_run_phase {
    KV_RUN_RUNNING,     // its directory is locked
    KV_RUN_INTERRUPTED, // by a signal to stop
    KV_RUN_FAILED,      // with an error message
    KV_RUN_KILLED,      // it ended without saying why
    KV_RUN_FINISHED,    // final/ is there, of the last step
} kv_run_phase;

// One of the corpora that a run is trained on.
typedef struct kv_run_text {
    char *corpus;
    double weight; // as configured; 1 of a single one
    double share;  // among the weights of all
} kv_run_text;

typedef struct kv_run_status {
    char path[PATH_MAX];
    char task[16];                                            // "lm" or "kvp"
    char model[PATH_MAX + 64], base[PATH_MAX], aux[PATH_MAX]; // model: task lm's; empty: none
    kv_run_text *texts;
    size_t n_texts;
    char validation[PATH_MAX];                          // held-out text; empty: none
    int64_t steps, batch_size, seq_len, validate_every; // as configured; 0: the config does not say
    kv_run_phase phase;
    char message[1024]; // why it stopped, empty: unknown
    int64_t step;       // the last known to be done
    kv_metrics metrics;
    int64_t *checkpoints; // [n_checkpoints] steps, ascending
    size_t n_checkpoints;
    int64_t best_step, final_step; // of best/ and final/, -1: there is none
    json_t *plans; // [{steps, until}] what it was planned for before it was made longer; NULL: never
    kv_run_starts starts;
    kv_run_place place;
    double seconds, validation_seconds; // of training and on held-out text up to its newest state
    int64_t log_every;                  // as configured
    double elapsed,
        left; // seconds of work, over all starts; left: from `step`, or from where a stopped run resumes; NAN: unknown
} kv_run_status;

enum { KV_STATUS_WINDOW = 20 }; // logged steps that smoothed values are means of

// Whether `path` looks like the directory of a run.
bool kv_run_status_is_run(const char *path);

// KV_ERR_IO, KV_ERR_FORMAT name the file. kv_run_status_free also after a failure.
kv_status kv_run_status_read(const char *path, kv_run_status *status, kv_error *err);
void kv_run_status_free(kv_run_status *status);

// Whether a run at work has not logged a step since it was resumed: what is known of it is from before.
bool kv_run_status_is_resuming(const kv_run_status *status);

const char *kv_run_phase_name(kv_run_phase phase);
// The step a run that stopped goes on from.
int64_t kv_run_status_resumes_at(const kv_run_status *status);

// ---- Telling -------------------------------------------------------------------------------------------

// Lines about one run; the loss curve below them is kv_run_status_curve's.
void kv_run_status_print(const kv_run_status *status, FILE *out);
// One JSON object on one line. False when out of memory.
bool kv_run_status_print_json(const kv_run_status *status, FILE *out);
// What metrics.jsonl has of each step, as CSV: a line of names, then a row for each step that something was logged of, training
// and held-out text together. Lists (a value for each layer) have a column for each entry, what is of held-out text begins
// with validation_. A field is empty where there is no number. with_run: the run's path in front. Columns are those of all.
bool kv_run_status_print_csv(const kv_run_status *runs, size_t n, bool with_run, FILE *out);
// The same columns of one run as a JSON object of lists; null where there is no (finite) number.
bool kv_run_status_print_series(const kv_run_status *status, FILE *out);
// A row for each of several.
void kv_run_status_print_table(const kv_run_status *runs, size_t n, FILE *out);

// Whether a column of metrics.jsonl is the learning rate of some weights.
bool kv_run_status_is_rate(const char *column);

// The loss curve as text, `width` by `height` characters; below it, half as high, the rates of a run that has several
// different ones. Prints nothing when there are not two points to draw; a hint when gnuplot cannot be had.
void kv_run_status_curve(const kv_run_status *status, int width, int height, bool utf8, FILE *out);

// `kvtrain status ...`: the exit status.
int kvtrain_status(int argc, char **argv);

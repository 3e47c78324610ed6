// Reads what a run has left on disk, in an order that makes sense of a run that goes on writing meanwhile.
#include "train/status/status.h"

#include "data/config/tree.h"
#include "data/file/content.h"
#include "data/file/json.h"
#include "data/file/mistaken.h"
#include "data/file/path.h"
#include "data/system/buffers.h"
#include "train/run/directory.h"
#include "train/run/starts.h"
#include "train/run/validation.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static const size_t max_config_bytes = (size_t)1 << 24;

bool kv_run_status_is_run(const char *path) {
    static const char *const others[] = {"metrics.jsonl", "checkpoints", "best", "final", "stopped.json"};
    bool found = false;
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        found = found || kv_path_exists_in(path, others[i]);
    return found && kv_path_exists_in(path, "config.yaml");
}

const char *kv_run_phase_name(kv_run_phase phase) {
    static const char *const names[] = {"running", "interrupted", "failed", "killed", "finished"};
    return names[phase];
}

int64_t kv_run_status_resumes_at(const kv_run_status *status) {
    const int64_t newest = status->n_checkpoints > 0 ? status->checkpoints[status->n_checkpoints - 1] : 0;
    return newest > status->final_step ? newest : status->final_step;
}

// ---- config.yaml ---------------------------------------------------------------------------------------
//
// Read without the schema: a run that another version of the program made is still a run.

static void copy(yaml_document_t *doc, const char *key, char *text, size_t size) {
    const char *value = kv_yaml_scalar(doc, key);
    snprintf(text, size, "%s", value ? value : "");
}

static int64_t whole(yaml_document_t *doc, const char *key) {
    const char *value = kv_yaml_scalar(doc, key);
    const long long number = value ? strtoll(value, NULL, 10) : 0;
    return number > 0 ? number : 0;
}

static kv_status add_text(kv_run_status *s, const char *corpus, const char *weight, kv_error *err) {
    kv_run_text *more = kv_room_for_one(s->texts, s->n_texts, sizeof *more);
    char *name = more ? strdup(corpus) : NULL;
    if (more) s->texts = more;
    if (!name) return kv_fail(err, KV_ERR_MEMORY, "out of memory");
    more[s->n_texts++] = (kv_run_text){.corpus = name, .weight = weight ? strtod(weight, NULL) : 0};
    return KV_OK;
}

// data.train, or every part of data.mixture.
static kv_status read_texts(yaml_document_t *doc, kv_run_status *s, kv_error *err) {
    const char *single = kv_yaml_scalar(doc, "data.train");
    kv_status status = single ? add_text(s, single, "1", err) : KV_OK;
    double weights = 0;
    for (int64_t i = 0; status == KV_OK; i++) {
        char corpus[64], weight[64];
        snprintf(corpus, sizeof corpus, "data.mixture[%" PRIi64 "].corpus", i);
        snprintf(weight, sizeof weight, "data.mixture[%" PRIi64 "].weight", i);
        if (!kv_yaml_scalar(doc, corpus)) break;
        status = add_text(s, kv_yaml_scalar(doc, corpus), kv_yaml_scalar(doc, weight), err);
    }
    for (size_t i = 0; i < s->n_texts; i++) weights += s->texts[i].weight;
    for (size_t i = 0; i < s->n_texts; i++)
        s->texts[i].share = weights > 0 ? s->texts[i].weight / weights : (double)NAN;
    return status;
}

static void describe_model(yaml_document_t *doc, kv_run_status *s) {
    const char *path = kv_yaml_scalar(doc, "model.path"), *keep = kv_yaml_scalar(doc, "model.keep");
    if (strcmp(s->task, "lm") != 0) return;
    if (path && keep)
        snprintf(s->model, sizeof s->model, "%s of the layers of %s", keep, path);
    else
        snprintf(s->model, sizeof s->model, "%s", path ? path : "from scratch");
}

static kv_status read_config(kv_run_status *s, kv_error *err) {
    char path[PATH_MAX], *text;
    size_t size;
    yaml_document_t doc;
    kv_status status = kv_path_join(s->path, "config.yaml", path, err);
    if (status == KV_OK) status = kv_read_file(path, max_config_bytes, &text, &size, err);
    if (status != KV_OK) return status;
    status = kv_yaml_parse(text, size, path, false, &doc, err);
    free(text);
    if (status != KV_OK) return status;
    copy(&doc, "task", s->task, sizeof s->task);
    copy(&doc, "base", s->base, sizeof s->base);
    copy(&doc, "aux", s->aux, sizeof s->aux);
    copy(&doc, "data.validation", s->validation, sizeof s->validation);
    status = read_texts(&doc, s, err);
    describe_model(&doc, s);
    s->steps = whole(&doc, "train.steps");
    s->validate_every = whole(&doc, "train.validate_every");
    s->log_every = whole(&doc, "train.log_every");
    s->batch_size = whole(&doc, "data.batch_size");
    s->seq_len = whole(&doc, "data.seq_len");
    const bool known = strcmp(s->task, "lm") == 0 || strcmp(s->task, "kvp") == 0;
    yaml_document_delete(&doc);
    if (status != KV_OK || known) return status;
    return kv_fail(err, KV_ERR_FORMAT,
                   "%s: not a configuration of kvtrain: key `task`: found `%s`, expected lm or kvp", path,
                   s->task);
}

// ---- What became of it ---------------------------------------------------------------------------------

// A kvtrain at work holds the lock; taking it, shared and for an instant, is how to find out.
static bool is_locked(const char *path) {
    const int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return false;
    const bool locked = flock(fd, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK;
    close(fd);
    return locked;
}

// What a state of the run knows to be spent, without what was lost.
static void note_seconds(kv_run_status *s, const kv_json_file *file) {
    const double trained = json_number_value(json_object_get(file->root, "seconds")),
                 validated = json_number_value(json_object_get(file->root, "validation_seconds"));
    s->seconds = fmax(s->seconds, trained);
    s->validation_seconds = fmax(s->validation_seconds, validated);
}

static kv_status read_stopped(kv_run_status *s, kv_error *err) {
    kv_json_file file = {0};
    bool interrupted = false;
    s->phase = KV_RUN_KILLED;
    if (!kv_path_exists_in(s->path, "stopped.json")) return KV_OK;
    kv_status status = kv_json_open(s->path, "stopped.json", &file, err);
    if (status == KV_OK) status = kv_json_int(&file, "step", 0, INT64_MAX, &s->step, err);
    if (status == KV_OK) status = kv_json_bool(&file, "interrupted", &interrupted, err);
    note_seconds(s, &file);
    const char *message = json_string_value(json_object_get(file.root, "message"));
    snprintf(s->message, sizeof s->message, "%s", message ? message : "");
    kv_json_close(&file);
    s->phase = interrupted ? KV_RUN_INTERRUPTED : KV_RUN_FAILED;
    return status;
}

// The step of best/ or final/. A best that is just being replaced is read with the next look.
static kv_status read_step(const kv_run_status *s, const char *name, int64_t *step, kv_error *err) {
    char dir[PATH_MAX];
    kv_json_file file = {0};
    if (!kv_path_exists_in(s->path, name)) return KV_OK;
    kv_status status = kv_path_join(s->path, name, dir, err);
    if (status == KV_OK && s->phase == KV_RUN_RUNNING && !kv_path_exists_in(dir, "state.json")) return KV_OK;
    if (status == KV_OK) status = kv_json_open(dir, "state.json", &file, err);
    if (status == KV_OK) status = kv_json_int(&file, "step", 0, INT64_MAX, step, err);
    kv_json_close(&file);
    return status;
}

// In this order: whoever ends meanwhile has finished.
static kv_status read_phase(kv_run_status *s, kv_error *err) {
    const bool locked = is_locked(s->path);
    s->phase = locked ? KV_RUN_RUNNING : KV_RUN_KILLED;
    kv_status status = read_step(s, "final", &s->final_step, err);
    if (status != KV_OK) return status;
    // A final/ of fewer steps is that of a run which is being made longer.
    if (s->final_step >= 0 && s->final_step >= s->steps)
        s->phase = KV_RUN_FINISHED;
    else if (!locked)
        return read_stopped(s, err);
    return KV_OK;
}

// The time and the former plans of the newest state; the plan that state was made by is one when it is not that of config.yaml.
static kv_status read_state(kv_run_status *s, kv_error *err) {
    char dir[PATH_MAX];
    kv_json_file file = {0};
    const int64_t newest = s->n_checkpoints > 0 ? s->checkpoints[s->n_checkpoints - 1] : -1;
    const bool final = s->final_step >= newest;
    int64_t step = 0, steps = s->steps;
    if (newest < 0 && s->final_step < 0) return KV_OK;
    kv_status status =
        final ? kv_path_join(s->path, "final", dir, err) : kv_run_checkpoint_path(s->path, newest, dir, err);
    // What a run at work is just replacing is read with the next look.
    if (status == KV_OK && s->phase == KV_RUN_RUNNING && !kv_path_exists_in(dir, "state.json")) return KV_OK;
    if (status == KV_OK) status = kv_json_open(dir, "state.json", &file, err);
    if (status == KV_OK) status = kv_json_int(&file, "step", 0, INT64_MAX, &step, err);
    if (status == KV_OK && kv_json_has(&file, "steps"))
        status = kv_json_int(&file, "steps", 0, INT64_MAX, &steps, err);
    if (status == KV_OK) {
        note_seconds(s, &file);
        json_t *plans = json_object_get(file.root, "plans");
        s->plans = json_is_array(plans) ? json_incref(plans) : NULL;
        if (steps != s->steps && step > 0) {
            if (!s->plans) s->plans = json_array();
            json_array_append_new(
                s->plans, json_pack("{s:I, s:I}", "steps", (json_int_t)steps, "until", (json_int_t)step));
        }
    }
    kv_json_close(&file);
    return status;
}

static int64_t larger(int64_t a, int64_t b) {
    return a > b ? a : b;
}

static kv_status read_metrics(kv_run_status *s, kv_error *err) {
    char path[PATH_MAX];
    if (!kv_path_exists_in(s->path, "metrics.jsonl")) return KV_OK;
    kv_status status = kv_path_join(s->path, "metrics.jsonl", path, err);
    if (status == KV_OK) status = kv_metrics_read(path, &s->metrics, err);
    const kv_metrics_table *t = &s->metrics.training, *v = &s->metrics.validation;
    if (t->n > 0) s->step = larger(s->step, t->steps[t->n - 1]);
    if (v->n > 0) s->step = larger(s->step, v->steps[v->n - 1]);
    return status;
}

// ---- Time ----------------------------------------------------------------------------------------------

static double at_least(double seconds, double least) {
    return seconds > least ? seconds : least;
}

// A step, by the last lines of the log or, where nothing is logged yet, by a checkpoint.
static double step_seconds(const kv_run_status *s) {
    const kv_metrics_table *t = &s->metrics.training;
    const double *seconds = kv_metrics_values(t, "seconds");
    const int64_t done = kv_run_status_resumes_at(s);
    if (!seconds || t->n == 0) return done > 0 && s->seconds > 0 ? s->seconds / (double)done : (double)NAN;
    const int64_t last = t->n - 1, first = t->n > KV_STATUS_WINDOW ? t->n - KV_STATUS_WINDOW : 0;
    const double all = seconds[last] / (double)t->steps[last];
    if (t->steps[last] <= t->steps[first]) return all;
    const double lately = (seconds[last] - seconds[first]) / (double)(t->steps[last] - t->steps[first]);
    return lately > 0 ? lately : all;
}

static double validation_seconds_left(const kv_run_status *s, int64_t step) {
    const kv_metrics_table *v = &s->metrics.validation;
    if (v->n == 0) return 0;
    const kv_steps_config steps = {.steps = s->steps,
                                   .validate_every = s->validate_every > 0 ? s->validate_every : 100};
    const double pass = kv_metrics_mean(v, "validation_seconds", KV_STATUS_WINDOW);
    return isnan(pass) ? 0 : pass * (double)kv_validations_left(&steps, step);
}

static double age(const kv_run_status *s, const char *name) {
    char path[PATH_MAX];
    struct stat info;
    if (kv_path_join(s->path, name, path, NULL) != KV_OK || stat(path, &info) != 0) return (double)INFINITY;
    return at_least(difftime(time(NULL), info.st_mtime), 0);
}

// Seconds of a run at work since its last line or, where that is of before, since it was started again.
static double since_last_line(const kv_run_status *s) {
    const double since = fmin(age(s, "metrics.jsonl"), age(s, "starts.json"));
    return s->phase == KV_RUN_RUNNING && isfinite(since) ? since : 0;
}

bool kv_run_status_is_resuming(const kv_run_status *s) {
    const kv_metrics_table *t = &s->metrics.training;
    return s->phase == KV_RUN_RUNNING && s->starts.n > 1 &&
           (t->n == 0 || t->steps[t->n - 1] <= s->starts.step);
}

static double known(double value) {
    return isnan(value) ? 0 : value;
}

static void work_out_time(kv_run_status *s) {
    const kv_metrics *m = &s->metrics;
    const double trained =
        fmax(kv_metrics_last(&m->training, "seconds"), kv_metrics_last(&m->validation, "seconds"));
    const double validated = kv_metrics_sum(&m->validation, "validation_seconds");
    const double since = since_last_line(s);
    s->elapsed =
        fmax(known(trained), s->seconds) + fmax(validated, s->validation_seconds) + s->starts.lost + since;
    s->left = (double)NAN;
    if (s->phase == KV_RUN_FINISHED) {
        s->left = 0;
        return;
    }
    const int64_t from = s->phase == KV_RUN_RUNNING ? s->step : kv_run_status_resumes_at(s);
    const double step = step_seconds(s);
    if (isnan(step) || s->steps < from) return;
    // Of the steps to the next line some part is done.
    const double part = fmin(since, step * (double)(s->log_every > 0 ? s->log_every : 1));
    s->left = at_least(step * (double)(s->steps - from) + validation_seconds_left(s, from) - part, 0);
}

// ---- All of it -----------------------------------------------------------------------------------------

kv_status kv_run_status_read(const char *path, kv_run_status *s, kv_error *err) {
    *s = (kv_run_status){.best_step = -1, .final_step = -1, .metrics.best = -1};
    struct stat info;
    if (stat(path, &info) != 0) return kv_missing(path, err);
    if (!S_ISDIR(info.st_mode))
        return kv_mistaken_dir(path, "config.yaml", "the directory of a run", KV_ERR_FORMAT, err);
    if (snprintf(s->path, sizeof s->path, "%s", path) >= (int)sizeof s->path)
        return kv_path_too_long(path, err);
    for (size_t n = strlen(s->path); n > 1 && s->path[n - 1] == '/'; n--) s->path[n - 1] = '\0';
    if (!kv_run_status_is_run(s->path))
        return kv_mistaken_dir(
            path, "metrics.jsonl", "a run of kvtrain, or a directory of runs",
            kv_fail(err, KV_ERR_FORMAT,
                    "%s: not a run of kvtrain, nor a directory of runs: expected config.yaml and "
                    "metrics.jsonl in it",
                    path),
            err);
    kv_status status = read_config(s, err);
    if (status == KV_OK) status = read_phase(s, err);
    if (status == KV_OK) status = read_metrics(s, err);
    if (status == KV_OK) status = kv_run_checkpoints(s->path, &s->checkpoints, &s->n_checkpoints, err);
    if (status == KV_OK) status = read_step(s, "best", &s->best_step, err);
    if (status == KV_OK) status = read_state(s, err);
    kv_run_starts_read(s->path, &s->starts);
    kv_run_place_read(s->path, &s->place);
    if (s->phase == KV_RUN_FINISHED) s->step = s->final_step;
    s->step = larger(s->step, kv_run_status_resumes_at(s));
    work_out_time(s);
    return status;
}

void kv_run_status_free(kv_run_status *s) {
    kv_metrics_free(&s->metrics);
    json_decref(s->plans);
    s->plans = NULL;
    free(s->checkpoints);
    for (size_t i = 0; i < s->n_texts; i++) free(s->texts[i].corpus);
    free(s->texts);
    s->checkpoints = NULL;
    s->texts = NULL;
    s->n_checkpoints = s->n_texts = 0;
}

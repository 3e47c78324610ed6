// Everything here has to hold when the process is killed at any line: a directory always says whether there
// is a run in it, whose text and configuration it is, and from where it goes on.
#include "train/run/directory.h"

#include "data/file/content.h"
#include "data/file/json.h"
#include "data/file/path.h"
#include "data/file/whole_file.h"
#include "data/system/buffers.h"
#include "train/run/optimizer_file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static const char config_name[] = "config.yaml", metrics_name[] = "metrics.jsonl", final_name[] = "final",
                  best_name[] = "best", stopped_name[] = "stopped.json";
static const char checkpoints_name[] = "checkpoints", state_name[] = "state.json",
                  optimizer_name[] = "optimizer.h5";
static const char *const run_names[] = {"final",         "best",         "checkpoints",
                                        "metrics.jsonl", "stopped.json", "config.yaml"};
enum { N_RUN_NAMES = sizeof run_names / sizeof *run_names };

// ---- Checkpoints that are there ------------------------------------------------------------------------

// The step of "step-000500", -1 for any other name (such as a temporary one).
static int64_t step_of(const char *name) {
    static const char prefix[] = "step-";
    if (strncmp(name, prefix, sizeof prefix - 1) != 0) return -1;
    const char *digits = name + sizeof prefix - 1;
    size_t n = strspn(digits, "0123456789");
    return n >= 1 && n <= 15 && !digits[n] ? strtoll(digits, NULL, 10) : -1;
}

static int compare_steps(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

kv_status kv_run_checkpoints(const char *run, int64_t **steps, size_t *n, kv_error *err) {
    char path[PATH_MAX];
    *steps = NULL;
    *n = 0;
    kv_status status = kv_path_join(run, checkpoints_name, path, err);
    if (status != KV_OK) return status;
    DIR *dir = opendir(path);
    if (!dir) return errno == ENOENT ? KV_OK : kv_fail(err, KV_ERR_IO, "%s: %s", path, strerror(errno));
    for (const struct dirent *entry; status == KV_OK && (entry = readdir(dir));) {
        int64_t step = step_of(entry->d_name);
        if (step < 0) continue;
        int64_t *more = kv_room_for_one(*steps, *n, sizeof *more);
        if (more) {
            *steps = more;
            more[(*n)++] = step;
        } else {
            status = kv_fail(err, KV_ERR_MEMORY, "out of memory");
        }
    }
    closedir(dir);
    if (*n > 1) qsort(*steps, *n, sizeof **steps, compare_steps);
    return status;
}

static kv_status checkpoint_path(const kv_run *run, int64_t step, char path[PATH_MAX], kv_error *err) {
    char name[64];
    snprintf(name, sizeof name, "%s/step-%06" PRIi64, checkpoints_name, step);
    return kv_path_join(run->path, name, path, err);
}

// ---- state.json ----------------------------------------------------------------------------------------

// What was trained on: [{corpus, tokens, hash}], a part each.
static json_t *text_parts(const kv_train_text *text) {
    json_t *parts = json_array();
    for (int64_t i = 0; i < text->n_parts; i++) {
        char hash[17];
        kv_corpus_hash(text->corpora[i], hash);
        json_array_append_new(parts,
                              json_pack("{s:s, s:I, s:s}", "corpus", kv_train_text_path(text->config, i),
                                        "tokens", (json_int_t)text->corpora[i]->n_tokens, "hash", hash));
    }
    return parts;
}

// With a best_loss, of best/.
static kv_status save_state(const kv_run *run, const char *dir, const double *best_loss, kv_error *err) {
    char path[PATH_MAX];
    kv_status status = kv_path_join(dir, state_name, path, err);
    if (status != KV_OK) return status;
    json_t *root = json_pack("{s:I, s:f, s:I, s:s, s:o}", "step", (json_int_t)run->state.step, "seconds",
                             run->state.seconds, "shard_tokens", (json_int_t)run->text->n_tokens, "tokenizer",
                             run->text->info.tokenizer, "text", text_parts(run->text));
    if (run->validation[0]) {
        json_object_set_new(root, "validation", json_string(run->validation));
        json_object_set_new(root, "validation_seconds", json_real(run->state.validation_seconds));
    }
    if (best_loss) json_object_set_new(root, "validation_loss", json_real(*best_loss));
    char *text = root ? json_dumps(root, JSON_INDENT(2)) : NULL;
    status =
        text ? kv_write_file(path, text, strlen(text), err) : kv_fail(err, KV_ERR_MEMORY, "out of memory");
    free(text);
    json_decref(root);
    return status;
}

static kv_status other_text(const kv_run *run, int64_t part, kv_error *err, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
static kv_status other_text(const kv_run *run, int64_t part, kv_error *err, const char *format, ...) {
    char key[KV_TEXT_KEY], message[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    kv_config_fail(run->source, err, kv_train_text_key(run->text->config, part, key), "%s", message);
    if (err) err->code = KV_ERR_MISMATCH;
    return KV_ERR_MISMATCH;
}

// Part by part; a run of before states held hashes has none to compare.
static kv_status check_parts(const kv_run *run, const kv_json_file *file, kv_error *err) {
    const json_t *parts = json_object_get(file->root, "text");
    for (int64_t i = 0; parts && i < run->text->n_parts; i++) {
        const json_t *part = json_array_get(parts, (size_t)i);
        const char *hash = json_string_value(json_object_get(part, "hash"));
        const int64_t n_tokens = json_integer_value(json_object_get(part, "tokens"));
        const kv_corpus *corpus = run->text->corpora[i];
        char found[17];
        kv_corpus_hash(corpus, found);
        if (!hash) return kv_json_wrong(file, "text", i, "an object with a text \"hash\"", err);
        if (n_tokens != corpus->n_tokens)
            return other_text(run, i, err,
                              "%s has %" PRIi64 " tokens, expected the %" PRIi64 " the run was started with",
                              kv_train_text_path(run->text->config, i), corpus->n_tokens, n_tokens);
        if (strcmp(hash, found) != 0)
            return other_text(run, i, err,
                              "%s holds other text (hash %s) than the run was started with (hash %.32s)",
                              kv_train_text_path(run->text->config, i), found, hash);
    }
    return KV_OK;
}

// Batches are drawn by step: other text under the same name would silently go on elsewhere.
static kv_status check_text(const kv_run *run, const kv_json_file *file, kv_error *err) {
    int64_t n_tokens = 0;
    const kv_train_text *text = run->text;
    kv_status status = kv_json_int(file, "shard_tokens", 0, INT64_MAX, &n_tokens, err);
    if (status != KV_OK) return status;
    const char *tokenizer = json_string_value(json_object_get(file->root, "tokenizer"));
    if (!tokenizer) return kv_json_wrong(file, "tokenizer", -1, "a text", err);
    if (strcmp(tokenizer, text->info.tokenizer) != 0)
        return other_text(
            run, 0, err,
            "the text was made with tokenizer %s, expected %.32s, which the run was started with",
            text->info.tokenizer, tokenizer);
    status = check_parts(run, file, err);
    if (status == KV_OK && n_tokens != text->n_tokens)
        status = other_text(
            run, 0, err, "the text has %" PRIi64 " tokens, expected the %" PRIi64 " the run was started with",
            text->n_tokens, n_tokens);
    return status;
}

// Losses on other text could not be compared with those there are. A run may have begun without any.
static kv_status check_validation(kv_run *run, const kv_json_file *file, kv_error *err) {
    const char *hash = json_string_value(json_object_get(file->root, "validation"));
    if (!hash || !run->validation[0]) return KV_OK;
    if (strcmp(hash, run->validation) != 0)
        return kv_config_fail(run->source, err, "data.validation",
                              "the first rows of text have the hash %s, expected %.32s: those the run was "
                              "validated on so far (train.validation_tokens counts, too)",
                              run->validation, hash);
    return kv_json_real(file, "validation_seconds", 0, 1e12, &run->state.validation_seconds, err);
}

// A run that kept no best starts to with its next validation.
static kv_status load_best(kv_run *run, kv_error *err) {
    char path[PATH_MAX];
    kv_json_file file = {0};
    if (!run->keep_best || !kv_path_exists_in(run->path, best_name)) return KV_OK;
    kv_status status = kv_path_join(run->path, best_name, path, err);
    if (status == KV_OK) status = kv_json_open(path, state_name, &file, err);
    if (status == KV_OK) status = kv_json_real(&file, "validation_loss", -1e300, 1e300, &run->best_loss, err);
    kv_json_close(&file);
    run->has_best = status == KV_OK;
    return status;
}

static kv_status load_state(kv_run *run, int64_t step, kv_error *err) {
    kv_json_file file = {0};
    kv_status status = kv_json_open(run->checkpoint, state_name, &file, err);
    if (status == KV_OK) status = kv_json_int(&file, "step", step, step, &run->state.step, err);
    if (status == KV_OK) status = kv_json_real(&file, "seconds", 0, 1e12, &run->state.seconds, err);
    if (status == KV_OK) status = check_text(run, &file, err);
    if (status == KV_OK) status = check_validation(run, &file, err);
    kv_json_close(&file);
    return status == KV_OK ? load_best(run, err) : status;
}

// ---- Opening -------------------------------------------------------------------------------------------

// What may change between the parts of a run: nothing that has a part in the weights. (Layers computed again
// give the same bits.)
static const char *const may_change[] = {"output",
                                         "data.validation",
                                         "train.activation_checkpointing",
                                         "train.checkpoint_every",
                                         "train.keep_best",
                                         "train.keep_last",
                                         "train.log_every",
                                         "train.memory_gb",
                                         "train.validate_every",
                                         "train.validation_tokens"};

static kv_status check_config(const kv_run *run, kv_error *err) {
    char path[PATH_MAX];
    kv_config *old;
    const kv_train_config *train;
    kv_status status = kv_path_join(run->path, config_name, path, err);
    if (status == KV_OK) status = kv_train_config_load(path, NULL, 0, &old, &train, err);
    if (status != KV_OK) return status;
    kv_config_difference difference;
    bool differs =
        kv_config_compare(run->source, old, may_change, sizeof may_change / sizeof *may_change, &difference);
    kv_config_free(old);
    if (!differs) return KV_OK;
    kv_config_fail(run->source, err, difference.key, "found %s, expected %s as in %s, which is to be resumed",
                   difference.a, difference.b, path);
    if (err) err->code = KV_ERR_MISMATCH;
    return KV_ERR_MISMATCH;
}

static kv_status open_resumed(kv_run *run, kv_error *err) {
    kv_status status = check_config(run, err);
    if (status != KV_OK) return status;
    run->finished = kv_path_exists_in(run->path, final_name);
    if (run->finished) return KV_OK;
    int64_t *steps;
    size_t n;
    status = kv_run_checkpoints(run->path, &steps, &n, err);
    if (status == KV_OK && n > 0) {
        status = checkpoint_path(run, steps[n - 1], run->checkpoint, err);
        if (status == KV_OK) status = load_state(run, steps[n - 1], err);
    }
    free(steps);
    return status;
}

kv_status kv_run_open(kv_run *run, const kv_config *source, const kv_train_config *config,
                      const kv_train_text *text, const char *validation, kv_run_mode mode, kv_error *err) {
    *run = (kv_run){.source = source,
                    .text = text,
                    .keep_last = config->train.keep_last,
                    .keep_best = config->train.keep_best,
                    .validated = -1};
    if (validation) snprintf(run->validation, sizeof run->validation, "%s", validation);
    if (snprintf(run->path, sizeof run->path, "%s", config->output) >= (int)sizeof run->path)
        return kv_config_fail(source, err, "output", "the path is too long");
    bool holds_run = false;
    for (int i = 0; i < N_RUN_NAMES; i++) holds_run = holds_run || kv_path_exists_in(run->path, run_names[i]);
    if (holds_run && mode == KV_RUN_NEW)
        return kv_config_fail(source, err, "output",
                              "%s holds a run already; --resume continues it, --force replaces it",
                              run->path);
    run->replace = holds_run && mode == KV_RUN_FORCE;
    // A run that was stopped before it wrote anything starts from the beginning.
    bool resume = mode == KV_RUN_RESUME && kv_path_exists_in(run->path, config_name);
    return resume ? open_resumed(run, err) : KV_OK;
}

// ---- Beginning -----------------------------------------------------------------------------------------

// The lock goes when the descriptor is closed, in the worst case by the end of the process. kvtrain status
// takes it for an instant, to see whether it can.
static bool try_lock(int fd) {
    const struct timespec pause = {.tv_nsec = 20000000};
    for (int i = 0; i < 10; i++) {
        if (flock(fd, LOCK_EX | LOCK_NB) == 0) return true;
        nanosleep(&pause, NULL);
    }
    return false;
}

static kv_status lock_run(kv_run *run, kv_error *err) {
    int fd = open(run->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return kv_fail(err, KV_ERR_IO, "%s: cannot open: %s", run->path, strerror(errno));
    if (!try_lock(fd)) {
        close(fd);
        return kv_config_fail(run->source, err, "output", "another kvtrain is at work in %s", run->path);
    }
    run->locked = true;
    run->lock = fd;
    return KV_OK;
}

// Temporary files and directories of a kvtrain that was killed while it wrote.
static kv_status remove_unfinished(const char *path, kv_error *err) {
    kv_status status = KV_OK;
    DIR *dir = opendir(path);
    if (!dir) return KV_OK;
    for (const struct dirent *entry; status == KV_OK && (entry = readdir(dir));) {
        const char *name = entry->d_name, *suffix = strstr(name, ".tmp.");
        bool ours = suffix && strncmp(name, "step-", 5) == 0;
        for (int i = 0; suffix && i < N_RUN_NAMES; i++)
            ours = ours || strncmp(name, run_names[i], strlen(run_names[i])) == 0;
        char unfinished[PATH_MAX];
        if (!ours) continue;
        status = kv_path_join(path, name, unfinished, err);
        if (status == KV_OK) status = kv_remove_tree(unfinished, err);
    }
    closedir(dir);
    return status;
}

static kv_status clear_unfinished(const kv_run *run, kv_error *err) {
    char path[PATH_MAX];
    kv_status status = kv_path_join(run->path, checkpoints_name, path, err);
    if (status == KV_OK) status = remove_unfinished(path, err);
    return status == KV_OK ? remove_unfinished(run->path, err) : status;
}

static kv_status remove_entry(const kv_run *run, const char *name, kv_error *err) {
    char path[PATH_MAX];
    kv_status status = kv_path_join(run->path, name, path, err);
    return status == KV_OK ? kv_remove_tree(path, err) : status;
}

static kv_status remove_old(const kv_run *run, kv_error *err) {
    kv_status status = KV_OK;
    for (int i = 0; status == KV_OK && i < N_RUN_NAMES; i++) status = remove_entry(run, run_names[i], err);
    return status;
}

// Bytes of the lines up to the resumed step. What follows was logged after its checkpoint and will be logged
// again; the last line may also be cut short.
// Validations among them are noted: the last one, and the lowest loss unless best/ knows that.
static size_t valid_metrics(const char *text, int64_t last_step, kv_run *run) {
    const char *at = text;
    run->validated = -1;
    double lowest = (double)INFINITY;
    for (;;) {
        const char *end = strchr(at, '\n');
        long long step;
        double loss;
        char head[128]; // of the line: sscanf would first look for the end of the whole text
        snprintf(head, sizeof head, "%.127s", at);
        const int n = sscanf(head, "{\"step\": %lld, \"validation\": {\"loss\": %lf", &step, &loss);
        if (!end || n < 1 || step > last_step) break;
        if (n == 2) {
            run->validated = step;
            lowest = fmin(lowest, loss);
        }
        at = end + 1;
    }
    if (!run->has_best && !run->keep_best && isfinite(lowest)) {
        run->has_best = true;
        run->best_loss = lowest;
    }
    return (size_t)(at - text);
}

static kv_status open_metrics(kv_run *run, kv_error *err) {
    char path[PATH_MAX];
    kv_status status = kv_path_join(run->path, metrics_name, path, err);
    if (status == KV_OK && kv_path_exists_in(run->path, metrics_name)) {
        char *text;
        size_t size;
        status = kv_read_file(path, (size_t)1 << 30, &text, &size, err);
        if (status != KV_OK) return status;
        // From the beginning means from the beginning: then not even a validation before the first step
        // counts.
        const int64_t last = run->checkpoint[0] ? run->state.step : -1;
        size_t valid = valid_metrics(text, last, run);
        if (valid < size) status = kv_write_file(path, text, valid, err);
        free(text);
    }
    if (status != KV_OK) return status;
    run->metrics = fopen(path, "a");
    return run->metrics ? KV_OK : kv_fail(err, KV_ERR_IO, "%s: cannot open: %s", path, strerror(errno));
}

kv_status kv_run_begin(kv_run *run, kv_error *err) {
    char path[PATH_MAX];
    kv_status status = kv_make_dirs(run->path, err);
    if (status == KV_OK) status = lock_run(run, err);
    if (status == KV_OK && run->replace) status = remove_old(run, err);
    if (status == KV_OK) status = clear_unfinished(run, err);
    if (status == KV_OK) status = remove_entry(run, stopped_name, err);
    if (status == KV_OK && !run->checkpoint[0]) status = remove_entry(run, best_name, err);
    if (status == KV_OK) status = kv_path_join(run->path, config_name, path, err);
    if (status != KV_OK) return status;
    char *text = kv_config_text(run->source);
    status =
        text ? kv_write_file(path, text, strlen(text), err) : kv_fail(err, KV_ERR_MEMORY, "out of memory");
    free(text);
    return status == KV_OK ? open_metrics(run, err) : status;
}

void kv_run_close(kv_run *run) {
    if (run->metrics) fclose(run->metrics);
    if (run->locked) close(run->lock);
    run->metrics = NULL;
    run->locked = false;
}

kv_status kv_run_log(kv_run *run, const char *json, kv_error *err) {
    if (fprintf(run->metrics, "%s\n", json) >= 0 && fflush(run->metrics) == 0) return KV_OK;
    return kv_fail(err, KV_ERR_IO, "%s/%s: cannot write: %s", run->path, metrics_name, strerror(errno));
}

// ---- Writing -------------------------------------------------------------------------------------------

static kv_status prune_checkpoints(const kv_run *run, kv_error *err) {
    int64_t *steps;
    size_t n;
    kv_status status = kv_run_checkpoints(run->path, &steps, &n, err);
    for (size_t i = 0; status == KV_OK && i + (size_t)run->keep_last < n; i++) {
        char path[PATH_MAX];
        status = checkpoint_path(run, steps[i], path, err);
        if (status == KV_OK) status = kv_remove_tree(path, err);
    }
    free(steps);
    return status;
}

kv_status kv_run_checkpoint(kv_run *run, kv_task *task, const kv_adamw *optimizer, kv_error *err) {
    char path[PATH_MAX], optimizer_path[PATH_MAX];
    kv_whole_file dir = {0};
    kv_status status = checkpoint_path(run, run->state.step, path, err);
    if (status == KV_OK) status = kv_whole_dir_begin(&dir, path, err);
    if (status != KV_OK) return status;
    status = task->ops->save(task, dir.path, false, err);
    if (status == KV_OK) status = kv_path_join(dir.path, optimizer_name, optimizer_path, err);
    if (status == KV_OK) status = kv_optimizer_save(optimizer_path, optimizer, err);
    if (status == KV_OK) status = save_state(run, dir.path, NULL, err);
    status = kv_whole_file_end(&dir, status, err);
    return status == KV_OK ? prune_checkpoints(run, err) : status;
}

// What others can use, under `name`.
static kv_status save_result(kv_run *run, kv_task *task, const char *name, const double *best_loss,
                             kv_error *err) {
    char path[PATH_MAX];
    kv_whole_file dir = {0};
    kv_status status = kv_path_join(run->path, name, path, err);
    if (status == KV_OK) status = kv_whole_dir_begin(&dir, path, err);
    if (status != KV_OK) return status;
    status = task->ops->save(task, dir.path, true, err);
    if (status == KV_OK) status = save_state(run, dir.path, best_loss, err);
    return kv_whole_file_end(&dir, status, err);
}

kv_status kv_run_keep_best(kv_run *run, kv_task *task, kv_error *err) {
    return save_result(run, task, best_name, &run->best_loss, err);
}

kv_status kv_run_finish(kv_run *run, kv_task *task, kv_error *err) {
    return save_result(run, task, final_name, NULL, err);
}

void kv_run_stopped(const kv_run *run, kv_status status, const char *message) {
    char path[PATH_MAX];
    if (kv_path_join(run->path, stopped_name, path, NULL) != KV_OK) return;
    json_t *root = json_pack("{s:b, s:I, s:s}", "interrupted", status == KV_ERR_INTERRUPTED, "step",
                             (json_int_t)run->state.step, "message", message);
    char *text = root ? json_dumps(root, JSON_INDENT(2)) : NULL;
    if (text) kv_write_file(path, text, strlen(text), NULL);
    free(text);
    json_decref(root);
}

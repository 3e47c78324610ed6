// Everything here has to hold when the process is killed at any line: a directory always says whether there
// is a run in it, whose text and configuration it is, and from where it goes on.
#include "train/run/directory.h"

#include "data/file/content.h"
#include "data/file/json.h"
#include "data/file/made_by.h"
#include "data/file/path.h"
#include "data/file/whole_file.h"
#include "data/ranks/ranks.h"
#include "data/system/buffers.h"
#include "train/run/optimizer_file.h"
#include "train/run/starts.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static const char metrics_name[] = "metrics.jsonl", stopped_name[] = "stopped.json",
                  checkpoints_name[] = "checkpoints";
static const char *const run_names[] = {"final",        "best",        "checkpoints", "metrics.jsonl",
                                        "stopped.json", "starts.json", "config.yaml", "machines.jsonl"};
enum { N_RUN_NAMES = sizeof run_names / sizeof *run_names };

const char kv_run_config_name[] = "config.yaml", kv_run_final_name[] = "final", kv_run_best_name[] = "best";
const char kv_run_state_name[] = "state.json", kv_run_optimizer_name[] = "optimizer.h5";

bool kv_run_is_there(const char *path) {
    bool is_there = false;
    for (int i = 0; i < N_RUN_NAMES; i++) is_there = is_there || kv_path_exists_in(path, run_names[i]);
    return is_there;
}

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

kv_status kv_run_checkpoint_path(const char *run, int64_t step, char path[PATH_MAX], kv_error *err) {
    char name[64];
    snprintf(name, sizeof name, "%s/step-%06" PRIi64, checkpoints_name, step);
    return kv_path_join(run, name, path, err);
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

// What the run was planned for before it was made longer: [{steps, until}].
static json_t *former_plans(const kv_run *run) {
    json_t *plans = json_array();
    for (size_t i = 0; i < run->n_plans; i++)
        json_array_append_new(plans, json_pack("{s:I, s:I}", "steps", (json_int_t)run->plans[i].steps,
                                               "until", (json_int_t)run->plans[i].until));
    return plans;
}

// With a best_loss, of best/.
static kv_status save_state(const kv_run *run, const char *dir, const double *best_loss, kv_error *err) {
    char path[PATH_MAX];
    kv_status status = kv_path_join(dir, kv_run_state_name, path, err);
    if (status != KV_OK) return status;
    json_t *root = json_pack("{s:I, s:I, s:f, s:I, s:s, s:o}", "step", (json_int_t)run->state.step, "steps",
                             (json_int_t)run->steps, "seconds", run->state.seconds, "shard_tokens",
                             (json_int_t)run->text->n_tokens, "tokenizer", run->text->info.tokenizer, "text",
                             text_parts(run->text));
    if (run->n_plans > 0) json_object_set_new(root, "plans", former_plans(run));
    if (run->validation[0]) {
        json_object_set_new(root, "validation", json_string(run->validation));
        json_object_set_new(root, "validation_seconds", json_real(run->state.validation_seconds));
    }
    if (best_loss) json_object_set_new(root, "validation_loss", json_real(*best_loss));
    return kv_json_write(path, root, JSON_INDENT(2), err);
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

// Notes the start before what would tell of lost time goes.
static kv_status open_metrics(kv_run *run, kv_error *err) {
    char path[PATH_MAX];
    double lost = kv_run_seconds_lost(run->path, "", 0, run->state.seconds);
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
        lost = kv_run_seconds_lost(run->path, text + valid, size - valid, run->state.seconds);
        if (valid < size) status = kv_write_file(path, text, valid, err);
        free(text);
    }
    if (status == KV_OK) status = kv_run_starts_add(run->path, run->state.step, lost, err);
    if (status == KV_OK) status = remove_entry(run, stopped_name, err);
    if (status != KV_OK) return status;
    run->metrics = fopen(path, "a");
    return run->metrics ? KV_OK : kv_fail(err, KV_ERR_IO, "%s: cannot open: %s", path, strerror(errno));
}

// A run may go on elsewhere: a line for each start.
static kv_status note_machine(const kv_run *run, int64_t n_threads, kv_error *err) {
    char path[PATH_MAX], *former = NULL, *all = NULL;
    size_t size = 0, length = 0;
    kv_status status = kv_path_join(run->path, kv_run_machines_name, path, err);
    if (status != KV_OK) return status;
    if (run->checkpoint[0] && kv_path_exists(path)) kv_read_file(path, (size_t)1 << 24, &former, &size, NULL);
    json_t *start =
        json_pack("{s:I,s:i,s:i,s:I,s:o}", "step", (json_int_t)run->state.step, "ranks", kv_n_ranks(),
                  "nodes", kv_n_nodes(), "threads", (json_int_t)n_threads, "made_by", kv_made_by(false));
    char *line = start ? json_dumps(start, JSON_COMPACT) : NULL;
    FILE *text = open_memstream(&all, &length);
    if (text && former) fwrite(former, 1, size, text);
    if (text && line) fprintf(text, "%s\n", line);
    const bool made = text && fclose(text) == 0 && line;
    status =
        made ? kv_write_file(path, all, length, err) : kv_fail(err, KV_ERR_MEMORY, "%s: out of memory", path);
    json_decref(start);
    free(line);
    free(former);
    free(all);
    return status;
}

static kv_status begin(kv_run *run, int64_t n_threads, kv_error *err) {
    char path[PATH_MAX];
    kv_status status = kv_make_dirs(run->path, err);
    if (status == KV_OK) status = lock_run(run, err);
    if (status == KV_OK && run->replace) status = remove_old(run, err);
    if (status == KV_OK) status = clear_unfinished(run, err);
    if (status == KV_OK && !run->checkpoint[0]) status = remove_entry(run, kv_run_best_name, err);
    if (status == KV_OK) status = kv_path_join(run->path, kv_run_config_name, path, err);
    if (status != KV_OK) return status;
    char *text = kv_config_text(run->source);
    status =
        text ? kv_write_file(path, text, strlen(text), err) : kv_fail(err, KV_ERR_MEMORY, "out of memory");
    free(text);
    if (status == KV_OK) status = note_machine(run, n_threads, err);
    return status == KV_OK ? open_metrics(run, err) : status;
}

// Rank 0 alone writes; what the metrics say of former validations all know.
kv_status kv_run_begin(kv_run *run, kv_error *err) {
    struct {
        bool has_best;
        double best_loss;
        int64_t validated;
    } known;
    double n_threads = omp_get_max_threads();
    kv_ranks_sum(&n_threads, 1);
    kv_status status = kv_ranks_agree(kv_rank_leads() ? begin(run, (int64_t)n_threads, err) : KV_OK, err);
    if (status != KV_OK || kv_n_ranks() == 1) return status;
    memset(&known, 0, sizeof known);
    known.has_best = run->has_best, known.best_loss = run->best_loss, known.validated = run->validated;
    kv_ranks_broadcast(&known, sizeof known, 0);
    run->has_best = known.has_best, run->best_loss = known.best_loss, run->validated = known.validated;
    return KV_OK;
}

void kv_run_close(kv_run *run) {
    if (run->metrics) fclose(run->metrics);
    if (run->locked) close(run->lock);
    free(run->plans);
    run->plans = NULL;
    run->n_plans = 0;
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
        status = kv_run_checkpoint_path(run->path, steps[i], path, err);
        if (status == KV_OK) status = kv_remove_tree(path, err);
    }
    free(steps);
    return status;
}

// Collective; the directory is rank 0's.
static kv_status save_optimizer(const char *dir, const kv_adamw *optimizer, kv_error *err) {
    char path[PATH_MAX];
    kv_status status = kv_ranks_agree(kv_path_join(dir, kv_run_optimizer_name, path, err), err);
    return status == KV_OK ? kv_optimizer_save(path, optimizer, err) : status;
}

// What to write of a step, and where.
struct result {
    const char *name;          // of the directory, NULL: a checkpoint of this step
    bool final;                // others can use it
    const double *best_loss;   // NULL: none
    const kv_adamw *optimizer; // NULL: nothing is gone on with from there
};

static kv_status begin_result(const kv_run *run, const struct result *r, kv_whole_file *dir, kv_error *err) {
    char path[PATH_MAX];
    kv_status status = r->name ? kv_path_join(run->path, r->name, path, err)
                               : kv_run_checkpoint_path(run->path, run->state.step, path, err);
    return status == KV_OK ? kv_whole_dir_begin(dir, path, err) : status;
}

// All ranks hold the weights, and rank 0 writes them; moments may be each rank's own, and are gathered by rank 0.
static kv_status save_result(kv_run *run, kv_task *task, const struct result *r, kv_error *err) {
    kv_whole_file dir = {0};
    const bool leads = kv_rank_leads();
    kv_status status = leads ? begin_result(run, r, &dir, err) : KV_OK;
    if (status == KV_OK && leads) status = kv_task_save(task, run->state.step, dir.path, r->final, err);
    status = kv_ranks_agree(status, err);
    if (status == KV_OK && r->optimizer) status = save_optimizer(dir.path, r->optimizer, err);
    if (status == KV_OK && leads) status = save_state(run, dir.path, r->best_loss, err);
    return kv_ranks_agree(leads ? kv_whole_file_end(&dir, status, err) : status, err);
}

kv_status kv_run_checkpoint(kv_run *run, kv_task *task, const kv_adamw *optimizer, kv_error *err) {
    const struct result r = {.optimizer = optimizer};
    kv_status status = save_result(run, task, &r, err);
    if (status != KV_OK) return status;
    return kv_ranks_agree(kv_rank_leads() ? prune_checkpoints(run, err) : KV_OK, err);
}

kv_status kv_run_keep_best(kv_run *run, kv_task *task, kv_error *err) {
    const struct result r = {kv_run_best_name, true, &run->best_loss, NULL};
    return save_result(run, task, &r, err);
}

kv_status kv_run_finish(kv_run *run, kv_task *task, const kv_adamw *optimizer, kv_error *err) {
    const struct result r = {kv_run_final_name, true, NULL, optimizer->step > 0 ? optimizer : NULL};
    return save_result(run, task, &r, err);
}

void kv_run_stopped(const kv_run *run, kv_status status, const char *message) {
    char path[PATH_MAX];
    if (kv_path_join(run->path, stopped_name, path, NULL) != KV_OK) return;
    json_t *root = json_pack("{s:b, s:I, s:f, s:f, s:s}", "interrupted", status == KV_ERR_INTERRUPTED, "step",
                             (json_int_t)run->state.step, "seconds", run->state.seconds, "validation_seconds",
                             run->state.validation_seconds, "message", message);
    kv_json_write(path, root, JSON_INDENT(2), NULL);
}

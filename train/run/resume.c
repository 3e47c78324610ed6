// A run goes on only as what it was: other text, models or rates under the same name would silently make a model that
// no configuration describes.
#include "train/run/resume.h"

#include "data/config/config.h"
#include "data/file/json.h"
#include "data/file/path.h"
#include "data/system/buffers.h"
#include "data/system/warning.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

// What the run's own config.yaml says.
struct former {
    int64_t steps;
    bool text_moved;
};

// ---- state.json ----------------------------------------------------------------------------------------

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
static kv_status check_parts(const kv_run *run, const kv_json_file *file, bool moved, kv_error *err) {
    const json_t *parts = json_object_get(file->root, "text");
    if (!parts && moved)
        return other_text(
            run, 0, err,
            "found another path than the run was started with, whose checkpoint holds no hash of its "
            "text, expected the same path");
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
static kv_status check_text(const kv_run *run, const kv_json_file *file, bool moved, kv_error *err) {
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
    status = check_parts(run, file, moved, err);
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
    if (!run->keep_best || !kv_path_exists_in(run->path, kv_run_best_name)) return KV_OK;
    kv_status status = kv_path_join(run->path, kv_run_best_name, path, err);
    if (status == KV_OK) status = kv_json_open(path, kv_run_state_name, &file, err);
    if (status == KV_OK) status = kv_json_real(&file, "validation_loss", -1e300, 1e300, &run->best_loss, err);
    kv_json_close(&file);
    run->has_best = status == KV_OK;
    return status;
}

static kv_status add_plan(kv_run *run, int64_t steps, int64_t until, kv_error *err) {
    kv_run_plan *plans = kv_room_for_one(run->plans, run->n_plans, sizeof *plans);
    if (!plans) return kv_fail(err, KV_ERR_MEMORY, "out of memory");
    run->plans = plans;
    plans[run->n_plans++] = (kv_run_plan){.steps = steps, .until = until};
    return KV_OK;
}

// A state of before states held their plan was made by that of config.yaml.
static kv_status load_plans(kv_run *run, const kv_json_file *file, const struct former *former,
                            kv_error *err) {
    const json_t *plans = json_object_get(file->root, "plans");
    int64_t steps = former->steps;
    kv_status status = KV_OK;
    if (json_object_get(file->root, "steps")) status = kv_json_int(file, "steps", 0, INT64_MAX, &steps, err);
    for (size_t i = 0; status == KV_OK && i < json_array_size(plans); i++) {
        const json_t *plan = json_array_get(plans, i);
        status = add_plan(run, json_integer_value(json_object_get(plan, "steps")),
                          json_integer_value(json_object_get(plan, "until")), err);
    }
    if (status != KV_OK || steps == run->steps || run->state.step == 0) return status;
    return add_plan(run, steps, run->state.step, err);
}

static kv_status load_state(kv_run *run, int64_t step, const struct former *former, kv_error *err) {
    kv_json_file file = {0};
    kv_status status = kv_json_open(run->checkpoint, kv_run_state_name, &file, err);
    if (status == KV_OK) status = kv_json_int(&file, "step", step, step, &run->state.step, err);
    if (status == KV_OK) status = kv_json_real(&file, "seconds", 0, 1e12, &run->state.seconds, err);
    if (status == KV_OK) status = check_text(run, &file, former->text_moved, err);
    if (status == KV_OK) status = load_plans(run, &file, former, err);
    if (status == KV_OK) status = check_validation(run, &file, err);
    kv_json_close(&file);
    return status == KV_OK ? load_best(run, err) : status;
}

// ---- The configuration ---------------------------------------------------------------------------------

// What may change between the parts of a run: nothing that has a part in the weights. (Layers computed again
// give the same bits.)
static const char *const may_change[] = {"output",
                                         "data.validation",
                                         "data.micro_batch_size",
                                         "train.activation_checkpointing",
                                         "train.checkpoint_every",
                                         "train.keep_best",
                                         "train.keep_last",
                                         "train.log_every",
                                         "train.memory_gb",
                                         "train.shard_optimizer",
                                         "train.steps",
                                         "train.validate_every",
                                         "train.validation_tokens"};
enum { N_MAY_CHANGE = sizeof may_change / sizeof *may_change };

// Keys of files that are known to be the same by other means than their name, or are not read again: text has its
// hash, the base its fingerprint, and trained weights are the checkpoint's.
struct places {
    const char *keys[N_MAY_CHANGE + 3]; // may_change, then models; behind them the text
    size_t n;
    char (*text)[KV_TEXT_KEY];
    const char **all; // [n + n_text]
    size_t n_text;
};

static bool list_places(const kv_run *run, const kv_train_config *config, struct places *p) {
    *p = (struct places){.n_text = (size_t)run->text->n_parts};
    for (; p->n < N_MAY_CHANGE; p->n++) p->keys[p->n] = may_change[p->n];
    if (config->task == KV_TASK_LM) p->keys[p->n++] = "model.path";
    if (config->base) p->keys[p->n++] = "base";
    if (config->task == KV_TASK_KVP && !config->freeze_aux) p->keys[p->n++] = "aux";
    p->text = calloc(p->n_text, sizeof *p->text);
    p->all = calloc(p->n + p->n_text, sizeof *p->all);
    if (!p->text || !p->all) return false;
    memcpy(p->all, p->keys, p->n * sizeof *p->all);
    for (size_t i = 0; i < p->n_text; i++)
        p->all[p->n + i] = kv_train_text_key(config, (int64_t)i, p->text[i]);
    return true;
}

// Notes which of the places differ.
static void compare_places(kv_run *run, const kv_config *old, const struct places *p, struct former *former) {
    for (size_t i = N_MAY_CHANGE; i < p->n + p->n_text; i++) {
        char *a = kv_config_value(run->source, p->all[i]), *b = kv_config_value(old, p->all[i]);
        if (a && b && strcmp(a, b) != 0) {
            const size_t used = strlen(run->moved);
            snprintf(run->moved + used, sizeof run->moved - used, "%s%s", used ? ", " : "", p->all[i]);
            former->text_moved = former->text_moved || i >= p->n;
        }
        free(a);
        free(b);
    }
}

static kv_status differs(const kv_run *run, const kv_train_config *config, const kv_config_difference *d,
                         const char *path, kv_error *err) {
    static const char way_out[] =
        " (model.from: checkpoint trains on with other settings, in another output)";
    kv_config_fail(run->source, err, d->key, "found %s, expected %s as in %s, which is to be resumed%s", d->a,
                   d->b, path, config->task == KV_TASK_LM ? way_out : "");
    if (err) err->code = KV_ERR_MISMATCH;
    return KV_ERR_MISMATCH;
}

static kv_status compare_configs(kv_run *run, const kv_train_config *config, const kv_config *old,
                                 const char *path, struct former *former, kv_error *err) {
    struct places places;
    kv_config_difference difference;
    kv_status status = KV_OK;
    if (!list_places(run, config, &places))
        status = kv_fail(err, KV_ERR_MEMORY, "out of memory");
    else if (kv_config_compare(run->source, old, places.all, places.n + places.n_text, &difference))
        status = differs(run, config, &difference, path, err);
    else
        compare_places(run, old, &places, former);
    free(places.text);
    free(places.all);
    return status;
}

static kv_status check_config(kv_run *run, const kv_train_config *config, struct former *former,
                              kv_error *err) {
    char path[PATH_MAX];
    kv_config *old;
    const kv_train_config *train;
    kv_status status = kv_path_join(run->path, kv_run_config_name, path, err);
    if (status == KV_OK) status = kv_train_config_load(path, NULL, 0, &old, &train, err);
    if (status != KV_OK) return status;
    *former = (struct former){.steps = train->train.steps};
    run->former_micro_batch = train->data.micro_batch_size;
    run->micro_batch = config->data.micro_batch_size;
    status = compare_configs(run, config, old, path, former, err);
    kv_config_free(old);
    return status;
}

// ---- From where ----------------------------------------------------------------------------------------

// The step of final/, -1 without one.
static kv_status read_final_step(const kv_run *run, int64_t *step, kv_error *err) {
    char path[PATH_MAX];
    kv_json_file file = {0};
    *step = -1;
    if (!kv_path_exists_in(run->path, kv_run_final_name)) return KV_OK;
    kv_status status = kv_path_join(run->path, kv_run_final_name, path, err);
    if (status == KV_OK) status = kv_json_open(path, kv_run_state_name, &file, err);
    if (status == KV_OK) status = kv_json_int(&file, "step", 0, INT64_MAX, step, err);
    kv_json_close(&file);
    return status;
}

static kv_status read_newest_step(const kv_run *run, int64_t *step, kv_error *err) {
    int64_t *steps;
    size_t n;
    kv_status status = kv_run_checkpoints(run->path, &steps, &n, err);
    *step = n > 0 ? steps[n - 1] : -1;
    free(steps);
    return status;
}

static kv_status too_few(const kv_run *run, int64_t done, kv_error *err) {
    kv_config_fail(run->source, err, "train.steps",
                   "found %" PRIi64 ", but %" PRIi64
                   " are done in %s, which is to be resumed, expected as many or "
                   "more (another output or --force trains anew)",
                   run->steps, done, run->path);
    if (err) err->code = KV_ERR_MISMATCH;
    return KV_ERR_MISMATCH;
}

// A finished run that kept nothing but its result.
static kv_status no_state(const kv_run *run, int64_t done, kv_error *err) {
    kv_config_fail(run->source, err, "train.steps",
                   "found %" PRIi64 ", but %s is finished after %" PRIi64
                   " and kept no optimiser state to go on "
                   "with, expected as many (of a sweep's runs keep: checkpoints keeps it)",
                   run->steps, run->path, done);
    if (err) err->code = KV_ERR_MISMATCH;
    return KV_ERR_MISMATCH;
}

// Whether final/ can be gone on from: its optimiser is there, or has done nothing yet.
static bool has_state(const kv_run *run, int64_t step) {
    char path[PATH_MAX];
    return step == 0 || (kv_path_join(run->path, kv_run_final_name, path, NULL) == KV_OK &&
                         kv_path_exists_in(path, kv_run_optimizer_name));
}

static kv_status resume(kv_run *run, const kv_train_config *config, kv_error *err) {
    struct former former = {0};
    int64_t final, newest = -1;
    kv_status status = check_config(run, config, &former, err);
    if (status == KV_OK) status = read_final_step(run, &final, err);
    if (status == KV_OK) status = read_newest_step(run, &newest, err);
    if (status != KV_OK) return status;
    const int64_t done = final > newest ? final : newest;
    if (run->steps < done) return too_few(run, done, err);
    run->finished = final == run->steps;
    if (run->finished || done < 0) return KV_OK;
    const bool from_final = final >= newest && has_state(run, final);
    if (!from_final && newest < 0) return no_state(run, done, err);
    status = from_final ? kv_path_join(run->path, kv_run_final_name, run->checkpoint, err)
                        : kv_run_checkpoint_path(run->path, newest, run->checkpoint, err);
    return status == KV_OK ? load_state(run, from_final ? final : newest, &former, err) : status;
}

// ---- Opening -------------------------------------------------------------------------------------------

kv_status kv_run_open(kv_run *run, const kv_config *source, const kv_train_config *config,
                      const kv_train_text *text, const char *validation, kv_run_mode mode, kv_error *err) {
    *run = (kv_run){.source = source,
                    .text = text,
                    .steps = config->train.steps,
                    .keep_last = config->train.keep_last,
                    .keep_best = config->train.keep_best,
                    .validated = -1};
    if (validation) snprintf(run->validation, sizeof run->validation, "%s", validation);
    if (snprintf(run->path, sizeof run->path, "%s", config->output) >= (int)sizeof run->path)
        return kv_config_fail(source, err, "output", "the path is too long");
    const bool holds_run = kv_run_is_there(run->path);
    if (holds_run && mode == KV_RUN_NEW)
        return kv_config_fail(source, err, "output",
                              "%s holds a run already; --resume continues it, --force replaces it",
                              run->path);
    run->replace = holds_run && mode == KV_RUN_FORCE;
    // A run that was stopped before it wrote anything starts from the beginning.
    const bool goes_on = mode == KV_RUN_RESUME && kv_path_exists_in(run->path, kv_run_config_name);
    return goes_on ? resume(run, config, err) : KV_OK;
}

// ---- Saying so -----------------------------------------------------------------------------------------

void kv_run_announce(const kv_run *run) {
    if (!run->checkpoint[0]) return;
    fprintf(stderr, "kvtrain: resuming from %s\n", run->checkpoint);
    const kv_run_plan *last = run->n_plans > 0 ? &run->plans[run->n_plans - 1] : NULL;
    if (last && last->until == run->state.step)
        kv_warn(
            "train.steps is %" PRIi64 " in a run that was planned for %" PRIi64 " until step %" PRIi64
            ": its optimiser state goes on, the learning rate follows the new schedule from here, and the weights "
            "will not be, bit by bit, those of a run planned so from the start",
            run->steps, last->steps, last->until);
    if (run->micro_batch != run->former_micro_batch)
        kv_warn(
            "data.micro_batch_size is %" PRIi64 " and was %" PRIi64
            ": sums are made in another order, so the last digits of the weights will differ from those of a run "
            "that keeps it",
            run->micro_batch, run->former_micro_batch);
    if (run->moved[0])
        kv_warn(
            "other paths than before in %s: text and base are compared by what they hold, and trained weights are "
            "the checkpoint's",
            run->moved);
}

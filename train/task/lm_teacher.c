// The base as a teacher: opened, loaded, asked, and known again when a run is resumed.
#include "train/task/lm_teacher.h"

#include "data/file/content.h"
#include "data/file/json.h"
#include "data/file/path.h"
#include "train/task/frozen.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const char file_name[] = "teacher.json";

// ---- Plan ----------------------------------------------------------------------------------------------

// Both have a logit for every id, or their distributions are not over the same outcomes.
static kv_status check_vocabulary(const lm_teacher *t, const kv_model_spec *model, kv_error *err) {
    const kv_train_config *config = t->task->config;
    if (t->spec.vocab_size == model->vocab_size) return KV_OK;
    return kv_config_fail(t->task->source, err, "base",
                          "%s has a vocabulary of %" PRIi64 " tokens, expected %" PRIi64
                          " as %s has, which loss.kl compares its logits with",
                          config->base, t->spec.vocab_size, model->vocab_size,
                          config->model.path ? config->model.path : "the new model");
}

static kv_status open_cache(lm_teacher *t, kv_error *err) {
    const kv_train_config *config = t->task->config;
    const kv_train_text *text = t->task->text;
    const kv_kvp_weights weights = {.kl = (float)config->loss.kl};
    const kv_cached_args args = {.source = t->task->source,
                                 .config = config,
                                 .parts = text->parts,
                                 .n_parts = text->n_parts,
                                 .base = &t->spec,
                                 .weights = &weights};
    return kv_cached_teacher_open(&args, &t->cached, err);
}

kv_status lm_teacher_plan(lm_teacher *t, const kv_task *task, const kv_model_spec *base,
                          const kv_model_spec *model, kv_error *err) {
    const kv_train_config *config = task->config;
    *t = (lm_teacher){.task = task};
    if (config->loss.kl == 0) return KV_OK;
    t->spec = *base;
    t->kept = config->teacher == KV_TEACHER_ONLINE || config->data.validation;
    kv_status status = check_vocabulary(t, model, err);
    if (status == KV_OK) status = kv_task_measure(task, "base", config->base, &t->spec, &t->size, err);
    if (status == KV_OK && config->teacher == KV_TEACHER_CACHED) status = open_cache(t, err);
    return status;
}

void lm_teacher_free(lm_teacher *t) {
    kv_cached_teacher_free(t->cached);
    kv_model_free(t->model);
}

// ---- Weights -------------------------------------------------------------------------------------------

static kv_status check_same(const lm_teacher *t, const char *from, kv_error *err) {
    kv_json_file file = {0};
    kv_status status = kv_json_open(from, file_name, &file, err);
    const char *was = json_string_value(json_object_get(file.root, "fingerprint"));
    if (status == KV_OK && !was)
        status = kv_json_wrong(&file, "fingerprint", -1, "a text", err);
    else if (status == KV_OK && strcmp(was, t->fingerprint) != 0)
        status = kv_fail(err, KV_ERR_MISMATCH,
                         "%s: taught by a base of fingerprint %.32s, found %s in %s: a run goes on with the "
                         "teacher it began with",
                         from, was, t->fingerprint, t->task->config->base);
    kv_json_close(&file);
    return status;
}

kv_status lm_teacher_load(lm_teacher *t, const char *from, kv_error *err) {
    if (!lm_teacher_is_there(t)) return KV_OK;
    const kv_frozen base = {.dir = t->task->config->base,
                            .spec = &t->spec,
                            .dtype = t->task->config->frozen_dtype,
                            .kept = t->kept};
    kv_status status = kv_hold_frozen(&base, &t->model, t->fingerprint, err);
    if (status == KV_OK && t->cached) status = kv_cached_check(t->cached, t->fingerprint, NULL, err);
    return status == KV_OK && from ? check_same(t, from, err) : status;
}

kv_status lm_teacher_save(const lm_teacher *t, const char *dir, kv_error *err) {
    char path[PATH_MAX], text[64];
    if (!lm_teacher_is_there(t)) return KV_OK;
    const int n = snprintf(text, sizeof text, "{\"fingerprint\": \"%s\"}\n", t->fingerprint);
    const kv_status status = kv_path_join(dir, file_name, path, err);
    return status == KV_OK ? kv_write_file(path, text, (size_t)n, err) : status;
}

// ---- Telling about it ----------------------------------------------------------------------------------

void lm_teacher_describe(const lm_teacher *t, FILE *out) {
    const kv_train_config *config = t->task->config;
    if (!lm_teacher_is_there(t)) return;
    fprintf(out, "teacher      %s: ", config->base);
    kv_task_describe_model(&t->spec, out);
    if (t->cached)
        fprintf(out, "cache        %s: %" PRIi64 " logits a token; in memory: %s\n", config->cache,
                kv_cached_info(t->cached)->top_k, t->kept ? "the teacher" : "no teacher");
    fprintf(out, "loss         %g · cross-entropy + %g · kl", config->loss.base, config->loss.kl);
    if (config->loss.kl_temperature != 1) fprintf(out, " (temperature %g)", config->loss.kl_temperature);
    fputc('\n', out);
}

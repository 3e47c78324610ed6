// What a dry run, a training and a sweep have in common: they all begin by opening the same things in this
// order.
#include "train/run/training.h"

#include "train/run/resume.h"

// Freed in reverse.
void kv_training_close(kv_training *s) {
    kv_run_close(&s->run);
    kv_task_free(s->task);
    kv_validation_free(s->validation);
    kv_train_text_close(&s->text);
    kv_config_free(s->source);
    *s = (kv_training){0};
}

kv_status kv_training_open(kv_training *s, const char *path, const char *const *overrides, size_t n_overrides,
                           kv_error *err) {
    *s = (kv_training){0};
    kv_status status = kv_train_config_load(path, overrides, n_overrides, &s->source, &s->config, err);
    if (status != KV_OK) return status;
    status = kv_train_text_open(s->source, s->config, &s->text, err);
    kv_train_specs specs;
    const bool begins = !kv_run_is_there(s->config->output);
    if (status == KV_OK) status = kv_train_check_models(s->source, s->config, &s->text, begins, &specs, err);
    if (status == KV_OK) status = kv_validation_open(s->source, s->config, &s->text, &s->validation, err);
    if (status != KV_OK) return status;
    status = (s->config->task == KV_TASK_LM ? kv_lm_task_create : kv_kvp_task_create)(
        s->source, s->config, &s->text, &specs, &s->task, err);
    if (status == KV_OK) s->task->validation = s->validation;
    return status;
}

kv_status kv_training_run(kv_training *s, kv_run_mode mode, kv_error *err) {
    const char *held_out = s->validation ? s->validation->hash : NULL;
    return kv_run_open(&s->run, s->source, s->config, &s->text, held_out, mode, err);
}

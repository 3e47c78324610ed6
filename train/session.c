#include "train/session.h"

// Freed in reverse.
void kv_train_session_close(kv_train_session *s) {
    kv_run_close(&s->run);
    kv_task_free(s->task);
    kv_validation_free(s->validation);
    kv_shard_free(s->shard);
    kv_config_free(s->source);
    *s = (kv_train_session){0};
}

kv_status kv_train_session_open(kv_train_session *s, const char *path, const char *const *overrides,
                                size_t n_overrides, kv_error *err) {
    kv_status status = kv_train_config_load(path, overrides, n_overrides, &s->source, &s->config, err);
    if (status != KV_OK) return status;
    // What will not work is said before the tokens are read.
    kv_error inner = {0};
    kv_shard_info info;
    status = kv_shard_read_info(s->config->data.train, &info, &inner);
    if (status == KV_OK) {
        status = kv_train_check_models(s->source, s->config, &info, err);
        if (status != KV_OK) return status;
        status = kv_validation_open(s->source, s->config, &info, &s->validation, err);
        if (status != KV_OK) return status;
        status = kv_shard_open(s->config->data.train, &s->shard, &inner);
    }
    if (status != KV_OK) {
        kv_config_fail(s->source, err, "data.train", "%s", inner.message);
        return status;
    }
    status = (s->config->task == KV_TASK_LM ? kv_lm_task_create : kv_kvp_task_create)(
        s->source, s->config, s->shard, &s->task, err);
    if (status == KV_OK) s->task->validation = s->validation;
    return status;
}

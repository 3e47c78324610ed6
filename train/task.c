#include "train/task.h"

#include "data/checkpoint.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

void kv_task_free(kv_task *task) {
    if (!task) return;
    free(task->params);
    task->params = NULL;
    task->ops->free(task);
}

kv_status kv_task_spec(const kv_task *task, const char *key, const char *dir, kv_model_spec *spec,
                       kv_error *err) {
    kv_error inner = {0};
    kv_status status = kv_checkpoint_spec(dir, spec, &inner);
    if (status == KV_OK) return KV_OK;
    kv_config_fail(task->source, err, key, "%s", inner.message);
    if (err) err->code = status;
    return status;
}

kv_status kv_task_measure(const kv_task *task, const char *key, const char *dir, const kv_model_spec *spec,
                          kv_checkpoint_size *size, kv_error *err) {
    kv_error inner = {0};
    kv_status status = kv_checkpoint_measure(dir, kv_spec_size(spec, true), size, &inner);
    if (status == KV_OK) return KV_OK;
    kv_config_fail(task->source, err, key, "%s", inner.message);
    if (err) err->code = status;
    return status;
}

bool kv_task_same_shape(const kv_model_spec *a, const kv_model_spec *b) {
    return a->n_layers == b->n_layers && a->model_dim == b->model_dim && a->head_dim == b->head_dim &&
           a->vocab_size == b->vocab_size && a->qk_norm == b->qk_norm &&
           memcmp(a->layers, b->layers, (size_t)a->n_layers * sizeof *a->layers) == 0;
}

kv_status kv_task_path(char path[PATH_MAX], const char *dir, const char *name, kv_error *err) {
    if (snprintf(path, PATH_MAX, "%s/%s", dir, name) < PATH_MAX) return KV_OK;
    return kv_fail(err, KV_ERR_ARGUMENT, "%.200s/...: the path is too long", dir);
}

char *kv_count_text(double count, char text[32]) {
    static const struct {
        double unit;
        const char *suffix;
    } units[] = {{1e12, " T"}, {1e9, " G"}, {1e6, " M"}, {1e3, " k"}, {1, ""}};
    size_t i = 0;
    while (i + 1 < sizeof units / sizeof *units && count < units[i].unit) i++;
    snprintf(text, 32, "%.3g%s", count / units[i].unit, units[i].suffix);
    return text;
}

void kv_task_describe_model(const kv_model_spec *spec, FILE *out) {
    char all[32], without[32];
    kv_count_text((double)kv_spec_size(spec, true), all);
    kv_count_text((double)kv_spec_size(spec, false), without);
    fprintf(out,
            "%" PRIi64 " layers, dim %" PRIi64 ", head dim %" PRIi64 ", vocabulary %" PRIi64
            ", context %" PRIi64 "; %s parameters (%s without embedding)\n",
            spec->n_layers, spec->model_dim, spec->head_dim, spec->vocab_size, spec->context_length, all,
            without);
}

static kv_status check_special(const kv_task *task, const char *key, const char *dir, const char *name,
                               int32_t model_id, int32_t shard_id, kv_error *err) {
    if (model_id < 0 || shard_id < 0 || model_id == shard_id) return KV_OK;
    kv_config_fail(task->source, err, key, "%s has %s %" PRIi32 ", expected %" PRIi32 " as in the shard %s",
                   dir, name, model_id, shard_id, task->config->data.train);
    if (err) err->code = KV_ERR_MISMATCH;
    return KV_ERR_MISMATCH;
}

kv_status kv_task_check_model(const kv_task *task, const char *key, const char *dir,
                              const kv_model_spec *spec, kv_error *err) {
    const kv_shard_info *info = &task->shard->info;
    const char *shard = task->config->data.train;
    int64_t seq_len = task->config->data.seq_len;
    if (spec->vocab_size != info->vocab_size)
        kv_config_fail(task->source, err, key,
                       "%s has a vocabulary of %" PRIi64 ", expected %" PRIi64 " as in the shard %s", dir,
                       spec->vocab_size, info->vocab_size, shard);
    else if (seq_len > spec->context_length)
        kv_config_fail(task->source, err, "data.seq_len",
                       "found %" PRIi64 ", expected at most %" PRIi64 ", the context length of %s", seq_len,
                       spec->context_length, dir);
    else if (check_special(task, key, dir, "bos_id", spec->bos_id, info->bos_id, err) == KV_OK)
        return check_special(task, key, dir, "eos_id", spec->eos_id, info->eos_id, err);
    if (err) err->code = KV_ERR_MISMATCH;
    return KV_ERR_MISMATCH;
}

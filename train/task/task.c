// What tasks share: checks and descriptions of the models they name.
#include "train/task/task.h"

#include "core/vecmath.h"
#include "data/checkpoint/checkpoint.h"
#include "data/checkpoint/pair.h"
#include "data/file/path.h"
#include "data/system/console.h"
#include "data/tokenizer/export.h"
#include "data/tokenizer/files.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

void kv_task_free(kv_task *task) {
    if (!task) return;
    free(task->params);
    free(task->rate_scales);
    task->params = NULL;
    task->rate_scales = NULL;
    task->ops->free(task);
}

static const kv_param *first_not_finite(const kv_task *task) {
    for (int64_t i = 0; i < task->n_params; i++)
        if (!kv_all_finite(task->params[i]->data, kv_param_size(task->params[i]))) return task->params[i];
    return NULL;
}

kv_status kv_task_load(kv_task *task, const char *checkpoint, kv_error *err) {
    const kv_status status = task->ops->load(task, checkpoint, err);
    const kv_param *damaged = status == KV_OK ? first_not_finite(task) : NULL;
    if (!damaged) return status;
    return checkpoint
               ? kv_fail(err, KV_ERR_NOT_FINITE,
                         "%s: found NaN or infinite weights in %s, expected finite numbers", checkpoint,
                         damaged->name)
               : kv_fail(err, KV_ERR_NOT_FINITE,
                         "found NaN or infinite weights in %s, which training would start from: a model or "
                         "predictor that the configuration names is damaged",
                         damaged->name);
}

kv_status kv_task_save(kv_task *task, int64_t step, const char *dir, bool final, kv_error *err) {
    const kv_param *diverged = first_not_finite(task);
    if (diverged)
        return kv_fail(
            err, KV_ERR_NOT_FINITE,
            "step %" PRIi64
            ": found NaN or infinite weights in %s, which are not saved; a smaller train.lr may help",
            step, diverged->name);
    return task->ops->save(task, dir, final, err);
}

kv_status kv_task_measure(const kv_task *task, const char *key, const char *dir, const kv_model_spec *spec,
                          kv_checkpoint_size *size, kv_error *err) {
    kv_error inner = {0};
    kv_status status = kv_checkpoint_measure(dir, spec, size, &inner);
    if (status == KV_OK) return KV_OK;
    kv_config_fail(task->source, err, key, "%s", inner.message);
    if (err) err->code = status;
    return status;
}

bool kv_task_same_shape(const kv_model_spec *a, const kv_model_spec *b) {
    return a->n_layers == b->n_layers && a->model_dim == b->model_dim && a->head_dim == b->head_dim &&
           a->vocab_size == b->vocab_size && a->qk_norm == b->qk_norm && a->qkv_bias == b->qkv_bias &&
           a->tied_head == b->tied_head &&
           memcmp(a->layers, b->layers, (size_t)a->n_layers * sizeof *a->layers) == 0;
}

// id: the text's, where it is certain to be that tokenizer's: kv_train_check_models lets no other text train a model
// that has one. An aux may have fewer tokens than the text's tokenizer, and is compared with its base whenever it is used.
static kv_status copy_tokenizer(const char *from, const char *dir, const kv_tokenizer_id *id, kv_error *err) {
    kv_tokenizer_id said;
    bool says = false;
    kv_status status = kv_tokenizer_copy(from, dir, err);
    if (status == KV_OK) status = kv_tokenizer_id_read(dir, &said, &says, err);
    return status == KV_OK && id && !says ? kv_tokenizer_id_write(dir, id, err) : status;
}

static kv_status save_tokenizer(const kv_task *task, const char *const *origins, int n, const char *dir,
                                bool final, kv_error *err) {
    const kv_train_text *text = task->text;
    const kv_tokenizer_id id = kv_train_text_tokenizer(text);
    for (int i = 0; i < n && final; i++)
        if (origins[i] && kv_tokenizer_present(origins[i]))
            return copy_tokenizer(origins[i], dir, n == 1 ? &id : NULL, err);
    kv_status status = final ? kv_tokenizer_scatter(&text->tokenizer, dir, err) : KV_OK;
    for (int i = n; i-- > 0 && final && !status;)
        if (origins[i]) status = kv_tokenizer_copy(origins[i], dir, err);
    return status == KV_OK ? kv_tokenizer_id_write(dir, &id, err) : status;
}

kv_status kv_task_save_tokenizer(const kv_task *task, const char *const *origins, int n,
                                 const kv_model_spec *spec, const char *dir, bool final, kv_error *err) {
    kv_status status = save_tokenizer(task, origins, n, dir, final, err);
    return status == KV_OK && final ? kv_tokenizer_export(dir, spec->context_length, err) : status;
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

// One model, or a base and its aux, against each other, the text and data.seq_len.
static kv_status check_pair(const kv_config *source, const kv_train_config *config, const kv_train_text *text,
                            kv_pair *pair, const char *key, kv_error *err) {
    kv_pair_part part = KV_PAIR_BASE;
    char text_key[KV_TEXT_KEY];
    kv_error inner = {0};
    pair->shard = kv_train_text_path(config, 0);
    pair->shard_info = &text->info;
    pair->n_tokens = config->data.seq_len;
    pair->blamed = &part;
    kv_status status = kv_pair_check(pair, &inner);
    if (status == KV_OK) return KV_OK;
    if (part == KV_PAIR_AUX) key = "aux";
    if (part == KV_PAIR_PREDICTOR) key = "predictor.path";
    if (part == KV_PAIR_SHARD) key = kv_train_text_key(config, 0, text_key);
    if (part == KV_PAIR_CONTEXT) key = "data.seq_len";
    kv_config_fail(source, err, key, "%s", inner.message);
    if (err) err->code = status;
    return status;
}

kv_status kv_train_check_models(const kv_config *source, const kv_train_config *config,
                                const kv_train_text *text, bool begins, kv_train_specs *specs,
                                kv_error *err) {
    *specs = (kv_train_specs){0};
    kv_pair pair = {.base = config->base,
                    .aux = kv_train_aux(config),
                    .base_spec = &specs->base,
                    .aux_spec = &specs->aux};
    // Of an aux made of the base's layers there is no file yet that a predictor could be held against.
    if (config->aux && begins) pair.predictor = config->predictor.path;
    if (config->task == KV_TASK_KVP) return check_pair(source, config, text, &pair, "base", err);
    // A model and its teacher are no pair: each has to fit the text, whose ids both read.
    kv_pair model = {.base = config->model.path, .base_spec = &specs->model};
    const bool scratch = config->model.from == KV_FROM_SCRATCH;
    kv_status status = scratch ? KV_OK : check_pair(source, config, text, &model, "model.path", err);
    if (status != KV_OK || config->loss.kl == 0) return status;
    pair.aux = NULL;
    return check_pair(source, config, text, &pair, "base", err);
}

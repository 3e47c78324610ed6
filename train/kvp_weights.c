// Weights of task: kvp, read and written.
#include "data/checkpoint.h"
#include "data/tokenizer.h"
#include "train/kvp_task.h"

#include <stdlib.h>
#include <string.h>

// ---- The aux -------------------------------------------------------------------------------------------

// As the config says: from its directory, or of layers of the base, as those are stored: of `base`, or read
// here when that is NULL. fingerprint (may be NULL): of the weights before they change their type.
static kv_status load_frozen_aux(const kvp_task *kvp, const kv_model *base, kv_frozen_dtype dtype,
                                 kv_model **aux, char fingerprint[17], kv_error *err) {
    const kv_train_config *config = kvp->task.config;
    if (config->aux) return kv_checkpoint_load_frozen(config->aux, dtype, aux, fingerprint, err);
    kv_model *own = NULL;
    kv_status status = base ? KV_OK : kv_checkpoint_load(config->base, &own, err);
    int32_t kept[KV_MAX_LAYERS];
    const int64_t n = kv_pruned_layers(kvp->base_spec.n_layers, config->predictor.keep, kept);
    if (status == KV_OK) status = kv_model_prune(base ? base : own, kept, n, aux, err);
    kv_model_free(own);
    return status == KV_OK ? kv_checkpoint_convert(aux, dtype, fingerprint, err) : status;
}

// Before the base changes its type.
static kv_status load_aux(kvp_task *kvp, const char *from, char fingerprint[17], kv_error *err) {
    const kv_train_config *config = kvp->task.config;
    char path[PATH_MAX];
    kv_status status = KV_OK;
    if (!kvp_aux_trained(kvp))
        return load_frozen_aux(kvp, kvp->base, kvp->keeps_aux ? config->frozen_dtype : KV_FROZEN_STORED,
                               &kvp->aux, fingerprint, err);
    if (!config->aux && !from) { // float32 already
        status = load_frozen_aux(kvp, kvp->base, KV_FROZEN_STORED, &kvp->aux, NULL, err);
    } else {
        if (from) status = kv_task_path(path, from, "aux", err);
        if (status == KV_OK) status = kv_checkpoint_load_trainable(from ? path : config->aux, &kvp->aux, err);
    }
    if (status == KV_OK && fingerprint) kv_checkpoint_fingerprint(kvp->aux, fingerprint);
    return status == KV_OK ? kv_model_set_trainable(kvp->aux, true, err) : status;
}

// ---- Predictors ----------------------------------------------------------------------------------------

static kv_status load_predictor(kvp_task *kvp, const char *from, kv_error *err) {
    const kv_predictor *shape = &kvp->shape;
    if (!from) {
        kv_status status = kv_predictor_create_kind(&kvp->base_spec, &kvp->aux_spec, shape->mapping,
                                                    &shape->kind, &kvp->predictor, err);
        if (status == KV_OK) kv_predictor_init(kvp->predictor, kvp->task.config->seed);
        return status;
    }
    char path[PATH_MAX];
    kv_status status = kv_task_path(path, from, "predictor", err);
    if (status == KV_OK)
        status = kv_predictor_load(path, &kvp->base_spec, &kvp->aux_spec, kvp->base_fingerprint, NULL,
                                   &kvp->predictor, err);
    if (status == KV_OK && memcmp(kvp->predictor->mapping, shape->mapping,
                                  (size_t)shape->n_base_layers * sizeof *shape->mapping) != 0)
        status =
            kv_fail(err, KV_ERR_MISMATCH, "%s: holds another layer mapping than the config describes", path);
    if (status == KV_OK && !kv_predictor_is_kind(kvp->predictor, &shape->kind))
        status = kv_fail(err, KV_ERR_MISMATCH,
                         "%s: holds predictors of another rank or number of aux layers than the config "
                         "describes",
                         path);
    return status;
}

static kv_status collect_params(kvp_task *kvp, kv_error *err) {
    int64_t n_aux = kvp_aux_trained(kvp) ? kv_model_params(kvp->aux, NULL) : 0;
    int64_t n = kv_predictor_params(kvp->predictor, NULL) + n_aux;
    kv_task *task = &kvp->task;
    task->params = calloc((size_t)n, sizeof *task->params);
    if (!task->params) return kv_fail(err, KV_ERR_MEMORY, "out of memory");
    task->n_params = n;
    if (n_aux > 0) kv_model_params(kvp->aux, task->params);
    kv_predictor_params(kvp->predictor, task->params + n_aux);
    return KV_OK;
}

// ---- Loading -------------------------------------------------------------------------------------------

// A cache is of these very weights or of no use. Of an aux that is trained it is that of its beginning, if
// anything: what the least-squares start reads, and no step.
static bool wants_aux_fingerprint(const kvp_task *kvp, const char *from) {
    if (!kvp->cached) return false;
    return kvp->aux_cached || (kvp_aux_trained(kvp) && !from && kv_cached_has_aux(kvp->cached));
}

static kv_status check_cache(kvp_task *kvp, const char *aux_fingerprint, kv_error *err) {
    if (!kvp->cached) return KV_OK;
    kvp->start_cached =
        aux_fingerprint && strcmp(kv_cached_info(kvp->cached)->aux.fingerprint, aux_fingerprint) == 0;
    return kv_cached_check(kvp->cached, kvp->base_fingerprint, kvp->aux_cached ? aux_fingerprint : NULL, err);
}

// Only looked at.
static void drop(kv_model **model, bool keep) {
    if (keep) return;
    kv_model_free(*model);
    *model = NULL;
}

kv_status kvp_load(kv_task *task, const char *from, kv_error *err) {
    kvp_task *kvp = (kvp_task *)task;
    char buffer[17], *aux_fingerprint = wants_aux_fingerprint(kvp, from) ? buffer : NULL;
    const kv_frozen_dtype dtype = kvp->keeps_base ? task->config->frozen_dtype : KV_FROZEN_STORED;
    kv_status status = kv_checkpoint_load(task->config->base, &kvp->base, err);
    if (status == KV_OK) status = load_aux(kvp, from, aux_fingerprint, err);
    if (status == KV_OK) status = kv_checkpoint_convert(&kvp->base, dtype, kvp->base_fingerprint, err);
    if (status == KV_OK && !kv_task_same_shape(&kvp->aux->spec, &kvp->aux_spec))
        status = kv_fail(err, KV_ERR_MISMATCH, "%s: holds another aux than the config describes", from);
    if (status == KV_OK) status = check_cache(kvp, aux_fingerprint, err);
    if (status != KV_OK) return status;
    drop(&kvp->base, kvp->keeps_base);
    drop(&kvp->aux, kvp->keeps_aux);
    status = load_predictor(kvp, from, err);
    if (status == KV_OK) status = kv_predictor_set_trainable(kvp->predictor, true, err);
    return status == KV_OK ? collect_params(kvp, err) : status;
}

// ---- Saving --------------------------------------------------------------------------------------------

// A frozen aux as it was before it changed its type or was dropped: what the result is used with.
static kv_status save_aux(const kvp_task *kvp, const char *path, kv_error *err) {
    kv_model *stored = NULL;
    if (kvp_aux_trained(kvp) || (kvp->aux && kvp->task.config->frozen_dtype == KV_FROZEN_STORED))
        return kv_checkpoint_save(path, kvp->aux, err);
    kv_status status = load_frozen_aux(kvp, NULL, KV_FROZEN_STORED, &stored, NULL, err);
    if (status == KV_OK) status = kv_checkpoint_save(path, stored, err);
    kv_model_free(stored);
    return status;
}

kv_status kvp_save(kv_task *task, const char *dir, bool final, kv_error *err) {
    kvp_task *kvp = (kvp_task *)task;
    char path[PATH_MAX];
    kv_status status = KV_OK;
    // A frozen aux is where the config says; the result still has it beside its predictors.
    if (kvp_aux_trained(kvp) || final) {
        status = kv_task_path(path, dir, "aux", err);
        if (status == KV_OK) status = kv_make_dirs(path, err);
        if (status == KV_OK) status = save_aux(kvp, path, err);
        const char *origin = task->config->aux ? task->config->aux : task->config->base;
        if (status == KV_OK && final) status = kv_tokenizer_copy(origin, path, err);
    }
    if (status == KV_OK) status = kv_task_path(path, dir, "predictor", err);
    if (status == KV_OK) status = kv_make_dirs(path, err);
    return status == KV_OK ? kv_predictor_save(path, kvp->predictor, kvp->base_fingerprint, err) : status;
}

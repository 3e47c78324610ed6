// Weights of task: kvp, read and written.
#include "data/checkpoint/checkpoint.h"
#include "data/file/path.h"
#include "data/ranks/ranks.h"
#include "train/task/frozen.h"
#include "train/task/kvp.h"
#include "train/task/source_choice.h"
#include "train/task/start_rates.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// ---- The aux -------------------------------------------------------------------------------------------

// As it is stored: from its directory, or of layers of the base, which is read when it is not given as
// stored.
static kv_status load_stored_aux(const kvp_task *kvp, kv_model *stored_base, kv_model **aux, kv_error *err) {
    const kv_train_config *config = kvp->task.config;
    if (config->aux) return kv_checkpoint_load_known(config->aux, &kvp->aux_spec, false, aux, err);
    kv_model *base = stored_base;
    kv_status status =
        base ? KV_OK : kv_checkpoint_load_known(config->base, &kvp->base_spec, false, &base, err);
    int32_t kept[KV_MAX_LAYERS];
    const int64_t n = kv_pruned_layers(kvp->base_spec.n_layers, config->predictor.keep, kept);
    if (status == KV_OK) status = kv_model_prune(base, kept, n, aux, err);
    if (base != stored_base) kv_model_free(base);
    return status;
}

// What frozen models are made of: the base as it is stored is there beforehand where an aux is made of its layers.
struct stored {
    const kvp_task *kvp;
    kv_model *base; // or NULL
};

static kv_status read_base(void *context, kv_model **model, kv_error *err) {
    struct stored *stored = context;
    *model = stored->base;
    stored->base = NULL;
    if (*model) return KV_OK;
    const kvp_task *kvp = stored->kvp;
    return kv_checkpoint_load_known(kvp->task.config->base, &kvp->base_spec, false, model, err);
}

static kv_status read_aux(void *context, kv_model **model, kv_error *err) {
    const struct stored *stored = context;
    return load_stored_aux(stored->kvp, stored->base, model, err);
}

static kv_status load_trained_aux(kvp_task *kvp, kv_model *stored_base, const char *from, kv_error *err) {
    const char *dir = kvp->task.config->aux;
    char path[PATH_MAX];
    kv_status status = KV_OK;
    if (!dir && !from) {
        status = load_stored_aux(kvp, stored_base, &kvp->aux, err); // float32 already
    } else {
        if (from) status = kv_path_join(from, "aux", path, err);
        if (status == KV_OK && from) status = kv_checkpoint_load_trainable(path, &kvp->aux, err);
        if (!from) status = kv_checkpoint_load_known(dir, &kvp->aux_spec, true, &kvp->aux, err);
    }
    if (status == KV_OK && !kv_task_same_shape(&kvp->aux->spec, &kvp->aux_spec))
        status = kv_fail(err, KV_ERR_MISMATCH, "%s: holds another aux than the config describes", from);
    if (status == KV_OK) status = kv_model_set_trainable(kvp->aux, true, err);
    if (status == KV_OK) kv_checkpoint_fingerprint(kvp->aux, kvp->aux_fingerprint);
    return status;
}

// ---- Models --------------------------------------------------------------------------------------------

// Frozen ones are held in frozen_dtype. Layers that an aux is made of and fingerprints are those of weights as they are
// stored.
static kv_frozen frozen_base(const kvp_task *kvp, struct stored *stored) {
    const kv_train_config *config = kvp->task.config;
    return (kv_frozen){config->base,    &kvp->base_spec, config->frozen_dtype,
                       kvp->keeps_base, read_base,       stored};
}

static kv_frozen frozen_aux(const kvp_task *kvp, struct stored *stored) {
    const kv_train_config *config = kvp->task.config;
    return (kv_frozen){config->aux ? config->aux : config->base,
                       &kvp->aux_spec,
                       config->frozen_dtype,
                       kvp->keeps_aux,
                       read_aux,
                       stored};
}

static kv_status hold_base(kvp_task *kvp, struct stored *stored, kv_error *err) {
    const kv_frozen base = frozen_base(kvp, stored);
    return kv_hold_frozen(&base, &kvp->base, kvp->base_fingerprint, err);
}

// Of a prefix the base is the aux, once it is held.
static kv_status load_aux(kvp_task *kvp, struct stored *stored, const char *from, kv_error *err) {
    if (kvp_prefix(kvp)) {
        kvp->aux = kvp->base;
        return KV_OK;
    }
    if (kvp_aux_trained(kvp)) return load_trained_aux(kvp, stored->base, from, err);
    const kv_frozen aux = frozen_aux(kvp, stored);
    return kv_hold_frozen(&aux, &kvp->aux, kvp->aux_fingerprint, err);
}

// Of a frozen aux only the rank that makes it for its node reads what it is made of.
static bool wants_stored_base(const kvp_task *kvp, const char *from) {
    return kvp_aux_trained(kvp) ? !from : kv_node_rank() == 0;
}

// Collective, as what it calls: a failure of one rank is agreed on before the others wait for it.
static kv_status load_models(kvp_task *kvp, const char *from, kv_error *err) {
    struct stored stored = {.kvp = kvp};
    const bool made_of_base = !kvp_prefix(kvp) && !kvp->task.config->aux;
    kv_status status = KV_OK;
    if (made_of_base && wants_stored_base(kvp, from)) status = read_base(&stored, &stored.base, err);
    if (!made_of_base) status = hold_base(kvp, &stored, err);
    status = kv_ranks_agree(status, err);
    if (status == KV_OK) status = kv_ranks_agree(load_aux(kvp, &stored, from, err), err);
    if (status == KV_OK && made_of_base) status = hold_base(kvp, &stored, err);
    kv_model_free(stored.base);
    return status;
}

// ---- Predictors ----------------------------------------------------------------------------------------

// Of a prefix there is no other model than the base.
static kv_fingerprints made_for(const kvp_task *kvp) {
    return (kv_fingerprints){kvp->base_fingerprint, kvp_prefix(kvp) ? NULL : kvp->aux_fingerprint};
}

static kv_status make_predictor(kvp_task *kvp, const kv_predictor_spec *spec, kv_error *err) {
    kv_status status = kv_predictor_create(&kvp->base_spec, &kvp->aux_spec, spec, &kvp->predictor, err);
    return status == KV_OK ? kv_predictor_init(kvp->predictor, kvp->base, kvp->task.config->seed, err)
                           : status;
}

// Whether a predictor that was made is what the configuration describes. Of the best sources it was found out then which
// they are.
static bool is_planned(const kvp_task *kvp, const kv_predictor_spec *made) {
    const kv_predictor_spec *plan = &kvp->shape->spec;
    return kvp->task.config->predictor.choose == KV_CHOICE_BEST
               ? kv_choice_of(&kvp->task.config->predictor, plan, made)
               : kv_predictor_spec_equal(plan, made);
}

// What is counted and estimated from now on is the one there is.
static kv_status plan_as_made(kvp_task *kvp, kv_error *err) {
    if (kv_predictor_spec_equal(&kvp->shape->spec, &kvp->predictor->spec)) return KV_OK;
    kv_predictor *shape;
    kv_status status = kv_predictor_plan(&kvp->base_spec, &kvp->aux_spec, &kvp->predictor->spec, &shape, err);
    if (status != KV_OK) return status;
    if (kvp->cached) kv_cached_read_for(kvp->cached, shape);
    kv_predictor_free(kvp->shape);
    kvp->shape = shape;
    return KV_OK;
}

// from: a checkpoint of this run; NULL: it begins.
static kv_status load_predictor(kvp_task *kvp, const char *from, kv_error *err) {
    const char *given = kvp->task.config->predictor.path;
    if (!from && !given) return make_predictor(kvp, &kvp->shape->spec, err);
    char path[PATH_MAX];
    kv_status status = KV_OK;
    if (from)
        status = kv_path_join(from, "predictor", path, err);
    else if (snprintf(path, sizeof path, "%s", given) >= PATH_MAX)
        status = kv_path_too_long(given, err);
    const kv_fingerprints found = made_for(kvp);
    if (status == KV_OK)
        status = kv_predictor_load(path, &kvp->base_spec, kvp_prefix(kvp) ? NULL : &kvp->aux_spec, &found,
                                   NULL, &kvp->predictor, err);
    if (status == KV_OK && !is_planned(kvp, &kvp->predictor->spec))
        status = kv_fail(err, KV_ERR_MISMATCH, "%s: holds other predictors than the config describes", path);
    if (status != KV_OK && !from) kv_fail_within(err, status, "predictor.path");
    return status == KV_OK ? plan_as_made(kvp, err) : status;
}

static kv_status collect_params(kvp_task *kvp, kv_error *err) {
    kv_task *task = &kvp->task;
    const int64_t n_aux = kvp_aux_trained(kvp) ? kv_model_params(kvp->aux, NULL) : 0;
    const int64_t n = kv_predictor_params(kvp->predictor, NULL);
    task->params = calloc((size_t)(n + n_aux), sizeof *task->params);
    if (!task->params) return kv_fail(err, KV_ERR_MEMORY, "out of memory");
    task->n_params = n_aux;
    if (n_aux > 0 && kvp->weights.aux == 0)
        task->n_params = kv_predictor_aux_params(kvp->predictor, kvp->aux, task->params);
    else if (n_aux > 0)
        kv_model_params(kvp->aux, task->params);
    task->n_params += kv_predictor_params(kvp->predictor, task->params + task->n_params);
    return KV_OK;
}

kv_status kvp_remake_predictor(kvp_task *kvp, const kv_predictor_spec *spec, kv_error *err) {
    kv_task *task = &kvp->task;
    kv_predictor_free(kvp->predictor);
    kvp->predictor = NULL;
    free(task->params);
    task->params = NULL, task->n_params = 0;
    kv_status status = make_predictor(kvp, spec, err);
    if (status == KV_OK) status = kv_predictor_set_trainable(kvp->predictor, true, err);
    if (status == KV_OK) status = plan_as_made(kvp, err);
    return status == KV_OK ? collect_params(kvp, err) : status;
}

// ---- Loading -------------------------------------------------------------------------------------------

// A cache is of these very weights or of no use. Of an aux that is trained it is that of its beginning, if
// anything: what the least-squares start reads, and no step.
static kv_status check_cache(kvp_task *kvp, bool beginning, kv_error *err) {
    const char *fingerprint = kvp->aux_fingerprint;
    if (!kvp->cached) return KV_OK;
    const bool wanted = kvp->cache_has_aux && (beginning || !kvp_aux_trained(kvp));
    kvp->start_cached = wanted && strcmp(kv_cached_info(kvp->cached)->aux.fingerprint, fingerprint) == 0;
    return kv_cached_check(kvp->cached, kvp->base_fingerprint, kvp->aux_cached ? fingerprint : NULL, err);
}

kv_status kvp_load(kv_task *task, const char *from, kv_error *err) {
    kvp_task *kvp = (kvp_task *)task;
    kv_status status = load_models(kvp, from, err);
    if (status == KV_OK) status = check_cache(kvp, from == NULL, err);
    if (status == KV_OK) status = load_predictor(kvp, from, err);
    if (status == KV_OK) status = kv_predictor_set_trainable(kvp->predictor, true, err);
    if (status == KV_OK) status = collect_params(kvp, err);
    memcpy(task->frozen_base, kvp->base_fingerprint, sizeof task->frozen_base);
    if (!kvp_aux_trained(kvp)) memcpy(task->frozen_aux, kvp->aux_fingerprint, sizeof task->frozen_aux);
    return status == KV_OK && from ? kv_start_rates_read(task, kvp->base_spec.n_layers, err) : status;
}

// ---- Saving --------------------------------------------------------------------------------------------

static kv_status save_aux(kvp_task *kvp, const char *path, kv_error *err) {
    const bool stored = kvp_aux_trained(kvp) || kvp->task.config->frozen_dtype == KV_FROZEN_STORED;
    kv_model *aux = stored ? kvp->aux : NULL;
    kv_status status = kv_make_dirs(path, err);
    if (status == KV_OK && !aux) status = load_stored_aux(kvp, NULL, &aux, err);
    if (status == KV_OK) status = kv_checkpoint_save(path, aux, err);
    if (aux != kvp->aux) kv_model_free(aux);
    return status;
}

kv_status kvp_save(kv_task *task, const char *dir, bool final, kv_error *err) {
    kvp_task *kvp = (kvp_task *)task;
    char path[PATH_MAX];
    kv_status status = KV_OK;
    // A frozen aux is where the config says; the result still has it beside its predictors. A prefix is the base.
    if (!kvp_prefix(kvp) && (kvp_aux_trained(kvp) || final)) {
        status = kv_path_join(dir, "aux", path, err);
        if (status == KV_OK) status = save_aux(kvp, path, err);
        const char *origins[] = {task->config->aux, task->config->base};
        if (status == KV_OK)
            status = kv_task_save_tokenizer(task, origins, 2, &kvp->aux_spec, path, final, err);
    }
    if (status == KV_OK) status = kv_path_join(dir, "predictor", path, err);
    if (status == KV_OK) status = kv_make_dirs(path, err);
    if (status == KV_OK && kvp_aux_trained(kvp)) kv_checkpoint_fingerprint(kvp->aux, kvp->aux_fingerprint);
    const kv_fingerprints whose = made_for(kvp);
    return status == KV_OK ? kv_predictor_save(path, kvp->predictor, &whose, err) : status;
}

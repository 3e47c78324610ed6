// task: kvp. Predictors from an auxiliary model's cache to the base's, with the auxiliary model trained or
// frozen.                                                                              [method.md section 4]
#include "data/checkpoint.h"
#include "data/tokenizer.h"
#include "train/least_squares_start.h"
#include "train/predictor_plan.h"
#include "train/tape_memory.h"
#include "train/task.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { TERM_BASE, TERM_AUX, TERM_CONSISTENCY, TERM_KL, TERM_Z_BASE, TERM_Z_AUX, N_TERMS };
static const char *const all_terms[N_TERMS] = {"base", "aux", "consistency", "kl", "z_base", "z_aux"};

typedef struct kvp_task {
    kv_task task; // first: ops get a kv_task *
    kv_model_spec base_spec, aux_spec;
    kv_checkpoint_size base_size, aux_size; // aux_size: of one that is read
    kv_predictor shape;                     // layer counts and mapping, no weights: enough to plan with
    kv_kvp_weights weights;
    int term[N_TERMS]; // which of all_terms the task's terms are
    kv_model *base, *aux;
    kv_predictor *predictor;
    char base_fingerprint[17];
} kvp_task;

static bool aux_trained(const kvp_task *kvp) {
    return !kvp->task.config->freeze_aux;
}

// A layer-pruned aux may come from no checkpoint but from the base itself.          [paper section 3.4,
// KVP-LP]
static const char *aux_name(const kv_train_config *config) {
    return config->aux ? config->aux : "layers of the base";
}

// ---- Weights -------------------------------------------------------------------------------------------

static kv_status layers_of_base(const kvp_task *kvp, const kv_model *base, kv_model **aux, kv_error *err) {
    int32_t kept[KV_MAX_LAYERS];
    const int64_t n = kv_pruned_layers(kvp->base_spec.n_layers, kvp->task.config->predictor.keep, kept);
    return kv_model_prune(base, kept, n, aux, err);
}

// Before the base changes its type: layers of it are taken as they are stored.
static kv_status load_aux(kvp_task *kvp, const char *from, kv_error *err) {
    const char *dir = kvp->task.config->aux;
    const kv_frozen_dtype dtype = kvp->task.config->frozen_dtype;
    char path[PATH_MAX];
    kv_status status = KV_OK;
    if (!dir && !(from && aux_trained(kvp))) {
        status = layers_of_base(kvp, kvp->base, &kvp->aux, err);
        if (status == KV_OK && !aux_trained(kvp)) status = kv_checkpoint_convert(&kvp->aux, dtype, NULL, err);
    } else if (!aux_trained(kvp)) {
        return kv_checkpoint_load_frozen(dir, dtype, &kvp->aux, NULL, err);
    } else {
        if (from) status = kv_task_path(path, from, "aux", err);
        if (status == KV_OK) status = kv_checkpoint_load_trainable(from ? path : dir, &kvp->aux, err);
    }
    if (!aux_trained(kvp)) return status;
    if (status == KV_OK) status = kv_model_set_trainable(kvp->aux, true, err);
    return status;
}

static kv_status load_predictor(kvp_task *kvp, const char *from, kv_error *err) {
    const kv_predictor *shape = &kvp->shape;
    if (!from) {
        kv_status status = kv_predictor_create_kind(&kvp->base->spec, &kvp->aux->spec, shape->mapping,
                                                    &shape->kind, &kvp->predictor, err);
        if (status == KV_OK) kv_predictor_init(kvp->predictor, kvp->task.config->seed);
        return status;
    }
    char path[PATH_MAX];
    kv_status status = kv_task_path(path, from, "predictor", err);
    if (status == KV_OK)
        status = kv_predictor_load(path, &kvp->base->spec, &kvp->aux->spec, kvp->base_fingerprint, NULL,
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
    int64_t n_aux = aux_trained(kvp) ? kv_model_params(kvp->aux, NULL) : 0;
    int64_t n = kv_predictor_params(kvp->predictor, NULL) + n_aux;
    kv_task *task = &kvp->task;
    task->params = calloc((size_t)n, sizeof *task->params);
    if (!task->params) return kv_fail(err, KV_ERR_MEMORY, "out of memory");
    task->n_params = n;
    if (n_aux > 0) kv_model_params(kvp->aux, task->params);
    kv_predictor_params(kvp->predictor, task->params + n_aux);
    return KV_OK;
}

static kv_status kvp_load(kv_task *task, const char *from, kv_error *err) {
    kvp_task *kvp = (kvp_task *)task;
    kv_status status = kv_checkpoint_load(task->config->base, &kvp->base, err);
    if (status == KV_OK) status = load_aux(kvp, from, err);
    if (status == KV_OK)
        status = kv_checkpoint_convert(&kvp->base, task->config->frozen_dtype, kvp->base_fingerprint, err);
    if (status == KV_OK && !kv_task_same_shape(&kvp->aux->spec, &kvp->aux_spec))
        status = kv_fail(err, KV_ERR_MISMATCH, "%s: holds another aux than the config describes", from);
    if (status == KV_OK) status = load_predictor(kvp, from, err);
    if (status == KV_OK) status = kv_predictor_set_trainable(kvp->predictor, true, err);
    return status == KV_OK ? collect_params(kvp, err) : status;
}

static kv_status kvp_start(kv_task *task, kv_error *err) {
    kvp_task *kvp = (kvp_task *)task;
    if (task->config->predictor.init != KV_START_LEAST_SQUARES) return KV_OK;
    return kv_least_squares_start(task->config, task->shard, kvp->base, kvp->aux, kvp->predictor, err);
}

// A frozen aux as it was before it changed its type: what the result is used with.
static kv_status save_stored_aux(const kvp_task *kvp, const char *path, kv_error *err) {
    const kv_train_config *config = kvp->task.config;
    kv_model *stored, *layers;
    kv_status status = kv_checkpoint_load(config->aux ? config->aux : config->base, &stored, err);
    if (status == KV_OK && !config->aux) {
        status = layers_of_base(kvp, stored, &layers, err);
        kv_model_free(stored);
        stored = layers;
    }
    if (status == KV_OK) status = kv_checkpoint_save(path, stored, err);
    kv_model_free(stored);
    return status;
}

static kv_status save_aux(const kvp_task *kvp, const char *path, kv_error *err) {
    const bool as_loaded = aux_trained(kvp) || kvp->task.config->frozen_dtype == KV_FROZEN_STORED;
    return as_loaded ? kv_checkpoint_save(path, kvp->aux, err) : save_stored_aux(kvp, path, err);
}

static kv_status kvp_save(kv_task *task, const char *dir, bool final, kv_error *err) {
    kvp_task *kvp = (kvp_task *)task;
    char path[PATH_MAX];
    kv_status status = KV_OK;
    // A frozen aux is where the config says; the result still has it beside its predictors.
    if (aux_trained(kvp) || final) {
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

// ---- One step ------------------------------------------------------------------------------------------

static kv_tensor *kvp_objective(kv_task *task, kv_tape *tape, const kv_batch *batch, double *terms) {
    kvp_task *kvp = (kvp_task *)task;
    kv_kvp_terms found = {0};
    kv_tensor *loss =
        kv_kvp_objective(tape, kvp->base, kvp->aux, kvp->predictor, batch, &kvp->weights, &found, NULL);
    const double values[N_TERMS] = {found.base.cross_entropy,
                                    found.aux.cross_entropy,
                                    found.consistency,
                                    found.base.kl,
                                    found.base.z,
                                    found.aux.z};
    for (int i = 0; i < task->n_terms; i++) terms[i] += values[kvp->term[i]];
    return loss;
}

static uint64_t kvp_flops(const kv_task *task, int64_t n_seq, int64_t seq_len) {
    const kvp_task *kvp = (const kvp_task *)task;
    return kv_flops_kvp_step(&kvp->base_spec, &kvp->aux_spec, &kvp->shape, n_seq, seq_len, &kvp->weights,
                             aux_trained(kvp), task->config->train.activation_checkpointing);
}

// ---- Plan ----------------------------------------------------------------------------------------------

static int64_t predictor_size(const kvp_task *kvp) {
    return kv_predictor_planned_size(&kvp->shape, &kvp->base_spec, &kvp->aux_spec);
}

static void kvp_describe(const kv_task *task, FILE *out) {
    const kvp_task *kvp = (const kvp_task *)task;
    const kv_train_config *config = task->config;
    fprintf(out, "base         %s: ", config->base);
    kv_task_describe_model(&kvp->base_spec, out);
    fprintf(out, "aux          %s (%s): ", aux_name(config), aux_trained(kvp) ? "trained" : "frozen");
    kv_task_describe_model(&kvp->aux_spec, out);
    fprintf(out, "predictors   ");
    kv_describe_predictor(&kvp->shape, &kvp->base_spec, &kvp->aux_spec, out);
    const kv_kvp_weights *w = &kvp->weights;
    fprintf(out, "\nloss         %g · base + %g · aux + %g · consistency + %g · kl\n", (double)w->base,
            (double)w->aux, (double)w->consistency, (double)w->kl);
    if (!aux_trained(kvp) && config->loss.aux != 0)
        fprintf(out, "             (loss.aux %g counts as 0: the aux is frozen)\n", config->loss.aux);
}

// An aux made of the base's layers is float32, whatever they were.
static void kvp_memory(const kv_task *task, int64_t n_seq, bool freeze_aux, kv_task_memory *memory) {
    const kvp_task *kvp = (const kvp_task *)task;
    const kv_train_config *config = task->config;
    const bool trained = !freeze_aux;
    const double n_aux = (double)kv_spec_size(&kvp->aux_spec, true), aux_f32 = n_aux * sizeof(float);
    const double aux_bytes = config->aux ? (double)kvp->aux_size.bytes : aux_f32;
    *memory = (kv_task_memory){
        .n_trained = (double)predictor_size(kvp) + (trained ? n_aux : 0),
        .frozen = (double)kvp->base_size.bytes + (trained ? 0 : aux_bytes),
        .tape = kv_tape_kvp_bytes(&kvp->base_spec, &kvp->aux_spec, &kvp->weights, trained,
                                  kvp->base_size.wide, n_seq, config->data.seq_len),
        .saving = trained || (config->aux && kvp->aux_size.wide) || !config->aux ? 0 : aux_f32};
    memory->tape += sizeof(float) * kv_predictor_floats(&kvp->shape, &kvp->aux_spec, trained) *
                    (double)(n_seq * config->data.seq_len);
    if (config->predictor.init == KV_START_LEAST_SQUARES)
        memory->start = kv_least_squares_bytes(&kvp->base_spec, &kvp->aux_spec, &kvp->shape,
                                               config->data.micro_batch_size, config->data.seq_len);
}

static kv_status plan_aux(kvp_task *kvp, kv_error *err) {
    const kv_train_config *config = kvp->task.config;
    if (config->aux) return kv_task_spec(&kvp->task, "aux", config->aux, &kvp->aux_spec, err);
    int32_t kept[KV_MAX_LAYERS];
    kvp->aux_spec = kvp->base_spec;
    const int64_t n_kept = kv_pruned_layers(kvp->base_spec.n_layers, config->predictor.keep, kept);
    kv_spec_prune(&kvp->aux_spec, kept, n_kept);
    return KV_OK;
}

static kv_status plan_models(kvp_task *kvp, kv_error *err) {
    const kv_train_config *config = kvp->task.config;
    kv_status status = kv_task_spec(&kvp->task, "base", config->base, &kvp->base_spec, err);
    if (status == KV_OK) status = plan_aux(kvp, err);
    if (status != KV_OK) return status;
    return kv_plan_predictor(kvp->task.source, config, &kvp->base_spec, &kvp->aux_spec, &kvp->shape, err);
}

static kv_status measure_models(kvp_task *kvp, kv_error *err) {
    const kv_train_config *config = kvp->task.config;
    kv_status status =
        kv_task_measure(&kvp->task, "base", config->base, &kvp->base_spec, &kvp->base_size, err);
    if (status != KV_OK || !config->aux) return status;
    return kv_task_measure(&kvp->task, "aux", config->aux, &kvp->aux_spec, &kvp->aux_size, err);
}

static void plan_losses(kvp_task *kvp) {
    const kv_loss_config *l = &kvp->task.config->loss;
    double consistency = l->consistency < 0 ? 1.0 / (double)kvp->base_spec.n_layers : l->consistency;
    kv_kvp_weights *w = &kvp->weights;
    // The loss of a frozen aux has no gradient: its pass would be work for nothing.
    *w = (kv_kvp_weights){.base = (float)l->base,
                          .aux = aux_trained(kvp) ? (float)l->aux : 0,
                          .consistency = (float)consistency,
                          .kl = (float)l->kl,
                          .z_loss = (float)l->z_loss};
    bool base = w->base != 0 || w->kl != 0, z = w->z_loss != 0;
    const bool active[N_TERMS] = {base,       w->aux != 0, w->consistency != 0,
                                  w->kl != 0, base && z,   w->aux != 0 && z};
    for (int i = 0; i < N_TERMS; i++) {
        if (!active[i]) continue;
        kvp->term[kvp->task.n_terms] = i;
        kvp->task.term_names[kvp->task.n_terms++] = all_terms[i];
    }
}

static void kvp_free(kv_task *task) {
    kvp_task *kvp = (kvp_task *)task;
    kv_model_free(kvp->base);
    kv_model_free(kvp->aux);
    kv_predictor_free(kvp->predictor);
    free(kvp);
}

static const kv_task_ops kvp_ops = {.load = kvp_load,
                                    .start = kvp_start,
                                    .objective = kvp_objective,
                                    .save = kvp_save,
                                    .describe = kvp_describe,
                                    .flops = kvp_flops,
                                    .memory = kvp_memory,
                                    .free = kvp_free};

kv_status kv_kvp_task_create(const kv_config *source, const kv_train_config *config, const kv_shard *shard,
                             kv_task **task, kv_error *err) {
    *task = NULL;
    kvp_task *kvp = calloc(1, sizeof *kvp);
    if (!kvp) return kv_fail(err, KV_ERR_MEMORY, "out of memory");
    kvp->task = (kv_task){.ops = &kvp_ops, .source = source, .config = config, .shard = shard};
    kv_status status = plan_models(kvp, err);
    if (status == KV_OK) status = measure_models(kvp, err);
    if (status != KV_OK) {
        kv_task_free(&kvp->task);
        return status;
    }
    plan_losses(kvp);
    kvp->task.n_trainable = predictor_size(kvp) + (aux_trained(kvp) ? kv_spec_size(&kvp->aux_spec, true) : 0);
    *task = &kvp->task;
    return KV_OK;
}

// task: lm. A language model, from scratch, from a checkpoint, or from some layers of one; taught by its text and, as
// a rival of predictors, by the base's logits.
#include "data/checkpoint/checkpoint.h"
#include "data/checkpoint/random.h"
#include "data/file/path.h"
#include "data/ranks/ranks.h"
#include "data/tokenizer/tokenizer.h"
#include "train/task/frozen.h"
#include "train/task/lm_teacher.h"
#include "train/task/tape_bytes.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { CROSS_ENTROPY, KL, Z_LOSS, LM_TERMS };
static const char *const all_terms[LM_TERMS] = {"cross_entropy", "kl", "z_loss"};

typedef struct lm_task {
    kv_task task;              // first: ops get a kv_task *
    kv_model_spec spec, whole; // whole: of a pruned model before
    int64_t n_kept;            // of a pruned model
    int32_t kept[KV_MAX_LAYERS];
    int64_t whole_bytes; // of the model it is made from, which has to be read
    kv_model *model;
    lm_teacher teacher;
    int term[LM_TERMS]; // which of them the task's terms are
} lm_task;

static kv_status load_pruned(lm_task *lm, kv_error *err) {
    kv_model *whole;
    kv_status status = kv_checkpoint_load_known(lm->task.config->model.path, &lm->whole, false, &whole, err);
    if (status != KV_OK) return status;
    status = kv_model_prune(whole, lm->kept, lm->n_kept, &lm->model, err);
    kv_model_free(whole);
    return status;
}

static kv_status load_model(lm_task *lm, const char *from, kv_error *err) {
    const kv_train_config *config = lm->task.config;
    char dir[PATH_MAX];
    if (from) {
        kv_status status = kv_path_join(from, "model", dir, err);
        return status == KV_OK ? kv_checkpoint_load_trainable(dir, &lm->model, err) : status;
    }
    if (config->model.from == KV_FROM_CHECKPOINT)
        return kv_checkpoint_load_known(config->model.path, &lm->spec, true, &lm->model, err);
    if (config->model.from == KV_FROM_PRUNED) return load_pruned(lm, err);
    kv_status status = kv_model_create(&lm->spec, KV_F32, true, &lm->model, err);
    if (status == KV_OK) kv_model_init(lm->model, config->seed);
    return status;
}

static kv_status lm_load(kv_task *task, const char *from, kv_error *err) {
    lm_task *lm = (lm_task *)task;
    kv_status status = load_model(lm, from, err);
    if (status == KV_OK && from &&
        memcmp(lm->spec.layers, lm->model->spec.layers, sizeof lm->spec.layers) != 0)
        status = kv_fail(err, KV_ERR_MISMATCH, "%s: holds another model than the config describes", from);
    // Runs of before models were named so have it as openelm.
    if (status == KV_OK && task->config->model.from == KV_FROM_SCRATCH)
        memcpy(lm->model->spec.model_type, lm->spec.model_type, sizeof lm->spec.model_type);
    if (status == KV_OK) status = kv_model_set_trainable(lm->model, true, err);
    status = kv_ranks_agree(status, err); // a teacher is loaded together
    if (status == KV_OK) status = lm_teacher_load(&lm->teacher, from, err);
    if (status != KV_OK) return status;
    memcpy(task->frozen_base, lm->teacher.fingerprint, sizeof task->frozen_base);
    task->n_params = kv_model_params(lm->model, NULL);
    task->params = calloc((size_t)task->n_params, sizeof *task->params);
    if (!task->params) return kv_fail(err, KV_ERR_MEMORY, "out of memory");
    kv_model_params(lm->model, task->params);
    return KV_OK;
}

static kv_tensor *run(lm_task *lm, kv_tape *tape, const kv_batch *batch, double *terms) {
    const kv_loss_config *l = &lm->task.config->loss;
    const kv_lm_weights weights = {.ce = (float)l->base,
                                   .z_loss = (float)l->z_loss,
                                   .kl = (float)l->kl,
                                   .kl_temperature = (float)l->kl_temperature};
    kv_lm_loss_terms found = {0};
    kv_tensor *loss = kv_lm_objective(tape, lm->model, lm->teacher.model, batch, &weights, &found);
    const double values[LM_TERMS] = {found.cross_entropy, found.kl, found.z};
    for (int i = 0; i < lm->task.n_terms; i++) terms[i] += values[lm->term[i]];
    return loss;
}

static kv_tensor *lm_objective(kv_task *task, kv_tape *tape, const kv_batch *batch, const kv_row_ref *rows,
                               double *terms) {
    lm_task *lm = (lm_task *)task;
    kv_kvp_given given;
    kv_batch own = *batch;
    if (lm->teacher.cached) {
        kv_error err = {0};
        kv_status status = kv_cached_give(lm->teacher.cached, tape, rows, batch, false, &given, &err);
        if (status != KV_OK) return kv_tape_fail(tape, status, "%s", err.message);
        own.given = &given;
    }
    return run(lm, tape, &own, terms);
}

static kv_tensor *lm_validate(kv_task *task, kv_tape *tape, const kv_batch *batch, double *terms,
                              kv_layer_errors *errors) {
    (void)errors;
    return run((lm_task *)task, tape, batch, terms);
}

static kv_status lm_save(kv_task *task, const char *dir, bool final, kv_error *err) {
    char model_dir[PATH_MAX];
    lm_task *lm = (lm_task *)task;
    kv_status status = kv_path_join(dir, "model", model_dir, err);
    if (status == KV_OK) status = kv_make_dirs(model_dir, err);
    if (status == KV_OK) status = kv_checkpoint_save(model_dir, lm->model, err);
    if (status == KV_OK) status = lm_teacher_save(&lm->teacher, dir, err);
    const char *origin = task->config->model.from == KV_FROM_SCRATCH ? NULL : task->config->model.path;
    return status == KV_OK ? kv_task_save_tokenizer(task, &origin, 1, &lm->spec, model_dir, final, err)
                           : status;
}

static bool names_recipe(const kv_task *task) {
    return kv_config_has(task->source, "recipe");
}

static kv_status lm_start(kv_task *task, kv_error *err) {
    (void)err;
    if (!names_recipe(task)) return KV_OK;
    fputs("kvtrain: recipe ", stderr);
    kv_recipe_describe(task->source, task->config, stderr);
    fputc('\n', stderr);
    return KV_OK;
}

static void lm_describe(const kv_task *task, FILE *out) {
    const lm_task *lm = (const lm_task *)task;
    const kv_model_config *m = &task->config->model;
    if (names_recipe(task)) {
        fputs("recipe       ", out);
        kv_recipe_describe(task->source, task->config, out);
        fputc('\n', out);
    }
    if (m->from == KV_FROM_SCRATCH)
        fprintf(out, "model        from scratch: ");
    else if (m->from == KV_FROM_CHECKPOINT)
        fprintf(out, "model        %s: ", m->path);
    else
        fprintf(out, "model        %" PRIi64 " of the %" PRIi64 " layers of %s: ", lm->n_kept,
                lm->whole.n_layers, m->path);
    kv_task_describe_model(&lm->spec, out);
    lm_teacher_describe(&lm->teacher, out);
}

// Whose logits are computed: a cached teacher's are read, but not for held-out text.
static const kv_model_spec *teacher_that_runs(const lm_task *lm, bool held_out) {
    const bool runs = lm_teacher_is_there(&lm->teacher) && (held_out || !lm->teacher.cached);
    return runs ? &lm->teacher.spec : NULL;
}

static uint64_t lm_flops(const kv_task *task, int64_t n_seq, int64_t seq_len) {
    const lm_task *lm = (const lm_task *)task;
    return kv_flops_lm_step(&lm->spec, teacher_that_runs(lm, false), n_seq, seq_len,
                            task->config->train.activation_checkpointing);
}

static uint64_t lm_validation_flops(const kv_task *task, int64_t n_seq, int64_t seq_len) {
    const lm_task *lm = (const lm_task *)task;
    return kv_flops_lm_loss_only(&lm->spec, teacher_that_runs(lm, true), n_seq, seq_len);
}

static double larger(double a, double b) {
    return a > b ? a : b;
}

// The model is made first, of weights that are given back; then its teacher is read.
static void lm_memory(const kv_task *task, const kv_task_choice *choice, kv_task_memory *memory) {
    const lm_task *lm = (const lm_task *)task;
    const lm_teacher *t = &lm->teacher;
    const kv_train_config *config = task->config;
    const kv_tape_shape shape = {choice->n_seq, config->data.seq_len, choice->n_threads};
    kv_frozen_memory frozen = {0};
    if (lm_teacher_is_there(t))
        frozen = kv_frozen_model_memory(&t->spec, &t->size, choice->frozen_dtype,
                                        kv_is_random_model(config->base));
    const double held = t->kept ? frozen.held : 0, reading = t->kept ? frozen.while_it : frozen.stored;
    const kv_model_spec *spec = &lm->spec;
    kv_tape_teacher taught = {.spec = teacher_that_runs(lm, false),
                              .top_k = t->cached ? kv_cached_info(t->cached)->top_k : 0};
    *memory =
        (kv_task_memory){.n_trained = (double)task->n_trainable,
                         .frozen = held + (t->cached ? KV_OPEN_CACHE_BYTES : 0),
                         .shared = held,
                         .tape = kv_tape_lm_bytes(spec, &taught, choice->checkpointing, &shape),
                         .n_weights = task->n_trainable + (taught.spec ? kv_spec_size(taught.spec, true) : 0),
                         .n_looked_up = spec->tied_head ? 0 : spec->vocab_size * spec->model_dim,
                         .row_width = spec->tied_head ? 0 : spec->model_dim,
                         .n_last = spec->vocab_size * spec->model_dim,
                         .loading = larger((double)lm->whole_bytes - held, reading)};
    taught = (kv_tape_teacher){.spec = teacher_that_runs(lm, true)};
    memory->validation = kv_tape_lm_validation_bytes(spec, &taught, &shape);
}

static void lm_free(kv_task *task) {
    lm_task *lm = (lm_task *)task;
    kv_model_free(lm->model);
    lm_teacher_free(&lm->teacher);
    free(lm);
}

static const kv_task_ops lm_ops = {.load = lm_load,
                                   .start = lm_start,
                                   .objective = lm_objective,
                                   .validate = lm_validate,
                                   .save = lm_save,
                                   .describe = lm_describe,
                                   .flops = lm_flops,
                                   .validation_flops = lm_validation_flops,
                                   .memory = lm_memory,
                                   .free = lm_free};

// A model made from scratch has the text's vocabulary.
static kv_status plan_scratch(lm_task *lm, kv_error *err) {
    const kv_train_config *config = lm->task.config;
    kv_status status = kv_scratch_spec(lm->task.source, config, &lm->task.text->info, &lm->spec, err);
    if (status != KV_OK || config->data.seq_len <= lm->spec.context_length) return status;
    return kv_config_fail(lm->task.source, err, "data.seq_len",
                          "found %" PRIi64 ", expected at most %" PRIi64 ", the context of the model",
                          config->data.seq_len, lm->spec.context_length);
}

// Shape of the model without its weights.
static kv_status plan_model(lm_task *lm, const kv_model_spec *whole, kv_error *err) {
    const kv_train_config *config = lm->task.config;
    kv_model_spec *spec = &lm->spec;
    if (config->model.from == KV_FROM_SCRATCH) return plan_scratch(lm, err);
    *spec = lm->whole = *whole;
    if (config->model.from != KV_FROM_PRUNED) return KV_OK;
    lm->n_kept = kv_pruned_layers(spec->n_layers, config->model.keep, lm->kept);
    kv_checkpoint_size size;
    kv_status status = kv_task_measure(&lm->task, "model.path", config->model.path, spec, &size, err);
    lm->whole_bytes = size.bytes;
    kv_spec_prune(spec, lm->kept, lm->n_kept);
    return status;
}

kv_status kv_lm_task_create(const kv_config *source, const kv_train_config *config, const kv_train_text *text,
                            const kv_train_specs *specs, kv_task **task, kv_error *err) {
    *task = NULL;
    lm_task *lm = calloc(1, sizeof *lm);
    if (!lm) return kv_fail(err, KV_ERR_MEMORY, "out of memory");
    lm->task = (kv_task){.ops = &lm_ops, .source = source, .config = config, .text = text};
    const bool active[LM_TERMS] = {true, config->loss.kl != 0, config->loss.z_loss != 0};
    for (int i = 0; i < LM_TERMS; i++) {
        if (!active[i]) continue;
        lm->term[lm->task.n_terms] = i;
        lm->task.term_names[lm->task.n_terms++] = all_terms[i];
    }
    kv_status status = plan_model(lm, &specs->model, err);
    if (status == KV_OK) status = lm_teacher_plan(&lm->teacher, &lm->task, &specs->base, &lm->spec, err);
    if (status != KV_OK) {
        kv_task_free(&lm->task);
        return status;
    }
    lm->task.n_trainable = kv_spec_size(&lm->spec, true);
    *task = &lm->task;
    return KV_OK;
}

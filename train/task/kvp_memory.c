// What memory task: kvp takes, in the parts that train/run/footprint.h names.
#include "data/checkpoint/random.h"
#include "train/task/frozen.h"
#include "train/task/kvp.h"
#include "train/task/source_choice.h"
#include "train/task/tape_bytes.h"

static kv_frozen_memory frozen_base(const kvp_task *kvp, kv_frozen_dtype dtype) {
    const kv_train_config *config = kvp->task.config;
    return kv_frozen_model_memory(&kvp->base_spec, &kvp->base_size, dtype,
                                  !config->aux || kv_is_random_model(config->base));
}

// An aux made of the base's layers is made as float32, whatever they were; a prefix is no second model.
static kv_frozen_memory frozen_aux(const kvp_task *kvp, kv_frozen_dtype dtype) {
    const char *dir = kvp->task.config->aux;
    if (kvp_prefix(kvp)) return (kv_frozen_memory){0};
    const kv_checkpoint_size layers = {.bytes = 4 * kv_spec_size(&kvp->aux_spec, true), .wide = true};
    return kv_frozen_model_memory(&kvp->aux_spec, dir ? &kvp->aux_size : &layers, dtype,
                                  !dir || kv_is_random_model(dir));
}

// final/ has the frozen aux as it was: read again unless it is in memory, and written as float32. Layers of
// the base are copied from its file.
static double saving(const kvp_task *kvp, const kv_frozen_memory *aux, kv_frozen_dtype dtype) {
    const char *dir = kvp->task.config->aux;
    const double as_f32 = dir && !kvp->aux_size.wide ? 4 * (double)kv_spec_size(&kvp->aux_spec, true) : 0;
    const bool again = !kvp->keeps_aux || dtype != KV_FROZEN_STORED;
    const double read = dir ? 0 : (double)kv_spec_size(&kvp->aux_spec, true) * (kvp->base_size.wide ? 4 : 2);
    return as_f32 + (again ? aux->stored + read : 0);
}

// The sample by which sources are chosen is read before the fit, one after the other.
static double start_bytes(const kvp_task *kvp, const kv_kvp_known *known, int64_t n_passes) {
    const kv_train_config *config = kvp->task.config;
    const kv_start_args args = {
        .config = config, .text = kvp->task.text, .base_spec = &kvp->base_spec, .aux_spec = &kvp->aux_spec};
    double choice = 0, fit = 0;
    if (kv_train_chooses(config)) choice = kv_choice_bytes(&args, kvp->shape, known);
    if (config->predictor.init == KV_START_LEAST_SQUARES)
        fit = kv_least_squares_bytes(&kvp->base_spec, &kvp->aux_spec, kvp->shape, known,
                                     config->predictor.table_start == KV_TABLE_START_FITTED, n_passes,
                                     config->data.micro_batch_size, config->data.seq_len);
    return choice > fit ? choice : fit;
}

// Gradients of tables are those of the rows that were looked up. A tied embedding of an aux with a loss of its own is its
// head as well, which has gradients everywhere.
static void add_slices(const kvp_task *kvp, const kv_task_choice *choice, kv_task_memory *memory) {
    const kv_model_spec *aux = &kvp->aux_spec;
    memory->n_weights = kv_spec_size(&kvp->base_spec, true) + kv_predictor_size(kvp->shape) +
                        (kvp_prefix(kvp) ? 0 : kv_spec_size(aux, true));
    memory->n_looked_up = kv_predictor_looked_up(kvp->shape, &memory->row_width);
    if (choice->no_tables) memory->n_looked_up = memory->row_width = 0;
    const bool embeds = !choice->freeze_aux && kvp_aux_learns(kvp) > 0;
    memory->n_last = embeds ? aux->vocab_size * aux->model_dim : 0;
    if (!embeds || (aux->tied_head && kvp->weights.aux != 0)) return;
    memory->n_looked_up += aux->vocab_size * aux->model_dim;
    memory->row_width += aux->model_dim;
}

void kvp_memory(const kv_task *task, const kv_task_choice *choice, kv_task_memory *memory) {
    const kvp_task *kvp = (const kvp_task *)task;
    const kv_train_config *config = task->config;
    const kv_model_spec *base_spec = &kvp->base_spec, *aux_spec = &kvp->aux_spec;
    const bool trained = !choice->freeze_aux;
    const kv_tape_shape shape = {choice->n_seq, config->data.seq_len, choice->n_threads};
    const kv_kvp_known known = kvp_known_parts(kvp);
    const kv_frozen_memory base = frozen_base(kvp, choice->frozen_dtype),
                           aux = frozen_aux(kvp, choice->frozen_dtype);
    const double tables = choice->no_tables ? (double)kv_predictor_table_size(kvp->shape) : 0;
    const bool aux_held = !trained && kvp->keeps_aux;
    // What is not read of an aux without a loss is float32 all the same.
    const double learns = (double)kvp_aux_learns(kvp),
                 idle = trained ? 4 * ((double)kv_spec_size(aux_spec, true) - learns) : 0;
    const double held = (kvp->keeps_base ? base.held : 0) + (aux_held ? aux.held : 0);
    *memory = (kv_task_memory){
        .n_trained = (double)kv_predictor_size(kvp->shape) - tables + (trained ? learns : 0),
        .frozen = (kvp->cached ? KV_OPEN_CACHE_BYTES : 0) + held + idle,
        .shared = held,
        .tape = kv_tape_kvp_bytes(base_spec, aux_spec, kvp->shape, &kvp->weights, trained,
                                  choice->checkpointing, &known, &shape),
        .validation = kv_tape_kvp_validation_bytes(base_spec, aux_spec, kvp->shape, &kvp->weights, &shape),
        .loading = (kvp->keeps_base ? base.while_it : base.stored) +
                   (kvp->keeps_aux ? (trained ? 0 : aux.while_it) : aux.stored),
        .saving = trained || kvp_prefix(kvp) ? 0 : saving(kvp, &aux, choice->frozen_dtype)};
    add_slices(kvp, choice, memory);
    memory->start = start_bytes(kvp, &known, choice->n_passes);
}

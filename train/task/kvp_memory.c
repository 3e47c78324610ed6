// What memory task: kvp takes, in the parts that train/run/footprint.h names.
#include "data/checkpoint/random.h"
#include "train/task/kvp.h"
#include "train/task/tape_bytes.h"

// What HDF5 holds of an open file, as measured.
static const double cache_bytes = 5e6;

static double larger(double a, double b) {
    return a > b ? a : b;
}

// A frozen model: as it is stored, and as it is held in the type chosen.
struct frozen {
    double stored, held;
    bool wide;       // held as float32
    bool converted;  // held in another type than it is stored in
    double while_it; // bytes more than held, while it is converted
};

// Of one in a file at most one tensor has not been given back; one that is made here, or whose layers the aux
// was made of before, is there as a whole first.
static struct frozen frozen_model(const kv_model_spec *spec, const kv_checkpoint_size *size,
                                  kv_frozen_dtype dtype, bool as_a_whole) {
    const double n = (double)kv_spec_size(spec, true), stored = (double)size->bytes;
    const double table = (double)(spec->vocab_size * spec->model_dim) * (size->wide ? 4 : 2);
    struct frozen m = {.stored = stored, .held = stored, .wide = size->wide};
    if (dtype == KV_FROZEN_STORED || (dtype == KV_FROZEN_F32) == size->wide) return m;
    m.wide = dtype == KV_FROZEN_F32;
    m.held = n * (m.wide ? 4 : 2);
    m.converted = true;
    m.while_it = as_a_whole ? larger(stored - m.held, 0) : table;
    return m;
}

static struct frozen frozen_base(const kvp_task *kvp, kv_frozen_dtype dtype) {
    const kv_train_config *config = kvp->task.config;
    return frozen_model(&kvp->base_spec, &kvp->base_size, dtype,
                        !config->aux || kv_is_random_model(config->base));
}

// An aux made of the base's layers is made as float32, whatever they were.
static struct frozen frozen_aux(const kvp_task *kvp, kv_frozen_dtype dtype) {
    const char *dir = kvp->task.config->aux;
    const kv_checkpoint_size layers = {.bytes = 4 * kv_spec_size(&kvp->aux_spec, true), .wide = true};
    return frozen_model(&kvp->aux_spec, dir ? &kvp->aux_size : &layers, dtype,
                        !dir || kv_is_random_model(dir));
}

// final/ has the frozen aux as it was: read again unless it is in memory, and written as float32. Layers of
// the base are copied from its file.
static double saving(const kvp_task *kvp, const struct frozen *aux, kv_frozen_dtype dtype) {
    const char *dir = kvp->task.config->aux;
    const double as_f32 = dir && !kvp->aux_size.wide ? 4 * (double)kv_spec_size(&kvp->aux_spec, true) : 0;
    const bool again = !kvp->keeps_aux || dtype != KV_FROZEN_STORED;
    const double read = dir ? 0 : (double)kv_spec_size(&kvp->aux_spec, true) * (kvp->base_size.wide ? 4 : 2);
    return as_f32 + (again ? aux->stored + read : 0);
}

void kvp_memory(const kv_task *task, const kv_task_choice *choice, kv_task_memory *memory) {
    const kvp_task *kvp = (const kvp_task *)task;
    const kv_train_config *config = task->config;
    const kv_model_spec *base_spec = &kvp->base_spec, *aux_spec = &kvp->aux_spec;
    const bool trained = !choice->freeze_aux;
    const int64_t n_seq = choice->n_seq, seq_len = config->data.seq_len;
    const kv_kvp_known known = kvp_known_parts(kvp);
    const struct frozen base = frozen_base(kvp, choice->frozen_dtype),
                        aux = frozen_aux(kvp, choice->frozen_dtype);
    const bool aux_held = !trained && kvp->keeps_aux;
    *memory =
        (kv_task_memory){.n_trained = (double)kv_predictor_size(kvp->shape) +
                                      (trained ? (double)kv_spec_size(aux_spec, true) : 0),
                         .frozen = (kvp->cached ? cache_bytes : 0) + (kvp->keeps_base ? base.held : 0) +
                                   (aux_held ? aux.held : 0),
                         .tape = kv_tape_kvp_bytes(base_spec, aux_spec, kvp->shape, &kvp->weights, trained,
                                                   choice->checkpointing, base.wide, &known, n_seq, seq_len),
                         .validation = kv_tape_kvp_validation_bytes(base_spec, aux_spec, kvp->shape,
                                                                    &kvp->weights, base.wide, n_seq, seq_len),
                         .loading = (kvp->keeps_base ? base.while_it : base.stored) +
                                    (kvp->keeps_aux ? (trained ? 0 : aux.while_it) : aux.stored),
                         .saving = trained ? 0 : saving(kvp, &aux, choice->frozen_dtype)};
    if (config->predictor.init == KV_START_LEAST_SQUARES)
        memory->start = kv_least_squares_bytes(base_spec, aux_spec, kvp->shape, &known,
                                               config->data.micro_batch_size, seq_len);
}

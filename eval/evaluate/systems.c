// Rows of an evaluation share most of their models; each directory is opened and checked once.
#include "eval/evaluate/systems.h"

#include "core/flops.h"
#include "core/text.h"
#include "data/checkpoint/checkpoint.h"
#include "data/checkpoint/pair.h"
#include "data/checkpoint/random.h"
#include "data/checkpoint/shared.h"
#include "data/checkpoint/tabulated.h"
#include "data/file/hash.h"
#include "data/ranks/ranks.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct kv_known_model {
    char *dir;
    kv_model_spec spec;   // of its config.json, which is read once
    kv_model *model;      // NULL: not loaded
    kv_model *shape;      // without data; NULL: not asked for
    int64_t stored;       // bytes of its weights, once there is a shape
    char fingerprint[17]; // "" until somebody asks
};

// Puts file, line and key of what the config says in front of an error met while following it.
static kv_status blame_key(const kv_systems *systems, const char *key, kv_error *err) {
    if (!err) return KV_ERR_MISMATCH;
    const kv_error inner = *err;
    kv_config_fail(systems->config, err, key, "%s", inner.message);
    return err->code = inner.code;
}

static kv_status blame(const kv_systems *systems, unsigned i, const char *field, kv_error *err) {
    char key[64];
    snprintf(key, sizeof key, "systems[%u].%s", i, field);
    return blame_key(systems, key, err);
}

// Trailing slashes and "./" apart, a directory may have many names; a path that cannot be resolved (such as
// random:openelm-270m) stands for itself.
static char *canonical(const char *dir) {
    char *path = realpath(dir, NULL);
    return path ? path : strdup(dir);
}

// The one of that directory: a new one when there is none. NULL when out of memory.
static struct kv_known_model *known_model(kv_systems *systems, const char *dir) {
    char *path = canonical(dir);
    if (!path) return NULL;
    for (int64_t i = 0; i < systems->n_models; i++)
        if (!strcmp(systems->models[i].dir, path)) {
            free(path);
            return &systems->models[i];
        }
    systems->models[systems->n_models] = (struct kv_known_model){.dir = path};
    return &systems->models[systems->n_models++];
}

static kv_status out_of_memory(const char *dir, kv_error *err) {
    return kv_fail(err, KV_ERR_MEMORY, "out of memory for %s", dir);
}

static kv_status load_model(kv_systems *systems, const char *dir, struct kv_known_model **known,
                            kv_error *err) {
    *known = known_model(systems, dir);
    if (!*known) return out_of_memory(dir, err);
    if (known[0]->model) return KV_OK;
    // The fingerprint is taken on the way where the weights change.
    const kv_frozen_dtype dtype = systems->eval->dtype;
    char *fingerprint = dtype == KV_FROZEN_STORED ? NULL : known[0]->fingerprint;
    return (systems->together ? kv_checkpoint_load_shared : kv_checkpoint_load_frozen)(
        dir, &known[0]->spec, dtype, &known[0]->model, fingerprint, err);
}

// ---- Rows ----------------------------------------------------------------------------------------------

static const char *fingerprint(struct kv_known_model *known) {
    if (!*known->fingerprint) kv_checkpoint_fingerprint(known->model, known->fingerprint);
    return known->fingerprint;
}

// aux NULL: the base's own first layers.
static kv_status load_predictor(kv_systems *systems, unsigned i, struct kv_known_model *base,
                                struct kv_known_model *aux, kv_error *err) {
    kv_system *system = &systems->items[i];
    const char *dir = systems->eval->systems[i].predictor;
    // A random predictor was made for no pair in particular; hashing large models takes a while.
    const char *tabulated = systems->eval->systems[i].tabulated;
    const bool random = kv_is_random_predictor(dir);
    const kv_fingerprints found = {random ? NULL : fingerprint(base),
                                   random || !aux ? NULL : fingerprint(aux)};
    kv_status status = kv_predictor_load(dir, &system->base->spec, aux ? &aux->spec : NULL, &found, NULL,
                                         &system->predictor, err);
    if (status != KV_OK) return blame(systems, i, "predictor", err);
    if (tabulated)
        status = kv_tabulated_use(tabulated, &system->base->spec, &system->aux->spec, fingerprint(base),
                                  &system->predictor, err);
    if (status != KV_OK) return blame(systems, i, "tabulated", err);
    kv_predictor_pack(system->predictor);
    return KV_OK;
}

static kv_pruning read_pruning(const kv_eval_system *row, uint64_t seed) {
    static const char *const names[] = {
        [KV_PRUNE_RANDOM] = "random",
        [KV_PRUNE_STATIC] = "static",
        [KV_PRUNE_LAZY] = "lazy",
        [KV_PRUNE_SPECULATIVE] = "speculative",
    };
    kv_pruning pruning = {.keep = row->keep,
                          .start = row->start,
                          .end = row->end,
                          .lookahead = row->lookahead,
                          .window = row->window,
                          .chunk = row->chunk,
                          .seed = seed};
    for (size_t k = KV_PRUNE_RANDOM; row->pruning && k < sizeof names / sizeof *names; k++)
        if (!strcmp(names[k], row->pruning)) pruning.kind = (kv_prune_kind)k;
    return pruning.kind == KV_PRUNE_NONE ? (kv_pruning){0} : pruning;
}

static kv_status load_row(kv_systems *systems, unsigned i, kv_error *err) {
    const kv_eval_system *row = &systems->eval->systems[i];
    kv_system *system = &systems->items[i];
    struct kv_known_model *base, *aux = NULL;
    kv_status status = load_model(systems, row->model ? row->model : row->base, &base, err);
    if (status != KV_OK) return blame(systems, i, row->model ? "model" : "base", err);
    system->base = base->model;
    system->pruning = read_pruning(row, systems->eval->seed);
    if (row->model) return KV_OK;
    if (row->aux) status = load_model(systems, row->aux, &aux, err);
    if (status != KV_OK) return blame(systems, i, "aux", err);
    system->aux = aux ? aux->model : base->model;
    return row->predictor ? load_predictor(systems, i, base, aux, err) : KV_OK;
}

// ---- Before weights ------------------------------------------------------------------------------------

// A predictor's shape, and that what is tabulated of it has its vocabulary and its tables. Whose weights it was made of is
// known once these are. aux NULL: the base's own first layers.
static kv_status find_shape(const kv_systems *systems, unsigned i, const kv_model_spec *base,
                            const kv_model_spec *aux, kv_predictor **shape, kv_error *err) {
    const kv_eval_system *row = &systems->eval->systems[i];
    kv_status status = kv_predictor_shape(row->predictor, base, aux, shape, err);
    if (status != KV_OK) return blame(systems, i, "predictor", err);
    if (!row->tabulated) return KV_OK;
    status = kv_tabulated_use(row->tabulated, base, aux ? aux : base, NULL, shape, err);
    return status == KV_OK ? KV_OK : blame(systems, i, "tabulated", err);
}

static kv_status check_tabulated(const kv_systems *systems, unsigned i, const struct kv_known_model *base,
                                 const struct kv_known_model *aux, kv_error *err) {
    kv_predictor *shape = NULL;
    if (!systems->eval->systems[i].tabulated) return KV_OK;
    kv_status status = find_shape(systems, i, &base->spec, aux ? &aux->spec : NULL, &shape, err);
    kv_predictor_free(shape);
    return status;
}

static kv_status check_row(const kv_systems *systems, unsigned i, struct kv_known_model *base,
                           struct kv_known_model *aux, const char *tokenizer_path,
                           const kv_tokenizer *tokenizer, kv_error *err) {
    const kv_eval_system *row = &systems->eval->systems[i];
    kv_pair_part part = KV_PAIR_BASE;
    const kv_pair pair = {.base = row->model ? row->model : row->base,
                          .aux = row->model ? NULL : row->aux,
                          .predictor = row->predictor,
                          .tokenizer = tokenizer ? tokenizer_path : NULL,
                          .opened = tokenizer,
                          .blamed = &part,
                          .base_spec = &base->spec,
                          .aux_spec = aux ? &aux->spec : NULL};
    if (kv_pair_check(&pair, err) == KV_OK) return check_tabulated(systems, i, base, aux, err);
    if (part == KV_PAIR_TOKENIZER) return blame_key(systems, "tokenizer", err);
    if (part == KV_PAIR_AUX && row->aux) return blame(systems, i, "aux", err);
    if (part == KV_PAIR_PREDICTOR || part == KV_PAIR_AUX) return blame(systems, i, "predictor", err);
    return blame(systems, i, row->model ? "model" : "base", err);
}

static void find_context(kv_systems *systems, unsigned i, const struct kv_known_model *base,
                         const struct kv_known_model *aux) {
    const kv_pruning pruning = read_pruning(&systems->eval->systems[i], systems->eval->seed);
    const int64_t context = base->spec.context_length;
    const int64_t other = aux ? aux->spec.context_length - kv_pruning_lookahead(&pruning) : context;
    systems->contexts[i] = other < context ? other : context;
    systems->limited_by[i] = !aux              ? ""
                             : other < context ? "the aux of "
                             : other > context ? "the base of "
                                               : "base and aux of ";
}

int64_t kv_systems_shortest(const kv_systems *systems, char whose[KV_SYSTEM_LIMIT]) {
    unsigned least = 0;
    for (unsigned i = 1; i < systems->n; i++)
        if (systems->contexts[i] < systems->contexts[least]) least = i;
    const kv_eval_system *row = &systems->eval->systems[least];
    const kv_pruning pruning = read_pruning(row, systems->eval->seed);
    const int64_t ahead = kv_pruning_lookahead(&pruning);
    const int n =
        snprintf(whose, KV_SYSTEM_LIMIT, "%s`%.*s`", systems->limited_by[least], KV_HEAD(row->name, 80));
    if (ahead > 0 && strcmp(systems->limited_by[least], "the base of ") != 0)
        snprintf(whose + n, KV_SYSTEM_LIMIT - (size_t)n, " (less %lld to look ahead)", (long long)ahead);
    return systems->contexts[least];
}

int64_t kv_systems_fewest_ids(const kv_systems *systems, char whose[KV_SYSTEM_LIMIT]) {
    const struct kv_known_model *least = &systems->models[0];
    for (int64_t i = 1; i < systems->n_models; i++)
        if (systems->models[i].spec.vocab_size < least->spec.vocab_size) least = &systems->models[i];
    snprintf(whose, KV_SYSTEM_LIMIT, "%.*s", KV_HEAD(least->dir, 150));
    return least->spec.vocab_size;
}

static kv_status open_row(kv_systems *systems, unsigned i, const char *tokenizer_path,
                          const kv_tokenizer *tokenizer, kv_error *err) {
    const kv_eval_system *row = &systems->eval->systems[i];
    const char *dir = row->model ? row->model : row->base;
    struct kv_known_model *base = known_model(systems, dir);
    struct kv_known_model *aux = row->aux && base ? known_model(systems, row->aux) : NULL;
    if (!base || (row->aux && !aux)) return out_of_memory(dir, err);
    kv_status status = check_row(systems, i, base, aux, tokenizer_path, tokenizer, err);
    if (status == KV_OK) find_context(systems, i, base, aux);
    return status;
}

void kv_systems_known(kv_systems *systems, int64_t i, kv_pair *pair) {
    const kv_eval_system *row = &systems->eval->systems[i];
    struct kv_known_model *base = known_model(systems, row->model ? row->model : row->base);
    struct kv_known_model *aux = row->aux ? known_model(systems, row->aux) : NULL;
    if (base) pair->base_spec = &base->spec;
    if (aux) pair->aux_spec = &aux->spec;
}

// ---- Shapes --------------------------------------------------------------------------------------------

// The type that the weights of a model are held in.
static kv_dtype held_dtype(const kv_systems *systems, const kv_checkpoint_size *size) {
    const kv_frozen_dtype dtype = systems->eval->dtype;
    if (dtype != KV_FROZEN_STORED) return (kv_dtype)dtype;
    return size->wide ? KV_F32 : KV_BF16; // or f16, which takes as much
}

static kv_status shape_model(kv_systems *systems, const char *dir, kv_model **shape, kv_error *err) {
    struct kv_known_model *known = known_model(systems, dir);
    *shape = NULL;
    if (!known) return out_of_memory(dir, err);
    kv_status status = KV_OK;
    if (!known->shape) {
        kv_checkpoint_size size;
        // What is wrong with them is said when they are loaded.
        if (kv_checkpoint_measure(dir, &known->spec, &size, NULL) != KV_OK)
            size =
                (kv_checkpoint_size){.bytes = sizeof(float) * kv_spec_size(&known->spec, true), .wide = true};
        known->stored = size.bytes;
        status = kv_model_create(&known->spec, held_dtype(systems, &size), false, &known->shape, err);
    }
    *shape = known->shape;
    return status;
}

static kv_status shape_row(kv_systems *systems, unsigned i, kv_error *err) {
    const kv_eval_system *row = &systems->eval->systems[i];
    kv_system *shape = &systems->shapes[i];
    shape->pruning = read_pruning(row, systems->eval->seed);
    kv_status status = shape_model(systems, row->model ? row->model : row->base, &shape->base, err);
    if (status != KV_OK || row->model) return status;
    shape->aux = shape->base;
    if (row->aux) status = shape_model(systems, row->aux, &shape->aux, err);
    if (status != KV_OK || !row->predictor) return status;
    return find_shape(systems, i, &shape->base->spec, row->aux ? &shape->aux->spec : NULL, &shape->predictor,
                      err);
}

kv_status kv_systems_shapes(kv_systems *systems, kv_error *err) {
    systems->shapes = calloc((size_t)systems->n, sizeof *systems->shapes);
    kv_status status = systems->shapes ? KV_OK
                                       : kv_fail(err, KV_ERR_MEMORY, "out of memory for %lld systems",
                                                 (long long)systems->n);
    for (unsigned i = 0; i < systems->n && status == KV_OK; i++) status = shape_row(systems, i, err);
    return status;
}

kv_systems_size kv_systems_measure(const kv_systems *systems) {
    kv_systems_size size = {0};
    for (int64_t i = 0; i < systems->n_models; i++) {
        const struct kv_known_model *known = &systems->models[i];
        const kv_dtype dtype = known->shape->embed.dtype;
        const double held = (double)kv_spec_size(&known->spec, true) * (double)kv_dtype_size(dtype);
        const bool converted = systems->eval->dtype != KV_FROZEN_STORED && held != (double)known->stored;
        size.weights += converted ? held : (double)known->stored;
        size.owned += converted ? held : kv_is_random_model(known->dir) ? (double)known->stored : 0;
    }
    for (int64_t i = 0; i < systems->n; i++) {
        const kv_predictor *p = systems->shapes[i].predictor;
        const double bytes = p ? sizeof(float) * (double)kv_predictor_size(p) : 0;
        size.weights += bytes, size.owned += bytes, size.predictors += bytes;
        kv_tabulated_info info;
        const char *tabulated = systems->eval->systems[i].tabulated;
        if (tabulated && kv_tabulated_read_info(tabulated, &info, NULL) == KV_OK)
            size.weights += (double)info.width * (double)info.vocab_size * (double)kv_dtype_size(info.dtype);
    }
    return size;
}

// ---- What a system is ----------------------------------------------------------------------------------

static struct kv_known_model *known_of(const kv_systems *systems, const kv_model *model) {
    for (int64_t i = 0; i < systems->n_models; i++)
        if (systems->models[i].model == model) return &systems->models[i];
    return NULL;
}

static uint64_t hash_model(const kv_systems *systems, const kv_model *model, uint64_t hash) {
    struct kv_known_model *known = model ? known_of(systems, model) : NULL;
    if (!known) return hash;
    const kv_frozen_dtype dtype = systems->eval->dtype;
    hash = kv_hash64(hash, fingerprint(known), 16);
    return dtype == KV_FROZEN_STORED ? hash : kv_hash64(hash, &dtype, sizeof dtype);
}

void kv_systems_hash(const kv_systems *systems, int64_t i, char out[17]) {
    const kv_system *system = &systems->items[i];
    const kv_pruning *p = &system->pruning;
    uint64_t hash = hash_model(systems, system->base, 0);
    if (system->aux != system->base) hash = hash_model(systems, system->aux, hash);
    if (system->predictor) {
        char parts[17];
        kv_predictor_fingerprint(system->predictor, parts);
        hash = kv_hash64(hash, parts, sizeof parts - 1);
        kv_tabulated_info info;
        const char *tabulated = systems->eval->systems[i].tabulated;
        if (tabulated && kv_tabulated_read_info(tabulated, &info, NULL) == KV_OK)
            hash = kv_hash64(kv_hash64(hash, info.predictor, 16), &info.dtype, sizeof info.dtype);
    }
    if (p->kind != KV_PRUNE_NONE) {
        const double reals[] = {p->keep, p->start, p->end};
        const int64_t numbers[] = {p->kind, p->lookahead, p->window, p->chunk, (int64_t)p->seed};
        hash = kv_hash64(kv_hash64(hash, reals, sizeof reals), numbers, sizeof numbers);
    }
    kv_hash_text(hash, out);
}

// ---- All of them ---------------------------------------------------------------------------------------

kv_status kv_systems_open(const kv_config *config, const kv_eval_config *eval, const char *tokenizer_path,
                          const kv_tokenizer *tokenizer, kv_systems **systems, kv_error *err) {
    *systems = NULL;
    kv_systems *all = calloc(1, sizeof *all);
    if (all) {
        *all = (kv_systems){.n = eval->n_systems, .config = config, .eval = eval};
        all->items = calloc(eval->n_systems, sizeof *all->items);
        all->contexts = calloc(eval->n_systems, sizeof *all->contexts);
        all->limited_by = calloc(eval->n_systems, sizeof *all->limited_by);
        all->models = calloc(2 * (size_t)eval->n_systems, sizeof *all->models);
    }
    if (!all || !all->items || !all->contexts || !all->limited_by || !all->models) {
        kv_systems_free(all);
        return kv_fail(err, KV_ERR_MEMORY, "out of memory for %u systems", eval->n_systems);
    }
    kv_status status = KV_OK;
    for (unsigned i = 0; i < eval->n_systems && status == KV_OK; i++)
        status = open_row(all, i, tokenizer_path, tokenizer, err);
    if (status == KV_OK)
        *systems = all;
    else
        kv_systems_free(all);
    return status;
}

static bool is_among(const kv_model_spec *spec, const kv_model_spec *const *specs, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        if (specs[i] == spec) return true;
    return false;
}

// Collective. Whether all ranks are about to load the same models in the same order: each where a row names it first.
static kv_status look_for_same_models(kv_systems *systems, kv_error *err) {
    const int64_t n = 2 * systems->n;
    const kv_model_spec **specs = calloc((size_t)n, sizeof *specs);
    kv_status status = specs ? KV_OK : kv_fail(err, KV_ERR_MEMORY, "out of memory");
    status = kv_ranks_agree(status, err);
    for (int64_t i = 0; i < n && status == KV_OK; i++) {
        const kv_eval_system *row = &systems->eval->systems[i / 2];
        const char *dir = i % 2 == 0 ? (row->model ? row->model : row->base) : row->model ? NULL : row->aux;
        const struct kv_known_model *known = dir ? known_model(systems, dir) : NULL;
        if (known && !is_among(&known->spec, specs, i)) specs[i] = &known->spec;
    }
    if (status == KV_OK) systems->together = kv_share_possible(specs, n);
    free(specs);
    return status;
}

kv_status kv_systems_load(kv_systems *systems, kv_error *err) {
    kv_status status = look_for_same_models(systems, err);
    for (unsigned i = 0; i < systems->n && status == KV_OK; i++)
        status = kv_ranks_agree(load_row(systems, i, err), err);
    return status;
}

void kv_systems_free(kv_systems *systems) {
    if (!systems) return;
    for (int64_t i = 0; systems->items && i < systems->n; i++) kv_predictor_free(systems->items[i].predictor);
    for (int64_t i = 0; systems->shapes && i < systems->n; i++)
        kv_predictor_free(systems->shapes[i].predictor);
    for (int64_t i = 0; systems->models && i < systems->n_models; i++) {
        kv_model_free(systems->models[i].model);
        kv_model_free(systems->models[i].shape);
        free(systems->models[i].dir);
    }
    free(systems->items);
    free(systems->shapes);
    free(systems->contexts);
    free(systems->limited_by);
    free(systems->models);
    free(systems);
}

static void put_model(const kv_systems *systems, const kv_model *model, char to[17], char *source,
                      size_t size) {
    struct kv_known_model *known = known_of(systems, model);
    if (!known) return;
    memcpy(to, fingerprint(known), 17);
    snprintf(source, size, "%s", known->dir);
}

void kv_systems_maker(const kv_systems *systems, int64_t i, const kv_tokenizer *tokenizer,
                      kv_saved_maker *maker) {
    static const char *const types[] = {[KV_F32] = "f32", [KV_BF16] = "bf16", [KV_F16] = "f16"};
    const kv_system *system = &systems->items[i];
    const kv_eval_system *row = &systems->eval->systems[i];
    kv_tabulated_info info;
    *maker = (kv_saved_maker){0};
    put_model(systems, system->base, maker->base, maker->base_source, sizeof maker->base_source);
    if (system->aux && system->aux != system->base)
        put_model(systems, system->aux, maker->aux, maker->aux_source, sizeof maker->aux_source);
    if (system->predictor) {
        kv_predictor_fingerprint(system->predictor, maker->predictor);
        if (row->tabulated && kv_tabulated_read_info(row->tabulated, &info, NULL) == KV_OK)
            memcpy(maker->predictor, info.predictor, sizeof maker->predictor);
        snprintf(maker->predictor_source, sizeof maker->predictor_source, "%s", row->predictor);
    }
    snprintf(maker->weights, sizeof maker->weights, "%s", types[system->base->embed.dtype]);
    if (tokenizer) snprintf(maker->tokenizer, sizeof maker->tokenizer, "%s", kv_tokenizer_hash(tokenizer));
}

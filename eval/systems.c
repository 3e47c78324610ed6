#include "eval/systems.h"

#include "core/flops.h"
#include "data/checkpoint.h"
#include "data/random_checkpoint.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct kv_loaded_model {
    char *dir;
    kv_model *model;
    char fingerprint[17]; // "" until somebody asks
};

struct loading {
    const kv_config *config;
    const kv_eval_config *eval;
    int64_t vocab_size;
    kv_systems *systems;
};

// Puts file, line and key of what the config says in front of an error met while following it.
static kv_status blame(const struct loading *l, unsigned i, const char *field, kv_error *err) {
    if (!err) return KV_ERR_IO;
    char key[64], message[sizeof err->message];
    snprintf(key, sizeof key, "systems[%u].%s", i, field);
    memcpy(message, err->message, sizeof message);
    const kv_status code = err->code;
    kv_config_fail(l->config, err, key, "%s", message);
    err->code = code;
    return code;
}

static struct kv_loaded_model *find_model(const kv_systems *systems, const char *dir) {
    for (int64_t i = 0; i < systems->n_models; i++)
        if (!strcmp(systems->models[i].dir, dir)) return &systems->models[i];
    return NULL;
}

// Trailing slashes and "./" apart, a directory may have many names; a path that cannot be resolved (such as
// random:openelm-270m) stands for itself.
static char *canonical(const char *dir) {
    char *path = realpath(dir, NULL);
    return path ? path : strdup(dir);
}

static kv_status load_model(const struct loading *l, const char *dir, struct kv_loaded_model **loaded,
                            kv_error *err) {
    char *path = canonical(dir);
    if (!path) return kv_fail(err, KV_ERR_MEMORY, "out of memory for %s", dir);
    *loaded = find_model(l->systems, path);
    if (*loaded) {
        free(path);
        return KV_OK;
    }
    // Before the weights: those of a large model take a while.
    kv_model_spec spec;
    kv_model *model = NULL;
    kv_status status = kv_checkpoint_spec(dir, &spec, err);
    if (status == KV_OK && spec.vocab_size != l->vocab_size)
        status = kv_fail(err, KV_ERR_MISMATCH, "%s: vocabulary of %lld tokens, expected the tokenizer's %lld",
                         dir, (long long)spec.vocab_size, (long long)l->vocab_size);
    if (status == KV_OK) status = kv_checkpoint_load(dir, &model, err);
    if (status != KV_OK) {
        free(path);
        return status;
    }
    *loaded = &l->systems->models[l->systems->n_models++];
    **loaded = (struct kv_loaded_model){.dir = path, .model = model};
    return KV_OK;
}

static kv_status load_predictor(const struct loading *l, unsigned i, struct kv_loaded_model *base,
                                kv_error *err) {
    kv_system *system = &l->systems->items[i];
    // A random predictor was made for no base in particular; hashing a large one takes a while.
    const bool random = kv_is_random_predictor(l->eval->systems[i].predictor);
    if (!random && !*base->fingerprint) kv_checkpoint_fingerprint(base->model, base->fingerprint);
    kv_status status =
        kv_predictor_load(l->eval->systems[i].predictor, &system->base->spec, &system->aux->spec,
                          base->fingerprint, NULL, &system->predictor, err);
    return status == KV_OK ? KV_OK : blame(l, i, "predictor", err);
}

static kv_status load_row(const struct loading *l, unsigned i, kv_error *err) {
    const kv_eval_system *row = &l->eval->systems[i];
    kv_system *system = &l->systems->items[i];
    struct kv_loaded_model *base, *aux;
    kv_status status = load_model(l, row->model ? row->model : row->base, &base, err);
    if (status != KV_OK) return blame(l, i, row->model ? "model" : "base", err);
    system->base = base->model;
    if (row->model) return KV_OK;
    status = load_model(l, row->aux, &aux, err);
    if (status != KV_OK) return blame(l, i, "aux", err);
    system->aux = aux->model;
    return load_predictor(l, i, base, err);
}

kv_status kv_systems_load(const kv_config *config, const kv_eval_config *eval, int64_t vocab_size,
                          kv_systems **systems, kv_error *err) {
    *systems = NULL;
    kv_systems *all = calloc(1, sizeof *all);
    if (all) {
        all->n = eval->n_systems;
        all->items = calloc(eval->n_systems, sizeof *all->items);
        all->models = calloc(2 * (size_t)eval->n_systems, sizeof *all->models);
    }
    if (!all || !all->items || !all->models) {
        kv_systems_free(all);
        return kv_fail(err, KV_ERR_MEMORY, "out of memory for %u systems", eval->n_systems);
    }
    const struct loading l = {.config = config, .eval = eval, .vocab_size = vocab_size, .systems = all};
    kv_status status = KV_OK;
    for (unsigned i = 0; i < eval->n_systems && status == KV_OK; i++) status = load_row(&l, i, err);
    if (status == KV_OK)
        *systems = all;
    else
        kv_systems_free(all);
    return status;
}

void kv_systems_free(kv_systems *systems) {
    if (!systems) return;
    for (int64_t i = 0; systems->items && i < systems->n; i++) kv_predictor_free(systems->items[i].predictor);
    for (int64_t i = 0; systems->models && i < systems->n_models; i++) {
        kv_model_free(systems->models[i].model);
        free(systems->models[i].dir);
    }
    free(systems->items);
    free(systems->models);
    free(systems);
}

int64_t kv_system_context(const kv_system *system) {
    const int64_t base = system->base->spec.context_length;
    const int64_t aux = system->aux ? system->aux->spec.context_length : base;
    return aux < base ? aux : base;
}

uint64_t kv_system_flops(const kv_system *system, int64_t n) {
    if (!system->aux) return kv_flops_prefill(&system->base->spec, n);
    return kv_flops_kvp_prefill(&system->base->spec, &system->aux->spec, system->predictor, n);
}

double kv_system_paper_reduction(const kv_system *system, const kv_system *base) {
    const kv_model *reader = system->aux ? system->aux : system->base;
    return kv_paper_reduction(&base->base->spec, &reader->spec);
}

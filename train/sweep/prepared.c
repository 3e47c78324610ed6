// What must be there before the runs of a sweep: each configuration once, or with each seed.
#include "core/text.h"
#include "train/sweep/sweep.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static kv_status no_memory(kv_error *err) {
    return kv_fail(err, KV_ERR_MEMORY, "out of memory for the sweep");
}

// A configuration with one seed, or (NULL) its own.
struct opened {
    kv_config *source;
    const kv_train_config *config;
};

static kv_status open_with(const kv_sweep_file *file, size_t i, const uint64_t *seed, struct opened *opened,
                           kv_error *err) {
    char text[40];
    const char *const overrides[] = {text};
    kv_error inner = {0};
    if (seed) snprintf(text, sizeof text, "seed=%" PRIu64, *seed);
    const kv_status status = kv_train_config_load(file->prepare[i], overrides, seed != NULL, &opened->source,
                                                  &opened->config, &inner);
    if (status == KV_OK) return KV_OK;
    return kv_fail(err, status, "%s:%zu: key `prepare`: %s", file->path, file->prepare_lines[i],
                   inner.message);
}

// Whether the configuration has an output for each seed. What it reads may then differ by seed, too; without one it may not:
// every seed but one would stand on another's.
static kv_status find_out(const kv_sweep_file *file, size_t i, bool *by_seed, kv_error *err) {
    static const char *const ignored[] = {"seed"};
    struct opened a = {0}, b = {0};
    uint64_t other = file->seeds[0] + 1;
    kv_config_difference difference;
    kv_status status = open_with(file, i, &file->seeds[0], &a, err);
    if (status == KV_OK) status = open_with(file, i, &other, &b, err);
    if (status == KV_OK) *by_seed = strcmp(a.config->output, b.config->output) != 0;
    if (status == KV_OK && !*by_seed && kv_config_compare(a.source, b.source, ignored, 1, &difference))
        status = kv_fail(
            err, KV_ERR_FORMAT,
            "%s:%zu: key `prepare`: %s: two seeds would write the same output, %.*s, but `%s` is %s with "
            "seed %" PRIu64 ": expected {seed} in `output`, too",
            file->path, file->prepare_lines[i], file->prepare[i], KV_HEAD(a.config->output, 100),
            difference.key, difference.a, file->seeds[0]);
    kv_config_free(a.source);
    kv_config_free(b.source);
    return status;
}

static bool is_wanted(const kv_sweep *sweep, const uint64_t *seed) {
    for (size_t i = 0; i < sweep->n_runs; i++)
        if ((!seed || sweep->runs[i].seed == seed) && sweep->runs[i].wanted) return true;
    return false;
}

static kv_status add(kv_sweep *sweep, size_t i, const uint64_t *seed, kv_error *err) {
    struct opened opened = {0};
    kv_status status = open_with(&sweep->file, i, seed, &opened, err);
    if (status != KV_OK) return status;
    kv_sweep_prepared *p = &sweep->prepared[sweep->n_prepared++];
    *p = (kv_sweep_prepared){.path = sweep->file.prepare[i],
                             .line = sweep->file.prepare_lines[i],
                             .output = strdup(opened.config->output),
                             .task = opened.config->task,
                             .seed = seed,
                             .wanted = is_wanted(sweep, seed)};
    if (seed) snprintf(p->override, sizeof p->override, "seed=%" PRIu64, *seed);
    kv_config_free(opened.source);
    return p->output ? KV_OK : no_memory(err);
}

kv_status kv_sweep_open_prepared(kv_sweep *sweep, kv_error *err) {
    const kv_sweep_file *file = &sweep->file;
    const size_t n_seeds = file->n_seeds ? file->n_seeds : 1;
    sweep->prepared = calloc(file->n_prepare * n_seeds + 1, sizeof *sweep->prepared);
    kv_status status = sweep->prepared ? KV_OK : no_memory(err);
    for (size_t i = 0; status == KV_OK && i < file->n_prepare; i++) {
        bool by_seed = false;
        if (file->n_seeds) status = find_out(file, i, &by_seed, err);
        for (size_t s = 0; status == KV_OK && s < (by_seed ? n_seeds : 1); s++)
            status = add(sweep, i, by_seed ? &file->seeds[s] : NULL, err);
    }
    return status;
}

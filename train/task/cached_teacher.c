// A cache is trusted only for what it was made of: it is compared with the text row by row and with the
// models by fingerprint, because a wrong one would train without complaint, to something else.
#include "train/task/cached_teacher.h"

#include "data/corpus/packing.h"
#include "train/task/task.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

struct kv_cached_teacher {
    kv_cached_args args;
    const kv_predictor *shape;
    kv_kvp_weights weights;
    kv_cache_dir *dir;
    int64_t **files; // [n_parts]: index of each shard's file in dir
};

// ---- Opening -------------------------------------------------------------------------------------------

static kv_status refuse(const kv_cached_args *a, const char *key, kv_status code, kv_error *err,
                        const kv_error *why) {
    kv_config_fail(a->source, err, key, "%s", why->message);
    if (err) err->code = code;
    return code;
}

static bool same_rows(const kv_model_spec *a, const kv_model_spec *b) {
    return kv_task_same_shape(a, b) && a->norm_eps == b->norm_eps && kv_same_rope(&a->rope, &b->rope);
}

// Shapes are told without weights; that it is also the same weights is for kv_cached_check.
static kv_status check_kind(const kv_cached_teacher *t, kv_error *err) {
    const kv_cached_args *a = &t->args;
    const kv_train_config *config = a->config;
    const kv_cache_info *info = &t->dir->info;
    const char *tokenizer = a->parts[0].corpus->info.tokenizer;
    if (info->seq_len != config->data.seq_len)
        return kv_config_fail(a->source, err, "data.seq_len",
                              "found %" PRIi64 ", expected %" PRIi64 ", which %s was made with",
                              config->data.seq_len, info->seq_len, config->cache);
    if (strcmp(info->tokenizer, tokenizer) != 0)
        return kv_config_fail(a->source, err, "cache",
                              "%s was made of text of tokenizer %s, expected %s, the training's",
                              config->cache, info->tokenizer, tokenizer);
    if (!same_rows(&info->base.spec, a->base))
        return kv_config_fail(a->source, err, "cache",
                              "%s was made with a base of another shape, from %s, expected one as %s",
                              config->cache, info->base.source, config->base);
    if (a->aux && config->freeze_aux && !kv_train_prefix(config) && info->aux.fingerprint[0] &&
        !same_rows(&info->aux.spec, a->aux))
        return kv_config_fail(
            a->source, err, "cache", "%s was made with an aux of another shape, from %s, expected one as %s",
            config->cache, info->aux.source, config->aux ? config->aux : "layers of the base");
    if (config->train.steps > 0 && a->weights->kl != 0 && info->top_k == 0)
        return kv_config_fail(
            a->source, err, "loss.kl",
            "found %g, but %s holds no logits, which a cached teacher needs for it: make it "
            "with kvdata cache --top-k N, or set loss.kl to 0",
            (double)a->weights->kl, config->cache);
    // In the numbers they were written as: what is left beside the k largest logits depends on it.
    if (config->train.steps > 0 && a->weights->kl != 0 && info->temperature != config->loss.kl_temperature)
        return kv_config_fail(
            a->source, err, "loss.kl_temperature",
            "found %g, expected %g, the temperature that %s holds the rest of the logits for: "
            "make it with kvdata cache --temperature %g",
            config->loss.kl_temperature, info->temperature, config->cache, config->loss.kl_temperature);
    return KV_OK;
}

static kv_status find_file(const kv_cached_teacher *t, const kv_corpus_shard *shard, int64_t *file,
                           kv_error *err) {
    const kv_cached_args *a = &t->args;
    const int64_t n_rows = kv_packed_rows(shard->n_tokens, a->config->data.seq_len);
    *file = kv_cache_dir_find(t->dir, shard->hash);
    if (*file < 0)
        return kv_config_fail(a->source, err, "cache",
                              "%s holds none of its %" PRIi64
                              " files for %s: found the content %s (from %s)%s, "
                              "expected %s",
                              a->config->cache, t->dir->n_files, shard->path, t->dir->files[0].shard,
                              t->dir->info.source, t->dir->n_files > 1 ? " and others" : "", shard->hash);
    if (t->dir->files[*file].n_rows == n_rows) return KV_OK;
    return kv_config_fail(a->source, err, "cache", "%s holds %" PRIi64 " rows of %s, expected %" PRIi64,
                          a->config->cache, t->dir->files[*file].n_rows, shard->path, n_rows);
}

static kv_status find_files(kv_cached_teacher *t, kv_error *err) {
    kv_status status = KV_OK;
    t->files = calloc((size_t)t->args.n_parts, sizeof *t->files);
    if (!t->files) return kv_fail(err, KV_ERR_MEMORY, "out of memory");
    for (int64_t p = 0; status == KV_OK && p < t->args.n_parts; p++) {
        const kv_corpus *corpus = t->args.parts[p].corpus;
        t->files[p] = calloc((size_t)corpus->n_shards + 1, sizeof *t->files[p]);
        if (!t->files[p]) return kv_fail(err, KV_ERR_MEMORY, "out of memory");
        for (int64_t s = 0; status == KV_OK && s < corpus->n_shards; s++)
            status = find_file(t, &corpus->shards[s], &t->files[p][s], err);
    }
    return status;
}

kv_status kv_cached_teacher_open(const kv_cached_args *args, kv_cached_teacher **teacher, kv_error *err) {
    *teacher = NULL;
    kv_cached_teacher *t = calloc(1, sizeof *t);
    if (!t) return kv_fail(err, KV_ERR_MEMORY, "out of memory");
    t->args = *args;
    t->shape = args->shape;
    t->weights = *args->weights;
    kv_error inner = {0};
    kv_status status = kv_cache_dir_open(args->config->cache, &t->dir, &inner);
    if (status != KV_OK) status = refuse(args, "cache", status, err, &inner);
    if (status == KV_OK) status = check_kind(t, err);
    if (status == KV_OK) status = find_files(t, err);
    if (status == KV_OK)
        *teacher = t;
    else
        kv_cached_teacher_free(t);
    return status;
}

void kv_cached_teacher_free(kv_cached_teacher *t) {
    if (!t) return;
    kv_cache_dir_free(t->dir);
    for (int64_t p = 0; t->files && p < t->args.n_parts; p++) free(t->files[p]);
    free(t->files);
    free(t);
}

void kv_cached_read_for(kv_cached_teacher *t, const kv_predictor *shape) {
    t->shape = shape;
}

const kv_cache_info *kv_cached_info(const kv_cached_teacher *t) {
    return &t->dir->info;
}

bool kv_cached_has_aux(const kv_cached_teacher *t) {
    return t->args.aux && t->dir->info.aux.fingerprint[0] && same_rows(&t->dir->info.aux.spec, t->args.aux);
}

static kv_status check_model(const kv_cached_teacher *t, const char *role, const kv_cache_model *found,
                             const char *expected, kv_error *err) {
    if (strcmp(found->fingerprint, expected) == 0) return KV_OK;
    return kv_config_fail(
        t->args.source, err, "cache",
        "%s was made with %s of fingerprint %s (%s), expected %s, the config's: make it anew "
        "with kvdata cache",
        t->args.config->cache, role, found->fingerprint, found->source, expected);
}

kv_status kv_cached_check(const kv_cached_teacher *t, const char *base_fingerprint,
                          const char *aux_fingerprint, kv_error *err) {
    kv_status status = check_model(t, "a base", &t->dir->info.base, base_fingerprint, err);
    if (status != KV_OK || !aux_fingerprint) return status;
    return check_model(t, "an aux", &t->dir->info.aux, aux_fingerprint, err);
}

// ---- Rows ----------------------------------------------------------------------------------------------

// What is read of every row of a batch.
struct wanted {
    kv_tensor **base_k, **base_v, **aux_k, **aux_v; // by layer; NULL: none
    int32_t *ids;                                   // [n_seq, seq_len, top_k] or NULL
    float *logits, *logsumexp;
    int32_t *tokens; // [seq_len + 1], to compare with
};

static void make_tensors(kv_tape *tape, const kv_batch *batch, const kv_model_spec *spec, const bool *read,
                         kv_tensor **k, kv_tensor **v) {
    const int64_t rows = batch->n_seq * batch->seq_len;
    for (int64_t i = 0; i < spec->n_layers; i++) {
        const bool wanted = !read || read[i];
        k[i] = wanted ? kv_tape_tensor(tape, rows, kv_spec_kv_dim(spec, i)) : NULL;
        v[i] = wanted ? kv_tape_tensor(tape, rows, kv_spec_kv_dim(spec, i)) : NULL;
    }
}

static kv_status read_layers(kv_cache *cache, kv_cache_part part, int64_t n_layers, kv_tensor *const *tensors,
                             int64_t place, int64_t seq_len, int64_t row, kv_error *err) {
    kv_status status = KV_OK;
    for (int64_t i = 0; status == KV_OK && i < n_layers; i++)
        if (tensors[i])
            status = kv_cache_read(cache, part, i, row, tensors[i]->data + place * seq_len * tensors[i]->cols,
                                   err);
    return status;
}

// The last guard against a file that is not what its attributes say.
static kv_status check_tokens(kv_cache *cache, const kv_batch *batch, int64_t place, int64_t row,
                              int32_t *tokens, kv_error *err) {
    const int64_t n = batch->seq_len, first = place * n;
    kv_status status = kv_cache_read_tokens(cache, row, tokens, err);
    if (status != KV_OK) return status;
    if (memcmp(tokens, batch->input_ids + first, (size_t)n * sizeof *tokens) == 0 &&
        tokens[n] == batch->target_ids[first + n - 1])
        return KV_OK;
    return kv_fail(err, KV_ERR_MISMATCH,
                   "%s: row %" PRIi64 " holds other tokens than that row of the training text",
                   kv_cache_about(cache)->source, row);
}

static kv_status read_row(const kv_cached_teacher *t, kv_cache *cache, const kv_batch *batch, int64_t place,
                          int64_t row, const struct wanted *w, kv_error *err) {
    const kv_cache_info *info = &t->dir->info;
    const int64_t len = batch->seq_len, k = info->top_k, n_base = info->base.spec.n_layers;
    const int64_t n_aux = info->aux.spec.n_layers;
    kv_status status = check_tokens(cache, batch, place, row, w->tokens, err);
    if (status == KV_OK && w->base_k)
        status = read_layers(cache, KV_CACHE_BASE_KEY, n_base, w->base_k, place, len, row, err);
    if (status == KV_OK && w->base_v)
        status = read_layers(cache, KV_CACHE_BASE_VALUE, n_base, w->base_v, place, len, row, err);
    if (status == KV_OK && w->aux_k)
        status = read_layers(cache, KV_CACHE_AUX_KEY, n_aux, w->aux_k, place, len, row, err);
    if (status == KV_OK && w->aux_v)
        status = read_layers(cache, KV_CACHE_AUX_VALUE, n_aux, w->aux_v, place, len, row, err);
    if (status != KV_OK || !w->ids) return status;
    return kv_cache_read_topk(cache, row, w->ids + place * len * k, w->logits + place * len * k,
                              w->logsumexp + place * len, err);
}

// File by file, so that each is opened once a batch at most.
static kv_status read_rows(kv_cached_teacher *t, kv_tape *tape, const kv_row_ref *rows, const kv_batch *batch,
                           struct wanted *w, kv_error *err) {
    bool *done = kv_arena_alloc(kv_tape_arena(tape), (size_t)batch->n_seq * sizeof *done);
    w->tokens = kv_arena_alloc(kv_tape_arena(tape), ((size_t)batch->seq_len + 1) * sizeof *w->tokens);
    if (!done || !w->tokens) return kv_fail(err, KV_ERR_MEMORY, "out of memory for a batch");
    kv_status status = kv_tape_status(tape, err);
    memset(done, 0, (size_t)batch->n_seq * sizeof *done);
    for (int64_t first = 0; status == KV_OK && first < batch->n_seq; first++) {
        if (done[first]) continue;
        const int64_t file = t->files[rows[first].part][rows[first].shard];
        kv_cache *cache;
        status = kv_cache_dir_file(t->dir, file, &cache, err);
        for (int64_t i = first; status == KV_OK && i < batch->n_seq; i++) {
            if (t->files[rows[i].part][rows[i].shard] != file) continue;
            status = read_row(t, cache, batch, i, rows[i].row, w, err);
            done[i] = true;
        }
    }
    return status;
}

static void layers_read(const kv_cached_teacher *t, bool read[KV_MAX_LAYERS]) {
    uint8_t bits[KV_MAX_LAYERS];
    kv_predictor_spec_reads(&t->shape->spec, bits);
    for (int64_t i = 0; i < KV_MAX_LAYERS; i++) read[i] = bits[i] != 0;
}

kv_status kv_cached_raw(kv_cached_teacher *t, kv_tape *tape, const kv_row_ref *rows, const kv_batch *batch,
                        kv_tensor **base_k, kv_tensor **base_v, kv_tensor **aux_k, kv_tensor **aux_v,
                        kv_error *err) {
    struct wanted w = {.base_k = base_k, .base_v = base_v, .aux_k = aux_k, .aux_v = aux_v};
    bool read[KV_MAX_LAYERS];
    layers_read(t, read);
    if (base_k) make_tensors(tape, batch, &t->dir->info.base.spec, NULL, base_k, base_v);
    if (aux_k) make_tensors(tape, batch, &t->dir->info.aux.spec, read, aux_k, aux_v);
    return read_rows(t, tape, rows, batch, &w, err);
}

static kv_status make_topk(const kv_cached_teacher *t, kv_tape *tape, const kv_batch *batch, struct wanted *w,
                           kv_error *err) {
    const int64_t n = batch->n_seq * batch->seq_len, k = t->dir->info.top_k;
    kv_arena *arena = kv_tape_arena(tape);
    w->ids = kv_arena_alloc(arena, (size_t)(n * k) * sizeof *w->ids);
    w->logits = kv_arena_floats(arena, n * k);
    w->logsumexp = kv_arena_floats(arena, n);
    if (w->ids && w->logits && w->logsumexp) return KV_OK;
    return kv_fail(err, KV_ERR_MEMORY, "out of memory for the teacher's logits");
}

// Places for what a batch is given of a model's layers, where they live as long as that.
static bool make_given(const kv_cached_teacher *t, kv_tape *tape, const kv_batch *batch, bool aux,
                       struct wanted *w) {
    kv_arena *arena = kv_tape_arena(tape);
    const kv_cache_info *info = &t->dir->info;
    if (t->weights.consistency != 0) {
        const size_t size = (size_t)info->base.spec.n_layers * sizeof(*w->base_k);
        w->base_k = kv_arena_alloc(arena, size), w->base_v = kv_arena_alloc(arena, size);
        if (!w->base_k || !w->base_v) return false;
        make_tensors(tape, batch, &info->base.spec, NULL, w->base_k, w->base_v);
    }
    if (aux) {
        bool read[KV_MAX_LAYERS];
        const size_t size = (size_t)info->aux.spec.n_layers * sizeof(*w->aux_k);
        w->aux_k = kv_arena_alloc(arena, size), w->aux_v = kv_arena_alloc(arena, size);
        if (!w->aux_k || !w->aux_v) return false;
        layers_read(t, read);
        make_tensors(tape, batch, &info->aux.spec, read, w->aux_k, w->aux_v);
    }
    return true;
}

kv_status kv_cached_give(kv_cached_teacher *t, kv_tape *tape, const kv_row_ref *rows, const kv_batch *batch,
                         bool aux, kv_kvp_given *given, kv_error *err) {
    struct wanted w = {0};
    kv_status status = KV_OK;
    if (!make_given(t, tape, batch, aux, &w)) return kv_fail(err, KV_ERR_MEMORY, "out of memory for a batch");
    *given = (kv_kvp_given){.norms = &t->dir->norms,
                            .base_k = w.base_k,
                            .base_v = w.base_v,
                            .aux_raw_k = w.aux_k,
                            .aux_v = w.aux_v};
    if (t->weights.kl != 0) {
        status = make_topk(t, tape, batch, &w, err);
        given->topk = (kv_topk_teacher){t->dir->info.top_k, w.ids, w.logits, w.logsumexp};
    }
    // One file is open at a time, and HDF5 is for one thread at a time.
#pragma omp critical(kv_cached_teacher)
    if (status == KV_OK) status = read_rows(t, tape, rows, batch, &w, err);
    for (int64_t i = 0; status == KV_OK && w.base_k && i < t->dir->info.base.spec.n_layers; i++)
        if (t->dir->norms.weight[i])
            w.base_k[i] = kv_rmsnorm(tape, w.base_k[i], t->dir->norms.weight[i], t->dir->norms.eps);
    return status;
}

// What is to be made: the corpora, whether both models can read them, and whether there is room for it on the disk. No weights
// are read for that.
#include "data/kvdata/cache/job.h"

#include "core/text.h"
#include "data/checkpoint/checkpoint.h"
#include "data/checkpoint/pair.h"
#include "data/checkpoint/shared.h"
#include "data/corpus/packing.h"
#include "data/file/hash.h"
#include "data/file/path.h"
#include "data/ranks/ranks.h"
#include "data/system/blas.h"
#include "data/system/buffers.h"
#include "data/system/warning.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

char *cache_bytes_text(double bytes, char text[32]) {
    snprintf(text, 32,
             bytes < 1e6   ? "%.3g kB"
             : bytes < 1e9 ? "%.3g MB"
                           : "%.3g GB",
             bytes / (bytes < 1e6   ? 1e3
                      : bytes < 1e9 ? 1e6
                                    : 1e9));
    return text;
}

double cache_file_bytes(const char *path) {
    struct stat info;
    return stat(path, &info) == 0 ? (double)info.st_size : 0;
}

int64_t cache_shard_rows(const cache_job *job, int64_t shard) {
    return kv_packed_rows(job->shards[shard]->n_tokens, job->options->seq_len);
}

void cache_shard_info(const cache_job *job, int64_t shard, kv_cache_info *info) {
    *info = job->info;
    info->n_rows = cache_shard_rows(job, shard);
    memcpy(info->shard, job->shards[shard]->hash, sizeof info->shard);
    snprintf(info->source, sizeof info->source, "%s", job->shards[shard]->path);
}

kv_status cache_shard_path(const cache_job *job, int64_t shard, char path[PATH_MAX], kv_error *err) {
    return kv_cache_path(job->options->out, shard, path, PATH_MAX, err);
}

bool cache_rows_add(cache_rows_list *list, cache_rows rows) {
    cache_rows *larger = kv_room_for_one(list->items, (size_t)list->n, sizeof *larger);
    if (!larger) return false;
    list->items = larger;
    larger[list->n++] = rows;
    return true;
}

// ---- Before anything is read ---------------------------------------------------------------------------

// The corpora must be made with one tokenizer, which both models' must agree with.
static kv_status check_pair(cache_job *job, const char *path, const kv_corpus *corpus, kv_error *err) {
    const cache_options *o = job->options;
    if (job->info.tokenizer[0] && strcmp(job->info.tokenizer, corpus->info.tokenizer) != 0)
        return kv_fail(err, KV_ERR_MISMATCH, "%s: made with tokenizer %s, expected %s as %s", path,
                       corpus->info.tokenizer, job->info.tokenizer, o->corpora[0]);
    snprintf(job->info.tokenizer, sizeof job->info.tokenizer, "%s", corpus->info.tokenizer);
    kv_pair_part part = KV_PAIR_BASE;
    const kv_pair pair = {.base = o->base,
                          .blamed = &part,
                          .aux = o->aux,
                          .shard = path,
                          .shard_info = &corpus->info,
                          .n_tokens = o->seq_len,
                          .base_spec = &job->info.base.spec,
                          .aux_spec = &job->info.aux.spec};
    kv_status status = kv_pair_check(&pair, err);
    return status != KV_OK && part == KV_PAIR_CONTEXT ? kv_fail_within(err, status, "--seq-len") : status;
}

static kv_status add_shards(cache_job *job, const kv_corpus *corpus, kv_error *err) {
    const size_t n = (size_t)(job->n_shards + corpus->n_shards);
    const kv_corpus_shard **shards = realloc(job->shards, n * sizeof *shards);
    if (!shards) return kv_fail(err, KV_ERR_MEMORY, "out of memory");
    job->shards = shards;
    for (int64_t i = 0; i < corpus->n_shards; i++) {
        const kv_corpus_shard *shard = &corpus->shards[i];
        const int64_t n_rows = kv_packed_rows(shard->n_tokens, job->options->seq_len);
        if (n_rows == 0)
            return kv_fail(err, KV_ERR_ARGUMENT,
                           "%s: %" PRIi64 " tokens do not fill one row of --seq-len %" PRIi64, shard->path,
                           shard->n_tokens, job->options->seq_len);
        job->shards[job->n_shards++] = shard;
        job->n_rows += n_rows;
    }
    return KV_OK;
}

// Each shard loses its end, and one that fills no row all of it.
static void warn_of_loss(const cache_job *job) {
    const int64_t seq_len = job->options->seq_len;
    int64_t all = 0;
    for (int64_t i = 0; i < job->n_shards; i++) all += job->shards[i]->n_tokens;
    const int64_t lost = all - job->n_rows * seq_len;
    if (kv_much_is_lost(lost, all))
        kv_warn("%" PRIi64 " of %" PRIi64 " tokens (%.3g %%) fill no row of %" PRIi64
                " and are left out; a smaller --seq-len, or fewer and larger shards, keep more",
                lost, all, 100 * (double)lost / (double)all, seq_len);
}

static kv_status open_corpora(cache_job *job, kv_error *err) {
    const cache_options *o = job->options;
    job->corpora = calloc((size_t)o->n_corpora, sizeof *job->corpora);
    kv_status status = job->corpora ? KV_OK : kv_fail(err, KV_ERR_MEMORY, "out of memory");
    for (int i = 0; status == KV_OK && i < o->n_corpora; i++) {
        status = kv_corpus_open(o->corpora[i], &job->corpora[i], err);
        if (status == KV_OK) status = check_pair(job, o->corpora[i], job->corpora[i], err);
        if (status == KV_OK) status = add_shards(job, job->corpora[i], err);
    }
    if (status == KV_OK) warn_of_loss(job);
    return status;
}

static kv_status plan_models(cache_job *job, kv_error *err) {
    const cache_options *o = job->options;
    kv_cache_info *info = &job->info;
    info->dtype = o->dtype, info->seq_len = o->seq_len, info->top_k = o->top_k;
    info->temperature = o->temperature;
    kv_status status = KV_OK;
    snprintf(info->base.source, sizeof info->base.source, "%s", o->base);
    if (o->aux) snprintf(info->aux.source, sizeof info->aux.source, "%s", o->aux);
    if (status == KV_OK && o->keep != 0) {
        int32_t kept[KV_MAX_LAYERS];
        const int64_t n = kv_pruned_layers(info->base.spec.n_layers, o->keep, kept);
        info->aux.spec = info->base.spec;
        kv_spec_prune(&info->aux.spec, kept, n);
        snprintf(info->aux.source, sizeof info->aux.source, "%.2f of the layers of %.*s", o->keep,
                 KV_HEAD(o->base, 200));
    }
    if (status == KV_OK && o->top_k > info->base.spec.vocab_size)
        status =
            kv_fail(err, KV_ERR_ARGUMENT, "--top-k: %" PRIi64 ", expected at most the vocabulary, %" PRIi64,
                    o->top_k, info->base.spec.vocab_size);
    return status;
}

// Of files and parts that are there already.
static double bytes_present(const cache_job *job) {
    double bytes = 0;
    char path[PATH_MAX], name[PATH_MAX];
    for (int64_t i = 0; i < job->n_shards; i++) {
        kv_cache_range *parts = NULL;
        int64_t n = 0;
        if (cache_shard_path(job, i, path, NULL) != KV_OK) continue;
        bytes += cache_file_bytes(path);
        if (kv_cache_parts_list(path, &parts, &n, NULL) == KV_OK)
            for (int64_t p = 0; p < n; p++)
                if (kv_cache_part_path(path, parts[p].first, name, NULL) == KV_OK)
                    bytes += cache_file_bytes(name);
        free(parts);
    }
    return bytes;
}

static double bytes_of(const cache_job *job, int64_t n_rows) {
    kv_cache_info all = job->info;
    all.n_rows = n_rows;
    if (job->options->aux || job->options->keep != 0) strcpy(all.aux.fingerprint, "?");
    return kv_cache_bytes(&all);
}

// Each rank may be putting together one file just now, which is there twice then.
static double bytes_for_joining(const cache_job *job) {
    int64_t largest = 0;
    for (int64_t i = 0; i < job->n_shards; i++)
        if (cache_shard_rows(job, i) > largest) largest = cache_shard_rows(job, i);
    const int64_t n = kv_n_ranks() < job->n_shards ? kv_n_ranks() : job->n_shards;
    return (double)n * bytes_of(job, largest);
}

// What the files come to before compression, which takes off a tenth to a third: so much room is asked for.
static kv_status announce(const cache_job *job, kv_error *err) {
    const double least = 0.67;
    char size[32], token[32], there[32], twice[32];
    const double bytes = bytes_of(job, job->n_rows), joining = bytes_for_joining(job);
    const double tokens = (double)(job->n_rows * job->info.seq_len);
    double room = 0;
    fprintf(stderr,
            "kvdata cache: %" PRIi64 " rows of %" PRIi64
            " tokens, at most %s (%s a token) before compression\n",
            job->n_rows, job->info.seq_len, cache_bytes_text(bytes, size),
            cache_bytes_text(bytes / tokens, token));
    if (!kv_path_room(job->options->out, &room)) return KV_OK;
    if (room + bytes_present(job) >= least * (bytes + joining)) return KV_OK;
    return kv_fail(
        err, KV_ERR_IO,
        "%s: %s are free, the cache takes up to %s, and %s more while a file is put together of its "
        "parts (less with --dtype bf16, a smaller --top-k, fewer tokens, smaller shards)",
        job->options->out, cache_bytes_text(room, there), size, cache_bytes_text(joining, twice));
}

kv_status cache_plan(cache_job *job, kv_error *err) {
    kv_status status = open_corpora(job, err);
    if (status == KV_OK) status = plan_models(job, err);
    return status == KV_OK ? announce(job, err) : status;
}

// ---- The models ----------------------------------------------------------------------------------------

// Alike on all ranks, models are loaded together; what else they are is compared afterwards (cache_agree).
kv_status cache_load_models(cache_job *job, kv_error *err) {
    const cache_options *o = job->options;
    const kv_model_spec *const specs[] = {&job->info.base.spec, o->aux ? &job->info.aux.spec : NULL};
    kv_status status = kv_ranks_agree(kv_blas_reserve(err), err);
    if (status != KV_OK) return status;
    kv_status (*const load)(const char *, const kv_model_spec *, kv_frozen_dtype, kv_model **, char *,
                            kv_error *) =
        kv_share_possible(specs, 2) ? kv_checkpoint_load_shared : kv_checkpoint_load_frozen;
    status = load(o->base, specs[0], KV_FROZEN_STORED, &job->args.base, NULL, err);
    if (status == KV_OK) kv_checkpoint_fingerprint(job->args.base, job->info.base.fingerprint);
    if (status == KV_OK && o->aux)
        status = load(o->aux, specs[1], KV_FROZEN_STORED, &job->args.aux, NULL, err);
    if (status == KV_OK && o->keep != 0) {
        int32_t kept[KV_MAX_LAYERS];
        const int64_t n = kv_pruned_layers(job->info.base.spec.n_layers, o->keep, kept);
        status = kv_model_prune(job->args.base, kept, n, &job->args.aux, err);
    }
    if (status == KV_OK && job->args.aux) kv_checkpoint_fingerprint(job->args.aux, job->info.aux.fingerprint);
    return status;
}

// Collective. Ranks that had other models, settings or texts would make files of which no two belong together.
kv_status cache_agree(const cache_job *job, kv_error *err) {
    char asked[17], settings[256];
    const cache_options *o = job->options;
    snprintf(settings, sizeof settings, "%s %" PRIi64 " %" PRIi64 " %g %d %" PRIi64, job->info.tokenizer,
             o->seq_len, o->top_k, kv_cache_temperature(&job->info), (int)o->dtype, o->n_seq);
    kv_hash_text(kv_hash64(kv_hash64(0, settings, strlen(settings)), o->out, strlen(o->out)), asked);
    uint64_t text = 0;
    for (int64_t i = 0; i < job->n_shards; i++) text = kv_hash64(text, job->shards[i]->hash, 16);
    kv_status status = kv_ranks_same("what is asked for", asked, err);
    kv_hash_text(text, asked);
    if (status == KV_OK) status = kv_ranks_same("the text", asked, err);
    if (status == KV_OK) status = kv_ranks_same("the base", job->info.base.fingerprint, err);
    return status == KV_OK ? kv_ranks_same("the aux", job->info.aux.fingerprint, err) : status;
}

// kvdata cache: all is checked (models, corpora, room on the disk, files that are there) before the first row
// is read, since what follows may take days; then one file a shard, so that little is lost when it is
// stopped.
#include "core/text.h"
#include "data/cache/build.h"
#include "data/checkpoint/checkpoint.h"
#include "data/checkpoint/pair.h"
#include "data/corpus/corpus.h"
#include "data/corpus/packing.h"
#include "data/file/path.h"
#include "data/kvdata/kvdata.h"
#include "data/system/blas.h"
#include "data/system/console.h"
#include "data/system/help.h"
#include "data/system/warning.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_BATCH = 1 << 16, MAX_SEQ_LEN = 1 << 20 };

struct options {
    const char *base, *aux, *out;
    char **corpora;
    int n_corpora;
    double keep; // 0: no layer-pruned aux
    double temperature;
    int64_t seq_len, top_k, n_seq;
    kv_dtype dtype;
    bool force;
};

static const char doc[] =
    "Runs frozen models once over a corpus and keeps their keys and values, for kvtrain with `teacher: cached`: "
    "every step is then spared the passes of the models it trains predictors between.\v"
    "A CORPUS is what kvdata tokenize made: a token shard or a directory of them. The documents of a shard are laid end to end and cut into rows of --seq-len tokens, the "
    "same in every epoch (kvtrain's data.packing: fixed); DIR gets a file a shard, cache-00000.h5 and so on, which "
    "says what it was made with. kvtrain refuses a cache that is not of its own base, aux, tokenizer, text and "
    "data.seq_len.\n"
    "\n"
    "--aux for an aux that is not trained (freeze_aux: true), or whose start is solved for by least squares; "
    "--keep for one that is layers of the base. --top-k for loss.kl, which otherwise needs the base's logits; "
    "the probability of all other tokens counts as that of one. How much they have of it depends on "
    "loss.kl_temperature: --temperature has to be that of the training.\n"
    "\n"
    "What was interrupted goes on with the next shard when the same command is given again: make shards small "
    "(kvdata tokenize --shard-tokens) where the models are large.\n"
    "\n"
    "Example, and a training that reads what it made:\n"
    "  kvdata cache --base my/base/final/model --aux my/aux/final/model \\\n"
    "         --seq-len 64 --top-k 16 --out my/cache my/train.h5\n"
    "  kvtrain my/predictor.yaml -s teacher=cached -s cache=my/cache \\\n"
    "          -s data.packing=fixed -s freeze_aux=true --output my/from_cache";

static const struct argp_option option_list[] = {
    {"base", 'b', "DIR", 0, "checkpoint of the base (needed)", 0},
    {"aux", 'a', "DIR", 0, "also the caches of this aux", 0},
    {"keep", 'k', "F", 0, "also those of an aux that is 0.25, 0.50 or 0.75 of the base's layers", 0},
    {"seq-len", 'l', "N", 0, "tokens of a row, data.seq_len of the trainings to come (needed)", 0},
    {"out", 'o', "DIR", 0, "where to write (needed)", 0},
    {"dtype", 'd', "TYPE", 0, "how numbers are kept: bf16 (default), f16 or f32", 0},
    {"top-k", 't', "N", 0, "also the base's N largest logits of every token (default 0: none)", 0},
    {"temperature", 'T', "T", 0, "loss.kl_temperature of the trainings to come (default 1; with --top-k)", 0},
    {"batch", 'n', "N", 0, "rows that are read at once (default 16)", 0},
    {"force", 'f', NULL, 0, "replace caches of other content in DIR", 0},
    {0},
};

static void check_options(struct argp_state *state, const struct options *o) {
    int32_t kept[KV_MAX_LAYERS];
    if (!o->base) argp_error(state, "--base DIR is needed");
    if (!o->out) argp_error(state, "--out DIR is needed");
    if (!o->seq_len) argp_error(state, "--seq-len N is needed");
    if (!o->n_corpora) argp_error(state, "a CORPUS is needed");
    if (o->aux && o->keep != 0) argp_error(state, "--aux and --keep exclude each other");
    if (o->temperature != 0 && o->top_k == 0)
        argp_error(state, "--temperature: %g has no effect without --top-k", o->temperature);
    if (o->keep != 0 && kv_pruned_layers(1, o->keep, kept) < 0)
        argp_error(state, "--keep: %g, expected 0.25, 0.50 or 0.75", o->keep);
}

static error_t parse(int key, char *text, struct argp_state *state) {
    struct options *o = state->input;
    switch (key) {
    case 'b': o->base = text; return 0;
    case 'a': o->aux = text; return 0;
    case 'o': o->out = text; return 0;
    case 'f': o->force = true; return 0;
    case 'k': o->keep = kvdata_real_option(state, "keep", text, 0.01, 0.99); return 0;
    case 'l': o->seq_len = kvdata_int_option(state, "seq-len", text, 1, MAX_SEQ_LEN); return 0;
    case 't': o->top_k = kvdata_int_option(state, "top-k", text, 0, KV_CACHE_MAX_TOP_K); return 0;
    case 'T':
        o->temperature = kvdata_real_option(state, "temperature", text, KV_CACHE_MIN_TEMPERATURE,
                                            KV_CACHE_MAX_TEMPERATURE);
        return 0;
    case 'n': o->n_seq = kvdata_int_option(state, "batch", text, 1, MAX_BATCH); return 0;
    case 'd':
        if (!kv_cache_dtype_parse(text, &o->dtype))
            argp_error(state, "--dtype: '%s', expected bf16, f16 or f32", text);
        return 0;
    case ARGP_KEY_ARGS:
        o->corpora = state->argv + state->next;
        o->n_corpora = state->argc - state->next;
        return 0;
    case ARGP_KEY_END: check_options(state, o); return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

struct job {
    const struct options *options;
    kv_cache_info info; // of every file, but for rows, shard and source
    kv_cache_build_args args;
    kv_progress progress;
    kv_corpus **corpora;            // [n_corpora] of options
    const kv_corpus_shard **shards; // of all of them, one file each
    int64_t n_shards;
    int64_t n_rows;          // in all
    int64_t rows_done;       // of the files before the one being written
    int64_t rows_made;       // of those, not found there already
    double bytes;            // of the files before
    int64_t n_files, n_kept; // written and found
};

static char *gigabytes(double bytes, char text[32]) {
    snprintf(text, 32,
             bytes < 1e6   ? "%.3g kB"
             : bytes < 1e9 ? "%.3g MB"
                           : "%.3g GB",
             bytes / (bytes < 1e6   ? 1e3
                      : bytes < 1e9 ? 1e6
                                    : 1e9));
    return text;
}

// ---- Before anything is read ---------------------------------------------------------------------------

// The corpora must be made with one tokenizer, which both models' must agree with.
static kv_status check_pair(struct job *job, const char *path, const kv_corpus *corpus, kv_error *err) {
    const struct options *o = job->options;
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

static kv_status add_shards(struct job *job, const kv_corpus *corpus, kv_error *err) {
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
static void warn_of_loss(const struct job *job) {
    const int64_t seq_len = job->options->seq_len;
    int64_t all = 0;
    for (int64_t i = 0; i < job->n_shards; i++) all += job->shards[i]->n_tokens;
    const int64_t lost = all - job->n_rows * seq_len;
    if (kv_much_is_lost(lost, all))
        kv_warn("%" PRIi64 " of %" PRIi64 " tokens (%.3g %%) fill no row of %" PRIi64
                " and are left out; a smaller --seq-len, or fewer and larger shards, keep more",
                lost, all, 100 * (double)lost / (double)all, seq_len);
}

static kv_status open_corpora(struct job *job, kv_error *err) {
    const struct options *o = job->options;
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

static kv_status plan_models(struct job *job, kv_error *err) {
    const struct options *o = job->options;
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

// What the files come to before compression, which takes off a tenth to a third: so much room is asked for.
static kv_status announce(const struct job *job, double present, kv_error *err) {
    const double least = 0.67;
    char size[32], token[32], there[32];
    kv_cache_info all = job->info;
    all.n_rows = job->n_rows;
    if (job->options->aux || job->options->keep != 0) strcpy(all.aux.fingerprint, "?");
    const double bytes = kv_cache_bytes(&all), tokens = (double)(job->n_rows * all.seq_len);
    double room = 0;
    fprintf(stderr,
            "kvdata cache: %" PRIi64 " rows of %" PRIi64
            " tokens, at most %s (%s a token) before compression\n",
            job->n_rows, all.seq_len, gigabytes(bytes, size), gigabytes(bytes / tokens, token));
    if (!kv_path_room(job->options->out, &room) || room + present >= least * bytes) return KV_OK;
    return kv_fail(err, KV_ERR_IO,
                   "%s: %s are free, the cache takes up to %s (less with --dtype bf16, a smaller --top-k, "
                   "fewer tokens)",
                   job->options->out, gigabytes(room, there), size);
}

// ---- The models ----------------------------------------------------------------------------------------

static kv_status load_models(struct job *job, kv_error *err) {
    const struct options *o = job->options;
    kv_status status = kv_blas_reserve(err);
    if (status == KV_OK)
        status = kv_checkpoint_load_frozen(o->base, &job->info.base.spec, KV_FROZEN_STORED, &job->args.base,
                                           NULL, err);
    if (status == KV_OK) kv_checkpoint_fingerprint(job->args.base, job->info.base.fingerprint);
    if (status == KV_OK && o->aux)
        status = kv_checkpoint_load_frozen(o->aux, &job->info.aux.spec, KV_FROZEN_STORED, &job->args.aux,
                                           NULL, err);
    if (status == KV_OK && o->keep != 0) {
        int32_t kept[KV_MAX_LAYERS];
        const int64_t n = kv_pruned_layers(job->info.base.spec.n_layers, o->keep, kept);
        status = kv_model_prune(job->args.base, kept, n, &job->args.aux, err);
    }
    if (status == KV_OK && job->args.aux) kv_checkpoint_fingerprint(job->args.aux, job->info.aux.fingerprint);
    return status;
}

// ---- Files ---------------------------------------------------------------------------------------------

static double file_bytes(const char *path) {
    struct stat info;
    return stat(path, &info) == 0 ? (double)info.st_size : 0;
}

// What is in DIR must be part of what is to be there: the rest would be taken for it later.
static kv_status check_file(const struct job *job, const char *path, int64_t number, kv_error *err) {
    kv_cache_info *found = malloc(sizeof *found);
    if (!found) return kv_fail(err, KV_ERR_MEMORY, "out of memory");
    kv_status status = kv_cache_read_info(path, found, err);
    if (status == KV_OK) status = kv_cache_same_kind(path, found, &job->info, err);
    free(found);
    if (status == KV_OK && number >= job->n_shards)
        status = kv_fail(err, KV_ERR_MISMATCH, "%s: one more than the shards of this corpus", path);
    return status;
}

static kv_status check_files(const struct job *job, kv_error *err) {
    kv_cache_file *files;
    int64_t n;
    char path[PATH_MAX];
    kv_status status = kv_cache_list(job->options->out, &files, &n, err);
    for (int64_t i = 0; status == KV_OK && i < n; i++) {
        status = kv_cache_path(job->options->out, files[i].number, path, sizeof path, err);
        if (status != KV_OK) break;
        status = check_file(job, path, files[i].number, err);
        if (status == KV_OK || status == KV_ERR_MEMORY) continue;
        if (!job->options->force) {
            char why[sizeof err->message];
            snprintf(why, sizeof why, "%s", err->message);
            status = kv_fail(err, status, "%.*s; --force replaces it", KV_HEAD(why, 900));
        } else {
            status = unlink(path) == 0
                         ? KV_OK
                         : kv_fail(err, KV_ERR_IO, "%s: cannot remove: %s", path, strerror(errno));
        }
    }
    free(files);
    return status;
}

static kv_status show(void *context, int64_t n_rows, int64_t bytes, kv_error *err) {
    struct job *job = context;
    char note[96], size[32];
    const double seconds = kv_now() - job->progress.started;
    const double tokens = (double)((job->rows_made + n_rows) * job->info.seq_len);
    snprintf(note, sizeof note, "rows  %.0f tokens/s  %s on disk", tokens / (seconds > 0 ? seconds : 1),
             gigabytes(job->bytes + (double)bytes, size));
    kv_progress_show(&job->progress, job->rows_done + n_rows, note);
    if (!kv_console_interrupted()) return KV_OK;
    return kv_fail(err, KV_ERR_INTERRUPTED,
                   "interrupted: %" PRIi64 " of %" PRIi64
                   " files are complete; the same command goes on from there",
                   job->n_files + job->n_kept, job->n_shards);
}

// Whether the file is there already; another shard's is in the way.
static kv_status look(const struct job *job, const char *path, const kv_corpus_shard *shard, bool *there,
                      kv_error *err) {
    *there = false;
    if (!kv_path_exists(path)) return KV_OK;
    kv_cache_info *found = malloc(sizeof *found);
    if (!found) return kv_fail(err, KV_ERR_MEMORY, "out of memory");
    kv_status status = kv_cache_read_info(path, found, err);
    *there = status == KV_OK && strcmp(found->shard, shard->hash) == 0;
    if (status == KV_OK && !*there && !job->options->force)
        status = kv_fail(err, KV_ERR_MISMATCH,
                         "%s: made of a shard of content %s (%s), expected %s (%s); --force replaces it",
                         path, found->shard, found->source, shard->hash, shard->path);
    free(found);
    return status;
}

static kv_status write_file(struct job *job, const char *path, const kv_corpus_shard *from, kv_error *err) {
    kv_shard *shard = NULL;
    bool there;
    kv_status status = look(job, path, from, &there, err);
    if (status == KV_OK && !there) {
        status = kv_shard_open(from->path, &shard, err);
        snprintf(job->info.source, sizeof job->info.source, "%s", from->path);
        if (status == KV_OK) status = kv_cache_build(path, shard, &job->info, &job->args, err);
        kv_shard_free(shard);
    }
    if (status != KV_OK) return status;
    const int64_t n_rows = kv_packed_rows(from->n_tokens, job->info.seq_len);
    job->rows_done += n_rows;
    job->rows_made += there ? 0 : n_rows;
    job->bytes += file_bytes(path);
    *(there ? &job->n_kept : &job->n_files) += 1;
    return KV_OK;
}

static kv_status write_files(struct job *job, kv_error *err) {
    kv_status status = kv_make_dirs(job->options->out, err);
    kv_progress_begin(&job->progress, stderr, "cache", job->n_rows);
    for (int64_t i = 0; status == KV_OK && i < job->n_shards; i++) {
        char path[PATH_MAX];
        status = kv_cache_path(job->options->out, i, path, sizeof path, err);
        if (status == KV_OK) status = write_file(job, path, job->shards[i], err);
    }
    char size[32], note[64];
    snprintf(note, sizeof note, "rows  %s on disk", gigabytes(job->bytes, size));
    kv_progress_end(&job->progress, note);
    return status;
}

static kv_status run(struct job *job, kv_error *err) {
    kv_status status = open_corpora(job, err);
    if (status == KV_OK) status = plan_models(job, err);
    double present = 0;
    char path[PATH_MAX];
    for (int64_t i = 0; status == KV_OK && i < job->n_shards; i++) {
        status = kv_cache_path(job->options->out, i, path, sizeof path, err);
        if (status == KV_OK) present += file_bytes(path);
    }
    if (status == KV_OK) status = announce(job, present, err);
    if (status == KV_OK) status = load_models(job, err);
    if (status == KV_OK) status = check_files(job, err);
    return status == KV_OK ? write_files(job, err) : status;
}

static void free_job(struct job *job) {
    kv_model_free(job->args.base);
    kv_model_free(job->args.aux);
    for (int i = 0; job->corpora && i < job->options->n_corpora; i++) kv_corpus_free(job->corpora[i]);
    free(job->corpora);
    free(job->shards);
}

static void print_result(const struct job *job) {
    const kv_cache_info *info = &job->info;
    const double tokens = (double)(job->n_rows * info->seq_len);
    char size[32], token[32];
    if (job->n_kept > 0) printf("kept             %" PRIi64 " files that were there already\n", job->n_kept);
    printf("rows             %" PRIi64 " of %" PRIi64 " tokens\n", job->n_rows, info->seq_len);
    printf("size             %s, %s a token\n", gigabytes(job->bytes, size),
           gigabytes(job->bytes / tokens, token));
    printf("base             %s\n", info->base.fingerprint);
    if (info->aux.fingerprint[0]) printf("aux              %s\n", info->aux.fingerprint);
    printf("written to %s\n", job->options->out);
}

int kvdata_cache(int argc, char **argv) {
    static const struct argp argp = {.options = option_list,
                                     .parser = parse,
                                     .args_doc = "--base DIR --seq-len N --out DIR CORPUS...",
                                     .doc = doc,
                                     .help_filter = kv_help_filter};
    struct options options = {.n_seq = 16, .dtype = KV_BF16};
    if (argp_parse(&argp, argc, argv, 0, NULL, &options)) return 1;
    kv_error err = {0};
    static struct job job;
    job.options = &options;
    job.args = (kv_cache_build_args){.n_seq = options.n_seq, .progress = show, .context = &job};
    kv_status status = run(&job, &err);
    if (status == KV_OK) print_result(&job);
    free_job(&job);
    return kvdata_result(status, &err);
}

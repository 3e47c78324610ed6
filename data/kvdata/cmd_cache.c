// kvdata cache: all is checked (models, corpora, room on the disk, files that are there) before the first row
// is read, since what follows may take days; then one file a shard, made of parts that are kept whatever happens.
#include "core/text.h"
#include "data/corpus/packing.h"
#include "data/kvdata/cache/job.h"
#include "data/kvdata/kvdata.h"
#include "data/ranks/placement.h"
#include "data/ranks/ranks.h"
#include "data/system/help.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_BATCH = 1 << 16, MAX_SEQ_LEN = 1 << 20 };

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
    "What was interrupted, by Ctrl-C or worse, goes on behind the rows that are on disk when the same command is given again, in "
    "the middle of a shard as well; of a kill or a power cut the work of --save-every is lost at most. Until a file is complete "
    "its rows lie in cache-00000.h5" KV_CACHE_UNFINISHED
    ", and while they are put together there has to be room for them twice. With another batch, or on other "
    "machines, it may go on as well; with other models or settings it refuses to.\n"
    "\n"
    "Under mpirun or srun the processes share the rows, and DIR has to be seen by all of them. The files are the same to the "
    "byte as those of one process with as many threads as each of them has.\n"
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
    {"save-every", 'e', "SECONDS", 0, "keep what is done on disk so often (default 30; 0: after each batch)",
     0},
    {"force", 'f', NULL, 0, "replace caches of other content in DIR, also unfinished ones", 0},
    {0},
};

static void check_options(struct argp_state *state, const cache_options *o) {
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
    cache_options *o = state->input;
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
    case 'e': o->seconds = kvdata_real_option(state, "save-every", text, 0, 1e6); return 0;
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

static kv_status run(cache_job *job, kv_error *err) {
    kv_placement_announce("kvdata cache");
    kv_status status = kv_ranks_agree(cache_plan(job, err), err);
    if (status == KV_OK) status = kv_ranks_agree(cache_load_models(job, err), err);
    if (status == KV_OK) status = cache_agree(job, err);
    if (status == KV_OK) status = cache_look(job, err);
    if (status == KV_OK) status = kv_ranks_agree(cache_share(job, err), err);
    return status == KV_OK ? cache_make(job, err) : status;
}

static void free_job(cache_job *job) {
    kv_model_free(job->args.base);
    kv_model_free(job->args.aux);
    for (int i = 0; job->corpora && i < job->options->n_corpora; i++) kv_corpus_free(job->corpora[i]);
    free(job->corpora);
    free(job->shards);
    free(job->complete);
    free(job->parts.items);
    free(job->missing.items);
    free(job->mine.items);
    free(job->joiner);
    free(job->alone);
    free(job->reports);
    if (job->lock >= 0) close(job->lock);
}

static void print_result(const cache_job *job) {
    const kv_cache_info *info = &job->info;
    const double tokens = (double)(job->n_rows * info->seq_len);
    char size[32], token[32], path[PATH_MAX];
    double bytes = 0;
    for (int64_t i = 0; i < job->n_shards; i++)
        if (cache_shard_path(job, i, path, NULL) == KV_OK) bytes += cache_file_bytes(path);
    if (job->n_complete > 0)
        printf("kept             %" PRIi64 " files that were there already\n", job->n_complete);
    if (job->rows_in_parts > 0)
        printf("kept             %" PRIi64 " rows of files that were not complete\n", job->rows_in_parts);
    printf("rows             %" PRIi64 " of %" PRIi64 " tokens\n", job->n_rows, info->seq_len);
    printf("size             %s, %s a token\n", cache_bytes_text(bytes, size),
           cache_bytes_text(bytes / tokens, token));
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
    cache_options options = {.n_seq = 16, .dtype = KV_BF16, .seconds = 30};
    if (argp_parse(&argp, argc, argv, 0, NULL, &options)) return 1;
    kv_error err = {0};
    static cache_job job;
    job.options = &options;
    job.lock = -1;
    job.args = (kv_cache_build_args){.n_seq = options.n_seq, .seconds = options.seconds};
    kv_status status = run(&job, &err);
    if (status == KV_OK) print_result(&job);
    free_job(&job);
    return kvdata_result(status, &err);
}

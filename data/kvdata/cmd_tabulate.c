// kvdata tabulate: what of a predictor depends on the token alone, worked out for every token. What it will take, and
// what it saves, is said before weights are read.
#include "core/predictor/tabulated.h"
#include "data/checkpoint/pair.h"
#include "data/checkpoint/tabulated.h"
#include "data/file/path.h"
#include "data/kvdata/kvdata.h"
#include "data/system/blas.h"
#include "data/system/console.h"
#include "data/system/help.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct options {
    const char *base, *aux, *predictor, *out;
    kv_dtype dtype;
    bool force, dry_run;
};

static const char doc[] =
    "Works out, once for every token of the vocabulary, what of a predictor depends on the token alone: what maps make "
    "of the base's embedding, token tables, layers that are computed of the token. To read a prompt these are then "
    "looked up instead of computed.\v"
    "kvrun and kveval use the file where they are told to (--tabulated, tabulated:) and say so; predictions are the same "
    "but for rounding: of bf16, which is half as large, or of f32. The file is mapped, not read: processes share "
    "it, and memory is taken by tokens that occur. It says whose weights it was made from, and is refused with "
    "any others.\n"
    "\n"
    "What it takes on disk, and products (FLOPs) of a token with and without it, are said first; --dry-run says no "
    "more than that.\n"
    "\n"
    "Example, of predictors with a token table (predictor.token_table):\n"
    "  kvtrain my/predictor.yaml -s predictor.token_table=8 --output my/tables\n"
    "  kvdata tabulate --base my/base/final/model --aux my/tables/final/aux \\\n"
    "         --predictor my/tables/final/predictor";

enum { KEY_DRY_RUN = 256 };
static const struct argp_option option_list[] = {
    {"base", 'b', "DIR", 0, "checkpoint of the base (needed)", 0},
    {"aux", 'a', "DIR", 0, "checkpoint of the aux: not for predictors of the base's own first layers", 0},
    {"predictor", 'p', "DIR", 0, "the predictors (needed)", 0},
    {"out", 'o', "FILE", 0, "where to write (default: tabulated.safetensors beside the predictors)", 0},
    {"dtype", 'd', "TYPE", 0, "how numbers are kept: bf16 (default) or f32", 0},
    {"dry-run", KEY_DRY_RUN, NULL, 0, "only say what it will take and save", 0},
    {"force", 'f', NULL, 0, "replace the file that is there", 0},
    {0},
};

static error_t parse(int key, char *text, struct argp_state *state) {
    struct options *o = state->input;
    switch (key) {
    case 'b': o->base = text; return 0;
    case 'a': o->aux = text; return 0;
    case 'p': o->predictor = text; return 0;
    case 'o': o->out = text; return 0;
    case 'f': o->force = true; return 0;
    case KEY_DRY_RUN: o->dry_run = true; return 0;
    case 'd':
        o->dtype = strcmp(text, "f32") == 0 ? KV_F32 : KV_BF16;
        if (o->dtype == KV_BF16 && strcmp(text, "bf16") != 0)
            argp_error(state, "--dtype: '%s', expected bf16 or f32", text);
        return 0;
    case ARGP_KEY_END:
        if (!o->base) argp_error(state, "--base DIR is needed");
        if (!o->predictor) argp_error(state, "--predictor DIR is needed");
        return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

struct job {
    const struct options *options;
    char out[PATH_MAX];
    kv_model_spec specs[2];
    const kv_model_spec *aux; // the base's for a prefix
    kv_progress progress;
};

static kv_status check(struct job *job, kv_error *err) {
    const struct options *o = job->options;
    const kv_pair pair = {.base = o->base,
                          .aux = o->aux,
                          .predictor = o->predictor,
                          .ids_only = true,
                          .base_spec = &job->specs[0],
                          .aux_spec = &job->specs[1]};
    const int n = o->out ? snprintf(job->out, sizeof job->out, "%s", o->out)
                         : snprintf(job->out, sizeof job->out, "%s/%s", o->predictor, kv_tabulated_name);
    if (n >= (int)sizeof job->out) return kv_path_too_long(o->out ? o->out : o->predictor, err);
    job->aux = &job->specs[o->aux ? 1 : 0];
    kv_status status = kv_pair_check(&pair, err);
    if (!status && !o->force && !o->dry_run && kv_path_exists(job->out))
        status = kv_fail(err, KV_ERR_ARGUMENT, "%s exists (--force replaces it)", job->out);
    return status;
}

static kv_status announce(struct job *job, kv_error *err) {
    const struct options *o = job->options;
    kv_predictor *shape;
    kv_tabulated_size size = {0};
    double room;
    kv_status status =
        kv_predictor_shape(o->predictor, &job->specs[0], o->aux ? job->aux : NULL, &shape, err);
    if (status) return status;
    status = kv_tabulated_measure(shape, &job->specs[0], job->aux, o->dtype, &size, err);
    kv_predictor_free(shape);
    if (status) return kv_fail_within(err, status, "%s", o->predictor);
    fprintf(stderr,
            "kvdata tabulate: %s, %.2f MB on disk, mapped where it is used: %" PRIi64 " tokens, %" PRIi64
            " numbers each (%.1f kB) as %s\n"
            "maps of a token: %" PRIu64 " FLOPs, %" PRIu64 " with it\n",
            job->out, size.bytes / 1e6, job->specs[0].vocab_size, size.width,
            (double)size.width * (double)kv_dtype_size(o->dtype) / 1e3, o->dtype == KV_F32 ? "f32" : "bf16",
            size.products, size.products_left);
    if (!kv_path_room(job->out, &room) || room >= size.bytes) return KV_OK;
    return kv_fail(err, KV_ERR_IO, "%s: %.2f MB are free, the tables take %.2f MB%s", job->out, room / 1e6,
                   size.bytes / 1e6, o->dtype == KV_F32 ? " (half of it with --dtype bf16)" : "");
}

static bool go_on(void *context, int64_t n_tokens) {
    struct job *job = context;
    kv_progress_show(&job->progress, n_tokens, "tokens");
    return !kv_console_interrupted();
}

static kv_status make(struct job *job, kv_error *err) {
    const struct options *o = job->options;
    kv_model *base = NULL;
    kv_predictor *predictor = NULL;
    char whose[17];
    kv_status status = kv_blas_reserve(err);
    if (!status)
        status = kv_checkpoint_load_frozen(o->base, &job->specs[0], KV_FROZEN_STORED, &base, whose, err);
    const kv_fingerprints found = {.base = whose};
    if (!status)
        status = kv_predictor_load(o->predictor, &job->specs[0], o->aux ? job->aux : NULL, &found, NULL,
                                   &predictor, err);
    if (!status) {
        kv_progress_begin(&job->progress, stderr, "tabulate", job->specs[0].vocab_size);
        status = kv_tabulated_write(job->out, predictor, base, whose, job->aux, o->dtype, go_on, job, err);
        kv_progress_end(&job->progress, status ? "stopped" : "tokens");
    }
    kv_predictor_free(predictor);
    kv_model_free(base);
    return status;
}

int kvdata_tabulate(int argc, char **argv) {
    static const struct argp argp = {
        .options = option_list, .parser = parse, .doc = doc, .help_filter = kv_help_filter};
    struct options options = {.dtype = KV_BF16};
    kv_error err = {0};
    if (argp_parse(&argp, argc, argv, 0, NULL, &options)) return 2;
    struct job *job = calloc(1, sizeof *job);
    if (!job) return kvdata_result(kv_fail(&err, KV_ERR_MEMORY, "out of memory"), &err);
    job->options = &options;
    kv_status status = check(job, &err);
    if (!status) status = announce(job, &err);
    if (!status && !options.dry_run) status = make(job, &err);
    free(job);
    return kvdata_result(status, &err);
}

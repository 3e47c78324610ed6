// kvdata sample: a corpus that a model writes. All is checked before its weights are read; what has been drawn is kept
// beside the corpus to come, which is written when there is enough of it.
#include "core/flops.h"
#include "core/text.h"
#include "data/checkpoint/checkpoint.h"
#include "data/checkpoint/pair.h"
#include "data/file/hash.h"
#include "data/file/path.h"
#include "data/kvdata/kvdata.h"
#include "data/kvdata/sample/sample.h"
#include "data/ranks/placement.h"
#include "data/ranks/ranks.h"
#include "data/system/console.h"
#include "data/system/help.h"
#include "data/system/limits.h"
#include "data/system/memory.h"
#include "data/system/warning.h"
#include "data/tokenizer/files.h"
#include "infer/draw.h"

#include <inttypes.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DEFAULT_MAX_TOKENS = 512, DEFAULT_BATCH = 32, MAX_BATCH = 1 << 16 };

// ---- Options -------------------------------------------------------------------------------------------

struct options {
    const char *model, *tokenizer, *out, *prefix;
    int64_t documents, tokens, first, max_tokens, min_count, batch, threads;
    kv_sampling sampling;
    bool dry_run, force;
};

static const char doc[] =
    "Draws documents from a model, as many as wanted, and writes them as a token shard that kvtrain trains on: text as the "
    "model itself would write it.\v"
    "Each document begins as kvdata tokenize begins one, with BOS (where the tokenizer has none, behind the EOS of a document "
    "before, which is no part of it), and ends with the EOS that the model draws, or after --max-tokens. Tokens are drawn at "
    "--temperature; of the K most probable (--top-k), of those the fewest that have P of the mass (--top-p), of those the ones at "
    "least M times as probable as the first (--min-p), in this order.\n"
    "\n"
    "A document depends on the model, these settings, --seed and its own number alone: the shard is the same to the byte for any "
    "--batch and --threads, and however often it was interrupted. Stopped by Ctrl-C or worse, the same command goes on "
    "behind the documents that are on disk (in FILE" SAMPLE_UNFINISHED
    "); with another model or other settings it refuses to. "
    "FILE is there when all is done. --tokens or --documents may be raised on the way. With --first several machines "
    "draw parts of one corpus.\n"
    "\n"
    "Under mpirun or srun the processes share the documents; any other number of them, or one, may go on, and FILE is the same "
    "to the byte. Only the first of them reads and writes it.\n"
    "\n"
    "--min-count N keeps of the documents drawn those that the model wrote at least N times, each once: what it is sure of.\n"
    "\n"
    "Ten thousand tokens; what more would take; what a model wrote twice:\n"
    "  kvdata sample --model my/base/final/model --temperature 0.7 \\\n"
    "         --tokens 10000 --max-tokens 64 --out my/sampled.h5\n"
    "  kvdata sample --model my/base/final/model --temperature 0.7 \\\n"
    "         --tokens 1000000000 --out my/large.h5 --dry-run\n"
    "  kvdata sample --model my/base/final/model --temperature 0.1 \\\n"
    "         --documents 200 --max-tokens 6 --min-count 2 --out my/twice.h5\n"
    "\n"
    "Predictors that learn on half of that and half of other text. As my/mixed.yaml:\n"
    "  extends: my/predictor.yaml\n"
    "  output: my/mixed\n"
    "  data:\n"
    "    train: null\n"
    "    mixture:\n"
    "      - {corpus: my/sampled.h5, weight: 1}\n"
    "      - {corpus: my/train.h5, weight: 1}\n"
    "\n"
    "  kvtrain my/mixed.yaml";

enum {
    KEY_DOCUMENTS = 256,
    KEY_TOKENS,
    KEY_FIRST,
    KEY_TOP_K,
    KEY_TOP_P,
    KEY_MIN_P,
    KEY_PREFIX,
    KEY_BATCH,
    KEY_THREADS,
    KEY_DRY_RUN
};

static const struct argp_option option_list[] = {
    {"model", 'm', "DIR", 0,
     "checkpoint of the model that writes, or a name such as random:openelm-270m (needed)", 0},
    {"out", 'o', "FILE", 0, "where to write: NAME.h5 (needed)", 0},
    {"tokenizer", 't', "PATH", 0, "a tokenizer, or a directory with one (default: the model's own)", 0},
    {"documents", KEY_DOCUMENTS, "N", 0, "draw so many documents (this or --tokens is needed)", 0},
    {"tokens", KEY_TOKENS, "N", 0, "draw documents until they have so many tokens", 0},
    {"temperature", 'T', "T", 0, "divides the logits (default 1)", 0},
    {"top-k", KEY_TOP_K, "K", 0, "draw from the K most probable tokens only (default 0: all)", 0},
    {"top-p", KEY_TOP_P, "P", 0, "draw from the fewest tokens that have P of the mass only (default 1: all)",
     0},
    {"min-p", KEY_MIN_P, "M", 0,
     "draw from tokens at least M times as probable as the first (default 0: all)", 0},
    {"seed", 'S', "S", 0, "another seed draws other documents (default 1)", 0},
    {"max-tokens", 'l', "N", 0,
     "longest document, BOS and EOS included (default 512, or the model's context if that is less)", 0},
    {"prefix", KEY_PREFIX, "TEXT", 0, "every document begins with this text", 0},
    {"min-count", 'c', "N", 0,
     "keep those that were drawn at least N times, each once (default 0: all, as they were drawn)", 0},
    {"first", KEY_FIRST, "I", 0, "number of the first document (default 0)", 0},
    {"batch", 'n', "N", 0, "documents that are drawn at the same time (default: 32 for each thread)", 0},
    {"threads", KEY_THREADS, "N", 0, "how many at a time (default: OMP_NUM_THREADS, or one for each core)",
     0},
    {"dry-run", KEY_DRY_RUN, NULL, 0, "draw for a second, say what all of it would take, and write nothing",
     0},
    {"force", 'f', NULL, 0, "replace FILE, and what is there of it already", 0},
    {0},
};

static void check_options(struct argp_state *state, struct options *o) {
    kv_error err = {0};
    if (!o->model) argp_error(state, "--model DIR is needed");
    if (!o->out) argp_error(state, "--out FILE is needed");
    if (!kv_path_ends(o->out, ".h5"))
        argp_error(state, "--out: '%s', expected the name of a token shard, NAME.h5", o->out);
    if (!o->documents == !o->tokens)
        argp_error(state, o->tokens ? "--documents and --tokens exclude each other"
                                    : "--documents N or --tokens N is needed");
    if (o->sampling.temperature == 0)
        argp_error(state,
                   "--temperature: 0 would write one document over and over, expected a positive number");
    if (kv_sampling_check(&o->sampling, &err)) argp_error(state, "%s", err.message);
}

static error_t parse(int key, char *text, struct argp_state *state) {
    struct options *o = state->input;
    const int64_t most = INT64_C(1) << 50;
    switch (key) {
    case 'm': o->model = text; return 0;
    case 'o': o->out = text; return 0;
    case 't': o->tokenizer = text; return 0;
    case 'f': o->force = true; return 0;
    case KEY_PREFIX: o->prefix = text; return 0;
    case KEY_DRY_RUN: o->dry_run = true; return 0;
    case KEY_DOCUMENTS: o->documents = kvdata_int_option(state, "documents", text, 1, most); return 0;
    case KEY_TOKENS: o->tokens = kvdata_int_option(state, "tokens", text, 1, most); return 0;
    case KEY_FIRST: o->first = kvdata_int_option(state, "first", text, 0, most); return 0;
    case 'T': o->sampling.temperature = kvdata_real_option(state, "temperature", text, 0, 1e6); return 0;
    case KEY_TOP_P: o->sampling.top_p = kvdata_real_option(state, "top-p", text, 0, 1); return 0;
    case KEY_MIN_P: o->sampling.min_p = kvdata_real_option(state, "min-p", text, 0, 1); return 0;
    case KEY_TOP_K: o->sampling.top_k = kvdata_int_option(state, "top-k", text, 0, INT32_MAX); return 0;
    case 'S': o->sampling.seed = (uint64_t)kvdata_int_option(state, "seed", text, 0, INT64_MAX); return 0;
    case 'l': o->max_tokens = kvdata_int_option(state, "max-tokens", text, 1, INT32_MAX); return 0;
    case 'c': o->min_count = kvdata_int_option(state, "min-count", text, 0, INT32_MAX); return 0;
    case 'n': o->batch = kvdata_int_option(state, "batch", text, 1, MAX_BATCH); return 0;
    case KEY_THREADS: o->threads = kvdata_int_option(state, "threads", text, 1, 1024); return 0;
    case ARGP_KEY_END: check_options(state, o); return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

// ---- The model and its documents -----------------------------------------------------------------------

struct job {
    const struct options *options;
    kv_model_spec spec;
    kv_tokenizer *tokenizer;
    kv_bundle tokenizer_files;
    char fingerprint[17];
    int32_t *opening; // of the plan
    int32_t eos;
    int64_t batch;
    kv_document_plan plan;
    kv_shard_info info;
    sample_goal goal;
    sample_store store;
    double begun;                       // a dry run
    int64_t drawn, taken, taken_tokens; // by it: tokens, and documents that are complete
};

static kv_status open_tokenizer(struct job *job, kv_error *err) {
    const struct options *o = job->options;
    const char *path = o->tokenizer ? o->tokenizer : o->model;
    kv_status status = KV_OK;
    if (!o->tokenizer && !kv_tokenizer_present(o->model)) {
        status = kv_checkpoint_spec(o->model, &job->spec, err); // no model at all is the greater lack
        if (status) return status;
        return kv_fail(err, KV_ERR_ARGUMENT, "%s has no tokenizer: give one with --tokenizer", o->model);
    }
    status = kv_tokenizer_open(path, &job->tokenizer, err);
    if (!status) status = kv_tokenizer_gather(path, &job->tokenizer_files, err);
    return status;
}

// What every document begins with: BOS, or behind the EOS of another document, and the prefix.
static kv_status plan_opening(struct job *job, kv_error *err) {
    const int32_t bos = kv_tokenizer_bos(job->tokenizer), eos = kv_tokenizer_eos(job->tokenizer);
    const char *prefix = job->options->prefix ? job->options->prefix : "";
    int32_t *ids = NULL;
    int64_t n = 0;
    kv_status status = kv_tokenizer_encode(job->tokenizer, prefix, strlen(prefix), &ids, &n, err);
    if (status) return kv_fail_within(err, status, "--prefix");
    kv_document_plan *plan = &job->plan;
    job->opening = calloc((size_t)n + 1, sizeof *job->opening);
    if (job->opening) {
        const int32_t start = bos >= 0 ? bos : eos;
        if (start >= 0) job->opening[plan->n_opening++] = start;
        memcpy(job->opening + plan->n_opening, ids, (size_t)n * sizeof *ids);
        plan->n_opening += n;
    }
    free(ids);
    if (!job->opening) return kv_fail(err, KV_ERR_MEMORY, "out of memory");
    if (plan->n_opening == 0)
        return kv_fail(err, KV_ERR_ARGUMENT,
                       "the tokenizer has neither BOS nor EOS for a document to begin with: give a --prefix");
    plan->opening = job->opening;
    plan->n_before = bos < 0 && eos >= 0;
    plan->next = bos == eos ? -1 : bos;
    plan->closing = bos < 0 ? eos : -1; // nothing else would stand between this document and the next
    job->eos = eos;
    plan->ends = &job->eos, plan->n_ends = eos >= 0;
    return KV_OK;
}

static kv_status plan_length(struct job *job, kv_error *err) {
    kv_document_plan *plan = &job->plan;
    const int64_t context = job->spec.context_length - plan->n_before,
                  least = plan->n_opening - plan->n_before + 1;
    plan->max_tokens = job->options->max_tokens;
    if (plan->max_tokens == 0) plan->max_tokens = context < DEFAULT_MAX_TOKENS ? context : DEFAULT_MAX_TOKENS;
    if (plan->max_tokens < least || plan->max_tokens > context)
        return kv_fail(err, KV_ERR_RANGE,
                       "--max-tokens: %" PRIi64 ", expected from %" PRIi64
                       " (what a document begins with, and one more) to %" PRIi64 " (the context of %s)",
                       plan->max_tokens, least, context, job->options->model);
    return KV_OK;
}

static kv_status plan_documents(struct job *job, kv_error *err) {
    const struct options *o = job->options;
    const kv_pair pair = {
        .base = o->model, .tokenizer = o->tokenizer, .opened = job->tokenizer, .base_spec = &job->spec};
    kv_status status = kv_pair_check(&pair, err);
    if (!status) status = plan_opening(job, err);
    if (!status) status = plan_length(job, err);
    if (status) return status;
    const int64_t words = kv_tokenizer_vocab_size(job->tokenizer);
    job->plan.sampling = o->sampling;
    job->plan.n_ids = words < job->spec.vocab_size ? words : job->spec.vocab_size;
    job->goal = (sample_goal){.documents = o->documents,
                              .tokens = o->tokens,
                              .min_count = o->min_count,
                              .max_tokens = job->plan.max_tokens,
                              .ends = job->plan.ends,
                              .n_ends = job->plan.n_ends};
    const int threads = o->threads ? (int)o->threads : omp_get_max_threads();
    omp_set_num_threads(threads);
    job->batch = o->batch ? o->batch : DEFAULT_BATCH * (int64_t)threads;
    const int64_t most = (o->documents + kv_n_ranks() - 1) / kv_n_ranks();
    if (o->documents && job->batch > most) job->batch = most;
    return kv_limits_try_threads(threads, err);
}

static kv_status load(struct job *job, kv_error *err) {
    const char *model = job->options->model;
    char what[200], ranks[64] = "";
    kv_status status =
        kv_checkpoint_load_frozen(model, &job->spec, KV_FROZEN_STORED, &job->plan.model, NULL, err);
    if (status) return status;
    kv_checkpoint_fingerprint(job->plan.model, job->fingerprint);
    if (kv_node_ranks() > 1)
        snprintf(ranks, sizeof ranks, " on each of %d processes of this machine", kv_node_ranks());
    snprintf(what, sizeof what,
             "%" PRIi64 " documents of %" PRIi64 " tokens at a time%s (less with --batch, --max-tokens)",
             job->batch, job->plan.max_tokens, ranks);
    return kv_memory_check(kv_node_ranks() * kv_document_bytes(&job->plan, job->batch, omp_get_max_threads()),
                           what, err);
}

// ---- Drawing -------------------------------------------------------------------------------------------

// All that decides what a document is. The model's path is for people.
static json_t *settings_of(const struct job *job) {
    const kv_sampling *s = &job->plan.sampling;
    json_t *opening = json_array();
    for (int64_t i = 0; i < job->plan.n_opening; i++)
        json_array_append_new(opening, json_integer(job->opening[i]));
    return json_pack("{s:s, s:s, s:s, s:f, s:I, s:f, s:f, s:I, s:I, s:I, s:o}", "model", job->fingerprint,
                     "tokenizer", job->info.tokenizer, "cuts", job->info.cuts, "temperature", s->temperature,
                     "top_k", (json_int_t)s->top_k, "top_p", s->top_p, "min_p", s->min_p, "seed",
                     (json_int_t)s->seed, "first", (json_int_t)job->options->first, "max_tokens",
                     (json_int_t)job->plan.max_tokens, "opening", opening);
}

static void describe(struct job *job) {
    const struct options *o = job->options;
    kv_tokenizer_id id;
    kv_tokenizer_identify(job->tokenizer, &id);
    job->info = (kv_shard_info){.vocab_size = id.vocab_size,
                                .bos_id = kv_tokenizer_bos(job->tokenizer),
                                .eos_id = kv_tokenizer_eos(job->tokenizer)};
    memcpy(job->info.tokenizer, id.hash, sizeof job->info.tokenizer);
    memcpy(job->info.cuts, id.cuts, sizeof job->info.cuts);
    snprintf(job->info.source, sizeof job->info.source,
             "drawn from %.*s (%s): temperature %g, top-k %" PRIi64 ", top-p %g, min-p %g, seed %" PRIu64
             ", from document %" PRIi64,
             KV_HEAD(o->model, 90), job->fingerprint, o->sampling.temperature, o->sampling.top_k,
             o->sampling.top_p, o->sampling.min_p, o->sampling.seed, o->first);
}

static void print_counts(const struct job *job, const sample_counts *c) {
    printf("drawn            %" PRIi64 " documents, %" PRIi64 " tokens\n", c->drawn, c->drawn_tokens);
    if (job->goal.min_count > 0)
        printf("  distinct       %" PRIi64 ", of which %" PRIi64 " came %" PRIi64 " times or more\n",
               c->distinct, c->documents, job->goal.min_count);
    printf("documents        %" PRIi64 "\n", c->documents);
    printf("  cut off        %" PRIi64 ", after %" PRIi64 " tokens\n", c->cut, job->goal.max_tokens);
    printf("tokens           %" PRIi64 "\n", c->tokens);
    printf("  per document   %.1f\n", (double)c->tokens / (double)c->documents);
    printf("model            %s\n", job->fingerprint);
    printf("written to %s\n", job->options->out);
}

static void warn_of_loss(const struct job *job, const sample_counts *counts) {
    if (job->options->max_tokens == 0 && kv_much_is_lost(counts->cut, counts->documents))
        kv_warn("%" PRIi64 " of %" PRIi64 " documents are cut off after %" PRIi64
                " tokens; a larger --max-tokens lets them end",
                counts->cut, counts->documents, job->goal.max_tokens);
}

// Rank 0's. What could not be written is there to go on with; where nothing was drawn nothing is.
static kv_status finish(struct job *job, kv_status status, sample_counts *counts, kv_error *err) {
    const char *out = job->options->out;
    if (!status)
        status = sample_write(&job->store, out, &job->info, &job->tokenizer_files, &job->goal, counts, err);
    if (!status || (job->store.opened && job->store.n_pieces == 0)) {
        kv_error removing = {0};
        const kv_status removed = sample_store_remove(&job->store, &removing);
        if (!status && removed) status = kv_fail(err, removed, "%s", removing.message);
    }
    sample_store_close(&job->store);
    return status;
}

// Ranks that drew from other models or settings would make a corpus of several.
static kv_status agree(const struct job *job, const json_t *settings, kv_error *err) {
    char *text = settings ? json_dumps(settings, JSON_SORT_KEYS) : NULL, hash[17] = "";
    kv_status status = text ? KV_OK : kv_fail(err, KV_ERR_MEMORY, "out of memory");
    status = kv_ranks_agree(status, err);
    if (!status) {
        const int64_t goal[] = {job->goal.documents, job->goal.tokens};
        kv_hash_text(kv_hash64(kv_hash64(0, goal, sizeof goal), text, strlen(text)), hash);
        status = kv_ranks_same("the model", job->fingerprint, err);
    }
    if (!status) status = kv_ranks_same("what is to be drawn", hash, err);
    free(text);
    return status;
}

static kv_status sample(struct job *job, kv_error *err) {
    const struct options *o = job->options;
    json_t *settings = settings_of(job);
    sample_counts counts;
    kv_status status = agree(job, settings, err);
    job->store.lock = -1;
    if (!status && kv_rank_leads())
        status = sample_store_open(&job->store, o->out, &job->info, settings, o->force, err);
    status = kv_ranks_agree(status, err);
    json_decref(settings);
    if (!status) status = sample_draw(&job->store, &job->plan, &job->goal, o->first, job->batch, err);
    if (kv_rank_leads()) status = finish(job, status, &counts, err);
    status = kv_ranks_agree(status, err);
    if (status || !kv_rank_leads()) return status;
    print_counts(job, &counts);
    warn_of_loss(job, &counts);
    return KV_OK;
}

// ---- What it would take --------------------------------------------------------------------------------

static const double trial_seconds = 1;

static kv_status count_trial(void *context, int64_t number, const int32_t *ids, int64_t n, bool *enough,
                             kv_error *err) {
    struct job *job = context;
    (void)number, (void)ids, (void)enough, (void)err;
    job->taken++;
    job->taken_tokens += n;
    return KV_OK;
}

static bool try_on(void *context, int64_t n_tokens) {
    struct job *job = context;
    job->drawn = n_tokens;
    return kv_now() - job->begun < trial_seconds && !kv_console_interrupted();
}

// Documents are handed on in order, so that the short ones among them are no more than they should be.
static void print_trial(const struct job *job, double seconds) {
    const sample_goal *goal = &job->goal;
    const kv_document_plan *plan = &job->plan;
    const double longest = (double)plan->max_tokens, in_opening = (double)(plan->n_opening - plan->n_before);
    const double length = job->taken > 0 ? (double)job->taken_tokens / (double)job->taken : longest;
    const double documents = goal->documents ? (double)goal->documents : (double)goal->tokens / length;
    const double tokens = goal->documents ? documents * length : (double)goal->tokens;
    const double rate = (double)job->drawn / seconds;
    const double flops = documents * (double)kv_document_flops(plan, (int64_t)(length + 0.5));
    char text[5][32];
    printf("model            %s, %s parameters\n", job->options->model,
           kv_count_text((double)kv_model_size(plan->model, true), text[0]));
    printf("documents        %s%.4g of %.4g tokens, %s\n", goal->documents ? "" : "about ", documents, length,
           job->taken > 0 ? "the mean of those drawn just now" : "the most that they can have");
    printf("tokens           %s%s\n", goal->documents ? "about " : "", kv_count_text(tokens, text[1]));
    printf("flops            %s, %s a token\n", kv_count_text(flops, text[2]),
           kv_count_text(flops / tokens, text[3]));
    printf("memory           %.3g MB for %" PRIi64 " at a time, beside the weights\n",
           kv_document_bytes(plan, job->batch, omp_get_max_threads()) / 1e6, job->batch);
    printf("time             %s at %.4g tokens/s, measured on short documents\n",
           kv_duration((tokens - documents * in_opening) / rate, text[4]), rate);
}

// What all ranks have drawn in that second counts.
static kv_status try_out(struct job *job, kv_error *err) {
    job->begun = kv_now();
    kv_status status = kv_draw_documents(&job->plan, job->options->first + kv_rank(), kv_n_ranks(), -1,
                                         job->batch, count_trial, try_on, job, err);
    if (!status && kv_console_interrupted()) status = kv_fail(err, KV_ERR_INTERRUPTED, "interrupted");
    const double seconds = kv_now() - job->begun;
    status = kv_ranks_agree(status, err);
    if (status) return status;
    double sums[] = {(double)job->drawn, (double)job->taken, (double)job->taken_tokens};
    kv_ranks_sum(sums, 3);
    job->drawn = (int64_t)sums[0], job->taken = (int64_t)sums[1], job->taken_tokens = (int64_t)sums[2];
    print_trial(job, seconds);
    return KV_OK;
}

// ---- The command ---------------------------------------------------------------------------------------

static kv_status get_ready(struct job *job, kv_error *err) {
    const struct options *o = job->options;
    if (!o->force && !o->dry_run && kv_path_exists(o->out))
        return kv_fail(err, KV_ERR_ARGUMENT, "%s: is there already; --force replaces it", o->out);
    kv_status status = open_tokenizer(job, err);
    if (!status) status = plan_documents(job, err);
    return status ? status : load(job, err);
}

static kv_status run(struct job *job, kv_error *err) {
    kv_placement_announce("kvdata sample");
    const kv_status status = kv_ranks_agree(get_ready(job, err), err);
    if (status) return status;
    describe(job);
    // Whoever is asked to stop may not have found out how the tokenizer cuts text.
    if (kv_ranks_interrupted())
        return kv_fail(err, KV_ERR_INTERRUPTED, "interrupted before anything was drawn");
    return job->options->dry_run ? try_out(job, err) : sample(job, err);
}

int kvdata_sample(int argc, char **argv) {
    static const struct argp argp = {.options = option_list,
                                     .parser = parse,
                                     .args_doc = "--model DIR --out FILE",
                                     .doc = doc,
                                     .help_filter = kv_help_filter};
    struct options options = {.sampling = {.temperature = 1, .top_p = 1, .seed = 1}};
    if (argp_parse(&argp, argc, argv, 0, NULL, &options)) return 1;
    kv_error err = {0};
    static struct job job;
    job.options = &options;
    kv_status status = run(&job, &err);
    kv_model_free(job.plan.model);
    kv_bundle_free(&job.tokenizer_files);
    kv_tokenizer_free(job.tokenizer);
    free(job.opening);
    return kvdata_result(status, &err);
}

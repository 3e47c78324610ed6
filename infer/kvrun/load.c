// From options to loaded models that fit each other.
#include "infer/kvrun/kvrun.h"

#include "data/checkpoint/checkpoint.h"
#include "data/checkpoint/pair.h"
#include "data/checkpoint/random.h"
#include "data/checkpoint/tabulated.h"
#include "data/system/blas.h"
#include "data/system/console.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// ---- Checks, before any weights are loaded -------------------------------------------------------------

// What is asked for must fit each model; *room shrinks to what does.
static kv_status check_context(const kvrun *run, const char *dir, int64_t context, int64_t *room,
                               kv_error *err) {
    if (run->options.context > context)
        return kv_fail(err, KV_ERR_RANGE, "--context %lld does not fit the context of %s, %lld tokens",
                       (long long)run->options.context, dir, (long long)(context > 0 ? context : 0));
    if (context < 1)
        return kv_fail(err, KV_ERR_RANGE, "%s: its context leaves no room for tokens to look ahead", dir);
    if (context < *room) *room = context;
    return KV_OK;
}

// Ids in, ids out, and no text to stop at.
static bool is_wordless(const kvrun_options *o) {
    return o->prompt_ids && (o->ids || o->json) && o->n_stops == 0;
}

// Vocabulary and shapes; whose weights it was made of is known once these are.
static kv_status check_tabulated(const kvrun *run, kv_error *err) {
    const kvrun_options *o = &run->options;
    const kv_model_spec *base = &run->specs[0], *aux = o->aux ? &run->specs[1] : NULL;
    kv_predictor *shape;
    kv_status status = kv_predictor_shape(o->predictor, base, aux, &shape, err);
    if (status == KV_OK) status = kv_tabulated_use(o->tabulated, base, aux ? aux : base, NULL, &shape, err);
    kv_predictor_free(shape);
    return status == KV_OK ? KV_OK : kv_fail_within(err, status, "--tabulated");
}

static kv_status check_pair(kvrun *run, kv_error *err) {
    const kvrun_options *o = &run->options;
    const kv_pair pair = {.base = o->base,
                          .aux = o->aux,
                          .predictor = o->predictor,
                          .tokenizer = o->tokenizer,
                          .opened = run->tokenizer,
                          .ids_only = is_wordless(o),
                          .base_spec = &run->specs[0],
                          .aux_spec = &run->specs[1]};
    run->context = o->context ? o->context : INT64_MAX;
    kv_status status = kv_pair_check(&pair, err);
    if (status == KV_OK && o->tabulated) status = check_tabulated(run, err);
    if (status == KV_OK)
        status = check_context(run, o->base, run->specs[0].context_length, &run->context, err);
    if (status != KV_OK || !o->aux) return status;
    const int64_t room = run->specs[1].context_length - kv_pruning_lookahead(&o->pruning);
    return check_context(run, o->aux, room, &run->context, err);
}

// ---- Tokenizer and chat template -----------------------------------------------------------------------

// A model's own, which is there; without one that can be read all ids are the model's.
static kv_status open_own_tokenizer(kvrun *run, const char *dir, kv_error *err) {
    kv_status status = kv_tokenizer_open(dir, &run->tokenizer, err);
    if (status == KV_ERR_FORMAT && is_wordless(&run->options)) return KV_OK; // kv_pair_check warns of it
    run->options.tokenizer = dir;
    return status;
}

// What else to do where there is no tokenizer: the first of what needs one.
static const char *without_words(const kvrun_options *o) {
    if (o->chat) return "which --chat puts messages into ids with";
    if (!o->prompt_ids) return "or use --prompt-ids with --ids or --json";
    if (o->n_stops > 0) return "or leave out --stop, which is about text";
    return "or add --ids or --json";
}

static kv_status open_tokenizer(kvrun *run, kv_error *err) {
    kvrun_options *o = &run->options;
    if (o->tokenizer) return kv_tokenizer_open(o->tokenizer, &run->tokenizer, err);
    if (kv_tokenizer_present(o->base)) return open_own_tokenizer(run, o->base, err);
    if (o->aux && kv_tokenizer_present(o->aux)) return open_own_tokenizer(run, o->aux, err);
    if (is_wordless(o)) return KV_OK;
    kv_status status =
        kv_checkpoint_spec(o->base, &run->specs[0], err); // no model at all is the greater lack
    if (status != KV_OK) return status;
    return kv_fail(err, KV_ERR_ARGUMENT, "%s has no tokenizer%s: give one with --tokenizer, %s", o->base,
                   o->aux ? ", nor has its aux" : "", without_words(o));
}

// Ids are answered with ids even where they cannot be turned into text.
static kv_status check_words(kvrun *run, kv_error *err) {
    const kvrun_options *o = &run->options;
    run->n_ids = run->specs[0].vocab_size;
    if (!run->tokenizer) return KV_OK;
    if (kv_tokenizer_vocab_size(run->tokenizer) < run->n_ids)
        run->n_ids = kv_tokenizer_vocab_size(run->tokenizer);
    run->speaks = kv_tokenizer_speaks(run->tokenizer, err) == KV_OK;
    return run->speaks || ((o->ids || o->json) && o->n_stops == 0) ? KV_OK : KV_ERR_FORMAT;
}

static kv_status open_chat(kvrun *run, kv_error *err) {
    const kvrun_options *o = &run->options;
    kv_status status = kv_chat_template_find(o->tokenizer, run->tokenizer, o->base, &run->chat, err);
    if (status != KV_OK) return kv_fail_within(err, status, "--chat");
    run->end = kv_tokenizer_find(run->tokenizer, kv_chat_end(&run->chat));
    return KV_OK;
}

// ---- Weights -------------------------------------------------------------------------------------------

// Large models of random weights take seconds.
static kv_status announce(const kvrun *run, const char *dir, kv_error *err) {
    if (kv_console_interrupted()) return kv_fail(err, KV_ERR_INTERRUPTED, "interrupted");
    if (!run->options.quiet && kv_console_redraws(STDERR_FILENO))
        fprintf(stderr, "\r\033[Kloading %s ...", dir);
    return KV_OK;
}

static kv_status load_model(const kvrun *run, const char *dir, const kv_model_spec *spec, char *fingerprint,
                            kv_model **model, kv_error *err) {
    kv_status status = announce(run, dir, err);
    if (status != KV_OK) return status;
    return kv_checkpoint_load_frozen(dir, spec, run->options.dtype, model, fingerprint, err);
}

// A random predictor was made for no pair in particular, and hashing large models takes a while.
static bool asks_for_fingerprints(const kvrun_options *o) {
    return o->predictor && (o->tabulated || !kv_is_random_predictor(o->predictor));
}

// Whether a prompt is saved or loaded, and has to be somebody's.
static bool is_saved(const kvrun_options *o) {
    return o->save_prompt || o->load_prompt;
}

// In a conversation it may be, later: weights that are converted lose what they are known by.
static bool may_be_saved(const kvrun_options *o) {
    return is_saved(o) || (kvrun_is_interactive(o) && o->dtype != KV_FROZEN_STORED);
}

static kv_status load_predictor(kvrun *run, kv_error *err) {
    const char *dir = run->options.predictor;
    kv_system *system = &run->system;
    const bool prefix = !run->options.aux; // the base's own first layers
    const kv_fingerprints found = {run->fingerprints[0], prefix ? NULL : run->fingerprints[1]};
    if (prefix) system->aux = system->base;
    kv_status status = announce(run, dir, err);
    if (status != KV_OK) return status;
    status = kv_predictor_load(dir, &system->base->spec, prefix ? NULL : &system->aux->spec,
                               asks_for_fingerprints(&run->options) ? &found : NULL, NULL, &system->predictor,
                               err);
    if (status == KV_OK && (is_saved(&run->options) || kvrun_is_interactive(&run->options)))
        kv_predictor_fingerprint(system->predictor, run->fingerprints[2]);
    if (status != KV_OK || !run->options.tabulated) return status;
    status = kv_tabulated_use(run->options.tabulated, &system->base->spec, &system->aux->spec,
                              run->fingerprints[0], &system->predictor, err);
    return status == KV_OK ? KV_OK : kv_fail_within(err, status, "--tabulated");
}

kv_status kvrun_load(kvrun *run, kv_error *err) {
    const kvrun_options *o = &run->options;
    const bool asks = asks_for_fingerprints(o) || may_be_saved(o);
    kv_status status = kv_blas_reserve(err);
    if (status != KV_OK) return status;
    status =
        load_model(run, o->base, &run->specs[0], asks ? run->fingerprints[0] : NULL, &run->system.base, err);
    if (status == KV_OK && o->aux)
        status = load_model(run, o->aux, &run->specs[1], asks ? run->fingerprints[1] : NULL, &run->system.aux,
                            err);
    if (status == KV_OK && o->predictor) status = load_predictor(run, err);
    if (status == KV_OK && o->predictor) kv_predictor_pack(run->system.predictor);
    if (status == KV_OK && kv_console_interrupted()) status = kv_fail(err, KV_ERR_INTERRUPTED, "interrupted");
    if (!o->quiet && kv_console_redraws(STDERR_FILENO)) fputs("\r\033[K", stderr);
    return status;
}

kv_status kvrun_open(kvrun *run, kv_error *err) {
    run->end = -1;
    run->system.pruning = run->options.pruning;
    kv_status status = open_tokenizer(run, err);
    if (status == KV_OK && run->options.chat) status = open_chat(run, err);
    if (status == KV_OK) status = check_pair(run, err);
    return status == KV_OK ? check_words(run, err) : status;
}

void kvrun_close(kvrun *run) {
    kv_predictor_free(run->system.predictor);
    if (run->system.aux != run->system.base) kv_model_free(run->system.aux);
    kv_model_free(run->system.base);
    kv_chat_template_free(&run->chat);
    kv_tokenizer_free(run->tokenizer);
    kv_saved_prompt_free(run->saved);
    free(run->text);
    free(run->options.stops);
}

// status: of having made it.
static kv_status warm_up(kv_session **session, kv_status status, kv_error *err) {
    static const int32_t two[2] = {0};
    if (status != KV_OK) return status;
    const int64_t capacity = kv_session_capacity(*session), length = capacity < 2 ? capacity : 2;
    float *logits = malloc((size_t)kv_session_vocab_size(*session) * sizeof *logits);
    if (!logits) status = kv_fail(err, KV_ERR_MEMORY, "out of memory for logits");
    if (status == KV_OK) status = kv_session_prefill(*session, two, &length, logits, err);
    if (status == KV_ERR_NOT_FINITE) status = KV_OK; // the prompt's own logits decide
    free(logits);
    if (status == KV_OK) {
        kv_session_reset(*session);
        return KV_OK;
    }
    kv_session_free(*session);
    *session = NULL;
    return status;
}

kv_status kvrun_session(const kv_system *system, int64_t capacity, kv_session **session, kv_error *err) {
    return warm_up(session, kv_session_create(system, 1, capacity, session, err), err);
}

kv_status kvrun_session_turns(const kv_system *system, int64_t capacity, kv_session **session,
                              kv_error *err) {
    return warm_up(session, kv_session_create_turns(system, 1, capacity, session, err), err);
}

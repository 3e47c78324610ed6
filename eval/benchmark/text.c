// Scores are teacher-forced, so that all systems are asked the same: nothing is generated, and one pass over a window
// says how probable each of its tokens was. What several systems have in common, their base's reading of whole
// windows, is computed once: for those that prune it to its end, for its prefixes layer by layer.
#include "eval/benchmark/text.h"

#include "core/text.h"
#include "data/file/hash.h"
#include "data/system/buffers.h"
#include "data/system/warning.h"
#include "eval/benchmark/text_tokens.h"
#include "infer/cost.h"
#include "infer/memory.h"
#include "infer/score/score.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// Σ -log p of whole windows by a model alone.
struct whole {
    const kv_model *model;
    double *nats; // [n_items]; NAN: not known
};

struct text {
    kv_benchmark benchmark;
    kv_text_tokens tokens;
    char *wheres; // [n_items, WHERE]
    struct whole *wholes;
    size_t n_wholes;
    kv_prefix_states *states; // of all windows or of one batch; NULL: no prefix was asked
};

// Tokens of a batch; bytes that the states of all windows may have.
enum { WHERE = 320, BATCH_TOKENS = 8192, STATES_BYTES = 256 << 20 };

// ---- Windows -------------------------------------------------------------------------------------------

static kv_status out_of_memory(const kv_eval_task *config, kv_error *err) {
    return kv_fail(err, KV_ERR_MEMORY, "%s: out of memory for its windows", config->corpus);
}

static int64_t tail_of(const kv_eval_task *config) {
    return config->window - config->prompt;
}

// What a tail that stands for no byte weighs: its bits are part of the sum over all windows, and no byte of what that is
// divided by.
static const double no_byte = 0x1p-20;

static kv_status cut_window(struct text *t, int64_t i, kv_error *err) {
    const kv_eval_task *config = t->benchmark.config;
    const int64_t first = i * config->stride, end = first + config->window;
    kv_item *item = &t->benchmark.items[i];
    char *where = t->wheres + i * WHERE;
    snprintf(where, WHERE, "%.*s: tokens %" PRIi64 " to %" PRIi64, KV_HEAD(config->corpus, 200), first,
             end - 1);
    item->where = where;
    item->lengths = malloc(sizeof *item->lengths);
    item->n_scored = malloc(sizeof *item->n_scored);
    if (!item->lengths || !item->n_scored) return out_of_memory(config, err);
    item->n_seq = 1, item->n_ids = item->lengths[0] = config->window, item->n_scored[0] = tail_of(config);
    for (int64_t k = first + config->prompt; k < end; k++) item->weight += t->tokens.bytes[k];
    if (item->weight == 0) item->weight = no_byte;
    return KV_OK;
}

// A stride that leaves gaps, or a limit, was somebody's wish; what is behind the last window was nobody's.
static void warn_of_rest(const struct text *t) {
    const kv_eval_task *config = t->benchmark.config;
    const int64_t n = t->tokens.n, rest = n - config->window - (t->benchmark.n_items - 1) * config->stride;
    if (config->limit == 0 && config->stride <= config->window && kv_much_is_lost(rest, n))
        kv_warn("%s: the last %" PRIi64 " of %" PRIi64 " tokens (%.3g %%) fill no window of %" PRIi64
                " and are not asked for; a smaller `window` or `stride` keeps more",
                config->corpus, rest, n, 100 * (double)rest / (double)n, config->window);
}

static kv_status cut_windows(struct text *t, const kv_prompting *prompting, kv_error *err) {
    kv_benchmark *b = &t->benchmark;
    const kv_eval_task *config = b->config;
    const int64_t n = t->tokens.n;
    if (n < config->window)
        return kv_fail(err, KV_ERR_RANGE,
                       "%s: found %" PRIi64 " tokens, expected at least the %" PRIi64
                       " of one window: a longer text, or a smaller `window`",
                       config->corpus, n, config->window);
    b->n_items = (n - config->window) / config->stride + 1;
    warn_of_rest(t);
    if (config->limit > 0 && config->limit < b->n_items) b->n_items = config->limit;
    b->n_units = b->n_items;
    t->wheres = calloc((size_t)b->n_items, WHERE);
    kv_status status = t->wheres ? kv_items_make(b, prompting, 0, err) : out_of_memory(config, err);
    for (int64_t i = 0; i < b->n_items && status == KV_OK; i++) status = cut_window(t, i, err);
    if (status == KV_OK) kv_items_measure(b);
    return status;
}

// Tokens up to the end of the last window that is asked for; 0: all.
static int64_t most_tokens(const kv_eval_task *config) {
    int64_t most;
    if (config->limit < 1 || __builtin_mul_overflow(config->limit - 1, config->stride, &most) ||
        __builtin_add_overflow(most, config->window, &most))
        return 0;
    return most;
}

// Part of the hash: to be raised when what is scored comes to mean something else.
enum { PROTOCOL = 1 };

// A window is its place, its tokens and what they stand for.
static uint64_t hash_item(const kv_benchmark *benchmark, int64_t i, uint64_t hash) {
    const struct text *t = (const struct text *)benchmark;
    const int64_t first = i * benchmark->config->stride;
    const size_t n = (size_t)benchmark->config->window;
    hash = kv_hash64(hash, &first, sizeof first);
    hash = kv_hash64(hash, t->tokens.ids + first, n * sizeof *t->tokens.ids);
    return kv_hash64(hash, t->tokens.bytes + first, n * sizeof *t->tokens.bytes);
}

static void forget(kv_benchmark *benchmark) {
    struct text *t = (struct text *)benchmark;
    kv_prefix_states_free(t->states);
    t->states = NULL;
}

static void free_text(kv_benchmark *benchmark) {
    struct text *t = (struct text *)benchmark;
    forget(benchmark);
    for (size_t i = 0; i < t->n_wholes; i++) free(t->wholes[i].nats);
    free(t->wholes);
    free(t->wheres);
    kv_text_tokens_free(&t->tokens);
    kv_items_free(benchmark);
    free(t);
}

// That windows fit, and that every model has a row for every id.
static kv_status fit(kv_benchmark *benchmark, const kv_fit *fit, kv_error *err) {
    const struct text *t = (const struct text *)benchmark;
    const kv_eval_task *config = benchmark->config;
    if (config->window > fit->context)
        return kv_fail(err, KV_ERR_RANGE,
                       "windows of %" PRIi64 " tokens do not fit the context of %" PRIi64
                       " tokens of %s: expected a smaller `window`",
                       config->window, fit->context > 0 ? fit->context : 0, fit->whose);
    for (int64_t k = 0; fit->n_ids > 0 && k < t->tokens.n; k++)
        if (t->tokens.ids[k] >= fit->n_ids)
            return kv_fail(err, KV_ERR_RANGE,
                           "%s: token %" PRIi64 " is %" PRIi32 ", outside the vocabulary of %" PRIi64
                           " of %s",
                           config->corpus, k, t->tokens.ids[k], fit->n_ids, fit->whose_ids);
    return KV_OK;
}

// ---- Scores --------------------------------------------------------------------------------------------

// The numbers of a record.
struct numbers {
    double tail, whole, bytes;
    double tail_tokens, whole_tokens;
};

// What is missing from a record, or NULL.
static const char *read_record(const json_t *record, struct numbers *r) {
    const struct {
        const char *key;
        double *to;
        double least;
    } numbers[] = {{"tail", &r->tail, -INFINITY},
                   {"whole", &r->whole, -INFINITY},
                   {"bytes", &r->bytes, 0},
                   {"tail_tokens", &r->tail_tokens, 1},
                   {"whole_tokens", &r->whole_tokens, 1}};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        const json_t *value = json_object_get(record, numbers[i].key);
        *numbers[i].to = json_number_value(value);
        if (!json_is_number(value) || !(*numbers[i].to >= numbers[i].least)) return numbers[i].key;
    }
    return NULL;
}

static double value_of(const char *metric, const struct numbers *r) {
    if (!strcmp(metric, "bits_per_byte")) return r->tail / M_LN2 / (r->bytes > 0 ? r->bytes : no_byte);
    return !strncmp(metric, "tail_", 5) ? r->tail / r->tail_tokens : r->whole / r->whole_tokens;
}

static kv_status score(const kv_benchmark *benchmark, json_t *const *records, double *values, kv_error *err) {
    for (int64_t i = 0; i < benchmark->n_items; i++) {
        struct numbers r;
        const char *missing = read_record(records[i], &r);
        if (missing)
            return kv_fail(err, KV_ERR_FORMAT, "%s: the record of this window has no usable `%s`",
                           benchmark->items[i].where, missing);
        for (int m = 0; m < benchmark->n_metrics; m++)
            values[m * benchmark->n_items + i] = value_of(benchmark->metrics[m], &r);
    }
    return KV_OK;
}

// ---- Answers -------------------------------------------------------------------------------------------

// Windows [first, first + n), as scoring takes them.
struct batch {
    struct text *text;
    const kv_system *system;
    int64_t first, n;
    int32_t *ids;         // [n, window]
    int64_t *lengths;     // [n]
    int64_t *n_scored;    // [n]
    double *log_p;        // [n, window - 1]
    double *tail, *whole; // [n] Σ -log p
};

static bool fill_batch(struct batch *b) {
    const kv_eval_task *config = b->text->benchmark.config;
    const size_t n = (size_t)b->n, window = (size_t)config->window;
    b->ids = malloc(n * window * sizeof *b->ids);
    b->lengths = malloc(2 * n * sizeof *b->lengths);
    b->tail = malloc((2 * n + n * window) * sizeof *b->tail);
    if (!b->ids || !b->lengths || !b->tail) return false;
    b->n_scored = b->lengths + n, b->whole = b->tail + n, b->log_p = b->whole + n;
    for (size_t s = 0; s < n; s++) {
        b->lengths[s] = config->window;
        memcpy(b->ids + s * window, b->text->tokens.ids + (b->first + (int64_t)s) * config->stride,
               window * sizeof *b->ids);
    }
    return true;
}

static void release(struct batch *b) {
    free(b->ids);
    free(b->lengths);
    free(b->tail);
}

// Log-likelihoods become nats. *at: the window without a number, where that is what failed.
static kv_status take(const struct batch *b, kv_status status, double *nats, int64_t *at) {
    *at = 0;
    if (status == KV_ERR_NOT_FINITE)
        while (*at + 1 < b->n && !isnan(nats[*at])) ++*at;
    for (int64_t s = 0; s < b->n; s++) nats[s] = -nats[s];
    return status;
}

static int64_t *scored(struct batch *b, int64_t n) {
    for (int64_t s = 0; s < b->n; s++) b->n_scored[s] = n;
    return b->n_scored;
}

// A model alone reads prompt and tail as it reads the whole. What it says is kept for those that prune it.
static kv_status score_alone(struct batch *b, const kv_model *model, double *known, int64_t *at,
                             kv_error *err) {
    const kv_eval_task *config = b->text->benchmark.config;
    const kv_system alone = {.base = (kv_model *)model};
    const int64_t n = config->window - 1;
    const kv_status status =
        take(b, kv_score_tokens(&alone, b->ids, b->lengths, scored(b, n), b->n, b->log_p, b->whole, err),
             b->whole, at);
    for (int64_t s = 0; s < b->n; s++) {
        b->tail[s] = 0;
        for (int64_t k = config->prompt - 1; k < n; k++) b->tail[s] -= b->log_p[s * n + k];
    }
    if (status == KV_OK) memcpy(known + b->first, b->whole, (size_t)b->n * sizeof *known);
    return status;
}

// What is known of whole windows by this model; NULL when out of memory.
static double *known_wholes(struct text *t, const kv_model *model) {
    for (size_t i = 0; i < t->n_wholes; i++)
        if (t->wholes[i].model == model) return t->wholes[i].nats;
    struct whole *more = kv_room_for_one(t->wholes, t->n_wholes, sizeof *more);
    double *nats = malloc((size_t)t->benchmark.n_items * sizeof *nats);
    if (more) t->wholes = more;
    if (!more || !nats) {
        free(nats);
        return NULL;
    }
    for (int64_t i = 0; i < t->benchmark.n_items; i++) nats[i] = NAN;
    t->wholes[t->n_wholes++] = (struct whole){model, nats};
    return nats;
}

// The whole of a pruning system: its base's.
static kv_status score_base(struct batch *b, double *known, int64_t *at, kv_error *err) {
    bool all = true;
    for (int64_t s = 0; s < b->n; s++) all = all && !isnan(known[b->first + s]);
    if (!all) return score_alone(b, b->system->base, known, at, err);
    memcpy(b->whole, known + b->first, (size_t)b->n * sizeof *known);
    return KV_OK;
}

// Windows whose states are kept: all, where that is not too much, else those of a batch.
static int64_t n_states(const kv_benchmark *benchmark, const kv_model_spec *base) {
    const int64_t all = benchmark->n_items;
    if (kv_prefix_states_bytes(base, all, benchmark->config->window) <= STATES_BYTES) return all;
    return benchmark->most_units < all ? benchmark->most_units : all;
}

static bool shares(const kv_benchmark *benchmark, const kv_system *system) {
    const kv_eval_task *config = benchmark->config;
    return config->prompt > 1 && kv_prefix_scorable(system);
}

// A prefix of the base, which goes on from where the one before it ended.
static kv_status score_prefix(struct batch *b, int64_t *at, kv_error *err) {
    struct text *t = b->text;
    const kv_benchmark *benchmark = &t->benchmark;
    const int64_t n = n_states(benchmark, &b->system->base->spec);
    const bool all = n == benchmark->n_items;
    kv_status status = KV_OK;
    if (t->states && t->states->base != b->system->base) forget(&t->benchmark);
    if (!t->states)
        status = kv_prefix_states_create(b->system->base, n, benchmark->config->window, &t->states, err);
    if (status != KV_OK) return status;
    if (!all) kv_prefix_states_restart(t->states);
    for (int64_t s = 0; s < b->n; s++) b->whole[s] = b->tail[s] = 0;
    status = kv_score_prefix(b->system, t->states, all ? b->first : 0, b->ids, b->n,
                             tail_of(benchmark->config), b->whole, b->tail, err);
    for (*at = 0; *at + 1 < b->n && !isnan(b->whole[*at] + b->tail[*at]);) ++*at;
    for (int64_t s = 0; s < b->n; s++) b->whole[s] = -b->whole[s], b->tail[s] = -b->tail[s];
    return status;
}

static kv_status score_windows(struct batch *b, int64_t *at, kv_error *err) {
    const kv_eval_task *config = b->text->benchmark.config;
    const kv_system *system = b->system;
    double *known = known_wholes(b->text, system->base);
    if (!known) return out_of_memory(config, err);
    if (!system->predictor && system->pruning.kind == KV_PRUNE_NONE)
        return score_alone(b, system->base, known, at, err);
    kv_status status;
    if (shares(&b->text->benchmark, system)) return score_prefix(b, at, err);
    if (system->predictor)
        status = take(
            b, kv_score(system, b->ids, b->lengths, scored(b, config->window - 1), b->n, b->whole, NULL, err),
            b->whole, at);
    else
        status = score_base(b, known, at, err);
    if (status != KV_OK) return status;
    return take(b,
                kv_score_behind_prompt(system, b->ids, b->lengths, scored(b, tail_of(config)), b->n, b->tail,
                                       NULL, err),
                b->tail, at);
}

static json_t *make_record(const struct batch *b, int64_t s) {
    const kv_eval_task *config = b->text->benchmark.config;
    const int64_t item = b->first + s;
    json_t *record = json_object();
    int failed = !record;
    failed |= json_object_set_new(record, "first", json_integer(item * config->stride));
    failed |= json_object_set_new(record, "tail", json_real(b->tail[s]));
    failed |= json_object_set_new(record, "tail_tokens", json_integer(tail_of(config)));
    failed |= json_object_set_new(record, "whole", json_real(b->whole[s]));
    failed |= json_object_set_new(record, "whole_tokens", json_integer(config->window - 1));
    failed |=
        json_object_set_new(record, "bytes", json_integer((int64_t)b->text->benchmark.items[item].weight));
    if (!failed) return record;
    json_decref(record);
    return NULL;
}

static kv_status answer(kv_benchmark *benchmark, kv_asking *asking, int64_t first, int64_t n,
                        json_t **records, kv_error *err) {
    struct batch b = {.text = (struct text *)benchmark, .system = asking->system, .first = first, .n = n};
    memset(records, 0, (size_t)n * sizeof *records);
    kv_status status =
        fill_batch(&b) ? score_windows(&b, &asking->not_finite, err) : out_of_memory(benchmark->config, err);
    for (int64_t s = 0; s < n && status == KV_OK; s++) {
        records[s] = make_record(&b, s);
        if (!records[s]) status = kv_fail(err, KV_ERR_MEMORY, "out of memory for a record");
    }
    if (status != KV_OK) kv_records_free(records, n);
    release(&b);
    return status;
}

// ---- Costs ---------------------------------------------------------------------------------------------

// Up to which layer the rows before have left the states of this one's base; 0: nothing is left that it can go on from.
static int64_t read_before(const kv_benchmark *benchmark, const kv_system *systems, int64_t row) {
    const kv_model *base = systems[row].base;
    if (n_states(benchmark, &base->spec) < benchmark->n_items) return 0;
    for (int64_t s = row - 1; s >= 0; s--) {
        if (!shares(benchmark, &systems[s])) continue;
        const int64_t n = systems[s].predictor->spec.prefix_layers;
        return systems[s].base == base && n <= systems[row].predictor->spec.prefix_layers ? n : 0;
    }
    return 0;
}

// Whether a row before this one reads whole texts with the same base, which is then known.
static bool is_known(const kv_system *systems, int64_t row) {
    for (int64_t s = 0; s < row; s++)
        if (systems[s].base == systems[row].base && !systems[s].predictor) return true;
    return false;
}

static void cost(const kv_benchmark *benchmark, const kv_system *systems, int64_t row, int64_t item,
                 kv_unit_cost *cost) {
    const kv_eval_task *config = benchmark->config;
    const kv_system *system = &systems[row], alone = {.base = system->base};
    const int64_t window = config->window;
    (void)item;
    const bool predicts = system->predictor, prunes = system->pruning.kind != KV_PRUNE_NONE;
    if (shares(benchmark, system)) {
        cost->reading = (double)kv_system_prefix_flops(system, read_before(benchmark, systems, row), window,
                                                       tail_of(config));
        return;
    }
    const double whole = (double)kv_system_score_flops(predicts ? system : &alone, window, window - 1);
    cost->reading = prunes && is_known(systems, row) ? 0 : whole;
    if (!predicts && !prunes) return;
    const double prompt = (double)kv_system_flops(system, config->prompt),
                 tail = (double)kv_system_behind_flops(system, window, tail_of(config)) - prompt;
    const bool decoded = system->pruning.kind == KV_PRUNE_LAZY;
    cost->reading += prompt + (decoded ? 0 : tail);
    cost->steps = decoded ? tail : 0;
}

static double kept(const kv_benchmark *benchmark, const kv_system *system) {
    if (!shares(benchmark, system)) return 0;
    const kv_model_spec *base = &system->base->spec;
    return kv_prefix_states_bytes(base, n_states(benchmark, base), benchmark->config->window);
}

static double bytes(const kv_benchmark *benchmark, const kv_system *system, int64_t batch_size) {
    const kv_eval_task *config = benchmark->config;
    const kv_system alone = {.base = system->base};
    const bool prunes = system->pruning.kind != KV_PRUNE_NONE;
    if (shares(benchmark, system)) return kv_prefix_bytes(system, config->window);
    const double whole =
        kv_score_bytes(prunes ? &alone : system, batch_size * config->window, config->window, false);
    if (!system->predictor && !prunes) return whole;
    const double behind = kv_behind_bytes(system, batch_size, config->window, tail_of(config));
    return whole > behind ? whole : behind;
}

// ---- Creation ------------------------------------------------------------------------------------------

kv_status kv_text_benchmark(const kv_eval_task *config, const kv_prompting *prompting, uint64_t seed,
                            kv_benchmark **benchmark, kv_error *err) {
    static const kv_benchmark_ops ops = {.fit = fit,
                                         .answer = answer,
                                         .score = score,
                                         .cost = cost,
                                         .bytes = bytes,
                                         .kept = kept,
                                         .forget = forget,
                                         .free = free_text};
    (void)seed;
    *benchmark = NULL;
    struct text *t = calloc(1, sizeof *t);
    if (!t) return out_of_memory(config, err);
    t->benchmark = (kv_benchmark){
        .ops = &ops,
        .config = config,
        .n_metrics = 5,
        .metrics = {"tail_nll", "tail_perplexity", "bits_per_byte", "whole_nll", "whole_perplexity"}};
    t->benchmark.most_units = config->window < BATCH_TOKENS ? BATCH_TOKENS / config->window : 1;
    kv_status status =
        kv_text_tokens_read(config->corpus, prompting->tokenizer, most_tokens(config), &t->tokens, err);
    if (status == KV_OK) status = cut_windows(t, prompting, err);
    if (status == KV_OK) {
        const int64_t way[] = {config->window, config->prompt};
        kv_items_hash(&t->benchmark, kv_hash64(PROTOCOL, way, sizeof way), hash_item);
        *benchmark = &t->benchmark;
    } else {
        free_text(&t->benchmark);
    }
    return status;
}

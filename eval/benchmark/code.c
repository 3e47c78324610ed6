// A batch of problems is completed together and then run together, so that programs overlap on all cores
// while no model is at work. What a verdict depends on goes into the hash, but for k, which the same samples
// serve.
#include "eval/benchmark/code.h"

#include "core/text.h"
#include "data/file/hash.h"
#include "data/tokenizer/stop_filter.h"
#include "data/tokenizer/tokenizer.h"
#include "eval/benchmark/program.h"
#include "eval/benchmark/redefined.h"
#include "eval/statistics/stats.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// Where completions end: of a function's body [EleutherAI evaluation harness], and of a whole program
// [BigCode evaluation harness].
static const char *const body_stops[] = {"\nclass", "\ndef", "\n#", "\nif", "\nprint", "\n```", NULL};
static const char *const whole_stops[] = {"\nclass", "\nassert", "\n\"\"\"", "\nprint",
                                          "\nif",    "\n<|/",    "\n```",    NULL};

// Part of the hash, behind the kind's name: to be raised when prompts, cutting or judging change.
static const char protocol[] = "1";

struct code {
    kv_benchmark base; // first: a kv_benchmark is the struct around it
    const kv_problem_kind *kind;
    const char *const *stops; // [n_stops]
    size_t n_stops;
    kv_problems problems;
    kv_sandbox *sandbox;
    bool unsafe;
    bool has_base; // every k has two metrics: of all tests, and behind them of the original benchmark's
    int64_t k[KV_MAX_METRICS], n_k;
};

// ---- Completions ---------------------------------------------------------------------------------------

const char *const *kv_code_stops(const kv_problem_kind *kind, bool chat, size_t *n) {
    const char *const *stops = kind->whole ? whole_stops : body_stops;
    for (*n = 0; stops[*n];) ++*n;
    *n -= !kind->whole && !chat; // no block, whose end is the last of them
    return stops;
}

kv_status kv_code_completion(const kv_problem_kind *kind, const kv_asking *asking, const int32_t *ids,
                             int64_t n, char **text, kv_error *err) {
    size_t n_stops;
    const char *const *stops = kv_code_stops(kind, asking->chat != NULL, &n_stops);
    size_t length;
    const bool eos = n > 0 && kv_ends_answer(asking, ids[n - 1]);
    kv_status status = kv_decode_continuation(asking->tokenizer, ids, n - eos, text, &length, err);
    if (status != KV_OK) return status;
    for (size_t i = 0; i < length; i++)
        if ((*text)[i] == '\0') (*text)[i] = '?';
    kv_cut_at_stop(*text, stops, n_stops);
    return KV_OK;
}

struct batch {
    struct code *code;
    kv_asking *asking;
    int64_t first, n;
    int64_t *lengths;            // [n]
    uint64_t *streams;           // [n]
    int32_t **ids;               // [n] borrowed
    int32_t *generated;          // [n, max_tokens]
    int64_t *n_generated;        // [n]
    char **completions;          // [n]
    kv_sandbox_result *results;  // [n]
    bool *base_passed;           // [n]
    const kv_problem **problems; // [n]
    char **redefined;            // [n] what the program redefined of what its tests rely on, or NULL
};

static const kv_item *item_of(const struct code *c, int64_t unit) {
    return &c->base.items[unit / c->base.config->samples];
}

static const kv_problem *problem_of(const struct code *c, int64_t unit) {
    return &c->problems.items[item_of(c, unit)->row];
}

static kv_status complete(struct batch *b, kv_error *err) {
    const kv_eval_task *config = b->code->base.config;
    const kv_generation how = {
        .max_tokens = config->max_tokens,
        .sampling = {.temperature = config->temperature, .top_p = config->top_p, .seed = b->asking->seed},
        .streams = b->streams};
    kv_status status =
        kv_asking_generate(b->asking, &(kv_prompts){.ids = b->ids, .lengths = b->lengths, .n = b->n},
                           b->code->stops, b->code->n_stops, how, b->generated, b->n_generated, err);
    for (int64_t s = 0; s < b->n && status == KV_OK; s++)
        status = kv_code_completion(b->code->kind, b->asking, b->generated + s * config->max_tokens,
                                    b->n_generated[s], &b->completions[s], err);
    return status;
}

// ---- Judging -------------------------------------------------------------------------------------------

static kv_status judge(struct batch *b, kv_error *err) {
    const char *const *completions = (const char *const *)b->completions;
    for (int64_t s = 0; s < b->n; s++) b->problems[s] = problem_of(b->code, b->first + s);
    kv_status status = kv_programs_run(b->code->sandbox, b->problems, completions, b->n, b->results,
                                       b->base_passed, NULL, NULL, err);
    if (status == KV_OK)
        status = kv_redefined_find(b->code->sandbox, b->problems, completions, b->results, b->n, b->redefined,
                                   NULL, NULL, err);
    return status;
}

static json_t *make_record(const struct batch *b, int64_t s) {
    const int64_t unit = b->first + s, samples = b->code->base.config->samples;
    json_t *record = json_object();
    int failed = !record;
    failed = failed || json_object_set_new(record, "task_id", kv_record_text(b->problems[s]->task_id));
    failed = failed || json_object_set_new(record, "completion", kv_record_text(b->completions[s]));
    failed = failed ||
             json_object_set_new(record, "passed", json_boolean(b->results[s].verdict == KV_VERDICT_PASSED));
    if (b->code->has_base)
        failed = failed || json_object_set_new(record, "base_passed", json_boolean(b->base_passed[s]));
    failed = failed || json_object_set_new(record, "result", kv_record_text(b->results[s].text));
    failed = failed || json_object_set_new(record, "sample", json_integer(unit % samples));
    failed = failed || !kv_record_cut(record, item_of(b->code, unit));
    if (b->redefined[s])
        failed = failed || json_object_set_new(record, KV_REDEFINES, kv_record_text(b->redefined[s]));
    if (!failed) return record;
    json_decref(record);
    return NULL;
}

static bool allocate(struct batch *b) {
    const size_t n = (size_t)b->n, max_tokens = (size_t)b->code->base.config->max_tokens;
    b->lengths = calloc(n, sizeof *b->lengths);
    b->streams = calloc(n, sizeof *b->streams);
    b->ids = calloc(n, sizeof *b->ids);
    b->generated = calloc(n, max_tokens * sizeof *b->generated);
    b->n_generated = calloc(n, sizeof *b->n_generated);
    b->completions = calloc(n, sizeof *b->completions);
    b->results = calloc(n, sizeof *b->results);
    b->base_passed = calloc(n, sizeof *b->base_passed);
    b->problems = calloc(n, sizeof *b->problems);
    b->redefined = calloc(n, sizeof *b->redefined);
    return b->lengths && b->streams && b->ids && b->generated && b->n_generated && b->completions &&
           b->results && b->base_passed && b->problems && b->redefined;
}

static void release(struct batch *b) {
    for (int64_t s = 0; b->completions && s < b->n; s++) free(b->completions[s]);
    free(b->lengths);
    free(b->streams);
    free(b->ids);
    free(b->generated);
    free(b->n_generated);
    free(b->completions);
    free(b->results);
    free(b->base_passed);
    free(b->problems);
    for (int64_t s = 0; b->redefined && s < b->n; s++) free(b->redefined[s]);
    free(b->redefined);
}

static kv_status answer(kv_benchmark *benchmark, kv_asking *asking, int64_t first, int64_t n,
                        json_t **records, kv_error *err) {
    struct code *c = (struct code *)benchmark;
    struct batch b = {.code = c, .asking = asking, .first = first, .n = n};
    memset(records, 0, (size_t)n * sizeof *records);
    kv_status status = kv_code_benchmark_prepare(benchmark, asking->unsafe_execution, err);
    if (status != KV_OK) return status;
    if (!allocate(&b)) status = kv_fail(err, KV_ERR_MEMORY, "out of memory for %" PRIi64 " programs", n);
    for (int64_t s = 0; s < n && status == KV_OK; s++) {
        const kv_item *item = item_of(c, first + s);
        b.ids[s] = item->ids;
        b.lengths[s] = item->n_ids;
        b.streams[s] = (uint64_t)(first + s);
    }
    if (status == KV_OK) status = complete(&b, err);
    if (status == KV_OK) status = judge(&b, err);
    for (int64_t s = 0; s < n && status == KV_OK; s++) {
        records[s] = make_record(&b, s);
        if (!records[s]) status = kv_fail(err, KV_ERR_MEMORY, "out of memory for a record");
    }
    if (status != KV_OK) kv_records_free(records, n);
    release(&b);
    return status;
}

// ---- Scores --------------------------------------------------------------------------------------------

// Samples of an item whose record says true under `key`.
static kv_status count_passed(const struct code *c, json_t *const *records, int64_t item, const char *key,
                              int64_t *passed, kv_error *err) {
    const int64_t samples = c->base.config->samples;
    const kv_problem *problem = problem_of(c, item * samples);
    const char *expected = problem->task_id;
    *passed = 0;
    for (int64_t s = 0; s < samples; s++) {
        const int64_t unit = item * samples + s;
        const char *task_id = json_string_value(json_object_get(records[unit], "task_id"));
        const json_t *verdict = json_object_get(records[unit], key);
        if (!task_id || strcmp(task_id, expected) != 0)
            return kv_fail(err, KV_ERR_FORMAT,
                           "%s: record %" PRIi64 " of its samples: \"task_id\" is %.*s, expected \"%.*s\"",
                           problem->where, unit + 1, KV_HEAD(task_id ? task_id : "missing", 60),
                           KV_HEAD(expected, 60));
        if (!json_is_boolean(verdict))
            return kv_fail(err, KV_ERR_FORMAT,
                           "%s: record %" PRIi64 " of its samples: expected true or false as \"%s\"",
                           problem->where, unit + 1, key);
        *passed += json_is_true(verdict);
    }
    return KV_OK;
}

static kv_status score(const kv_benchmark *benchmark, json_t *const *records, double *values, kv_error *err) {
    const struct code *c = (const struct code *)benchmark;
    const int64_t n = benchmark->n_items, samples = benchmark->config->samples;
    for (int64_t item = 0; item < n; item++) {
        int64_t passed, base_passed = 0;
        kv_status status = count_passed(c, records, item, "passed", &passed, err);
        if (status == KV_OK && c->has_base)
            status = count_passed(c, records, item, "base_passed", &base_passed, err);
        if (status != KV_OK) return status;
        for (int m = 0; m < benchmark->n_metrics; m++)
            values[m * n + item] = kv_pass_at_k(samples, m < c->n_k ? passed : base_passed, c->k[m % c->n_k]);
    }
    return KV_OK;
}

// ---- Making one ----------------------------------------------------------------------------------------

static kv_status wrong(const kv_eval_task *config, const char *key, kv_error *err, const char *found,
                       const char *expected) {
    return kv_fail(err, KV_ERR_RANGE, "task `%s`: key `%s`: found %s, expected %s", config->name, key, found,
                   expected);
}

static kv_status wrong_number(const kv_eval_task *config, const char *key, kv_error *err, double found,
                              const char *expected) {
    char text[32];
    snprintf(text, sizeof text, "%g", found);
    return wrong(config, key, err, text, expected);
}

static kv_status read_k(struct code *c, const kv_eval_task *config, kv_error *err) {
    const int64_t one = 1, *k = config->n_k ? config->k : &one;
    const unsigned n = config->n_k ? config->n_k : 1, most = KV_MAX_METRICS / (c->has_base ? 2 : 1);
    char expected[96];
    if (n > most) {
        snprintf(expected, sizeof expected, "at most %u of them%s", most,
                 c->has_base ? ": each is given for all tests and for the original ones" : "");
        return wrong_number(config, "k", err, n, expected);
    }
    for (unsigned i = 0; i < n; i++) {
        if (k[i] < 1 || k[i] > config->samples) {
            snprintf(expected, sizeof expected, "1 to %" PRIi64 ", as many as there are `samples`",
                     config->samples);
            return wrong_number(config, "k", err, (double)k[i], expected);
        }
        for (unsigned j = 0; j < i; j++)
            if (k[j] == k[i]) return wrong_number(config, "k", err, (double)k[i], "every number once");
        c->k[i] = k[i]; // at most `samples`
        snprintf(c->base.metrics[i], KV_METRIC_NAME, "pass@%d", (int)k[i]);
        if (c->has_base) snprintf(c->base.metrics[n + i], KV_METRIC_NAME, "base_pass@%d", (int)k[i]);
    }
    c->n_k = n;
    c->base.n_metrics = (int)(c->has_base ? 2 * n : n);
    return KV_OK;
}

kv_status kv_code_check(const kv_eval_task *config, char key[KV_TASK_KEY], kv_error *err) {
    const kv_problem_kind *kind = kv_problem_kind_find(config->kind);
    snprintf(key, KV_TASK_KEY, "shots");
    if (config->shots > 0)
        return kv_fail(err, KV_ERR_RANGE,
                       "found %" PRIi64 ", expected 0: prompts of kind: %s stand for themselves",
                       config->shots, config->kind);
    snprintf(key, KV_TASK_KEY, "split");
    if (kind && kind->splits && !kv_problem_split_known(config->split))
        return kv_fail(
            err, KV_ERR_RANGE,
            "found `%s`, expected one of MBPP's: test, validation, train, prompt, or all of them: all",
            config->split);
    return KV_OK;
}

static kv_status check(const kv_eval_task *config, kv_error *err) {
    if (config->shots != 0)
        return wrong_number(config, "shots", err, (double)config->shots,
                            "0: prompts of programs stand for themselves");
    if (config->samples < 1 || config->samples > 100000)
        return wrong_number(config, "samples", err, (double)config->samples, "1 to 100000");
    if (!(config->temperature >= 0 && config->temperature <= 100))
        return wrong_number(config, "temperature", err, config->temperature, "0 (greedy) to 100");
    if (config->temperature == 0 && config->samples != 1)
        return wrong_number(config, "samples", err, (double)config->samples,
                            "1: with temperature 0 all samples would be the same");
    if (config->temperature > 0 && !(config->top_p > 0 && config->top_p <= 1))
        return wrong_number(config, "top_p", err, config->top_p, "more than 0 and at most 1");
    if (config->max_tokens < 1 || config->max_tokens > 1 << 20)
        return wrong_number(config, "max_tokens", err, (double)config->max_tokens, "1 to 1048576");
    if (!(config->timeout >= 0 && config->timeout <= 86400))
        return wrong_number(config, "timeout", err, config->timeout, "seconds, at most a day");
    if (config->memory_mb != 0 && (config->memory_mb < 64 || config->memory_mb > 1 << 20))
        return wrong_number(config, "memory_mb", err, (double)config->memory_mb, "64 to 1048576");
    if (config->workers < 0 || config->workers > KV_MAX_WORKERS)
        return wrong_number(config, "workers", err, (double)config->workers, "0 (all cores) to 128");
    return KV_OK;
}

static kv_sandbox_options sandbox_options(const struct code *c) {
    const kv_eval_task *config = c->base.config;
    kv_sandbox_options options = kv_sandbox_defaults();
    options.workers = config->workers;
    options.limits.seconds = config->timeout > 0 ? config->timeout : c->kind->timeout;
    if (config->memory_mb > 0) options.limits.memory_bytes = config->memory_mb << 20;
    return options;
}

kv_status kv_code_benchmark_prepare(kv_benchmark *benchmark, bool unsafe_execution, kv_error *err) {
    struct code *c = (struct code *)benchmark;
    if (c->sandbox && c->unsafe == unsafe_execution) return KV_OK;
    kv_sandbox_options options = sandbox_options(c);
    options.unsafe = c->unsafe = unsafe_execution;
    kv_sandbox_free(c->sandbox);
    return kv_sandbox_open(&options, &c->sandbox, err);
}

// In a chat a user shows the program's beginning, and the answer has repeated it: so that what comes then goes on from it,
// as it does behind a bare prompt.
static kv_status add_prompt(kv_item *item, const kv_prompting *prompting, const char *prompt, kv_error *err) {
    char *asked, *begun;
    if (asprintf(&asked, "Go on with this Python program until it is complete:\n```python\n%s\n```", prompt) <
        0)
        asked = NULL;
    if (asprintf(&begun, "```python\n%s", prompt) < 0) begun = NULL;
    kv_status status = asked && begun ? kv_item_add_begun(item, prompting, prompt, asked, begun, err)
                                      : kv_fail(err, KV_ERR_MEMORY, "%s: out of memory", item->where);
    free(asked);
    free(begun);
    return status;
}

static kv_status make_prompts(struct code *c, const kv_prompting *prompting, kv_error *err) {
    kv_benchmark *b = &c->base;
    const int64_t limit = b->config->limit;
    b->n_items = limit > 0 && limit < c->problems.n ? limit : c->problems.n;
    b->n_units = b->n_items * b->config->samples;
    kv_status status = kv_items_make(b, prompting, b->config->max_tokens, err);
    for (int64_t i = 0; i < b->n_items && status == KV_OK; i++) {
        b->items[i].where = c->problems.items[i].where;
        status = add_prompt(&b->items[i], prompting, c->problems.items[i].prompt, err);
    }
    if (status == KV_OK) kv_items_measure(b);
    return status;
}

static uint64_t hash_item(const kv_benchmark *benchmark, int64_t i, uint64_t hash) {
    const kv_problem *p = &((const struct code *)benchmark)->problems.items[i];
    // With inputs the tests are what the problem's own solution returns.
    const char *const parts[] = {
        p->task_id,   p->prompt,     p->entry_point, p->test,
        p->base_test, p->base_input, p->plus_input,  p->base_input ? p->canonical_solution : NULL};
    for (int j = 0; j < 8; j++)
        if (parts[j]) hash = kv_hash64(hash, parts[j], strlen(parts[j]) + 1);
    return p->base_input ? kv_hash64(hash, &p->atol, sizeof p->atol) : hash;
}

// k is left out: any k can be had from the same records.
static void make_hash(struct code *c, const kv_tokenizer *tokenizer, uint64_t seed) {
    const kv_eval_task *config = c->base.config;
    const kv_sandbox_options options = sandbox_options(c);
    char text[256];
    const bool greedy = config->temperature == 0;
    snprintf(text, sizeof text, "%s %s %s %" PRIi64 " %" PRIi64 " %.17g %.17g %" PRIu64 " %.17g %" PRIi64,
             c->kind->name, protocol, kv_tokenizer_hash(tokenizer), config->samples, config->max_tokens,
             config->temperature, greedy ? 1 : config->top_p, greedy ? 0 : seed, options.limits.seconds,
             options.limits.memory_bytes);
    uint64_t hash = kv_hash64(0, text, strlen(text));
    for (size_t i = 0; i < c->n_stops; i++) hash = kv_hash64(hash, c->stops[i], strlen(c->stops[i]));
    kv_items_hash(&c->base, hash, hash_item);
}

static void free_code(kv_benchmark *benchmark) {
    struct code *c = (struct code *)benchmark;
    kv_items_free(benchmark);
    kv_problems_free(&c->problems);
    kv_sandbox_free(c->sandbox);
    free(c);
}

kv_status kv_code_benchmark(const kv_eval_task *config, const kv_prompting *prompting, uint64_t seed,
                            kv_benchmark **benchmark, kv_error *err) {
    static const kv_benchmark_ops ops = {
        .prepare = kv_code_benchmark_prepare, .answer = answer, .score = score, .free = free_code};
    *benchmark = NULL;
    kv_status status = check(config, err);
    if (status != KV_OK) return status;
    struct code *c = calloc(1, sizeof *c);
    if (!c) return kv_fail(err, KV_ERR_MEMORY, "%s: out of memory", config->file);
    c->base.ops = &ops;
    c->base.config = config;
    c->kind = kv_problem_kind_find(config->kind);
    if (c->kind) c->stops = kv_code_stops(c->kind, prompting->chat != NULL, &c->n_stops);
    status = c->kind ? kv_problems_read(config->file, c->kind, &c->problems, NULL, err)
                     : kv_fail(err, KV_ERR_ARGUMENT, "kind `%s` has no programs", config->kind);
    if (status == KV_OK) {
        c->has_base = kv_problem_has_base(&c->problems.items[0]);
        status = read_k(c, config, err);
    }
    if (status == KV_OK && c->kind->splits) status = kv_problems_keep_split(&c->problems, config->split, err);
    if (status == KV_OK) status = make_prompts(c, prompting, err);
    if (status == KV_OK) {
        make_hash(c, prompting->tokenizer, seed);
        *benchmark = &c->base;
    } else {
        free_code(&c->base);
    }
    return status;
}

// What all kinds of tasks are made by, and what their implementations share.
#include "eval/benchmark/benchmark.h"

#include "core/rng.h"
#include "data/file/hash.h"
#include "data/tokenizer/text_stream.h"
#include "eval/benchmark/kinds.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

kv_status kv_benchmark_create(const kv_eval_task *config, const kv_prompting *prompting, uint64_t seed,
                              kv_benchmark **benchmark, kv_error *err) {
    *benchmark = NULL;
    const kv_benchmark_kind kind = kv_benchmark_kind_find(config->kind);
    if (!kind.name)
        return kv_fail(err, KV_ERR_ARGUMENT, "there is no kind of task called `%s`", config->kind);
    return kind.create(config, prompting, seed, benchmark, err);
}

void kv_benchmark_free(kv_benchmark *benchmark) {
    if (benchmark) benchmark->ops->free(benchmark);
}

json_t *kv_record_text(const char *text) {
    json_t *string = json_string(text);
    if (string) return string;
    char *copy = strdup(text);
    for (char *c = copy; c && *c; c++)
        if ((unsigned char)*c >= 0x80) *c = '?';
    string = copy ? json_string(copy) : NULL;
    free(copy);
    return string;
}

void kv_records_free(json_t **records, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        json_decref(records[i]);
        records[i] = NULL;
    }
}

kv_status kv_check_shots(const kv_eval_task *config, int64_t n, kv_error *err) {
    if (config->shots_file && config->shots > n)
        return kv_fail(err, KV_ERR_RANGE, "%s: %lld shots asked for, expected at most its %lld examples",
                       config->shots_file, (long long)config->shots, (long long)n);
    if (!config->shots_file && config->shots >= n)
        return kv_fail(err, KV_ERR_RANGE, "%s: %lld shots asked for, expected fewer than its %lld questions",
                       config->file, (long long)config->shots, (long long)n);
    return KV_OK;
}

void kv_draw_shots(uint64_t seed, int64_t n, int64_t asked, bool own, int64_t n_shots, int64_t *shots) {
    char name[48];
    snprintf(name, sizeof name, "trivia.shots.%lld", (long long)asked); // for all kinds
    const kv_rng rng = kv_rng_stream(seed, name);
    int64_t drawn = 0;
    for (uint64_t index = 0; drawn < n_shots; index++) {
        const int64_t candidate = (int64_t)kv_rng_below(rng, index, (uint64_t)n);
        bool fresh = !own || candidate != asked;
        for (int64_t i = 0; i < drawn; i++) fresh = fresh && shots[i] != candidate;
        if (fresh) shots[drawn++] = candidate;
    }
}

void kv_task_shots(const kv_eval_task *config, uint64_t seed, int64_t n, int64_t asked, int64_t *shots) {
    const bool once = config->shots_drawn == KV_SHOTS_ONCE;
    kv_draw_shots(seed, n, once ? -1 : asked, config->shots_file == NULL, config->shots, shots);
}

uint64_t kv_shots_way(const kv_eval_task *config, uint64_t way) {
    const bool once = config->shots_drawn == KV_SHOTS_ONCE && config->shots > 0;
    return once ? kv_hash64(way, "shots once", sizeof "shots once") : way;
}

// ---- Answers in text -----------------------------------------------------------------------------------

// The texts under way, one stream an answer: each token is looked at once, however long the answer has become.
struct answers {
    const kv_asking *asking;
    const char *const *stops;
    size_t n_stops;
    int64_t max_tokens, n_complete;
    kv_text_stream **streams; // [n] NULL before the first token, and behind the last
};

bool kv_choices_behind_prompt(const kv_benchmark *benchmark, const kv_system *system) {
    return benchmark->config->behind_prompt && system->predictor;
}

bool kv_ends_answer(const kv_asking *asking, int32_t id) {
    if (id < 0) return false;
    return id == kv_tokenizer_eos(asking->tokenizer) || kv_spec_ends(&asking->system->base->spec, id) ||
           (asking->chat && id == kv_tokenizer_find(asking->tokenizer, kv_chat_end(asking->chat)));
}

static kv_status out_of_memory(kv_error *err) {
    return kv_fail(err, KV_ERR_MEMORY, "out of memory for a batch of prompts");
}

// Whether the newest token completes a stop.
static kv_status take_text(struct answers *a, int64_t sequence, int32_t id, bool *stop, kv_error *err) {
    const char *text;
    size_t length;
    kv_text_stream **stream = &a->streams[sequence];
    if (!*stream) *stream = kv_text_stream_create(a->asking->tokenizer, a->stops, a->n_stops);
    return *stream ? kv_text_stream_push(*stream, id, &text, &length, stop, err) : out_of_memory(err);
}

static kv_status take_token(void *context, int64_t sequence, const int32_t *generated, int64_t n, bool *stop,
                            kv_error *err) {
    struct answers *a = context;
    *stop = kv_ends_answer(a->asking, generated[n - 1]);
    kv_status status = *stop ? KV_OK : take_text(a, sequence, generated[n - 1], stop, err);
    if (status != KV_OK || (!*stop && n < a->max_tokens)) return status;
    kv_text_stream_free(a->streams[sequence]);
    a->streams[sequence] = NULL;
    a->n_complete++;
    if (a->asking->answered) a->asking->answered(a->asking->listener, a->n_complete);
    return KV_OK;
}

kv_status kv_asking_generate(kv_asking *asking, const kv_prompts *prompts, const char *const *stops,
                             size_t n_stops, kv_generation how, int32_t *generated, int64_t *n_generated,
                             kv_error *err) {
    const size_t n = (size_t)prompts->n;
    const int64_t n_ids = kv_tokenizer_vocab_size(asking->tokenizer);
    const kv_batching batching = {
        .system = asking->system, .most = asking->most, .memory = asking->memory, .shared = asking->shared};
    struct answers a = {.asking = asking, .stops = stops, .n_stops = n_stops, .max_tokens = how.max_tokens};
    kv_answers answers = {.generated = generated, .n_generated = n_generated};
    a.streams = calloc(n + 1, sizeof *a.streams);
    if (!a.streams) return out_of_memory(err);
    how.n_ids = n_ids < asking->system->base->spec.vocab_size ? n_ids : 0;
    how.stop = take_token, how.context = &a;
    kv_status status = kv_generate_batched(&batching, &asking->session, prompts, &how, &answers, err);
    if (status == KV_ERR_NOT_FINITE) asking->not_finite = answers.failed;
    for (size_t s = 0; s < n; s++) kv_text_stream_free(a.streams[s]);
    free(a.streams);
    return status;
}

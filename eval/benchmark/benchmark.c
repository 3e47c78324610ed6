// What all kinds of tasks are made by, and what their implementations share.
#include "eval/benchmark/benchmark.h"

#include "core/rng.h"
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

// ---- Answers in text -----------------------------------------------------------------------------------

static kv_status make_session(kv_asking *asking, int64_t n_seq, int64_t capacity, kv_error *err) {
    if (asking->session && kv_session_n_seq(asking->session) == n_seq &&
        kv_session_capacity(asking->session) == capacity)
        return KV_OK;
    kv_session_free(asking->session);
    return kv_session_create(asking->system, n_seq, capacity, &asking->session, err);
}

static int32_t *join_prompts(int32_t *const *ids, const int64_t *lengths, int64_t n) {
    int64_t total = 0;
    for (int64_t s = 0; s < n; s++) total += lengths[s];
    int32_t *all = malloc((size_t)total * sizeof *all + 1), *end = all;
    for (int64_t s = 0; all && s < n; end += lengths[s++])
        memcpy(end, ids[s], (size_t)lengths[s] * sizeof *end);
    return all;
}

// The texts of a batch under way, one stream a sequence: each token is looked at once, however long the
// answer has become.
struct answers {
    const kv_asking *asking;
    kv_text_stream **streams; // [n]
};

bool kv_choices_behind_prompt(const kv_benchmark *benchmark, const kv_system *system) {
    return benchmark->config->behind_prompt && system->predictor;
}

bool kv_ends_answer(const kv_asking *asking, int32_t id) {
    if (id < 0) return false;
    return id == kv_tokenizer_eos(asking->tokenizer) || kv_spec_ends(&asking->system->base->spec, id) ||
           (asking->chat && id == kv_tokenizer_find(asking->tokenizer, kv_chat_end(asking->chat)));
}

static kv_status take_token(void *context, int64_t sequence, const int32_t *generated, int64_t n, bool *stop,
                            kv_error *err) {
    const struct answers *answers = context;
    const int32_t id = generated[n - 1];
    const char *text;
    size_t length;
    *stop = kv_ends_answer(answers->asking, id);
    if (*stop) return KV_OK;
    return kv_text_stream_push(answers->streams[sequence], id, &text, &length, stop, err);
}

kv_status kv_asking_generate(kv_asking *asking, const kv_prompts *prompts, const char *const *stops,
                             size_t n_stops, kv_generation how, int32_t *generated, int64_t *n_generated,
                             kv_error *err) {
    const int64_t n = prompts->n;
    kv_status status = make_session(asking, n, prompts->longest, err);
    if (status != KV_OK) return status;
    int32_t *ids = join_prompts(prompts->ids, prompts->lengths, n);
    struct answers answers = {asking, calloc((size_t)n + 1, sizeof *answers.streams)};
    bool made = ids && answers.streams;
    for (int64_t s = 0; made && s < n; s++) {
        answers.streams[s] = kv_text_stream_create(asking->tokenizer, stops, n_stops);
        made = answers.streams[s] != NULL;
    }
    const int64_t n_ids = kv_tokenizer_vocab_size(asking->tokenizer);
    how.n_ids = n_ids < asking->system->base->spec.vocab_size ? n_ids : 0;
    how.stop = take_token, how.context = &answers;
    status = made ? kv_generate(asking->session, ids, prompts->lengths, &how, generated, n_generated, err)
                  : kv_fail(err, KV_ERR_MEMORY, "out of memory for a batch of prompts");
    if (status == KV_ERR_NOT_FINITE) asking->not_finite = kv_session_not_finite(asking->session);
    for (int64_t s = 0; answers.streams && s < n; s++) kv_text_stream_free(answers.streams[s]);
    free(answers.streams);
    free(ids);
    return status;
}

#include "eval/benchmark/benchmark.h"

#include "eval/benchmark/choice.h"
#include "eval/benchmark/code.h"
#include "eval/benchmark/trivia.h"

#include <stdlib.h>
#include <string.h>

typedef kv_status create_fn(const kv_eval_task *config, const kv_tokenizer *tokenizer, uint64_t seed,
                            kv_benchmark **benchmark, kv_error *err);

static const struct {
    const char *name;
    create_fn *create;
} kinds[] = {
    {"triviaqa", kv_trivia_benchmark},      {"humaneval", kv_code_benchmark},
    {"arc_challenge", kv_choice_benchmark}, {"arc_easy", kv_choice_benchmark},
    {"boolq", kv_choice_benchmark},         {"hellaswag", kv_choice_benchmark},
    {"piqa", kv_choice_benchmark},          {"sciq", kv_choice_benchmark},
    {"winogrande", kv_choice_benchmark},
};
enum { N_KINDS = sizeof kinds / sizeof *kinds };

const char *kv_benchmark_kind(int i) {
    return i < N_KINDS ? kinds[i].name : NULL;
}

static int find_kind(const char *kind) {
    int i = 0;
    while (i < N_KINDS && strcmp(kinds[i].name, kind) != 0) i++;
    return i;
}

bool kv_benchmark_known(const char *kind) {
    return find_kind(kind) < N_KINDS;
}

kv_status kv_benchmark_create(const kv_eval_task *config, const kv_tokenizer *tokenizer, uint64_t seed,
                              kv_benchmark **benchmark, kv_error *err) {
    *benchmark = NULL;
    const int kind = find_kind(config->kind);
    if (kind == N_KINDS)
        return kv_fail(err, KV_ERR_ARGUMENT, "there is no kind of task called `%s`", config->kind);
    return kinds[kind].create(config, tokenizer, seed, benchmark, err);
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

kv_status kv_prompt_ids(const kv_tokenizer *tokenizer, const char *text, int32_t **ids, int64_t *n,
                        kv_error *err) {
    const int32_t bos = kv_tokenizer_bos(tokenizer);
    int32_t *encoded;
    *ids = NULL;
    kv_status status = kv_tokenizer_encode(tokenizer, text, strlen(text), &encoded, n, err);
    if (status != KV_OK) return status;
    const int64_t front = bos >= 0;
    *ids = malloc((size_t)(*n + front) * sizeof **ids + 1);
    if (*ids) {
        if (front) (*ids)[0] = bos;
        memcpy(*ids + front, encoded, (size_t)*n * sizeof *encoded);
        *n += front;
    }
    free(encoded);
    return *ids ? KV_OK : kv_fail(err, KV_ERR_MEMORY, "out of memory for a prompt");
}

kv_status kv_asking_session(kv_asking *asking, int64_t n_seq, int64_t capacity, kv_error *err) {
    if (asking->session && kv_session_n_seq(asking->session) == n_seq &&
        kv_session_capacity(asking->session) == capacity)
        return KV_OK;
    kv_session_free(asking->session);
    return kv_session_create(asking->system, n_seq, capacity, &asking->session, err);
}

int32_t *kv_join_prompts(int32_t *const *ids, const int64_t *lengths, int64_t n) {
    int64_t total = 0;
    for (int64_t s = 0; s < n; s++) total += lengths[s];
    int32_t *all = malloc((size_t)total * sizeof *all + 1), *end = all;
    for (int64_t s = 0; all && s < n; end += lengths[s++])
        memcpy(end, ids[s], (size_t)lengths[s] * sizeof *end);
    return all;
}

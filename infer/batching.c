// Prompts are sorted once; runs of them that fit one session go through it in turn.
#include "infer/batching.h"

#include "data/system/memory.h"
#include "infer/memory.h"

#include <stdlib.h>

static int64_t smaller(int64_t a, int64_t b) {
    return a < b ? a : b;
}

// ---- How many ------------------------------------------------------------------------------------------

static double weight_bytes(const kv_model *model) {
    return (double)kv_model_size(model, true) * (double)kv_dtype_size(model->embed.dtype);
}

double kv_batching_memory(const kv_system *system) {
    double left = (double)kv_memory_available("") - weight_bytes(system->base);
    if (system->aux && system->aux != system->base) left -= weight_bytes(system->aux);
    return left > 2 ? left / 2 : 1;
}

static int64_t most_of(const kv_batching *b) {
    return b->most > 0 ? b->most : KV_BATCH_MOST;
}

// One more sequence holds what all of them share.
static double bytes_of(const kv_batching *b, int64_t n, int64_t prompt_tokens, int64_t answer_tokens) {
    if (!b->shared) return kv_answer_bytes(b->system, n, prompt_tokens, answer_tokens);
    return kv_turns_bytes(b->system, n + 1, prompt_tokens, prompt_tokens + answer_tokens);
}

int64_t kv_batching_fit(const kv_batching *b, int64_t prompt_tokens, int64_t answer_tokens) {
    int64_t n = most_of(b);
    while (n > 1 && b->memory > 0 && bytes_of(b, n, prompt_tokens, answer_tokens) > b->memory) n /= 2;
    return n;
}

// Where the longest prompts do not fit `most` times, shorter ones behind them may take what memory there is.
double kv_batching_bytes(const kv_batching *b, int64_t n, int64_t prompt_tokens, int64_t answer_tokens) {
    const int64_t most = smaller(most_of(b), n), fit = kv_batching_fit(b, prompt_tokens, answer_tokens);
    const double bytes = bytes_of(b, smaller(most, fit), prompt_tokens, answer_tokens);
    return fit < most && bytes < b->memory ? b->memory : bytes;
}

// ---- Which -------------------------------------------------------------------------------------------

struct waiting {
    int64_t length, index;
};

// Longest first, those of one length as they were asked: the same prompt several times stays side by side.
static int compare(const void *left, const void *right) {
    const struct waiting *a = left, *b = right;
    if (a->length != b->length) return a->length > b->length ? -1 : 1;
    return a->index < b->index ? -1 : a->index > b->index;
}

static int64_t *sort_prompts(const kv_prompts *prompts) {
    const size_t n = (size_t)prompts->n;
    struct waiting *waiting = malloc((n + 1) * sizeof *waiting);
    int64_t *order = malloc((n + 1) * sizeof *order);
    if (waiting && order) {
        for (size_t i = 0; i < n; i++) waiting[i] = (struct waiting){prompts->lengths[i], (int64_t)i};
        qsort(waiting, n, sizeof *waiting, compare);
        for (size_t i = 0; i < n; i++) order[i] = waiting[i].index;
    } else {
        free(order);
        order = NULL;
    }
    free(waiting);
    return order;
}

// ---- One run after the other ---------------------------------------------------------------------------

// Room for what a prompt and its answer may come to.
static int64_t need(const kv_batching *b, const kv_prompts *prompts, const kv_generation *how, int64_t i) {
    return smaller(prompts->lengths[i] + how->max_tokens, kv_system_context(b->system));
}

static kv_status make_session(const kv_batching *b, int64_t n_seq, int64_t n_left, int64_t capacity,
                              kv_session **session, kv_error *err) {
    const int64_t keeper = b->shared != NULL, wanted = smaller(n_seq, n_left);
    const int64_t has = *session ? kv_session_n_seq(*session) - keeper : 0;
    const int64_t room = *session ? kv_session_capacity(*session) : 0;
    const bool fits = has == n_seq || (has < n_seq && has >= wanted);
    if (fits && room >= capacity && room < 2 * capacity) return KV_OK;
    kv_session_free(*session);
    if (!keeper) return kv_session_create(b->system, wanted, capacity, session, err);
    kv_status status = kv_session_create_turns(b->system, wanted + 1, capacity, session, err);
    return status == KV_OK ? kv_session_load(*session, wanted, b->shared, err) : status;
}

// Prompts order[0], … that one session answers: all of them where as many as ever go on together fit the memory, else
// those that are more than half as long as the first, so that the others do not take as much.
static int64_t run_of(const kv_batching *b, const kv_prompts *prompts, const kv_generation *how,
                      const int64_t *order, int64_t n, int64_t *n_seq) {
    const int64_t longest = need(b, prompts, how, order[0]);
    int64_t end = 1;
    *n_seq = kv_batching_fit(b, longest - how->max_tokens, how->max_tokens);
    if (*n_seq >= smaller(most_of(b), n)) return n;
    while (end < n && 2 * need(b, prompts, how, order[end]) > longest) end++;
    return end;
}

static kv_status generate_runs(const kv_batching *b, kv_session **session, const kv_prompts *prompts,
                               const int64_t *order, const kv_generation *how, kv_answers *answers,
                               kv_error *err) {
    kv_status status = KV_OK;
    for (int64_t at = 0, n; at < prompts->n && status == KV_OK; at += n) {
        int64_t n_seq;
        n = run_of(b, prompts, how, order + at, prompts->n - at, &n_seq);
        status = make_session(b, n_seq, n, need(b, prompts, how, order[at]), session, err);
        const kv_prompts run = {prompts->ids, prompts->lengths, order + at, n,
                                b->shared ? b->shared->n_rows : 0};
        if (status == KV_OK) status = kv_generate_in_turn(*session, &run, how, answers, err);
    }
    return status;
}

kv_status kv_generate_batched(const kv_batching *b, kv_session **session, const kv_prompts *prompts,
                              const kv_generation *how, kv_answers *answers, kv_error *err) {
    int64_t *order = sort_prompts(prompts);
    if (!order) return kv_fail(err, KV_ERR_MEMORY, "out of memory for %lld prompts", (long long)prompts->n);
    kv_status status = generate_runs(b, session, prompts, order, how, answers, err);
    free(order);
    return status;
}

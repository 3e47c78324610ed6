// Prompts are made once, when the benchmark is made: what does not fit the context is known before any model
// is loaded.
#include "eval/benchmark/written.h"

#include "data/file/hash.h"
#include "data/text/unicode.h"
#include "data/tokenizer/stop_filter.h"

#include <stdlib.h>
#include <string.h>

// ---- Prompts -------------------------------------------------------------------------------------------

static kv_status make_prompt(kv_written *w, int64_t row, uint64_t seed, int64_t *shots, kv_error *err) {
    kv_benchmark *b = &w->benchmark;
    kv_task_shots(b->config, seed, w->n_examples, row, shots);
    w->prompts[row] = w->ops->prompt(w, row, shots, b->config->shots);
    if (!w->prompts[row]) return kv_fail(err, KV_ERR_MEMORY, "%s: out of memory", b->config->file);
    b->items[row].where = w->ops->where(w, row);
    return kv_item_add_prompt(&b->items[row], &b->prompting, w->prompts[row], err);
}

// Prompts and accepted answers are all that a verdict depends on, beside how it is reached.
static uint64_t hash_item(const kv_benchmark *benchmark, int64_t i, uint64_t hash) {
    const kv_written *w = (const kv_written *)benchmark;
    const int64_t row = benchmark->items[i].row;
    return w->ops->hash(w, row, kv_hash64(hash, w->prompts[row], strlen(w->prompts[row]) + 1));
}

// ---- Answers -------------------------------------------------------------------------------------------

static kv_status decode_answer(const kv_asking *asking, const int32_t *ids, int64_t n, char **text,
                               kv_error *err) {
    size_t length;
    if (n > 0 && kv_ends_answer(asking, ids[n - 1])) n--;
    return kv_tokenizer_decode(asking->tokenizer, ids, n, text, &length, err);
}

bool kv_record_texts(json_t *record, const char *key, char *const *texts, int64_t n) {
    json_t *list = json_array();
    for (int64_t i = 0; i < n; i++) json_array_append_new(list, kv_record_text(texts[i]));
    const bool whole = json_array_size(list) == (size_t)n;
    return json_object_set_new(record, key, list) == 0 && whole;
}

bool kv_written_cut(char *text, const char *const *stops, size_t n_stops) {
    const bool cut = kv_cut_at_stop(text, stops, n_stops);
    const char *inner = text;
    const size_t length = kv_strip(&inner, strlen(text));
    memmove(text, inner, length);
    text[length] = '\0';
    return cut;
}

static json_t *make_record(const kv_written *w, const kv_item *item, const char *answer, bool right) {
    json_t *record = w->ops->record(w, item->row);
    int failed = !record;
    if (!w->without_prompts)
        failed |= json_object_set_new(record, "prompt", kv_record_text(w->prompts[item->row]));
    failed |= json_object_set_new(record, "generation", kv_record_text(answer));
    failed |= json_object_set_new(record, "verdict", json_string(right ? "correct" : "wrong"));
    if (!failed && kv_record_cut(record, item)) return record;
    json_decref(record); // out of memory on the way
    return NULL;
}

static kv_status judge_one(const kv_written *w, const kv_item *item, char *text, json_t **record,
                           kv_error *err) {
    bool right;
    kv_written_cut(text, w->stops, w->n_stops);
    kv_status status = w->ops->judge(w, item->row, text, &right, err);
    if (status != KV_OK) return status;
    *record = make_record(w, item, text, right);
    return *record ? KV_OK : kv_fail(err, KV_ERR_MEMORY, "out of memory for the answers");
}

// ids[n, max_tokens], n_generated[n] become records[n].
static kv_status judge(const kv_written *w, const kv_asking *asking, int64_t first, int64_t n,
                       const int32_t *generated, const int64_t *n_generated, json_t **records,
                       kv_error *err) {
    kv_status status = KV_OK;
    for (int64_t s = 0; s < n && status == KV_OK; s++) {
        char *text;
        status = decode_answer(asking, generated + s * w->benchmark.config->max_tokens, n_generated[s], &text,
                               err);
        if (status != KV_OK) return status;
        status = judge_one(w, &w->benchmark.items[first + s], text, &records[s], err);
        free(text);
    }
    return status;
}

static kv_status answer(kv_benchmark *benchmark, kv_asking *asking, int64_t first, int64_t n,
                        json_t **records, kv_error *err) {
    const kv_written *w = (const kv_written *)benchmark;
    const int64_t max_tokens = benchmark->config->max_tokens;
    kv_status status = KV_OK;
    int32_t **ids = calloc((size_t)n, sizeof *ids);
    int32_t *generated = calloc((size_t)(n * max_tokens), sizeof *generated);
    int64_t *n_generated = calloc((size_t)n, sizeof *n_generated);
    memset(records, 0, (size_t)n * sizeof(json_t *));
    if (!ids || !generated || !n_generated)
        status = kv_fail(err, KV_ERR_MEMORY, "out of memory for a batch of answers");
    for (int64_t s = 0; ids && s < n; s++) ids[s] = benchmark->items[first + s].ids;
    const kv_prompts prompts = {.ids = ids, .lengths = benchmark->prompt_tokens + first, .n = n};
    if (status == KV_OK)
        status = kv_asking_generate(asking, &prompts, w->stops, w->n_stops,
                                    (kv_generation){.max_tokens = max_tokens}, generated, n_generated, err);
    if (status == KV_OK) status = judge(w, asking, first, n, generated, n_generated, records, err);
    if (status != KV_OK) kv_records_free(records, n);
    free(ids);
    free(generated);
    free(n_generated);
    return status;
}

static kv_status score(const kv_benchmark *benchmark, json_t *const *records, double *values, kv_error *err) {
    for (int64_t i = 0; i < benchmark->n_items; i++) {
        const char *verdict = json_string_value(json_object_get(records[i], "verdict"));
        if (!verdict)
            return kv_fail(err, KV_ERR_FORMAT, "%s: the record of this question has no `verdict`",
                           benchmark->items[i].where);
        values[i] = !strcmp(verdict, "correct");
    }
    return KV_OK;
}

// ---- Creation ------------------------------------------------------------------------------------------

static void free_written(kv_benchmark *benchmark) {
    kv_written_free((kv_written *)benchmark);
}

void kv_written_free(kv_written *w) {
    for (int64_t i = 0; w->prompts && i < w->n_prompts; i++) free(w->prompts[i]);
    free(w->prompts);
    kv_items_free(&w->benchmark);
    w->ops->free(w);
}

kv_status kv_written_make(kv_written *w, const kv_prompting *prompting, uint64_t seed, uint64_t way,
                          kv_error *err) {
    static const kv_benchmark_ops ops = {.answer = answer, .score = score, .free = free_written};
    kv_benchmark *b = &w->benchmark;
    const kv_eval_task *config = b->config;
    kv_status status = kv_check_shots(config, w->n_examples, err);
    if (status != KV_OK) return status;
    b->ops = &ops;
    b->n_items = config->limit > 0 && config->limit < w->n_rows ? config->limit : w->n_rows;
    b->n_units = w->n_prompts = b->n_items;
    w->prompts = calloc((size_t)b->n_items + 1, sizeof *w->prompts);
    int64_t *shots = calloc((size_t)config->shots + 1, sizeof *shots);
    status = kv_items_make(b, prompting, config->max_tokens, err);
    if (status == KV_OK && (!w->prompts || !shots))
        status = kv_fail(err, KV_ERR_MEMORY, "%s: out of memory", config->file);
    for (int64_t i = 0; i < b->n_items && status == KV_OK; i++) status = make_prompt(w, i, seed, shots, err);
    free(shots);
    if (status != KV_OK) return status;
    kv_items_measure(b);
    way = kv_shots_way(config, way);
    kv_items_hash(b, kv_hash64(way, &config->max_tokens, sizeof config->max_tokens), hash_item);
    return KV_OK;
}

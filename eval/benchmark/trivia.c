// Prompts are made once, when the benchmark is made: what does not fit the context is known before any model
// is loaded.
#include "eval/benchmark/trivia.h"

#include "data/file/hash.h"
#include "data/system/warning.h"
#include "data/text/unicode.h"
#include "data/tokenizer/stop_filter.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const stops[] = {"\n", ".", ","};
enum { N_STOPS = sizeof stops / sizeof *stops };

struct trivia {
    kv_benchmark benchmark; // n_items questions from the beginning of the file; shots are drawn from all
    kv_questions questions;
    char **prompts;    // [n_prompts], one a row
    int64_t n_prompts; // n_items before any were left out
};

// ---- Prompts -------------------------------------------------------------------------------------------

char *kv_trivia_prompt(const kv_questions *questions, int64_t asked, const int64_t *shots, int64_t n_shots) {
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    if (!out) return NULL;
    for (int64_t i = 0; i < n_shots; i++) {
        const kv_question *shot = &questions->items[shots[i]];
        fprintf(out, "Question: %s\nAnswer: %s\n", shot->text, shot->value);
    }
    fprintf(out, "Question: %s\nAnswer:", questions->items[asked].text);
    if (fclose(out) == 0) return text;
    free(text);
    return NULL;
}

static kv_status make_prompt(struct trivia *t, int64_t i, const kv_prompting *prompting, uint64_t seed,
                             int64_t *shots, kv_error *err) {
    kv_benchmark *b = &t->benchmark;
    kv_draw_shots(seed, t->questions.n, i, b->config->shots, shots);
    t->prompts[i] = kv_trivia_prompt(&t->questions, i, shots, b->config->shots);
    if (!t->prompts[i]) return kv_fail(err, KV_ERR_MEMORY, "%s: out of memory", b->config->file);
    b->items[i].where = t->questions.items[i].where;
    return kv_item_add_prompt(&b->items[i], prompting, t->prompts[i], err);
}

static kv_status make_prompts(struct trivia *t, const kv_prompting *prompting, uint64_t seed, kv_error *err) {
    kv_benchmark *b = &t->benchmark;
    const kv_eval_task *config = b->config;
    if (config->shots >= t->questions.n)
        return kv_fail(err, KV_ERR_RANGE, "%s: %lld shots asked for, expected fewer than its %lld questions",
                       config->file, (long long)config->shots, (long long)t->questions.n);
    b->n_items = config->limit > 0 && config->limit < t->questions.n ? config->limit : t->questions.n;
    b->n_units = t->n_prompts = b->n_items;
    t->prompts = calloc((size_t)b->n_items, sizeof *t->prompts);
    int64_t *shots = calloc((size_t)config->shots + 1, sizeof *shots);
    kv_status status = kv_items_make(b, prompting, config->max_tokens, err);
    if (status == KV_OK && (!t->prompts || !shots))
        status = kv_fail(err, KV_ERR_MEMORY, "%s: out of memory", config->file);
    for (int64_t i = 0; i < b->n_items && status == KV_OK; i++)
        status = make_prompt(t, i, prompting, seed, shots, err);
    if (status == KV_OK) kv_items_measure(b);
    free(shots);
    return status;
}

// An answer is held against the accepted ones without its punctuation, and an empty one is none.
static kv_status can_be_right(const kv_question *question, bool *can, kv_error *err) {
    kv_bytes text = {0};
    kv_status status = KV_OK;
    *can = false;
    for (int64_t a = 0; a < question->n_aliases && status == KV_OK && !*can; a++) {
        status = kv_normalize_answer(question->aliases[a], strlen(question->aliases[a]), &text, err);
        *can = status == KV_OK && text.length > 0;
    }
    kv_bytes_free(&text);
    return status;
}

static kv_status warn_of_hopeless(const struct trivia *t, kv_error *err) {
    const kv_benchmark *b = &t->benchmark;
    const char *first = NULL;
    int64_t n = 0;
    kv_status status = KV_OK;
    for (int64_t i = 0; i < b->n_items && status == KV_OK; i++) {
        bool can;
        status = can_be_right(&t->questions.items[i], &can, err);
        if (status != KV_OK || can) continue;
        if (n++ == 0) first = t->questions.items[i].where;
    }
    if (n > 0)
        kv_warn(
            "%s: no accepted answer has anything left without punctuation, so that no system can be right; so it is "
            "with %lld of %lld items, which count as wrong: take them out or give them answers",
            first, (long long)n, (long long)b->n_items);
    return status;
}

// Prompts and accepted answers are all that a verdict depends on, beside the length of the generation.
static uint64_t hash_item(const kv_benchmark *benchmark, int64_t i, uint64_t hash) {
    const struct trivia *t = (const struct trivia *)benchmark;
    const kv_question *question = &t->questions.items[i];
    hash = kv_hash64(hash, t->prompts[i], strlen(t->prompts[i]) + 1);
    for (int64_t a = 0; a < question->n_aliases; a++)
        hash = kv_hash64(hash, question->aliases[a], strlen(question->aliases[a]) + 1);
    return hash;
}

static void free_trivia(kv_benchmark *benchmark) {
    struct trivia *t = (struct trivia *)benchmark;
    for (int64_t i = 0; t->prompts && i < t->n_prompts; i++) free(t->prompts[i]);
    free(t->prompts);
    kv_items_free(benchmark);
    kv_questions_free(&t->questions);
    free(t);
}

// ---- Answers -------------------------------------------------------------------------------------------

bool kv_trivia_cut(char *text) {
    const bool cut = kv_cut_at_stop(text, stops, N_STOPS);
    const char *inner = text;
    const size_t length = kv_strip(&inner, strlen(text));
    memmove(text, inner, length);
    text[length] = '\0';
    return cut;
}

static kv_status decode_answer(const kv_asking *asking, const int32_t *ids, int64_t n, char **text,
                               kv_error *err) {
    size_t length;
    if (n > 0 && kv_ends_answer(asking, ids[n - 1])) n--;
    return kv_tokenizer_decode(asking->tokenizer, ids, n, text, &length, err);
}

static const kv_question *question_of(const struct trivia *t, int64_t item) {
    return &t->questions.items[t->benchmark.items[item].row];
}

static json_t *make_record(const struct trivia *t, int64_t i, const char *answer, bool correct) {
    const kv_item *item = &t->benchmark.items[i];
    const kv_question *question = question_of(t, i);
    json_t *accepted = json_array();
    for (int64_t a = 0; a < question->n_aliases; a++)
        json_array_append_new(accepted, kv_record_text(question->aliases[a]));
    json_t *record = json_object();
    json_object_set_new(record, "id", kv_record_text(question->id));
    json_object_set_new(record, "question", kv_record_text(question->text));
    json_object_set_new(record, "prompt", kv_record_text(t->prompts[item->row]));
    json_object_set_new(record, "generation", kv_record_text(answer));
    json_object_set_new(record, "answers", accepted);
    json_object_set_new(record, "verdict", json_string(correct ? "correct" : "wrong"));
    enum { N_KEYS = 6 };
    const bool said = kv_record_cut(record, item);
    if (said && json_object_size(record) == N_KEYS + (item->cut > 0) &&
        json_array_size(accepted) == (size_t)question->n_aliases)
        return record;
    json_decref(record); // out of memory on the way
    return NULL;
}

// ids[n, max_tokens], n_generated[n] become records[n].
static kv_status judge(const struct trivia *t, const kv_asking *asking, int64_t first, int64_t n,
                       const int32_t *generated, const int64_t *n_generated, json_t **records,
                       kv_error *err) {
    for (int64_t s = 0; s < n; s++) {
        char *text;
        kv_status status = decode_answer(asking, generated + s * t->benchmark.config->max_tokens,
                                         n_generated[s], &text, err);
        if (status != KV_OK) return status;
        kv_trivia_cut(text);
        bool correct;
        status = kv_exact_match(text, question_of(t, first + s), &correct, err);
        records[s] = status == KV_OK ? make_record(t, first + s, text, correct) : NULL;
        free(text);
        if (status != KV_OK) return status;
        if (!records[s]) return kv_fail(err, KV_ERR_MEMORY, "out of memory for the answers");
    }
    return KV_OK;
}

static kv_status answer(kv_benchmark *benchmark, kv_asking *asking, int64_t first, int64_t n,
                        json_t **records, kv_error *err) {
    struct trivia *t = (struct trivia *)benchmark;
    const int64_t max_tokens = benchmark->config->max_tokens;
    kv_status status = KV_OK;
    int32_t **ids = calloc((size_t)n, sizeof *ids);
    int32_t *generated = calloc((size_t)(n * max_tokens), sizeof *generated);
    int64_t *n_generated = calloc((size_t)n, sizeof *n_generated);
    memset(records, 0, (size_t)n * sizeof(json_t *));
    if (!ids || !generated || !n_generated)
        status = kv_fail(err, KV_ERR_MEMORY, "out of memory for a batch of answers");
    for (int64_t s = 0; ids && s < n; s++) ids[s] = benchmark->items[first + s].ids;
    const kv_prompts prompts = {ids, benchmark->prompt_tokens + first, n, benchmark->longest};
    if (status == KV_OK)
        status = kv_asking_generate(asking, &prompts, stops, N_STOPS,
                                    (kv_generation){.max_tokens = max_tokens}, generated, n_generated, err);
    if (status == KV_OK) status = judge(t, asking, first, n, generated, n_generated, records, err);
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

kv_status kv_trivia_benchmark(const kv_eval_task *config, const kv_prompting *prompting, uint64_t seed,
                              kv_benchmark **benchmark, kv_error *err) {
    static const kv_benchmark_ops ops = {.answer = answer, .score = score, .free = free_trivia};
    *benchmark = NULL;
    struct trivia *t = calloc(1, sizeof *t);
    if (!t) return kv_fail(err, KV_ERR_MEMORY, "%s: out of memory", config->file);
    t->benchmark = (kv_benchmark){.ops = &ops, .config = config, .n_metrics = 1, .metrics = {"exact_match"}};
    kv_status status = kv_triviaqa_read(config->file, &t->questions, err);
    if (status == KV_OK) status = make_prompts(t, prompting, seed, err);
    if (status == KV_OK) status = warn_of_hopeless(t, err);
    if (status == KV_OK) {
        kv_items_hash(&t->benchmark, kv_hash64(1, &config->max_tokens, sizeof config->max_tokens), hash_item);
        *benchmark = &t->benchmark;
    } else {
        free_trivia(&t->benchmark);
    }
    return status;
}

// Passages and their questions; what is asked of a system and how is eval/benchmark/written.c.
#include "eval/benchmark/recall.h"

#include "data/benchmark/recall.h"
#include "data/file/hash.h"
#include "eval/benchmark/written.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct recall {
    kv_written written;
    kv_recall_questions questions;
};

static const kv_recall_question *question_of(const kv_written *w, int64_t row) {
    return &((const struct recall *)w)->questions.items[row];
}

static const char *where(const kv_written *w, int64_t row) {
    return question_of(w, row)->where;
}

static char *prompt(const kv_written *w, int64_t row, const int64_t *shots, int64_t n_shots) {
    (void)shots, (void)n_shots;
    return strdup(question_of(w, row)->prompt);
}

static kv_status judge(const kv_written *w, int64_t row, const char *answer, bool *right, kv_error *err) {
    (void)err;
    *right = strcmp(answer, question_of(w, row)->answer) == 0;
    return KV_OK;
}

static uint64_t hash(const kv_written *w, int64_t row, uint64_t hash) {
    const kv_recall_question *q = question_of(w, row);
    hash = kv_hash64(hash, q->answer, strlen(q->answer) + 1);
    hash = kv_hash64(hash, &q->length, sizeof q->length);
    return kv_hash64(hash, &q->depth, sizeof q->depth);
}

static json_t *record(const kv_written *w, int64_t row) {
    const kv_recall_question *q = question_of(w, row);
    json_t *record = json_object();
    int failed = json_object_set_new(record, "item", kv_record_text(q->where));
    failed |= json_object_set_new(record, "length", json_integer(q->length));
    failed |= json_object_set_new(record, "depth", json_real(q->depth));
    failed |= json_object_set_new(record, "answer", kv_record_text(q->answer));
    if (!failed) return record;
    json_decref(record); // out of memory on the way
    return NULL;
}

static void free_recall(kv_written *w) {
    struct recall *r = (struct recall *)w;
    kv_recall_questions_free(&r->questions);
    free(r);
}

// An answer longer than what may be written is never given. How it is split behind a prompt nobody knows beforehand, so
// the shorter of two ways counts.
static kv_status check_answer(const kv_written *w, const kv_tokenizer *tokenizer, int64_t row,
                              kv_error *err) {
    const kv_recall_question *question = question_of(w, row);
    const int64_t most = w->benchmark.config->max_tokens;
    int64_t shortest = INT64_MAX;
    for (int space = 0; space < 2; space++) {
        char *text;
        int32_t *ids = NULL;
        int64_t n = 0;
        if (asprintf(&text, "%s%s", space ? " " : "", question->answer) < 0)
            return kv_fail(err, KV_ERR_MEMORY, "%s: out of memory", question->where);
        kv_status status = kv_tokenizer_encode(tokenizer, text, strlen(text), &ids, &n, err);
        free(text);
        free(ids);
        if (status) return kv_fail_within(err, status, "%s", question->where);
        if (n < shortest) shortest = n;
    }
    if (shortest <= most) return KV_OK;
    return kv_fail(err, KV_ERR_RANGE, "%s: \"answer\" is %lld tokens, expected at most `max_tokens`, %lld",
                   question->where, (long long)shortest, (long long)most);
}

static kv_status make(struct recall *r, const kv_prompting *prompting, uint64_t seed, kv_error *err) {
    enum { PROTOCOL = 3 }; // to be raised when prompts or verdicts come to mean something else
    kv_written *w = &r->written;
    kv_benchmark *b = &w->benchmark;
    kv_status status = kv_recall_read(b->config->file, &r->questions, err);
    w->n_rows = w->n_examples = r->questions.n;
    if (!status) status = kv_written_make(w, prompting, seed, PROTOCOL, err);
    for (int64_t i = 0; i < b->n_items && !status; i++) {
        b->items[i].length = question_of(w, i)->length;
        b->items[i].depth = question_of(w, i)->depth;
        status = check_answer(w, prompting->tokenizer, i, err);
    }
    return status;
}

kv_status kv_recall_task_check(const kv_eval_task *config, char key[KV_TASK_KEY], kv_error *err) {
    snprintf(key, KV_TASK_KEY, "shots");
    if (config->shots == 0) return KV_OK;
    return kv_fail(err, KV_ERR_ARGUMENT,
                   "found %lld, expected 0: a passage with its question is all of a prompt",
                   (long long)config->shots);
}

kv_status kv_recall_benchmark(const kv_eval_task *config, const kv_prompting *prompting, uint64_t seed,
                              kv_benchmark **benchmark, kv_error *err) {
    static const kv_written_ops ops = {where, prompt, judge, hash, record, free_recall};
    *benchmark = NULL;
    struct recall *r = calloc(1, sizeof *r);
    if (!r) return kv_fail(err, KV_ERR_MEMORY, "%s: out of memory", config->file);
    r->written = (kv_written){.benchmark = {.config = config, .n_metrics = 1, .metrics = {"exact_match"}},
                              .ops = &ops,
                              .stops = kv_recall_stops,
                              .n_stops = KV_RECALL_STOPS,
                              .without_prompts = true};
    kv_status status = make(r, prompting, seed, err);
    if (status)
        kv_written_free(&r->written);
    else
        *benchmark = &r->written.benchmark;
    return status;
}

// Questions and accepted answers of TriviaQA's kind; what is asked of a system and how is eval/benchmark/written.c.
#include "eval/benchmark/trivia.h"

#include "data/file/hash.h"
#include "data/system/warning.h"
#include "eval/benchmark/written.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const kv_trivia_stops[KV_TRIVIA_STOPS] = {"\n", ".", ","};

struct trivia {
    kv_written written;
    kv_questions questions, examples; // examples: of a file of their own
};

static const kv_question *question_of(const kv_written *w, int64_t row) {
    return &((const struct trivia *)w)->questions.items[row];
}

// ---- Prompts -------------------------------------------------------------------------------------------

char *kv_trivia_prompt(const kv_question *asked, const kv_questions *examples, const int64_t *shots,
                       int64_t n_shots) {
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    if (!out) return NULL;
    for (int64_t i = 0; i < n_shots; i++) {
        const kv_question *shot = &examples->items[shots[i]];
        fprintf(out, "Question: %s\nAnswer: %s\n", shot->text, shot->value);
    }
    fprintf(out, "Question: %s\nAnswer:", asked->text);
    if (fclose(out) == 0) return text;
    free(text);
    return NULL;
}

static char *prompt(const kv_written *w, int64_t row, const int64_t *shots, int64_t n_shots) {
    const struct trivia *t = (const struct trivia *)w;
    return kv_trivia_prompt(question_of(w, row), t->examples.n ? &t->examples : &t->questions, shots,
                            n_shots);
}

static const char *where(const kv_written *w, int64_t row) {
    return question_of(w, row)->where;
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
    const kv_benchmark *b = &t->written.benchmark;
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

static uint64_t hash(const kv_written *w, int64_t row, uint64_t hash) {
    const kv_question *question = question_of(w, row);
    for (int64_t a = 0; a < question->n_aliases; a++)
        hash = kv_hash64(hash, question->aliases[a], strlen(question->aliases[a]) + 1);
    return hash;
}

// ---- Answers -------------------------------------------------------------------------------------------

static kv_status judge(const kv_written *w, int64_t row, const char *answer, bool *right, kv_error *err) {
    return kv_exact_match(answer, question_of(w, row), right, err);
}

static json_t *record(const kv_written *w, int64_t row) {
    const kv_question *question = question_of(w, row);
    json_t *record = json_object();
    int failed = json_object_set_new(record, "id", kv_record_text(question->id));
    failed |= json_object_set_new(record, "question", kv_record_text(question->text));
    if (!failed && kv_record_texts(record, "answers", question->aliases, question->n_aliases)) return record;
    json_decref(record); // out of memory on the way
    return NULL;
}

// ---- Creation ------------------------------------------------------------------------------------------

static void free_trivia(kv_written *w) {
    struct trivia *t = (struct trivia *)w;
    kv_questions_free(&t->questions);
    kv_questions_free(&t->examples);
    free(t);
}

kv_status kv_trivia_benchmark(const kv_eval_task *config, const kv_prompting *prompting, uint64_t seed,
                              kv_benchmark **benchmark, kv_error *err) {
    static const kv_written_ops ops = {where, prompt, judge, hash, record, free_trivia};
    enum { PROTOCOL = 1 }; // to be raised when prompts or verdicts come to mean something else
    *benchmark = NULL;
    struct trivia *t = calloc(1, sizeof *t);
    if (!t) return kv_fail(err, KV_ERR_MEMORY, "%s: out of memory", config->file);
    t->written = (kv_written){.benchmark = {.config = config, .n_metrics = 1, .metrics = {"exact_match"}},
                              .ops = &ops,
                              .stops = kv_trivia_stops,
                              .n_stops = KV_TRIVIA_STOPS};
    kv_status status = kv_triviaqa_read(config->file, &t->questions, err);
    if (status == KV_OK && config->shots_file)
        status = kv_triviaqa_read(config->shots_file, &t->examples, err);
    t->written.n_rows = t->questions.n;
    t->written.n_examples = config->shots_file ? t->examples.n : t->questions.n;
    if (status == KV_OK) status = kv_written_make(&t->written, prompting, seed, PROTOCOL, err);
    if (status == KV_OK) status = warn_of_hopeless(t, err);
    if (status == KV_OK)
        *benchmark = &t->written.benchmark;
    else
        kv_written_free(&t->written);
    return status;
}

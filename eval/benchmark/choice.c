// Choices are tokenized once, when the benchmark is made: so that what does not fit the context is known
// before any model is loaded. Records keep log-likelihoods and lengths, from which every metric can be worked
// out again.
#include "eval/benchmark/choice.h"

#include "data/file/hash.h"
#include "data/system/warning.h"
#include "data/text/unicode.h"
#include "infer/score/score.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char joint[] = " "; // between a context and its choice

struct choices {
    kv_benchmark benchmark; // n_items questions from the beginning of the file; shots are drawn from all
    kv_choice_task task;
    char **contexts;    // [n_contexts], one a row, with the solved examples in front
    int64_t n_contexts; // n_items before any were left out
};

// ---- Prompts -------------------------------------------------------------------------------------------

static const kv_choice_items *examples_of(const kv_choice_task *task) {
    return task->examples.n > 0 ? &task->examples : &task->items;
}

char *kv_choice_context(const kv_choice_task *task, int64_t asked, const int64_t *shots, int64_t n_shots) {
    const kv_choice_item *item = &task->items.items[asked];
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    if (!out) return NULL;
    if (item->preamble) fputs(item->preamble, out);
    for (int64_t i = 0; i < n_shots; i++) {
        const kv_choice_item *shot = &examples_of(task)->items[shots[i]];
        const char *right = shot->choices[shot->gold];
        if (shot->ending)
            fprintf(out, "%s%s%s%s%s", shot->context, right, task->joint, shot->ending, task->separator);
        else
            fprintf(out, "%s%s%s%s", shot->context, task->joint, right, task->separator);
    }
    fputs(item->context, out);
    if (fclose(out) == 0) return text;
    free(text);
    return NULL;
}

kv_status kv_choice_encode(const kv_prompting *prompting, const char *context, const char *continuation,
                           int32_t **ids, int64_t *length, int64_t *n_scored, kv_error *err) {
    *ids = NULL;
    char *alone = strdup(context);
    if (!alone) return kv_fail(err, KV_ERR_MEMORY, "out of memory for a choice");
    if (prompting->chat)
        continuation += strspn(continuation, " ");
    else
        alone[kv_strip_end(alone, strlen(alone))] = '\0';
    int64_t n_context = 0;
    int32_t *context_ids = NULL;
    kv_status status = kv_prompt_answer_ids(prompting, context, continuation, ids, length, err);
    if (status == KV_OK) status = kv_prompt_ids(prompting, alone, &context_ids, &n_context, err);
    free(context_ids);
    free(alone);
    if (status == KV_OK) {
        *n_scored = *length - n_context;
        if (n_context < 1)
            status = kv_fail(err, KV_ERR_FORMAT, "expected some context before the choice");
        else if (*n_scored < 1)
            status = kv_fail(err, KV_ERR_FORMAT, "the choice has no tokens of its own after its context");
    }
    if (status == KV_OK) return KV_OK;
    free(*ids);
    *ids = NULL;
    return status;
}

// Tokens of choice c, behind those of the choices before it.
static kv_status add_choice(struct choices *t, int64_t i, int64_t c, kv_error *err) {
    const kv_choice_item *item = &t->task.items.items[i];
    kv_item *asked = &t->benchmark.items[i];
    const char *front = t->contexts[i];
    char *context, *continuation;
    if (asprintf(&context, "%s%s", front, item->ending ? item->choices[c] : "") < 0) context = NULL;
    if (asprintf(&continuation, "%s%s", t->task.joint, item->ending ? item->ending : item->choices[c]) < 0)
        continuation = NULL;
    int32_t *ids = NULL;
    int64_t n = 0, n_scored = 0;
    kv_status status = context && continuation ? kv_choice_encode(&t->benchmark.prompting, context,
                                                                  continuation, &ids, &n, &n_scored, err)
                                               : kv_fail(err, KV_ERR_MEMORY, "out of memory for a choice");
    if (status != KV_OK) kv_fail_within(err, status, "%s: choice %lld", item->where, (long long)c + 1);
    if (status == KV_OK) status = kv_item_add(asked, ids, n, n_scored, err);
    free(ids);
    free(context);
    free(continuation);
    return status;
}

static kv_status make_question(struct choices *t, int64_t i, uint64_t seed, int64_t *shots, kv_error *err) {
    kv_benchmark *b = &t->benchmark;
    const kv_choice_item *item = &t->task.items.items[i];
    const kv_choice_items *examples = examples_of(&t->task);
    kv_task_shots(b->config, seed, examples->n, i, shots);
    t->contexts[i] = kv_choice_context(&t->task, i, shots, b->config->shots);
    if (!t->contexts[i]) return kv_fail(err, KV_ERR_MEMORY, "%s: out of memory", item->where);
    b->items[i].where = item->where;
    kv_status status = KV_OK;
    for (int64_t c = 0; c < item->n_choices && status == KV_OK; c++) status = add_choice(t, i, c, err);
    return status;
}

static kv_status make_questions(struct choices *t, const kv_prompting *prompting, uint64_t seed,
                                kv_error *err) {
    kv_benchmark *b = &t->benchmark;
    const kv_eval_task *config = b->config;
    kv_status status = kv_check_shots(config, examples_of(&t->task)->n, err);
    if (status != KV_OK) return status;
    b->n_items = config->limit > 0 && config->limit < t->task.items.n ? config->limit : t->task.items.n;
    b->n_units = t->n_contexts = b->n_items;
    t->contexts = calloc((size_t)b->n_items, sizeof *t->contexts);
    int64_t *shots = calloc((size_t)config->shots + 1, sizeof *shots);
    status = kv_items_make(b, prompting, 0, err);
    if (status == KV_OK && (!t->contexts || !shots))
        status = kv_fail(err, KV_ERR_MEMORY, "%s: out of memory", config->file);
    for (int64_t i = 0; i < b->n_items && status == KV_OK; i++)
        status = make_question(t, i, seed, shots, err);
    if (status == KV_OK) kv_items_measure(b);
    free(shots);
    return status;
}

// Nothing is the most probable per character or byte where there is none.
static void warn_of_empty_choices(const struct choices *t) {
    const kv_benchmark *b = &t->benchmark;
    const char *first = NULL;
    int64_t n = 0;
    for (int64_t i = 0; i < b->n_items; i++) {
        const kv_choice_item *item = &t->task.items.items[i];
        bool empty = false;
        for (int64_t c = 0; c < item->n_choices; c++) empty = empty || !item->choices[c][0];
        if (empty && n++ == 0) first = item->where;
    }
    if (n > 0)
        kv_warn(
            "%s: a choice is empty, which can win by `acc` alone; so it is with %lld of %lld items: see that their "
            "texts are there",
            first, (long long)n, (long long)b->n_items);
}

static const kv_choice_item *question_of(const struct choices *t, int64_t item) {
    return &t->task.items.items[t->benchmark.items[item].row];
}

// Part of the hash: to be raised when prompts or scores come to mean something else.
enum { PROTOCOL = 2 }; // 1: acc_norm was per byte

// What is read, what is scored, and which of it is right.
static uint64_t hash_item(const kv_benchmark *benchmark, int64_t i, uint64_t hash) {
    const struct choices *t = (const struct choices *)benchmark;
    const kv_choice_item *item = &t->task.items.items[i];
    hash = kv_hash64(hash, t->contexts[i], strlen(t->contexts[i]) + 1);
    for (int64_t c = 0; c < item->n_choices; c++)
        hash = kv_hash64(hash, item->choices[c], strlen(item->choices[c]) + 1);
    if (item->ending) hash = kv_hash64(hash, item->ending, strlen(item->ending) + 1);
    return kv_hash64(hash, &item->gold, sizeof item->gold);
}

static void free_choices(kv_benchmark *benchmark) {
    struct choices *t = (struct choices *)benchmark;
    for (int64_t i = 0; t->contexts && i < t->n_contexts; i++) free(t->contexts[i]);
    free(t->contexts);
    kv_items_free(benchmark);
    kv_choice_items_free(&t->task.items);
    kv_choice_items_free(&t->task.examples);
    free(t);
}

// ---- Scores --------------------------------------------------------------------------------------------

int64_t kv_choice_best(const double *log_likelihoods, const int64_t *lengths, int64_t n) {
    int64_t best = 0;
    double largest = -INFINITY;
    for (int64_t c = 0; c < n; c++) {
        const double value = !lengths     ? log_likelihoods[c]
                             : lengths[c] ? log_likelihoods[c] / (double)lengths[c]
                                          : -INFINITY;
        if (value > largest) largest = value, best = c;
    }
    return best;
}

// The numbers of a record.
struct numbers {
    double log_likelihoods[KV_MAX_CHOICES];
    int64_t characters[KV_MAX_CHOICES], bytes[KV_MAX_CHOICES], n, gold;
};

// Whether the right choice is the best one, by `metric`.
static bool is_right(const char *metric, const struct numbers *r) {
    const int64_t *lengths = !strcmp(metric, "acc_norm")    ? r->characters
                             : !strcmp(metric, "acc_bytes") ? r->bytes
                                                            : NULL;
    return kv_choice_best(r->log_likelihoods, lengths, r->n) == r->gold;
}

// false: the key is no list of n lengths.
static bool read_lengths(const json_t *record, const char *key, int64_t n, int64_t *lengths) {
    const json_t *list = json_object_get(record, key);
    if (json_array_size(list) != (size_t)n) return false;
    for (int64_t c = 0; c < n; c++) {
        const json_t *length = json_array_get(list, (size_t)c);
        if (!json_is_integer(length) || json_integer_value(length) < 0) return false;
        lengths[c] = json_integer_value(length);
    }
    return true;
}

// What is missing from a record, or NULL.
static const char *read_record(const json_t *record, struct numbers *r) {
    const json_t *log_likelihoods = json_object_get(record, "loglikelihoods");
    const json_t *gold = json_object_get(record, "gold");
    r->n = (int64_t)json_array_size(log_likelihoods);
    if (r->n < 1 || r->n > KV_MAX_CHOICES) return "`loglikelihoods`";
    for (int64_t c = 0; c < r->n; c++) {
        const json_t *value = json_array_get(log_likelihoods, (size_t)c);
        if (!json_is_number(value)) return "`loglikelihoods`";
        r->log_likelihoods[c] = json_number_value(value);
    }
    if (!read_lengths(record, "characters", r->n, r->characters)) return "`characters`";
    if (!read_lengths(record, "bytes", r->n, r->bytes)) return "`bytes`";
    r->gold = json_is_integer(gold) ? json_integer_value(gold) : -1;
    return r->gold >= 0 && r->gold < r->n ? NULL : "`gold`";
}

static kv_status score(const kv_benchmark *benchmark, json_t *const *records, double *values, kv_error *err) {
    for (int64_t i = 0; i < benchmark->n_items; i++) {
        struct numbers r;
        const char *missing = read_record(records[i], &r);
        if (missing)
            return kv_fail(err, KV_ERR_FORMAT, "%s: the record of this question has no usable %s",
                           benchmark->items[i].where, missing);
        for (int m = 0; m < benchmark->n_metrics; m++)
            values[m * benchmark->n_items + i] = is_right(benchmark->metrics[m], &r);
    }
    return KV_OK;
}

// ---- Answers -------------------------------------------------------------------------------------------

static json_t *list_of_lengths(const int64_t *lengths, int64_t n) {
    json_t *list = json_array();
    for (int64_t c = 0; c < n; c++)
        if (json_array_append_new(list, json_integer(lengths[c])) != 0) {
            json_decref(list);
            return NULL;
        }
    return list;
}

// Setting NULL fails, and a list that lacks an entry is seen by its size.
static json_t *make_record(const struct choices *t, int64_t i, const double *log_likelihoods) {
    const kv_item *asked = &t->benchmark.items[i];
    const kv_choice_item *item = question_of(t, i);
    const int64_t n = item->n_choices;
    struct numbers r = {.n = n, .gold = item->gold};
    json_t *record = json_object(), *texts = json_array(), *values = json_array();
    for (int64_t c = 0; c < n; c++) {
        const size_t bytes = strlen(item->choices[c]);
        r.log_likelihoods[c] = log_likelihoods[c];
        r.characters[c] = kv_utf8_count(item->choices[c], bytes), r.bytes[c] = (int64_t)bytes;
        json_array_append_new(texts, kv_record_text(item->choices[c]));
        json_array_append_new(values, json_real(log_likelihoods[c]));
    }
    int failed = json_array_size(texts) != (size_t)n || json_array_size(values) != (size_t)n;
    failed |= json_object_set_new(record, "id", kv_record_text(item->id));
    failed |= json_object_set_new(record, "context", kv_record_text(t->contexts[asked->row]));
    failed |= json_object_set_new(record, "choices", texts);
    if (item->ending) failed |= json_object_set_new(record, "ending", kv_record_text(item->ending));
    failed |= json_object_set_new(record, "loglikelihoods", values);
    failed |= json_object_set_new(record, "characters", list_of_lengths(r.characters, n));
    failed |= json_object_set_new(record, "bytes", list_of_lengths(r.bytes, n));
    failed |= json_object_set_new(record, "gold", json_integer(item->gold));
    failed |= !kv_record_cut(record, asked);
    for (int m = 0; m < t->benchmark.n_metrics; m++) {
        const char *metric = t->benchmark.metrics[m];
        failed |= json_object_set_new(record, metric, json_integer(is_right(metric, &r)));
    }
    if (!failed) return record;
    json_decref(record); // out of memory on the way
    return NULL;
}

// log_likelihoods of all choices of questions [first, first + n) become records[n].
static kv_status make_records(const struct choices *t, int64_t first, int64_t n,
                              const double *log_likelihoods, json_t **records, kv_error *err) {
    for (int64_t s = 0; s < n; s++) {
        records[s] = make_record(t, first + s, log_likelihoods);
        if (!records[s]) return kv_fail(err, KV_ERR_MEMORY, "out of memory for the answers");
        log_likelihoods += question_of(t, first + s)->n_choices;
    }
    return KV_OK;
}

// What kv_score takes, for some questions together.
struct batch {
    int64_t n_seq, n_ids;
    int32_t *ids;
    int64_t *lengths, *n_scored;
    double *log_likelihoods;
};

static bool fill_batch(const struct choices *t, int64_t first, int64_t n, struct batch *b) {
    *b = (struct batch){0};
    for (int64_t i = first; i < first + n; i++) {
        b->n_seq += t->benchmark.items[i].n_seq;
        b->n_ids += t->benchmark.items[i].n_ids;
    }
    b->ids = calloc((size_t)b->n_ids, sizeof *b->ids);
    b->lengths = calloc((size_t)b->n_seq, sizeof *b->lengths);
    b->n_scored = calloc((size_t)b->n_seq, sizeof *b->n_scored);
    b->log_likelihoods = calloc((size_t)b->n_seq, sizeof *b->log_likelihoods);
    if (!b->ids || !b->lengths || !b->n_scored || !b->log_likelihoods) return false;
    int64_t seq = 0, id = 0;
    for (int64_t i = first; i < first + n; i++) {
        const kv_item *q = &t->benchmark.items[i];
        const size_t n_choices = (size_t)q->n_seq;
        memcpy(b->ids + id, q->ids, (size_t)q->n_ids * sizeof *q->ids);
        memcpy(b->lengths + seq, q->lengths, n_choices * sizeof *q->lengths);
        memcpy(b->n_scored + seq, q->n_scored, n_choices * sizeof *q->n_scored);
        id += q->n_ids;
        seq += q->n_seq;
    }
    return true;
}

// Which question of the batch has the choice whose log-likelihood is no number.
static kv_status not_finite(const struct choices *t, int64_t first, const struct batch *b, int64_t *question,
                            kv_error *err) {
    int64_t choice = 0;
    *question = 0;
    for (int64_t i = 0; i < b->n_seq && isfinite(b->log_likelihoods[i]); i++)
        if (++choice == t->benchmark.items[first + *question].n_seq) ++*question, choice = 0;
    return kv_fail_within(err, KV_ERR_NOT_FINITE, "choice %lld", (long long)choice + 1);
}

static kv_status answer(kv_benchmark *benchmark, kv_asking *asking, int64_t first, int64_t n,
                        json_t **records, kv_error *err) {
    const struct choices *t = (const struct choices *)benchmark;
    struct batch b;
    kv_status status = KV_OK;
    memset(records, 0, (size_t)n * sizeof(json_t *));
    if (!fill_batch(t, first, n, &b))
        status = kv_fail(err, KV_ERR_MEMORY, "out of memory for a batch of choices");
    if (status == KV_OK)
        status = (kv_choices_behind_prompt(benchmark, asking->system) ? kv_score_behind_prompt : kv_score)(
            asking->system, b.ids, b.lengths, b.n_scored, b.n_seq, b.log_likelihoods, NULL, err);
    if (status == KV_ERR_NOT_FINITE) status = not_finite(t, first, &b, &asking->not_finite, err);
    if (status == KV_OK) status = make_records(t, first, n, b.log_likelihoods, records, err);
    if (status != KV_OK) kv_records_free(records, n);
    free(b.ids);
    free(b.lengths);
    free(b.n_scored);
    free(b.log_likelihoods);
    return status;
}

// ---- Creation ------------------------------------------------------------------------------------------

static kv_status prepare(struct choices *t, const kv_prompting *prompting, uint64_t seed, kv_error *err) {
    kv_benchmark *b = &t->benchmark;
    const kv_choice_kind *kind = &t->task.kind;
    for (int m = 0; m < (int)(sizeof kind->metrics / sizeof *kind->metrics) && kind->metrics[m]; m++)
        snprintf(b->metrics[b->n_metrics++], KV_METRIC_NAME, "%s", kind->metrics[m]);
    kv_status status = make_questions(t, prompting, seed, err);
    if (status != KV_OK) return status;
    warn_of_empty_choices(t);
    uint64_t way = kv_hash64(PROTOCOL, kind->name, strlen(kind->name) + 1);
    if (b->config->behind_prompt) way = kv_hash64(way, "behind", sizeof "behind");
    if (strcmp(t->task.joint, joint) != 0) way = kv_hash64(way, t->task.joint, strlen(t->task.joint) + 1);
    kv_items_hash(b, kv_shots_way(b->config, way), hash_item);
    return KV_OK;
}

kv_status kv_choice_benchmark_of(const kv_eval_task *config, kv_choice_task *task,
                                 const kv_prompting *prompting, uint64_t seed, kv_benchmark **benchmark,
                                 kv_error *err) {
    static const kv_benchmark_ops ops = {.answer = answer, .score = score, .free = free_choices};
    *benchmark = NULL;
    struct choices *t = calloc(1, sizeof *t);
    if (!t) {
        kv_choice_items_free(&task->items);
        kv_choice_items_free(&task->examples);
        return kv_fail(err, KV_ERR_MEMORY, "%s: out of memory", config->file);
    }
    t->benchmark = (kv_benchmark){.ops = &ops, .config = config};
    t->task = *task;
    kv_status status = prepare(t, prompting, seed, err);
    if (status == KV_OK)
        *benchmark = &t->benchmark;
    else
        free_choices(&t->benchmark);
    return status;
}

kv_status kv_choice_benchmark(const kv_eval_task *config, const kv_prompting *prompting, uint64_t seed,
                              kv_benchmark **benchmark, kv_error *err) {
    const kv_choice_kind *kind = kv_choice_kind_find(config->kind);
    *benchmark = NULL;
    if (!kind) return kv_fail(err, KV_ERR_ARGUMENT, "`%s` is no kind of multiple choice", config->kind);
    kv_choice_task task = {.kind = *kind, .joint = joint, .separator = "\n\n"};
    kv_status status = kv_choices_read(config->file, kind, &task.items, err);
    if (status == KV_OK && config->shots_file)
        status = kv_choices_read(config->shots_file, kind, &task.examples, err);
    if (status == KV_OK) return kv_choice_benchmark_of(config, &task, prompting, seed, benchmark, err);
    kv_choice_items_free(&task.items);
    return status;
}

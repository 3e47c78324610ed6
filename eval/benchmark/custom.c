// Two kinds of tasks in one: what is written is asked by eval/benchmark/written.c, choices by choice.c.
#include "eval/benchmark/custom.h"

#include "data/benchmark/custom.h"
#include "data/file/hash.h"
#include "data/system/warning.h"
#include "eval/benchmark/choice.h"
#include "eval/benchmark/match.h"
#include "eval/benchmark/written.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// ---- What the configuration says -----------------------------------------------------------------------

static const struct {
    const char *name;   // as `metric` has it
    const char *metric; // as results have it
} ways[] = {[KV_MATCH_EXACT] = {"exact", "exact_match"},
            [KV_MATCH_CONTAINS] = {"contains", "contains"},
            [KV_MATCH_REGEX] = {"regex", "regex"},
            [KV_MATCH_NUMERIC] = {"numeric", "numeric"}};
enum { N_WAYS = sizeof ways / sizeof *ways };

static const char choice[] = "choice";

static bool chooses(const kv_eval_task *t) {
    return !strcmp(t->metric, choice);
}

// -1: it is none.
static int way_of(const kv_eval_task *t) {
    for (int i = 0; i < N_WAYS; i++)
        if (!strcmp(t->metric, ways[i].name)) return i;
    return -1;
}

static kv_matching matching_of(const kv_eval_task *t) {
    return (kv_matching){.kind = (kv_match_kind)way_of(t),
                         .ignore_case = t->ignore_case,
                         .ignore_punctuation = t->ignore_punctuation,
                         .pattern = t->pattern};
}

static kv_status parse(const char *text, const char *name, kv_template **made, char *key, kv_error *err) {
    snprintf(key, KV_TASK_KEY, "%s", name);
    return text ? kv_template_parse(text, made, err) : KV_OK;
}

static kv_status parse_list(char *const *texts, unsigned n, const char *name, kv_template ***made,
                            int64_t *n_made, char *key, kv_error *err) {
    kv_status status = KV_OK;
    *made = calloc((size_t)n + 1, sizeof **made);
    if (!*made) return kv_fail(err, KV_ERR_MEMORY, "out of memory for a task");
    for (unsigned i = 0; i < n && status == KV_OK; i++) {
        snprintf(key, KV_TASK_KEY, "%s[%u]", name, i);
        status = kv_template_parse(texts[i], &(*made)[i], err);
        if (status == KV_OK) *n_made = i + 1;
    }
    return status;
}

static kv_status read_format(const kv_eval_task *t, kv_custom_format *f, char *key, kv_error *err) {
    const bool choosing = chooses(t);
    *f = (kv_custom_format){0};
    kv_status status = parse(t->template, "template", &f->prompt, key, err);
    if (status == KV_OK) status = parse(t->preamble, "preamble", &f->preamble, key, err);
    if (status == KV_OK) status = parse(choosing ? NULL : t->target, "target", &f->target, key, err);
    if (status == KV_OK && choosing) status = parse(t->label, "label", &f->label, key, err);
    if (status == KV_OK && choosing)
        status = parse_list(t->choices, t->n_choices, "choices", &f->choices, &f->n_choices, key, err);
    if (status == KV_OK && choosing)
        status = parse_list(t->labels, t->n_labels, "labels", &f->labels, &f->n_labels, key, err);
    return status;
}

static kv_status wrong(char *key, const char *name, kv_error *err, const char *found) {
    snprintf(key, KV_TASK_KEY, "%s", name);
    return kv_fail(err, KV_ERR_FORMAT, "%s", found);
}

// Which keys a metric needs, and which belong to another.
static kv_status check_keys(const kv_eval_task *t, char *key, kv_error *err) {
    const bool choosing = chooses(t);
    const int way = way_of(t);
    if (!t->template || !*t->template)
        return wrong(key, "template", err, "expected the text of a prompt, as in \"Q: {question}\\nA:\"");
    if (!choosing && way < 0) {
        snprintf(key, KV_TASK_KEY, "metric");
        return kv_fail(err, KV_ERR_FORMAT, "found `%s`, expected exact, contains, regex, numeric or choice",
                       t->metric);
    }
    if (choosing && !t->n_choices)
        return wrong(key, "choices", err, "expected texts to choose from, as in [\"{options}\"]");
    if (choosing && !t->label)
        return wrong(key, "label", err, "expected the right choice, as in \"{answer}\"");
    if (!choosing && t->n_choices) return wrong(key, "choices", err, "belongs to metric: choice");
    if (!choosing && t->behind_prompt) return wrong(key, "behind_prompt", err, "belongs to metric: choice");
    if (!choosing && t->label)
        return wrong(key, "label", err, "belongs to metric: choice, expected `target`");
    if (t->n_labels && !t->n_choices) return wrong(key, "labels", err, "belongs to `choices`");
    if (way == KV_MATCH_REGEX && !t->pattern)
        return wrong(key, "pattern", err, "expected a regular expression (PCRE2) for metric: regex");
    if (way != KV_MATCH_REGEX && t->pattern) return wrong(key, "pattern", err, "belongs to metric: regex");
    if (!choosing && way != KV_MATCH_REGEX && !t->target)
        return wrong(key, "target", err, "expected the right answer, as in \"{answer}\"");
    if (!choosing && t->shots > 0 && !t->target)
        return wrong(key, "target", err, "expected the right answer, which solved examples show");
    return KV_OK;
}

kv_status kv_custom_check(const kv_eval_task *config, char key[KV_TASK_KEY], kv_error *err) {
    kv_custom_format format;
    kv_matcher *matcher = NULL;
    kv_status status = check_keys(config, key, err);
    if (status != KV_OK) return status;
    status = read_format(config, &format, key, err);
    kv_custom_format_free(&format);
    if (status != KV_OK || chooses(config)) return status;
    snprintf(key, KV_TASK_KEY, "pattern");
    const kv_matching how = matching_of(config);
    status = kv_matcher_create(&how, &matcher, err);
    kv_matcher_free(matcher);
    return status;
}

// ---- Answers that are written --------------------------------------------------------------------------

struct custom {
    kv_written written;
    kv_custom_items items, examples; // examples: of a file of their own
    kv_matcher *matcher;
};

static const kv_custom_item *item_of(const kv_written *w, int64_t row) {
    return &((const struct custom *)w)->items.items[row];
}

static const char *where(const kv_written *w, int64_t row) {
    return item_of(w, row)->where;
}

static const char *or_else(const char *text, const char *otherwise) {
    return text ? text : otherwise;
}

static const char *joint_of(const kv_eval_task *t) {
    return or_else(t->target_delimiter, " ");
}

static const char *separator_of(const kv_eval_task *t) {
    return or_else(t->shots_delimiter, "\n\n");
}

static char *prompt(const kv_written *w, int64_t row, const int64_t *shots, int64_t n_shots) {
    const struct custom *c = (const struct custom *)w;
    const kv_custom_items *examples = c->examples.n ? &c->examples : &c->items;
    const kv_eval_task *config = w->benchmark.config;
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    if (!out) return NULL;
    fputs(or_else(item_of(w, row)->preamble, ""), out);
    for (int64_t i = 0; i < n_shots; i++) {
        const kv_custom_item *shot = &examples->items[shots[i]];
        fprintf(out, "%s%s%s%s", shot->prompt, joint_of(config), shot->targets.items[0],
                separator_of(config));
    }
    fputs(item_of(w, row)->prompt, out);
    if (fclose(out) == 0) return text;
    free(text);
    return NULL;
}

static kv_status judge(const kv_written *w, int64_t row, const char *answer, bool *right, kv_error *err) {
    const kv_texts *targets = &item_of(w, row)->targets;
    return kv_matcher_judge(((const struct custom *)w)->matcher, answer, targets->items, targets->n, right,
                            err);
}

static uint64_t hash(const kv_written *w, int64_t row, uint64_t hash) {
    const kv_texts *targets = &item_of(w, row)->targets;
    for (int64_t i = 0; i < targets->n; i++)
        hash = kv_hash64(hash, targets->items[i], strlen(targets->items[i]) + 1);
    return hash;
}

static json_t *record(const kv_written *w, int64_t row) {
    const kv_custom_item *item = item_of(w, row);
    json_t *record = json_object();
    if (json_object_set_new(record, "id", kv_record_text(item->id)) == 0 &&
        kv_record_texts(record, "answers", item->targets.items, item->targets.n))
        return record;
    json_decref(record); // out of memory on the way
    return NULL;
}

static void free_custom(kv_written *w) {
    struct custom *c = (struct custom *)w;
    kv_custom_items_free(&c->items);
    kv_custom_items_free(&c->examples);
    kv_matcher_free(c->matcher);
    free(c);
}

// Items that no answer can be right for: of numbers an error, as the key then names the wrong field; else a warning.
static kv_status check_targets(const struct custom *c, kv_error *err) {
    const bool numbers = way_of(c->written.benchmark.config) == KV_MATCH_NUMERIC;
    const char *first = NULL;
    int64_t n = 0;
    for (int64_t i = 0; i < c->items.n; i++) {
        const kv_custom_item *item = &c->items.items[i];
        bool can = item->targets.n == 0;
        for (int64_t t = 0; t < item->targets.n && !can; t++) {
            kv_status status = kv_matcher_can(c->matcher, item->targets.items[t], c->written.stops,
                                              c->written.n_stops, &can, err);
            if (status != KV_OK) return status;
        }
        if (can) continue;
        if (numbers)
            return kv_fail(err, KV_ERR_FORMAT, "%s: there is no number in \"%.60s\", which `target` names",
                           item->where, item->targets.items[0]);
        if (n++ == 0) first = item->where;
    }
    if (n > 0)
        kv_warn(
            "%s: no system can be right, since of every accepted answer nothing is left, or it goes on behind a text of "
            "`stop` (a new line, unless another is given); so it is with %lld of %lld lines, which count as wrong",
            first, (long long)n, (long long)c->items.n);
    return KV_OK;
}

// Of how answers are judged.
static uint64_t hash_way(const kv_eval_task *t) {
    enum { PROTOCOL = 1 }; // to be raised when prompts or verdicts come to mean something else
    const int64_t numbers[] = {PROTOCOL, way_of(t), t->ignore_case, t->ignore_punctuation};
    uint64_t hash = kv_hash64(0, numbers, sizeof numbers);
    for (unsigned i = 0; i < t->n_stop; i++) hash = kv_hash64(hash, t->stop[i], strlen(t->stop[i]) + 1);
    return t->pattern ? kv_hash64(hash, t->pattern, strlen(t->pattern) + 1) : hash;
}

// Both files.
static kv_status read_items(const kv_eval_task *config, kv_custom_items *items, kv_custom_items *examples,
                            kv_error *err) {
    char key[KV_TASK_KEY];
    kv_custom_format format;
    kv_status status = read_format(config, &format, key, err);
    if (status == KV_OK) status = kv_custom_read(config->file, &format, items, err);
    if (status == KV_OK && config->shots_file)
        status = kv_custom_read(config->shots_file, &format, examples, err);
    kv_custom_format_free(&format);
    return status;
}

static kv_status make_written(const kv_eval_task *config, const kv_prompting *prompting, uint64_t seed,
                              kv_benchmark **benchmark, kv_error *err) {
    static const kv_written_ops ops = {where, prompt, judge, hash, record, free_custom};
    const kv_matching how = matching_of(config);
    struct custom *c = calloc(1, sizeof *c);
    if (!c) return kv_fail(err, KV_ERR_MEMORY, "%s: out of memory", config->file);
    c->written = (kv_written){.benchmark = {.config = config, .n_metrics = 1},
                              .ops = &ops,
                              .stops = (const char *const *)config->stop,
                              .n_stops = config->n_stop};
    snprintf(c->written.benchmark.metrics[0], KV_METRIC_NAME, "%s", ways[how.kind].metric);
    kv_status status = kv_matcher_create(&how, &c->matcher, err);
    if (status == KV_OK) status = read_items(config, &c->items, &c->examples, err);
    if (status == KV_OK) status = check_targets(c, err);
    c->written.n_rows = c->items.n;
    c->written.n_examples = config->shots_file ? c->examples.n : c->items.n;
    if (status == KV_OK) status = kv_written_make(&c->written, prompting, seed, hash_way(config), err);
    if (status == KV_OK)
        *benchmark = &c->written.benchmark;
    else
        kv_written_free(&c->written);
    return status;
}

// ---- Choices -------------------------------------------------------------------------------------------

static void move_text(char **from, char **to) {
    *to = *from, *from = NULL;
}

// Texts move over; `from` is empty behind it.
static kv_status take_choices(kv_custom_items *from, kv_choice_items *to, kv_error *err) {
    to->items = calloc((size_t)from->n + 1, sizeof *to->items);
    for (int64_t i = 0; to->items && i < from->n; i++) {
        kv_custom_item *item = &from->items[i];
        kv_choice_item *made = &to->items[to->n++];
        *made = (kv_choice_item){
            .choices = item->choices.items, .n_choices = item->choices.n, .gold = item->gold};
        item->choices = (kv_texts){0};
        move_text(&item->id, &made->id);
        move_text(&item->where, &made->where);
        move_text(&item->prompt, &made->context);
        move_text(&item->preamble, &made->preamble);
    }
    kv_custom_items_free(from);
    return to->items ? KV_OK : kv_fail(err, KV_ERR_MEMORY, "out of memory for choices");
}

static kv_status make_choices(const kv_eval_task *config, const kv_prompting *prompting, uint64_t seed,
                              kv_benchmark **benchmark, kv_error *err) {
    kv_choice_task task = {.kind = {"custom", {"acc", "acc_norm", "acc_bytes"}},
                           .joint = joint_of(config),
                           .separator = separator_of(config)};
    kv_custom_items items = {0}, examples = {0};
    kv_status status = read_items(config, &items, &examples, err);
    if (status == KV_OK) status = take_choices(&items, &task.items, err);
    if (status == KV_OK) status = take_choices(&examples, &task.examples, err);
    kv_custom_items_free(&items);
    kv_custom_items_free(&examples);
    if (status == KV_OK) return kv_choice_benchmark_of(config, &task, prompting, seed, benchmark, err);
    kv_choice_items_free(&task.items);
    kv_choice_items_free(&task.examples);
    return status;
}

kv_status kv_custom_benchmark(const kv_eval_task *config, const kv_prompting *prompting, uint64_t seed,
                              kv_benchmark **benchmark, kv_error *err) {
    char key[KV_TASK_KEY];
    *benchmark = NULL;
    kv_status status = kv_custom_check(config, key, err);
    if (status != KV_OK) return kv_fail_within(err, status, "`%s`", key);
    return (chooses(config) ? make_choices : make_written)(config, prompting, seed, benchmark, err);
}

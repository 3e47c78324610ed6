// Items and training texts as files.
#include "data/synthetic/recall.h"

#include "data/file/json.h"
#include "data/file/path.h"
#include "data/file/whole_set.h"
#include "data/system/console.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

// ---- Lengths that can be had ---------------------------------------------------------------------------

static kv_status too_short(const char *what, int64_t length, int64_t least, kv_error *err) {
    return kv_fail(err, KV_ERR_RANGE,
                   "%s of %" PRIi64
                   " tokens: too short for a statement and a question, expected at least %" PRIi64
                   " with this tokenizer",
                   what, length, least);
}

kv_status kv_recall_check(const kv_recall *recall, const kv_recall_plan *plan, kv_error *err) {
    for (int i = 0; i < plan->n_lengths && plan->n_items > 0; i++)
        if (plan->lengths[i] < kv_recall_shortest(recall))
            return too_short("passages", plan->lengths[i], kv_recall_shortest(recall), err);
    if (plan->n_texts > 0 && plan->n_tokens < kv_recall_shortest_text(recall))
        return too_short("training texts", plan->n_tokens, kv_recall_shortest_text(recall), err);
    return KV_OK;
}

// ---- One file ------------------------------------------------------------------------------------------

// Writes what its lines are made of; `shown` is the progress of all files together.
struct writing {
    const kv_recall *recall;
    const kv_recall_plan *plan;
    kv_progress *shown;
    int64_t done;      // tokens
    const char *split; // of texts
    int64_t n_texts;
};

typedef kv_status write_fn(struct writing *writing, FILE *file, const char *path, kv_error *err);

static kv_status write_file(struct writing *writing, write_fn *write, const char *path, kv_error *err) {
    FILE *file = fopen(path, "wb");
    if (!file) return kv_fail(err, KV_ERR_IO, "%s: cannot write: %s", path, strerror(errno));
    kv_status status = write(writing, file, path, err);
    const bool failed = ferror(file) != 0;
    if ((fclose(file) != 0 || failed) && !status)
        status = kv_fail(err, KV_ERR_IO, "%s: cannot write: %s", path, strerror(errno));
    return status;
}

// Puts one line, and says how far it is.
static kv_status put_line(struct writing *writing, FILE *file, const char *path, json_t *line, int64_t tokens,
                          kv_error *err) {
    errno = 0;
    if (!kv_json_put(file, line, JSON_REAL_PRECISION(15)))
        return kv_fail(err, errno ? KV_ERR_IO : KV_ERR_MEMORY, "%s: cannot write: %s", path,
                       errno ? strerror(errno) : "out of memory");
    writing->done += tokens;
    kv_progress_show(writing->shown, writing->done, "");
    return kv_console_interrupted() ? kv_fail(err, KV_ERR_INTERRUPTED, "interrupted") : KV_OK;
}

static kv_status write_item(struct writing *writing, FILE *file, const char *path, int64_t length,
                            double depth, int64_t number, kv_error *err) {
    kv_recall_item item;
    kv_status status = kv_recall_make(writing->recall, length, depth, number, &item, err);
    if (status) return status;
    json_t *line =
        json_pack("{s:s, s:s, s:I, s:f, s:I, s:I, s:s, s:I}", "prompt", item.prompt, "answer", item.answer,
                  "length", (json_int_t)length, "depth", depth, "tokens", (json_int_t)item.tokens,
                  "statements", (json_int_t)item.n_statements, "key", item.key, "item", (json_int_t)number);
    kv_recall_item_free(&item);
    return put_line(writing, file, path, line, length, err);
}

static kv_status write_items(struct writing *writing, FILE *file, const char *path, kv_error *err) {
    const kv_recall_plan *plan = writing->plan;
    kv_status status = KV_OK;
    for (int l = 0; l < plan->n_lengths; l++)
        for (int d = 0; d < plan->n_depths; d++)
            for (int64_t i = 0; i < plan->n_items && !status; i++)
                status = write_item(writing, file, path, plan->lengths[l], plan->depths[d], i, err);
    return status;
}

static kv_status write_texts(struct writing *writing, FILE *file, const char *path, kv_error *err) {
    kv_status status = KV_OK;
    const int64_t tokens = writing->plan->n_tokens;
    for (int64_t i = 0; i < writing->n_texts && !status; i++) {
        char *text;
        status = kv_recall_text(writing->recall, writing->split, tokens, i, &text, err);
        if (!status) status = put_line(writing, file, path, json_pack("{s:s}", "text", text), tokens, err);
        free(text);
    }
    return status;
}

// ---- What is in it -------------------------------------------------------------------------------------

static json_t *summary(const kv_recall *recall, const kv_recall_plan *plan, int64_t n_held_out) {
    json_t *lengths = json_array(), *depths = json_array(), *words = json_array();
    int failed = 0;
    for (int i = 0; i < plan->n_lengths && plan->n_items; i++)
        failed |= json_array_append_new(lengths, json_integer(plan->lengths[i]));
    for (int i = 0; i < plan->n_depths && plan->n_items; i++)
        failed |= json_array_append_new(depths, json_real(plan->depths[i]));
    for (int64_t i = 0; i < recall->n_words; i++)
        failed |= json_array_append_new(words, json_string(recall->words[i]));
    json_t *all = json_pack(
        "{s:I, s:s, s:o, s:o, s:I, s:I, s:I, s:I, s:s, s:o}", "seed", (json_int_t)recall->seed, "tokenizer",
        recall->tokenizer ? kv_tokenizer_hash(recall->tokenizer) : "", "lengths", lengths, "depths", depths,
        "items", (json_int_t)plan->n_items, "texts", (json_int_t)plan->n_texts, "held_out_texts",
        (json_int_t)n_held_out, "text_tokens", (json_int_t)(plan->n_texts ? plan->n_tokens : 0), "words_from",
        recall->from_vocabulary ? "vocabulary" : "list", "words", words);
    if (!failed) return all;
    json_decref(all);
    return NULL;
}

static kv_status write_summary(struct writing *writing, FILE *file, const char *path, kv_error *err) {
    return put_line(writing, file, path, summary(writing->recall, writing->plan, writing->n_texts), 0, err);
}

// ---- All of them ---------------------------------------------------------------------------------------

static int64_t tokens_of_items(const kv_recall_plan *plan) {
    int64_t tokens = 0;
    for (int i = 0; i < plan->n_lengths; i++) tokens += plan->lengths[i] * plan->n_depths * plan->n_items;
    return tokens;
}

static int64_t held_out_texts(const kv_recall_plan *plan) {
    return plan->n_texts == 0 ? 0 : plan->n_texts < 20 ? 1 : plan->n_texts / 20;
}

kv_status kv_recall_write_items(const kv_recall *recall, const kv_recall_plan *plan, const char *path,
                                kv_error *err) {
    kv_whole_file file;
    kv_progress shown;
    struct writing writing = {.recall = recall, .plan = plan, .shown = &shown};
    kv_status status = kv_recall_check(recall, plan, err);
    if (!status) status = kv_whole_file_begin(&file, path, err);
    if (status) return status;
    kv_progress_begin(&shown, stderr, "recall", tokens_of_items(plan));
    status = write_file(&writing, write_items, file.path, err);
    kv_progress_end(&shown, "");
    return kv_whole_file_end(&file, status, err);
}

static kv_status write_all(struct writing *writing, const char *directory, kv_error *err) {
    const struct {
        const char *name, *split;
        write_fn *write;
        int64_t n;
    } files[] = {
        {"questions.jsonl", "", write_items, writing->plan->n_items},
        {"train.jsonl", "train", write_texts, writing->plan->n_texts},
        {"held_out.jsonl", "held_out", write_texts, held_out_texts(writing->plan)},
        {"recall.json", "", write_summary, held_out_texts(writing->plan)},
    };
    kv_status status = KV_OK;
    for (size_t i = 0; i < sizeof files / sizeof *files && !status; i++) {
        char path[PATH_MAX];
        if (files[i].n == 0 && files[i].write != write_summary) continue;
        writing->split = files[i].split, writing->n_texts = files[i].n;
        status = kv_path_join(directory, files[i].name, path, err);
        if (!status) status = write_file(writing, files[i].write, path, err);
    }
    return status;
}

kv_status kv_recall_write(const kv_recall *recall, const kv_recall_plan *plan, const char *directory,
                          kv_error *err) {
    kv_whole_set set;
    kv_progress shown;
    struct writing writing = {.recall = recall, .plan = plan, .shown = &shown};
    kv_status status = kv_recall_check(recall, plan, err);
    if (!status) status = kv_whole_set_begin(&set, directory, err);
    if (status) return status;
    kv_progress_begin(&shown, stderr, "recall",
                      tokens_of_items(plan) + (plan->n_texts + held_out_texts(plan)) * plan->n_tokens);
    status = write_all(&writing, set.staged.path, err);
    kv_progress_end(&shown, "");
    return kv_whole_set_end(&set, NULL, 0, status, err);
}

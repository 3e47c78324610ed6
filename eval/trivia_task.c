#include "eval/trivia_task.h"

#include "core/rng.h"
#include "eval/systems.h"
#include "infer/generate.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char stop_characters[] = "\n.,";

// ---- Prompts -------------------------------------------------------------------------------------------

void kv_trivia_draw_shots(uint64_t seed, int64_t n, int64_t asked, int64_t n_shots, int64_t *shots) {
    char name[48];
    snprintf(name, sizeof name, "trivia.shots.%lld", (long long)asked);
    const kv_rng rng = kv_rng_stream(seed, name);
    int64_t drawn = 0;
    for (uint64_t index = 0; drawn < n_shots; index++) {
        const int64_t candidate = (int64_t)kv_rng_below(rng, index, (uint64_t)n);
        bool fresh = candidate != asked;
        for (int64_t i = 0; i < drawn; i++) fresh = fresh && shots[i] != candidate;
        if (fresh) shots[drawn++] = candidate;
    }
}

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

static kv_status tokenize_prompt(kv_trivia_task *task, int64_t i, const kv_tokenizer *tokenizer,
                                 kv_error *err) {
    const int32_t bos = kv_tokenizer_bos(tokenizer);
    int32_t *ids;
    int64_t n;
    kv_status status =
        kv_tokenizer_encode(tokenizer, task->prompts[i], strlen(task->prompts[i]), &ids, &n, err);
    if (status != KV_OK) return status;
    const int64_t front = bos >= 0;
    task->ids[i] = malloc((size_t)(n + front) * sizeof **task->ids + 1);
    if (task->ids[i]) {
        if (front) task->ids[i][0] = bos;
        memcpy(task->ids[i] + front, ids, (size_t)n * sizeof *ids);
        task->lengths[i] = n + front;
    }
    free(ids);
    return task->ids[i] ? KV_OK : kv_fail(err, KV_ERR_MEMORY, "out of memory for a prompt");
}

static kv_status make_prompts(kv_trivia_task *task, const kv_tokenizer *tokenizer, uint64_t seed,
                              kv_error *err) {
    const kv_eval_task *config = task->config;
    if (config->shots >= task->questions.n)
        return kv_fail(err, KV_ERR_RANGE, "%s: %lld shots asked for, expected fewer than its %lld questions",
                       config->file, (long long)config->shots, (long long)task->questions.n);
    task->n = task->questions.n;
    if (config->limit > 0 && config->limit < task->n) task->n = config->limit;
    task->prompts = calloc((size_t)task->n, sizeof *task->prompts);
    task->ids = calloc((size_t)task->n, sizeof *task->ids);
    task->lengths = calloc((size_t)task->n, sizeof *task->lengths);
    int64_t *shots = calloc((size_t)config->shots + 1, sizeof *shots);
    kv_status status = KV_OK;
    if (!task->prompts || !task->ids || !task->lengths || !shots)
        status = kv_fail(err, KV_ERR_MEMORY, "%s: out of memory", config->file);
    for (int64_t i = 0; i < task->n && status == KV_OK; i++) {
        kv_trivia_draw_shots(seed, task->questions.n, i, config->shots, shots);
        task->prompts[i] = kv_trivia_prompt(&task->questions, i, shots, config->shots);
        if (task->prompts[i])
            status = tokenize_prompt(task, i, tokenizer, err);
        else
            status = kv_fail(err, KV_ERR_MEMORY, "%s: out of memory", config->file);
    }
    free(shots);
    return status;
}

kv_status kv_trivia_task_create(const kv_eval_task *config, const kv_tokenizer *tokenizer, uint64_t seed,
                                kv_trivia_task **task, kv_error *err) {
    *task = NULL;
    kv_trivia_task *t = calloc(1, sizeof *t);
    if (!t) return kv_fail(err, KV_ERR_MEMORY, "%s: out of memory", config->file);
    t->config = config;
    kv_status status = kv_triviaqa_read(config->file, &t->questions, err);
    if (status == KV_OK) status = make_prompts(t, tokenizer, seed, err);
    if (status == KV_OK)
        *task = t;
    else
        kv_trivia_task_free(t);
    return status;
}

void kv_trivia_task_free(kv_trivia_task *task) {
    if (!task) return;
    for (int64_t i = 0; i < task->n; i++) {
        if (task->prompts) free(task->prompts[i]);
        if (task->ids) free(task->ids[i]);
    }
    free(task->prompts);
    free(task->ids);
    free(task->lengths);
    kv_questions_free(&task->questions);
    free(task);
}

kv_status kv_trivia_task_fits(const kv_trivia_task *task, int64_t context, const char *system,
                              kv_error *err) {
    for (int64_t i = 0; i < task->n; i++)
        if (task->lengths[i] > context - task->config->max_tokens)
            return kv_fail(err, KV_ERR_RANGE,
                           "%s: question %lld: %lld prompt tokens and up to %lld of an answer do not fit the "
                           "context of %lld tokens of `%s`",
                           task->config->file, (long long)i + 1, (long long)task->lengths[i],
                           (long long)task->config->max_tokens, (long long)context, system);
    return KV_OK;
}

// ---- Answers -------------------------------------------------------------------------------------------

bool kv_trivia_cut(char *text) {
    const size_t end = strcspn(text, stop_characters);
    const bool cut = text[end] != '\0';
    text[end] = '\0';
    size_t length = end, blank = 0;
    while (length > 0 && isspace((unsigned char)text[length - 1])) text[--length] = '\0';
    while (isspace((unsigned char)text[blank])) blank++;
    memmove(text, text + blank, length - blank + 1);
    return cut;
}

struct asking {
    const kv_trivia_task *task;
    const kv_tokenizer *tokenizer;
    kv_answers *answers;
    kv_session *session;
    int64_t first, n;     // the questions of this batch
    int32_t *ids;         // their prompts, one after the other
    int32_t *generated;   // [n, max_tokens]
    int64_t *n_generated; // [n]
};

static kv_status decode_answer(const struct asking *a, const int32_t *ids, int64_t n, char **text,
                               kv_error *err) {
    size_t length;
    if (n > 0 && ids[n - 1] == kv_tokenizer_eos(a->tokenizer)) n--;
    return kv_tokenizer_decode(a->tokenizer, ids, n, text, &length, err);
}

static kv_status stop_at_answer(void *context, int64_t sequence, const int32_t *generated, int64_t n,
                                bool *stop, kv_error *err) {
    (void)sequence;
    const struct asking *a = context;
    char *text;
    kv_status status = decode_answer(a, generated, n, &text, err);
    if (status != KV_OK) return status;
    *stop = strpbrk(text, stop_characters) || generated[n - 1] == kv_tokenizer_eos(a->tokenizer);
    free(text);
    return KV_OK;
}

static kv_status judge(const struct asking *a, kv_error *err) {
    for (int64_t s = 0; s < a->n; s++) {
        const int64_t question = a->first + s;
        char *text;
        kv_status status =
            decode_answer(a, a->generated + s * a->task->config->max_tokens, a->n_generated[s], &text, err);
        if (status != KV_OK) return status;
        kv_trivia_cut(text);
        a->answers->texts[question] = text;
        a->answers->correct[question] = kv_exact_match(text, &a->task->questions.items[question]);
        a->answers->n_correct += a->answers->correct[question];
        a->answers->tokens += a->n_generated[s];
    }
    return KV_OK;
}

static kv_status ask_batch(struct asking *a, kv_error *err) {
    const int64_t *lengths = a->task->lengths + a->first;
    int64_t n_ids = 0;
    for (int64_t s = 0; s < a->n; s++) n_ids += lengths[s];
    free(a->ids);
    a->ids = malloc((size_t)n_ids * sizeof *a->ids);
    if (!a->ids) return kv_fail(err, KV_ERR_MEMORY, "out of memory for a batch of prompts");
    int32_t *end = a->ids;
    for (int64_t s = 0; s < a->n; end += lengths[s++])
        memcpy(end, a->task->ids[a->first + s], (size_t)lengths[s] * sizeof *end);
    const kv_generation how = {
        .max_tokens = a->task->config->max_tokens, .stop = stop_at_answer, .context = a};
    kv_status status = kv_generate(a->session, a->ids, lengths, &how, a->generated, a->n_generated, err);
    return status == KV_OK ? judge(a, err) : status;
}

// Room for n prompts at once; what the last batch of n had is used again.
static kv_status prepare_session(struct asking *a, const kv_system *system, int64_t n, kv_error *err) {
    if (a->session && kv_session_n_seq(a->session) == n) return KV_OK;
    int64_t longest = 0;
    for (int64_t i = 0; i < a->task->n; i++)
        if (a->task->lengths[i] > longest) longest = a->task->lengths[i];
    kv_session_free(a->session);
    return kv_session_create(system, n, longest + a->task->config->max_tokens, &a->session, err);
}

static bool allocate(struct asking *a, int64_t batch_size) {
    const int64_t n = a->task->n;
    a->answers->n = n;
    a->answers->texts = calloc((size_t)n, sizeof *a->answers->texts);
    a->answers->correct = calloc((size_t)n, sizeof *a->answers->correct);
    a->generated = calloc((size_t)batch_size, (size_t)a->task->config->max_tokens * sizeof *a->generated);
    a->n_generated = calloc((size_t)batch_size, sizeof *a->n_generated);
    return a->answers->texts && a->answers->correct && a->generated && a->n_generated;
}

enum { NOTE_SIZE = 48 };

static kv_status ask_all(struct asking *a, const kv_system *system, int64_t batch_size, kv_progress *progress,
                         char note[NOTE_SIZE], kv_error *err) {
    kv_progress_show(progress, 0, note);
    for (a->first = 0; a->first < a->task->n; a->first += a->n) {
        a->n = a->task->n - a->first < batch_size ? a->task->n - a->first : batch_size;
        if (kv_console_interrupted()) return kv_fail(err, KV_ERR_INTERRUPTED, "interrupted");
        kv_status status = prepare_session(a, system, a->n, err);
        if (status == KV_OK) status = ask_batch(a, err);
        if (status != KV_OK) return status;
        const int64_t done = a->first + a->n;
        snprintf(note, NOTE_SIZE, "exact match %.1f %%",
                 100.0 * (double)a->answers->n_correct / (double)done);
        kv_progress_show(progress, done, note);
    }
    return KV_OK;
}

kv_status kv_trivia_task_run(const kv_trivia_task *task, const kv_system *system, const char *system_name,
                             const kv_tokenizer *tokenizer, int64_t batch_size, kv_answers *answers,
                             kv_error *err) {
    *answers = (kv_answers){0};
    kv_status status = kv_trivia_task_fits(task, kv_system_context(system), system_name, err);
    if (status != KV_OK) return status;
    if (batch_size > task->n) batch_size = task->n;
    struct asking a = {.task = task, .tokenizer = tokenizer, .answers = answers};
    char title[160], note[NOTE_SIZE] = "";
    snprintf(title, sizeof title, "%.60s on %.60s %.30s", system_name, task->config->name,
             task->config->split);
    kv_progress progress;
    kv_progress_begin(&progress, stderr, title, task->n);
    if (allocate(&a, batch_size))
        status = ask_all(&a, system, batch_size, &progress, note, err);
    else
        status = kv_fail(err, KV_ERR_MEMORY, "out of memory for %lld answers", (long long)task->n);
    kv_progress_end(&progress, status == KV_OK ? note : "stopped");
    if (status != KV_OK) kv_answers_free(answers);
    kv_session_free(a.session);
    free(a.ids);
    free(a.generated);
    free(a.n_generated);
    return status;
}

void kv_answers_free(kv_answers *answers) {
    for (int64_t i = 0; answers->texts && i < answers->n; i++) free(answers->texts[i]);
    free(answers->texts);
    free(answers->correct);
    *answers = (kv_answers){0};
}

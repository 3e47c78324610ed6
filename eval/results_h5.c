// results.h5:
//   /           attributes format = "kv-results", version = 1, program (its version), prompt_tokens,
//   batch_size /config     the resolved configuration, YAML /systems/   name, family, flops, paper_reduction,
//   exact_reduction, ttft_seconds, ttft_spread, ttft_reduction
//               [n_systems], ttft_samples [n_systems, repeats] where measured; NaN: not known
//   /tasks/i/   attributes name, split, metric, file, shots, max_tokens; accuracy, retention [n_systems];
//   question,
//               answer, prompt [n]; correct (0 or 1), generation [n_systems, n] (generation is one long list)
#include "data/h5.h"
#include "eval/results.h"

#include <stdio.h>
#include <stdlib.h>

enum { NAME_SIZE = 64 };

struct writer {
    const kv_results *results;
    hid_t file;
    kv_error *err;
    kv_status status; // the first failure; nothing more is written after it
};

static void note(struct writer *w, kv_status status) {
    if (w->status == KV_OK) w->status = status;
}

static void write_doubles(struct writer *w, const char *name, const double *values, int64_t rows,
                          int64_t cols) {
    const int64_t shape[2] = {rows, cols};
    if (w->status == KV_OK)
        note(w, kv_h5_write(w->file, name, H5T_NATIVE_DOUBLE, values, cols ? 2 : 1, shape, w->err));
}

static void write_strings(struct writer *w, const char *name, const char *const *texts, int64_t n) {
    if (w->status == KV_OK) note(w, kv_h5_write_strings(w->file, name, texts, n, w->err));
}

static void set_string(struct writer *w, const char *object, const char *name, const char *value) {
    if (w->status == KV_OK) note(w, kv_h5_set_string(w->file, object, name, value, w->err));
}

static void set_number(struct writer *w, const char *object, const char *name, int64_t value) {
    if (w->status == KV_OK) note(w, kv_h5_set_i64(w->file, object, name, value, w->err));
}

// Room for n pointers, numbers or bytes of a task or of all systems.
static void *room(struct writer *w, int64_t n, size_t size) {
    void *memory = w->status == KV_OK ? calloc((size_t)n, size) : NULL;
    if (!memory && w->status == KV_OK)
        note(w, kv_fail(w->err, KV_ERR_MEMORY, "out of memory for results.h5"));
    return memory;
}

enum { N_COSTS = 5 };

static void write_systems(struct writer *w) {
    static const char *const names[N_COSTS] = {"/systems/paper_reduction", "/systems/exact_reduction",
                                               "/systems/ttft_seconds", "/systems/ttft_spread",
                                               "/systems/ttft_reduction"};
    const kv_eval_config *config = w->results->config;
    const int64_t n = config->n_systems;
    const char **texts = room(w, 2 * n, sizeof *texts);
    uint64_t *flops = room(w, n, sizeof *flops);
    double *numbers = room(w, N_COSTS * n, sizeof *numbers);
    for (int64_t i = 0; w->status == KV_OK && i < n; i++) {
        const kv_cost *cost = &w->results->costs[i];
        const double values[N_COSTS] = {cost->paper_reduction, cost->exact_reduction, cost->ttft.seconds,
                                        cost->ttft.spread, cost->ttft_reduction};
        texts[i] = config->systems[i].name, texts[n + i] = config->systems[i].family;
        flops[i] = cost->flops;
        for (int c = 0; c < N_COSTS; c++) numbers[c * n + i] = values[c];
    }
    if (w->status == KV_OK) {
        write_strings(w, "/systems/name", texts, n);
        write_strings(w, "/systems/family", texts + n, n);
        note(w, kv_h5_write(w->file, "/systems/flops", H5T_NATIVE_UINT64, flops, 1, &n, w->err));
        for (int c = 0; c < N_COSTS; c++) write_doubles(w, names[c], numbers + c * n, n, 0);
        if (w->results->ttft_samples)
            write_doubles(w, "/systems/ttft_samples", w->results->ttft_samples, n, config->ttft.repeats);
    }
    free(texts);
    free(flops);
    free(numbers);
}

static void write_scores(struct writer *w, int64_t task, const char *group) {
    const int64_t n = w->results->config->n_systems;
    char name[NAME_SIZE];
    double *numbers = room(w, 2 * n, sizeof *numbers);
    for (int64_t s = 0; numbers && s < n; s++) {
        numbers[s] = kv_result_accuracy(w->results, s, task);
        numbers[n + s] = kv_result_retention(w->results, s, task);
    }
    if (numbers) {
        snprintf(name, sizeof name, "%s/accuracy", group);
        write_doubles(w, name, numbers, n, 0);
        snprintf(name, sizeof name, "%s/retention", group);
        write_doubles(w, name, numbers + n, n, 0);
    }
    free(numbers);
}

static void write_questions(struct writer *w, int64_t task, const char *group) {
    const kv_trivia_task *asked = w->results->tasks[task];
    char name[NAME_SIZE];
    const char **texts = room(w, asked->n, sizeof *texts);
    static const char *const fields[] = {"question", "answer", "prompt"};
    for (int f = 0; texts && f < 3; f++) {
        for (int64_t i = 0; i < asked->n; i++) {
            const kv_question *question = &asked->questions.items[i];
            texts[i] = f == 0 ? question->text : f == 1 ? question->value : asked->prompts[i];
        }
        snprintf(name, sizeof name, "%s/%s", group, fields[f]);
        write_strings(w, name, texts, asked->n);
    }
    free(texts);
}

static void write_answers(struct writer *w, int64_t task, const char *group) {
    const kv_eval_config *config = w->results->config;
    const int64_t n = w->results->tasks[task]->n, n_systems = config->n_systems;
    const int64_t shape[2] = {n_systems, n};
    char name[NAME_SIZE];
    const char **texts = room(w, n * n_systems, sizeof *texts);
    uint8_t *correct = room(w, n * n_systems, 1);
    for (int64_t s = 0; texts && correct && s < n_systems; s++) {
        const kv_answers *answers = &w->results->answers[s * config->n_tasks + task];
        for (int64_t i = 0; i < n; i++) {
            texts[s * n + i] = answers->texts[i];
            correct[s * n + i] = answers->correct[i];
        }
    }
    if (texts && correct) {
        snprintf(name, sizeof name, "%s/correct", group);
        note(w, kv_h5_write(w->file, name, H5T_NATIVE_UINT8, correct, 2, shape, w->err));
        snprintf(name, sizeof name, "%s/generation", group);
        write_strings(w, name, texts, n * n_systems);
    }
    free(texts);
    free(correct);
}

static void write_task(struct writer *w, int64_t task) {
    const kv_eval_task *config = &w->results->config->tasks[task];
    char group[NAME_SIZE / 2];
    snprintf(group, sizeof group, "/tasks/%lld", (long long)task);
    write_scores(w, task, group);
    write_questions(w, task, group);
    write_answers(w, task, group);
    set_string(w, group, "name", config->name);
    set_string(w, group, "split", config->split);
    set_string(w, group, "metric", "exact_match");
    set_string(w, group, "file", config->file);
    set_number(w, group, "shots", config->shots);
    set_number(w, group, "max_tokens", config->max_tokens);
}

kv_status kv_results_write_h5(const kv_results *results, const char *path, kv_error *err) {
    struct writer w = {.results = results, .err = err};
    w.status = kv_h5_create(path, &w.file, err);
    if (w.status != KV_OK) return w.status;
    set_string(&w, "/", "format", "kv-results");
    set_number(&w, "/", "version", 1);
    set_string(&w, "/", "program", KV_VERSION);
    set_number(&w, "/", "prompt_tokens", results->prompt_tokens);
    set_number(&w, "/", "batch_size", results->config->ttft.batch_size);
    write_strings(&w, "/config", (const char *const[]){results->config_text}, 1);
    write_systems(&w);
    for (unsigned t = 0; t < results->config->n_tasks; t++) write_task(&w, t);
    kv_error close_error = {0};
    const kv_status closed = kv_h5_close(&w.file, &close_error);
    if (w.status == KV_OK && closed != KV_OK && err) *err = close_error;
    note(&w, closed);
    return w.status;
}

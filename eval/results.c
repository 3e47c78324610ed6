#include "eval/results.h"

#include "eval/table.h"

#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

kv_status kv_results_init(kv_results *results, const kv_config *config, const kv_eval_config *eval,
                          kv_error *err) {
    const size_t n_systems = eval->n_systems, n_tasks = eval->n_tasks;
    *results = (kv_results){.config = eval, .config_text = kv_config_text(config)};
    results->tasks = calloc(n_tasks, sizeof *results->tasks);
    results->answers = calloc(n_tasks * n_systems, sizeof *results->answers);
    results->costs = calloc(n_systems, sizeof *results->costs);
    if (!results->config_text || !results->tasks || !results->answers || !results->costs) {
        kv_results_free(results);
        return kv_fail(err, KV_ERR_MEMORY, "out of memory for the results");
    }
    for (size_t i = 0; i < n_systems; i++)
        results->costs[i] = (kv_cost){.paper_reduction = NAN,
                                      .exact_reduction = NAN,
                                      .ttft = {.seconds = NAN, .spread = NAN},
                                      .ttft_reduction = NAN};
    return KV_OK;
}

void kv_results_free(kv_results *results) {
    const size_t n_systems = results->config ? results->config->n_systems : 0;
    const size_t n_tasks = results->config ? results->config->n_tasks : 0;
    for (size_t i = 0; results->tasks && i < n_tasks; i++) kv_trivia_task_free(results->tasks[i]);
    for (size_t i = 0; results->answers && i < n_tasks * n_systems; i++)
        kv_answers_free(&results->answers[i]);
    free(results->tasks);
    free(results->answers);
    free(results->costs);
    free(results->ttft_samples);
    free(results->config_text);
    *results = (kv_results){0};
}

static const kv_answers *answers_of(const kv_results *results, int64_t system, int64_t task) {
    return &results->answers[system * results->config->n_tasks + task];
}

double kv_result_accuracy(const kv_results *results, int64_t system, int64_t task) {
    const kv_answers *answers = answers_of(results, system, task);
    return answers->n > 0 ? (double)answers->n_correct / (double)answers->n : NAN;
}

double kv_result_retention(const kv_results *results, int64_t system, int64_t task) {
    const double base = kv_result_accuracy(results, 0, task);
    return base > 0 ? kv_result_accuracy(results, system, task) / base : NAN;
}

void kv_results_count(kv_results *results, const kv_systems *systems) {
    for (int64_t i = 0; i < systems->n; i++) {
        kv_cost *cost = &results->costs[i];
        cost->flops = kv_system_flops(&systems->items[i], results->prompt_tokens);
        cost->paper_reduction = kv_system_paper_reduction(&systems->items[i], &systems->items[0]);
        cost->exact_reduction = (double)results->costs[0].flops / (double)cost->flops;
    }
}

// ---- The table -----------------------------------------------------------------------------------------

// `format` prints one double; what could not be had is "-".
__attribute__((format(printf, 2, 0))) static void number_cell(kv_table *table, const char *format,
                                                              double value) {
    char text[32] = "-";
    if (isfinite(value)) snprintf(text, sizeof text, format, value);
    kv_table_cell(table, "%s", text);
}

static void head_columns(kv_table *table, const kv_results *results) {
    const kv_eval_config *config = results->config;
    char heading[192];
    kv_table_column(table, "", "system", true);
    kv_table_column(table, "", "family", true);
    for (unsigned t = 0; t < config->n_tasks; t++) {
        snprintf(heading, sizeof heading, "%.90s, %.90s", config->tasks[t].name, config->tasks[t].split);
        kv_table_column(table, heading, "match", false);
        kv_table_column(table, heading, "kept", false);
    }
    kv_table_column(table, "FLOPs reduction", "paper", false);
    kv_table_column(table, "FLOPs reduction", "exact", false);
    snprintf(heading, sizeof heading, "time to first token, %lld x %lld", (long long)config->ttft.batch_size,
             (long long)results->prompt_tokens);
    kv_table_column(table, heading, "ms", false);
    kv_table_column(table, heading, "reduction", false);
}

static void system_row(kv_table *table, const kv_results *results, unsigned i) {
    const kv_eval_system *system = &results->config->systems[i];
    const kv_cost *cost = &results->costs[i];
    kv_table_cell(table, "%s", system->name);
    kv_table_cell(table, "%s", system->family);
    for (unsigned t = 0; t < results->config->n_tasks; t++) {
        number_cell(table, "%.1f %%", 100 * kv_result_accuracy(results, i, t));
        number_cell(table, "%.1f %%", 100 * kv_result_retention(results, i, t));
    }
    number_cell(table, "%.2fx", cost->paper_reduction);
    number_cell(table, "%.2fx", cost->exact_reduction);
    if (isfinite(cost->ttft.seconds))
        kv_table_cell(table, "%.2f ± %.2f", 1e3 * cost->ttft.seconds, 1e3 * cost->ttft.spread);
    else
        kv_table_cell(table, "-");
    number_cell(table, "%.2fx", cost->ttft_reduction);
}

void kv_results_print(const kv_results *results, FILE *stream) {
    kv_table *table = kv_table_create();
    head_columns(table, results);
    for (unsigned i = 0; i < results->config->n_systems; i++) system_row(table, results, i);
    kv_table_print(table, stream);
    kv_table_free(table);
}

// ---- Files ---------------------------------------------------------------------------------------------

// Closes a file that was written to; a write that failed on the way shows here.
static kv_status finish_file(FILE *file, const char *path, kv_error *err) {
    errno = 0;
    const bool failed = ferror(file) != 0;
    const bool flushed = fflush(file) == 0;
    const int reason = errno;
    const bool closed = fclose(file) == 0;
    if (!failed && flushed && closed) return KV_OK;
    return kv_fail(err, KV_ERR_IO, "%s: cannot write: %s", path,
                   strerror(reason  ? reason
                            : errno ? errno
                                    : EIO));
}

static FILE *open_file(const char *path, kv_error *err) {
    FILE *file = fopen(path, "w");
    if (!file) kv_fail(err, KV_ERR_IO, "%s: cannot write: %s", path, strerror(errno));
    return file;
}

// Quoted where it has to be.                                                                   [RFC 4180]
static void csv_text(FILE *file, const char *text) {
    if (!strpbrk(text, ",\"\r\n")) {
        fputs(text, file);
        return;
    }
    fputc('"', file);
    for (; *text; text++) {
        if (*text == '"') fputc('"', file);
        fputc(*text, file);
    }
    fputc('"', file);
}

static void csv_number(FILE *file, double value) {
    if (isfinite(value)) fprintf(file, "%.9g", value);
}

static void csv_row(FILE *file, const kv_results *results, unsigned system, unsigned task) {
    const kv_eval_config *config = results->config;
    const kv_cost *cost = &results->costs[system];
    const char *const texts[] = {config->systems[system].name, config->systems[system].family,
                                 config->tasks[task].name, config->tasks[task].split, "exact_match"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        csv_text(file, texts[i]);
        fputc(',', file);
    }
    const double numbers[] = {kv_result_accuracy(results, system, task),
                              kv_result_retention(results, system, task),
                              cost->paper_reduction,
                              cost->exact_reduction,
                              cost->ttft.seconds,
                              cost->ttft_reduction,
                              cost->ttft.spread};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        csv_number(file, numbers[i]);
        fputc(',', file);
    }
    fprintf(file, "%lld,%lld,%llu,%lld\n", (long long)config->tasks[task].shots,
            (long long)answers_of(results, system, task)->n, (unsigned long long)cost->flops,
            (long long)results->prompt_tokens);
}

kv_status kv_results_write_csv(const kv_results *results, const char *path, kv_error *err) {
    FILE *file = open_file(path, err);
    if (!file) return KV_ERR_IO;
    fputs("system,family,task,split,metric,accuracy,retention,flops_reduction_paper,flops_reduction_exact,"
          "ttft_seconds,ttft_reduction,ttft_spread,shots,n_questions,flops_exact,prompt_tokens\n",
          file);
    for (unsigned s = 0; s < results->config->n_systems; s++)
        for (unsigned t = 0; t < results->config->n_tasks; t++) csv_row(file, results, s, t);
    return finish_file(file, path, err);
}

// Texts come from models and files of any kind: what is not UTF-8 is replaced by "?" so that it stays JSON.
static json_t *json_text(const char *text) {
    json_t *string = json_string(text);
    if (string) return string;
    char *copy = strdup(text);
    for (char *c = copy; c && *c; c++)
        if ((unsigned char)*c >= 0x80) *c = '?';
    string = copy ? json_string(copy) : NULL;
    free(copy);
    return string;
}

static json_t *sample_object(const kv_results *results, unsigned system, unsigned task, int64_t i) {
    const kv_trivia_task *asked = results->tasks[task];
    const kv_answers *answers = answers_of(results, system, task);
    const kv_question *question = &asked->questions.items[i];
    json_t *accepted = json_array();
    for (int64_t a = 0; a < question->n_aliases; a++)
        json_array_append_new(accepted, json_text(question->aliases[a]));
    json_t *sample = json_object();
    json_object_set_new(sample, "task", json_text(asked->config->name));
    json_object_set_new(sample, "split", json_text(asked->config->split));
    json_object_set_new(sample, "system", json_text(results->config->systems[system].name));
    json_object_set_new(sample, "id", json_text(question->id));
    json_object_set_new(sample, "question", json_text(question->text));
    json_object_set_new(sample, "prompt", json_text(asked->prompts[i]));
    json_object_set_new(sample, "generation", json_text(answers->texts[i]));
    json_object_set_new(sample, "answers", accepted);
    json_object_set_new(sample, "verdict", json_string(answers->correct[i] ? "correct" : "wrong"));
    enum { N_KEYS = 9 };
    if (json_object_size(sample) == N_KEYS && json_array_size(accepted) == (size_t)question->n_aliases)
        return sample;
    json_decref(sample); // out of memory on the way
    return NULL;
}

static kv_status write_samples_of(const kv_results *results, unsigned system, unsigned task, FILE *file,
                                  kv_error *err) {
    const kv_answers *answers = answers_of(results, system, task);
    for (int64_t i = 0; i < answers->n && !ferror(file); i++) {
        json_t *sample = sample_object(results, system, task, i);
        char *line = sample ? json_dumps(sample, JSON_COMPACT) : NULL;
        json_decref(sample);
        if (!line) return kv_fail(err, KV_ERR_MEMORY, "out of memory for the samples");
        fprintf(file, "%s\n", line);
        free(line);
    }
    return KV_OK;
}

kv_status kv_results_write_samples(const kv_results *results, const char *path, kv_error *err) {
    FILE *file = open_file(path, err);
    if (!file) return KV_ERR_IO;
    kv_status status = KV_OK;
    for (unsigned s = 0; s < results->config->n_systems && status == KV_OK; s++)
        for (unsigned t = 0; t < results->config->n_tasks && status == KV_OK; t++)
            status = write_samples_of(results, s, t, file, err);
    if (status == KV_OK) return finish_file(file, path, err);
    fclose(file);
    return status;
}

// kvdata inspect: what kvtrain and kveval leave behind, and their configs.
#include "data/config/beside.h"
#include "data/config/tree.h"
#include "data/file/content.h"
#include "data/file/json.h"
#include "data/file/metrics.h"
#include "data/file/path.h"
#include "data/kvdata/inspect/inspect.h"

#include <dirent.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const size_t max_config_bytes = (size_t)1 << 24, max_lines_bytes = (size_t)1 << 32;
enum { MAX_EXTENDS = 16 };

static bool has(const inspect_subject *s, const char *name) {
    char path[PATH_MAX];
    return s->is_dir && inspect_entry(s->path, name, path, sizeof path);
}

static bool has_key(const json_t *object, const char *key) {
    return json_object_get(object, key) != NULL;
}

// ---- Configs -------------------------------------------------------------------------------------------

static kv_status read_yaml(const char *path, yaml_document_t *doc, kv_error *err) {
    char *text;
    size_t size;
    kv_status status = kv_read_file(path, max_config_bytes, &text, &size, err);
    if (status) return status;
    status = kv_yaml_parse(text, size, path, false, doc, err);
    free(text);
    return status;
}

static bool has_any(yaml_document_t *doc, const char *const *keys) {
    for (; *keys; keys++)
        if (kv_yaml_get(doc, 1, *keys)) return true;
    return false;
}

// By the keys that only one of the programs has, in the file or in what it extends.
static const char *program_of(const char *path, int depth) {
    static const char *const eval[] = {"systems", "tasks", "ttft", "budgets", "picture", "bootstrap", NULL};
    static const char *const train[] = {"task",      "data", "train", "loss",  "model",
                                        "predictor", "base", "aux",   "sweep", NULL};
    yaml_document_t doc;
    if (read_yaml(path, &doc, NULL) != KV_OK) return NULL;
    const char *program = has_any(&doc, eval) ? "kveval" : has_any(&doc, train) ? "kvtrain" : NULL;
    const char *parent = kv_yaml_scalar(&doc, "extends");
    char *next = !program && parent && depth < MAX_EXTENDS ? kv_config_named_quietly(path, parent) : NULL;
    if (next) program = program_of(next, depth + 1);
    free(next);
    yaml_document_delete(&doc);
    return program;
}

// Of another name only where it begins with a key of ours.
static bool is_config(const inspect_subject *s) {
    static const char *const keys[] = {"task:", "systems:", "extends:", "output:", "tokenizer:", "data:"};
    if (!s->text || s->json || s->line) return false;
    if (kv_path_is_named(s->path, ".yaml") || kv_path_is_named(s->path, ".yml")) return true;
    const char *at = (const char *)s->head;
    while (*at == '#' || *at == '\n') at += strcspn(at, "\n") + (strchr(at, '\n') != NULL);
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (strncmp(at, keys[i], strlen(keys[i])) == 0) return program_of(s->path, 0) != NULL;
    return false;
}

static void report_scalar(yaml_document_t *doc, const char *key, const char *label, inspect_report *report) {
    const char *value = kv_yaml_scalar(doc, key);
    char shown[INSPECT_SHORT];
    if (value) inspect_fact(report, label, json_string(value), "%s", inspect_short(value, 200, shown));
}

static int64_t list_length(yaml_document_t *doc, const char *key) {
    const yaml_node_t *node = yaml_document_get_node(doc, kv_yaml_get(doc, 1, key));
    if (!node || node->type != YAML_SEQUENCE_NODE) return 0;
    return node->data.sequence.items.top - node->data.sequence.items.start;
}

// The corpus of a training, or every part of a mixture with its weight.
static void report_data(yaml_document_t *doc, inspect_report *report) {
    char key[64], shown[INSPECT_SHORT], *text = NULL;
    size_t size;
    report_scalar(doc, "data.train", "data", report);
    FILE *out = open_memstream(&text, &size);
    json_t *parts = json_array();
    for (size_t i = 0; out; i++) {
        snprintf(key, sizeof key, "data.mixture[%zu].corpus", i);
        const char *corpus = kv_yaml_scalar(doc, key);
        snprintf(key, sizeof key, "data.mixture[%zu].weight", i);
        const char *weight = kv_yaml_scalar(doc, key);
        if (!corpus || !weight) break;
        fprintf(out, "%s%s (weight %.20s)", i ? ", " : "", inspect_short(corpus, 200, shown), weight);
        json_array_append_new(parts,
                              json_pack("{s:s, s:f}", "corpus", corpus, "weight", strtod(weight, NULL)));
    }
    if (out && fclose(out) == 0 && *text)
        inspect_fact(report, "data", parts, "%s", text);
    else
        json_decref(parts);
    free(text);
}

static void report_config(yaml_document_t *doc, inspect_report *report) {
    report_scalar(doc, "task", "task", report);
    report_scalar(doc, "extends", "extends", report);
    report_scalar(doc, "output", "output", report);
    report_scalar(doc, "base", "base", report);
    report_scalar(doc, "aux", "aux", report);
    report_data(doc, report);
    report_scalar(doc, "data.validation", "held_out", report);
    report_scalar(doc, "train.steps", "steps", report);
    report_scalar(doc, "tokenizer", "tokenizer", report);
    // Of kvtrain --sweep: the file it is given, and the list it leaves.
    report_scalar(doc, "train", "sweep of", report);
    report_scalar(doc, "sweep", "sweep", report);
    report_scalar(doc, "eval", "eval", report);
    static const char *const lists[] = {"systems", "tasks", "prepare", "arms", "runs"};
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
        const int64_t n = list_length(doc, lists[i]);
        if (n) inspect_fact(report, lists[i], json_integer(n), "%" PRIi64, n);
    }
}

static kv_status describe_config(const inspect_subject *s, inspect_report *report, kv_error *err) {
    yaml_document_t doc;
    kv_status status = read_yaml(s->path, &doc, err);
    if (status) return status;
    const char *program = program_of(s->path, 0);
    if (!program) {
        yaml_document_delete(&doc);
        return kv_fail(err, KV_ERR_FORMAT,
                       "%s: YAML, but neither a config of kvtrain (key `task`) nor of kveval (key `systems`)",
                       s->path);
    }
    inspect_title(report, "config", s->path);
    inspect_fact(report, "program", json_string(program), "%s", program);
    report_config(&doc, report);
    yaml_document_delete(&doc);
    return KV_OK;
}

// ---- Lines of JSON -------------------------------------------------------------------------------------

struct lines {
    int64_t n;
    json_t *first, *last;
};

static kv_status take_line(void *context, const json_t *entry, const char *where, kv_error *err) {
    (void)where, (void)err;
    struct lines *lines = context;
    json_t *value = json_incref((json_t *)(uintptr_t)entry);
    if (lines->n++ == 0) lines->first = json_incref(value);
    json_decref(lines->last);
    lines->last = value;
    return KV_OK;
}

static void free_lines(struct lines *lines) {
    json_decref(lines->first);
    json_decref(lines->last);
}

// A line that a killed program left half-written at the end does not count.
static kv_status read_lines(const char *path, const char *what, struct lines *lines, kv_error *err) {
    char *text;
    size_t size;
    *lines = (struct lines){0};
    kv_status status = kv_read_file(path, max_lines_bytes, &text, &size, err);
    if (status) return status;
    while (size > 0 && text[size - 1] != '\n') size--;
    status = kv_json_lines(path, text, size, 0, what, take_line, lines, err);
    free(text);
    return status;
}

static void report_last(const json_t *last, const char *key, inspect_report *report) {
    char text[INSPECT_SHORT] = "", shown[INSPECT_SHORT];
    size_t used = 0;
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)last, name, value) {
        if (!json_is_number(value) || used + 80 > sizeof text) continue;
        used += (size_t)snprintf(text + used, sizeof text - used, "%s%s %.4g", used ? ", " : "",
                                 inspect_short(name, 30, shown), json_number_value(value));
    }
    inspect_fact(report, key, last ? json_deep_copy(last) : json_null(), "%s", text);
}

static void report_validation(const kv_metrics *metrics, inspect_report *report) {
    const kv_metrics_table *v = &metrics->validation;
    const double *losses = kv_metrics_values(v, "loss");
    if (metrics->best < 0) return;
    const double last = losses[v->n - 1], best = losses[metrics->best];
    const int64_t last_step = v->steps[v->n - 1], best_step = v->steps[metrics->best];
    inspect_fact(report, "validation",
                 json_pack("{s:I, s:f, s:I, s:I, s:f}", "passes", (json_int_t)v->n, "loss", last, "step",
                           (json_int_t)last_step, "best_step", (json_int_t)best_step, "best_loss", best),
                 "loss %.4g at step %" PRIi64 ", best %.4g at step %" PRIi64 ", %" PRIi64 " passes", last,
                 last_step, best, best_step, v->n);
}

static kv_status report_metrics(const char *path, inspect_report *report, kv_error *err) {
    kv_metrics metrics;
    kv_status status = kv_metrics_read(path, &metrics, err);
    if (!status) {
        const kv_metrics_table *t = &metrics.training, *v = &metrics.validation;
        const int64_t n = t->n + v->n;
        int64_t step = t->n > 0 ? t->steps[t->n - 1] : 0;
        if (v->n > 0 && v->steps[v->n - 1] > step) step = v->steps[v->n - 1];
        inspect_fact(report, "logged", json_integer(n), "%" PRIi64 " lines", n);
        inspect_fact(report, "steps_done", json_integer(step), "%" PRIi64, step);
        if (t->last) report_last(t->last, "last", report);
        report_validation(&metrics, report);
    }
    kv_metrics_free(&metrics);
    return status;
}

static bool is_metrics(const inspect_subject *s) {
    return json_is_integer(json_object_get(s->line, "step")) &&
           (has_key(s->line, "loss") || has_key(s->line, "validation"));
}

static kv_status describe_metrics(const inspect_subject *s, inspect_report *report, kv_error *err) {
    inspect_title(report, "metrics of kvtrain", s->path);
    return report_metrics(s->path, report, err);
}

static bool is_journal(const inspect_subject *s) {
    return json_is_integer(json_object_get(s->line, "unit")) && has_key(s->line, "run") &&
           has_key(s->line, "system");
}

static kv_status describe_journal(const inspect_subject *s, inspect_report *report, kv_error *err) {
    static const char *const keys[] = {"task", "split", "system", "run"};
    struct lines lines;
    kv_status status = read_lines(s->path, "answer", &lines, err);
    if (!status) {
        inspect_title(report, "samples of kveval", s->path);
        inspect_fact(report, "answers", json_integer(lines.n), "%" PRIi64, lines.n);
        for (int i = 0; i < 4; i++) {
            const char *value = json_string_value(json_object_get(lines.first, keys[i]));
            char shown[INSPECT_SHORT];
            if (value)
                inspect_fact(report, keys[i], json_string(value), "%s", inspect_short(value, 100, shown));
        }
        char *dump = kv_json_show(lines.first), shown[INSPECT_SHORT];
        inspect_fact(report, "first", json_deep_copy(lines.first), "%s",
                     inspect_short(dump ? dump : "", 300, shown));
        free(dump);
    }
    free_lines(&lines);
    return status;
}

// ---- Directories of kvtrain ----------------------------------------------------------------------------

static bool is_state(const inspect_subject *s) {
    return has_key(s->json, "step") && has_key(s->json, "shard_tokens");
}

static void report_state(const json_t *state, inspect_report *report) {
    const json_int_t step = json_integer_value(json_object_get(state, "step"));
    const double seconds = json_number_value(json_object_get(state, "seconds"));
    const json_int_t tokens = json_integer_value(json_object_get(state, "shard_tokens"));
    const char *tokenizer = json_string_value(json_object_get(state, "tokenizer"));
    char shown[INSPECT_SHORT];
    inspect_fact(report, "step", json_integer(step), "%" JSON_INTEGER_FORMAT, step);
    inspect_fact(report, "seconds", json_real(seconds), "%.1f of training", seconds);
    const json_t *loss = json_object_get(state, "validation_loss");
    if (json_is_number(loss))
        inspect_fact(report, "validation_loss", json_real(json_number_value(loss)), "%.4g",
                     json_number_value(loss));
    inspect_fact(report, "shard", json_pack("{s:I, s:s*}", "tokens", tokens, "tokenizer", tokenizer),
                 "%" JSON_INTEGER_FORMAT " tokens, tokenizer %s", tokens,
                 inspect_short(tokenizer ? tokenizer : "unknown", 32, shown));
}

static kv_status describe_state(const inspect_subject *s, inspect_report *report, kv_error *err) {
    (void)err;
    inspect_title(report, "state of a run", s->path);
    report_state(s->json, report);
    return KV_OK;
}

static bool is_stopped(const inspect_subject *s) {
    return has_key(s->json, "step") && has_key(s->json, "interrupted") && has_key(s->json, "message");
}

static kv_status describe_stopped(const inspect_subject *s, inspect_report *report, kv_error *err) {
    (void)err;
    const json_int_t step = json_integer_value(json_object_get(s->json, "step"));
    const bool interrupted = json_is_true(json_object_get(s->json, "interrupted"));
    const char *message = json_string_value(json_object_get(s->json, "message"));
    char shown[INSPECT_SHORT];
    inspect_title(report, "why a run stopped", s->path);
    inspect_fact(report, "interrupted", json_boolean(interrupted), "%s",
                 interrupted ? "yes" : "no, it failed");
    inspect_fact(report, "step", json_integer(step), "%" JSON_INTEGER_FORMAT, step);
    inspect_fact(report, "message", json_string(message ? message : ""), "%s",
                 inspect_short(message ? message : "", 390, shown));
    return KV_OK;
}

static void report_contents(const char *dir, const char *label, inspect_report *report) {
    static const char *const names[] = {"model", "aux", "predictor", "optimizer.h5"};
    char text[64] = "", path[PATH_MAX];
    json_t *list = json_array();
    for (int i = 0; i < 4; i++) {
        if (!inspect_entry(dir, names[i], path, sizeof path)) continue;
        json_array_append_new(list, json_string(names[i]));
        snprintf(text + strlen(text), sizeof text - strlen(text), "%s%s", *text ? ", " : "", names[i]);
    }
    inspect_fact(report, label, list, "%s", *text ? text : "nothing");
}

static bool is_training_checkpoint(const inspect_subject *s) {
    return has(s, "state.json");
}

static kv_status describe_training_checkpoint(const inspect_subject *s, inspect_report *report,
                                              kv_error *err) {
    kv_json_file file;
    kv_status status = kv_json_open(s->path, "state.json", &file, err);
    if (!status) {
        inspect_title(report, "training checkpoint", s->path);
        report_state(file.root, report);
        report_contents(s->path, "holds", report);
    }
    kv_json_close(&file);
    return status;
}

static bool is_run(const inspect_subject *s) {
    return has(s, "config.yaml") && (has(s, "metrics.jsonl") || has(s, "checkpoints") || has(s, "final"));
}

static int compare_names(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void report_checkpoints(const char *dir, inspect_report *report) {
    enum { MOST = 1024 };
    char path[PATH_MAX], *names[MOST], text[INSPECT_SHORT] = "", shown[INSPECT_SHORT];
    int n = 0;
    DIR *open = inspect_entry(dir, "checkpoints", path, sizeof path) ? opendir(path) : NULL;
    json_t *list = json_array();
    for (const struct dirent *entry; open && n < MOST && (entry = readdir(open));)
        if (strncmp(entry->d_name, "step-", 5) == 0 && !strchr(entry->d_name, '.')) {
            names[n] = strdup(entry->d_name);
            if (names[n]) n++;
        }
    if (open) closedir(open);
    if (n) qsort(names, (size_t)n, sizeof *names, compare_names);
    for (int i = 0, used = 0; i < n; i++) {
        json_array_append_new(list, json_string(names[i]));
        if (used + 40 < (int)sizeof text)
            used += snprintf(text + used, sizeof text - (size_t)used, "%s%s", used ? ", " : "",
                             inspect_short(names[i], 30, shown));
        free(names[i]);
    }
    inspect_fact(report, "checkpoints", list, "%s", *text ? text : "none");
}

// The step of final/, -1 where it does not say.
static int64_t step_of_state(const char *dir) {
    kv_json_file file = {0};
    int64_t step = -1;
    if (kv_json_open(dir, "state.json", &file, NULL) == KV_OK)
        kv_json_int(&file, "step", 0, INT64_MAX, &step, NULL);
    kv_json_close(&file);
    return step;
}

static kv_status describe_run(const inspect_subject *s, inspect_report *report, kv_error *err) {
    char path[PATH_MAX];
    yaml_document_t doc;
    if (!inspect_entry(s->path, "config.yaml", path, sizeof path))
        return kv_fail(err, KV_ERR_IO, "%s is gone", path);
    kv_status status = read_yaml(path, &doc, err);
    if (status) return status;
    inspect_title(report, "run of kvtrain", s->path);
    report_config(&doc, report);
    const char *planned = kv_yaml_scalar(&doc, "train.steps");
    const int64_t steps = planned ? strtoll(planned, NULL, 10) : 0;
    yaml_document_delete(&doc);
    if (inspect_entry(s->path, "metrics.jsonl", path, sizeof path))
        status = report_metrics(path, report, err);
    if (status) return status;
    report_checkpoints(s->path, report);
    if (inspect_entry(s->path, "best", path, sizeof path)) report_contents(path, "best", report);
    const bool final = inspect_entry(s->path, "final", path, sizeof path);
    const int64_t final_step = final ? step_of_state(path) : -1;
    // A final/ of fewer steps is that of a run which is being made longer.
    const bool finished = final && (final_step < 0 || final_step >= steps);
    char longer[64] = "";
    if (final && !finished) snprintf(longer, sizeof longer, "; final/ is of step %" PRIi64, final_step);
    inspect_fact(report, "finished", json_boolean(finished), "%s%s",
                 finished ? "yes, see final/" : "no, kvtrain --resume goes on", longer);
    if (final) report_contents(path, "holds", report);
    return KV_OK;
}

// ---- Directories of kveval -----------------------------------------------------------------------------

static bool is_evaluation(const inspect_subject *s) {
    return has(s, "results.h5") || has(s, "samples");
}

static kv_status describe_evaluation(const inspect_subject *s, inspect_report *report, kv_error *err) {
    static const char *const names[] = {"results.csv",  "budgets.csv",      "ttft.csv",   "errors.csv",
                                        "fidelity.csv", "correlations.csv", "pareto.svg", "pareto.png",
                                        "pareto.pdf",   "ttft.svg",         "ttft.png",   "ttft.pdf",
                                        "layers.svg",   "layers.png",       "layers.pdf", "fidelity.svg",
                                        "fidelity.png", "fidelity.pdf",     "samples",    "published.csv"};
    char path[PATH_MAX], text[256] = "";
    if (inspect_entry(s->path, "results.h5", path, sizeof path)) {
        kv_status status = inspect_results(path, report, err);
        if (status) return status;
    } else {
        inspect_title(report, "unfinished evaluation", s->path);
    }
    json_t *list = json_array();
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (!inspect_entry(s->path, names[i], path, sizeof path)) continue;
        json_array_append_new(list, json_string(names[i]));
        snprintf(text + strlen(text), sizeof text - strlen(text), "%s%s", *text ? ", " : "", names[i]);
    }
    inspect_fact(report, "beside", list, "%s", *text ? text : "nothing");
    return KV_OK;
}

const inspect_kind inspect_run_kinds[] = {
    {is_run, describe_run},
    {is_training_checkpoint, describe_training_checkpoint},
    {is_evaluation, describe_evaluation},
    {is_state, describe_state},
    {is_stopped, describe_stopped},
    {is_metrics, describe_metrics},
    {is_journal, describe_journal},
    {is_config, describe_config},
    {0},
};

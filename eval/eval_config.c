#include "eval/eval_config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OPTIONAL = CYAML_FLAG_OPTIONAL, POINTER = CYAML_FLAG_OPTIONAL | CYAML_FLAG_POINTER, LONGEST = 4096 };

// ---- Schema --------------------------------------------------------------------------------------------

#define TEXT(key, type, member) CYAML_FIELD_STRING_PTR(key, POINTER, type, member, 1, LONGEST)

static const cyaml_schema_field_t system_fields[] = {
    TEXT("name", kv_eval_system, name),
    TEXT("family", kv_eval_system, family),
    TEXT("model", kv_eval_system, model),
    TEXT("base", kv_eval_system, base),
    TEXT("aux", kv_eval_system, aux),
    TEXT("predictor", kv_eval_system, predictor),
    CYAML_FIELD_END,
};

static const cyaml_schema_field_t task_fields[] = {
    TEXT("name", kv_eval_task, name),
    TEXT("split", kv_eval_task, split),
    TEXT("file", kv_eval_task, file),
    CYAML_FIELD_INT("shots", OPTIONAL, kv_eval_task, shots),
    CYAML_FIELD_INT("limit", OPTIONAL, kv_eval_task, limit),
    CYAML_FIELD_INT("max_tokens", OPTIONAL, kv_eval_task, max_tokens),
    CYAML_FIELD_END,
};

static const cyaml_schema_field_t ttft_fields[] = {
    CYAML_FIELD_INT("prompt_tokens", OPTIONAL, kv_eval_ttft, prompt_tokens),
    CYAML_FIELD_INT("batch_size", OPTIONAL, kv_eval_ttft, batch_size),
    CYAML_FIELD_INT("repeats", OPTIONAL, kv_eval_ttft, repeats),
    CYAML_FIELD_END,
};

static const cyaml_schema_value_t system_schema = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, kv_eval_system, system_fields),
};

static const cyaml_schema_value_t task_schema = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, kv_eval_task, task_fields),
};

static const cyaml_schema_field_t config_fields[] = {
    TEXT("output", kv_eval_config, output),
    TEXT("tokenizer", kv_eval_config, tokenizer),
    CYAML_FIELD_UINT("seed", OPTIONAL, kv_eval_config, seed),
    CYAML_FIELD_INT("batch_size", OPTIONAL, kv_eval_config, batch_size),
    CYAML_FIELD_SEQUENCE_COUNT("systems", POINTER, kv_eval_config, systems, n_systems, &system_schema, 1,
                               256),
    CYAML_FIELD_SEQUENCE_COUNT("tasks", POINTER, kv_eval_config, tasks, n_tasks, &task_schema, 1, 64),
    CYAML_FIELD_MAPPING("ttft", OPTIONAL, kv_eval_config, ttft, ttft_fields),
    CYAML_FIELD_END,
};

static const cyaml_schema_value_t config_schema = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_POINTER, kv_eval_config, config_fields),
};

// ---- Checks --------------------------------------------------------------------------------------------

enum { KEY_SIZE = 64 };

static void list_key(char key[KEY_SIZE], const char *list, unsigned i, const char *field) {
    snprintf(key, KEY_SIZE, "%s[%u]%s%s", list, i, *field ? "." : "", field);
}

static kv_status check_system(const kv_config *config, const kv_eval_config *eval, unsigned i,
                              kv_error *err) {
    const kv_eval_system *s = &eval->systems[i];
    char key[KEY_SIZE];
    list_key(key, "systems", i, "");
    if (!s->name) return kv_config_fail(config, err, key, "expected a `name` for the table");
    const bool parts = s->base || s->aux || s->predictor;
    if (!s->model && !(s->base && s->aux && s->predictor))
        return kv_config_fail(config, err, key,
                              "expected either `model`, or all of `base`, `aux` and `predictor`");
    if (s->model && parts)
        return kv_config_fail(config, err, key,
                              "found both `model` and `%s`, expected a model alone or a "
                              "base with aux and predictor",
                              s->base  ? "base"
                              : s->aux ? "aux"
                                       : "predictor");
    if (i == 0 && !s->model)
        return kv_config_fail(config, err, key,
                              "the first row is what all others are compared with, expected "
                              "the base as a `model` alone");
    for (unsigned j = 0; j < i; j++)
        if (!strcmp(eval->systems[j].name, s->name)) {
            list_key(key, "systems", i, "name");
            return kv_config_fail(config, err, key, "`%s` is the name of systems[%u] already", s->name, j);
        }
    return KV_OK;
}

static kv_status check_number(const kv_config *config, const char *key, int64_t value, int64_t least,
                              kv_error *err) {
    if (value >= least) return KV_OK;
    return kv_config_fail(config, err, key, "found %lld, expected at least %lld", (long long)value,
                          (long long)least);
}

static kv_status check_task(const kv_config *config, const kv_eval_config *eval, unsigned i, kv_error *err) {
    const kv_eval_task *t = &eval->tasks[i];
    char key[KEY_SIZE];
    list_key(key, "tasks", i, "");
    if (!t->name || !t->file)
        return kv_config_fail(config, err, key, "expected a `%s`", t->name ? "file` of questions" : "name");
    const struct {
        const char *field;
        int64_t value, least;
    } numbers[] = {{"shots", t->shots, 0}, {"limit", t->limit, 0}, {"max_tokens", t->max_tokens, 1}};
    for (size_t n = 0; n < sizeof numbers / sizeof *numbers; n++) {
        list_key(key, "tasks", i, numbers[n].field);
        kv_status status = check_number(config, key, numbers[n].value, numbers[n].least, err);
        if (status != KV_OK) return status;
    }
    for (unsigned j = 0; j < i; j++)
        if (!strcmp(eval->tasks[j].name, t->name) && !strcmp(eval->tasks[j].split, t->split)) {
            list_key(key, "tasks", i, "name");
            return kv_config_fail(config, err, key, "tasks[%u] is `%s` with split `%s` already", j, t->name,
                                  t->split);
        }
    return KV_OK;
}

static kv_status check_config(const kv_config *config, const kv_eval_config *eval, kv_error *err) {
    if (!eval->output) return kv_config_fail(config, err, "output", "expected the directory for the results");
    if (!eval->tokenizer) return kv_config_fail(config, err, "tokenizer", "expected the path of a tokenizer");
    if (!eval->n_systems) return kv_config_fail(config, err, "systems", "expected at least one system");
    if (!eval->n_tasks) return kv_config_fail(config, err, "tasks", "expected at least one task");
    const struct {
        const char *key;
        int64_t value, least;
    } numbers[] = {{"batch_size", eval->batch_size, 1},
                   {"ttft.prompt_tokens", eval->ttft.prompt_tokens, 0},
                   {"ttft.batch_size", eval->ttft.batch_size, 1},
                   {"ttft.repeats", eval->ttft.repeats, 1}};
    kv_status status = KV_OK;
    for (size_t n = 0; n < sizeof numbers / sizeof *numbers && status == KV_OK; n++)
        status = check_number(config, numbers[n].key, numbers[n].value, numbers[n].least, err);
    for (unsigned i = 0; i < eval->n_systems && status == KV_OK; i++)
        status = check_system(config, eval, i, err);
    for (unsigned i = 0; i < eval->n_tasks && status == KV_OK; i++) status = check_task(config, eval, i, err);
    return status;
}

// ---- Defaults ------------------------------------------------------------------------------------------

static const char defaults[] = "seed: 1\n"
                               "batch_size: 64\n"
                               "ttft: {prompt_tokens: 0, batch_size: 8, repeats: 5}\n";

// What a list's entries leave out. The config frees its strings itself, so a default has to be an allocated
// copy.
static bool default_text(char **text, const char *value) {
    if (!*text && value) *text = strdup(value);
    return *text || !value;
}

static bool fill_defaults(const kv_config *config, kv_eval_config *eval) {
    bool ok = true;
    char key[KEY_SIZE];
    for (unsigned i = 0; i < eval->n_systems; i++)
        ok = ok && default_text(&eval->systems[i].family, eval->systems[i].name);
    for (unsigned i = 0; i < eval->n_tasks; i++) {
        list_key(key, "tasks", i, "max_tokens");
        if (!kv_config_has(config, key)) eval->tasks[i].max_tokens = 24;
        ok = ok && default_text(&eval->tasks[i].split, "validation");
    }
    return ok;
}

kv_status kv_eval_config_load(const char *path, const char *const *overrides, size_t n_overrides,
                              kv_config **config, const kv_eval_config **eval, kv_error *err) {
    *config = NULL, *eval = NULL;
    kv_status status =
        kv_config_load_with_defaults(defaults, path, overrides, n_overrides, &config_schema, config, err);
    if (status != KV_OK) return status;
    kv_eval_config *data = kv_config_data(*config);
    if (!fill_defaults(*config, data))
        status = kv_fail(err, KV_ERR_MEMORY, "out of memory for the configuration");
    else
        status = check_config(*config, data, err);
    if (status == KV_OK) {
        *eval = data;
        return KV_OK;
    }
    kv_config_free(*config);
    *config = NULL;
    return status;
}

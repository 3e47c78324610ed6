// The schema, and the defaults that depend on other keys, which libcyaml has no word for.
#include "eval/config/config.h"

#include "data/file/mistaken.h"
#include "eval/benchmark/kinds.h"
#include "eval/config/check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    OPTIONAL = CYAML_FLAG_OPTIONAL,
    POINTER = CYAML_FLAG_OPTIONAL | CYAML_FLAG_POINTER,
    LONGEST = 4096,
    LONGEST_PROMPT = 1 << 18
};

// ---- Schema --------------------------------------------------------------------------------------------

#define TEXT(key, type, member) CYAML_FIELD_STRING_PTR(key, POINTER, type, member, 1, LONGEST)

static const cyaml_schema_value_t whole_number = {CYAML_VALUE_INT(CYAML_FLAG_DEFAULT, int64_t)};
static const cyaml_schema_value_t some_text = {CYAML_VALUE_STRING(CYAML_FLAG_POINTER, char *, 1, LONGEST)};
static const cyaml_schema_value_t any_text = {CYAML_VALUE_STRING(CYAML_FLAG_POINTER, char *, 0, LONGEST)};
static const cyaml_schema_value_t real_number = {CYAML_VALUE_FLOAT(CYAML_FLAG_DEFAULT, double)};

static const cyaml_schema_field_t system_fields[] = {
    TEXT("name", kv_eval_system, name),
    TEXT("family", kv_eval_system, family),
    TEXT("model", kv_eval_system, model),
    TEXT("base", kv_eval_system, base),
    TEXT("aux", kv_eval_system, aux),
    TEXT("predictor", kv_eval_system, predictor),
    TEXT("tabulated", kv_eval_system, tabulated),
    TEXT("pruning", kv_eval_system, pruning),
    CYAML_FIELD_FLOAT("keep", OPTIONAL, kv_eval_system, keep),
    CYAML_FIELD_FLOAT("start", OPTIONAL, kv_eval_system, start),
    CYAML_FIELD_FLOAT("end", OPTIONAL, kv_eval_system, end),
    CYAML_FIELD_INT("lookahead", OPTIONAL, kv_eval_system, lookahead),
    CYAML_FIELD_INT("window", OPTIONAL, kv_eval_system, window),
    CYAML_FIELD_INT("chunk", OPTIONAL, kv_eval_system, chunk),
    CYAML_FIELD_END,
};

static const cyaml_strval_t ways_too_long[] = {
    {"refuse", KV_TOO_LONG_REFUSE}, {"skip", KV_TOO_LONG_SKIP}, {"cut", KV_TOO_LONG_CUT}};

static const cyaml_strval_t ways_drawn[] = {{"each", KV_SHOTS_EACH}, {"once", KV_SHOTS_ONCE}};

static const cyaml_schema_field_t task_fields[] = {
    TEXT("name", kv_eval_task, name),
    TEXT("split", kv_eval_task, split),
    TEXT("kind", kv_eval_task, kind),
    TEXT("file", kv_eval_task, file),
    CYAML_FIELD_INT("shots", OPTIONAL, kv_eval_task, shots),
    TEXT("shots_file", kv_eval_task, shots_file),
    CYAML_FIELD_ENUM("shots_drawn", OPTIONAL | CYAML_FLAG_STRICT, kv_eval_task, shots_drawn, ways_drawn,
                     CYAML_ARRAY_LEN(ways_drawn)),
    TEXT("prompt_cache", kv_eval_task, prompt_cache),
    CYAML_FIELD_INT("limit", OPTIONAL, kv_eval_task, limit),
    CYAML_FIELD_INT("max_tokens", OPTIONAL, kv_eval_task, max_tokens),
    CYAML_FIELD_ENUM("too_long", OPTIONAL | CYAML_FLAG_STRICT, kv_eval_task, too_long, ways_too_long,
                     CYAML_ARRAY_LEN(ways_too_long)),
    CYAML_FIELD_BOOL("behind_prompt", OPTIONAL, kv_eval_task, behind_prompt),
    CYAML_FIELD_BOOL("chat", OPTIONAL, kv_eval_task, chat),
    TEXT("system_prompt", kv_eval_task, system_prompt),
    TEXT("corpus", kv_eval_task, corpus),
    CYAML_FIELD_INT("window", OPTIONAL, kv_eval_task, window),
    CYAML_FIELD_INT("prompt", OPTIONAL, kv_eval_task, prompt),
    CYAML_FIELD_INT("stride", OPTIONAL, kv_eval_task, stride),
    CYAML_FIELD_STRING_PTR("template", POINTER, kv_eval_task, template, 1, LONGEST_PROMPT),
    CYAML_FIELD_STRING_PTR("preamble", POINTER, kv_eval_task, preamble, 1, LONGEST_PROMPT),
    TEXT("target", kv_eval_task, target),
    TEXT("label", kv_eval_task, label),
    CYAML_FIELD_SEQUENCE_COUNT("choices", POINTER, kv_eval_task, choices, n_choices, &any_text, 1, 16),
    CYAML_FIELD_SEQUENCE_COUNT("labels", POINTER, kv_eval_task, labels, n_labels, &any_text, 1, 16),
    CYAML_FIELD_SEQUENCE_COUNT("stop", POINTER, kv_eval_task, stop, n_stop, &some_text, 0, 16),
    TEXT("metric", kv_eval_task, metric),
    TEXT("pattern", kv_eval_task, pattern),
    CYAML_FIELD_BOOL("ignore_case", OPTIONAL, kv_eval_task, ignore_case),
    CYAML_FIELD_BOOL("ignore_punctuation", OPTIONAL, kv_eval_task, ignore_punctuation),
    CYAML_FIELD_STRING_PTR("target_delimiter", POINTER, kv_eval_task, target_delimiter, 0, LONGEST),
    CYAML_FIELD_STRING_PTR("shots_delimiter", POINTER, kv_eval_task, shots_delimiter, 0, LONGEST),
    CYAML_FIELD_INT("samples", OPTIONAL, kv_eval_task, samples),
    CYAML_FIELD_FLOAT("temperature", OPTIONAL, kv_eval_task, temperature),
    CYAML_FIELD_FLOAT("top_p", OPTIONAL, kv_eval_task, top_p),
    CYAML_FIELD_SEQUENCE_COUNT("k", POINTER, kv_eval_task, k, n_k, &whole_number, 1, KV_EVAL_MAX_K),
    CYAML_FIELD_FLOAT("timeout", OPTIONAL, kv_eval_task, timeout),
    CYAML_FIELD_INT("memory_mb", OPTIONAL, kv_eval_task, memory_mb),
    CYAML_FIELD_INT("workers", OPTIONAL, kv_eval_task, workers),
    CYAML_FIELD_END,
};

static const cyaml_schema_field_t ttft_fields[] = {
    CYAML_FIELD_INT("prompt_tokens", OPTIONAL, kv_eval_ttft, prompt_tokens),
    CYAML_FIELD_INT("batch_size", OPTIONAL, kv_eval_ttft, batch_size),
    CYAML_FIELD_INT("repeats", OPTIONAL, kv_eval_ttft, repeats),
    CYAML_FIELD_SEQUENCE_COUNT("prompts", POINTER, kv_eval_ttft, prompts, n_prompts, &whole_number, 0, 32),
    CYAML_FIELD_SEQUENCE_COUNT("batches", POINTER, kv_eval_ttft, batches, n_batches, &whole_number, 0, 8),
    CYAML_FIELD_END,
};

static const cyaml_schema_field_t analysis_fields[] = {
    TEXT("corpus", kv_eval_analysis, corpus),
    CYAML_FIELD_INT("sequences", OPTIONAL, kv_eval_analysis, sequences),
    CYAML_FIELD_INT("seq_len", OPTIONAL, kv_eval_analysis, seq_len),
    CYAML_FIELD_INT("bins", OPTIONAL, kv_eval_analysis, bins),
    CYAML_FIELD_END,
};

static const cyaml_schema_field_t picture_fields[] = {
    TEXT("x", kv_eval_picture, x),
    TEXT("y", kv_eval_picture, y),
    TEXT("line", kv_eval_picture, line),
    TEXT("published", kv_eval_picture, published),
    CYAML_FIELD_BOOL("draw_published", OPTIONAL, kv_eval_picture, draw_published),
    CYAML_FIELD_END,
};

static const cyaml_schema_value_t system_schema = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, kv_eval_system, system_fields),
};

static const cyaml_schema_value_t task_schema = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, kv_eval_task, task_fields),
};

static const cyaml_strval_t dtypes[] = {
    {"stored", KV_FROZEN_STORED}, {"f32", KV_FROZEN_F32}, {"bf16", KV_FROZEN_BF16}, {"f16", KV_FROZEN_F16}};

static const cyaml_schema_field_t config_fields[] = {
    TEXT("output", kv_eval_config, output),
    TEXT("tokenizer", kv_eval_config, tokenizer),
    CYAML_FIELD_UINT("seed", OPTIONAL, kv_eval_config, seed),
    CYAML_FIELD_ENUM("dtype", OPTIONAL | CYAML_FLAG_STRICT, kv_eval_config, dtype, dtypes,
                     CYAML_ARRAY_LEN(dtypes)),
    CYAML_FIELD_INT("batch_size", OPTIONAL, kv_eval_config, batch_size),
    CYAML_FIELD_INT("bootstrap", OPTIONAL, kv_eval_config, bootstrap),
    CYAML_FIELD_INT("limit", OPTIONAL, kv_eval_config, limit),
    CYAML_FIELD_SEQUENCE_COUNT("systems", POINTER, kv_eval_config, systems, n_systems, &system_schema, 1,
                               256),
    CYAML_FIELD_SEQUENCE_COUNT("tasks", POINTER, kv_eval_config, tasks, n_tasks, &task_schema, 0, 64),
    CYAML_FIELD_SEQUENCE_COUNT("budgets", POINTER, kv_eval_config, budgets, n_budgets, &real_number, 0, 32),
    CYAML_FIELD_MAPPING("ttft", OPTIONAL, kv_eval_config, ttft, ttft_fields),
    CYAML_FIELD_MAPPING("analysis", OPTIONAL, kv_eval_config, analysis, analysis_fields),
    CYAML_FIELD_MAPPING("picture", OPTIONAL, kv_eval_config, picture, picture_fields),
    CYAML_FIELD_END,
};

const cyaml_schema_value_t kv_eval_schema = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_POINTER, kv_eval_config, config_fields),
};

const char *const kv_eval_paths[] = {"output",
                                     "tokenizer",
                                     "systems[].model",
                                     "systems[].base",
                                     "systems[].aux",
                                     "systems[].predictor",
                                     "systems[].tabulated",
                                     "tasks[].file",
                                     "tasks[].shots_file",
                                     "tasks[].prompt_cache",
                                     "tasks[].corpus",
                                     "analysis.corpus",
                                     NULL};

// ---- Defaults ------------------------------------------------------------------------------------------

static const char defaults[] = "seed: 1\n"
                               "dtype: stored\n"
                               "bootstrap: 2000\n"
                               "budgets: [1.0, 0.75, 0.5, 0.35, 0.25]\n"
                               "ttft: {prompt_tokens: 0, batch_size: 8, repeats: 5}\n"
                               "picture: {x: exact, y: accuracy, draw_published: true}\n";

void kv_eval_list_key(char key[KV_EVAL_KEY], const char *list, unsigned i, const char *field) {
    snprintf(key, KV_EVAL_KEY, "%s[%u]%s%s", list, i, *field ? "." : "", field);
}

// What a list's entries leave out. The config frees its strings itself, so a default has to be an allocated
// copy.
static bool default_text(char **text, const char *value) {
    if (!*text && value) *text = strdup(value);
    return *text || !value;
}

struct entry {
    const kv_config *config;
    const char *list;
    unsigned index;
};

static bool has(const struct entry *e, const char *field) {
    char key[KV_EVAL_KEY];
    kv_eval_list_key(key, e->list, e->index, field);
    return kv_config_has(e->config, key);
}

static void default_int(const struct entry *e, const char *field, int64_t *value, int64_t otherwise) {
    if (!has(e, field)) *value = otherwise;
}

static void default_real(const struct entry *e, const char *field, double *value, double otherwise) {
    if (!has(e, field)) *value = otherwise;
}

static bool fill_system(const struct entry *e, kv_eval_system *s) {
    default_int(e, "lookahead", &s->lookahead, 8); // arXiv 2502.02789
    default_int(e, "window", &s->window, 13);
    default_int(e, "chunk", &s->chunk, 32);
    return default_text(&s->family, s->name);
}

// An answer ends with its line.
static bool default_stop(const struct entry *e, kv_eval_task *t) {
    if (!(kv_benchmark_kind_find(t->kind).keys & KV_KEYS_CUSTOM) || has(e, "stop")) return true;
    t->stop = calloc(1, sizeof *t->stop);
    if (t->stop) t->stop[0] = strdup("\n"), t->n_stop = 1;
    return t->stop && t->stop[0];
}

// A program is longer than an answer, and drawn at random when there are several of them.
static bool fill_task(const struct entry *e, kv_eval_task *t) {
    if (!default_text(&t->kind, "triviaqa")) return false;
    const kv_benchmark_kind kind = kv_benchmark_kind_find(t->kind);
    if (!default_text(&t->split, kind.split ? kind.split : "validation")) return false;
    default_int(e, "max_tokens", &t->max_tokens, kind.max_tokens > 0 ? kind.max_tokens : 24);
    default_int(e, "window", &t->window, 512);
    default_int(e, "prompt", &t->prompt, t->window / 4 * 3 + t->window % 4 * 3 / 4);
    default_int(e, "stride", &t->stride, t->window);
    default_int(e, "samples", &t->samples, 1);
    default_real(e, "temperature", &t->temperature, t->samples > 1 ? 0.2 : 0);
    default_real(e, "top_p", &t->top_p, t->samples > 1 ? 0.95 : 1);
    default_real(e, "timeout", &t->timeout, kind.timeout > 0 ? kind.timeout : 10);
    default_int(e, "memory_mb", &t->memory_mb, 512);
    return default_text(&t->metric, t->n_choices ? "choice" : "exact") && default_stop(e, t);
}

// Not with the other defaults: that the block is there means that it is to be done.
static void fill_analysis(const kv_config *config, kv_eval_analysis *analysis) {
    if (!kv_config_has(config, "analysis")) return;
    if (!kv_config_has(config, "analysis.sequences")) analysis->sequences = 64;
    if (!kv_config_has(config, "analysis.bins")) analysis->bins = 101;
}

static bool fill_defaults(const kv_config *config, kv_eval_config *eval) {
    bool ok = true;
    fill_analysis(config, &eval->analysis);
    for (unsigned i = 0; i < eval->n_systems; i++)
        ok = ok && fill_system(&(struct entry){config, "systems", i}, &eval->systems[i]);
    for (unsigned i = 0; i < eval->n_tasks; i++)
        ok = ok && fill_task(&(struct entry){config, "tasks", i}, &eval->tasks[i]);
    return ok;
}

// The limit of all tasks goes into each.
static void limit_tasks(kv_eval_config *eval) {
    for (unsigned i = 0; i < eval->n_tasks && eval->limit > 0; i++) {
        int64_t *own = &eval->tasks[i].limit;
        if (*own == 0 || *own > eval->limit) *own = eval->limit;
    }
}

kv_status kv_eval_blame(const kv_config *config, const char *key, kv_error *err) {
    const kv_error inner = *err;
    kv_config_fail(config, err, key, "%s", inner.message);
    return err->code = inner.code;
}

static kv_status load(const char *path, const char *const *overrides, size_t n_overrides, kv_config **config,
                      const kv_eval_config **eval, kv_error *err) {
    *config = NULL, *eval = NULL;
    kv_status status = kv_config_load_with_defaults(defaults, kv_eval_paths, path, overrides, n_overrides,
                                                    &kv_eval_schema, config, err);
    if (status != KV_OK) return status;
    kv_eval_config *data = kv_config_data(*config);
    if (!fill_defaults(*config, data))
        status = kv_fail(err, KV_ERR_MEMORY, "out of memory for the configuration");
    else
        status = kv_eval_config_check(*config, data, err);
    if (status == KV_OK) {
        limit_tasks(data);
        *eval = data;
        return KV_OK;
    }
    kv_config_free(*config);
    *config = NULL;
    return status;
}

kv_status kv_eval_config_load(const char *path, const char *const *overrides, size_t n_overrides,
                              kv_config **config, const kv_eval_config **eval, kv_error *err) {
    return kv_mistaken(path, KV_FILE_EVAL_CONFIG, load(path, overrides, n_overrides, config, eval, err), err);
}

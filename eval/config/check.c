// An evaluation takes hours: what can be known to be wrong from the file alone is said before it begins, with
// the key that is wrong.
#include "eval/config/check.h"

#include "eval/benchmark/kinds.h"
#include "eval/published/published.h"
#include "eval/results/analysis.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static kv_status check_number(const kv_config *config, const char *key, int64_t value, int64_t least,
                              kv_error *err) {
    if (value >= least) return KV_OK;
    return kv_config_fail(config, err, key, "found %lld, expected at least %lld", (long long)value,
                          (long long)least);
}

// above < value <= most
static kv_status check_real(const kv_config *config, const char *key, double value, double above, double most,
                            kv_error *err) {
    if (value > above && value <= most) return KV_OK;
    return kv_config_fail(config, err, key, "found %g, expected a number above %g, up to %g", value, above,
                          most);
}

// ---- Systems -------------------------------------------------------------------------------------------

struct row {
    const kv_config *config;
    const kv_eval_system *system;
    unsigned index;
    kv_error *err;
};

static bool row_has(const struct row *r, const char *field) {
    char key[KV_EVAL_KEY];
    kv_eval_list_key(key, "systems", r->index, field);
    return kv_config_has(r->config, key);
}

static kv_status check_fraction(const struct row *r, const char *field, double value) {
    char key[KV_EVAL_KEY];
    kv_eval_list_key(key, "systems", r->index, row_has(r, field) ? field : "");
    if (!row_has(r, field))
        return kv_config_fail(r->config, r->err, key, "expected `%s`, a fraction of the prompt", field);
    return check_real(r->config, key, value, 0, 1, r->err);
}

// Keys that only some of the policies know.
static kv_status check_pruning_keys(const struct row *r) {
    static const struct {
        const char *field, *kinds;
    } keys[] = {{"keep", "random static speculative"}, {"start", "lazy"},         {"end", "lazy"},
                {"lookahead", "speculative"},          {"window", "speculative"}, {"chunk", "speculative"}};
    const char *kind = r->system->pruning;
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        if (!row_has(r, keys[i].field) || (kind && strstr(keys[i].kinds, kind))) continue;
        char key[KV_EVAL_KEY];
        kv_eval_list_key(key, "systems", r->index, keys[i].field);
        return kv_config_fail(r->config, r->err, key, "belongs to pruning: %s, found %s%s", keys[i].kinds,
                              kind ? "pruning: " : "no `pruning`", kind ? kind : "");
    }
    return KV_OK;
}

static kv_status check_speculative(const struct row *r) {
    const kv_eval_system *s = r->system;
    const struct {
        const char *field;
        int64_t value;
    } numbers[] = {{"lookahead", s->lookahead}, {"window", s->window}, {"chunk", s->chunk}};
    kv_status status = check_fraction(r, "keep", s->keep);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers && status == KV_OK; i++) {
        char key[KV_EVAL_KEY];
        kv_eval_list_key(key, "systems", r->index, numbers[i].field);
        status = check_number(r->config, key, numbers[i].value, 1, r->err);
    }
    return status;
}

static kv_status check_pruning(const struct row *r) {
    const kv_eval_system *s = r->system;
    char key[KV_EVAL_KEY];
    kv_status status = check_pruning_keys(r);
    if (status != KV_OK || !s->pruning) return status;
    if (!strcmp(s->pruning, "random") || !strcmp(s->pruning, "static"))
        return check_fraction(r, "keep", s->keep);
    if (!strcmp(s->pruning, "speculative")) return check_speculative(r);
    kv_eval_list_key(key, "systems", r->index, "pruning");
    if (strcmp(s->pruning, "lazy") != 0)
        return kv_config_fail(r->config, r->err, key,
                              "found `%s`, expected random, static, lazy or speculative", s->pruning);
    status = check_fraction(r, "start", s->start);
    if (status == KV_OK) status = check_fraction(r, "end", s->end);
    if (status != KV_OK || s->end <= s->start) return status;
    kv_eval_list_key(key, "systems", r->index, "end");
    return kv_config_fail(r->config, r->err, key, "found %g, expected at most `start`, %g", s->end, s->start);
}

static kv_status check_models(const struct row *r) {
    const kv_eval_system *s = r->system;
    char key[KV_EVAL_KEY];
    kv_eval_list_key(key, "systems", r->index, "");
    const bool speculative = s->pruning && !strcmp(s->pruning, "speculative");
    const char *part = s->base ? "base" : s->aux ? "aux" : s->predictor ? "predictor" : NULL;
    if (s->model && part)
        return kv_config_fail(r->config, r->err, key,
                              "found both `model` and `%s`, expected a model alone or a base with aux%s",
                              part, speculative ? "" : " and predictor");
    if (speculative && (!s->base || !s->aux || s->predictor))
        return kv_config_fail(r->config, r->err, key,
                              "speculative pruning takes `base` and `aux`, and no `predictor`");
    if (!speculative && !s->model && !(s->base && s->predictor))
        return kv_config_fail(
            r->config, r->err, key,
            "expected either `model`, or `base` and `predictor`, and their `aux` (none where "
            "the predictor reads the base's own first layers)");
    if (s->tabulated && !s->predictor)
        return kv_config_fail(r->config, r->err, key,
                              "found `tabulated` without `predictor`, which it is a part of");
    if (!speculative && s->pruning && !s->model)
        return kv_config_fail(r->config, r->err, key, "%s pruning takes a `model` alone", s->pruning);
    if (r->index == 0 && (!s->model || s->pruning))
        return kv_config_fail(r->config, r->err, key,
                              "the first row is what all others are compared with, expected the base as a "
                              "`model` alone");
    return KV_OK;
}

static kv_status check_system(const kv_config *config, const kv_eval_config *eval, unsigned i,
                              kv_error *err) {
    const struct row r = {.config = config, .system = &eval->systems[i], .index = i, .err = err};
    char key[KV_EVAL_KEY];
    kv_eval_list_key(key, "systems", i, "");
    if (!r.system->name) return kv_config_fail(config, err, key, "expected a `name` for the table");
    kv_status status = check_pruning(&r);
    if (status == KV_OK) status = check_models(&r);
    for (unsigned j = 0; j < i && status == KV_OK; j++) {
        if (strcmp(eval->systems[j].name, r.system->name) != 0) continue;
        kv_eval_list_key(key, "systems", i, "name");
        return kv_config_fail(config, err, key, "`%s` is the name of systems[%u] already", r.system->name, j);
    }
    return status;
}

// ---- Tasks ---------------------------------------------------------------------------------------------

static kv_status check_kind(const kv_config *config, unsigned i, const char *kind, kv_error *err) {
    if (kv_benchmark_kind_find(kind).name) return KV_OK;
    char key[KV_EVAL_KEY], known[KV_KIND_NAMES];
    kv_eval_list_key(key, "tasks", i, "kind");
    kv_benchmark_kind_names(~0u, known);
    return kv_config_fail(config, err, key, "found `%s`, expected one of %s", kind, known);
}

static kv_status check_programs(const kv_config *config, const kv_eval_task *t, unsigned i, kv_error *err) {
    char key[KV_EVAL_KEY];
    kv_eval_list_key(key, "tasks", i, "temperature");
    if (!(t->temperature >= 0 && t->temperature <= 100))
        return kv_config_fail(config, err, key, "found %g, expected a number from 0 to 100", t->temperature);
    if (t->samples > 1 && t->temperature == 0)
        return kv_config_fail(config, err, key,
                              "found 0, which gives %lld equal samples, expected more than 0",
                              (long long)t->samples);
    kv_eval_list_key(key, "tasks", i, "top_p");
    kv_status status = check_real(config, key, t->top_p, 0, 1, err);
    kv_eval_list_key(key, "tasks", i, "timeout");
    if (status == KV_OK) status = check_real(config, key, t->timeout, 0, 3600, err);
    kv_eval_list_key(key, "tasks", i, "k");
    for (unsigned k = 0; k < t->n_k && status == KV_OK; k++)
        if (t->k[k] < 1 || t->k[k] > t->samples)
            status = kv_config_fail(config, err, key, "found pass@%lld, expected 1 to the %lld `samples`",
                                    (long long)t->k[k], (long long)t->samples);
    return status;
}

// Windows of a text: a prompt, and something behind it.
static kv_status check_text(const kv_config *config, const kv_eval_task *t, unsigned i, kv_error *err) {
    const struct {
        const char *field;
        int64_t value, least;
    } numbers[] = {{"window", t->window, 2}, {"prompt", t->prompt, 1}, {"stride", t->stride, 1}};
    char key[KV_EVAL_KEY];
    kv_status status = KV_OK;
    for (size_t n = 0; n < sizeof numbers / sizeof *numbers && status == KV_OK; n++) {
        kv_eval_list_key(key, "tasks", i, numbers[n].field);
        status = check_number(config, key, numbers[n].value, numbers[n].least, err);
    }
    if (status != KV_OK || t->prompt < t->window) return status;
    kv_eval_list_key(key, "tasks", i, "prompt");
    return kv_config_fail(config, err, key, "found %lld, expected less than `window`, %lld",
                          (long long)t->prompt, (long long)t->window);
}

// What it takes its items from.
static kv_status check_source(const kv_config *config, const kv_eval_task *t, unsigned i, kv_error *err) {
    const bool text = kv_benchmark_kind_find(t->kind).keys & KV_KEYS_TEXT;
    char key[KV_EVAL_KEY];
    kv_eval_list_key(key, "tasks", i, "");
    if (!t->name) return kv_config_fail(config, err, key, "expected a `name`");
    if (text && !t->corpus)
        return kv_config_fail(config, err, key,
                              "expected a `corpus`: a token shard, a directory of them, or text files");
    return text || t->file ? KV_OK : kv_config_fail(config, err, key, "expected a `file` of questions");
}

// What only the kind itself knows of its keys.
static kv_status check_own(const kv_config *config, const kv_eval_task *t, unsigned i, kv_error *err) {
    const kv_benchmark_kind kind = kv_benchmark_kind_find(t->kind);
    char key[KV_EVAL_KEY], field[KV_TASK_KEY];
    kv_error inner = {0};
    if (!kind.check || kind.check(t, field, &inner) == KV_OK) return KV_OK;
    kv_eval_list_key(key, "tasks", i, field);
    return kv_config_fail(config, err, key, "%s", inner.message);
}

// A question among its own examples would give its answer away.
static bool is_same_file(const char *a, const char *b) {
    struct stat one, other;
    if (stat(a, &one) != 0 || stat(b, &other) != 0) return strcmp(a, b) == 0;
    return one.st_dev == other.st_dev && one.st_ino == other.st_ino;
}

// Nor would the same examples for all questions be anything else, were they of the task's own file.
static kv_status check_shots(const kv_config *config, const kv_eval_task *t, unsigned i, kv_error *err) {
    char key[KV_EVAL_KEY];
    kv_eval_list_key(key, "tasks", i, "shots_file");
    if (t->shots_file && t->file && is_same_file(t->shots_file, t->file))
        return kv_config_fail(
            config, err, key,
            "found the task's own file, from which examples are drawn without this key, and "
            "never the question itself");
    kv_eval_list_key(key, "tasks", i, "shots_drawn");
    if (t->shots_drawn == KV_SHOTS_ONCE && t->shots > 0 && !t->shots_file)
        return kv_config_fail(
            config, err, key,
            "found once, expected `shots_file` beside it: examples of the task's own file would be among its "
            "questions");
    return KV_OK;
}

static kv_status check_task(const kv_config *config, const kv_eval_config *eval, unsigned i, kv_error *err) {
    const kv_eval_task *t = &eval->tasks[i];
    char key[KV_EVAL_KEY];
    const struct {
        const char *field;
        int64_t value, least;
    } numbers[] = {{"shots", t->shots, 0},           {"limit", t->limit, 0},
                   {"max_tokens", t->max_tokens, 1}, {"samples", t->samples, 1},
                   {"memory_mb", t->memory_mb, 16},  {"workers", t->workers, 0}};
    kv_status status = check_kind(config, i, t->kind, err);
    if (status == KV_OK) status = check_source(config, t, i, err);
    for (size_t n = 0; n < sizeof numbers / sizeof *numbers && status == KV_OK; n++) {
        kv_eval_list_key(key, "tasks", i, numbers[n].field);
        status = check_number(config, key, numbers[n].value, numbers[n].least, err);
    }
    if (status == KV_OK) status = check_text(config, t, i, err);
    if (status == KV_OK) status = check_programs(config, t, i, err);
    if (status == KV_OK) status = check_own(config, t, i, err);
    kv_eval_list_key(key, "tasks", i, "chat");
    if (status == KV_OK && t->chat && !(kv_benchmark_kind_find(t->kind).keys & KV_KEYS_QUESTIONS))
        status = kv_config_fail(config, err, key,
                                "found true, but kind: %s asks nothing that a user could say", t->kind);
    if (status == KV_OK) status = check_shots(config, t, i, err);
    for (unsigned j = 0; j < i && status == KV_OK; j++) {
        if (strcmp(eval->tasks[j].name, t->name) != 0 || strcmp(eval->tasks[j].split, t->split) != 0)
            continue;
        kv_eval_list_key(key, "tasks", i, "name");
        return kv_config_fail(config, err, key, "tasks[%u] is `%s` with split `%s` already", j, t->name,
                              t->split);
    }
    return status;
}

// ---- The rest ------------------------------------------------------------------------------------------

// `third` may be NULL.
static kv_status check_word(const kv_config *config, const char *key, const char *word, const char *first,
                            const char *second, const char *third, kv_error *err) {
    if (!strcmp(word, first) || !strcmp(word, second) || (third && !strcmp(word, third))) return KV_OK;
    return kv_config_fail(config, err, key, "found `%s`, expected %s%s%s or %s", word, first,
                          third ? ", " : "", third ? second : "", third ? third : second);
}

static kv_status check_ttft(const kv_config *config, const kv_eval_ttft *ttft, kv_error *err) {
    const struct {
        const char *key;
        int64_t value, least;
    } numbers[] = {{"ttft.prompt_tokens", ttft->prompt_tokens, 0},
                   {"ttft.batch_size", ttft->batch_size, 1},
                   {"ttft.repeats", ttft->repeats, 1}};
    kv_status status = KV_OK;
    char key[KV_EVAL_KEY];
    for (size_t n = 0; n < sizeof numbers / sizeof *numbers && status == KV_OK; n++)
        status = check_number(config, numbers[n].key, numbers[n].value, numbers[n].least, err);
    for (unsigned i = 0; i < ttft->n_prompts && status == KV_OK; i++) {
        kv_eval_list_key(key, "ttft.prompts", i, "");
        status = check_number(config, key, ttft->prompts[i], 1, err);
    }
    for (unsigned i = 0; i < ttft->n_batches && status == KV_OK; i++) {
        kv_eval_list_key(key, "ttft.batches", i, "");
        status = check_number(config, key, ttft->batches[i], 1, err);
    }
    if (status == KV_OK && !ttft->n_prompts != !ttft->n_batches)
        status = kv_config_fail(config, err, "ttft", "expected both `prompts` and `batches`, or neither");
    return status;
}

static kv_status check_budgets(const kv_config *config, const kv_eval_config *eval, kv_error *err) {
    kv_status status = KV_OK;
    for (unsigned i = 0; i < eval->n_budgets && status == KV_OK; i++) {
        char key[KV_EVAL_KEY];
        kv_eval_list_key(key, "budgets", i, "");
        status = check_real(config, key, eval->budgets[i], 0, INFINITY, err);
    }
    return status;
}

static kv_status check_analysis(const kv_config *config, const kv_eval_config *eval, kv_error *err) {
    const kv_eval_analysis *a = &eval->analysis;
    if (!kv_config_has(config, "analysis")) return KV_OK;
    if (!a->corpus)
        return kv_config_fail(config, err, "analysis",
                              "expected a `corpus`: a token shard or a directory of them");
    kv_status status = check_number(config, "analysis.sequences", a->sequences, 1, err);
    if (status == KV_OK) status = check_number(config, "analysis.seq_len", a->seq_len, 0, err);
    if (status == KV_OK) status = check_number(config, "analysis.bins", a->bins, 1, err);
    if (status == KV_OK && a->bins > KV_ANALYSIS_MAX_BINS)
        status = kv_config_fail(config, err, "analysis.bins", "found %lld, expected at most %d",
                                (long long)a->bins, KV_ANALYSIS_MAX_BINS);
    return status;
}

// A picture without its figures would be noticed only when all questions have been answered.
static kv_status check_published(const kv_config *config, const kv_eval_picture *picture, kv_error *err) {
    const char *name = picture->published;
    kv_published *table = NULL;
    kv_error inner = {0};
    kv_status status = name ? kv_published_load(name, &table, &inner) : KV_OK;
    if (status == KV_OK && table && picture->draw_published)
        status = kv_published_fits(name, table, !strcmp(picture->y, "retention"), &inner);
    kv_published_free(table);
    return status == KV_OK ? KV_OK : kv_config_fail(config, err, "picture.published", "%s", inner.message);
}

static kv_status check_line(const kv_config *config, const kv_eval_config *eval, kv_error *err) {
    const char *name = eval->picture.line;
    for (unsigned i = 0; name && i < eval->n_systems; i++)
        if (eval->systems[i].name && !strcmp(eval->systems[i].name, name)) return KV_OK;
    return name ? kv_config_fail(config, err, "picture.line", "found `%s`, expected the name of a system",
                                 name)
                : KV_OK;
}

kv_status kv_eval_config_check(const kv_config *config, const kv_eval_config *eval, kv_error *err) {
    if (!eval->output) return kv_config_fail(config, err, "output", "expected the directory for the results");
    if (!eval->n_systems) return kv_config_fail(config, err, "systems", "expected at least one system");
    if (!eval->n_tasks && !eval->ttft.prompt_tokens)
        return kv_config_fail(config, err, "ttft.prompt_tokens",
                              "expected the length of the prompts, since there are no tasks to take it from");
    kv_status status = kv_config_has(config, "batch_size")
                           ? check_number(config, "batch_size", eval->batch_size, 1, err)
                           : KV_OK;
    if (status == KV_OK) status = check_number(config, "bootstrap", eval->bootstrap, 1, err);
    if (status == KV_OK) status = check_number(config, "limit", eval->limit, 0, err);
    if (status == KV_OK) status = check_ttft(config, &eval->ttft, err);
    if (status == KV_OK) status = check_budgets(config, eval, err);
    if (status == KV_OK) status = check_analysis(config, eval, err);
    if (status == KV_OK)
        status = check_word(config, "picture.x", eval->picture.x, "exact", "paper", "clock", err);
    if (status == KV_OK)
        status = check_word(config, "picture.y", eval->picture.y, "accuracy", "retention", NULL, err);
    if (status == KV_OK) status = check_line(config, eval, err);
    if (status == KV_OK) status = check_published(config, &eval->picture, err);
    for (unsigned i = 0; i < eval->n_systems && status == KV_OK; i++)
        status = check_system(config, eval, i, err);
    for (unsigned i = 0; i < eval->n_tasks && status == KV_OK; i++) status = check_task(config, eval, i, err);
    return status;
}

// Only what is sure to be of no use is doubted: whoever gets a warning for what he meant reads no other.
#include "eval/config/doubts.h"

#include "eval/benchmark/kinds.h"

#include <string.h>

// A policy that keeps everything reads the prompt as its model does alone.
static void doubt_system(const kv_config *source, const kv_eval_config *config, unsigned i) {
    const kv_eval_system *s = &config->systems[i];
    char key[KV_EVAL_KEY];
    if (!s->pruning) return;
    const bool lazy = strcmp(s->pruning, "lazy") == 0;
    if (lazy ? s->end < 1 : s->keep < 1) return;
    kv_eval_list_key(key, "systems", i, lazy ? "end" : "keep");
    kv_config_warn(
        source, key,
        "%s pruning that keeps all of the prompt is its model without pruning%s, expected less than 1",
        s->pruning, strcmp(s->pruning, "speculative") == 0 ? ", and the aux's work on top" : "");
}

// Keys of other kinds.
static void doubt_keys(const kv_config *source, const kv_eval_task *t, unsigned i,
                       const kv_benchmark_kind *kind) {
    for (int k = 0; kv_benchmark_key_at(k).name; k++) {
        const kv_benchmark_key of = kv_benchmark_key_at(k);
        char key[KV_EVAL_KEY], names[KV_KIND_NAMES];
        kv_eval_list_key(key, "tasks", i, of.name);
        if ((kind->keys & of.group) || !kv_config_has(source, key)) continue;
        kv_benchmark_kind_names(of.group, names);
        kv_config_warn(source, key, "without effect: kind: %s has no %s (those are of kind: %s)", t->kind,
                       of.what, names);
    }
}

// Keys of a custom task that its metric has no use for.
static void doubt_custom(const kv_config *source, const kv_eval_task *t, unsigned i) {
    static const char *const of_written[] = {"target", "stop", "max_tokens", "ignore_case",
                                             "ignore_punctuation"};
    const bool chooses = !strcmp(t->metric, "choice"), numeric = !strcmp(t->metric, "numeric");
    for (size_t k = 0; k < sizeof of_written / sizeof *of_written; k++) {
        char key[KV_EVAL_KEY];
        kv_eval_list_key(key, "tasks", i, of_written[k]);
        if (!kv_config_has(source, key)) continue;
        if (chooses)
            kv_config_warn(source, key,
                           "without effect: with metric: choice nothing is written, `label` is right");
        else if (numeric && k >= 3)
            kv_config_warn(source, key, "without effect: numbers have neither, found metric: numeric");
    }
}

// What is scored twice weighs twice, and intervals take for independent what is not.
static void doubt_overlap(const kv_config *source, const kv_eval_task *t, unsigned i,
                          const kv_benchmark_kind *kind) {
    char key[KV_EVAL_KEY];
    kv_eval_list_key(key, "tasks", i, "stride");
    if ((kind->keys & KV_KEYS_TEXT) && t->stride < t->window - t->prompt)
        kv_config_warn(
            source, key,
            "found %lld, so that tokens are scored more than once: expected at least the %lld that are "
            "scored of a window",
            (long long)t->stride, (long long)(t->window - t->prompt));
}

static void doubt_task(const kv_config *source, const kv_eval_config *config, unsigned i) {
    const kv_eval_task *t = &config->tasks[i];
    const kv_benchmark_kind kind = kv_benchmark_kind_find(t->kind);
    const bool programs = kind.keys & KV_KEYS_PROGRAMS;
    char key[KV_EVAL_KEY];
    doubt_keys(source, t, i, &kind);
    doubt_overlap(source, t, i, &kind);
    if (kind.keys & KV_KEYS_CUSTOM) doubt_custom(source, t, i);
    kv_eval_list_key(key, "tasks", i, "shots_file");
    if (t->shots == 0 && (kind.keys & KV_KEYS_QUESTIONS) && kv_config_has(source, key))
        kv_config_warn(source, key, "without effect: examples are drawn from it, and `shots` asks for none");
    kv_eval_list_key(key, "tasks", i, "shots_drawn");
    if (t->shots == 0 && (kind.keys & KV_KEYS_QUESTIONS) && kv_config_has(source, key))
        kv_config_warn(source, key,
                       "without effect: it says how examples are drawn, and `shots` asks for none");
    kv_eval_list_key(key, "tasks", i, "system_prompt");
    if (!t->chat && (kind.keys & KV_KEYS_QUESTIONS) && kv_config_has(source, key))
        kv_config_warn(source, key, "without effect: it is said in front of a chat, expected chat: true");
    kv_eval_list_key(key, "tasks", i, "top_p");
    if (programs && t->temperature == 0 && t->top_p < 1 && kv_config_has(source, key))
        kv_config_warn(
            source, key,
            "%g without effect at temperature 0, which takes the most probable token; a temperature "
            "above 0 draws",
            t->top_p);
}

void kv_eval_config_doubts(const kv_config *source, const kv_eval_config *config) {
    enum { LEAST_RESAMPLES = 40 }; // of which 2.5 % are one
    for (unsigned i = 0; i < config->n_systems; i++) doubt_system(source, config, i);
    for (unsigned i = 0; i < config->n_tasks; i++) doubt_task(source, config, i);
    if (config->bootstrap < LEAST_RESAMPLES && config->n_tasks > 0)
        kv_config_warn(
            source, "bootstrap",
            "from %lld resamples no 95 %% interval can be told, expected at least %d; the default is 2000",
            (long long)config->bootstrap, LEAST_RESAMPLES);
    if (config->picture.draw_published && !config->picture.published &&
        kv_config_has(source, "picture.draw_published"))
        kv_config_warn(source, "picture.draw_published",
                       "without effect: picture.published names no figures");
}

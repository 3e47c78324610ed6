// Only what is sure to be of no use is doubted: whoever gets a warning for what he meant reads no other.
#include "eval/config/doubts.h"

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

static void doubt_task(const kv_config *source, const kv_eval_config *config, unsigned i) {
    static const char *const of_programs[] = {"samples", "temperature", "top_p",  "k",
                                              "timeout", "memory_mb",   "workers"};
    const kv_eval_task *t = &config->tasks[i];
    const bool programs = strcmp(t->kind, "humaneval") == 0,
               written = programs || strcmp(t->kind, "triviaqa") == 0;
    char key[KV_EVAL_KEY];
    for (size_t k = 0; !programs && k < sizeof of_programs / sizeof *of_programs; k++) {
        kv_eval_list_key(key, "tasks", i, of_programs[k]);
        if (kv_config_has(source, key))
            kv_config_warn(source, key,
                           "without effect: only kind: humaneval has programs to draw and to run, found %s",
                           t->kind);
    }
    kv_eval_list_key(key, "tasks", i, "max_tokens");
    if (!written && kv_config_has(source, key))
        kv_config_warn(source, key, "without effect: answers of kind: %s are given, none is written",
                       t->kind);
    kv_eval_list_key(key, "tasks", i, "shots_file");
    if (t->shots == 0 && kv_config_has(source, key))
        kv_config_warn(source, key, "without effect: examples are drawn from it, and `shots` asks for none");
    kv_eval_list_key(key, "tasks", i, "system_prompt");
    if (!t->chat && kv_config_has(source, key))
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

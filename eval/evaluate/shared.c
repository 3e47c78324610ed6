// Saved prompts that tasks go on from: found, and checked against systems and items.
#include "eval/evaluate/shared.h"

#include "eval/benchmark/kinds.h"
#include "eval/config/config.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const char placeholder[] = "{system}";

// The file of a system; false: the path is too long.
static bool path_of(const char *pattern, const char *system, char path[PATH_MAX]) {
    const char *at = strstr(pattern, placeholder);
    const int n = at ? snprintf(path, PATH_MAX, "%.*s%s%s", (int)(at - pattern), pattern, system,
                                at + sizeof placeholder - 1)
                     : snprintf(path, PATH_MAX, "%s", pattern);
    return n >= 0 && n < PATH_MAX;
}

static kv_status check_items(const char *path, const kv_benchmark *b, const kv_saved_prompt *prompt,
                             kv_error *err) {
    for (int64_t i = 0; i < b->n_items; i++) {
        const kv_item *item = &b->items[i];
        int64_t same = 0;
        while (same < prompt->n_rows && same < item->lengths[0] && item->ids[same] == prompt->ids[same])
            same++;
        if (same == prompt->n_rows && same < item->lengths[0]) continue;
        return kv_fail(err, KV_ERR_MISMATCH,
                       "%s: its %" PRIi64 " tokens are not what the prompt of %s begins with: found %" PRIi64
                       " the same of %" PRIi64 ", expected all of them, and at least one more",
                       path, prompt->n_rows, item->where, same, item->lengths[0]);
    }
    return KV_OK;
}

static kv_status check(const kv_evaluation *e, int64_t system, int64_t task, const char *path,
                       const kv_saved_prompt *prompt, kv_error *err) {
    const char *name = e->config->systems[system].name;
    kv_saved_maker maker;
    if (e->systems->items[system].pruning.kind != KV_PRUNE_NONE)
        return kv_fail(
            err, KV_ERR_MISMATCH,
            "%s: `%s` prunes what it reads, and reads every prompt as a whole: expected no saved prompt of it",
            path, name);
    kv_systems_maker(e->systems, system, e->tokenizer, &maker);
    kv_status status = kv_saved_prompt_check(path, prompt, &maker, err);
    if (status != KV_OK) return kv_fail_within(err, status, "`%s`", name);
    return check_items(path, e->benchmarks[task], prompt, err);
}

static kv_status open_one(const kv_evaluation *e, int64_t system, int64_t task, kv_saved_prompt **prompt,
                          kv_error *err) {
    const char *pattern = e->config->tasks[task].prompt_cache;
    char path[PATH_MAX];
    *prompt = NULL;
    if (!pattern) return KV_OK;
    if (!path_of(pattern, e->config->systems[system].name, path))
        return kv_fail(err, KV_ERR_ARGUMENT, "%s: the path is too long", pattern);
    if (strstr(pattern, placeholder) && access(path, F_OK) != 0) return KV_OK;
    kv_status status = kv_saved_prompt_read(path, prompt, err);
    if (status == KV_OK) status = check(e, system, task, path, *prompt, err);
    if (status == KV_OK) return KV_OK;
    kv_saved_prompt_free(*prompt);
    *prompt = NULL;
    return status;
}

kv_status kv_shared_prompt_open(const kv_evaluation *e, int64_t system, int64_t task,
                                kv_saved_prompt **prompt, kv_error *err) {
    char key[KV_EVAL_KEY];
    kv_status status = open_one(e, system, task, prompt, err);
    kv_eval_list_key(key, "tasks", (unsigned)task, "prompt_cache");
    return status == KV_OK ? KV_OK : kv_eval_blame(e->source, key, err);
}

// Answers are generated behind one prompt an item.
static bool generates(const kv_benchmark *b) {
    return b->answer_tokens > 0 && b->n_items > 0 && b->items[0].n_seq == 1 && b->items[0].ids;
}

static kv_status check_task(const kv_evaluation *e, int64_t task, kv_error *err) {
    const char *pattern = e->config->tasks[task].prompt_cache;
    char key[KV_EVAL_KEY];
    int64_t n = 0;
    if (!pattern) return KV_OK;
    kv_eval_list_key(key, "tasks", (unsigned)task, "prompt_cache");
    if (!generates(e->benchmarks[task]))
        return kv_config_fail(e->source, err, key, "found %s, expected none: kind: %s generates no answers",
                              pattern, e->config->tasks[task].kind);
    for (unsigned s = 0; s < e->config->n_systems; s++) {
        kv_saved_prompt *prompt;
        kv_status status = kv_shared_prompt_open(e, s, task, &prompt, err);
        if (status != KV_OK) return status;
        n += prompt != NULL;
        kv_saved_prompt_free(prompt);
    }
    if (n > 0) return KV_OK;
    return kv_config_fail(e->source, err, key,
                          "%s is there of no system, expected one of some (kvrun --save-prompt makes it)",
                          pattern);
}

kv_status kv_shared_prompts_check(const kv_evaluation *e, kv_error *err) {
    kv_status status = KV_OK;
    for (unsigned t = 0; t < e->config->n_tasks && status == KV_OK; t++) status = check_task(e, t, err);
    return status;
}
